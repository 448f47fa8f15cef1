"""One line of progress now and then, and one at the end. Reads the stats and the bridge; changes nothing."""

from __future__ import annotations

import logging
import time

from scrapy.crawler import Crawler

from scrapy_chunkdl.bridge import Bridge
from scrapy_chunkdl.config import Config

logger = logging.getLogger(__name__)


class ProgressLog:
    """Logs files, bytes and rate every LOGSTATS_INTERVAL seconds, while something moves."""

    def __init__(self, crawler: Crawler, config: Config, bridge: Bridge) -> None:
        assert crawler.stats is not None
        self._stats = crawler.stats
        self._bridge = bridge
        self._interval = crawler.settings.getfloat("LOGSTATS_INTERVAL") if config.progress == "auto" else 0.0
        self._began_at = self._said_at = time.monotonic()
        self._said_bytes = 0

    def tick(self) -> None:
        """Log a line if one is due and something happened since the last."""
        now = time.monotonic()
        if not self._interval or now - self._said_at < self._interval:
            return
        fetched = self._bridge.bytes_fetched()
        if fetched != self._said_bytes or self._bridge.running():
            rate = (fetched - self._said_bytes) / (now - self._said_at)
            logger.info("%s; %d running, %s/s", self._so_far(fetched), self._bridge.running(), _amount(rate))
        self._said_at, self._said_bytes = now, fetched

    def finish(self) -> None:
        """Log the summary of the crawl's downloads, if there were any."""
        fetched = self._bridge.bytes_fetched()
        if self._interval and (fetched or self._files("failed")):
            elapsed = time.monotonic() - self._began_at
            logger.info("Downloads: %s, %s/s over the whole crawl", self._so_far(fetched), _amount(fetched / elapsed))

    def _so_far(self, fetched: int) -> str:
        done = self._files("downloaded") + self._files("uptodate")
        return f"{done} files done, {self._files('failed')} given up, {_amount(fetched)} fetched"

    def _files(self, status: str) -> int:
        return int(self._stats.get_value(f"chunkdl/files/{status}", 0))


def _amount(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
