"""A SOCKS5 server for the tests (RFC 1928, 1929): connects where it is asked to, or refuses with a reply code.

Runs in a thread and a loop of its own. It counts what it was asked for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from types import TracebackType

from patience import HANG


class SocksServer:
    """Listens on a port of 127.0.0.1. ``login`` is (user, password) where one is wanted; ``refuse`` a reply code.

    ``names`` maps names to addresses that only this proxy knows; ``asked`` has the targets, as they were asked for,
    ``begun`` the first bytes sent to each. ``breaks`` is where each connection breaks, and how: ("greeting", "login",
    "reply", "body"), and bytes that are sent instead, None for nothing any more. ``ended`` counts those that the other
    side has closed since.
    """

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.login = login
        self.refuse = 0
        self.breaks: tuple[str, bytes | None] = ("", b"")
        self.ended = 0
        self.connections = 0
        self.names: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.begun: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SocksServer:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(HANG)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(HANG)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG)
        self._loop.close()

    def url(self, scheme: str = "socks5h", login: str = "") -> str:
        """Return it as a proxy's URL."""
        return f"{scheme}://{f'{login}@' if login else ''}127.0.0.1:{self.port}"

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # what they aborted is closed in the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await self._greet(reader, writer) and (target := await self._target(reader, writer)) is not None:
                await self._pass_on(reader, writer, target)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _broken(self, where: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Break a connection if this is where it is to; say whether it was."""
        at, sent = self.breaks
        if at != where:
            return False
        if sent is None:
            while await reader.read(1 << 16):
                pass
            self.ended += 1
        else:
            writer.write(sent)
            await writer.drain()
            if sent:
                writer.write_eof()
        return True

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        _, count = await reader.readexactly(2)
        self.connections += 1
        methods = await reader.readexactly(count)
        if await self._broken("greeting", reader, writer):
            return False
        wanted = 2 if self.login else 0
        if wanted not in methods:
            writer.write(b"\x05\xff")
            await writer.drain()
            return False
        writer.write(bytes([5, wanted]))
        if not self.login:
            return True
        await reader.readexactly(1)
        if await self._broken("login", reader, writer):
            return False
        given = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
        writer.write(b"\x01\x00" if tuple(given) == self.login else b"\x01\x01")
        await writer.drain()
        return tuple(given) == self.login

    async def _target(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.readexactly(size))
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.asked.append((host, port))
        if await self._broken("reply", reader, writer):
            return None
        if self.refuse:
            writer.write(bytes([5, self.refuse, 0, 1, 0, 0, 0, 0, 0, 0]))
            await writer.drain()
            return None
        return self.names.get(host, host), port

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]
    ) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*target)
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        self.begun.append(first := await reader.read(1 << 16))
        inner_writer.write(first)
        if self.breaks[0] == "body":
            writer.write(await inner_reader.read(100_000))
            await writer.drain()
            inner_writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
