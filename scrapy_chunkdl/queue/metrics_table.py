"""The one list of what is measured: its names for Prometheus, its labels, and where it comes from.

/metrics, the docs, the Grafana dashboard and the alert rules are made from it, so they cannot name what is not there.
Names and units follow Prometheus' practices: base units, ``_total`` for what only grows, labels with few values. Pure;
knows neither Redis nor the library that writes the text format.

What processes count travels to Redis (:mod:`.tally`) in *fields*: the metric's source and the values of its labels,
joined by "/", such as ``failures/http_404``; a histogram has one for each bucket and one for the sum.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

MOST_VALUES = 64
"""Values that the label of a count may have; those that come later are counted as :data:`OTHER`."""

OTHER = "other"

SIZE_CLASSES: Mapping[str, float] = {
    "up_to_64KiB": 1 << 16,
    "up_to_1MiB": 1 << 20,
    "up_to_64MiB": 1 << 26,
    "up_to_1GiB": 1 << 30,
    "larger": float("inf"),
}
"""Bytes of a file, the largest of each class."""

_SHORT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_FIRST_BYTE = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_FILE = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)

_WORD = re.compile(r"[A-Za-z0-9_]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``labels`` come behind ``spider``, which it has if it is ``of_spider``; else it is of all of Redis.

    ``source`` of a counter or histogram is what its fields begin with; a gauge is read off the queue's status.
    ``buckets`` are upper bounds in seconds.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    source: str = ""
    buckets: tuple[float, ...] = ()
    of_spider: bool = True

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus knows it."""
        if self.kind == "histogram":
            return tuple(f"{self.name}{end}" for end in ("_bucket", "_count", "_sum"))
        return (self.name,)


REDIS_UP = "chunkdl_redis_up"

METRICS: tuple[Metric, ...] = (
    Metric(REDIS_UP, "gauge", "Whether Redis answers.", of_spider=False),
    Metric("chunkdl_items", "gauge", "Items by state; failed counts files.", ("state",)),
    Metric("chunkdl_backlog_items", "gauge", "Items waiting, leased and delayed: the number to scale workers by."),
    Metric(
        "chunkdl_oldest_waiting_age_seconds",
        "gauge",
        "Seconds the item at the front of the list has waited at least, to the minute; 0 where none waits.",
    ),
    Metric("chunkdl_workers", "gauge", "Processes by state.", ("state",)),
    Metric("chunkdl_files_running", "gauge", "Files that are being downloaded."),
    Metric("chunkdl_connections", "gauge", "Connections in use."),
    Metric("chunkdl_paused", "gauge", "Whether all claiming is paused."),
    Metric("chunkdl_items_per_second", "gauge", "Items finished, last minute."),
    Metric("chunkdl_bytes_per_second", "gauge", "Bytes fetched, last minute."),
    Metric("chunkdl_workers_held_up", "gauge", "Processes that claim less than they could: full disk, pause, budget."),
    Metric(
        "chunkdl_host_circuits",
        "gauge",
        "Hosts that items wait for: open are left alone, half_open are being tried.",
        ("state",),
    ),
    Metric(
        "chunkdl_ill_hosts",
        "gauge",
        "Hosts that are left alone until they serve again, by all spiders on this Redis.",
        of_spider=False,
    ),
    Metric(
        "chunkdl_ill_host_seconds",
        "gauge",
        "Seconds since a host was left alone, by what it failed with; of the 100 that are so longest.",
        ("host", "reason"),
        of_spider=False,
    ),
    Metric("chunkdl_disk_free_bytes", "gauge", "Room where files grow, the least of each machine.", ("host",)),
    Metric("chunkdl_disk_size_bytes", "gauge", "Size of the same disk.", ("host",)),
    Metric("chunkdl_files_total", "counter", "Files by outcome.", ("outcome",), "files"),
    Metric("chunkdl_failures_total", "counter", "Files given up, by reason.", ("reason",), "failures"),
    Metric("chunkdl_retries_total", "counter", "Requests made again, by reason.", ("reason",), "retries"),
    Metric(
        "chunkdl_requests_total",
        "counter",
        "Requests by the class of their answer; none: there was no answer.",
        ("status_class",),
        "answers",
    ),
    Metric("chunkdl_received_bytes_total", "counter", "Bytes of bodies received.", (), "received"),
    Metric(
        "chunkdl_file_bytes_total",
        "counter",
        "Bytes of files: downloaded, resumed (were on disk), refetched (came more than once), uploaded.",
        ("kind",),
        "bytes",
    ),
    Metric("chunkdl_items_total", "counter", "What became of items, in steps.", ("step",), "items"),
    Metric("chunkdl_deliveries_total", "counter", "Items claimed; one that comes back counts again.", (), "deliveries"),
    Metric(
        "chunkdl_lease_losses_total", "counter", "Items that another process had before they were done.", (), "lost"
    ),
    Metric(
        "chunkdl_time_to_first_byte_seconds",
        "histogram",
        "From a request to the head of its answer.",
        (),
        "first_byte",
        _FIRST_BYTE,
    ),
    Metric(
        "chunkdl_file_duration_seconds",
        "histogram",
        "From a downloaded file's first request to its final name.",
        ("size_class",),
        "file",
        _FILE,
    ),
    Metric("chunkdl_claim_duration_seconds", "histogram", "From a claim to its items.", (), "claim", _SHORT),
    Metric("chunkdl_ack_duration_seconds", "histogram", "From a finished item to its ack in Redis.", (), "ack", _SHORT),
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
COUNTED: Mapping[str, Metric] = {metric.source: metric for metric in METRICS if metric.source}

ALSO = {"items/claimed": "deliveries", "items/lease_lost": "lost"}
"""Counts that have a metric of their own besides."""

HISTORY: Mapping[str, str] = {
    "items/finished": "i",
    "files/downloaded": "d",
    "files/uptodate": "u",
    "files/failed": "x",
    "received": "b",
}
"""Fields that are kept by the hour, with the letter each has there."""


_SIZE_NAMES, _SIZE_LIMITS = tuple(SIZE_CLASSES), tuple(SIZE_CLASSES.values())


def size_class(size_bytes: int) -> str:
    """Return which of :data:`SIZE_CLASSES` a file is of."""
    return _SIZE_NAMES[bisect_left(_SIZE_LIMITS, size_bytes)]


def bucket_field(source: str, seconds: float, label: str = "") -> str:
    """Return the field of the bucket that a measurement falls into."""
    number = bisect_left(COUNTED[source].buckets, seconds)
    return f"{source}/{label}/{number}" if label else f"{source}/{number}"


def sum_field(source: str, label: str = "") -> str:
    """Return the field of the sum of all that was measured."""
    return f"{source}/{label}/sum" if label else f"{source}/sum"


def is_label(value: str) -> bool:
    """Whether a value may stand in a label: a word of ours, not what a stranger wrote."""
    return _WORD.match(value) is not None
