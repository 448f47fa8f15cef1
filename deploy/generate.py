"""Writes Grafana's dashboard and Prometheus' alert rules from the list of metrics: neither names what is not there.

Run by ``make deploy``. A metric that is added to ``scrapy_chunkdl/queue/metrics_table.py`` has a panel from then on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scrapy_chunkdl.queue.metrics_table import BY_NAME, METRICS, Metric

DEPLOY = Path(__file__).parent
DASHBOARD = DEPLOY / "grafana" / "chunkdl.json"
RULES = DEPLOY / "prometheus" / "alerts.yml"

_SPIDER = 'spider=~"$spider"'
_UNITS = {"_seconds": "s", "_bytes": "bytes", "_bytes_total": "Bps", "_bytes_per_second": "Bps"}
_ACROSS, _HIGH = 12, 8


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. ``metrics`` are those that ``expression`` names, in braces; ``lasts`` is how long it must hold."""

    name: str
    expression: str
    lasts: str
    severity: str
    summary: str
    what_to_do: str

    @property
    def resolved(self) -> str:
        """The expression with the metrics' names. Raises KeyError for one that is not in the list."""
        return self.expression.format_map({name.removeprefix("chunkdl_"): name for name in _series()})


ALERTS = (
    Alert(
        "ChunkdlPageAway",
        "absent({redis_up})",
        "5m",
        "critical",
        "Nobody answers for the queues",
        "Start 'scrapy chunkdl dashboard', and see that Prometheus has its token.",
    ),
    Alert(
        "ChunkdlRedisAway",
        "{redis_up} == 0",
        "2m",
        "critical",
        "Redis does not answer",
        "Crawls and workers wait for it and lose nothing. Look at the server.",
    ),
    Alert(
        "ChunkdlNobodyWorks",
        "sum by (spider) ({backlog_items}) > 0"
        ' unless sum by (spider) ({workers}{{state=~"claiming|paused|closing"}}) > 0',
        "10m",
        "critical",
        "Items of {{ $labels.spider }} wait, and no process is there to take them",
        "Start 'scrapy chunkdl worker {{ $labels.spider }}'.",
    ),
    Alert(
        "ChunkdlStandsStill",
        "sum by (spider) ({backlog_items}) > 0 and sum by (spider) ({paused}) == 0"
        " and sum by (spider) (rate({received_bytes_total}[15m])) == 0"
        " and sum by (spider) (rate({files_total}[15m])) == 0",
        "15m",
        "critical",
        "Nothing comes for {{ $labels.spider }}",
        "See its hosts and workers on the page: hosts that refuse, a full disk, a pipeline that hangs.",
    ),
    Alert(
        "ChunkdlPausedForLong",
        "sum by (spider) ({paused}) > 0 and sum by (spider) ({backlog_items}) > 0",
        "1d",
        "info",
        "{{ $labels.spider }} has been paused for a day",
        "Resume it on the page, if nobody needs the pause.",
    ),
    Alert(
        "ChunkdlManyGivenUp",
        'sum by (spider) (rate({files_total}{{outcome="failed"}}[30m]))'
        " / sum by (spider) (rate({files_total}[30m])) > 0.2",
        "15m",
        "warning",
        "More than a fifth of the files of {{ $labels.spider }} is given up",
        "'scrapy chunkdl failed {{ $labels.spider }}' tells the reasons; put them back when these are cured.",
    ),
    Alert(
        "ChunkdlServersRefuse",
        'sum by (spider) (rate({requests_total}{{status_class=~"4xx|5xx|none"}}[15m]))'
        " / sum by (spider) (rate({requests_total}[15m])) > 0.5",
        "15m",
        "warning",
        "More than half of the requests of {{ $labels.spider }} get no file",
        "See the hosts on the page. Lower CHUNKDL_CONCURRENT_CHUNKS_PER_HOST where they answer 429 or 503.",
    ),
    Alert(
        "ChunkdlHostLeftAlone",
        'sum by (spider) ({host_circuits}{{state="open"}}) > 0',
        "6h",
        "warning",
        "Items of {{ $labels.spider }} have waited for a host for six hours that fails for all",
        "See why on the page. Their files are given up when CHUNKDL_HOST_PATIENCE is over.",
    ),
    Alert(
        "ChunkdlHeldUp",
        "sum by (spider) ({workers_held_up}) > 0",
        "1h",
        "warning",
        "Processes of {{ $labels.spider }} have waited for an hour",
        "The page and 'scrapy chunkdl status' say for what: a full disk, as a rule.",
    ),
    Alert(
        "ChunkdlDeadItems",
        'sum by (spider) ({items}{{state="dead"}}) > 0',
        "5m",
        "warning",
        "{{ $labels.spider }} has items that no process may claim any more",
        "'scrapy chunkdl failed --dead {{ $labels.spider }}' tells why.",
    ),
    Alert(
        "ChunkdlOldItems",
        "max by (spider) ({oldest_waiting_age_seconds}) > 86400",
        "30m",
        "warning",
        "Items of {{ $labels.spider }} have waited for more than a day",
        "Start more workers, or see what slows those that are there.",
    ),
    Alert(
        "ChunkdlWorkersSilent",
        'sum by (spider) ({workers}{{state="silent"}}) > 0',
        "5m",
        "warning",
        "Processes of {{ $labels.spider }} died or hang",
        "Their items go to others when the leases end. Look into their logs.",
    ),
    Alert(
        "ChunkdlLeasesLost",
        "sum by (spider) (increase({lease_losses_total}[1h])) > 10",
        "5m",
        "warning",
        "Processes of {{ $labels.spider }} lose their leases",
        "A later pipeline may block, or a process be frozen; raise CHUNKDL_LEASE if that is meant.",
    ),
    Alert(
        "ChunkdlDiskFillsUp",
        "min by (host) ({disk_free_bytes} / {disk_size_bytes}) < 0.05",
        "5m",
        "critical",
        "The disk of {{ $labels.host }} is almost full",
        "Make room: what does not fit is given up or waits.",
    ),
    Alert(
        "ChunkdlRedisSlow",
        "histogram_quantile(0.95, sum by (spider, le) (rate({ack_duration_seconds_bucket}[15m]))) > 1",
        "15m",
        "warning",
        "One in twenty acks of {{ $labels.spider }} takes more than a second",
        "Redis, or the network to it, is too slow for so many processes.",
    ),
)


