"""Whether this process is well: Scrapy's thread, each download thread's loop, and what Redis was heard to say.

Reads what these note of themselves anyway; asks nobody, so it may be read on any thread, as often as one likes. Knows
times; nothing of who asks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from scrapy_chunkdl.queue.status import SILENT_AFTER

Checks = dict[str, str | None]
"""What was looked at, and what is wrong with it: a sentence, or None where nothing is."""


class Health:
    """The health of one crawl. Times are of the monotonic clock.

    ``scrapy_turned`` tells when Scrapy's thread turned last, ``loops_turned`` when each download thread did;
    ``redis_heard`` when Redis answered a report last, None in a crawl without. ``patience_s`` is what a pipeline may
    block Scrapy's thread for: the lease, which is lost then anyway.
    """

    def __init__(
        self,
        scrapy_turned: Callable[[], float],
        loops_turned: Callable[[], Sequence[float]],
        redis_heard: Callable[[], float] | None,
        is_closing: Callable[[], bool],
        patience_s: float,
    ) -> None:
        self._scrapy_turned = scrapy_turned
        self._loops_turned = loops_turned
        self._redis_heard = redis_heard
        self._is_closing = is_closing
        self._patience_s = max(patience_s, SILENT_AFTER)  # a busy machine lets a loop wait for its turn, too

    def live(self) -> Checks:
        """Look at what only a new process would cure. A Redis that is away is none of it: it is waited for."""
        now = time.monotonic()
        checks = {"scrapy": self._stands(now - self._scrapy_turned(), "Scrapy's thread")}
        for number, turned in enumerate(self._loops_turned()):
            checks[f"loop {number}"] = self._stands(now - turned, f"download thread {number}")
        return checks

    def ready(self) -> Checks:
        """Look at whether it takes work besides."""
        checks = self.live()
        checks["claiming"] = "the spider closes" if self._is_closing() else None
        if self._redis_heard is not None:
            silent_for = time.monotonic() - self._redis_heard()
            how_long = f"for {silent_for:.0f} s" if math.isfinite(silent_for) else "yet"
            checks["redis"] = f"Redis has not answered {how_long}" if silent_for > SILENT_AFTER else None
        return checks

    def _stands(self, seconds: float, what: str) -> str | None:
        return f"{what} has not turned for {seconds:.0f} s" if seconds > self._patience_s else None
