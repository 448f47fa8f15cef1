"""The few places of Scrapy's engine that this plugin leans on, for every version and reactor it runs under.

Knows Scrapy's inside so that nothing else must; nothing of queues or downloads. All functions are called on Scrapy's
thread, after the spider was opened.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydispatch import dispatcher
from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem
from scrapy.http import Response
from scrapy.utils.defer import deferred_from_coro, maybe_deferred_to_future
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

try:
    from scrapy.utils.asyncio import create_looping_call, is_asyncio_available
except ImportError:  # Scrapy 2.13
    from scrapy.utils.reactor import is_asyncio_reactor_installed as is_asyncio_available
    from twisted.internet.task import LoopingCall as create_looping_call  # type: ignore[assignment]

PLACEHOLDER_URL = "data:,chunkdl"

MayEmit = Callable[[], "Deferred[bool]"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class HandedOn:
    """An item that :class:`Pipelines` sent, while the pipelines run for it and after.

    ``results`` are for the first of them, ``may_emit`` is asked when the last is through. ``outcome`` then is
    "scraped", "dropped", "lost" or "error", and ``item`` what the pipelines made of it.
    """

    results: Sequence[Any]
    may_emit: MayEmit
    outcome: str = "error"
    item: object = None


_handed_on: ContextVar[HandedOn | None] = ContextVar("chunkdl_handed_on", default=None)


def handed_on() -> HandedOn | None:
    """Return what :class:`Pipelines` sent, None in pipelines that run for a scraped item. Holds for copies, too."""
    return _handed_on.get()


class LeaseLost(DropItem):
    """Takes an item out behind the last pipeline: another process has it now and will emit it."""

    def __init__(self) -> None:
        super().__init__("its lease was lost while it was in the pipelines", log_level="DEBUG")


def is_trial(crawler: Crawler) -> bool:
    """Tell whether ``scrapy parse``, ``check`` or ``fetch`` runs the spider: they give its class a start of theirs."""
    start = getattr(type(crawler.spider), "start", None)
    return getattr(start, "__module__", "").startswith("scrapy.commands.")


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


def make_no_requests(crawler: Crawler) -> None:
    """Have the spider neither start nor feed on the idle signal. To be called on ``engine_started``.

    One that feeds on the idle signal, such as scrapy-redis' RedisSpider, pops from a list that is not its to empty now.
    """
    running: Any = crawler.engine
    running._start = None
    for handler in list(dispatcher.liveReceivers(dispatcher.getReceivers(crawler, signals.spider_idle))):
        if getattr(handler, "__self__", None) is crawler.spider:
            crawler.signals.disconnect(handler, signals.spider_idle)


class Announcer:
    """Sends signals. Receivers that take their time are waited for by nobody but the closing spider."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self.pending = 0

    def __call__(self, signal: object, **arguments: Any) -> None:
        """Send ``signal`` with ``spider`` and these arguments. What a receiver raises is logged."""
        manager = self._crawler.signals
        if not any(True for _ in dispatcher.liveReceivers(dispatcher.getAllReceivers(self._crawler, signal))):
            return
        arguments["spider"] = self._crawler.spider
        if hasattr(manager, "send_catch_log_async"):
            sent: Deferred[Any] = deferred_from_coro(manager.send_catch_log_async(signal, **arguments))
        else:  # Scrapy 2.13
            sent = manager.send_catch_log_deferred(signal, **arguments)
        self.pending += 1
        sent.addBoth(self._sent)

    def _sent(self, outcome: object) -> None:
        self.pending -= 1


def from_other_threads(
    call: Callable[[Callable[[], object]], object], function: Callable[[], Coroutine[Any, Any, T]]
) -> Callable[[], Awaitable[T]]:
    """Return what, awaited in another thread's loop, runs ``function`` on Scrapy's; ``call`` brings it there."""

    async def awaited() -> T:
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

        def settle(result: T | Failure) -> None:
            with suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
                if isinstance(result, Failure):
                    outcome.set_exception(result.value)
                else:
                    outcome.set_result(result)

        call(lambda: deferred_from_coro(function()).addBoth(settle))
        return await asyncio.wrap_future(outcome)

    return awaited


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


