"""The queues for Prometheus, in its text format: every metric of the table, filled in. Needs the extra ``dashboard``.

What processes counted is read from the totals in Redis, so it goes on growing when a process is gone. What stands there
under a name that no process of ours would use is not shown: label values are words, and few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from scrapy_chunkdl.queue.host_health import Illness
from scrapy_chunkdl.queue.metrics_table import METRICS, MOST_VALUES, OTHER, REDIS_UP, is_label
from scrapy_chunkdl.queue.metrics_table import Metric as Row
from scrapy_chunkdl.queue.status import Status

WORKER_STATES = ("claiming", "paused", "closing", "silent")
MOST_ILL_HOSTS = 100
LONGEST_HOST = 253
"""Characters of a host's name, as of DNS (RFC 1035 §2.3.4)."""

MOST_HOSTS = 1000
"""Machines whose disks are told of, for each spider."""

Measured = Sequence[tuple[str, Status]]
Values = Mapping[tuple[str, ...], float]


def text(measured: Measured | None) -> bytes:
    """Return the spiders as metrics; None: Redis is away, and nothing is known but that."""
    registry = CollectorRegistry()
    registry.register(_Told(measured))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, measured: Measured | None) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        for row in METRICS:
            if row.name == REDIS_UP:
                yield GaugeMetricFamily(row.name, row.meaning, value=float(self._measured is not None))
            elif self._measured is not None:
                yield _FAMILIES[row.kind](row, self._measured)


def _gauges(row: Row, measured: Measured) -> Metric:
    if not row.of_spider:
        family = GaugeMetricFamily(row.name, row.meaning, labels=row.labels)
        for values, number in GAUGES_OF_REDIS[row.name](measured).items():
            family.add_metric(values, number)
        return family
    family = GaugeMetricFamily(row.name, row.meaning, labels=["spider", *row.labels])
    for spider, status in measured:
        for values, number in GAUGES[row.name](status).items():
            family.add_metric([spider, *values], number)
    return family


def _counters(row: Row, measured: Measured) -> Metric:
    family = CounterMetricFamily(row.name, row.meaning, labels=["spider", *row.labels])
    for spider, status in measured:
        for values, number in _counts_of(row, status).items():
            family.add_metric([spider, *values], number)
    return family


def _counts_of(row: Row, status: Status) -> Values:
    counts = status.counted.counts
    if not row.labels:
        return {(): counts.get(row.source, 0.0)}
    found: dict[tuple[str, ...], float] = {}
    for field, number in sorted(counts.items()):
        source, _, value = field.partition("/")
        if source == row.source and value:
            known = is_label(value) and (len(found) < MOST_VALUES or (value,) in found)
            label = (value if known else OTHER,)
            found[label] = found.get(label, 0.0) + number
    return found


def _histograms(row: Row, measured: Measured) -> Metric:
    family = HistogramMetricFamily(row.name, row.meaning, labels=["spider", *row.labels])
    bounds = [*(repr(float(bound)) for bound in row.buckets), "+Inf"]
    for spider, status in measured:
        counts = status.counted.counts
        kinds = {field.split("/")[1] for field in counts if field.startswith(f"{row.source}/")} if row.labels else {""}
        for kind in sorted(kinds)[:MOST_VALUES]:
            start = f"{row.source}/{kind}/" if kind else f"{row.source}/"
            if kind and not is_label(kind):
                continue
            in_each = (counts.get(f"{start}{number}", 0.0) for number in range(len(bounds)))
            buckets = list(zip(bounds, accumulate(in_each), strict=True))
            labels = [spider, kind] if row.labels else [spider]
            family.add_metric(labels, buckets, sum_value=counts.get(f"{start}sum", 0.0))
    return family


_FAMILIES: Mapping[str, Callable[[Row, Measured], Metric]] = {
    "gauge": _gauges,
    "counter": _counters,
    "histogram": _histograms,
}


def _states(status: Status) -> Values:
    names = ("waiting", "leased", "delayed", "parked", "failed", "dead")
    return {(name,): float(getattr(status.counts, name)) for name in names}


def _worker_states(status: Status) -> Values:
    states = Counter(worker.state for worker in status.workers)
    return {(state,): float(states[state]) for state in WORKER_STATES}


def _circuits(status: Status) -> Values:
    tried = sum(ill.is_tried for ill in status.waits_for)
    return {("open",): float(len(status.waits_for) - tried), ("half_open",): float(tried)}


def _disks(name: str) -> Callable[[Status], Values]:
    def of(status: Status) -> Values:
        least: dict[tuple[str, ...], float] = {}
        for worker in status.workers[:MOST_HOSTS]:
            number = getattr(worker, name)
            if number is not None and worker.state != "silent":
                least[(worker.host,)] = min(number, least.get((worker.host,), number))
        return least

    return of


def _ill(measured: Measured) -> dict[str, Illness]:
    """Return the hosts that are left alone, once each: all spiders on a Redis know the same."""
    return {ill.host: ill for _, status in measured for ill in status.ill_hosts}


def _ill_hosts(measured: Measured) -> Values:
    longest = sorted(_ill(measured).values(), key=lambda ill: -ill.since_s)[:MOST_ILL_HOSTS]
    return {(ill.host[:LONGEST_HOST], ill.reason if is_label(ill.reason) else OTHER): ill.since_s for ill in longest}


def _alone(value: Callable[[Status], float]) -> Callable[[Status], Values]:
    return lambda status: {(): float(value(status))}


GAUGES: Mapping[str, Callable[[Status], Values]] = {
    "chunkdl_items": _states,
    "chunkdl_backlog_items": _alone(lambda status: status.backlog),
    "chunkdl_oldest_waiting_age_seconds": _alone(lambda status: status.counted.oldest_waits or 0.0),
    "chunkdl_workers": _worker_states,
    "chunkdl_files_running": _alone(lambda status: status.running("files")),
    "chunkdl_connections": _alone(lambda status: status.running("connections")),
    "chunkdl_paused": _alone(lambda status: status.paused),
    "chunkdl_items_per_second": _alone(lambda status: status.throughput[1].items_per_second),
    "chunkdl_bytes_per_second": _alone(lambda status: status.throughput[1].bytes_per_second),
    "chunkdl_workers_held_up": _alone(lambda status: sum(bool(worker.waits) for worker in status.workers)),
    "chunkdl_host_circuits": _circuits,
    "chunkdl_disk_free_bytes": _disks("disk_free"),
    "chunkdl_disk_size_bytes": _disks("disk_size"),
}
"""How each gauge of a spider is read off its status."""

GAUGES_OF_REDIS: Mapping[str, Callable[[Measured], Values]] = {
    "chunkdl_ill_hosts": lambda measured: {(): float(len(_ill(measured)))},
    "chunkdl_ill_host_seconds": _ill_hosts,
}
"""How the others are read off all of them."""
