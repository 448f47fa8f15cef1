"""A TCP relay in front of a server, of any protocol: counts what passes, holds it back or cuts it off at a given byte.

All connections are served by one loop in one thread; the test's own thread waits for events.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

PIECE = 16_384


class Relay:
    """Listens on loopback for a server on ``port``. ``port`` of this is where to connect instead.

    ``sent`` counts the bytes that went to clients. Once :meth:`hold_after` so many nothing more passes and ``held`` is
    set; once :meth:`cut_after` so many something is done and every connection is reset, once.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        self.held = threading.Event()
        self._hold_at = self._cut_at = float("inf")
        self._do: Callable[[], object] = lambda: None
        self._free = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._serves = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Relay:
        self._thread.start()
        self._serves.wait()  # else its loop could be stopped before it listens
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def hold_after(self, size: int) -> None:
        """Let nothing more pass once ``size`` bytes did."""
        self.held.clear()
        self._loop.call_soon_threadsafe(self._free.clear)
        self.sent, self._hold_at = 0, size

    def cut_after(self, size: int, do: Callable[[], object]) -> None:
        """Once ``size`` bytes have passed, call ``do``, in the relay's thread, and reset all connections."""
        self.sent, self._do, self._cut_at = 0, do, size

    def let_pass(self) -> None:
        """Reset the connections there are, and pass everything from now on."""
        self._hold_at = self._cut_at = float("inf")
        self._loop.call_soon_threadsafe(self._cut)
        self._loop.call_soon_threadsafe(self._free.set)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, sock=self._listener))
        self._free.set()
        self._loop.call_soon(self._serves.set)
        self._loop.run_forever()
        server.close()
        self._cut()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            from_server, server = await asyncio.open_connection("127.0.0.1", self._server_port)
            ends = {client, server}
            self._writers |= ends
            try:
                await asyncio.gather(self._pass(reader, server), self._pass_back(from_server, client))
            finally:
                self._writers -= ends
                for end in ends:
                    end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof() if writer.can_write_eof() else writer.close()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            if self.sent >= self._cut_at:
                self._cut_at = float("inf")
                self._do()
                self._cut()
                return
            if self.sent >= self._hold_at:
                self.held.set()
                await self._free.wait()
            self.sent += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    def _cut(self) -> None:
        for writer in list(self._writers):
            raw: socket.socket | None = writer.get_extra_info("socket")
            with suppress(OSError):
                if raw is not None:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
