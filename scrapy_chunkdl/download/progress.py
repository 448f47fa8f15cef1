"""What one file is doing, since when, and whether that still counts as work. Times are of the monotonic clock.

The lease, the page and the log read this one fact. Written by the file's download thread, and by the threads that hash
or upload for it, read by any other. Knows no Redis, no HTTP and no disk: they tell it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import NamedTuple

from scrapy_chunkdl.download.plan.plan import Plan


class Doing(Enum):
    """What a file can be doing. The value is what people read."""

    WAITING_FOR_A_PLACE = "waiting for a place"
    WAITING_FOR_A_HOST = "waiting for a host"
    WAITING_FOR_A_DISK = "waiting for a disk"
    ASKING = "asking"
    RECEIVING = "receiving"
    CHECKING = "checking"
    PUBLISHING = "publishing"
    DELIVERING = "delivering"


_PATIENCE_S = {
    Doing.WAITING_FOR_A_DISK: 1800.0,
    Doing.CHECKING: 300.0,
    Doing.PUBLISHING: 1800.0,
    Doing.DELIVERING: 300.0,
}
"""Seconds a state may go without a sign. A disk tells nothing while it reserves, reads a block, or syncs what it has in
memory; stores tell of whole parts only. What is not named here has the patience of the file's own time-outs."""

_FIRST_TOLD = (Doing.DELIVERING, Doing.PUBLISHING, Doing.CHECKING, Doing.WAITING_FOR_A_DISK)
"""What tells more of a file than its connections do."""

_LOOP_SLACK_S = 2.0
"""Seconds more that a loop may take to turn: it tells of it once a second only."""


class State(NamedTuple):
    """What a file is doing, and since when by the monotonic clock. For ``RECEIVING``, since its last byte."""

    doing: Doing
    since: float


class Activity:
    """Something a file does, in ``with``: :meth:`Progress.during` makes it."""

    __slots__ = ("_progress", "doing", "sign", "since")

    def __init__(self, progress: Progress, doing: Doing, sign: Callable[[], float] | None) -> None:
        self._progress = progress
        self.doing = doing
        self.sign = sign
        self.since = time.monotonic()

    def begin(self) -> Activity:
        """Have it count from now on, where ``with`` does not fit."""
        self._progress._activities.append(self)
        return self

    def end(self) -> None:
        """Have it count no more."""
        self._progress._activities.remove(self)
        self._progress.moved()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


class Exchange(NamedTuple):
    """A request of a file, and the head of its answer, which took ``took_s`` seconds to come.

    ``status`` is None where none came, for ``reason``. ``resent`` is how often the file had been retried before.
    """

    method: str
    url: str
    status: int | None
    reason: str
    took_s: float
    resent: int


@dataclass(slots=True, eq=False)
class Progress:
    """The live figures of one file, and what it is doing.

    ``done`` counts bytes in place, ``fetched`` bytes received (more than ``done`` when some were received twice),
    ``uploaded`` bytes sent to the store. ``plan`` is there while the file is fetched by ranges. ``moved_at`` is when it
    last gave a sign: a byte, a request sent, a block hashed; never a time to come. ``asked_at`` is when its last
    request went out, ``paused_until`` when a pause on purpose ends. ``connections`` of a host are its own. ``turned``
    tells when the loop that runs it, or will, turned last. ``asking_s`` and ``receiving_s`` are the seconds that an
    answer, and the next byte of a body, may take. ``told`` gets the status of each answer, None where none came, and
    the seconds until its head; ``traced``, where somebody traces, all. ``has_room`` says that the disk has set the
    file's bytes aside, ``blames`` is the host that its last failure speaks against.
    """

    size: int | None = None
    done: int = 0
    fetched: int = 0
    requests: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    moved_at: float = field(default_factory=time.monotonic)
    uploaded: int = 0
    plan: Plan | None = None
    asked_at: float = 0.0
    paused_until: float = 0.0
    connections: int = 0
    turned: Callable[[], float] | None = None
    told: Callable[[int | None, float], object] | None = None
    traced: Callable[[Exchange], object] | None = None
    asking_s: float = 90.0
    receiving_s: float = 30.0
    has_room: bool = False
    blames: str | None = None
    _activities: list[Activity] = field(default_factory=list)

    @property
    def needs_bytes(self) -> int:
        """Bytes that are still to be written and that the disk has not set aside, as far as the size is known."""
        return 0 if self.has_room or self.size is None else max(0, self.size - self.done)

    @property
    def queued(self) -> int:
        """Connections that wait for their turn at a host."""
        return sum(activity.doing is Doing.WAITING_FOR_A_HOST for activity in tuple(self._activities))

    def moved(self) -> None:
        """Note a sign of life."""
        self.moved_at = time.monotonic()

    def asked(self) -> float:
        """Note that a request goes out, and return when."""
        self.moved_at = self.asked_at = now = time.monotonic()
        return now

    def answered(self, status: int | None, asked_at: float, method: str, url: str, reason: str = "") -> None:
        """Tell of the head of an answer, or by None that none came and why, to what was asked at that time."""
        if self.told is not None:
            self.told(status, time.monotonic() - asked_at)
        if self.traced is not None:
            took_s, resent = time.monotonic() - asked_at, sum(self.retries.values())
            self.traced(Exchange(method, url, status, reason, took_s, resent))

    def retried(self, reason: str) -> None:
        """Count a retry by its reason."""
        self.retries[reason] = self.retries.get(reason, 0) + 1

    def paused_for(self, seconds: float) -> None:
        """Note a pause on purpose, before a retry perhaps. One that is longer stands."""
        self.moved()
        self.paused_until = max(self.paused_until, self.moved_at + seconds)

    def during(self, doing: Doing, sign: Callable[[], float] | None = None) -> Activity:
        """Do something in ``with``, for as long as it takes. Several may go on at once, as a file has connections.

        ``sign`` returns when what is waited for last moved; without one the file's own signs count.
        """
        return Activity(self, doing, sign)

    def state(self) -> State:
        """Return what the file is doing, as one word: what it does itself before what it waits for."""
        activities = tuple(self._activities)
        for wanted in _FIRST_TOLD:
            for activity in activities:
                if activity.doing is wanted:
                    return State(wanted, activity.since)
        if activities and not self.connections:
            return State(activities[0].doing, activities[0].since)
        if not self.connections and self.paused_until > time.monotonic():
            return State(Doing.WAITING_FOR_A_HOST, self.moved_at)
        if self.moved_at > self.asked_at > 0.0:
            return State(Doing.RECEIVING, self.moved_at)
        return State(Doing.ASKING, self.asked_at or self.moved_at)

    def is_alive(self, now: float, slack_s: float = 0.0) -> bool:
        """Tell whether the file works, or waits for what works; ``slack_s`` seconds are given to each state besides.

        One thing of those it does at once is enough.
        """
        if self.turned is not None and now - self.turned() >= self.receiving_s + slack_s + _LOOP_SLACK_S:
            return False
        activities = tuple(self._activities)
        if any(self._goes_on(activity, now, slack_s) for activity in activities):
            return True
        if activities and not self.connections:
            return False
        patience = self.receiving_s if self.moved_at > self.asked_at else self.asking_s
        return now - max(self.moved_at, self.paused_until) < patience + slack_s

    def _goes_on(self, activity: Activity, now: float, slack_s: float) -> bool:
        if activity.doing is Doing.WAITING_FOR_A_PLACE:
            return True  # as long as the loop turns
        sign = activity.sign() if activity.sign is not None else max(activity.since, self.moved_at)
        return now - sign < _PATIENCE_S.get(activity.doing, self.receiving_s) + slack_s
