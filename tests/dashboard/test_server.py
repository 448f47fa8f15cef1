"""The dashboard's server: what it tells, whom it lets in, and that what it is told to do is done."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
import redis
from servers import Server, any_binary

from scrapy_chunkdl.config import Config
from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.server import Unusable, new_app
from scrapy_chunkdl.dashboard.serving import DashboardThread, serve
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import Pace, Report

WAITING, FAILED, DEAD, CONTROL = "s:items", "{s:items}:failed", "{s:items}:dead", "{s:items}:control"
TOKEN = "a long secret, with ü"
CHANGE = {"X-Chunkdl": "1", "Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Dashboard:
    """A served page. ``headers`` go with every request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        try:
            connection.request(method, path, raw, {**self.headers, **headers})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: object) -> Answer:
        return self.ask("POST", path, body, **CHANGE)


NewDashboard = Callable[..., Dashboard]


@pytest.fixture
def new_dashboard() -> Iterator[NewDashboard]:
    """Serve boards, each in a loop of its own."""
    with ExitStack() as stack:

        def make(board: Board, host: str = "127.0.0.1", token: str | None = None) -> Dashboard:
            loop, stop = asyncio.new_event_loop(), asyncio.Event()
            served = threading.Event()
            urls: list[str] = []

            def tell(url: str) -> None:
                urls.append(url)
                served.set()

            thread = threading.Thread(
                target=lambda: loop.run_until_complete(serve(new_app(board, host, token), "127.0.0.1", 0, stop, tell))
            )
            thread.start()

            def end() -> None:
                loop.call_soon_threadsafe(stop.set)
                thread.join()
                loop.close()

            stack.callback(end)
            assert served.wait(30)
            return Dashboard(int(urls[0].rsplit(":", 1)[1].strip("/")))

        yield make


@pytest.fixture
def queue(redis_url: str) -> Iterator[ItemQueue]:
    queue = ItemQueue(make_client({"REDIS_URL": redis_url}), WAITING, token="host-1:4711:x")
    yield queue
    queue.close()


@pytest.fixture
def board(redis_url: str) -> Iterator[Board]:
    board, client = Board(), make_client({"REDIS_URL": redis_url})
    board.add("s", WAITING, client, Config())
    yield board
    client.close()


@pytest.fixture
def dashboard(board: Board, new_dashboard: NewDashboard) -> Dashboard:
    return new_dashboard(board)


def report(state: str = "claiming") -> bytes:
    return Report("host-1", 4711, "0.1.0", state, 3, 7, Pace(30.0, (30,), (3000,), (7,))).encode()


def push_failed(client: redis.Redis, number: int) -> None:
    for n in range(number):
        record = {"url": f"https://user:secret@x/{n}?token=t", "reason": f"http_{404 + n % 2}", "delivery": f"d{n}"}
        client.rpush(FAILED, json.dumps(record)[:-1] + ', "item": ' + json.dumps({"n": n}) + "}")


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
    assert {label for line in lines for label in re.findall(r"(\w+)=\"", line)} == {"spider", "state"}


def test_events_tell_of_all_and_in_detail_of_the_spider_that_is_watched(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    host = {"host": "x:80", "connections": 2, "limit": 4, "errors": {"stalled": 1}, "cooling_for": 0.0}
    file = {"url": "http://x/a", "name": "a", "size": 10, "done": 4, "map": "1d1r"}
    for token in ("a", "b"):
        told = {"running": 300, "files": [file], "hosts": [{**host, "bytes_per_second": 10}]}
        queue.token = token
        queue.report(report(), json.dumps(told).encode())
    queue.token = "c"
    queue.report(report(), b'{"of": "another version"}')
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=30)
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
        {**host, "connections": 4, "limit": 8, "errors": {"stalled": 2}, "bytes_per_second": 20}
    ]
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
    events = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=30)
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
        ("pause", [], "object"),
        ("pause", b"{", "JSON"),
        ("rate", {"bytes_per_second": -1}, "bytes_per_second"),
        ("rate", {"bytes_per_second": "fast"}, "bytes_per_second"),
        ("rate", {"bytes_per_second": True}, "bytes_per_second"),
        ("rate", {}, "bytes_per_second"),
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


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=501", "cursor=1.5", "kind=waiting"])
def test_questions_that_make_no_sense_get_a_sentence(dashboard: Dashboard, query: str) -> None:
    answer = dashboard.get(f"/api/spiders/s/failed?{query}")

    assert answer.status == 400
    assert query.split("=")[0] in answer.json["error"]


