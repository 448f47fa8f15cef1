"""A queue at one moment, as ``snapshot.lua`` tells it: records, and how they are read. Knows bytes, not Redis."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

REPORT_KEPT = 900.0
"""Seconds for which the report of a process that died is kept."""

NOT_OURS = (AttributeError, OverflowError, TypeError, ValueError)
"""Raised by an entry that somebody else wrote, or half of which was evicted: it alone is not shown."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items are in each state, ``parked`` for a host among them; ``failed`` counts records of files."""

    waiting: int
    leased: int
    delayed: int
    dead: int
    failed: int
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds an item. ``held_for`` and ``runs_out_in`` are seconds by Redis' clock; negative: it has run out."""

    id: str
    owner: str
    deliveries: int
    held_for: float
    runs_out_in: float


@dataclass(frozen=True, slots=True)
class Reported:
    """What a process told of itself last. Both times are in seconds by Redis' clock."""

    token: str
    report: bytes
    up_for: float
    silent_for: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The queue at one moment: leases with the longest held first, reports with the oldest process first.

    ``wishes`` are the fields of ``:control``; ``parked_hosts`` are hosts that items are parked for,
    :data:`.item_queue.MOST_PARKED_HOSTS` at most, ``lists`` tells how many items wait in each list, those claimed first
    in front. ``at_s`` is when it was taken, in seconds by Redis' clock.
    """

    counts: Counts
    leases: list[Lease]
    reported: list[Reported]
    wishes: dict[bytes, bytes]
    parked_hosts: tuple[str, ...] = ()
    lists: dict[str, int] = field(default_factory=dict)
    at_s: float = 0.0


def read_snapshot(answer: Any, lists: Sequence[str]) -> Snapshot:
    """Read what ``snapshot.lua`` answered of a queue with these lists."""
    now_ms, counts, leased, told, asked, parked_hosts, in_each = answer
    leases = []
    for item_id, end_ms, owner, deliveries in zip(*(leased[n::4] for n in range(4)), strict=True):
        with suppress(*NOT_OURS):
            token, since_ms = owner.decode().rsplit(" ", 1)
            held_for, runs_out_in = (now_ms - int(since_ms)) / 1000, (float(end_ms) - now_ms) / 1000
            leases.append(Lease(item_id.decode(), token, int(deliveries), held_for, runs_out_in))
    reported = []
    for token, value in zip(told[::2], told[1::2], strict=True):
        with suppress(*NOT_OURS):
            told_ms, since_ms, report = value.split(b" ", 2)
            silent_for, up_for = (now_ms - int(told_ms)) / 1000, (now_ms - int(since_ms)) / 1000
            if silent_for < REPORT_KEPT:
                reported.append(Reported(token.decode(), report, up_for, silent_for))
    leases.sort(key=lambda lease: -lease.held_for)
    reported.sort(key=lambda process: -process.up_for)
    wishes = dict(zip(asked[::2], asked[1::2], strict=True))
    hosts = tuple(host.decode(errors="replace") for host in parked_hosts)
    in_lists = dict(zip(lists, in_each, strict=True))
    return Snapshot(Counts(*counts), leases, reported, wishes, hosts, in_lists, now_ms / 1000)
