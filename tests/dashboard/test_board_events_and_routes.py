"""The dashboard's server: what it tells, whom it lets in, and that what it is told to do is done."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

import pytest
import redis
from patience import HANG
from served import CONTROL, DEAD, FAILED, WAITING, Dashboard, NewDashboard, push_failed, report
from servers import Server, any_binary, wait_for

from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.server import new_app
from scrapy_chunkdl.dashboard.serving import ServerThread
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.host_limits import AskedLimits, HostLimits
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.settings.config import Config

# --- what it tells


def test_the_numbers_are_the_queues(dashboard: Dashboard, queue: ItemQueue, client: redis.Redis) -> None:
    client.rpush(WAITING, *range(5))
    client.rpush(DEAD, "x")
    push_failed(client, 2)
    queue.claim(2, "p")
    queue.report(report())

    told = dashboard.get("/api/status").json

    assert told["redis"] == {"ok": True}
    [spider] = told["spiders"]
    counts = {name: spider[name] for name in ("spider", "waiting", "leased", "delayed", "failed", "dead")}
    assert counts == {"spider": "s", "waiting": 3, "leased": 2, "delayed": 0, "failed": 2, "dead": 1}
    assert (spider["files"], spider["connections"], spider["paused"], spider["max_rate"]) == (3, 7, False, None)
    [worker] = spider["workers"]
    assert (worker["id"], worker["pid"], worker["items"], worker["state"]) == ("host-1:4711:x", 4711, 2, "claiming")
    [minute] = dashboard.get("/api/spiders/s/history").json["minutes"]
    assert (minute["connections"], minute["bytes_per_second"]) == (7, 50.0)


def test_the_metrics_are_the_same_numbers_with_bounded_labels(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    client.rpush(WAITING, *range(5))
    queue.report(report("paused"))

    answer = dashboard.get("/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    assert 'chunkdl_items{spider="s",state="waiting"} 5.0' in lines
    assert 'chunkdl_workers{spider="s",state="paused"} 1.0' in lines
    assert 'chunkdl_workers{spider="s",state="silent"} 0.0' in lines
    assert "chunkdl_redis_up 1.0" in lines
    assert {label for line in lines for label in re.findall(r"(\w+)=\"", line)} == {"spider", "state", "le"}


def test_events_tell_of_all_and_in_detail_of_the_spider_that_is_watched(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    host = {"host": "x:80", "connections": 2, "limit": 4, "errors": {"stalled": 1}, "cooling_for": 0.0}
    file = {"url": "http://x/a", "name": "a", "size": 10, "done": 4, "bytes_per_second": 2, "eta": 3, "chunks": 2}
    file |= {"retries": 1, "map": "1d1r", "doing": "receiving", "doing_for": 0.5, "id": "f", "title": "T", "page": "P"}
    for token in ("a", "b"):
        told = {"running": 300, "files": [file], "hosts": [{**host, "bytes_per_second": 10}]}
        queue.token = token
        queue.report(report(), json.dumps(told).encode())
    queue.token = "c"
    queue.report(report(), b'{"of": "another version"}')
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=HANG)
    connection.request("GET", "/api/events?spider=s")
    response = connection.getresponse()

    events: dict[str, Any] = {}
    name = ""
    while len(events) < 2:
        line = response.readline().decode()
        if line.startswith("event: "):
            name = line[7:].strip()
        elif line.startswith("data: "):
            events[name] = json.loads(line[6:])
    connection.close()

    assert response.headers["Content-Type"] == "text/event-stream"
    assert events["status"]["spiders"][0]["spider"] == "s"
    told = events["spider"]
    told["files"]["files"].sort(key=lambda file: file["worker"])
    assert told["files"] == {"total": 600, "sampled": True, "files": [{"worker": w, **file} for w in ("a", "b")]}
    assert told["hosts"]["hosts"] == [
        {**host, "connections": 4, "limit": 8, "errors": {"stalled": 2}, "bytes_per_second": 20, "asked": None}
    ]
    assert dashboard.get("/api/spiders/s/details").json.keys() == told.keys()
    assert queue.report(report()).watched
    assert client.pttl("{s:items}:watched") > 0
    assert client.pttl("{s:items}:details") > 0


def test_redis_away_is_told_and_not_the_end(new_dashboard: NewDashboard) -> None:
    board = Board()
    with Server(any_binary()) as server:
        client = make_client({"REDIS_URL": server.url})
        board.add("s", WAITING, client, Config())
        dashboard = new_dashboard(board)
        assert dashboard.get("/api/status").json["redis"] == {"ok": True}
    away = dashboard.get("/api/spiders/s/history")
    assert away.status == 503
    assert "is it running" in away.json["error"]
    events = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=HANG)
    events.request("GET", "/api/events?spider=s")
    response = events.getresponse()
    while not (line := response.readline()).startswith(b"data: ") or json.loads(line[6:])["redis"]["ok"]:
        pass
    assert json.loads(line[6:])["spiders"] == []
    events.close()
    client.close()


# --- items set aside


def test_a_long_list_is_read_page_by_page(dashboard: Dashboard, client: redis.Redis) -> None:
    push_failed(client, 250)

    pages, cursor = [], 0
    while cursor is not None:
        pages.append(dashboard.get(f"/api/spiders/s/failed?limit=100&cursor={cursor}").json)
        cursor = pages[-1]["next"]

    assert [len(page["items"]) for page in pages] == [100, 100, 50]
    assert len({item["id"] for page in pages for item in page["items"]}) == 250
    assert pages[0]["total"] == 250
    assert pages[0]["items"][0]["files"][0]["url"] == "https://user:***@x/0?token=***"
    assert b"secret" not in json.dumps(pages).encode()


def test_a_filter_looks_on_until_it_has_a_page_or_has_looked_at_enough(
    dashboard: Dashboard, client: redis.Redis
) -> None:
    push_failed(client, 10)
    client.rpush(FAILED, *["no record of ours"] * 3000)
    push_failed(client, 1)

    found = dashboard.get("/api/spiders/s/failed?reason=http_405&limit=3").json
    none = dashboard.get("/api/spiders/s/failed?text=nowhere").json

    assert [item["files"][0]["reason"] for item in found["items"]] == ["http_405"] * 3
    assert found["reasons"] == {"http_404": 3, "http_405": 3}
    assert none["items"] == []
    assert 2000 <= none["scanned"] == none["next"] < 3000


@pytest.mark.parametrize(
    ("which", "taken"),
    [
        ({"all": True}, 10),
        ({"reason": "http_404"}, 5),
        ({"text": '"n": 3'}, 1),
        ({"reason": "http_404", "text": "9"}, 0),
    ],
)
def test_what_is_meant_is_put_back(
    dashboard: Dashboard, client: redis.Redis, which: dict[str, Any], taken: int
) -> None:
    push_failed(client, 10)

    assert dashboard.post("/api/spiders/s/failed/retry", {"kind": "failed", **which}).json == {"items": taken}

    assert client.llen(WAITING) == taken
    assert client.llen(FAILED) == 10 - taken


def test_one_item_is_put_back_and_one_dropped_by_their_ids(dashboard: Dashboard, client: redis.Redis) -> None:
    client.rpush(DEAD, *(json.dumps({"n": n}) for n in range(5)))
    items = dashboard.get("/api/spiders/s/failed?kind=dead").json["items"]

    back = dashboard.post("/api/spiders/s/failed/retry", {"kind": "dead", "ids": [items[1]["id"]]})
    gone = dashboard.post("/api/spiders/s/failed/drop", {"kind": "dead", "ids": [items[3]["id"]]})
    again = dashboard.post("/api/spiders/s/failed/drop", {"kind": "dead", "ids": [items[3]["id"]]})

    assert [answer.json for answer in (back, gone, again)] == [{"items": 1}, {"items": 1}, {"items": 0}]
    assert client.lrange(WAITING, 0, -1) == [b'{"n": 1}']
    assert client.lrange(DEAD, 0, -1) == [b'{"n": 0}', b'{"n": 2}', b'{"n": 4}']


# --- wishes


def test_a_pause_holds_for_all_or_for_one_and_leaves_nothing_behind(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    client.rpush(WAITING, "1", "2")
    dashboard.post("/api/spiders/s/pause", {})
    assert queue.claim(1, "a") == ([], 0)
    assert queue.report(report()).paused
    assert dashboard.get("/api/status").json["spiders"][0]["paused"]
    dashboard.post("/api/spiders/s/pause", {"worker": queue.token})
    dashboard.post("/api/spiders/s/resume", {})
    assert queue.claim(1, "b") == ([], 0)
    assert dashboard.get("/api/status").json["spiders"][0]["workers"][0]["paused"]
    dashboard.post("/api/spiders/s/resume", {"worker": queue.token})

    assert len(queue.claim(1, "c")[0]) == 1
    assert not client.exists(CONTROL)


def test_a_claim_whose_reply_was_lost_gives_its_items_also_when_paused_since(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    client.rpush(WAITING, "1")
    given = queue.claim(1, "same")
    dashboard.post("/api/spiders/s/pause", {})

    assert queue.claim(1, "same") == given


def test_what_was_asked_of_one_process_goes_with_it(
    queue: ItemQueue, dashboard: Dashboard, client: redis.Redis
) -> None:
    queue.report(report())
    dashboard.post("/api/spiders/s/pause", {"worker": queue.token})
    queue.forget()
    assert not client.exists(CONTROL)

    dashboard.post("/api/spiders/s/pause", {"worker": "one-that-was-killed"})
    queue.report(report())
    assert not client.exists(CONTROL)


def test_the_rate_is_limited_unlimited_and_left_to_the_settings(dashboard: Dashboard, queue: ItemQueue) -> None:
    asked = []
    for rate in (2e6, 0, None):
        dashboard.post("/api/spiders/s/rate", {"bytes_per_second": rate})
        asked.append(queue.report(report()).max_rate)

    assert asked == [2e6, 0.0, None]


def test_limits_of_a_host_are_set_shown_and_taken_back(dashboard: Dashboard, client: redis.Redis) -> None:
    dashboard.post("/api/spiders/s/hosts/limit", {"host": "h.example:443", "connections": 2, "rate": 0})
    [shown] = dashboard.get("/api/spiders/s/hosts").json["hosts"]
    there = HostLimits(client).look()
    dashboard.post("/api/spiders/s/hosts/reset", {"host": "h.example:443"})

    assert there == {"h.example:443": AskedLimits(2, None, 0)}
    assert (shown["host"], shown["asked"]) == ("h.example:443", {"connections": 2, "delay": None, "rate": 0})
    assert HostLimits(client).look() == {}


# --- what makes no sense


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("failed/retry", {}, "which items"),
        ("failed/retry", {"ids": []}, "ids"),
        ("failed/retry", {"ids": [1]}, "ids"),
        ("failed/drop", {"all": "yes"}, "which items"),
        ("failed/drop", {"kind": "waiting", "all": True}, "kind"),
        ("failed/drop", {"text": ["x"]}, "text"),
        ("pause", {"worker": "two words"}, "worker"),
        ("pause", {"worker": "\ud800"}, "worker"),
        ("pause", [], "object"),
        ("pause", b"[" * 100_000, "JSON"),
        ("pause", b"{", "JSON"),
        ("rate", {"bytes_per_second": -1}, "bytes_per_second"),
        ("rate", {"bytes_per_second": "fast"}, "bytes_per_second"),
        ("rate", {"bytes_per_second": True}, "bytes_per_second"),
        ("rate", {"bytes_per_second": 10**400}, "bytes_per_second"),
        ("rate", {}, "bytes_per_second"),
        ("hosts/limit", {"connections": 1}, "host"),
        ("hosts/limit", {"host": "h:1", "connections": 0}, "connections"),
        ("hosts/limit", {"host": "h:1", "connections": 1.5}, "connections"),
        ("hosts/limit", {"host": "h:1", "delay": -1}, "delay"),
        ("hosts/limit", {"host": "h:1", "delay": "1"}, "delay"),
        ("hosts/limit", {"host": "h:1", "rate": 10**400}, "rate"),
        ("hosts/limit", {"host": "h:1", "via": "http://u:p@proxy"}, "via"),
    ],
)
def test_requests_that_make_no_sense_change_nothing(
    dashboard: Dashboard, client: redis.Redis, path: str, body: object, word: str
) -> None:
    push_failed(client, 1)

    answer = dashboard.post(f"/api/spiders/s/{path}", body)

    assert answer.status == 400
    assert word in answer.json["error"]
    assert client.llen(FAILED) == 1
    assert not client.exists(CONTROL)


DIGITS = [f"cursor={'9' * digits}" for digits in (17, 30, 5000)] + ["cursor=%C2%B2", "limit=%D9%A1"]


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=501", "cursor=1.5", "kind=waiting", *DIGITS])
def test_questions_that_make_no_sense_get_a_sentence(dashboard: Dashboard, query: str) -> None:
    answer = dashboard.get(f"/api/spiders/s/failed?{query}")

    assert answer.status == 400
    assert query.split("=")[0] in answer.json["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/spiders/t/history",
        "/api/spiders/t/details",
        "/api/spiders/%00/files",
        "/api/events?spider=t",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/vendor",
        "/static/none.js",
        "/static/%00",
        "/static/%FF%FE",
        f"/static/{'a' * 300}",
        f"/static/{'a/' * 2000}x",
        "/nothing",
    ],
)
def test_unknown_spiders_and_paths_are_told(dashboard: Dashboard, path: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = dashboard.get(path)

    assert (answer.status, list(answer.json)) == (404, ["error"])
    assert caplog.records == []


# --- beside a crawl


def test_a_port_that_is_taken_is_told_and_no_harm(
    board: Board, dashboard: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    thread = ServerThread("dashboard", new_app(board, "127.0.0.1", None), "127.0.0.1", dashboard.port)
    thread.start()
    wait_for(lambda: f"port {dashboard.port}" in caplog.text, "it is not told")
    thread.stop()

    assert not thread.is_alive()


def test_probes_need_no_token_and_tell_nothing_of_what_it_guards(new_dashboard: NewDashboard) -> None:
    board = Board()
    with Server(any_binary()) as server:
        board.add("secret-name", WAITING, make_client({"REDIS_URL": server.url}), Config())
        dashboard = new_dashboard(board, "0.0.0.0", "a long secret")
        live, ready = dashboard.get("/healthz"), dashboard.get("/readyz")
        assert dashboard.get("/api/status").status == 401
    wait_for(lambda: dashboard.get("/readyz").status == 503, "it is ready without Redis")
    away = dashboard.get("/readyz")

    assert (live.status, live.json) == (200, {"ok": True, "checks": {"page": "ok"}})
    assert (ready.status, ready.json["checks"]) == (200, {"page": "ok", "redis": "ok"})
    assert (away.status, away.json["checks"]["redis"]) == (503, "Redis does not answer")
    assert dashboard.get("/healthz").status == 200


# --- items and files one by one


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("waiting/front", {}, "items = None"),
        ("waiting/front", {"items": []}, "items = []"),
        ("waiting/out", {"items": [{"id": "x"}]}, "should be an object with id and at"),
        ("waiting/out", {"items": [{"id": 7, "at": 1}]}, "should be an object with id and at"),
        ("waiting/out", {"items": [{"id": "x", "at": -1}]}, "should be an object with id and at"),
        ("waiting/out", {"items": [{"id": "x", "at": True}]}, "should be an object with id and at"),
        ("waiting/out", {"items": ["x"] * 501}, "1 to 500 objects"),
        ("files/give-up", {"worker": "w"}, "file = None"),
        ("files/retry", {"worker": "w w", "file": "f"}, "worker = 'w w'"),
        ("files/retry", {"worker": "w\n", "file": "f"}, "should be the id of a worker"),
        ("files/retry", {"worker": "w" * 301, "file": "f"}, "should be the id of a worker"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(
    dashboard: Dashboard, client: redis.Redis, path: str, body: dict[str, Any], named: str
) -> None:
    answer = dashboard.post(f"/api/spiders/s/{path}", body)

    assert answer.status == 400
    assert named in answer.json["error"]
    assert len(answer.json["error"]) <= 300
    assert client.keys("*") == []


def test_waiting_items_are_told_with_what_tells_them_apart_and_no_secret(
    dashboard: Dashboard, client: redis.Redis
) -> None:
    one = {
        "url": "https://site/page",
        "data": [{"title": "A", "attachments": [{"ori_url": "https://u:pw@h/a?token=t"}]}],
    }
    client.rpush(WAITING, json.dumps(one), b"\xff no JSON", "7", json.dumps({"title": ["x"], "page": 7}))

    told = dashboard.get("/api/spiders/s/waiting?limit=10").json

    assert (told["total"], told["scanned"], told["next"]) == (4, 4, None)
    first, *rest = told["items"]
    assert (first["at"], first["title"], first["page"]) == (0, "A", "https://site/page")
    assert "pw" not in json.dumps(told)
    assert "token=t" not in json.dumps(told)
    assert [len(item["files"]) for item in told["items"]] == [1, 0, 0, 0]
    assert [item["title"] for item in rest] == ["", "", ""]


def test_what_is_asked_of_a_file_waits_for_its_process_only(dashboard: Dashboard, client: redis.Redis) -> None:
    answer = dashboard.post("/api/spiders/s/files/give-up", {"worker": "h:1:x", "file": "f1"})

    assert (answer.status, answer.json) == (200, {"asked": "give_up"})
    assert client.lrange("{s:items}:asked h:1:x", 0, -1) == [b"give_up f1"]
    assert 0 < client.ttl("{s:items}:asked h:1:x") <= 60


def test_the_last_files_and_hours_are_told(dashboard: Dashboard, client: redis.Redis) -> None:
    day = client.time()[0] // 86400
    client.hset(f"{{s:items}}:history {day - 89}", mapping={"07i": 3, "07b": 10})
    client.hset(f"{{s:items}}:history {day - 93}", mapping={"07i": 3})
    client.lpush("{s:items}:finished", json.dumps({"name": "a", "url": "u", "size": 3, "elapsed": 0.5}))

    hours = dashboard.get("/api/spiders/s/hours").json["hours"]
    files = dashboard.get("/api/spiders/s/finished").json["files"]

    assert hours == [{"at": (day - 89) * 86400 + 7 * 3600, "items/finished": 3, "received": 10}]
    assert [(file["name"], file["size"]) for file in files] == [("a", 3)]
    assert dashboard.get("/api/spiders/s/hours?days=91").status == 400
    assert dashboard.get("/api/spiders/nobody/hours").status == 404
