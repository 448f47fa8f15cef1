"""The places one file can be had from: which is asked next, again after which failure, and which is left out.

Knows sources by their protocol alone, errors and backoff; nothing of requests, nothing of what happens to the bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.errors import DownloadError, Permanent, Postponed, Transient
from scrapy_chunkdl.download.known import By, Known
from scrapy_chunkdl.download.limits.slot import HostSlot
from scrapy_chunkdl.download.plan import retry
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import FileContext, Measured, Source
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NOT_THE_SOURCES_FAULT = frozenset(
    {
        "disk_full",
        "read_only",
        "disk_error",
        "too_many_open_files",
        "lease_lost",
        "too_large",
        "bad_header",
        "bad_checksum",
        "bad_metalink",
        "remeasured",
    }
)


class Sources:
    """The sources of one file. The first that answers is the main one; the others have to bring the same bytes."""

    def __init__(self, context: FileContext, sources: list[Source]) -> None:
        self._request = context.request
        self._options = context.options
        self._limits = context.limits
        self._progress = context.progress
        self.evidence = context.evidence
        self._all = sources
        self._sources = self._all.copy()
        self._used: set[Source] = set()
        self._brought: list[tuple[int, int, Source]] = []
        self._turn = 0
        self._backoff = retry.Backoff(context.options.backoff_base, context.options.backoff_max)
        self._began_anew = False
        self.evidence.main = self._sources[0]

    @property
    def first(self) -> Source:
        """The source to be asked for the whole file."""
        return self._sources[0]

    def is_main(self, source: Source) -> bool:
        """Whether the others have to agree with ``source``."""
        return source is self.evidence.main

    def slot(self, source: Source) -> HostSlot:
        """Hold one of the connections the source's host gets."""
        return HostSlot(self._limits, source.host, self._progress)

    def queue(self) -> float:
        """Return the seconds for which a new reader of the main source would wait for its turn, under a limit."""
        assert self.evidence.main is not None
        return self._limits.pace(self.evidence.main.host).queue(time.monotonic())

    def give_way(self, host: str) -> bool:
        """Tell whether a request to ``host`` is to end early, for other processes that wait."""
        return self._limits.give_way(host)

    def ranges_fell_silent(self, source: Source) -> None:
        """Note that the source's host answered for the whole file, and not for its ranges."""
        self._limits.habits.ranges_fell_silent(source.host)

    async def measure(self, finished: Published | None = None, *, by_hint: bool = True) -> Measured:
        """Learn what the file is from the first source that answers.

        ``finished`` is the file as an earlier run brought it, if it would do: what is unchanged costs no body. Without
        ``by_hint`` only what brings bytes is asked, since a hint has told something else than they did.
        """
        evidence = self.evidence
        if evidence.known is None and finished is not None and finished.url is not None:
            evidence.known = Known(By.FINISHED, finished.size, finished.validator)
        while True:
            source = evidence.main = self._sources[0]
            try:
                measured = await self._measure(source, finished, by_hint=by_hint)
                if self._has_other_size(measured.remote) and not measured.remote.confirmed:  # a hint may be wrong
                    measured = await self._measure(source, finished, by_hint=False)
                if self._has_other_size(measured.remote):
                    await measured.close()
                    text = (
                        f"{source.url} has {measured.remote.size} bytes, not {evidence.size_bytes} as its metalink says"
                    )
                    raise Permanent(text, reason="other_size")
            except DownloadError as error:
                if not self.drop(source, error):
                    raise
                continue
            remote = measured.remote
            if not measured.is_unchanged:
                evidence.known = remote.known
            if evidence.expected is not None and not remote.coding:
                digests = {**remote.digests, evidence.expected[0]: evidence.expected[1]}
                measured.remote = remote._replace(digests=digests)
            return measured

    def _has_other_size(self, remote: Remote) -> bool:
        wanted = self.evidence.size_bytes
        return wanted is not None and remote.size is not None and remote.size != wanted and not remote.coding

    async def _measure(self, source: Source, finished: Published | None, *, by_hint: bool) -> Measured:
        failures = count()

        async def measure() -> Measured:
            return await source.measure(finished, by_hint=by_hint, failures=next(failures))

        return await self.retrying()(measure)()

    def forget(self) -> None:
        """Forget what is known of the file: there is another version."""
        self.evidence.known = None
        self.evidence.hinted = 0
        for source in self._sources:
            source.forget()

    # --- trying again

    def retrying(
        self,
        position: Callable[..., int] = lambda *_: 0,
        enough: Callable[..., int] = lambda *_: 1,
    ) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
        """Return the decorator that retries, with this file's backoff and count."""
        return retry.retrying(
            self._options.retry_times, self._backoff, position=position, enough=enough, on_retry=self._note_retry
        )

    def retry(self, position: Callable[[], int], enough: Callable[[], int]) -> retry.Retry:
        """Return the count of one connection's failures."""
        return retry.Retry(
            self._options.retry_times, self._backoff, position=position, enough=enough, on_retry=self._note_retry
        )

    def _note_retry(self, error: Transient, pause: float) -> None:
        self._progress.retried(error.reason)
        cooling = max(self._limits.cooling(source.host) for source in self._sources)
        self._progress.paused_for(max(pause, cooling))

    # --- choosing, and leaving out

    def next(self) -> Source:
        """Return the source whose turn it is."""
        self._turn = (self._turn + 1) % len(self._sources)
        return self._sources[self._turn - 1]

    def used(self, source: Source) -> None:
        """Note that bytes of the file came from ``source``."""
        self._used.add(source)

    def brought(self, source: Source, start: int, stop: int) -> None:
        """Note which bytes came from ``source``."""
        self._brought.append((start, stop, source))

    def who_brought(self, start: int, stop: int) -> frozenset[Source]:
        """Return the sources that bytes of ``[start, stop)`` came from in this run."""
        return frozenset(source for begin, end, source in self._brought if begin < stop and start < end)

    @property
    def left(self) -> list[Source]:
        """The sources that were not left out."""
        return self._sources.copy()

    @contextmanager
    def only(self, source: Source) -> Iterator[None]:
        """Ask this one alone meanwhile."""
        before, self._sources = self._sources, [source]
        try:
            yield
        finally:
            self._sources = before

    def is_to_blame(self, error: DownloadError) -> bool:
        """Whether another source may do better."""
        return error.reason not in _NOT_THE_SOURCES_FAULT and not isinstance(error, Postponed)

    def drop(self, source: Source, error: DownloadError) -> bool:
        """Go on without a mirror that is dead or different; False when it is the last one."""
        if source not in self._sources:
            return True
        if len(self._sources) == 1 or not self.is_to_blame(error):
            return False
        self._sources.remove(source)
        text = f"Left out {source.url} as a source of {self._request.url}: {error}"
        logger.warning("%s", printable(text))
        return True

    async def begin_anew(self, error: DownloadError) -> bool:
        """Go back to the items' own URLs after an answer that was not the file, once: a session or a throttle may pass.

        After that what brought it is left out as a source, and those that were left out for not agreeing with it are
        asked again. False when it was the last one.
        """
        self.forget()
        if self._began_anew:
            if len(self._all) == 1:
                return False
            logger.warning("%s", printable(f"Left out {self.first.url} as a source of {self._request.url}: {error}"))
            self._all.remove(self.first)
        self._began_anew = True
        self._sources = self._all.copy()
        if error.reason == "wrong_type":
            self._limits.circuits.page(self.first.host, id(self._progress))
        pause = self._backoff.pause(retry.UNSAID_PAUSE)
        self._note_retry(Transient(str(error), reason=error.reason), pause)
        for source in self._sources:
            source.forget(where_it_led=True)
        await asyncio.sleep(pause)
        return True

    def distrust(self) -> None:
        """After a wrong checksum, settle on one source: the item's own, or the next one if it was that one alone."""
        suspects = [source for source in self._sources if source in self._used]
        self._brought.clear()
        if len(suspects) > 1:
            self._sources = suspects[:1]
        else:
            self._sources = [source for source in self._sources if source not in suspects][:1] or suspects

    async def close(self) -> None:
        """End what the sources have open for this file."""
        for source in self._all:
            await source.close()
