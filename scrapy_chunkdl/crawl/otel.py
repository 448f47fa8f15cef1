"""Traces by OpenTelemetry: an item has a span, its files have spans below it, their requests below those.

Attributes follow the semantic conventions 1.44 for messaging spans, HTTP client spans and files; what is ours begins
with ``chunkdl.``. URLs are masked as they are everywhere. Called on Scrapy's thread, requests are told of on download
threads. Needs the extra ``otel``; :mod:`.traced` says whether it is used.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import suppress
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scrapy_chunkdl import __version__
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.download.errors import DownloadError
from scrapy_chunkdl.download.progress import Exchange
from scrapy_chunkdl.items.trace_field import with_traceparent
from scrapy_chunkdl.text.masking import masked, printable

MOST_REMEMBERED = 4096
"""Items whose last delivery here is remembered, so that the next one can be linked to it."""

_LONGEST = 200
_LONGEST_URL = 2000

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""Those that the conventions know; any other is told as ``_OTHER``, in a span called HTTP."""
_W3C = TraceContextTextMapPropagator()


class OtelTracing:
    """Those of one crawl; see :class:`.traced.Tracing`."""

    def __init__(self, spider: str, items_key: str | None) -> None:
        self._tracer = trace.get_tracer("scrapy_chunkdl", __version__)
        self._key = items_key
        self._common = {"chunkdl.spider": spider}
        if items_key is not None:
            self._common |= {"messaging.system": "redis", "messaging.destination.name": items_key}
        self._last: OrderedDict[str, SpanContext] = OrderedDict()

    def queued(self, payload: bytes) -> bytes:
        told: dict[str, str | int] = {**self._common, **_operation("send")}
        told["messaging.message.body.size"] = len(payload)
        span = self._tracer.start_span(f"send {self._key}", kind=SpanKind.PRODUCER, attributes=told)
        span.end()
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span))
        return with_traceparent(payload, carrier["traceparent"]) if "traceparent" in carrier else payload

    def claimed(self, traceparent: str | None, deliveries: int) -> OtelItem:
        parent = _W3C.extract({"traceparent": traceparent}) if traceparent is not None else Context()
        span = self._tracer.start_span(
            f"process {self._key}",
            parent,
            SpanKind.CONSUMER,
            {**self._common, **_operation("process"), "chunkdl.item.deliveries": deliveries},
            self._links(traceparent, parent, deliveries),
        )
        if traceparent is not None:
            self._last[traceparent] = span.get_span_context()
            self._last.move_to_end(traceparent)
            if len(self._last) > MOST_REMEMBERED:
                self._last.popitem(last=False)
        return OtelItem(self._tracer, span)

    def scraped(self) -> OtelItem:
        return OtelItem(self._tracer, self._tracer.start_span("item", attributes=self._common))

    def _links(self, traceparent: str | None, parent: Context, deliveries: int) -> list[Link]:
        """Return a link to the last delivery of an item that comes again: here, or else to where it was scraped."""
        if traceparent is None:
            return []
        before = self._last.get(traceparent)
        if before is None and deliveries > 1:
            before = trace.get_current_span(parent).get_span_context()
        return [Link(before, {"chunkdl.link": "delivered before"})] if before is not None else []


class OtelItem:
    """The span of one item; see :class:`.traced.ItemTrace`."""

    def __init__(self, tracer: trace.Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = trace.set_span_in_context(span, Context())
        self._files: dict[Job, Span] = {}

    def begin(self, job: Job) -> None:
        if not self._span.is_recording():
            return
        request = job.request
        span = self._tracer.start_span("file", self._context, attributes=_address(request.url))
        if request.name:
            span.set_attribute("file.name", printable(request.name)[:_LONGEST])
        self._files[job] = span
        below = trace.set_span_in_context(span, Context())
        job.progress.traced = lambda exchange: self._request(exchange, below)  # on a download thread

    def done(self, job: Job) -> None:
        span = self._files.pop(job, None)
        if span is None:
            return
        if job.result is not None:
            span.set_attributes(
                {
                    "chunkdl.file.outcome": job.result.status,
                    "file.size": job.result.size,
                    "chunkdl.file.fetched": job.result.fetched,
                    "chunkdl.file.resumed": job.result.resumed,
                    "file.name": printable(job.result.path.name)[:_LONGEST],
                }
            )
        elif job.error is not None:
            _failed(span, job.error)
        else:
            span.set_attribute("chunkdl.file.outcome", "cancelled")
        span.end()

    def end(self, outcome: str, *, is_error: bool = False) -> None:
        for span in self._files.values():  # of an item that another process has by now
            span.set_attribute("chunkdl.file.outcome", "cancelled")
            span.end()
        self._files.clear()
        self._span.set_attribute("chunkdl.item.outcome", outcome)
        if is_error:
            self._span.set_attribute("error.type", outcome)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def _request(self, exchange: Exchange, below: Context) -> None:
        """Make the span of a request that was answered, or was not: it lasts until the head of its answer."""
        end_ns = time.time_ns()
        method = exchange.method if exchange.method in _METHODS else "_OTHER"
        attributes: dict[str, str | int] = {"http.request.method": method, **_address(exchange.url)}
        if method != exchange.method:
            attributes["http.request.method_original"] = printable(exchange.method)[:_LONGEST]
        if exchange.resent:
            attributes["http.request.resend_count"] = exchange.resent
        name = method if method in _METHODS else "HTTP"
        start_ns = end_ns - int(exchange.took_s * 1e9)
        span = self._tracer.start_span(name, below, SpanKind.CLIENT, attributes, start_time=start_ns)
        if exchange.status is not None:
            span.set_attribute("http.response.status_code", exchange.status)
        if exchange.status is None or exchange.status >= 400:
            span.set_attribute("error.type", str(exchange.status or exchange.reason or "_OTHER"))
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)


def _operation(name: str) -> dict[str, str | int]:
    return {"messaging.operation.name": name, "messaging.operation.type": name}


def _failed(span: Span, error: DownloadError) -> None:
    span.set_attributes({"chunkdl.file.outcome": "failed", "error.type": error.reason})
    span.set_status(Status(StatusCode.ERROR, printable(str(error))[:_LONGEST]))


def _address(url: str) -> dict[str, str | int]:
    told: dict[str, str | int] = {"url.full": masked(url)[:_LONGEST_URL]}
    with suppress(ValueError):
        parts = urlsplit(url)
        told["server.address"] = parts.hostname or ""
        if (port := parts.port or {"http": 80, "https": 443}.get(parts.scheme)) is not None:
            told["server.port"] = port
    return told
