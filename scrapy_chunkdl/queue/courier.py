"""The courier: one thread that makes every call to the queue, so that Scrapy's thread never waits for Redis.

A call that meets an unreachable or unwilling Redis is made again, with backoff, until it gets through: acks are
kept and sent later, scraped items wait, nothing is dropped. One warning says so, and one line that it is over. What
waiting cannot cure is not waited for without end. What is too large for Redis, or for what stands before it, is sent in
smaller requests, and what is refused alone is set aside in a file. Knows the queue and threads; nothing of Scrapy.
Outcomes go through ``deliver``, which brings them to the caller's thread.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from scrapy_chunkdl.queue.errors import LARGE_BYTES, REDIS_ERRORS, Verdict, Way, judge
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.refused import Refused
from scrapy_chunkdl.services.thread import ServiceThread

logger = logging.getLogger(__name__)

T = TypeVar("T")
Deliver = Callable[[Callable[[], object]], object]

MOST_AT_ONCE = 100
"""Items per push or ack script: 100 keep Redis busy for about 3 ms, 1000 block it for 23 ms (measured)."""

GATHER = 0.01
"""Seconds an ack waits for others to go with it. For 2,000 items the courier took 0.18 s of CPU before, now 0.12 s."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

_TO_GIVE_UP_S = 1.0
"""Seconds that a call to Redis which is given up may still take."""

_BREAKS = 5
"""Times that a large request may end its connection, while a small one gets through, until it counts as refused."""

_SMALLEST_BYTES = 4 << 10
"""Bytes of a request that is not made any smaller."""


class QueueUnavailable(Exception):
    """Redis could not be reached and the caller is about to go: the call was given up."""


class TooLarge(Exception):
    """Redis, or what stands before it, does not take a thing for its size. The message says where it is kept."""


@dataclass(slots=True)
class _Ack:
    item_id: str
    finished: bytes | None
    done: Callable[[bool], None]

    @property
    def size_bytes(self) -> int:
        return len(self.item_id) + len(self.finished or b"")


@dataclass(slots=True)
class _Push:
    payload: bytes
    done: Callable[[BaseException | None], None]
    priority: int

    @property
    def size_bytes(self) -> int:
        return len(self.payload)


@dataclass(slots=True)
class _Call:
    function: Callable[[], Any]
    done: Callable[[Any], None]
    refused: Callable[[], None] | None
    aside: Callable[[str], Any] | None
    size_bytes: int = 0


