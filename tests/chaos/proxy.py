"""A TCP proxy that breaks: it stands between weir and a server, on loopback, and does by command what networks do.

A Link is one listening port in front of one server. Its commands may come from any thread:
  cut()                     every connection is reset
  set(refuse=True)          new connections are reset at once, those that stand are cut
  set(delay=0.2)            each piece of bytes waits so long, both ways
  set(rate=20000)           so many bytes a second, both ways
  set(lose="up"|"down")     bytes of clients (servers) are read and thrown away: half-open, nobody is told
  arm(word, how, seconds)   a trap for the next piece of a client's bytes that holds `word`; once:
      lose_request          it is thrown away and the connection reset
      lose_answer           it is passed on; nothing comes back, and after `seconds` the connection is reset
      late_request          the client is reset at once; `seconds` later the server gets it all the same
      tell                  it is passed on, and `then` is called in the proxy's thread
  heal()                    all of this ends; connections that lost bytes are reset
"""
import asyncio
import threading

PIECE = 65536
_CALM = {"refuse": False, "delay": 0.0, "rate": 0, "lose": None}


class Proxy:
    """The thread that moves the bytes of all links."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.links = []
        self.thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.thread.start()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def link(self, name, target, port=0):
        """A new Link to target, (host, port); port 0: any free one."""
        link = Link(self, name, target)
        asyncio.run_coroutine_threadsafe(link.listen(port), self.loop).result(10)
        self.links.append(link)
        return link

    def close(self):
        for link in self.links:
            link.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class _Connection:
    def __init__(self, client, server):
        self.client = client  # writers
        self.server = server
        self.has_lost = False
        self.lose_answers = False
        self.is_late = False

    def reset(self):
        for writer in (self.client, self.server):
            writer.transport.abort()


class Link:
    def __init__(self, proxy, name, target):
        self.proxy = proxy
        self.name = name
        self.target = target
        self.port = 0
        self.state = dict(_CALM)
        self.traps = []
        self.sprung = 0
        self.connections = set()
        self.server = None

    # ---- commands, from any thread

    def _call(self, function, *arguments):
        self.proxy.loop.call_soon_threadsafe(function, *arguments)

    def cut(self):
        self._call(self._cut)

    def set(self, **state):
        assert set(state) <= set(_CALM), state
        self._call(self._set, state)

    def arm(self, word, how, seconds=1.0, then=None):
        assert how in ("lose_request", "lose_answer", "late_request", "tell"), how
        self._call(self.traps.append, (word, how, seconds, then))

    def heal(self):
        self._call(self._heal)

    def lead_to(self, target):
        """Another server from now on, for new connections; those that stand are cut."""
        self.target = target
        self.cut()

    def close(self):
        done = threading.Event()

        def shut():
            if self.server:
                self.server.close()
            self._cut()
            done.set()
        self._call(shut)
        done.wait(10)

    # ---- in the loop

    def _cut(self):
        for connection in list(self.connections):
            connection.reset()

    def _set(self, state):
        self.state.update(state)
        if state.get("refuse"):
            self._cut()

    def _heal(self):
        self.state = dict(_CALM)
        self.traps.clear()
        for connection in list(self.connections):
            if connection.has_lost:
                connection.reset()

    async def listen(self, port):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        if self.state["refuse"]:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, to_server)
        self.connections.add(connection)
        try:
            up = asyncio.ensure_future(self._up(connection, reader))
            down = asyncio.ensure_future(self._down(connection, from_server))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if connection.is_late:  # the client is gone; what it sent is still under way
                await up
            for task in (up, down):
                task.cancel()
        finally:
            self.connections.discard(connection)
            connection.reset()

    async def _slow(self, piece):
        began = self.proxy.loop.time()
        while self.proxy.loop.time() - began < self.state["delay"] + (len(piece) / self.state["rate"] if self.state["rate"] else 0):
            await asyncio.sleep(0.01)  # healed in the middle: it goes on at once

    async def _up(self, connection, reader):
        try:
            while piece := await reader.read(PIECE):
                await self._slow(piece)
                if self.state["lose"] == "up":
                    connection.has_lost = True
                    continue
                trap = next((trap for trap in self.traps if trap[0] in piece), None)
                if trap:
                    self.traps.remove(trap)
                    self.sprung += 1
                    await self._spring(connection, piece, *trap[1:])
                    if connection.is_late:
                        return
                    continue
                connection.server.write(piece)
                await connection.server.drain()
        except OSError:
            pass

    async def _spring(self, connection, piece, how, seconds, then):
        if how == "tell":
            connection.server.write(piece)
            then()
        elif how == "lose_request":
            connection.reset()
        elif how == "lose_answer":
            connection.has_lost = connection.lose_answers = True
            connection.server.write(piece)
            self.proxy.loop.call_later(seconds, connection.reset)
        else:
            connection.is_late = True
            connection.client.transport.abort()
            await asyncio.sleep(seconds)
            connection.server.write(piece)
            await connection.server.drain()
            await asyncio.sleep(0.2)

    async def _down(self, connection, reader):
        try:
            while piece := await reader.read(PIECE):
                await self._slow(piece)
                if connection.lose_answers or self.state["lose"] == "down":
                    connection.has_lost = True
                    continue
                connection.client.write(piece)
                await connection.client.drain()
        except OSError:
            pass
