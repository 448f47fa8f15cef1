"""What a process tells of itself: a report now and then, details while somebody watches, and what it counted.

Details are of the files that run and of the hosts they come from, compact and bounded, for they go into Redis every two
seconds. Reads the bridge, the limits, the disk and the stats, changes nothing of them; nothing of items or leases. The
heartbeat asks, on its thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from scrapy_chunkdl import __version__
from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.download import Limits
from scrapy_chunkdl.download.disk.room import Room
from scrapy_chunkdl.items.shown import about
from scrapy_chunkdl.progress.totals import Rate
from scrapy_chunkdl.queue.status import PaceMeter, Report
from scrapy_chunkdl.queue.tally import Tally
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.text.masking import masked
from scrapy_chunkdl.text.naming import name_from_url

MOST_FILES = 200
MOST_HOSTS = 200
MOST_CELLS = 256
_LONGEST = 300
"""Characters told of a URL or name."""


class Reports:
    """Those of one process. ``state`` says what it does, ``finished`` how many items it has acked, ``waits``
    what it waits for, ``items`` which item each of its files is of, ``disk`` how full their disk is. ``tell`` is
    called with each report, for what else goes to Redis then.
    """

    def __init__(
        self,
        bridge: Bridge,
        limits: Limits,
        tally: Tally,
        totals: Totals,
        *,
        state: Callable[[], str],
        finished: Callable[[], int],
        waits: Callable[[], Sequence[str]],
        items: Callable[[], Mapping[Job, object]],
        disk: Callable[[], Room | None],
        tell: Callable[[], None],
    ) -> None:
        self._bridge = bridge
        self._limits = limits
        self._tally = tally
        self._totals = totals
        self._state = state
        self._finished = finished
        self._waits = waits
        self._items = items
        self._disk = disk
        self._tell = tell
        self._pace = PaceMeter(time.monotonic())
        self._rates: dict[object, Rate] = {}
        tally.follow(lambda: {"received": bridge.bytes_fetched()})

    def report(self) -> bytes:
        """Return what the process tells of itself, as JSON."""
        connections = self._limits.connections()
        room = self._disk()
        report = Report(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            state=self._state(),
            files=self._bridge.running(),
            connections=connections,
            pace=self._pace.note(self._finished(), self._bridge.bytes_fetched(), connections, time.monotonic()),
            disk_free=room.free_bytes if room is not None else None,
            disk_size=room.total_bytes if room is not None else None,
            waits=tuple(self._waits()),
        )
        return report.encode()

    def details(self) -> bytes:
        """Return what is told besides while somebody watches, as JSON; rates are over the last few calls."""
        now, before = time.monotonic(), self._rates
        self._rates = {}
        jobs, items = self._bridge.jobs_running(), self._items()
        files = [{**self._file(job, before, now), **about(items.get(job))} for job in jobs[:MOST_FILES]]
        hosts = sorted(self._hosts(before, now), key=lambda host: (-host["connections"], -host["bytes_per_second"]))
        told = {"running": len(jobs), "files": files, "hosts": hosts[:MOST_HOSTS]}
        return json.dumps(told, separators=(",", ":")).encode()

    def tell_counts(self) -> None:
        """Add what this process counted to the totals in Redis. Raises as the queue's calls do."""
        self._totals.mark()
        self._tell()
        for _ in range(2):  # what was not heard before, and what is new
            part = self._tally.part()
            if part is not None and (self._totals.add(part) or self._totals.add(part)):  # again: a new day has begun
                self._tally.has(part)

    def _file(self, job: Job, before: dict[object, Rate], now: float) -> dict[str, Any]:
        request, progress = job.request, job.progress
        rate = self._rate(job, progress.done, before, now)
        plan, size, state = progress.plan, progress.size, progress.state()
        return {
            "id": id_of(job),
            "url": masked(request.url)[:_LONGEST],
            "name": (request.name or name_from_url(request.url) or "")[:_LONGEST],
            "size": size,
            "done": progress.done,
            "bytes_per_second": round(rate),
            "eta": round((size - progress.done) / rate) if size is not None and rate > 0 else None,
            "chunks": plan.chunks if plan is not None else None,
            "retries": sum(progress.retries.values()),
            "doing": state.doing.value,
            "doing_for": round(max(0.0, now - state.since), 1),
            "map": run_lengths(plan.cells(MOST_CELLS)) if plan is not None else "",
        }

    def _hosts(self, before: dict[object, Rate], now: float) -> Iterator[dict[str, Any]]:
        counts, busy = self._bridge.hosts(), self._limits.hosts()
        for host in {**busy, **counts}:
            fetched, errors = counts.get(host, (0, {}))
            state = busy.get(host)
            yield {
                "host": host[:_LONGEST],
                "connections": state.connections if state else 0,
                "limit": state.bears if state else self._limits.bears(host),
                "bytes_per_second": round(self._rate(host, fetched, before, now)),
                "errors": errors,
                "cooling_for": round(self._limits.cooling(host), 1),
            }

    def _rate(self, of: object, number: int, before: dict[object, Rate], now: float) -> float:
        rate = self._rates[of] = before.get(of) or Rate()
        return rate.note(number, now)


def id_of(job: Job) -> str:
    """Return what tells a running file of this process apart: no other has it while this one runs."""
    return hashlib.sha256(f"{id(job)} {job.request.url}".encode(errors="replace")).hexdigest()[:16]


def run_lengths(cells: str) -> str:
    """Return ``"ddddr"`` as ``"4d1r"``."""
    return "".join(f"{sum(1 for _ in same)}{letter}" for letter, same in groupby(cells))
