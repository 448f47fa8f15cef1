"""A server that is far away: each answer begins after a while, and is small and plain. A program; prints its base URL.

The tests' origin takes 10 ms of CPU for an answer, which would be what is measured. This one takes 0.1 ms.
"""

from __future__ import annotations

import argparse
import asyncio


class Distant(asyncio.Protocol):
    """Answers every GET with the same body after ``delay_s``, and every HEAD with its head."""

    def __init__(self, body: bytes, delay_s: float) -> None:
        self._head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
            f'ETag: "1"\r\nContent-Length: {len(body)}\r\n\r\n'
        ).encode()
        self._body = body
        self._delay_s = delay_s
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._early += data
        while (end := self._early.find(b"\r\n\r\n")) >= 0:
            answer = self._head if self._early.startswith(b"HEAD") else self._head + self._body
            self._early = self._early[end + 4 :]
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, answer)


async def serve(size: int, delay_s: float) -> None:
    """Run until the program is ended."""
    body = bytes(range(256)) * (size // 256)
    server = await asyncio.get_running_loop().create_server(lambda: Distant(body, delay_s), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=65536)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds to the first byte")
    options = parser.parse_args()
    asyncio.run(serve(options.size, options.delay))
