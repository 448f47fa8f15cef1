"""The courier: one thread that makes every call to the queue, so that Scrapy's thread never waits for Redis.

A call that meets an unreachable or unwilling Redis is made again, with backoff, until it gets through: acks are
kept and sent later, scraped items wait, nothing is dropped. One warning says so, and one line that it is over.
Knows the queue and threads; nothing of Scrapy. Outcomes go through ``deliver``, which brings them to the caller's
thread.
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

from scrapy_chunkdl.queue.client import REDIS_ERRORS, explain
from scrapy_chunkdl.queue.item_queue import ItemQueue

logger = logging.getLogger(__name__)

T = TypeVar("T")
Deliver = Callable[[Callable[[], object]], object]

MOST_AT_ONCE = 100
"""Items per push or ack script: 100 keep Redis busy for about 3 ms, 1000 block it for 23 ms (measured)."""

GATHER = 0.01
"""Seconds an ack waits for others to go with it. For 2,000 items the courier took 0.18 s of CPU before, now 0.12 s."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class QueueUnavailable(Exception):
    """Redis could not be reached and the caller is about to go: the call was given up."""


@dataclass(slots=True)
class _Ack:
    item_id: str
    finished: bytes | None
    done: Callable[[bool], None]


@dataclass(slots=True)
class _Push:
    payload: bytes
    done: Callable[[BaseException | None], None]


@dataclass(slots=True)
class _Call:
    function: Callable[[], Any]
    done: Callable[[Any], None]
    refused: Callable[[], None] | None


class Courier(threading.Thread):
    """Carries calls to ``queue`` in the order they were given; acks, or pushes, that follow each other go as one.

    ``patience`` is how many seconds Redis may be away before its first answer; past that ``on_unreachable`` is called,
    once, with a sentence that says why; so it is after a call that fails by a bug. Once Redis has answered, the courier
    waits for it as long as it takes.
    """

    def __init__(
        self, queue: ItemQueue, *, deliver: Deliver, patience: float, on_unreachable: Callable[[str], None]
    ) -> None:
        super().__init__(name="chunkdl-courier", daemon=True)
        self._queue = queue
        self._deliver = deliver
        self._patience = patience
        self._on_unreachable = on_unreachable
        self._wakeup = threading.Condition()
        self._errands: deque[_Ack | _Push | _Call] = deque()
        self._push_number = 0
        self._closing = False
        self.gave_up = False
        self._refuses = False
        self._answered = False
        self._told_unreachable = False
        self._trouble_since: float | None = None

    def push(self, payload: bytes, done: Callable[[BaseException | None], None]) -> None:
        """Append an item to the list; ``done`` gets None, or why it could not be."""
        self._add(_Push(payload, done))

    def ack(self, item_id: str, finished: bytes | None, done: Callable[[bool], None]) -> None:
        """Acknowledge an item; ``done`` gets False when its lease was lost to another process."""
        self._add(_Ack(item_id, finished, done))

    def call(
        self, function: Callable[[], T], done: Callable[[T], None], refused: Callable[[], None] | None = None
    ) -> None:
        """Make any other call to the queue; ``done`` gets its result, or ``refused`` is called if it was given up."""
        self._add(_Call(function, done, refused))

    def close(self, timeout: float) -> None:
        """Send what is left, for ``timeout`` seconds at most, then stop. What could not be sent is given up."""
        with self._wakeup:
            self._closing = True
            self._wakeup.notify()
        self.join(timeout)
        self.give_up()
        self.join(1.0)

    def give_up(self) -> None:
        """Stop waiting for Redis: pushes fail with :class:`QueueUnavailable`, leases are left to expire."""
        with self._wakeup:
            self.gave_up = True
            self._wakeup.notify()

    @property
    def in_trouble(self) -> bool:
        """Whether Redis did not answer the last call."""
        return self._trouble_since is not None

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
            self._wakeup.wait_for(lambda: self._errands or self._closing)
            if self._only_acks():
                self._wakeup.wait_for(lambda: not self._only_acks() or self._closing, timeout=GATHER)
            group: list[Any] = []
            while self._errands and len(group) < MOST_AT_ONCE:
                if group and (type(self._errands[0]) is not type(group[0]) or isinstance(group[0], _Call)):
                    break
                group.append(self._errands.popleft())
            return group

    def _only_acks(self) -> bool:
        return 0 < len(self._errands) < MOST_AT_ONCE and all(isinstance(errand, _Ack) for errand in self._errands)

    def _send(self, errands: list[_Ack] | list[_Push] | list[_Call]) -> None:
        acks = [errand for errand in errands if isinstance(errand, _Ack)]
        pushes = [errand for errand in errands if isinstance(errand, _Push)]
        if acks:
            kept = set(self._insist(lambda: self._queue.ack([(ack.item_id, ack.finished) for ack in acks])))
            self._deliver(partial(_tell_acks, acks, kept))
        elif pushes:
            self._push_number += 1  # the same number for every try: a push whose reply was lost is not made twice
            self._insist(lambda: self._queue.push([push.payload for push in pushes], self._push_number))
            self._deliver(partial(_tell_pushes, pushes, None))
        for errand in errands:
            if isinstance(errand, _Call):
                self._deliver(partial(errand.done, self._insist(errand.function)))

    def _refuse(self, errands: list[_Ack] | list[_Push] | list[_Call], error: QueueUnavailable) -> None:
        self._deliver(partial(_tell_pushes, [errand for errand in errands if isinstance(errand, _Push)], error))
        for errand in errands:
            if isinstance(errand, _Call) and errand.refused is not None:
                self._deliver(errand.refused)

    def _insist(self, function: Callable[[], T]) -> T:
        """Call until Redis answers. Raises :class:`QueueUnavailable` once the courier was told to give up.

        What comes after a call that was given up is not made either, though Redis may be back: an ack must not get
        through without the records of its item's files.
        """
        pause = _FIRST_PAUSE
        while True:
            if self._refuses:
                raise QueueUnavailable("Redis could not be reached and the crawl is closing")
            try:
                result = function()
            except REDIS_ERRORS as error:
                self._note_trouble(error)
            else:
                self._note_answer()
                return result
            with self._wakeup:
                self._wakeup.wait_for(lambda: self.gave_up, timeout=pause * random.uniform(0.5, 1.0))
                self._refuses = self.gave_up
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _note_trouble(self, error: Exception) -> None:
        now = time.monotonic()
        if self._trouble_since is None:
            self._trouble_since = now
            logger.warning("%s Waiting for it; nothing is lost meanwhile.", explain(error))
        if not self._answered and now - self._trouble_since >= self._patience:
            self._tell_unreachable(f"{explain(error)} Waited {self._patience:g} s (CHUNKDL_REDIS_WAIT).")

    def _note_answer(self) -> None:
        self._answered = True
        if self._trouble_since is not None:
            logger.info("Redis is back after %.1f s.", time.monotonic() - self._trouble_since)
            self._trouble_since = None

    def _tell_unreachable(self, reason: str) -> None:
        if not self._told_unreachable:
            self._told_unreachable = True
            self._deliver(partial(self._on_unreachable, reason))


def _tell_acks(acks: list[_Ack], kept: set[str]) -> None:
    for ack in acks:
        ack.done(ack.item_id in kept)


def _tell_pushes(pushes: list[_Push], problem: BaseException | None) -> None:
    for push in pushes:
        push.done(problem)
