"""A server that is far away: each answer begins after a while, and is plain. A program; prints its base URL.

``/any.bin`` has ``--size`` bytes, ``/<bytes>/any.bin`` as many as it says: those of :func:`content`. HEAD and ranges
are known. The tests' origin takes 10 ms of CPU for an answer, which would be what is measured. This one takes 0.1 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from random import Random

_PIECE = 1 << 20
_PERIOD = 65_521
"""A prime: no two chunks begin alike. What begins as its file does is asked for once more, to be compared."""

_PATTERN = memoryview(Random(1).randbytes(_PERIOD) * (_PIECE // _PERIOD + 2))
_PATH = re.compile(rb"[A-Z]+ /(?:([0-9]+)/)?")
_RANGE = re.compile(rb"\r\nrange: bytes=([0-9]+)-([0-9]*)", re.IGNORECASE)


def content(start: int, stop: int) -> memoryview:
    """Return bytes of any file, a mebibyte at most."""
    return _PATTERN[start % _PERIOD :][: min(stop - start, _PIECE)]


class Distant(asyncio.Protocol):
    """Answers each request of a connection after ``delay_s``, as fast as the client reads."""

    def __init__(self, size: int, delay_s: float) -> None:
        self._size = size
        self._delay_s = delay_s
        self._early = b""
        self._next = self._stop = 0
        self._may_write = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._early += data
        while (end := self._early.find(b"\r\n\r\n")) >= 0:
            request, self._early = self._early[: end + 2], self._early[end + 4 :]
            asyncio.get_running_loop().call_later(self._delay_s, self._answer, request)

    def _answer(self, request: bytes) -> None:
        if self._transport.is_closing():
            return
        path, ranged = _PATH.match(request), _RANGE.search(request)
        size = int(path[1]) if path is not None and path[1] else self._size
        start, stop, status, more = 0, size, "200 OK", ""
        if ranged is not None and int(ranged[1]) < size:
            start, stop = int(ranged[1]), min(size, int(ranged[2] or size) + 1)
            status, more = "206 Partial Content", f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
            f'ETag: "1"\r\n{more}Content-Length: {stop - start}\r\n\r\n'
        ).encode()
        if request.startswith(b"HEAD"):
            self._transport.write(head)
            return
        self._next, self._stop = start, stop
        first = content(start, stop)
        self._next += len(first)
        self._transport.write(head + first)
        self._go_on()

    def _go_on(self) -> None:
        while self._may_write and self._next < self._stop and not self._transport.is_closing():
            piece = content(self._next, self._stop)
            self._next += len(piece)
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._go_on()


async def serve(size: int, delay_s: float) -> None:
    """Run until the program is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Distant(size, delay_s), "0.0.0.0", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=65536)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds to the first byte")
    options = parser.parse_args()
    asyncio.run(serve(options.size, options.delay))
