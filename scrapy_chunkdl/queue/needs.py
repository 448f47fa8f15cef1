"""What a person should look at first: one table, read by the page and ``scrapy chunkdl status``. Pure.

The first rule that holds tells what is wrong with a spider, and so how far up it stands; then come those that work,
then those that wait, then those that are idle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from scrapy_chunkdl.queue.status import Status, Worker

FULL = 0.05
"""Free share of a disk below which somebody should make room."""

SETTLED_S = 60.0
"""Seconds after which a process that claims should have got something."""


class Need(NamedTuple):
    """A rule. ``word`` is for programs and the page's texts, ``sentence`` for terminals."""

    word: str
    is_urgent: bool
    sentence: str
    holds: Callable[[Status], bool]


def _alive(status: Status) -> list[Worker]:
    return [worker for worker in status.workers if worker.state != "silent"]


def is_full(worker: Worker) -> bool:
    """Whether the disk of a process that lives has hardly any room left."""
    if worker.state == "silent" or not worker.disk_size or worker.disk_free is None:
        return False
    return worker.disk_free / worker.disk_size < FULL


def _stands_still(status: Status) -> bool:
    quiet = all(rate.items_per_second == 0 and rate.bytes_per_second == 0 for rate in status.throughput.values())
    settled = any(worker.state == "claiming" and (worker.up_for or 0) > SETTLED_S for worker in status.workers)
    return quiet and settled and status.running("files") > 0 and not status.paused


NEEDS = (
    Need("nobody", True, "items wait, and nobody works", lambda status: status.backlog > 0 and not _alive(status)),
    Need("stands", True, "nothing comes", lambda status: status.backlog > 0 and _stands_still(status)),
    Need("silent", True, "a process died", lambda status: len(_alive(status)) < len(status.workers)),
    Need("disk", True, "a disk is almost full", lambda status: any(map(is_full, status.workers))),
    Need("waits", False, "a process waits", lambda status: any(worker.waits for worker in _alive(status))),
    Need("failing", False, "files were given up", lambda status: status.counts.failed > 0),
    Need("ill", False, "a host is left alone", lambda status: bool(status.waits_for)),
    Need("dead", False, "items are dead", lambda status: status.counts.dead > 0),
    Need("paused", False, "waits until resumed", lambda status: status.paused and status.backlog > 0),
)


def need_of(status: Status) -> Need | None:
    """Return what a person should know of this spider first, None where nothing is wrong."""
    return next((need for need in NEEDS if need.holds(status)), None)


def is_idle(status: Status) -> bool:
    """Whether nobody is there, nothing is to be done, and nothing is wrong."""
    return not (status.backlog or status.workers) and need_of(status) is None


def rank_of(status: Status) -> int:
    """Return 0 for what needs a person most, the highest number for what is idle."""
    need = need_of(status)
    if need is not None:
        return NEEDS.index(need)
    if status.running("files"):
        return len(NEEDS)
    return len(NEEDS) + (2 if is_idle(status) else 1)
