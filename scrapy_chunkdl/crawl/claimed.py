"""A claimed item and all that can become of it, as one table: state, event, next state, and what is done on the way.

What is done: the verb that goes to Redis, the stat that is counted, the line that is logged. Knows the table and
nothing else: no Redis, no Scrapy, no files. The consumer says which event it is, the settling does what the row says;
nobody else may change a state. The table in docs/architecture.md is written from here, and an event that no row
declares for its state raises :class:`Undeclared`.

That a lease is lost is no state: it is noticed when the next event is decided, and then that event is ``LEASE_LOST``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from scrapy_chunkdl.crawl.item_files import ItemFiles
from scrapy_chunkdl.crawl.traced import ItemTrace
from scrapy_chunkdl.queue.clock import lease_clock
from scrapy_chunkdl.queue.life import Claimed


class State(Enum):
    """Where a claimed item is; the value is what the docs say of it."""

    CLAIMED = "leased, not looked at yet"
    UNREADABLE = "leased, cannot be read; nothing that can was found in the list so far"
    DOWNLOADING = "its files are with the bridge"
    IN_PIPELINES = "on its way through the pipelines behind"
    IN_FEEDS = "came out, not safe in all feeds yet"
    ACKING = "its ack is on its way to Redis"
    RETRYING = "on its way back to Redis, to be claimed again after a delay"
    RELEASING = "on its way back to Redis, to be claimed at once"
    POSTPONING = "on its way back to Redis, uncounted, until what it waits for may be there"
    PARKING = "on its way to those that wait for its host"
    MAKING_WAY = "on its way to the end of the list"
    HOLDING = "on its way into the records of its files"
    BURYING = "on its way to the dead letters"
    FINISHED = "acked, its lease is over"
    BACK = "in the list again, or delayed"
    HELD = "kept in :failed, as CHUNKDL_ON_FAILURE says"
    DEAD = "kept in :dead, byte for byte"
    LOST = "another process has it, or will"

    __hash__ = object.__hash__  # a step looks up several: Enum's own, of the name, took half of its time

    @property
    def shown(self) -> str:
        """Its name, as people read it."""
        return self.name.lower().replace("_", " ")


class Event(Enum):
    """What brings an item from one state to the next; the value is what the docs say of it."""

    READ = "its files are planned"
    CANNOT_BE_READ = "it cannot be read"
    CANNOT_BE_READ_SO_FAR = "it cannot be read, nor could any before"
    UNFIT = "it cannot take what belongs into it"
    FAILED = "the project's code fails with it"
    FAILED_AS_ALL_DO = "the project's code fails with it, as with all items"
    FAILED_TOO_OFTEN = "the project's code fails with it for the last time"
    DOWNLOADED = "each file is there, or given up"
    GIVEN_UP = 'a file is given up, CHUNKDL_ON_FAILURE = "hold"'
    POSTPONED = "nothing is wrong with it, but a file has to wait (a full disk, say)"
    HOST_ILL = "a host that it needs is left alone: it fails for all, or is over its budget"
    STOPPED = "it is stopped: the crawl ends, or its lease is over by the clock"
    MADE_WAY = "its files only wait for a slow host"
    CAME_OUT = "it comes out behind the last pipeline, or is dropped"
    CAME_OUT_FOR_FEEDS = "it comes out, with feeds that must have it first"
    SAFE_IN_FEEDS = "all feeds have it"
    LOST_BY_A_FEED = "a feed closed without it"
    LEASE_LOST = "its lease is another's"
    DONE = "Redis has done it"
    NOT_OURS = "Redis says that it is another's"

    __hash__ = object.__hash__


class Verb(Enum):
    """What goes to Redis; the value is a method of ``ItemQueue``, and a script of the same name but for the three."""

    ACK = "ack"
    RETRY = "retry"
    RELEASE = "release"
    PUT_BACK = "put_back"
    PARK = "park"
    HOLD = "hold"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class Line:
    """What is logged: ``text`` with names to be filled in, such as ``%(key)s``, the list."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """``stat`` is what follows ``chunkdl/items/``."""

    state: State
    event: Event
    to: State
    verb: Verb | None = None
    stat: str | None = None
    line: Line | None = None


class Undeclared(RuntimeError):
    """An event that cannot happen to an item in its state: a bug. The item stays where it is."""


_KEPT = "It is kept, byte for byte, in %(dead_key)s."
_BURIED = Line(logging.WARNING, f"An entry of %(key)s is %(told)s. {_KEPT}")
_FAILED_TOO_OFTEN = Line(logging.WARNING, f"An entry of %(key)s %(told)s. {_KEPT}")
_COMES_BACK = "An item of %(key)s failed %(where)s (%(errors)d of %(most)d times); it comes back in %(delay_s).3g s."
_LOST = Line(
    logging.WARNING,
    "The lease of an item of %(key)s was lost: it goes no further here, another process has it or will.",
)
_LOST_LATE = Line(
    logging.WARNING, "The lease of an item of %(key)s ran out before its ack: another process may emit it again."
)


def _failed_from(state: State) -> tuple[Row, ...]:
    """An error counts against the item, unless all fail alike: then it is no item's fault."""
    return (
        Row(state, Event.FAILED, State.RETRYING, Verb.RETRY, "retried", Line(logging.WARNING, _COMES_BACK)),
        Row(state, Event.FAILED_AS_ALL_DO, State.RETRYING, Verb.RETRY, "retried", Line(logging.DEBUG, _COMES_BACK)),
        Row(state, Event.FAILED_TOO_OFTEN, State.BURYING, Verb.BURY, "dead", _FAILED_TOO_OFTEN),
    )


