"""What stands between us and the server: a line that is cut at the worst moment, and a pooler that gives each
transaction another server connection."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

REFUSED: Final = (80877103, 80877104)  # SSLRequest, GSSENCRequest
BUFFER: Final = 1 << 16


def through(url: str, port: int, address: str = "127.0.0.1") -> str:
    """The URL by way of a port of this machine."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{address}:{port}"))


class _Listening:
    """A port whose connections are served by threads."""

    def __init__(self, url: str, address: str = "127.0.0.1") -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 5432)
        self._port = socket.create_server((address, 0))
        self.url = through(url, self._port.getsockname()[1], address)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._port.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(client)
                threading.Thread(target=self._serve_quietly, args=(client,), daemon=True).start()

    def _serve_quietly(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError

    def connect(self) -> socket.socket:
        server = socket.create_connection(self._server)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(server)
        return server

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._port.shutdown(socket.SHUT_RDWR)
        self._port.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class _Back:
    """What the server says, on its way to the client."""

    def __init__(self, server: socket.socket, client: socket.socket) -> None:
        self.server = server
        self.heard = threading.Event()
        self.quiet = False
        self._client = client
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self) -> None:
        with contextlib.suppress(OSError):
            while words := self.server.recv(BUFFER):
                if self.quiet:
                    self.heard.set()
                    return
                self._client.sendall(words)
        self.heard.set()
        _cut(self._client)


class Line(_Listening):
    """Carries everything, until it is told to lose something."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._lost: tuple[bytes, str] | None = None
        self.cuts = 0
        self.held: list[tuple[_Back, bytes]] = []
        self.down = False

    def lose(self, words: bytes, what: str) -> None:
        """The next time that a client says these words, the line is cut: `answer`, after the server has done it;
        `question`, before it hears of it; `late`, so that the server hears of it when `deliver` is called."""
        self._lost = words, what

    def deliver(self) -> None:
        """Let the server hear what was held, and wait until it has answered to nobody."""
        for back, words in self.held:
            back.server.sendall(words)
            assert back.heard.wait(20)
        self.held.clear()

    def _serve(self, client: socket.socket) -> None:
        if self.down:
            return
        back = _Back(self.connect(), client)
        while words := client.recv(BUFFER):
            lost = self._lost
            if lost is None or lost[0] not in words:
                back.server.sendall(words)
                continue
            self._lost = None
            self.cuts += 1
            if lost[1] != "question":
                back.quiet = True
            if lost[1] == "late":
                self.held.append((back, words))
                _cut(client)
                return
            if lost[1] == "answer":
                back.server.sendall(words)
                back.heard.wait(20)
            _cut(client)
            break
        _cut(back.server)

    def cut_all(self) -> None:
        """Cut every connection there is."""
        for each in self._open:
            _cut(each)
        self._open.clear()


class Slow(_Listening):
    """Carries everything, each word a while after it was said."""

    def __init__(self, url: str, address: str, delay_s: float) -> None:
        self._delay_s = delay_s
        super().__init__(url, address)

    def _serve(self, client: socket.socket) -> None:
        with self.connect() as server:
            threading.Thread(target=self._carry, args=(server, client), daemon=True).start()
            self._carry(client, server)

    def _carry(self, whence: socket.socket, whither: socket.socket) -> None:
        """What comes while others are on their way is not held up by them."""
        under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def arrive() -> None:
            with contextlib.suppress(OSError):
                while (due := under_way.get())[1]:
                    time.sleep(max(0.0, due[0] - time.monotonic()))
                    whither.sendall(due[1])
            _cut(whither)

        threading.Thread(target=arrive, daemon=True).start()
        words = b"-"
        with contextlib.suppress(OSError):
            while words:
                words = whence.recv(BUFFER)
                under_way.put((time.monotonic() + self._delay_s, words))
        under_way.put((0.0, b""))


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.shutdown(socket.SHUT_RDWR)
    line.close()


class Counter(_Listening):
    """Carries everything, and counts journeys: how often a client says something when the server has had its say."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.journeys = 0
        self.saying: dict[bytes, int] = {}
        """Of these words, how many journeys said them."""

    def _serve(self, client: socket.socket) -> None:
        server = self.connect()
        asks = True
        while client.fileno() >= 0 and server.fileno() >= 0:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                words = client.recv(BUFFER)
                self.journeys += asks
                for each in self.saying:
                    self.saying[each] += each in words
                asks = False
                server.sendall(words)
            elif server in ready:
                words = server.recv(BUFFER)
                asks = True
                client.sendall(words)
            if not words:
                return


class Pooler(_Listening):
    """A pooler of transactions: few server connections, another one for each transaction, nothing reset between."""

    def __init__(self, url: str, size: int = 3) -> None:
        self._free: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._size = size
        self._greeting = b""
        self._lock = threading.Lock()
        self.swaps = 0
        super().__init__(url)

    def _serve(self, client: socket.socket) -> None:
        startup = self._startup(client)
        if startup is None:
            return
        with self._lock:
            if not self._greeting:
                for _ in range(self._size):
                    server = self.connect()
                    server.sendall(startup)
                    self._greeting = b"".join(_until_ready(server))
                    self._free.put(server)
        client.sendall(self._greeting)
        while (message := _message(client)) is not None:
            if message[:1] == b"X":
                return
            if message[:1] != b"H":  # a flush of nothing
                self._transaction(client, message)

    def _startup(self, client: socket.socket) -> bytes | None:
        while head := _exactly(client, 8):
            length, code = struct.unpack("!ii", head)
            if code not in REFUSED:
                return head + _exactly(client, length - 8)
            client.sendall(b"N")
        return None

    def _transaction(self, client: socket.socket, message: bytes | None) -> None:
        """One server connection, until the server says that no transaction is open."""
        server = self._free.get()  # the one that rested longest: never the last one again
        self.swaps += 1
        asked = 0  # what the server still has to say that it is ready after
        try:
            while message is not None:
                server.sendall(message)
                asked += message[:1] in b"QSF"
                while server in select.select([client, server], [], [])[0]:
                    answer = _message(server)
                    if answer is None:
                        raise OSError("the server left")
                    client.sendall(answer)
                    asked -= answer[:1] == b"Z"
                    if answer[:1] == b"Z" and not asked and answer[5:6] == b"I":
                        return
                message = _message(client)
            raise OSError("the client left in a transaction")
        except OSError:
            with contextlib.suppress(OSError):  # as poolers do: nobody else may find it in there
                server.sendall(b"Q" + struct.pack("!i", 13) + b"ROLLBACK\0")
                list(_until_ready(server))
            raise
        finally:
            self._free.put(server)


def _until_ready(server: socket.socket) -> Iterator[bytes]:
    while (answer := _message(server)) is not None:
        yield answer
        if answer[:1] == b"Z":
            return
    raise OSError("the server left")


def _message(line: socket.socket) -> bytes | None:
    head = _exactly(line, 5)
    if not head:
        return None
    (length,) = struct.unpack("!i", head[1:])
    return head + _exactly(line, length - 4)


def _exactly(line: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        more = line.recv(length - len(found))
        if not more:
            return b""
        found += more
    return found
