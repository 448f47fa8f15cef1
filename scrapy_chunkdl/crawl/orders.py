"""What operators ask of a process while it runs: to pause, to go on, to fetch at most so many bytes per second.

And what holds at single hosts: connections, delays, bytes per second.

And what they ask of one running file: to give it up, or to begin it again. Knows the orders as the heartbeat reads
them, the limits of the downloads and the held items. The heartbeat calls it on its thread, else all is on Scrapy's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from scrapy_chunkdl.bridge.bridge import Bridge, Deliver
from scrapy_chunkdl.crawl.claimed import Held
from scrapy_chunkdl.crawl.reports import id_of
from scrapy_chunkdl.download import Limits
from scrapy_chunkdl.download.host_rules import HostRule, NamedRule
from scrapy_chunkdl.queue.asked import Asked
from scrapy_chunkdl.queue.host_limits import AskedLimits, HostLimits
from scrapy_chunkdl.queue.item_queue import Orders
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.units import size_text

logger = logging.getLogger(__name__)


class OperatorOrders:
    """Those for one process. ``go_on`` is called when a pause ends."""

    def __init__(
        self, config: Config, items_key: str, limits: Limits, deliver: Deliver, go_on: Callable[[], None]
    ) -> None:
        self._max_rate: float = config.max_rate
        self._key = items_key
        self._limits = limits
        self._deliver = deliver
        self._go_on = go_on
        self._orders = Orders()

    @property
    def paused(self) -> bool:
        """Whether nothing is to be claimed."""
        return self._orders.paused

    def limit_rate(self, bytes_per_second: float) -> None:
        """Take another limit for as long as nobody asks for one."""
        self._max_rate = bytes_per_second
        if self._orders.max_rate is None:
            self._limits.rates.change(bytes_per_second)

    def changed(self, orders: Orders) -> None:
        """Take new orders. For the heartbeat's thread."""
        self._deliver(lambda: self._obey(orders))

    def _obey(self, orders: Orders) -> None:
        before, self._orders = self._orders, orders
        if orders.max_rate != before.max_rate:
            limit = self._max_rate if orders.max_rate is None else orders.max_rate
            self._limits.rates.change(limit)
            told = f"at most {size_text(limit)}/s" if limit else "as fast as they come"
            logger.info("Files are fetched %s now, as was asked for.", told)
        if orders.paused and not before.paused:
            logger.info(
                "Claiming from %s is paused, as was asked for: 'scrapy chunkdl dashboard' ends it. Running files "
                "go on.",
                self._key,
            )
        elif before.paused and not orders.paused:
            logger.info("Claiming from %s goes on.", self._key)
            self._go_on()


class HostOrders:
    """Limits of single hosts, before those of the settings. Called on the heartbeat's thread."""

    def __init__(self, asked: HostLimits, limits: Limits) -> None:
        self._asked = asked
        self._limits = limits
        self._known: dict[str, AskedLimits] = {}

    def look(self) -> None:
        """Look at what is asked, and keep to it from now on. Raises what a call to Redis does."""
        asked = self._asked.look()
        if asked == self._known:
            return
        for host in sorted(asked.keys() | self._known.keys()):
            if (wanted := asked.get(host)) != self._known.get(host):
                logger.info("%s: %s, as was asked for.", printable(host), _told(wanted))
        self._known = asked
        self._limits.put_first(
            [NamedRule(host, HostRule(one.connections, one.delay, one.rate)) for host, one in asked.items()]
        )


def _told(asked: AskedLimits | None) -> str:
    told = []
    if asked is not None and asked.connections is not None:
        told.append(f"{asked.connections} connections at most")
    if asked is not None and asked.delay is not None:
        told.append(f"{asked.delay:g} s between requests")
    if asked is not None and asked.rate is not None:
        told.append(f"{size_text(asked.rate)}/s at most" if asked.rate else "as fast as it comes")
    return ", ".join(told) or "limits as the settings say"


class FileOrders:
    """Those for one running file."""

    def __init__(self, held: Held, bridge: Bridge) -> None:
        self._held = held
        self._bridge = bridge

    def obey(self, asked: Sequence[Asked]) -> None:
        """Give files up, or have their items go back and come again. A file that has ended meanwhile is passed over."""
        running = {
            id_of(job): (job, item.files)
            for item in self._held.leased()
            if item.files is not None
            for job in item.files.jobs
            if not job.is_done
        }
        for one in asked:
            if one.file not in running:
                continue
            job, files = running[one.file]
            logger.info("%s: %s, as was asked for.", printable(job.request.url), one.what.replace("_", " "))
            if one.what == "give_up":
                files.give_up(job)
                self._bridge.cancel([job])
            else:
                self._bridge.cancel(files.jobs)