class Courier(ServiceThread):
    """Carries calls to ``queue`` in the order they were given; acks, or pushes of one priority, that follow each other
    go as one.

    ``patience`` is how many seconds Redis may be away before its first answer; past that ``on_unreachable`` is called,
    once, with a sentence that says why; so it is after a call that fails by a bug. Once Redis has answered, the courier
    waits for it as long as it takes. What waiting does not cure (a wrong password) is not waited for at first, and
    later no longer than ``patience``. ``way`` is how Redis is connected to, ``refused`` where too large things go.
    """

    ends_within_s = 6.0

    def __init__(
        self,
        queue: ItemQueue,
        *,
        deliver: Deliver,
        patience: float,
        on_unreachable: Callable[[str], None],
        way: Way = Way(),  # noqa: B008 -- frozen
        refused: Refused | None = None,
    ) -> None:
        super().__init__("chunkdl-courier")
        self._queue = queue
        self._way = way
        self._refused = refused or Refused()
        self._hopeless_since: float | None = None
        self._deliver = deliver
        self._patience = patience
        self._on_unreachable = on_unreachable
        self._wakeup = threading.Condition()
        self._errands: deque[_Ack | _Push | _Call] = deque()
        self._push_number = 0
        self._pushes_at_once = MOST_AT_ONCE
        self._push_pause_s = 0.0
        self._push_again_at = 0.0
        """Before that no push is made: Redis had no room for the last one. What makes room goes past them."""
        self.gave_up = False
        self._refuses = False
        self._answered = False
        self._told_unreachable = False
        self._trouble_since: float | None = None

    def push(self, payload: bytes, done: Callable[[BaseException | None], None], priority: int = 0) -> None:
        """Append an item to the list of its priority; ``done`` gets None, or why it could not be."""
        self._add(_Push(payload, done, priority))

    def ack(self, item_id: str, finished: bytes | None, done: Callable[[bool], None]) -> None:
        """Acknowledge an item; ``done`` gets False when its lease was lost to another process."""
        self._add(_Ack(item_id, finished, done))

    def call(
        self,
        function: Callable[[], T],
        done: Callable[[T], None],
        refused: Callable[[], None] | None = None,
        aside: Callable[[str], T] | None = None,
    ) -> None:
        """Make any other call to the queue; ``done`` gets its result, or ``refused`` is called if it was given up.

        ``aside``, on the courier's thread, keeps elsewhere what Redis does not take for its size, for the reason that
        it is given, and returns the result instead.
        """
        self._add(_Call(function, done, refused, aside))

    def wake(self) -> None:
        """Send what is left, and then end."""
        with self._wakeup:
            self._wakeup.notify()

    def await_end(self) -> None:
        """Wait until all is sent; what cannot be sent until a second before the time is over is given up."""
        self.join(self.ends_within_s - _TO_GIVE_UP_S)
        self.give_up()
        self.join(_TO_GIVE_UP_S)

    def give_up(self) -> None:
        """Stop waiting for Redis: pushes fail with :class:`QueueUnavailable`, leases are left to expire."""
        with self._wakeup:
            self.gave_up = True
            self._wakeup.notify()

    @property
    def in_trouble(self) -> bool:
        """Whether Redis did not answer the last call, or has no room for pushes."""
        return self._trouble_since is not None or self._push_pause_s > 0

    def _add(self, errand: _Ack | _Push | _Call) -> None:
        with self._wakeup:
            self._errands.append(errand)
            if not isinstance(errand, _Ack) or len(self._errands) in (1, MOST_AT_ONCE):  # others only join the first
                self._wakeup.notify()

    def run(self) -> None:
        while errands := self._next():
            try:
                self._send(errands)
            except QueueUnavailable as error:
                self._refuse(errands, error)
            except Exception as error:
                logger.error("A call to the queue failed by a bug or a wrong setting", exc_info=error)
                self.give_up()
                self._refuse(errands, QueueUnavailable(str(error)))
                self._tell_unreachable(f"The queue cannot be used: {error}")

    def _next(self) -> list[_Ack] | list[_Push] | list[_Call]:
        """Wait for errands and return the next that can go together; none when the courier is to stop."""
        with self._wakeup:
            self._wakeup.wait_for(lambda: self._errands or self.stopping.is_set())
            self._let_others_pass()
            if self._only_acks():
                self._wakeup.wait_for(lambda: not self._only_acks() or self.stopping.is_set(), timeout=GATHER)
            group: list[Any] = []
            size_bytes = 0
            while self._errands and len(group) < MOST_AT_ONCE:
                if len(group) >= self._pushes_at_once and isinstance(group[0], _Push):
                    break
                size_bytes += self._errands[0].size_bytes
                if group and (isinstance(group[0], _Call) or not _go_together(self._errands[0], group[0])):
                    break
                if group and size_bytes > self._queue.most_bytes:
                    break
                group.append(self._errands.popleft())
            return group

    def _let_others_pass(self) -> None:
        """Put the first errand that is no push before the pushes that wait for room, or wait with them."""
        while self._errands and isinstance(self._errands[0], _Push) and not self.gave_up:
            left_s = self._push_again_at - time.monotonic()
            if left_s <= 0:
                return
            other = next((errand for errand in self._errands if not isinstance(errand, _Push)), None)
            if other is not None:
                self._errands.remove(other)
                self._errands.appendleft(other)
                return
            self._wakeup.wait(left_s)

    def _only_acks(self) -> bool:
        return 0 < len(self._errands) < MOST_AT_ONCE and all(isinstance(errand, _Ack) for errand in self._errands)

    def _send(self, errands: list[_Ack] | list[_Push] | list[_Call]) -> None:
        acks = [errand for errand in errands if isinstance(errand, _Ack)]
        pushes = [errand for errand in errands if isinstance(errand, _Push)]
        if acks:
            self._send_acks(acks)
        elif pushes:
            self._send_pushes(pushes)
        for errand in errands:
            if isinstance(errand, _Call):
                self._deliver(partial(errand.done, self._make_call(errand)))

    def _send_acks(self, acks: list[_Ack]) -> None:
        size_bytes = sum(ack.size_bytes for ack in acks)
        try:
            kept = set(self._insist(lambda: self._queue.ack([(a.item_id, a.finished) for a in acks]), size_bytes))
        except _Refusal as refusal:
            self._learn(size_bytes)
            if len(acks) > 1:
                self._send_acks(acks[: len(acks) // 2])
                self._send_acks(acks[len(acks) // 2 :])
                return
            [ack] = acks
            self._refused.keep("finished", ack.finished or b"", refusal.verdict.sentence)
            kept = set(self._insist(lambda: self._queue.ack([(ack.item_id, None)])))
        self._deliver(partial(_tell_acks, acks, kept))

    def _send_pushes(self, pushes: list[_Push]) -> None:
        self._push_number += 1  # the same number for every try: a push whose reply was lost is not made twice
        number, size_bytes = self._push_number, sum(push.size_bytes for push in pushes)
        problem: TooLarge | None = None
        try:
            payloads, priority = [push.payload for push in pushes], pushes[0].priority
            self._insist(lambda: self._queue.push(payloads, number, priority), size_bytes, may_wait=True)
        except _Full as full:
            self._wait_for_room(pushes, full)
            return
        except _Refusal as refusal:
            self._learn(size_bytes)
            if len(pushes) > 1:
                self._send_pushes(pushes[: len(pushes) // 2])
                self._send_pushes(pushes[len(pushes) // 2 :])
                return
            problem = TooLarge(self._refused.keep("item", pushes[0].payload, refusal.verdict.sentence))
        if self._push_pause_s:
            self._push_pause_s, self._pushes_at_once = 0.0, MOST_AT_ONCE
            logger.info("Redis has room again: pushes go on.")
        self._deliver(partial(_tell_pushes, pushes, problem))

    def _wait_for_room(self, pushes: list[_Push], full: _Full) -> None:
        """Make pushes again later, fewer at once. Redis has made none of them."""
        if not self._push_pause_s:
            logger.warning("%s Pushes wait for it; nothing is lost meanwhile.", full.verdict.sentence)
        self._pushes_at_once = max(1, len(pushes) // 2)
        self._push_pause_s = min(max(_FIRST_PAUSE, 2 * self._push_pause_s), _LONGEST_PAUSE)
        self._push_again_at = time.monotonic() + self._push_pause_s * random.uniform(0.5, 1.0)
        with self._wakeup:
            if self.gave_up:
                raise QueueUnavailable("Redis has no room and the crawl is closing")
            self._errands.extendleft(reversed(pushes))

    def _make_call(self, call: _Call) -> Any:
        while True:
            try:
                return self._insist(call.function, LARGE_BYTES if call.aside is not None else 0)
            except _Refusal as refusal:
                if self._queue.most_bytes <= _SMALLEST_BYTES and call.aside is not None:
                    return call.aside(refusal.verdict.sentence)
                self._learn(self._queue.most_bytes)  # the call makes its requests no larger than that

    def _learn(self, refused_bytes: int) -> None:
        """Make no more requests of a size that was refused, if they can be smaller."""
        self._queue.most_bytes = max(_SMALLEST_BYTES, min(self._queue.most_bytes, refused_bytes // 2))

    def _refuse(self, errands: list[_Ack] | list[_Push] | list[_Call], error: QueueUnavailable) -> None:
        self._deliver(partial(_tell_pushes, [errand for errand in errands if isinstance(errand, _Push)], error))
        for errand in errands:
            if isinstance(errand, _Call) and errand.refused is not None:
                self._deliver(errand.refused)

    def _insist(self, function: Callable[[], T], size_bytes: int = 0, *, may_wait: bool = False) -> T:
        """Call until Redis answers. Raises :class:`QueueUnavailable` once the courier was told to give up.

        What comes after a call that was given up is not made either, though Redis may be back: an ack must not get
        through without the records of its item's files. Raises :class:`_Refusal` for a request of ``size_bytes``, if
        told, that is too large: Redis says so, or ends the connection each time while a small request gets through;
        :class:`_Full` for one that ``may_wait`` until there is room, while others are made.
        """
        pause, breaks = _FIRST_PAUSE, 0
        while True:
            if self._refuses:
                raise QueueUnavailable("Redis could not be reached and the crawl is closing")
            try:
                result = function()
            except REDIS_ERRORS as error:
                verdict = judge(error, self._way)
                if verdict.is_too_large and size_bytes:
                    raise _Refusal(verdict) from error
                if verdict.is_full and may_wait:
                    raise _Full(verdict) from error
                is_there = verdict.is_broken and size_bytes >= LARGE_BYTES and self._answers_a_small_request()
                breaks = breaks + 1 if is_there else 0
                if breaks == _BREAKS:
                    sentence = f"Redis, or what stands before it, ends each request of {size_bytes} bytes."
                    raise _Refusal(Verdict(sentence, is_too_large=True)) from error
                if not is_there:
                    self._note_trouble(error)
            else:
                self._note_answer()
                return result
            with self._wakeup:
                self._wakeup.wait_for(lambda: self.gave_up, timeout=pause * random.uniform(0.5, 1.0))
                self._refuses = self.gave_up
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _answers_a_small_request(self) -> bool:
        try:
            self._queue.ping()
        except REDIS_ERRORS:
            return False
        return True

    def _note_trouble(self, error: Exception) -> None:
        now, verdict = time.monotonic(), judge(error, self._way)
        is_hopeless = not verdict.waiting_helps
        self._hopeless_since = (self._hopeless_since or now) if is_hopeless else None
        gives_up_at_once = is_hopeless and not self._answered
        if self._trouble_since is None:
            self._trouble_since = now
            if not gives_up_at_once:
                logger.warning("%s Waiting for it; nothing is lost meanwhile.", verdict.sentence)
        if gives_up_at_once:
            self._tell_unreachable(verdict.sentence)
        elif is_hopeless or not self._answered:
            since = self._hopeless_since or self._trouble_since
            if now - since >= self._patience:
                self._tell_unreachable(f"{verdict.sentence} Waited {self._patience:g} s (CHUNKDL_REDIS_WAIT).")

    def _note_answer(self) -> None:
        self._answered = True
        if self._trouble_since is not None:
            logger.info("Redis is back after %.1f s.", time.monotonic() - self._trouble_since)
            self._trouble_since = None
        self._hopeless_since = None

    def _tell_unreachable(self, reason: str) -> None:
        if not self._told_unreachable:
            self._told_unreachable = True
            self._deliver(partial(self._on_unreachable, reason))


class _Refusal(Exception):
    """A request is too large; what it carried may go in smaller ones."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.sentence)
        self.verdict = verdict


def _go_together(one: _Ack | _Push | _Call, other: _Ack | _Push | _Call) -> bool:
    return type(one) is type(other) and getattr(one, "priority", 0) == getattr(other, "priority", 0)


class _Full(_Refusal):
    """Redis has no room for a request, and has done nothing of it."""


def _tell_acks(acks: list[_Ack], kept: set[str]) -> None:
    for ack in acks:
        _tell(ack.done, ack.item_id in kept)


def _tell_pushes(pushes: list[_Push], problem: BaseException | None) -> None:
    for push in pushes:
        _tell(push.done, problem)


def _tell(done: Callable[[T], None], outcome: T) -> None:
    try:
        done(outcome)
    except Exception as error:  # of one item: the others that came with it are told all the same
        logger.error("What follows an answer of Redis failed by a bug of scrapy-chunkdl", exc_info=error)
