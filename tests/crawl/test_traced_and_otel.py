"""Traces of real crawls: an item, its files, their requests, across Redis; nothing where nobody traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from origin import Origin
from project import Crawl, Project, attachment, item

from scrapy_chunkdl.items.trace_field import FIELD, split, with_traceparent

pytest.importorskip("opentelemetry.sdk", reason="the extra otel and its SDK are not installed")

LIST = "files:items"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SUPPORT = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


class WriteSpans:
    @classmethod
    def from_crawler(cls, crawler):
        crawler.signals.connect(cls.closed, signals.engine_stopped)
        return cls()

    @staticmethod
    def closed():
        with open("spans.jsonl", "a") as file:
            for span in exporter.get_finished_spans():
                file.write(span.to_json(indent=None) + "\\n")


class Fails:
    '''Fails with each item once.'''

    failed = set()

    def process_item(self, item, spider=None):
        if item.get("fails") and item["fails"] not in self.failed:
            self.failed.add(item["fails"])
            raise RuntimeError("for a start")
        return item
"""


@pytest.fixture
def traced(project: Project) -> Project:
    project.support = SUPPORT
    project.settings["EXTENSIONS"] = {"probe.support.WriteStats": 1, "probe.support.WriteSpans": 2}
    project.settings |= {"CHUNKDL_RETRY_TIMES": 2, "CHUNKDL_RETRY_DELAY": 0.1}
    return project


def spans(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder / "spans.jsonl").read_text().splitlines()]


def named(project: Project, *names: str) -> list[dict[str, Any]]:
    return [span for span in spans(project) if span["name"] in names]


def below(parent: dict[str, Any], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [span for span in found if span["parent_id"] == parent["context"]["span_id"]]


def finished(crawl: Crawl) -> None:
    assert (crawl.returncode, crawl.stats["finish_reason"]) == (0, "finished"), crawl.log


@pytest.mark.parametrize("probe", ["auto", "range", "get"])
def test_an_item_its_files_and_their_requests_are_one_trace(
    traced: Project, origin: Origin, probe: str, client: redis.Redis
) -> None:
    traced.items = [item(attachment(origin.url("a.bin", 3 << 20)), attachment(origin.url("b.bin", 2000), "b.bin"))]
    traced.settings["CHUNKDL_PROBE"] = probe

    finished(traced.crawl())

    [sent], [processed] = named(traced, f"send {LIST}"), named(traced, f"process {LIST}")
    assert below(sent, spans(traced)) == [processed]
    assert (sent["kind"], processed["kind"]) == ("SpanKind.PRODUCER", "SpanKind.CONSUMER")
    for span, name in ((sent, "send"), (processed, "process")):
        told = span["attributes"]
        assert (told["messaging.system"], told["messaging.destination.name"]) == ("redis", LIST)
        assert (told["messaging.operation.name"], told["messaging.operation.type"]) == (name, name)
    assert processed["attributes"]["chunkdl.item.outcome"] == "finished"
    files = below(processed, named(traced, "file"))
    sizes = {file["attributes"]["file.name"]: file["attributes"]["file.size"] for file in files}
    assert sizes["b.bin"] == 2000
    assert {file["attributes"]["chunkdl.file.outcome"] for file in files} == {"downloaded"}
    for file in files:
        requests = below(file, named(traced, "GET", "HEAD"))
        assert requests
        for request in requests:
            told = request["attributes"]
            assert request["kind"] == "SpanKind.CLIENT"
            assert told["http.response.status_code"] in (200, 206)
            assert (told["server.address"], told["url.full"]) == ("127.0.0.1", file["attributes"]["url.full"])
            assert told["http.request.method"] == request["name"]
            assert "http.request.resend_count" not in told, "further ranges are no resends"
            assert request["status"]["status_code"] == "UNSET"
    assert len({span["context"]["trace_id"] for span in spans(traced)}) == 1
    assert FIELD not in json.dumps(traced.scraped() + traced.seen())


def test_what_goes_wrong_is_an_error_and_secrets_are_not_told(
    traced: Project, origin: Origin, client: redis.Redis
) -> None:
    secret = origin.url("gone.bin", 1000, "status:404") + "&X-Amz-Signature=topsecret"
    traced.items = [item(attachment(secret, "gone.bin"), attachment("http://127.0.0.1:1/x.bin", "x.bin"))]

    finished(traced.crawl())

    files = {span["attributes"]["file.name"]: span for span in named(traced, "file")}
    assert files["gone.bin"]["attributes"]["error.type"] == "http_404"
    assert files["x.bin"]["attributes"]["error.type"] == "connect_failed"
    assert {file["status"]["status_code"] for file in files.values()} == {"ERROR"}
    [*_, asked] = below(files["gone.bin"], spans(traced))
    assert asked["attributes"]["error.type"] == "404"
    refused = below(files["x.bin"], spans(traced))
    assert {request["attributes"]["error.type"] for request in refused} == {"connect_failed"}
    resent = [request["attributes"].get("http.request.resend_count", 0) for request in refused]
    assert resent[-3:] == [0, 1, 2], "one that was never sent before is no resend, whatever was asked before it"
    assert "topsecret" not in (traced.folder / "spans.jsonl").read_text()


def test_an_item_that_comes_again_is_linked_to_its_last_delivery(
    traced: Project, origin: Origin, client: redis.Redis
) -> None:
    traced.items = [item(attachment(origin.url("a.bin", 1000)), fails="a")]
    traced.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Fails": 300,
    }

    finished(traced.crawl())

    first, again = sorted(named(traced, f"process {LIST}"), key=lambda span: span["start_time"])
    assert (first["attributes"]["chunkdl.item.outcome"], again["attributes"]["chunkdl.item.outcome"]) == (
        "retrying",
        "finished",
    )
    assert first["status"]["status_code"] == "ERROR"
    assert first["parent_id"] == again["parent_id"]
    assert [link["context"]["span_id"] for link in again["links"]] == [first["context"]["span_id"]]


