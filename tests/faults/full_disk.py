"""A disk that is full and has room again at the test's word, for servers of the test's own: a preloaded library answers
ENOSPC to whatever would grow below a folder."""
import os
import pathlib
import shutil
import subprocess
import tempfile

SOURCE = pathlib.Path(__file__).with_name("full_disk.c")


class FullDisk:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-disk-", dir="/var/tmp"))
        self.folder.chmod(0o755)  # for servers that run as somebody else
        self.flag, library = self.folder / "full", self.folder / "full_disk.so"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
        self.preload = {"LD_PRELOAD": str(library), "FULL_DISK_FLAG": str(self.flag)}

    def env(self, folder):
        """For a server whose files below this folder are on the disk."""
        return {**self.preload, "FULL_DISK_FOLDER": str(pathlib.Path(folder).resolve()) + "/"}

    def fill(self):
        self.flag.touch()

    def free(self):
        self.flag.unlink(missing_ok=True)

    def close(self):
        shutil.rmtree(self.folder)
