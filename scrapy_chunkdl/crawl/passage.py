"""The way of items through ITEM_PIPELINES: what is scraped is queued in front of them, what comes back passes them.

Knows the inside of Scrapy's scraper; nothing of queues or downloads. Everything here happens on Scrapy's thread.

Each item passes ``Scraper.start_itemproc_async`` (Scrapy 2.13: ``start_itemproc``), whoever sends it: a callback,
``start()``, or a pipeline that splits an item. So that one call is wrapped. An item that :meth:`Passage.send` sends
goes through it with a :class:`Delivery`, which our pipeline takes once, by the identity of the item: what a pipeline
behind starts on the way, requests, pages and their items among it, finds none. Nothing here is kept in a context
variable, as Scrapy runs its next page in the context of whatever made it look for one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import DropItem
from scrapy.http import TextResponse
from scrapy.utils.defer import deferred_from_coro, maybe_deferred_to_future
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scrapy_chunkdl.crawl import scrapy_engine
from scrapy_chunkdl.crawl.scrapy_engine import PLACEHOLDER_URL

MayEmit = Callable[[], "bool | Deferred[bool]"]

Admit = Callable[[Any], Awaitable[tuple[Any, bool]]]
"""Queues a scraped item. Returns what became of it before, and whether it waits for its files now."""


@dataclass(slots=True, eq=False)
class Delivery:
    """An item that comes from the queue, with what our pipeline has to know of it.

    ``results`` are for our pipeline, ``may_emit`` is asked when the last pipeline is through. ``outcome`` then is
    "scraped", "dropped", "lost", "error" or "refused" (by a feed), ``output`` what the pipelines made of the item, and
    ``error`` what they, or the feed, raised.
    """

    item: object
    results: Sequence[Any]
    may_emit: MayEmit
    outcome: str = "error"
    output: object = None
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class Admitted:
    """A scraped item that was looked at in front of the pipelines, and wants no files."""

    item: object


@dataclass(slots=True, eq=False)
class _NotQueued:
    """A scraped item that could not be queued. Our pipeline raises why, so that Scrapy tells it as any item's error."""

    item: object
    error: Exception


class LeaseLost(DropItem):
    """Takes an item out behind the last pipeline: another process has it now and will emit it."""

    def __init__(self) -> None:
        super().__init__("its lease was lost while it was in the pipelines", log_level="DEBUG")


