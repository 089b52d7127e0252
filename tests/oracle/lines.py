"""Asking a program of tests/oracle many questions at once. The programs are in $WEIR_ORACLES (default build/asan/tests)."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / os.environ.get("WEIR_ORACLES", "build/asan/tests")


def ask(program, questions):
    """One answer for each question, in order."""
    path = FOLDER / program
    assert path.exists(), f"{path} is missing: build it (cmake --build build/asan --target {program}) or set WEIR_ORACLES"
    done = subprocess.run([path], input="\n".join(questions) + "\n", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr[-2000:]}"
    answers = done.stdout.splitlines()
    assert len(answers) == len(questions)
    return answers


def compare(program, cases):
    """cases: (question, the set of right answers). Every answer must be a right one."""
    wrong = [f"{question}: {answer}, not {' or '.join(sorted(right))}"
             for (question, right), answer in zip(cases, ask(program, [question for question, _ in cases]))
             if answer not in right]
    assert not wrong, f"{len(wrong)} of {len(cases)} answers are wrong:\n" + "\n".join(wrong[:20])
