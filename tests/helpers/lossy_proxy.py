"""A relay in front of a Redis server that can swallow a reply: the command was carried out, nobody was told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from relay import Relay, received


class LossyProxy(Relay):
    """Loses a reply when told to.

    After :meth:`lose_reply_to` the next command that contains those bytes is passed on; when its reply comes, both
    ends of that connection are closed instead, and ``lost`` is set.
    """

    def __init__(self, server_socket: str) -> None:
        super().__init__(server_socket)
        self.lost = threading.Event()
        self._marker: bytes | None = None
        self._lock = threading.Lock()
        self._losing: set[socket.socket] = set()

    def lose_reply_to(self, marker: bytes) -> None:
        """Swallow the reply to the next command that contains ``marker``."""
        self.lost.clear()
        self._marker = marker

    def pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := received(client):
                with self._lock:
                    if self._marker is not None and self._marker in data:
                        self._marker = None
                        self._losing.add(client)
                server.sendall(data)
        self.end(server)

    def pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := received(server):
                if client in self._losing:
                    self.lost.set()
                    break
                client.sendall(data)
        self.end(client, server)
