"""Whether a crawl is traced, and what it calls then. Knows who to ask; imports nothing of OpenTelemetry.

It is where the process has a tracer provider when the spider opens: opentelemetry-instrument sets one, or the project
does. Where nobody imported OpenTelemetry, nothing is imported here either.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Protocol

from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.items.trace_field import TRACEPARENT


class ItemTrace(Protocol):
    """The span of one item, from its claim, or from our pipeline in inline mode, to :meth:`end`."""

    def begin(self, job: Job) -> None:
        """Begin the span of a file, before its job is submitted."""

    def done(self, job: Job) -> None:
        """End the span of a file whose job has its outcome."""

    def end(self, outcome: str, *, is_error: bool = False) -> None:
        """End the span of the item."""


class Tracing(Protocol):
    """The traces of one crawl."""

    def queued(self, payload: bytes) -> bytes:
        """Return a scraped item with the trace it belongs to, on its way to Redis."""

    def claimed(self, traceparent: str | None, deliveries: int) -> ItemTrace:
        """Begin the span of a claimed item."""

    def scraped(self) -> ItemTrace:
        """Begin the span of an item in inline mode."""


def tracing(spider: str, items_key: str | None) -> Tracing | None:
    """Return the traces of a crawl, None where it is not traced. ``items_key`` is its list, None in inline mode."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or type(api.get_tracer_provider()).__name__ in ("ProxyTracerProvider", "NoOpTracerProvider"):
        return None
    from scrapy_chunkdl.crawl.otel import OtelTracing  # what it imports is there already

    return OtelTracing(spider, items_key)


def traceparent_of(item: object) -> str | None:
    """Return the trace that somebody else's item says it belongs to, in a field ``traceparent`` of its own."""
    told = item.get("traceparent") if isinstance(item, Mapping) else None
    return told if isinstance(told, str) and TRACEPARENT.fullmatch(told) else None
