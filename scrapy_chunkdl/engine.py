"""The few places of Scrapy's engine that this plugin leans on, for every version and reactor it runs under.

Knows Scrapy's inside so that nothing else must; nothing of queues or downloads. All functions are called on Scrapy's
thread, after the spider was opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.utils.defer import deferred_from_coro, maybe_deferred_to_future
from twisted.internet.defer import Deferred

try:
    from scrapy.utils.asyncio import create_looping_call, is_asyncio_available
except ImportError:  # Scrapy 2.13
    from scrapy.utils.reactor import is_asyncio_reactor_installed as is_asyncio_available
    from twisted.internet.task import LoopingCall as create_looping_call  # type: ignore[assignment]

PLACEHOLDER_URL = "data:,chunkdl"

_handed_on: ContextVar[bool] = ContextVar("chunkdl_handed_on", default=False)


def is_handed_on() -> bool:
    """Tell whether the pipelines are running for an item that :func:`hand_on` sent. Holds for copies of it, too."""
    return _handed_on.get()


class Ticker(Protocol):
    """A started looping call."""

    def stop(self) -> object: ...


def thread_caller() -> Callable[[Callable[[], object]], object]:
    """Return a function that, from any thread, has its argument called on Scrapy's own thread."""
    if is_asyncio_available():
        return asyncio.get_running_loop().call_soon_threadsafe
    from twisted.internet import reactor

    call: Callable[[Callable[[], object]], object] = reactor.callFromThread
    return call


def every(seconds: float, function: Callable[[], None]) -> Ticker:
    """Call ``function`` every ``seconds``, beginning now."""
    call = create_looping_call(function)
    call.start(seconds, now=True)
    return call


def close_spider(crawler: Crawler, reason: str) -> None:
    """Have the spider closed, with ``reason`` as its finish reason; from any time after it was opened."""

    def close() -> None:
        engine, spider = crawler.engine, crawler.spider
        assert engine is not None
        assert spider is not None
        if hasattr(engine, "close_spider_async"):
            deferred_from_coro(engine.close_spider_async(reason=reason))
        else:  # Scrapy 2.13
            engine.close_spider(spider, reason)

    def close_soon() -> None:
        thread_caller()(close)

    assert crawler.engine is not None
    if crawler.engine.running:
        close_soon()
    else:  # an engine that closes while it starts loses its finish reason
        crawler.signals.connect(close_soon, signals.engine_started, weak=False)


class ClosingHold:
    """Keeps a closing spider from closing its scraper and pipelines until :meth:`release`.

    The engine waits for the requests in progress before it closes anything else, and a request in progress does not
    keep the spider from going idle. So one that is never sent gives claimed items the time to finish or be handed back,
    with every pipeline still open, and lets spiders that feed on the idle signal feed. Holding the scraper's
    slot instead would silence that signal.
    """

    def __init__(self, crawler: Crawler) -> None:
        engine: Any = crawler.engine
        self._slot = engine._slot
        self._engine = engine
        self._request: Request | None = Request(PLACEHOLDER_URL)
        self._slot.add_request(self._request)

    @property
    def is_closing(self) -> bool:
        """Whether the spider has begun to close."""
        return self._slot.closing is not None

    @property
    def is_shutdown(self) -> bool:
        """Whether the whole crawl was asked to stop, by a signal or from a script."""
        return not self._engine.running

    @property
    def is_scraper_idle(self) -> bool:
        """Whether no callback and no pipeline is at work. Before that a release may hang Scrapy 2.19 for ever."""
        return bool(self._engine.scraper.slot.is_idle())

    def wake_idle_check(self) -> None:
        """Have the engine look again whether the spider is idle, rather than at its next heartbeat (5 s)."""
        if not self.is_closing:
            self._slot.nextcall.schedule()

    def release(self) -> None:
        """Let the spider close."""
        if self._request is not None:
            request, self._request = self._request, None
            self._slot.remove_request(request)


class ItemResponse(Response):
    """The source Scrapy is given for an item from the queue. Item signals carry it, and so tell whose they are.

    ``outcome`` is "scraped", "dropped" or "error" once Scrapy has told; ``item`` is what the pipelines made of it.
    """

    outcome: str | None = None
    item: object = None


def hand_on(crawler: Crawler, item: object, response: ItemResponse) -> Deferred[None]:
    """Send ``item`` through ITEM_PIPELINES; fires after its signal was sent.

    It runs as the callback of a response in the scraper: the slot then is active for as long as the pipelines
    take, which a bare ``start_itemproc_async`` does not keep right on Scrapy 2.19 (closing in the middle hangs).
    The callback yields nothing, so the item does not meet the spider middlewares a second time.
    """
    assert crawler.engine is not None
    scraper = crawler.engine.scraper

    async def callback(response: Response) -> None:
        _handed_on.set(True)
        if hasattr(scraper, "start_itemproc_async"):
            await scraper.start_itemproc_async(item, response=response)
        else:  # Scrapy 2.13
            await maybe_deferred_to_future(scraper.start_itemproc(item, response=response))

    request = Request(PLACEHOLDER_URL, callback=callback, dont_filter=True)
    response.request = request
    return scraper.enqueue_scrape(response, request)
