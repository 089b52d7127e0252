"""A system clock that jumps at the test's word, as one process of weir sees it."""
import mmap
import os
import pathlib
import struct
import subprocess

SOURCE = pathlib.Path(__file__).with_name("jumping_clock.c")


class JumpingClock:
    def __init__(self, folder):
        ahead, library = folder / "ahead", folder / "jumping_clock.so"
        ahead.write_bytes(struct.pack("q", 0))
        with open(ahead, "r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self.env = {"LD_PRELOAD": str(library), "JUMPING_CLOCK": str(ahead)}

    def jump(self, seconds):
        """From now on it is ahead of the true time by so much."""
        struct.pack_into("q", self._ahead, 0, seconds)