class Pipelines:
    """Sends items from the queue through ITEM_PIPELINES, CONCURRENT_ITEMS of them at once.

    They run beside a callback of the scraper that lasts until :meth:`rest` finds none on its way: its slot then is
    active for as long as the pipelines take, which a bare ``start_itemproc_async`` does not keep right on Scrapy 2.19
    (closing in the middle hangs). One callback for many items, because Scrapy starts CONCURRENT_ITEMS tasks for each.
    It yields nothing, so the items do not meet the spider middlewares a second time.

    An item whose ``may_emit`` says no when the last pipeline is through with it is dropped with :class:`LeaseLost`. No
    pipeline of ours could stand there for sure, and what listens to ``item_scraped``, feed exports among it, cannot be
    told to leave an item alone: so the one call that runs all pipelines is wrapped. It tells the outcome, too: a
    receiver of Scrapy's item signals would cost each item a task more.
    """

    def __init__(self, crawler: Crawler) -> None:
        assert crawler.engine is not None
        self._scraper: Any = crawler.engine.scraper
        self._most = crawler.settings.getint("CONCURRENT_ITEMS")
        self._waiting: deque[tuple[object, HandedOn, Deferred[None]]] = deque()
        self._running = 0
        self._empty: Deferred[None] | None = None
        self._response = Response(PLACEHOLDER_URL)
        self._context = copy_context()
        self._wrap_pipelines()

    def send(self, item: object, handed_on: HandedOn) -> Deferred[None]:
        """Send ``item`` on its way; fires after its signal was sent."""
        sent: Deferred[None] = Deferred()
        self._waiting.append((item, handed_on, sent))
        if self._empty is None:
            self._empty = self._open_callback()
        self._start_waiting()
        return sent

    def _wrap_pipelines(self) -> None:
        pipelines = self._scraper.itemproc
        name = "process_item_async" if hasattr(pipelines, "process_item_async") else "process_item"  # Scrapy 2.13
        process = getattr(pipelines, name)

        async def wrapped(item: object, handed_on: HandedOn | None, arguments: Sequence[object]) -> object:
            try:
                processed = process(item, *arguments)
                output = await (maybe_deferred_to_future(processed) if isinstance(processed, Deferred) else processed)
                if handed_on is not None:
                    if not await maybe_deferred_to_future(handed_on.may_emit()):
                        raise LeaseLost
                    handed_on.outcome, handed_on.item = "scraped", output
            except DropItem as drop:
                if handed_on is not None:
                    handed_on.outcome = "lost" if isinstance(drop, LeaseLost) else "dropped"
                raise
            return output

        if name == "process_item_async":
            pipelines.process_item_async = lambda item: wrapped(item, _handed_on.get(), ())
        else:
            pipelines.process_item = lambda item, *rest: deferred_from_coro(wrapped(item, _handed_on.get(), rest))

    def _open_callback(self) -> Deferred[None]:
        """Have the scraper wait until what is returned fires."""
        empty: Deferred[None] = Deferred()

        async def until_empty(response: Response) -> None:
            await maybe_deferred_to_future(empty)

        request = Request(PLACEHOLDER_URL, callback=until_empty, dont_filter=True)
        self._response = Response(PLACEHOLDER_URL, request=request)
        self._scraper.enqueue_scrape(Response(PLACEHOLDER_URL), request)
        return empty

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._most:
            item, handed_on, sent = self._waiting.popleft()
            self._running += 1
            processed = self._context.copy().run(self._process, item, handed_on)
            processed.addBoth(self._processed, handed_on, sent)

    def _process(self, item: object, handed_on: HandedOn) -> Deferred[None]:
        _handed_on.set(handed_on)
        if hasattr(self._scraper, "start_itemproc_async"):
            return deferred_from_coro(self._scraper.start_itemproc_async(item, response=self._response))
        processed: Deferred[None] = self._scraper.start_itemproc(item, response=self._response)  # Scrapy 2.13
        return processed

    def _processed(self, result: Failure | None, handed_on: HandedOn, sent: Deferred[None]) -> None:
        if result is not None:  # nobody was told: a log formatter that fails does that
            handed_on.outcome = "error"
        self._running -= 1
        sent.callback(None)
        self._start_waiting()

    def rest(self) -> bool:
        """Let the callback end if no item is on its way; True if it was. The scraper is idle a moment later.

        Called now and then, and when there are no more to come.
        """
        if self._running or self._waiting or self._empty is None:
            return False
        empty, self._empty = self._empty, None
        empty.callback(None)
        return True
