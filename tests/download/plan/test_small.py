"""The way of a small file: taken where all is plain, and left, with the answer that has come, where anything is odd.

Each test makes the host known for small files by the first of two; what counts is the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import CHUNK, QUICK, names_in, sha256_of
from lacking import needs_locks
from origin import Origin
from origin_content import expected_sha256

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, Limits, Options, Progress
from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.http.plain_answer import Odd, read_head

SIZE = CHUNK // 2
HASTY = replace(QUICK, probe="auto")
AUTO = replace(HASTY, stall_timeout=30.0)


@asynccontextmanager
async def known_host(origin: Origin, folder: Path, options: Options = AUTO) -> AsyncIterator[Downloader]:
    """Yield a downloader that has got a small file from the origin."""
    async with Downloader(options, Limits(options)) as downloader:
        await downloader.fetch(FileRequest(origin.url("first.bin", 1000), folder / "first"))
        yield downloader


def asked(origin: Origin, key: str = "file.bin") -> dict[str, int]:
    return dict(origin.stats(key).methods)


@needs_locks
async def test_the_first_file_of_a_host_is_asked_for_by_head_and_the_next_by_one_get(
    origin: Origin, tmp_path: Path
) -> None:
    async with known_host(origin, tmp_path) as downloader:
        result = await downloader.fetch(FileRequest(origin.url("file.bin", SIZE), tmp_path / "out"))

    assert asked(origin, "first.bin") == {"HEAD": 1, "GET": 1}
    assert asked(origin) == {"GET": 1}
    assert result.requests == 1
    assert result.fetched == result.size == SIZE
    assert sha256_of(result.path) == expected_sha256("file.bin", SIZE)
    assert names_in(result.path.parent) == [result.path.name]


@needs_locks
async def test_many_files_share_connections(origin: Origin, tmp_path: Path) -> None:
    async with known_host(origin, tmp_path) as downloader:
        results = await asyncio.gather(
            *(downloader.fetch(FileRequest(origin.url(f"{n}.bin", SIZE), tmp_path, f"{n}.bin")) for n in range(40))
        )

    assert [result.requests for result in results] == [1] * 40
    for n, result in enumerate(results):
        assert sha256_of(result.path) == expected_sha256(f"{n}.bin", SIZE)


FAULTS = [
    "framing:chunked",
    "framing:close",
    "framing:http10",
    "encode:gzip",
    "encode:deflate",
    "status:429:0@1",
    "status:503@1",
    "status:500@1-2",
    "status:404@1;status:404@2",
    "hang@1",
    "stall:0.3@1",
    "cut:0.5@1",
    "rst:0.3@1",
    "reset@1",
    "close@1",
    "garbage@1",
    "bighead:100000@1",
    "extra:10@1",
    "ranges:none",
    "etag:none;date:none",
    "digest:md5",
    "digest:repr",
]


@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("size", [0, 1, SIZE, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_whatever_is_odd_comes_right_or_is_told_as_ever(
    origin: Origin, tmp_path: Path, faults: str, size: int
) -> None:
    reason = None
    async with known_host(origin, tmp_path, HASTY) as downloader:
        request = FileRequest(origin.url("file.bin", size, faults), tmp_path / "out", "file.bin")
        try:
            await downloader.fetch(request)
        except DownloadError as error:
            reason = error.reason

    path = tmp_path / "out" / "file.bin"
    if path.exists():
        assert sha256_of(path) == expected_sha256("file.bin", size)
        assert names_in(path.parent) == ["file.bin"]
    else:
        assert reason in ("http_404", "bad_response", "short_body", "stalled")


@pytest.mark.parametrize("faults", ["framing:chunked", "framing:close", "encode:gzip"])
async def test_an_answer_that_is_odd_is_read_to_its_end_and_not_asked_for_again(
    origin: Origin, tmp_path: Path, faults: str
) -> None:
    async with known_host(origin, tmp_path) as downloader:
        result = await downloader.fetch(FileRequest(origin.url("file.bin", SIZE, faults), tmp_path / "out", "a"))

    assert asked(origin) == {"GET": 1}
    assert result.requests == 1
    assert sha256_of(result.path) == expected_sha256("file.bin", SIZE)


async def test_a_link_that_is_good_for_one_request_gives_its_file(origin: Origin, tmp_path: Path) -> None:
    async with known_host(origin, tmp_path) as downloader:
        url = origin.signed("once", origin.url("file.bin", SIZE, "framing:chunked"), uses=1)
        result = await downloader.fetch(FileRequest(url, tmp_path / "out", "a"))

    assert sha256_of(result.path) == expected_sha256("file.bin", SIZE)


async def test_a_redirect_is_followed_from_its_own_answer(origin: Origin, tmp_path: Path) -> None:
    async with known_host(origin, tmp_path) as downloader:
        url = origin.redirect("r", origin.url("file.bin", SIZE), hops=2)
        result = await downloader.fetch(FileRequest(url, tmp_path / "out", "a"))

    assert result.requests == 3
    assert sha256_of(result.path) == expected_sha256("file.bin", SIZE)


async def test_a_large_file_at_a_host_of_small_ones_comes_by_ranges(origin: Origin, tmp_path: Path) -> None:
    size = 6 * CHUNK
    async with known_host(origin, tmp_path) as downloader:
        result = await downloader.fetch(FileRequest(origin.url("file.bin", size), tmp_path / "out", "a"))

    assert "HEAD" not in asked(origin)
    assert sha256_of(result.path) == expected_sha256("file.bin", size)


@pytest.mark.parametrize(
    ("s_per_mib", "chunks", "options", "comes_in_one"),
    [
        (0.001, 3, AUTO, True),
        (0.001, 4, AUTO, False),  # as long as the most that is taken: it may be a part only
        (0.001, 6, AUTO, False),
        (60.0, 3, AUTO, False),  # where a second connection helps
        (0.001, 3, replace(AUTO, checksum="sha256"), False),  # which would hold up the loop
        (0.001, 3, replace(AUTO, chunk_size=4 * CHUNK, max_file_size=3 * CHUNK), True),
        (0.001, 2, replace(AUTO, max_file_size=2 * CHUNK), False),
    ],
)
async def test_a_file_of_some_chunks_comes_by_one_get_where_that_takes_a_moment(
    origin: Origin, tmp_path: Path, s_per_mib: float, chunks: int, options: Options, comes_in_one: bool
) -> None:
    size, limits = chunks * CHUNK - 1, Limits(options)
    size += chunks in (2, 4)
    async with Downloader(options, limits) as downloader:
        await downloader.fetch(FileRequest(origin.url("first.bin", 1000), tmp_path / "first"))
        limits.habits.came(origin.base.partition("://")[2], 1 << 20, s_per_mib)
        result = await downloader.fetch(FileRequest(origin.url("file.bin", size), tmp_path / "out", "a"))

    assert sha256_of(result.path) == expected_sha256("file.bin", size)
    assert names_in(result.path.parent) == ["a"]
    assert (result.one_stream == "small" and asked(origin) == {"GET": 1} and result.requests == 1) == comes_in_one


async def test_an_unchanged_file_costs_no_body(origin: Origin, tmp_path: Path) -> None:
    request = FileRequest(origin.url("file.bin", SIZE), tmp_path / "out", "a")
    async with known_host(origin, tmp_path) as downloader:
        await downloader.fetch(request)
        again = await downloader.fetch(request)

    assert (again.status, again.fetched, again.requests) == ("uptodate", 0, 1)


async def test_the_file_of_another_url_is_not_overwritten(origin: Origin, tmp_path: Path) -> None:
    async with known_host(origin, tmp_path) as downloader:
        one = await downloader.fetch(FileRequest(origin.url("one.bin", SIZE), tmp_path / "out", "a.bin"))
        other = await downloader.fetch(FileRequest(origin.url("other.bin", SIZE), tmp_path / "out", "a.bin"))

    assert one.path != other.path
    assert sha256_of(one.path) == expected_sha256("one.bin", SIZE)
    assert sha256_of(other.path) == expected_sha256("other.bin", SIZE)


async def test_two_at_once_for_one_name_both_keep_their_bytes(origin: Origin, tmp_path: Path) -> None:
    async with known_host(origin, tmp_path) as downloader:
        results = await asyncio.gather(
            *(downloader.fetch(FileRequest(origin.url(f"{n}.bin", SIZE), tmp_path / "out", "a.bin")) for n in range(3))
        )

    assert len({result.path for result in results}) == 3
    for n, result in enumerate(results):
        assert sha256_of(result.path) == expected_sha256(f"{n}.bin", SIZE)


@needs_locks
async def test_a_wrong_checksum_is_told_and_a_right_one_is_checked(origin: Origin, tmp_path: Path) -> None:
    right = f"sha256:{expected_sha256('file.bin', SIZE)}"
    async with known_host(origin, tmp_path) as downloader:
        url = origin.url("file.bin", SIZE)
        result = await downloader.fetch(FileRequest(url, tmp_path / "out", "a", checksum=right))
        with pytest.raises(DownloadError) as caught:
            await downloader.fetch(FileRequest(url, tmp_path / "out", "b", checksum=f"sha256:{'0' * 64}"))

    assert (result.checksum, result.requests) == (right, 1)
    assert caught.value.reason == "checksum"
    assert not (tmp_path / "out" / "b").exists()


async def test_without_a_lease_nothing_gets_its_name(origin: Origin, tmp_path: Path) -> None:
    async with known_host(origin, tmp_path) as downloader:
        request = FileRequest(origin.url("file.bin", SIZE), tmp_path / "out", "a", may_publish=lambda: False)
        with pytest.raises(DownloadError) as caught:
            await downloader.fetch(request)

    assert caught.value.reason == "lease_lost"
    assert list((tmp_path / "out").iterdir()) == []


async def test_cancelled_while_it_comes_it_leaves_nothing(origin: Origin, tmp_path: Path) -> None:
    progress = Progress()
    async with known_host(origin, tmp_path, replace(AUTO, stall_timeout=30.0)) as downloader:
        request = FileRequest(origin.url("file.bin", SIZE, "stall:0.5"), tmp_path / "out", "a")
        fetching = asyncio.ensure_future(downloader.fetch(request, progress))
        while not progress.asked_at:  # noqa: ASYNC110 -- it is plain data, of a thread perhaps
            await asyncio.sleep(0.01)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    assert fetching.cancelled()
    assert progress.connections == 0
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "options",
    [
        replace(AUTO, probe="head"),
        replace(AUTO, max_rate=50_000_000),
        replace(AUTO, block_private_addresses=False, allowed_hosts=frozenset({"127.0.0.1"})),
    ],
)
async def test_it_comes_right_under_each_rule(origin: Origin, tmp_path: Path, options: Options) -> None:
    async with known_host(origin, tmp_path, options) as downloader:
        result = await downloader.fetch(FileRequest(origin.url("file.bin", SIZE), tmp_path / "out", "a"))

    assert sha256_of(result.path) == expected_sha256("file.bin", SIZE)
    assert ("HEAD" in asked(origin)) == (options.probe == "head")


async def test_a_host_that_is_not_allowed_is_not_asked(origin: Origin, tmp_path: Path) -> None:
    options = replace(AUTO, allowed_hosts=frozenset({"example.org"}))
    limits = Limits(options)
    url = origin.url("file.bin", SIZE)
    limits.habits.brought(url.partition("://")[2].partition("/")[0], small=True)
    async with Downloader(options, limits) as downloader:
        with pytest.raises(DownloadError) as caught:
            await downloader.fetch(FileRequest(url, tmp_path / "out", "a"))

    assert caught.value.reason == "host_not_allowed"
    assert asked(origin) == {}


async def test_a_disk_without_locks_is_left_to_the_ordinary_way(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "lock", lambda fd: False)
    async with known_host(origin, tmp_path) as downloader:
        results = [
            await downloader.fetch(FileRequest(origin.url(f"{n}.bin", SIZE), tmp_path / "out", f"{n}.bin"))
            for n in range(2)
        ]

    for n, result in enumerate(results):
        assert sha256_of(result.path) == expected_sha256(f"{n}.bin", SIZE)
    assert names_in(tmp_path / "out") == ["0.bin", "1.bin"]


HEADS = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n": 5,
    b"HTTP/1.1 200\r\nContent-Length:5\r\nX: y\r\n\r\n": 5,
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/5\r\n\r\n": 5,
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/9\r\n\r\n": "large",
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 1-5/6\r\n\r\n": "part",
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 0-4/5\r\n\r\n": "part",
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\n": "part",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/5\r\n\r\n": "part",
    b"HTTP/1.1 200 OK\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n": "no_length",
    b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n": "no_length",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n": "no_length",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n": "twice",
    b"HTTP/1.1 200 OK\r\nETag: a\r\nContent-Length: 5\r\nETag: b\r\n\r\n": "twice",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n": "transfer-encoding",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\n": "content-encoding",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\n\r\n": "set-cookie",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRefresh: 1\r\n\r\n": "refresh",
    b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n": "status",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n": "status",
    b"HTTP/1.1 100 Continue\r\n\r\n": "head",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n": "head",
    b"HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\n": "head",
    b"ICY 200 OK\r\nContent-Length: 5\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: a\r\n b\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\nContent-Length: 5\n\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\nX: a\nb\r\nContent-Length: 5\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\nX: \xe9\r\nContent-Length: 5\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 5\r\n\r\n": "head",
    b"HTTP/1.1 200 OK\r\njunk\r\nContent-Length: 5\r\n\r\n": "head",
}


@pytest.mark.parametrize(("raw", "outcome"), HEADS.items())
def test_a_head_is_plain_or_odd(raw: bytes, outcome: int | str) -> None:
    if isinstance(outcome, int):
        assert read_head(raw)[2] == outcome
    else:
        with pytest.raises(Odd) as odd:
            read_head(raw)
        assert odd.value.why == outcome
