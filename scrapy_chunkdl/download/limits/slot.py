"""One of a host's connections as a file holds it: it shows in the file's progress, and so does the wait for it."""

from __future__ import annotations

from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.model import Progress
from scrapy_chunkdl.download.progress import Doing


class HostSlot:
    """One of a host's connections, in ``async with``. Whoever it is handed on to gives it back by :meth:`release`."""

    __slots__ = ("_host", "_is_held", "_limits", "_progress", "_slot")

    def __init__(self, limits: Limits, host: str, progress: Progress) -> None:
        self._limits = limits
        self._host = host
        self._slot = limits.slot(host)
        self._progress = progress
        self._is_held = False

    async def __aenter__(self) -> HostSlot:
        limits, host = self._limits, self._host
        with self._progress.during(Doing.WAITING_FOR_A_HOST, lambda: limits.moved_at(host)):
            await self._slot.__aenter__()
        limits.hold(host, self._progress)
        self._is_held = True
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._is_held:
            await self.release()

    def hand_on(self) -> None:
        """Leave it held when this block ends."""
        self._is_held = False

    async def release(self) -> None:
        """Give it back."""
        self._is_held = False
        self._limits.let_go(self._host, self._progress)
        await self._slot.__aexit__()
