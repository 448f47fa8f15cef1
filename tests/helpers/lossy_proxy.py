"""A TCP proxy in front of a Redis server that can swallow a reply: the command was carried out, nobody was told."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class LossyProxy:
    """Listens on loopback; ``url`` is where. One thread per direction of each connection, all gone on exit.

    After :meth:`lose_reply_to` the next command that contains those bytes is passed on; when its reply comes, both
    ends of that connection are closed instead, and ``lost`` is set.
    """

    def __init__(self, server_socket: str) -> None:
        self._server_socket = server_socket
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.lost = threading.Event()
        self._marker: bytes | None = None
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> LossyProxy:
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

    def lose_reply_to(self, marker: bytes) -> None:
        """Swallow the reply to the next command that contains ``marker``."""
        self.lost.clear()
        self._marker = marker

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
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server_socket)
            self._sockets |= {client, server}
            losing = threading.Event()
            self._run(self._pump_commands, client, server, losing)
            self._run(self._pump_replies, client, server, losing)

    def _pump_commands(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        while data := _receive(client):
            with self._lock:
                if self._marker is not None and self._marker in data:
                    self._marker = None
                    losing.set()
            server.sendall(data)
        _shut(server)

    def _pump_replies(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        while data := _receive(server):
            if losing.is_set():
                self.lost.set()
                break
            client.sendall(data)
        _shut(client)
        _shut(server)


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