def test_unknown_spiders_and_paths_are_told(dashboard: Dashboard) -> None:
    for path in (
        "/api/spiders/t/history",
        "/api/events?spider=t",
        "/static/../server.py",
        "/static/none.js",
        "/nothing",
    ):
        answer = dashboard.get(path)
        assert (answer.status, list(answer.json)) == (404, ["error"])


# --- who may do what


def test_every_answer_keeps_foreign_scripts_out(dashboard: Dashboard) -> None:
    for path in ("/", "/static/app.js", "/api/status", "/nothing", "/metrics"):
        headers = dashboard.get(path).headers
        assert "script-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"X-Chunkdl": "1", "Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_changes_that_a_foreign_page_could_send_are_refused(
    dashboard: Dashboard, client: redis.Redis, headers: dict[str, str]
) -> None:
    answer = dashboard.ask("POST", "/api/spiders/s/pause", {}, **headers)

    assert answer.status == 403
    assert "X-Chunkdl" in answer.json["error"]
    assert not client.exists(CONTROL)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:6024", "127.0.0.1.evil.example", "[::2]:6024"])
def test_a_name_that_was_led_here_by_somebody_else_is_refused(dashboard: Dashboard, host: str) -> None:
    assert dashboard.get("/api/status", Host=host).status == 403


@pytest.mark.parametrize("host", ["localhost:6024", "127.0.0.1", "[::1]:6024", "LOCALHOST"])
def test_our_own_names_are_not(dashboard: Dashboard, host: str) -> None:
    assert dashboard.get("/api/status", Host=host).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_addresses_need_a_token(board: Board, host: str) -> None:
    with pytest.raises(Unusable, match="CHUNKDL_DASHBOARD_TOKEN"):
        new_app(board, host, None)


def test_only_the_token_lets_in(board: Board, new_dashboard: NewDashboard) -> None:
    dashboard = new_dashboard(board, host="0.0.0.0", token=TOKEN)
    paths = ("/api/status", "/api/events", "/metrics", "/static/app.js")

    refused = [dashboard.get(path).status for path in paths]
    wrong = dashboard.get("/api/status", Authorization="Bearer wrong", Cookie="chunkdl_token=wrong")
    page = dashboard.get("/")
    bearer = f"Bearer {TOKEN}".encode().decode("latin-1")

    assert refused == [401] * 4
    assert wrong.status == 401
    assert (page.status, b"<form" in page.body, b"alert" in page.body) == (401, True, False)
    assert dashboard.get("/static/style.css").status == 200
    assert dashboard.get("/api/status", Host="any.name", Authorization=bearer).status == 200


def test_the_form_takes_the_token_and_gives_a_cookie_that_scripts_cannot_read(
    board: Board, new_dashboard: NewDashboard
) -> None:
    dashboard = new_dashboard(board, token=TOKEN)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    wrong = dashboard.ask("POST", "/login", b"token=wrong", **form)
    right = dashboard.ask("POST", "/login", b"token=a+long+secret%2C+with+%C3%BC", **form)
    cookie = right.headers["Set-Cookie"]

    assert (wrong.status, b'role="alert"' in wrong.body) == (401, True)
    assert "Set-Cookie" not in wrong.headers
    assert (right.status, right.headers["Location"]) == (303, "./")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "secret" not in cookie
    assert dashboard.get("/", Cookie=cookie.split(";")[0]).status == 200


@pytest.mark.parametrize(
    ("accept", "language", "button"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN", "登录"),
        ("de, ZH-TW;q=0.5, en;q=0.3", "zh-CN", "登录"),
        ("en-GB, zh;q=0.9", "en", "Sign in"),
        ("zh;q=0, de", "en", "Sign in"),
        ("zh;q=much", "en", "Sign in"),
        ("", "en", "Sign in"),
    ],
)
def test_the_form_is_in_the_readers_language(
    board: Board, new_dashboard: NewDashboard, accept: str, language: str, button: str
) -> None:
    page = new_dashboard(board, token=TOKEN).get("/", **{"Accept-Language": accept}).body.decode()

    assert f'<html lang="{language}">' in page
    assert f">{button}</button>" in page


# --- beside a crawl


def test_a_port_that_is_taken_is_told_and_no_harm(
    board: Board, dashboard: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    thread = DashboardThread(new_app(board, "127.0.0.1", None), "127.0.0.1", dashboard.port)
    thread.start()
    thread.stop()

    assert not thread.is_alive()
    assert f"port {dashboard.port}" in caplog.text