ROWS: tuple[Row, ...] = (
    Row(State.CLAIMED, Event.READ, State.DOWNLOADING),
    Row(State.CLAIMED, Event.CANNOT_BE_READ, State.BURYING, Verb.BURY, "dead", _BURIED),
    Row(State.CLAIMED, Event.CANNOT_BE_READ_SO_FAR, State.UNREADABLE),
    Row(State.CLAIMED, Event.UNFIT, State.BURYING, Verb.BURY, "dead", _BURIED),
    *_failed_from(State.CLAIMED),
    Row(State.CLAIMED, Event.STOPPED, State.RELEASING, Verb.RELEASE),
    Row(State.UNREADABLE, Event.CANNOT_BE_READ, State.BURYING, Verb.BURY, "dead", _BURIED),
    Row(State.UNREADABLE, Event.STOPPED, State.RELEASING, Verb.RELEASE),
    Row(State.DOWNLOADING, Event.DOWNLOADED, State.IN_PIPELINES),
    Row(State.DOWNLOADING, Event.GIVEN_UP, State.HOLDING, Verb.HOLD, "held"),
    Row(State.DOWNLOADING, Event.UNFIT, State.BURYING, Verb.BURY, "dead", _BURIED),
    *_failed_from(State.DOWNLOADING),
    Row(State.DOWNLOADING, Event.STOPPED, State.RELEASING, Verb.RELEASE),
    Row(State.DOWNLOADING, Event.MADE_WAY, State.MAKING_WAY, Verb.PUT_BACK),
    Row(State.DOWNLOADING, Event.POSTPONED, State.POSTPONING, Verb.RELEASE, "postponed"),
    Row(State.DOWNLOADING, Event.HOST_ILL, State.PARKING, Verb.PARK, "postponed"),
    Row(State.DOWNLOADING, Event.LEASE_LOST, State.LOST, None, "lease_lost", _LOST),
    Row(State.IN_PIPELINES, Event.CAME_OUT, State.ACKING, Verb.ACK),
    Row(State.IN_PIPELINES, Event.CAME_OUT_FOR_FEEDS, State.IN_FEEDS),
    Row(State.IN_PIPELINES, Event.UNFIT, State.BURYING, Verb.BURY, "dead", _BURIED),
    *_failed_from(State.IN_PIPELINES),
    Row(State.IN_PIPELINES, Event.LEASE_LOST, State.LOST, None, "lease_lost", _LOST),
    Row(State.IN_FEEDS, Event.SAFE_IN_FEEDS, State.ACKING, Verb.ACK),
    Row(State.IN_FEEDS, Event.LOST_BY_A_FEED, State.RELEASING, Verb.RELEASE),
    Row(State.IN_FEEDS, Event.LEASE_LOST, State.LOST, None, "lease_lost", _LOST),
    Row(State.ACKING, Event.DONE, State.FINISHED, None, "finished"),
    Row(State.ACKING, Event.NOT_OURS, State.LOST, None, "lease_lost", _LOST_LATE),
    Row(State.RETRYING, Event.DONE, State.BACK),
    Row(State.RELEASING, Event.DONE, State.BACK, None, "released"),
    Row(State.RELEASING, Event.NOT_OURS, State.LOST, None, "lease_lost", _LOST),
    Row(State.MAKING_WAY, Event.DONE, State.BACK, None, "put_back"),
    Row(State.MAKING_WAY, Event.NOT_OURS, State.LOST, None, "lease_lost", _LOST),
    Row(State.POSTPONING, Event.DONE, State.BACK),
    Row(State.PARKING, Event.DONE, State.BACK),
    Row(State.HOLDING, Event.DONE, State.HELD),
    Row(State.BURYING, Event.DONE, State.DEAD),
)


