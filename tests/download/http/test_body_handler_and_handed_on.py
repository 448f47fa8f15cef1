"""A body goes from the socket straight to its reader, and its connection back to aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from origin import Origin
from origin_content import content

from scrapy_chunkdl.download.errors import Transient
from scrapy_chunkdl.download.http import body

SIZE = 3_000_000


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield session
    await asyncio.sleep(0.05)  # aiohttp 3.10 does not wait until TLS has closed


async def read(
    response: aiohttp.ClientResponse, *, until: int = SIZE, length: int | None = SIZE, stall_timeout: float = 30.0
) -> bytes:
    got = bytearray()

    def take(data: bytes | memoryview) -> bool:
        got.extend(data)
        return len(got) < until

    await body.receive(response, length, take, stall_timeout=stall_timeout)
    return bytes(got)


async def test_a_connection_is_used_again_after_its_body(origin: Origin, session: aiohttp.ClientSession) -> None:
    for _ in range(3):
        response = await session.get(origin.url("a", SIZE))
        assert await read(response) == content("a", SIZE)
        assert response.content.at_eof()

    assert len(origin.stats("a").connections) == 1


async def test_a_body_over_tls_is_read_the_same_way(tls_origin: Origin, session: aiohttp.ClientSession) -> None:
    tls_origin.reset()
    for _ in range(2):
        assert await read(await session.get(tls_origin.url("a", SIZE))) == content("a", SIZE)

    assert len(tls_origin.stats("a").connections) == 1


async def test_a_body_of_unknown_length_is_read_the_usual_way(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE, "framing:chunked"))

    assert await read(response, length=None, until=SIZE + 1) == content("a", SIZE)


async def test_bytes_behind_the_end_of_a_body_are_left_to_aiohttp(session: aiohttp.ClientSession) -> None:
    lent = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await lent.wait()
        writer.write(b"whole and more")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        response = await session.get(f"http://127.0.0.1:{port}/")
        reading = asyncio.ensure_future(read(response, until=100, length=5))
        await asyncio.sleep(0)
        lent.set()

        assert await reading == b"whole"


async def test_reading_ends_where_no_more_is_wanted(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE, "hold:gate:1000000"))

    got = await read(response, until=1_000_000)
    response.close()

    assert got == content("a", SIZE)[: len(got)]
    assert len(got) == 1_000_000


async def test_a_body_cut_short_ends(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE, "cut:2000000"))

    assert await read(response) == content("a", SIZE)[:2_000_000]
    response.close()


async def test_a_connection_that_breaks_is_an_error(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE, "rst:2000000"))

    with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
        await read(response)
    response.close()


async def test_silence_is_a_stall(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE, "stall:2000000"))

    with pytest.raises(Transient) as caught:
        await read(response, stall_timeout=0.1)
    response.close()

    assert caught.value.reason == "stalled"


async def test_aiohttps_own_time_out_does_not_end_a_body_that_moves(
    origin: Origin, session: aiohttp.ClientSession
) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=0.2)
    response = await session.get(origin.url("a", SIZE, "rate:4000000:50000"), timeout=timeout)

    assert await read(response) == content("a", SIZE)
    assert await read(await session.get(origin.url("a", SIZE))) == content("a", SIZE)
    assert len(origin.stats("a").connections) == 1


async def test_what_the_reader_raises_is_raised(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE))

    def take(data: bytes | memoryview) -> bool:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await body.receive(response, SIZE, take, stall_timeout=30)
    response.close()


async def test_a_cancelled_reader_gives_the_connection_back(origin: Origin, session: aiohttp.ClientSession) -> None:
    response = await session.get(origin.url("a", SIZE, "hold:gate:1000000"))
    half = asyncio.Event()
    seen = 0

    def take(data: bytes | memoryview) -> bool:
        nonlocal seen
        seen += len(data)
        if seen == 1_000_000:
            half.set()
        return True

    reading = asyncio.ensure_future(body.receive(response, SIZE, take, stall_timeout=30))
    await half.wait()
    assert response.connection is not None
    transport = response.connection.transport
    assert transport is not None
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert isinstance(transport.get_protocol(), aiohttp.client_proto.ResponseHandler)
    response.close()
