"""A file from a source that is not HTTP: the same names, ranges, resume, checks, limits and records as any other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from fetching import CHUNK, QUICK

from scrapy_chunkdl.download import (
    Downloader,
    DownloadError,
    FileRequest,
    FileResult,
    Limits,
    Options,
    Permanent,
    SourceChanged,
    Throttled,
    Transient,
    downloader,
)
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.plan import small
from scrapy_chunkdl.download.plan.ranges import Range
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import End, FileContext, Measured, Source, Take, Wanted

HOST = "shelf:1"
CONTENT = hashlib.sha256(b"shelf").digest() * (10 * CHUNK // 32) + b"the end"


class Piece:
    """An answer of :class:`Shelf`: bytes of what is in memory."""

    def __init__(self, shelf: Shelf, start: int, stop: int, *, is_plain: bool) -> None:
        self.url, self.status, self.told = shelf.url, None, shelf.remote
        self.length, self.is_part, self.is_plain, self.says_empty = stop - start, not is_plain, is_plain, False
        self.line = None
        self._shelf = shelf
        self._range = start, stop
        shelf.open += 1

    def bytes_for(self, wanted: Wanted) -> Range | None:
        return self._range

    def check_whole(self) -> None:
        """It always is."""

    async def read(self, take: Take) -> End:
        position, stop = self._range
        while position < stop:
            await asyncio.sleep(0)
            if self._shelf.halts_at is not None and position >= self._shelf.halts_at:
                self._shelf.halted()
                await asyncio.Event().wait()
            size = min(1 << 14, stop - position)
            if self._shelf.breaks_at and position >= self._shelf.breaks_at[0]:
                raise self._shelf.breaks_at.pop(0) and Transient("the shelf fell", reason="connection_lost")
            if not take(memoryview(self._shelf.content)[position : position + size]):
                return End.STOPPED
            position += size
        return End.COUNTED

    def close(self) -> None:
        self._shelf.open -= 1


class Shelf:
    """A source in memory. ``errors`` are raised by its next questions, ``breaks_at`` are where bodies break off.

    At ``halts_at`` nothing more comes.
    """

    def __init__(self, url: str, context: FileContext, *, ranges: bool = True) -> None:
        self.url = self.led_to = url
        self.host = HOST
        self.content = CONTENT
        self.version = Validator('"1"')
        self.ranges = ranges
        self.errors: list[DownloadError] = []
        self.breaks_at: list[int] = []
        self.halts_at: int | None = None
        self.halted: Callable[[], None] = lambda: None
        self.asked: list[tuple[int, int]] = []
        self.open = 0
        self.closed = 0
        self._context = context

    @property
    def remote(self) -> Remote:
        return Remote(len(self.content), self.ranges, self.version, confirmed=True)

    async def measure(self, finished: object, *, by_hint: bool, failures: int) -> Measured:
        self._count()
        return Measured(self.remote)

    async def read(self, wanted: Wanted) -> Piece:
        wanted.asked()
        self._count()
        span = wanted.span
        self.asked.append((span.position - wanted.look, span.stop))
        return Piece(self, span.position - wanted.look, span.stop, is_plain=False)

    async def read_whole(self) -> Piece:
        self._count()
        return Piece(self, 0, len(self.content), is_plain=True)

    def forget(self, *, where_it_led: bool = False) -> None:
        """Nothing is remembered."""

    async def close(self) -> None:
        self.closed += 1

    def _count(self) -> None:
        self._context.progress.requests += 1
        if self.errors:
            raise self.errors.pop(0)


class Shelves:
    """Fetches with shelves, and keeps them to be looked at."""

    def __init__(self, folder: Path, **how: bool) -> None:
        self.folder = folder
        self.made: list[Shelf] = []
        self.halted = asyncio.Event()
        self.prepare = lambda shelf: None
        self._how = how

    def make(self, context: FileContext) -> Shelf:
        shelf = Shelf(context.request.url, context, **self._how)
        self.prepare(shelf)
        self.made.append(shelf)
        return shelf

    async def fetch(self, options: Options = QUICK, **more: object) -> FileResult:
        request = FileRequest("shelf://shelf/a%20book.pdf", self.folder, source=self.make, **more)  # type: ignore[arg-type]
        async with Downloader(options, limits := Limits(options)) as downloader:
            try:
                return await downloader.fetch(request)
            finally:
                assert limits.hosts() == {} or not limits.hosts()[HOST].connections, "a slot is still held"
                assert all(shelf.open == 0 and shelf.closed == 1 for shelf in self.made), "an answer is still open"

    def fetched(self, **more: object) -> FileResult:
        return asyncio.run(self.fetch(**more))  # type: ignore[arg-type]


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    return Shelves(tmp_path)


def test_its_file_comes_in_ranges_under_the_name_of_its_url(shelves: Shelves) -> None:
    result = shelves.fetched(options=replace(QUICK, check_type=False))

    assert (result.path.name, result.path.read_bytes()) == ("a book.pdf", CONTENT)
    assert (result.etag, result.requests) == ('"1"', 1 + len(shelves.made[0].asked))
    assert len(shelves.made[0].asked) >= QUICK.chunks_per_file


def test_its_file_comes_in_one_stream_where_it_has_no_ranges(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path, ranges=False)

    result = shelves.fetched(name="x.bin")

    assert (result.path.read_bytes(), shelves.made[0].asked) == (CONTENT, [])


def test_its_file_is_up_to_date_the_second_time(shelves: Shelves) -> None:
    shelves.fetched(name="x.bin")

    result = shelves.fetched(name="x.bin")

    assert (result.status, result.fetched, shelves.made[1].asked) == ("uptodate", 0, [])


@pytest.mark.parametrize(
    "error",
    [
        Transient("no line", reason="connect_failed"),
        Throttled("later", status=421, delay=0.01),
        Transient("too many", reason="too_many_connections"),
    ],
    ids=lambda error: error.reason,
)
def test_what_passes_is_tried_again(shelves: Shelves, error: DownloadError) -> None:
    shelves.prepare = lambda shelf: shelf.errors.append(error)

    result = shelves.fetched(name="x.bin")

    assert (result.path.read_bytes(), result.retries) == (CONTENT, {error.reason: 1})


def test_a_body_that_breaks_off_goes_on_from_where_it_was_and_is_compared(shelves: Shelves) -> None:
    shelves.prepare = lambda shelf: shelf.breaks_at.append(9 * CHUNK)

    result = shelves.fetched(name="x.bin")

    assert (result.path.read_bytes(), result.retries) == (CONTENT, {"connection_lost": 1})


def test_what_does_not_pass_ends_the_file_with_its_reason(shelves: Shelves) -> None:
    shelves.prepare = lambda shelf: shelf.errors.append(Permanent("no such book", reason="ftp_550", status=550))

    with pytest.raises(Permanent) as caught:
        shelves.fetched(name="x.bin")

    assert (caught.value.reason, caught.value.status, caught.value.attempts) == ("ftp_550", 550, 1)


def test_another_version_in_the_middle_begins_afresh(shelves: Shelves) -> None:
    def change(shelf: Shelf) -> None:
        async def read(wanted: Wanted) -> Piece:
            shelf.read = type(shelf).read.__get__(shelf)  # type: ignore[method-assign]
            shelf.content, shelf.version = CONTENT[::-1], Validator('"2"')
            raise SourceChanged("it is another one")

        shelf.read = read  # type: ignore[method-assign]

    shelves.prepare = change

    result = shelves.fetched(name="x.bin")

    assert (result.path.read_bytes(), result.etag) == (CONTENT[::-1], '"2"')


def test_a_wrong_checksum_has_it_come_again_once(shelves: Shelves) -> None:
    with pytest.raises(Permanent) as caught:
        shelves.fetched(name="x.bin", checksum=f"sha256:{'0' * 64}")

    assert caught.value.reason == "checksum"
    assert list(shelves.folder.iterdir()) == []


def test_a_file_that_is_cancelled_is_resumed(shelves: Shelves) -> None:
    def halt(shelf: Shelf) -> None:
        shelf.halts_at, shelf.halted = 4 * CHUNK, shelves.halted.set

    async def cancelled() -> None:
        shelves.prepare = halt
        task = asyncio.ensure_future(shelves.fetch(replace(QUICK, chunks_per_file=1), name="x.bin"))
        await shelves.halted.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(cancelled())
    shelves.prepare = lambda shelf: None
    result = shelves.fetched(name="x.bin")

    assert result.path.read_bytes() == CONTENT
    assert result.resumed >= 4 * CHUNK


class Shop:
    """An opener, one for each downloader."""

    opened: ClassVar[list[Shop]] = []

    def __init__(self, options: Options, limits: Limits) -> None:
        self.is_closed = False
        Shop.opened.append(self)

    def sources(self, context: FileContext, urls: Sequence[str]) -> list[Source]:
        return [Shelf(url, context) for url in urls]

    async def close(self) -> None:
        self.is_closed = True


def test_a_scheme_has_its_opener_once_for_each_downloader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shop, "opened", [])

    async def fetch() -> list[FileResult]:
        requests = [FileRequest(f"{scheme}://a/{n}", tmp_path, f"{n}") for n, scheme in enumerate(("shop", "SHOP"))]
        async with Downloader(replace(QUICK, openers={"shop": Shop})) as downloader:
            return [await downloader.fetch(request) for request in requests]

    results = asyncio.run(fetch())

    assert [result.path.read_bytes() for result in results] == [CONTENT, CONTENT]
    assert [shop.is_closed for shop in Shop.opened] == [True]


def test_mirrors_of_another_scheme_bring_their_part(tmp_path: Path) -> None:
    dead = Permanent("gone", reason="gone")
    shelves = Shelves(tmp_path)
    shelves.prepare = lambda shelf: shelf.errors.append(dead)

    result = shelves.fetched(options=replace(QUICK, openers={"shop": Shop}), name="x.bin", mirrors=("shop://a/x",))

    assert (result.path.read_bytes(), result.final_url) == (CONTENT, "shop://a/x")


async def test_a_downloader_that_cannot_open_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[aiohttp.ClientSession] = []
    made = downloader.new_session

    def new_session(*arguments: Any) -> aiohttp.ClientSession:
        sessions.append(made(*arguments))
        return sessions[-1]

    def no_threads(*arguments: object, **named: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(downloader, "new_session", new_session)
    monkeypatch.setattr(small, "PlainConnections", no_threads)

    with pytest.raises(RuntimeError):
        await Downloader().__aenter__()

    assert [session.closed for session in sessions] == [True]
