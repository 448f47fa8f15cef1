"""The same numbers for Prometheus, in its text format. Needs the extra ``dashboard``; labels are bounded.

Names follow Prometheus' advice on naming: base units, ``_total`` only for what never falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STATES = ("waiting", "leased", "delayed", "failed", "dead")
WORKER_STATES = ("claiming", "paused", "closing", "silent")


def text(told: dict[str, Any]) -> bytes:
    """Return the body of /api/status as metrics."""
    registry = CollectorRegistry()
    registry.register(_Told(told))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("chunkdl_redis_up", "Whether Redis answers.", value=float(self._told["redis"]["ok"]))
        yield up
        spiders = self._told.get("spiders", ())
        items = GaugeMetricFamily("chunkdl_items", "Items by state; failed counts files.", labels=["spider", "state"])
        workers = GaugeMetricFamily("chunkdl_workers", "Processes by state.", labels=["spider", "state"])
        for told in spiders:
            for state in STATES:
                items.add_metric([told["spider"], state], told[state])
            states = [worker["state"] for worker in told["workers"]]
            for state in WORKER_STATES:
                workers.add_metric([told["spider"], state], states.count(state))
        yield items
        yield workers
        for name, meaning, value in (
            ("files_running", "Files that are being downloaded.", lambda told: told["files"]),
            ("connections", "Connections in use.", lambda told: told["connections"]),
            ("paused", "Whether all claiming is paused.", lambda told: told["paused"]),
            ("items_per_second", "Items finished, last minute.", lambda told: _rate(told, "items_per_second")),
            ("bytes_per_second", "Bytes fetched, last minute.", lambda told: _rate(told, "bytes_per_second")),
        ):
            family = GaugeMetricFamily(f"chunkdl_{name}", meaning, labels=["spider"])
            for told in spiders:
                family.add_metric([told["spider"]], float(value(told)))
            yield family


def _rate(told: dict[str, Any], name: str) -> float:
    return float(told["throughput"]["1m"][name])
