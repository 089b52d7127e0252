"""SIGTERM ends a run as Ctrl-C does: what it started is taken down, once and whole."""
import contextlib
import os
import signal


def end_on_sigterm(error=KeyboardInterrupt):
    """From now on the first SIGTERM raises `error` where this process stands. Whoever sent it may send it to all of the
    group and then to each, so that later ones only disturb those who clean up: they are not heard."""
    def end(*_):
        signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which programs that are started from here would inherit
        raise error

    signal.signal(signal.SIGTERM, end)


@contextlib.contextmanager
def undisturbed():
    """A SIGTERM that comes meanwhile counts at the end of this: for cleaning up. In the main thread only."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            os.kill(os.getpid(), signal.SIGTERM)
