"""Ports for servers and daemons that tests stop and start again."""
import random
import socket


def free_port():
    """Below the range of outgoing connections, so that none of them takes it while the server is down."""
    for _ in range(200):
        port = random.randrange(12000, 20000)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port between 12000 and 20000")
