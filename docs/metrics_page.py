"""Writes the table of metrics into docs/monitoring.md, from the one they are made by. Run by ``make settings``."""

from __future__ import annotations

import re
from pathlib import Path

from scrapy_chunkdl.queue.metrics_table import METRICS

MONITORING = Path(__file__).parent / "monitoring.md"
_PLACE = re.compile(r"(<!-- metrics: [^>]*-->\n).*?(<!-- /metrics -->)", re.DOTALL)


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| metric | kind | labels | |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in (*(("spider",) if metric.of_spider else ()), *metric.labels))
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """Return the page with its table brought up to date."""
    return _PLACE.sub(lambda match: match[1] + table() + match[2], text)


if __name__ == "__main__":
    MONITORING.write_text(with_table(MONITORING.read_text(encoding="utf-8")), encoding="utf-8")
