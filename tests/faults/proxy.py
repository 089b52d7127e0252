"""A TCP proxy on loopback between weir and a server: it can lead elsewhere, cut connections, and swallow answers."""
import socket
import threading


class Proxy:
    """Listens on a free port and leads to `target` (a port) until told otherwise."""

    def __init__(self, target):
        self.target = target
        self.refuses = False
        self.cut_after = None     # bytes from client to server, then the connection is cut
        self.swallow_after = None  # bytes that a client sends, from which on it gets no answer
        self.swallowed = threading.Event()
        self.was_cut = threading.Event()
        self.lock = threading.Lock()
        self.pairs = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = (client, server)
            silent = threading.Event()
            with self.lock:
                self.pairs.add(pair)
            for source, sink, is_request in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._copy, args=(pair, source, sink, is_request, silent), daemon=True).start()

    def _copy(self, pair, source, sink, is_request, silent):
        try:
            while data := source.recv(65536):
                if is_request and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        sink.sendall(data[:self.cut_after])
                        self.cut_after = None
                        self.was_cut.set()
                        break
                if is_request and self.swallow_after and self.swallow_after in data:
                    self.swallow_after = None
                    silent.set()
                if not is_request and silent.is_set():
                    self.swallowed.set()  # the server has done it, and nobody hears of it
                    break
                sink.sendall(data)
        except OSError:
            pass
        self._end(pair)

    def _end(self, pair):
        with self.lock:
            self.pairs.discard(pair)
        for end in pair:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def cut(self):
        """Every connection there is."""
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self._end(pair)

    def close(self):
        self.refuses = True
        self.listener.close()
        self.cut()