@pytest.mark.parametrize("own", [True, False], ids=["in a field of its own", "in ours"])
def test_an_item_from_elsewhere_goes_on_with_its_trace(
    traced: Project, origin: Origin, client: redis.Redis, own: bool
) -> None:
    told = item(attachment(origin.url("a.bin", 1000)), **({"traceparent": TRACEPARENT} if own else {}))
    payload = json.dumps(told).encode()
    client.rpush(LIST, payload if own else with_traceparent(payload, TRACEPARENT))

    finished(traced.crawl())

    [processed] = named(traced, f"process {LIST}")
    assert processed["context"]["trace_id"] == "0x" + TRACEPARENT.split("-")[1]
    assert processed["parent_id"] == "0x" + TRACEPARENT.split("-")[2]
    [seen] = traced.seen()
    assert seen.get("traceparent") == (TRACEPARENT if own else None)
    assert FIELD not in seen


def test_a_crawl_that_is_not_traced_takes_the_trace_of_an_item_off_and_imports_nothing(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.support = """
import sys


class Imported:
    def __init__(self):
        pass

    def process_item(self, item, spider=None):
        item["imported"] = "scrapy_chunkdl.crawl.otel" in sys.modules
        return item
"""
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Imported": 200,
        "probe.support.Seen": 300,
    }
    told = item(attachment(origin.url("a.bin", 1000)))
    client.rpush(LIST, with_traceparent(json.dumps(told).encode(), TRACEPARENT))

    finished(project.crawl())

    [seen] = project.seen()
    assert seen["imported"] is False
    assert seen.keys() == {*told, "imported"}


def test_an_inline_crawl_is_traced_as_well(traced: Project, origin: Origin) -> None:
    traced.items = [item(attachment(origin.url("a.bin", 1000)))]
    traced.settings["CHUNKDL_MODE"] = "inline"

    finished(traced.crawl())

    [scraped] = named(traced, "item")
    [file] = below(scraped, named(traced, "file"))
    assert below(file, named(traced, "GET", "HEAD"))
    assert scraped["attributes"]["chunkdl.item.outcome"] == "finished"


ODD = [b"", b"{}", b"[1]", b"null", b'"x}', b"\xff", b'{"a": 1}', b'{"a": "}"}', json.dumps({"a": "x" * 500}).encode()]


@pytest.mark.parametrize("payload", ODD)
def test_the_trace_is_taken_off_byte_for_byte(payload: bytes) -> None:
    carried = with_traceparent(payload, TRACEPARENT)

    before, told = split(carried)

    assert before == payload
    assert told == (TRACEPARENT if payload.startswith(b"{") and payload != b"{}" else None)
    assert with_traceparent(carried, TRACEPARENT) == carried


@pytest.mark.parametrize("text", [f'{{"a": 1, "{FIELD}": "{TRACEPARENT}"}}', f'{{"a":1,"{FIELD}":"{TRACEPARENT}"}}'])
def test_the_field_is_read_as_any_json_library_writes_it(text: str) -> None:
    before, told = split(text.encode())

    assert (json.loads(before), told) == ({"a": 1}, TRACEPARENT)


@pytest.mark.parametrize("text", [f'{{"{FIELD}": "{TRACEPARENT}"}}', f'{{"a": 1, "{FIELD}": "zz"}}', f'["{FIELD}"]'])
def test_what_only_looks_like_it_stays(text: str, tmp_path: Path) -> None:
    assert split(text.encode()) == (text.encode(), None)