def _series() -> list[str]:
    return [name for metric in METRICS for name in metric.series]


def rules() -> str:
    """Return the rules as YAML."""
    lines = ["# Written by deploy/generate.py (make deploy).", "groups:", "  - name: chunkdl", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.resolved)}",
            f"        for: {alert.lasts}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          description: {json.dumps(alert.what_to_do)}",
        ]
    return "\n".join(lines) + "\n"


def dashboard() -> str:
    """Return Grafana's dashboard as JSON: a panel for each metric, the totals of all spiders chosen."""
    panels = [_panel(number, metric) for number, metric in enumerate(METRICS)]
    spiders = {
        "name": "spider",
        "label": "Spider",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": f"label_values({BY_NAME['chunkdl_backlog_items'].name}, spider)",
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    told = {
        "uid": "scrapy-chunkdl",
        "title": "scrapy-chunkdl",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "tags": ["scrapy"],
        "templating": {"list": [source, spiders]},
        "panels": panels,
    }
    return json.dumps(told, indent=1) + "\n"


def _panel(number: int, metric: Metric) -> dict[str, Any]:
    unit = next((unit for end, unit in _UNITS.items() if metric.name.endswith(end)), "short")
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": metric.name,
        "description": metric.meaning,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": number % 2 * _ACROSS, "y": number // 2 * _HIGH, "w": _ACROSS, "h": _HIGH},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(_queries(metric))
        ],
    }


def _queries(metric: Metric) -> list[tuple[str, str]]:
    chosen = f"{{{_SPIDER}}}" if metric.of_spider else ""
    by = f" by ({', '.join(metric.labels)})" if metric.labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels) or metric.name.removeprefix("chunkdl_")
    if metric.kind == "counter":
        return [(f"sum{by} (rate({metric.name}{chosen}[$__rate_interval]))", legend)]
    if metric.kind == "gauge":
        together = "max" if metric.name.endswith("_seconds") else "min" if "_disk_" in metric.name else "sum"
        return [(f"{together}{by} ({metric.name}{chosen})", legend)]
    labels = ", ".join(("le", *metric.labels))
    each = f"sum by ({labels}) (rate({metric.name}_bucket{chosen}[$__rate_interval]))"
    return [(f"histogram_quantile({share}, {each})", f"{legend} p{share * 100:.0f}") for share in (0.5, 0.95)]


if __name__ == "__main__":
    DASHBOARD.write_text(dashboard(), encoding="utf-8")
    RULES.write_text(rules(), encoding="utf-8")
