"""What a server without HTTP tells and sends, as the transfer asks for it: the source of one file, and its answers.

Each reading shows by size and version that its bytes are those the file was measured by. Knows readings, limits and
evidence; nothing of any one protocol, nothing of plans or disks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.errors import Permanent, SourceChanged, Transient
from scrapy_chunkdl.download.http.paced import LONGEST_PAUSE
from scrapy_chunkdl.download.http.proxies import DIRECT
from scrapy_chunkdl.download.limits.rate import Pace
from scrapy_chunkdl.download.limits.slot import HostSlot
from scrapy_chunkdl.download.native.told import NativeSource, Reading
from scrapy_chunkdl.download.plan.ranges import Range
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import End, FileContext, Measured, Source, Take, Wanted
from scrapy_chunkdl.download.versions import refuse_other_version

T = TypeVar("T")

_CROWDED = frozenset({"too_many_connections", "connect_failed"})
"""What is said by a host that bears no more connections."""


class Shared(Protocol):
    """What the sources of one kind share in a loop."""

    def native(self, context: FileContext, url: str) -> tuple[NativeSource, str]:
        """Return what reads the file at a URL, and the host whose connections are counted. Raises DownloadError."""
        ...

    def close(self) -> None:
        """End all that is idle."""
        ...


class NativeOpener:
    """Makes the sources of some schemes: an :class:`~scrapy_chunkdl.download.source.Opener`."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def sources(self, context: FileContext, urls: Sequence[str]) -> list[Source]:
        """Return a source for each URL."""
        return [PartsSource(context, url, *self._shared.native(context, url)) for url in urls]

    async def close(self) -> None:
        """Close all connections."""
        self._shared.close()


class PartsSource:
    """One URL: a :class:`~scrapy_chunkdl.download.source.Source`. It has nothing open but the answers it returned."""

    def __init__(self, context: FileContext, url: str, native: NativeSource, host: str) -> None:
        self._context = context
        self._native = native
        self.url = self.led_to = url
        self.host = host

    async def measure(self, finished: Published | None, *, by_hint: bool, failures: int) -> Measured:
        async with HostSlot(self._context.limits, self.host, self._context.progress):
            told = await self._asked(self._native.look)
        return Measured(told.remote())

    async def read(self, wanted: Wanted) -> NativeAnswer:
        span = wanted.span
        wanted.asked()
        start = span.position - wanted.look
        reading = await self._asked(lambda: self._native.read(start, span.stop))
        answer = NativeAnswer(self._context, self, reading, start, span.stop)
        try:
            answer.bytes_for(wanted)
        except BaseException:
            answer.close()
            raise
        return answer

    async def read_whole(self) -> NativeAnswer:
        return NativeAnswer(self._context, self, await self._asked(lambda: self._native.read(0, None)), 0, None)

    def forget(self, *, where_it_led: bool = False) -> None:
        """Nothing was learnt that another version changes."""

    async def close(self) -> None:
        """Nothing is left to end: answers are their receivers'."""

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and tell the limits how the host took one more connection."""
        limits, progress = self._context.limits, self._context.progress
        if self._context.request.proxy not in (None, DIRECT):  # to go without it would show who asks
            raise Permanent(f"{self.url} cannot be fetched through a proxy", reason="bad_proxy")
        asked_at = progress.asked()
        progress.requests += 1
        try:
            answer = await ask()
        except Transient as error:
            if error.reason in _CROWDED or limits.is_serving(self.host):
                limits.refused(self.host, asked_at)
            raise
        limits.answered(self.host)
        return answer


class NativeAnswer:
    """A reading that has begun: an :class:`~scrapy_chunkdl.download.source.Answer`. ``stop`` is None for its end."""

    status = None
    says_empty = False

    def __init__(
        self, context: FileContext, source: PartsSource, reading: Reading, start: int, stop: int | None
    ) -> None:
        self._context = context
        self._source = source
        self._reading = reading
        is_part = reading.told.offsets is not False or start == 0
        self._start, self._stop = (start, stop) if is_part else (0, None)
        self.is_plain = stop is None
        self.told: Remote = reading.told.remote()

    @property
    def url(self) -> str:
        return self._source.url

    @property
    def length(self) -> int | None:
        end = self._stop if self._stop is not None else self.told.size
        return None if end is None else end - self._start

    @property
    def line(self) -> None:
        return None

    @property
    def is_part(self) -> bool:
        return self._start > 0 or (self._stop is not None and self._stop != self.told.size)

    def bytes_for(self, wanted: Wanted) -> Range | None:
        told, seen, is_main = self.told, wanted.seen, self._context.evidence.main is self._source
        if told.size is not None and told.size != seen.size:
            text = f"{self.url} has {told.size} bytes, not {seen.size}"
            raise SourceChanged(text) if is_main else Permanent(text, reason="other_size")
        refuse_other_version(seen, told.validator, told.digests, is_main=is_main, url=self.url)
        if self._stop is None and wanted.span.position > 0:
            return None
        return self._start, self._stop if self._stop is not None else wanted.seen.size

    def check_whole(self) -> None:
        """It is the whole: errors are raised before there is an answer."""

    async def read(self, take: Take) -> End:
        pace, left = self._context.limits.pace(self._source.host), self.length
        while data := await self._reading.next():
            if left is not None:
                left -= len(data)
            if not await _take_paced(pace, data, take, left):
                await self._reading.stop()
                return End.COUNTED if left == 0 else End.STOPPED
        return End.CHUNKED if left is None else End.COUNTED if left <= 0 else End.CLOSED

    def close(self) -> None:
        self._reading.close()


async def _take_paced(pace: Pace, data: bytes | memoryview, take: Take, left: int | None) -> bool:
    """Pass on a piece no faster than ``pace`` lets it; False when no more is wanted. ``left`` bytes come behind it."""
    if not pace.is_limited:
        return take(data)
    rest = memoryview(data)
    while rest:
        size = pace.room(len(rest), time.monotonic())
        if not take(rest[:size]):
            pace.give_back(time.monotonic())
            return False
        rest = rest[size:]
        pause = pace.read(size, time.monotonic(), len(rest) + (left or 0))
        while pause > 0:
            await asyncio.sleep(min(pause, LONGEST_PAUSE))
            pause = pace.pause(time.monotonic())
    return True
