"""A TCP relay in front of Redis, or another server: what HAProxy, a service of Kubernetes or a bad line does there.

What else may happen to requests and answers on the way is a subclass: see lossy_proxy.py, and those in the tests.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

REFUSAL = b"-ERR max request size exceeded. Limit: %d bytes, Actual: %d bytes. See https://example.org/limits\r\n"
"""In the words of Upstash."""


class Relay:
    """Listens on loopback; ``url`` is where. ``target`` is the port, or the unix socket, that *new* connections go to.

    A request of more than ``largest_bytes``, if that is set, is answered with a refusal instead of being passed on.
    One thread per direction of each connection, all gone on exit.
    """

    def __init__(self, target: int | str, largest_bytes: int = 0) -> None:
        self.target = target
        self._largest_bytes = largest_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for end in list(self._sockets):
            _shut(end)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        for end in self._sockets:
            end.close()

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = _connected(self.target)
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            self._run(self.pass_requests, client, server)
            self._run(self.pass_answers, server, client)

    def pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what a client sends, until it ends."""
        (self._pump_requests if self._largest_bytes else self._pump)(client, server)

    def pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        """Pass on what the server sends, until it ends."""
        self._pump(server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := received(source):
                sink.sendall(data)
        self.end(sink, source)

    def end(self, *ends: socket.socket) -> None:
        """End connections, whoever may have done so before."""
        for end in ends:
            _shut(end)

    def _pump_requests(self, client: socket.socket, server: socket.socket) -> None:
        try:
            with client.makefile("rb") as requests:
                while request := _read_request(requests):
                    if len(request) <= self._largest_bytes:
                        server.sendall(request)
                    else:
                        client.sendall(REFUSAL % (self._largest_bytes, len(request)))
        except OSError:
            pass
        _shut(server)


def received(end: socket.socket) -> bytes:
    """Return what comes next, nothing when the connection has ended."""
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _connected(target: int | str) -> socket.socket:
    if isinstance(target, int):
        return socket.create_connection(("127.0.0.1", target))
    end = socket.socket(socket.AF_UNIX)
    end.connect(target)
    return end


def _read_request(stream: object) -> bytes:
    """Return the next command as it came: an array of bulk strings (RESP)."""
    head: bytes = stream.readline()  # type: ignore[attr-defined]
    parts = [head]
    for _ in range(int(head[1:]) if head else 0):
        length: bytes = stream.readline()  # type: ignore[attr-defined]
        parts += [length, stream.read(int(length[1:]) + 2)]  # type: ignore[attr-defined]
    return b"".join(parts)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
