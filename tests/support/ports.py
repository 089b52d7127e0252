"""Ports for servers and daemons that tests stop and start again."""
import fcntl
import os
import pathlib
import random
import socket
import tempfile

# A byte of this file is a port's: who has locked it has the port, though nobody listens there now. Locks end with the process.
_BOOK = pathlib.Path(tempfile.gettempdir()) / f"weir-test-ports-{os.getuid()}"
_FIRST, _END = 12000, 20000
_book = None
_ours = set()


def _reserve(port):
    global _book
    if _book is None:
        _book = os.open(_BOOK, os.O_RDWR | os.O_CREAT, 0o600)
    if port in _ours:
        return False
    try:
        fcntl.lockf(_book, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _ours.add(port)
    return True


def give_back(port):
    """Nobody of this process will listen there again."""
    if port in _ours:
        _ours.discard(port)
        fcntl.lockf(_book, fcntl.LOCK_UN, 1, port)


def free_port():
    """Nobody else's of all who ask here until it is given back; below the range of outgoing connections, so that none of them
    takes it while the server is down."""
    for _ in range(200):
        port = random.randrange(_FIRST, _END)
        if not _reserve(port):
            continue
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
                return port
            except OSError:
                give_back(port)
    raise AssertionError(f"no free port from {_FIRST} to {_END - 1}")
