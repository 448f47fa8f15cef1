"""A plain answer beside ranges: where these fall silent, and where a link may be good for no more than that.

Knows sources by their protocol, the plan and what its connections have seen; nothing of bodies, disks or requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from scrapy_chunkdl.download.errors import DownloadError
from scrapy_chunkdl.download.model import Options
from scrapy_chunkdl.download.plan.plan import Plan, Span
from scrapy_chunkdl.download.source import Opening, Seen, Wanted
from scrapy_chunkdl.download.sources import Sources

_LEAST_SILENCE_S = 1.0
_SILENCE_SHARE = 3
"""By which the time-out of a stall is divided: after so long without a byte the whole file is asked for, too."""

_CHEAP = 16 << 20
"""Bytes in place that may come a second time."""


class Silence:
    """Some servers, or what stands before them, answer a range never, or with a head alone: no range of theirs moves.

    Where little is in place the whole file is asked for then, and who is quicker goes on: where a range was, the next
    silence has to last twice as long. Connections that take over from each other break none: bytes do.
    """

    def __init__(self, sources: Sources, plan: Plan, seen: Seen, options: Options) -> None:
        self._sources = sources
        self._plan = plan
        self._seen = seen
        self._patience_s = max(_LEAST_SILENCE_S, options.stall_timeout / _SILENCE_SHARE)
        self._in_place, self._moved_at = 0, time.monotonic()

    async def broken_by_the_whole(self, is_over: Callable[[], bool]) -> Opening | None:
        """Return the answer that has all of the file, if it came sooner than a byte of any range."""
        while self._plan.running and not is_over():
            await asyncio.sleep(self._patience_s / 4)
            if self._lasts() and not is_over():
                try:
                    whole = await self._whole(is_over)
                except DownloadError:
                    return None
                if whole is not None:
                    return whole
                self._patience_s *= 2
        return None

    async def _whole(self, is_over: Callable[[], bool]) -> Opening | None:
        source, is_used = self._sources.evidence.main, False
        assert source is not None
        async with self._sources.slot(source) as slot:
            asked_at = time.monotonic()
            answer = await source.read_whole()
            try:
                answer.check_whole()
                is_used = self._lasts() and not is_over()
            finally:
                if not is_used:
                    answer.close()
            if not is_used:
                return None
            slot.hand_on()
        self._sources.ranges_fell_silent(source)
        return Opening(answer, source, slot, asked_at)

    def _lasts(self) -> bool:
        """Whether requests are under way, none has brought a byte of late, and what is there may come again."""
        now, in_place = time.monotonic(), self._plan.in_place().total
        if in_place != self._in_place:
            self._in_place, self._moved_at = in_place, now
        if not self._seen.asking or in_place > _CHEAP or self._sources.queue():
            return False
        if now - self._moved_at <= self._patience_s:
            return False
        return any(span.silent_for(now) > self._patience_s for span in self._plan.running if span.asked_at)


async def served_half(sources: Sources, plan: Plan, seen: Seen, plain: Span, wanted: Wanted) -> Opening | None:
    """Return the answer to what is wanted, the second half of what a plain answer brings, which is cut off that.

    A link may be good for one request, and it was the plain one: so nothing is cut before a range was served. None
    where it comes too late, or brings something else. Raises DownloadError where it is refused.
    """
    source = sources.evidence.main
    assert source is not None
    async with sources.slot(source) as slot:
        seen.asking += 1
        try:
            answer = await source.read(wanted)
        finally:
            seen.asking -= 1
        if answer.bytes_for(wanted) is None or not plan.cut_off(wanted.span, plain):
            answer.close()
            return None
        slot.hand_on()
    return Opening(answer, source, slot, wanted.span.asked_at)
