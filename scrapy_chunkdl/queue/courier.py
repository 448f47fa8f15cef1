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
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from scrapy_chunkdl.queue.client import explain
from scrapy_chunkdl.queue.item_queue import ItemQueue

logger = logging.getLogger(__name__)

T = TypeVar("T")
Deliver = Callable[[Callable[[], None]], object]

MOST_AT_ONCE = 100
"""Items per push or ack script: 100 keep Redis busy for about 3 ms, 1000 block it for 23 ms (measured)."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class QueueUnavailable(Exception):
    """Redis could not be reached and the caller is about to go: the call was given up."""


class Courier(threading.Thread):
    """Carries calls to ``queue`` in order: acks first, then pushes, both in groups, then everything else.

    ``patience`` is how many seconds Redis may be away before its first answer; past that ``on_unreachable`` is called
    with a sentence that says why. Once Redis has answered, the courier waits for it as long as it takes.
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
        self._acks: deque[tuple[tuple[str, bytes | None], Callable[[bool], None]]] = deque()
        self._pushes: deque[tuple[bytes, Callable[[BaseException | None], None]]] = deque()
        self._calls: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._push_number = 0
        self._closing = False
        self.gave_up = False
        self._answered = False
        self._trouble_since: float | None = None

    def push(self, payload: bytes, done: Callable[[BaseException | None], None]) -> None:
        """Append an item to the list; ``done`` gets None, or why it could not be."""
        self._add(self._pushes, (payload, done))

    def ack(self, item_id: str, finished: bytes | None, done: Callable[[bool], None]) -> None:
        """Acknowledge an item; ``done`` gets False when its lease was lost to another process."""
        self._add(self._acks, ((item_id, finished), done))

    def call(self, function: Callable[[], T], done: Callable[[T], None]) -> None:
        """Make any other call to the queue; ``done`` gets its result. Not called if the courier gives up."""
        self._add(self._calls, (function, done))

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

    def _add(self, where: deque[Any], what: Any) -> None:
        with self._wakeup:
            where.append(what)
            self._wakeup.notify()

    def run(self) -> None:
        while True:
            with self._wakeup:
                self._wakeup.wait_for(lambda: self._acks or self._pushes or self._calls or self._closing)
                acks = _take(self._acks, MOST_AT_ONCE)
                pushes = [] if acks else _take(self._pushes, MOST_AT_ONCE)
                calls = [] if acks or pushes else _take(self._calls, 1)
            if acks:
                self._send_acks(acks)
            elif pushes:
                self._send_pushes(pushes)
            elif calls:
                self._send_call(*calls[0])
            else:
                return

    def _send_acks(self, acks: Sequence[tuple[tuple[str, bytes | None], Callable[[bool], None]]]) -> None:
        try:
            kept = set(self._insist(lambda: self._queue.ack([entry for entry, _ in acks])))
        except QueueUnavailable:
            return

        def tell() -> None:
            for (item_id, _), done in acks:
                done(item_id in kept)

        self._deliver(tell)

    def _send_pushes(self, pushes: Sequence[tuple[bytes, Callable[[BaseException | None], None]]]) -> None:
        problem: BaseException | None = None
        self._push_number += 1  # the same number for every try: a push whose reply was lost is not made twice
        try:
            self._insist(lambda: self._queue.push([payload for payload, _ in pushes], self._push_number))
        except QueueUnavailable as error:
            problem = error

        def tell() -> None:
            for _, done in pushes:
                done(problem)

        self._deliver(tell)

    def _send_call(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        try:
            result = self._insist(function)
        except QueueUnavailable:
            return
        self._deliver(lambda: done(result))

    def _insist(self, function: Callable[[], T]) -> T:
        """Call until Redis answers. Raises :class:`QueueUnavailable` once the courier was told to give up."""
        pause = _FIRST_PAUSE
        while True:
            try:
                result = function()
            except RedisError as error:
                self._note_trouble(error)
            else:
                self._note_answer()
                return result
            with self._wakeup:
                self._wakeup.wait_for(lambda: self.gave_up, timeout=pause * random.uniform(0.5, 1.0))
                if self.gave_up:
                    raise QueueUnavailable("Redis cannot be reached and the crawl is closing")
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _note_trouble(self, error: RedisError) -> None:
        now = time.monotonic()
        if self._trouble_since is None:
            self._trouble_since = now
            logger.warning("%s Waiting for it; nothing is lost meanwhile.", explain(error))
        if not self._answered and now - self._trouble_since >= self._patience:
            self._answered = True  # said once
            reason = explain(error)
            self._deliver(lambda: self._on_unreachable(reason))

    def _note_answer(self) -> None:
        self._answered = True
        if self._trouble_since is not None:
            logger.info("Redis is back after %.1f s.", time.monotonic() - self._trouble_since)
            self._trouble_since = None


def _take(queue: deque[T], most: int) -> list[T]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