class Passage:
    """Sends items from the queue through ITEM_PIPELINES, CONCURRENT_ITEMS of them at once.

    While items are on their way, until :meth:`rest` finds none, a request that is never sent keeps the scraper's slot
    active: a bare ``start_itemproc_async`` does not keep it right on Scrapy 2.19 (closing in the middle hangs). It
    meets neither callbacks nor spider middlewares.

    An item whose ``may_emit`` says no when the last pipeline is through with it is dropped with :class:`LeaseLost`. No
    pipeline of ours could stand there for sure, and what listens to ``item_scraped``, feed exports among it, cannot be
    told to leave an item alone: so the call that runs all pipelines is wrapped, too, whichever of its two names
    Scrapy calls (an ITEM_PROCESSOR may override either). It tells the outcome: a receiver of Scrapy's item signals
    would cost each item a task more.
    """

    def __init__(self, crawler: Crawler, admit: Admit | None) -> None:
        assert crawler.engine is not None
        self._scraper: Any = crawler.engine.scraper
        self._most = max(1, crawler.settings.getint("CONCURRENT_ITEMS"))
        self._admit = admit
        self._waiting: deque[tuple[Delivery, Callable[[], object]]] = deque()
        self._running = 0
        self._arriving: dict[int, Delivery | Admitted | _NotQueued] = {}
        self._watching: dict[int, Delivery] = {}
        self._emitted: dict[int, Delivery] = {}
        self._holder: Request | None = None
        self._response = TextResponse(PLACEHOLDER_URL, encoding="utf-8", request=Request(PLACEHOLDER_URL))
        self._context = copy_context()
        scrapy_engine.send_directly(self._scraper)
        self._start_itemproc = self._wrap_scraper()
        self._wrap_pipelines()

    def send(self, delivery: Delivery, then: Callable[[], object]) -> None:
        """Send an item on its way; ``then`` is called after its signal was sent."""
        self._waiting.append((delivery, then))
        self._hold_slot()
        self._start_waiting()

    def take(self, item: object) -> Delivery | Admitted | None:
        """Return what is known of an item that has reached our pipeline, once; None if it was not looked at yet.

        Raises what kept a scraped item from being queued.
        """
        arrived = self._arriving.pop(id(item), None) or self._arrived_as_a_copy(item)
        if isinstance(arrived, _NotQueued):
            raise arrived.error
        return arrived

    def refused(self, output: object, error: Exception) -> None:
        """Note that a feed did not take what the pipelines made of an item: it has not come out."""
        delivery = self._emitted.get(id(output))
        if delivery is not None:
            delivery.outcome, delivery.error = "refused", error

    def rest(self) -> bool:
        """Let go of the scraper's slot if no item is on its way; True if it was held.

        Called now and then, and when there are no more to come.
        """
        if self._running or self._waiting or self._holder is None:
            return False
        holder, self._holder = self._holder, None
        self._scraper.slot.finish_response(self._response, holder)
        self._scraper._check_if_closing()
        return True

    def _hold_slot(self) -> None:
        if self._holder is None:
            self._holder = Request(PLACEHOLDER_URL)
            slot = self._scraper.slot
            slot.active.add(self._holder)
            slot.active_size += slot.MIN_RESPONSE_SIZE  # as for any response; finish_response takes it off

    def _arrived_as_a_copy(self, item: object) -> Delivery | Admitted | _NotQueued | None:
        """Find what an ITEM_PROCESSOR copied on the way to us. Else such an item would be queued for ever."""
        copied = next((key for key, arrived in self._arriving.items() if _are_equal(arrived.item, item)), None)
        return self._arriving.pop(copied) if copied is not None else None

    def _wrap_scraper(self) -> Callable[..., Any]:
        """Have each item pass :meth:`_enter`, and return what Scrapy does with it then."""
        scraper = self._scraper
        if hasattr(scraper, "start_itemproc_async"):
            start: Callable[..., Any] = scraper.start_itemproc_async
            scraper.start_itemproc_async = self._enter
            return start
        start = scraper.start_itemproc  # Scrapy 2.13
        scraper.start_itemproc = lambda item, **arguments: deferred_from_coro(self._enter(item, **arguments))
        return start

    async def _enter(self, item: object, *, response: Any) -> None:
        """Queue a scraped item, or let it through to the pipelines."""
        if self._admit is not None:
            slot = self._scraper.slot
            slot.itemproc_size += 1
            try:
                item, is_queued = await self._admit(item)
            except Exception as error:  # noqa: BLE001 -- a hook's, or the queue's: our pipeline raises it
                self._arriving[id(item)] = _NotQueued(item, error)
            else:
                if is_queued:
                    return
                self._arriving[id(item)] = Admitted(item)
            finally:
                slot.itemproc_size -= 1
        try:
            await _awaitable(self._start_itemproc(item, response=response))
        finally:
            self._arriving.pop(id(item), None)

    def _wrap_pipelines(self) -> None:
        pipelines = self._scraper.itemproc
        if hasattr(pipelines, "process_item_async"):  # not in Scrapy 2.13
            pipelines.process_item_async = partial(self._process, pipelines.process_item_async)
        if hasattr(pipelines, "process_item"):
            process = partial(self._process, pipelines.process_item)
            pipelines.process_item = lambda item, *arguments: deferred_from_coro(process(item, *arguments))

    async def _process(self, process: Callable[..., Any], item: object, *arguments: object) -> object:
        delivery = self._watching.pop(id(item), None)
        try:
            output = await _awaitable(process(item, *arguments))
            if delivery is not None:
                may_emit = delivery.may_emit()
                if not (may_emit if isinstance(may_emit, bool) else await maybe_deferred_to_future(may_emit)):
                    raise LeaseLost
                delivery.outcome, delivery.output = "scraped", output
                self._emitted[id(output)] = delivery
        except DropItem as drop:
            if delivery is not None:
                delivery.outcome = "lost" if isinstance(drop, LeaseLost) else "dropped"
            raise
        except Exception as error:
            if delivery is not None:
                delivery.error = error
            raise
        return output

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._most:
            delivery, then = self._waiting.popleft()
            self._running += 1
            self._arriving[id(delivery.item)] = self._watching[id(delivery.item)] = delivery
            self._context.copy().run(self._pass_through, delivery, then)

    def _pass_through(self, delivery: Delivery, then: Callable[[], object]) -> None:
        started = self._start_itemproc(delivery.item, response=self._response)
        scrapy_engine.when_done(started, lambda problem: self._passed(problem, delivery, then))

    def _passed(self, problem: object, delivery: Delivery, then: Callable[[], object]) -> None:
        if problem is not None:  # nobody was told: of a log formatter that fails, or a pipeline that is cancelled
            delivery.outcome = "error"
            raised = problem.value if isinstance(problem, Failure) else problem
            delivery.error = delivery.error or (raised if isinstance(raised, BaseException) else None)
        for kept, thing in (
            (self._arriving, delivery.item),
            (self._watching, delivery.item),
            (self._emitted, delivery.output),
        ):
            if kept.get(id(thing)) is delivery:
                del kept[id(thing)]
        self._running -= 1
        then()
        self._start_waiting()


def _awaitable(result: Any) -> Awaitable[Any]:
    return maybe_deferred_to_future(result) if isinstance(result, Deferred) else result


def _are_equal(one: object, other: object) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 -- of the item's class: whatever it is, it is no copy
        return False
