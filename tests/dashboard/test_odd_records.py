"""What anybody may have written into Redis hides itself only: for programs, for Prometheus, on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from served import DEAD, FAILED, Dashboard, push_failed, report

from scrapy_chunkdl.dashboard.merged import Details
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import Report, look

WORKERS, LEASES, OWNER, DETAILS = (f"{{s:items}}:{name}" for name in ("workers", "leases", "owner", "details"))
DEEP = b"[" * 100_000
ODD: list[Any] = [None, True, 7, -1, 1.5, 1e400, float("nan"), 10**30, "", "\x1b[31m", "\ud800", "x" * 10_000, [], [1]]
ODD += [{}, {"a": {"b": [1]}}, [[[]]]]
"""A value of each type, and of each size."""


def strict(raw: bytes) -> Any:
    """Read JSON as a browser does, which knows no NaN."""
    return json.loads(raw, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


@pytest.mark.parametrize("value", [b"garbage", b"", b"1", b"1 2", b"x y z", b"1 2 3", b"\xff \xff \xff", DEEP])
def test_an_odd_report_hides_itself_only(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis, value: bytes
) -> None:
    queue.report(report())
    client.hset(WORKERS, b"w\xff", value)

    told, metrics = dashboard.get("/api/status"), dashboard.get("/metrics")

    assert (told.status, metrics.status) == (200, 200)
    assert queue.token in [worker["id"] for worker in strict(told.body)["spiders"][0]["workers"]]


@pytest.mark.parametrize("field", ["host", "pid", "version", "state", "files", "connections", "pace", "age", "items"])
def test_an_odd_value_in_a_report_hides_itself_only(dashboard: Dashboard, queue: ItemQueue, field: str) -> None:
    for n, odd in enumerate(ODD):
        fields = json.loads(report())
        place = fields["pace"] if field in ("age", "items") else fields
        place[field] = odd
        queue.token = f"odd:{n}:x"
        queue.report(json.dumps(fields).encode())
    queue.token = "good:1:x"
    queue.report(report())

    for path in ("/api/status", "/api/spiders/s/history", "/api/spiders/s/details", "/metrics"):
        answer = dashboard.get(path)
        assert answer.status == 200, answer.body
        told = strict(answer.body) if path != "/metrics" else None
        if path == "/api/status":
            workers = {worker["id"]: worker for worker in told["spiders"][0]["workers"]}
            assert workers["good:1:x"]["files"] == 3
            assert all(isinstance(worker["host"], str) for worker in workers.values())
            assert all(worker["pid"] is None or isinstance(worker["pid"], int) for worker in workers.values())


def test_a_lease_whose_owner_was_evicted_hides_itself_only(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    client.rpush("s:items", "1")
    queue.claim(1, "p")
    client.zadd(LEASES, {"x": 1, b"\xff": 2, "no-number": 3})
    client.hset(OWNER, mapping={b"\xff": "token 1", "no-number": "token x"})

    told = dashboard.get("/api/status")

    [spider] = strict(told.body)["spiders"]
    assert (spider["leased"], [worker["items"] for worker in spider["workers"]]) == (4, [1])


@pytest.mark.parametrize(
    "raw",
    [
        DEEP,
        b"{}",
        b"[]",
        b"NaN",
        b'{"running": NaN, "files": {}, "hosts": null}',
        b'{"running": 1, "files": [null, 1, "x", []], "hosts": [null, 1, "x"]}',
    ],
)
def test_details_of_another_shape_hide_themselves_only(dashboard: Dashboard, client: redis.Redis, raw: bytes) -> None:
    good = {"running": 1, "files": [{"url": "http://x/a"}], "hosts": [{"host": "x"}]}
    client.hset(DETAILS, mapping={"odd": b"%d %s" % (now_ms(client), raw), b"\xff": raw})
    client.hset(DETAILS, "good", f"{now_ms(client)} {json.dumps(good)}")

    told = strict(dashboard.get("/api/spiders/s/details").body)

    assert "http://x/a" in [file["url"] for file in told["files"]["files"]]
    assert "x" in [host["host"] for host in told["hosts"]["hosts"]]


def test_an_odd_value_in_details_becomes_nothing_alone() -> None:
    fields = (
        "url",
        "name",
        "size",
        "done",
        "bytes_per_second",
        "eta",
        "chunks",
        "retries",
        "map",
        "doing",
        "doing_for",
    )
    host_fields = ("host", "connections", "limit", "bytes_per_second", "errors", "cooling_for")
    details = Details()
    for odd in ODD:
        files = [{**{name: odd for name in fields if name != kept}, "name": "good"} for kept in fields]
        hosts = [{"host": "h", name: odd} for name in host_fields]
        details.add("w", json.dumps({"running": odd, "files": files, "hosts": hosts}).encode())
    details.add("w", json.dumps({"files": [], "hosts": [{"host": "h", "errors": {"stalled": odd}}]}).encode())

    files = strict(json.dumps(details.files(0, 10_000)).encode())["files"]
    strict(json.dumps(details.hosts()).encode())

    assert len(files) == len(ODD) * len(fields)
    assert all(file["name"] == "good" and isinstance(file["url"], str) for file in files)


@pytest.mark.parametrize("field", ["url", "filename", "reason", "message", "status", "attempts", "bytes_done", "time"])
def test_an_odd_record_hides_itself_only(dashboard: Dashboard, client: redis.Redis, field: str) -> None:
    for n, odd in enumerate(ODD):
        client.rpush(FAILED, json.dumps({"url": "http://x/odd", "reason": "r", "delivery": f"odd{n}", field: odd}))
    client.rpush(FAILED, json.dumps({"url": "http://x/odd", "delivery": ["x"]}), DEEP, b"\xff", b"NaN", b"1")
    push_failed(client, 3)

    answer = dashboard.get("/api/spiders/s/failed?limit=500")

    items = strict(answer.body)["items"]
    files = [file for item in items for file in item["files"]]
    assert len(items) == len(ODD) + 5 + 3
    assert [file["url"] for file in files][-3:] == [f"https://user:***@x/{n}?token=***" for n in range(3)]
    assert all(file[name] is None or isinstance(file[name], str) for file in files for name in ("url", "reason"))


@pytest.mark.parametrize("raw", [DEEP, b"\xff\xfe", b"NaN", b'{"data": [{"attachments": [{"ori_url": 7}]}]}', b""])
def test_an_odd_dead_item_hides_itself_only(dashboard: Dashboard, client: redis.Redis, raw: bytes) -> None:
    client.rpush(DEAD, raw, json.dumps({"n": 1}))

    answer = dashboard.get("/api/spiders/s/failed?kind=dead")

    assert [item["text"] for item in strict(answer.body)["items"] if "text" in item][-1] == '{"n": 1}'


@pytest.mark.parametrize("odd", ODD)
def test_a_report_is_read_or_refused(odd: Any) -> None:
    try:
        Report.decode(json.dumps(odd).encode())
    except ValueError:
        return
    raise AssertionError("this is a report?")


def test_looking_at_odd_reports_raises_nothing(queue: ItemQueue, client: redis.Redis) -> None:
    now = now_ms(client)
    paces: list[Any] = [{"age": odd, "items": [odd], "bytes": odd, "connections": [odd] * 100} for odd in ODD]
    for n, pace in enumerate(paces):
        fields = {**json.loads(report()), "pace": pace}
        client.hset(WORKERS, f"h:{n}:x", f"{now} {now - 10**7} {json.dumps(fields)}")

    assert len(look(queue).workers) == len(ODD)