def done(row: Row) -> str:
    """Return what is done on the way, as the docs say it: the verb for Redis, the stat, the level of the line."""
    told = [f"`{row.verb.value}` goes to Redis"] if row.verb is not None else []
    told += [f"`{row.stat}` is counted"] if row.stat is not None else []
    told += [f"a line at {logging.getLevelName(row.line.level)} says so"] if row.line is not None else []
    return ", ".join(told)


_BY_STATE_AND_EVENT: Mapping[tuple[State, Event], Row] = {(row.state, row.event): row for row in ROWS}

ENDS = frozenset(row.to for row in ROWS) - frozenset(row.state for row in ROWS)
"""States in which nothing of an item is ours any more."""

CAN_FAIL = frozenset(row.state for row in ROWS if row.event is Event.FAILED)
"""States in which something of ours, or of the project's, works on the item."""


@dataclass(slots=True, eq=False)
class ClaimedItem:
    """A claimed item. ``claimed_at`` and ``lease_until`` are of the lease clock; ``files`` is None once that is over.

    ``lost``: Redis said that the item is another's, or its download hung for so long that it should be. ``makes_way``:
    its files were stopped so that other hosts' items may be claimed. ``records`` tell of its
    files that could not be had. ``trace`` is there where the crawl is traced.
    """

    claimed: Claimed
    claimed_at: float
    lease_until: float
    item: Any = None
    files: ItemFiles | None = None
    lost: bool = False
    makes_way: bool = False
    records: Sequence[Mapping[str, Any]] = ()
    trace: ItemTrace | None = None
    id: str = field(init=False)
    """The id of this delivery."""
    _state: State = field(default=State.CLAIMED)

    def __post_init__(self) -> None:
        self.id = self.claimed.id

    @property
    def state(self) -> State:
        """Where it is."""
        return self._state

    def take(self, event: Event) -> Row:
        """Go to the next state, and return what is to be done on the way. Raises :class:`Undeclared`."""
        row = _BY_STATE_AND_EVENT.get((self._state, event))
        if row is None:
            raise Undeclared(f"{event.name} cannot happen to an item that is {self._state.name}")
        self._state = row.to
        return row

    def is_ours(self) -> bool:
        """Whether the lease still holds. A process that was frozen past its lease finds out here, by the clock."""
        return not self.lost and lease_clock() < self.lease_until


class Held:
    """The claimed items of this process, by id: those at ``work``, and those that wait ``in_feeds`` in nobody's way.

    ``suspects`` are those at work of which a process died, or with which.
    """

    def __init__(self) -> None:
        self.work: dict[str, ClaimedItem] = {}
        self.in_feeds: dict[str, ClaimedItem] = {}
        self.suspects: dict[str, ClaimedItem] = {}

    def add(self, items: Sequence[ClaimedItem]) -> None:
        """Note items that were just claimed."""
        for item in items:
            self._work_on(item)

    def moved(self, item: ClaimedItem) -> None:
        """Put an item where its state says."""
        if item.state is State.IN_FEEDS:
            self.in_feeds[item.id] = item
            self._work_no_more_on(item)
        elif item.state in ENDS:
            self._work_no_more_on(item)
            self.in_feeds.pop(item.id, None)
        elif self.in_feeds.pop(item.id, None) is not None:
            self._work_on(item)

    def _work_on(self, item: ClaimedItem) -> None:
        self.work[item.id] = item
        if item.claimed.is_suspect:
            self.suspects[item.id] = item

    def _work_no_more_on(self, item: ClaimedItem) -> None:
        self.work.pop(item.id, None)
        self.suspects.pop(item.id, None)

    def get(self, item_id: str) -> ClaimedItem | None:
        """Return the item of that id, if it is held."""
        return self.work.get(item_id) or self.in_feeds.get(item_id)

    def leased(self) -> list[ClaimedItem]:
        """Return all of them. For any thread."""
        return [*self.work.values(), *self.in_feeds.values()]

    @property
    def downloading(self) -> int:
        """How many have files that are not done."""
        return sum(item.files is not None for item in self.work.values())
