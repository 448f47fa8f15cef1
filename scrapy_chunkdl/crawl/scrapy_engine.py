"""The few places of Scrapy's engine that this plugin leans on, for every version and reactor it runs under.

Knows Scrapy's inside so that nothing else must; nothing of queues or downloads. All functions are called on Scrapy's
thread, after the spider was opened.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from inspect import CO_VARKEYWORDS, iscoroutinefunction
from types import FunctionType, SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeVar

from pydispatch import dispatcher
from pydispatch.robustapply import robustApply
from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider, StopDownload
from scrapy.http import Response
from scrapy.settings import BaseSettings, Settings
from scrapy.utils.defer import deferred_from_coro, maybe_deferred_to_future
from scrapy.utils.misc import load_object
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

try:
    from scrapy.utils.asyncio import create_looping_call, is_asyncio_available
except ImportError:  # Scrapy 2.13
    from scrapy.utils.reactor import is_asyncio_reactor_installed as is_asyncio_available
    from twisted.internet.task import LoopingCall as create_looping_call  # type: ignore[assignment]

PLACEHOLDER_URL = "data:,chunkdl"

_LOOK_EVERY = 0.05
"""Seconds between looks at whether an engine that has to be closed runs yet."""

T = TypeVar("T")


def is_trial(crawler: Crawler) -> bool:
    """Tell whether ``scrapy parse``, ``check`` or ``fetch`` runs the spider: they give its class a start of theirs."""
    start = getattr(type(crawler.spider), "start", None)
    return getattr(start, "__module__", "").startswith("scrapy.commands.")


class Ticker(Protocol):
    """A started looping call."""

    def stop(self) -> object: ...


def thread_caller() -> Callable[[Callable[[], object]], object]:
    """Return a function that, from any thread, has its argument called on Scrapy's own thread.

    Where there is no reactor, as in a command that only reads, that is the thread of the running loop: Scrapy 2.13
    does not tell of asyncio without one.
    """
    if "twisted.internet.reactor" not in sys.modules or is_asyncio_available():
        return asyncio.get_running_loop().call_soon_threadsafe
    from twisted.internet import reactor

    call: Callable[[Callable[[], object]], object] = reactor.callFromThread
    return call


def every(seconds: float, function: Callable[[], object], *, now: bool = True) -> Ticker:
    """Call ``function`` every ``seconds``, beginning now or after the first of them."""
    call = create_looping_call(function)
    call.start(seconds, now=now)
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

    def look() -> None:
        if running.running:  # an engine that closes while it starts loses its finish reason, or goes on for ever
            ticker.stop()
            thread_caller()(close)
        elif running.spider is None:
            ticker.stop()

    def idle() -> None:
        raise CloseSpider(reason)

    running: Any = crawler.engine
    crawler.signals.connect(idle, signals.spider_idle, weak=False)  # one that has nothing to do may be quicker
    ticker = every(_LOOK_EVERY, look, now=False)


def begin_nothing(crawler: Crawler) -> None:
    """Have a spider that is about to be closed neither start nor have any request of its scheduler sent."""
    running: Any = crawler.engine
    running._start = None
    running.pause()


def make_no_requests(crawler: Crawler) -> None:
    """Have the spider neither start nor feed on the idle signal. To be called on ``engine_started``.

    One that feeds on the idle signal, such as scrapy-redis' RedisSpider, pops from a list that is not its to empty now.
    """
    running: Any = crawler.engine
    running._start = None
    for handler in list(dispatcher.liveReceivers(dispatcher.getReceivers(crawler, signals.spider_idle))):
        if getattr(handler, "__self__", None) is crawler.spider:
            crawler.signals.disconnect(handler, signals.spider_idle)


_OF_ANYBODY = id(dispatcher.Any)


class Announcer:
    """Sends signals. Receivers that take their time are waited for by nobody but the closing spider."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self.pending = 0

    def __call__(self, signal: object, **arguments: Any) -> None:
        """Send ``signal`` with ``spider`` and these arguments. What a receiver raises is logged."""
        if not self._has_receivers(signal):
            return
        manager = self._crawler.signals
        arguments["spider"] = self._crawler.spider
        if hasattr(manager, "send_catch_log_async"):
            sent: Deferred[Any] = deferred_from_coro(manager.send_catch_log_async(signal, **arguments))
        else:  # Scrapy 2.13
            sent = manager.send_catch_log_deferred(signal, **arguments)
        self.pending += 1
        sent.addBoth(self._sent)

    def _has_receivers(self, signal: object) -> bool:
        """Whether anybody ever listened. As ``getAllReceivers`` looks for them, which took 40 µs of each file."""
        for sender in (id(self._crawler), _OF_ANYBODY):
            known = dispatcher.connections.get(sender)
            if known and (known.get(signal) or known.get(dispatcher.Any)):
                return True
        return False

    def _sent(self, outcome: object) -> None:
        self.pending -= 1


