"""Whether Redis has room for more: pushes and claims slow down before it refuses them, and go on by themselves.

Looks at Redis' memory with the reports, more often while it is nearly full, so that this costs a call a second at most.
Knows how full it is and what to say of it; nothing of items. The heartbeat looks, on its thread; else all is on
Scrapy's.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from scrapy_chunkdl.queue.memory import Memory
from scrapy_chunkdl.text.units import size_text

logger = logging.getLogger(__name__)

SLOW_ABOVE = 0.90
STOP_ABOVE = 0.97
"""Shares of maxmemory in use above which pushes and claims slow down, and above which nothing is pushed."""

LOOK_EVERY_S = 5.0
LOOK_IF_NEAR_EVERY_S = 1.0
PUSHES_PER_S = 100.0
"""Pushes a second where slowing down begins; none where it ends."""

TOLD_AGAIN_S = 600.0


class MemoryGate:
    """One process's. ``look`` asks Redis; ``clock`` is in seconds."""

    def __init__(self, look: Callable[[], Memory], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._looked_at = float("-inf")
        self._memory = Memory(0, 0)
        self._waiting: deque[Callable[[], None]] = deque()
        self._may_push = 0.0
        self._ticked_at = clock()
        self._told_at = float("-inf")
        self._since: float | None = None
        self._is_over = False

    @property
    def because(self) -> str | None:
        """Why pushes and claims are slow, as a sentence; None while there is room."""
        memory = self._memory
        if memory.share < SLOW_ABOVE:
            return None
        slow = "pushes and claims slow down"
        what = slow if memory.share < STOP_ABOVE else "pushes wait, and one item at a time is claimed"
        used, most = size_text(memory.used_bytes), size_text(memory.most_bytes)
        return f"Redis has {used} of its maxmemory of {most} in use: {what}"

    def look(self) -> None:
        """Look at the memory, if it is time. On the heartbeat's thread. Raises what a call to Redis does."""
        every_s = LOOK_EVERY_S if self._memory.share < SLOW_ABOVE else LOOK_IF_NEAR_EVERY_S
        if self._clock() - self._looked_at < every_s:
            return
        self._looked_at = self._clock()
        self.note(self._look())

    def note(self, memory: Memory) -> None:
        """Take note of how full it is."""
        self._memory = memory
        now, because = self._clock(), self.because
        if because is not None and self._since is None:
            self._since = now
            level = logging.WARNING if now - self._told_at >= TOLD_AGAIN_S else logging.DEBUG
            self._told_at = now
            logger.log(level, "%s, until it has room; nothing is lost.", because)
        elif because is None and self._since is not None:
            logger.info("Redis has room again after %.0f s: pushes and claims go on.", now - self._since)
            self._since = None

    def room(self, wanted: int, held: int) -> int:
        """Return how many items may be claimed where ``wanted`` could be, and ``held`` are not settled.

        An item that is done makes room, so one at a time is always claimed.
        """
        share = self._memory.share
        if share < SLOW_ABOVE:
            return wanted
        if share >= STOP_ABOVE:
            return 0 if held else min(wanted, 1)
        return max(1, int(wanted * (STOP_ABOVE - share) / (STOP_ABOVE - SLOW_ABOVE)))

    def push(self, send: Callable[[], None]) -> None:
        """Send an item to Redis, now or when there is room for it."""
        if self._is_over or (self._memory.share < SLOW_ABOVE and not self._waiting):
            send()
        else:
            self._waiting.append(send)

    def tick(self) -> None:
        """Send what waited, as far as it may be. Called a few times a second."""
        now, share = self._clock(), self._memory.share
        part = min(1.0, max(0.0, (STOP_ABOVE - share) / (STOP_ABOVE - SLOW_ABOVE)))
        self._may_push = min(PUSHES_PER_S, self._may_push + (now - self._ticked_at) * PUSHES_PER_S * part)
        self._ticked_at = now
        while self._waiting and (share < SLOW_ABOVE or self._may_push >= 1.0):
            self._may_push -= 1.0
            self._waiting.popleft()()

    def send_all(self) -> None:
        """Send what waits, and from now on all at once: the spider closes, and Redis is the one to say no."""
        self._is_over = True
        while self._waiting:
            self._waiting.popleft()()
