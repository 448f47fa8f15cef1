"""What operators ask of a process while it runs: to pause, to go on, to fetch at most so many bytes per second.

Knows the orders as the heartbeat reads them from ``:control``, and the limits of the downloads; nothing of items. The
heartbeat calls it on its thread, everything else is on Scrapy's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from scrapy_chunkdl.bridge.bridge import Deliver
from scrapy_chunkdl.download import Limits
from scrapy_chunkdl.queue.item_queue import Orders
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.units import size_text

logger = logging.getLogger(__name__)


class OperatorOrders:
    """Those for one process. ``go_on`` is called when a pause ends."""

    def __init__(
        self, config: Config, items_key: str, limits: Limits, deliver: Deliver, go_on: Callable[[], None]
    ) -> None:
        self._max_rate = config.max_rate
        self._key = items_key
        self._limits = limits
        self._deliver = deliver
        self._go_on = go_on
        self._orders = Orders()

    @property
    def paused(self) -> bool:
        """Whether nothing is to be claimed."""
        return self._orders.paused

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