class DirectSignals:
    """A manager of signals that calls receivers of Scrapy's own at once; all else is the ``manager``'s.

    That starts a task for each receiver of each item, which is most of what an item costs that nobody looks at. Where
    any receiver may take its time, a coroutine or one that is not Scrapy's, it is left to do so. How a function is
    called is looked at once: to look each time took 90 calls of each item.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._known: dict[object, _Called] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    async def send_catch_log_async(self, signal: object = dispatcher.Any, **arguments: Any) -> list[tuple[Any, Any]]:
        """Send a signal, as the manager does. What a receiver raises is logged."""
        sender = arguments.get("sender", self._manager.sender)
        live = dispatcher.liveReceivers(dispatcher.getAllReceivers(sender, signal))
        receivers = [(receiver, self._how(receiver)) for receiver in live]
        if "dont_log" in arguments or not all([called.returns_at_once for _, called in receivers]):
            sent: list[tuple[Any, Any]] = await self._manager.send_catch_log_async(signal, **arguments)
            return sent
        arguments |= {"signal": signal, "sender": sender}
        responses = []
        for receiver, called in receivers:
            try:
                response = called.call(receiver, arguments)
            except Exception as error:
                told, extra = {"receiver": receiver}, {"spider": arguments.get("spider")}
                _signals_logger.error("Error caught on signal handler: %(receiver)s", told, exc_info=True, extra=extra)
                response = error
            responses.append((receiver, response))
        return responses

    def _how(self, receiver: Any) -> _Called:
        function = getattr(receiver, "__func__", receiver)
        if type(function) is not FunctionType:
            return _Called.of(receiver)
        called = self._known.get(function)
        if called is None:
            called = self._known[function] = _Called.of(receiver)
        return called


def send_directly(scraper: Any) -> None:
    """Have what a scraper tells of items reach Scrapy's own receivers without a task for each."""
    scraper.signals = DirectSignals(scraper.signals)


_signals_logger = logging.getLogger("scrapy.utils.signal")


class _Called(NamedTuple):
    """How receivers of one function are called, see :func:`fitting`."""

    returns_at_once: bool
    call: Callable[[Any, dict[str, Any]], Any]

    @classmethod
    def of(cls, receiver: Any) -> _Called:
        is_scrapys = str(getattr(receiver, "__module__", "")).startswith("scrapy.")
        return cls(is_scrapys and not iscoroutinefunction(receiver), fitting(receiver))


