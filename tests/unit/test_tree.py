"""The tree itself: who may include whom, where foreign headers live, what is not called, how long a function may be.

A rule that only stands in a document is soon broken by somebody in a hurry; these fail. Run with /usr/bin/python3 -m pytest."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("common", "common/model", "ingest", "aggregator", "rater", "cli")
FUNCTION_LINES_MAX = 70

# What a folder may include of ours, besides its own files: folders, or single headers.
MAY_INCLUDE = {
    "common": (),
    "common/model": ("common",),
    "ingest": ("common", "common/model", "aggregator/window_store.h"),
    "aggregator": ("common", "common/model"),
    "rater": ("common", "common/model", "aggregator/window_store.h"),
    "cli": FOLDERS,
}

# A foreign library has one home; the rest of the tree goes through what the home offers.
HOME_OF = {
    r"librdkafka/.*|rdkafka\.h": ("ingest",),
    r"simdjson\.h": ("ingest",),
    r"hiredis/.*|hiredis\.h": ("aggregator",),
    r"libpq-fe\.h|postgresql/.*|libpq/.*": ("rater",),
    r"microhttpd\.h": ("common",),
    r"systemd/.*": ("common",),
    r"glib\.h|glib/.*": ("common",),
    r"xxhash\.h": ("common",),
    r"zlib\.h|zstd\.h": ("ingest",),
}

# Each with a safe one beside it: snprintf and memcpy, weir_decimal_parse and strtoll, weir_time_*, settings; weir_kafka_range.
BANNED = ("strcpy", "stpcpy", "strcat", "strncat", "sprintf", "vsprintf", "gets", "atoi", "atol", "atoll", "atof", "strtod",
          "strtof", "strtold", "localtime", "localtime_r", "gmtime", "ctime", "asctime", "mktime", "strtok", "setenv", "putenv",
          "unsetenv", "tmpnam", "system", "popen", "alloca", "rand", "srand", "sleep", "usleep", "json_real", "json_real_value",
          "json_number_value", "get_double", "rd_kafka_query_watermark_offsets")

# No quantity and no money may come near these. Exceptions by file, with the reason; none so far.
FLOATING = ("float", "double", "DBL_MAX", "FLT_MAX")
FLOATING_EXCEPTIONS = {}

# Functions over the limit, by (file, name): to shrink, never to grow. Empty is how it should stay.
LONG_EXCEPTIONS = {}


def sources():
    return [path for folder in FOLDERS for suffix in ("*.c", "*.h", "*.cc") for path in sorted((ROOT / folder).glob(suffix))]


def name(path):
    return str(path.relative_to(ROOT))


STRING_OR_COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def code_of(path):
    """The text without comments and without what stands in quotes; line numbers are kept."""
    def blank(match):
        text = match[0]
        return ("" if text[0] == "/" else text[0] * 2) + "\n" * text.count("\n")
    return STRING_OR_COMMENT.sub(blank, path.read_text())


def includes_of(path):
    return [(bracket, target) for bracket, target in
            re.findall(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', path.read_text(), re.MULTILINE)]


def where(path, code, match):
    return f"{name(path)}:{code.count(chr(10), 0, match.start()) + 1}"


def test_there_is_something_to_look_at():
    assert len(sources()) > 50
    assert all(any(path.parent == ROOT / folder for path in sources()) for folder in FOLDERS)


def wrong_includes(folder, path):
    for bracket, target in includes_of(path):
        if bracket == "<":
            continue
        home = str(pathlib.PurePosixPath(target).parent)
        allowed = MAY_INCLUDE[folder]
        if home != folder and home not in allowed and target not in allowed:
            yield f"{name(path)} includes {target}"
        if not (ROOT / target).exists():
            yield f"{name(path)} includes {target}, which is not a path from the top of the tree"


@pytest.mark.parametrize("folder", FOLDERS)
def test_includes_point_down(folder):
    wrong = [line for path in sources() if path.parent == ROOT / folder for line in wrong_includes(folder, path)]
    assert not wrong, "\n".join(wrong)


def test_foreign_headers_have_one_home():
    wrong = []
    for path in sources():
        for bracket, target in includes_of(path):
            for pattern, homes in HOME_OF.items():
                if re.fullmatch(pattern, target) and name(path.parent) not in homes:
                    wrong.append(f"{name(path)} includes <{target}>, whose home is {' or '.join(homes)}")
    assert not wrong, "\n".join(wrong)


def test_simdjson_stays_in_cpp_and_cpp_stays_small():
    cpp = [path for path in sources() if path.suffix == ".cc"]
    assert all(path.parent == ROOT / "ingest" for path in cpp), cpp
    assert all(path.suffix == ".cc" for path in sources() if "simdjson.h" in [target for _, target in includes_of(path)])
    assert sum(len(path.read_text().splitlines()) for path in cpp) < 300


def test_headers_are_guarded_by_their_path():
    for path in sources():
        if path.suffix == ".h":
            guard = "WEIR_" + re.sub(r"[/.]", "_", name(path)).upper()
            assert re.search(rf"^#ifndef {guard}\n#define {guard}$", path.read_text(), re.MULTILINE), f"{name(path)}: {guard}"


def test_nothing_banned_is_called():
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    wrong = []
    for path in sources():
        code = code_of(path)
        wrong += [f"{where(path, code, match)}: {match[1]}" for match in pattern.finditer(code)]
    assert not wrong, "\n".join(wrong)


def test_no_floating_point():
    pattern = re.compile(r"\b(" + "|".join(FLOATING) + r")\b")
    wrong = []
    for path in sources():
        code = code_of(path)
        wrong += [f"{where(path, code, match)}: {match[1]}" for match in pattern.finditer(code)
                  if name(path) not in FLOATING_EXCEPTIONS]
    assert not wrong, "\n".join(wrong)


def functions_of(code):
    """(name, first line, lines) of each function body: our format puts its braces in the first column."""
    lines, start = code.splitlines(), 0
    for number, line in enumerate(lines):
        if line == "{":
            start = number
            while start > 0 and lines[start - 1].strip() and not re.match(r"[#};]|.*[;}]$", lines[start - 1]):
                start -= 1
            head = " ".join(lines[start:number])
        if line.startswith("}") and start:
            found = re.search(r"(\w+)\s*\(", head)
            yield (found[1] if found else "?"), start + 1, number - start + 1
            start = 0


def test_functions_fit_a_screen():
    found, wrong = 0, []
    for path in sources():
        for function, line, length in functions_of(code_of(path)):
            found += 1
            if length > LONG_EXCEPTIONS.get((name(path), function), FUNCTION_LINES_MAX):
                wrong.append(f"{name(path)}:{line}: {function} has {length} lines")
    assert found > 300, "the functions are not found any more"
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_to_do():
    wrong = [f"{name(path)}: {match[0]}" for path in sources()
             for match in re.finditer(r"\b(TODO|FIXME|HACK)\b", path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_the_rules_can_fail(tmp_path):
    """The checks above, on a file that breaks them."""
    path = tmp_path / "bad.c"
    path.write_text('#include "rater/price.h"\n/* double in a comment */ const char *s = "float strcpy(";\n'
                    "static int long_one(void)\n{\n" + "    ;\n" * 80 + "}\ndouble d;\nvoid f(void)\n{\n    strcpy(a, b);\n}\n")
    code = code_of(path)
    assert [match[1] for match in re.finditer(r"\b(float|double)\b", code)] == ["double"]
    assert len(re.findall(r"(?<![\w.>])strcpy\s*\(", code)) == 1
    assert [(found, length) for found, _, length in functions_of(code)] == [("long_one", 83), ("f", 4)]
    assert includes_of(path) == [('"', "rater/price.h")]
