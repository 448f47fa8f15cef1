"""What a process tells of itself in detail while somebody watches: the files that run, and the hosts they come from.

Compact and bounded, for it goes into Redis every two seconds. Reads the bridge and the limits, changes nothing. Made
on one thread; no other calls here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.download import Limits
from scrapy_chunkdl.progress.totals import Rate
from scrapy_chunkdl.text.masking import masked
from scrapy_chunkdl.text.naming import name_from_url

MOST_FILES = 200
MOST_HOSTS = 200
MOST_CELLS = 256
_LONGEST = 300
"""Characters told of a URL or name."""


class Details:
    """Makes them; rates are over the last few calls."""

    def __init__(self, bridge: Bridge, limits: Limits) -> None:
        self._bridge = bridge
        self._limits = limits
        self._rates: dict[object, Rate] = {}

    def encode(self) -> bytes:
        """Return them as JSON."""
        now, before = time.monotonic(), self._rates
        self._rates = {}
        jobs = self._bridge.jobs_running()
        files = [self._file(job, before, now) for job in jobs[:MOST_FILES]]
        hosts = sorted(self._hosts(before, now), key=lambda host: (-host["connections"], -host["bytes_per_second"]))
        told = {"running": len(jobs), "files": files, "hosts": hosts[:MOST_HOSTS]}
        return json.dumps(told, separators=(",", ":")).encode()

    def _file(self, job: Job, before: dict[object, Rate], now: float) -> dict[str, Any]:
        request, progress = job.request, job.progress
        rate = self._rate(job, progress.done, before, now)
        plan, size, state = progress.plan, progress.size, progress.state()
        return {
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


def run_lengths(cells: str) -> str:
    """Return ``"ddddr"`` as ``"4d1r"``."""
    return "".join(f"{sum(1 for _ in same)}{letter}" for letter, same in groupby(cells))