def fitting(receiver: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """Return what calls a receiver of signals, or others of the same function, with those arguments that it takes.

    As pydispatch's robustApply does, which looks at the function each time.
    """
    function = getattr(receiver, "__func__", receiver)
    code = getattr(function, "__code__", None)
    if code is None:
        return lambda receiver, arguments: robustApply(receiver, **arguments)
    if code.co_flags & CO_VARKEYWORDS:
        return lambda receiver, arguments: receiver(**arguments)
    names = code.co_varnames[function is not receiver : code.co_argcount]
    return lambda receiver, arguments: receiver(**{name: arguments[name] for name in names if name in arguments})


def when_done(started: Coroutine[Any, Any, object] | Deferred[Any], then: Callable[[object], object]) -> None:
    """Call ``then`` with None when that has ended, with what it failed with if it has failed.

    A Deferred around each coroutine would cost 30 µs.
    """
    if isinstance(started, Deferred) or not is_asyncio_available():
        deferred = started if isinstance(started, Deferred) else deferred_from_coro(started)
        deferred.addCallbacks(lambda _: then(None), then)
        return

    def ended(task: asyncio.Task[object]) -> None:
        then(asyncio.CancelledError() if task.cancelled() else task.exception())

    asyncio.ensure_future(started).add_done_callback(ended)


def from_other_threads(
    call: Callable[[Callable[[], object]], object], function: Callable[[], Coroutine[Any, Any, T]]
) -> Callable[[], Awaitable[T]]:
    """Return what, awaited in another thread's loop, runs ``function`` on Scrapy's; ``call`` brings it there.

    What is not waited for any more is cancelled there.
    """

    async def awaited() -> T:
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        running: list[Deferred[T]] = []

        def settle(result: T | Failure) -> None:
            with suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
                if isinstance(result, Failure):
                    outcome.set_exception(result.value)
                else:
                    outcome.set_result(result)

        def start() -> None:
            running.append(deferred_from_coro(function()))
            running[0].addBoth(settle)

        call(start)
        try:
            return await asyncio.wrap_future(outcome)
        except asyncio.CancelledError:
            call(lambda: running[0].cancel())
            raise

    return awaited


async def download(crawler: Crawler, request: Request) -> Response:
    """Have the engine send a request, past the spider but through the downloader's middlewares, handlers and slots.

    Cancelled, it is not sent if it still waits in a slot; an answer that has begun is not read on. Scrapy has no way to
    end one that has not: its connection stays until DOWNLOAD_TIMEOUT, and nobody waits for it.
    """
    engine: Any = crawler.engine
    given_up = request.meta[_GIVEN_UP] = _GivenUp()  # redirects and retries take it along
    try:
        return await _downloaded(engine, request)
    except (asyncio.CancelledError, CancelledError):
        given_up.give_up(crawler)
        raise


_GIVEN_UP = "chunkdl_given_up"
"""The key of ``meta`` under which a request says whether its answer is still wanted."""


class _GivenUp:
    """Whether a request's answer is wanted no more."""

    def __init__(self) -> None:
        self.is_so = False

    def give_up(self, crawler: Crawler) -> None:
        """Have the request not be sent, or its answer not be read on (Scrapy's StopDownload)."""
        self.is_so = True
        for signal in (signals.headers_received, signals.bytes_received):
            crawler.signals.connect(_read_no_more, signal)
        downloader: Any = crawler.engine and crawler.engine.downloader
        for slot in getattr(downloader, "slots", {}).values():
            for entry in [entry for entry in slot.queue if entry[0].meta.get(_GIVEN_UP) is self]:
                slot.queue.remove(entry)


def _read_no_more(request: Request) -> None:
    given_up = request.meta.get(_GIVEN_UP)
    if given_up is not None and given_up.is_so:
        raise StopDownload(fail=True)


async def _downloaded(engine: Any, request: Request) -> Response:
    if hasattr(engine, "download_async"):
        answer = await engine.download_async(request)
    else:  # Scrapy 2.13
        answer = await maybe_deferred_to_future(engine.download(request))
    assert isinstance(answer, Response)
    return answer


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
        """Whether no callback and no pipeline is at work. Before that a release may hang Scrapy 2.19 for ever.

        Scrapy 2.13 counts items in pipelines, and calls itself idle with them: their results would miss the feeds.
        """
        slot = self._engine.scraper.slot
        return bool(slot.is_idle()) and not slot.itemproc_size

    def wake_idle_check(self) -> None:
        """Have the engine look again whether the spider is idle, rather than at its next heartbeat (5 s)."""
        if not self.is_closing:
            self._slot.nextcall.schedule()

    def release(self) -> None:
        """Let the spider close."""
        if self._request is not None:
            request, self._request = self._request, None
            self._slot.remove_request(request)


def crawler_to_read(spidercls: type[Spider], settings: BaseSettings) -> Crawler:
    """Return a crawler that is never run: its settings are those a crawl would have, and there is a spider."""
    crawler = Crawler(spidercls, Settings(settings))
    crawler.addons.load_settings(crawler.settings)
    crawler.stats = load_object(crawler.settings["STATS_CLASS"])(crawler)
    crawler.logformatter = load_object(crawler.settings["LOG_FORMATTER"]).from_crawler(crawler)
    crawler.spider = crawler._create_spider()
    crawler.extensions = SimpleNamespace(middlewares=())  # type: ignore[assignment]  # none runs, ours is asked for
    return crawler
