"""Who may see the page and who may change something: names, the token, its cookie, foreign pages, other local users."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import redis
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from patience import HANG
from served import CHANGE, CONTROL, TOKEN, Dashboard, NewDashboard

from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.guard import COOKIE, COOKIE_KEPT, TRIES, TRY_AGAIN_AFTER, Guard, Tries, Unusable
from scrapy_chunkdl.dashboard.routes import ROUTES
from scrapy_chunkdl.dashboard.server import new_app

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RIGHT = b"token=a+long+secret%2C+with+%C3%BC"
NOBODY = 65534


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


CHANGES = [
    re.sub(r"{action:([\w-]+)[^}]*}", r"\1", path.replace("{spider}", "s"))
    for method, path, _ in ROUTES
    if method == "POST" and path != "login"
]


@pytest.mark.parametrize("path", CHANGES)
def test_no_change_is_done_for_a_foreign_page_or_without_the_token(
    board: Board, new_dashboard: NewDashboard, path: str
) -> None:
    assert "{" not in path
    dashboard = new_dashboard(board, "127.0.0.1", TOKEN)

    foreign = dashboard.ask("POST", f"/{path}", {}, Authorization=f"Bearer {TOKEN.encode().decode('latin-1')}")
    stranger = dashboard.post(f"/{path}", {})

    assert (foreign.status, stranger.status) == (403, 401)


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
    wrong = dashboard.ask("POST", "/login", b"token=wrong", **FORM)
    right = dashboard.ask("POST", "/login", RIGHT, **FORM)
    cookie = right.headers["Set-Cookie"]

    assert (wrong.status, b'role="alert"' in wrong.body) == (401, True)
    assert "Set-Cookie" not in wrong.headers
    assert (right.status, right.headers["Location"]) == (303, "./")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "secret" not in cookie
    assert dashboard.get("/", Cookie=cookie.split(";")[0]).status == 200


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({}, False),
        ({"X-Forwarded-Proto": "http"}, False),
        ({"X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-Proto": "HTTPS, http"}, True),
        ({"Origin": "https://queue.example"}, True),
        ({"Origin": "http://queue.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_the_cookie_goes_over_tls_alone_where_it_came_that_way(
    board: Board, new_dashboard: NewDashboard, headers: dict[str, str], secure: bool
) -> None:
    answer = new_dashboard(board, token=TOKEN).ask("POST", "/login", RIGHT, **FORM, **headers)

    assert ("Secure" in answer.headers["Set-Cookie"]) is secure


def test_the_cookie_has_an_end_that_only_the_server_can_write() -> None:
    now = 1_000_000.0
    guard = Guard("127.0.0.1", TOKEN, clock=lambda: now)
    response = web.Response()
    guard.give_cookie(make_mocked_request("POST", "/login"), response)
    given = response.cookies[COOKIE]
    end, _, seal = given.value.partition(".")

    def lets_in(value: str) -> bool:
        return guard.lets_in(make_mocked_request("GET", "/", {"Cookie": f"{COOKIE}={value}"}))

    assert int(given["max-age"]) == COOKIE_KEPT
    assert lets_in(given.value)
    assert not lets_in(f"{int(end) + 1}.{seal}")
    now += COOKIE_KEPT
    assert not lets_in(given.value)


@pytest.mark.parametrize("cookie", ["", ".", "1.", "x.y", "9" * 5000 + ".a", "1.\xff", "²."])
def test_a_cookie_of_any_form_lets_nobody_in(board: Board, new_dashboard: NewDashboard, cookie: str) -> None:
    dashboard = new_dashboard(board, token=TOKEN)

    answer = dashboard.get("/api/status", Cookie=f"{COOKIE}={cookie}".encode().decode("latin-1"))

    assert answer.status in (400, 401)  # 400: more bytes than a head may have


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"token=x", "application/x-www-form-urlencoded; charset=none-there-is"),
        (b"token=%ff", "application/x-www-form-urlencoded"),
        (b"token=x", "multipart/form-data"),
        (b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--", "multipart/form-data; boundary=a"),
        (b"{}", "application/json"),
        (b"", ""),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(
    board: Board, new_dashboard: NewDashboard, body: bytes, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = new_dashboard(board, token=TOKEN).ask("POST", "/login", body, **{"Content-Type": content_type})

    assert answer.status in (400, 401)
    assert "Set-Cookie" not in answer.headers
    assert caplog.records == []


@pytest.mark.parametrize("way", ["form", "header", "cookie"])
def test_tokens_cannot_be_tried_for_ever(board: Board, new_dashboard: NewDashboard, way: str) -> None:
    dashboard = new_dashboard(board, token=TOKEN)

    def wrong(n: int) -> int:
        if way == "form":
            return dashboard.ask("POST", "/login", b"token=%d" % n, **FORM).status
        headers = {"header": {"Authorization": f"Bearer {n}"}, "cookie": {"Cookie": f"{COOKIE}={n}.abc"}}[way]
        return dashboard.get("/api/status", **headers).status

    answers = [wrong(n) for n in range(2 * TRIES)]
    right = dashboard.ask("POST", "/login", RIGHT, **FORM)

    assert answers[:TRIES] == [401] * TRIES
    assert answers[-1] == 429
    assert (right.status, "Retry-After" in right.headers) == (429, True)


def test_wrong_tokens_are_forgiven_with_time_and_counted_for_each_address() -> None:
    now = 0.0
    tries = Tries(lambda: now)
    for _ in range(TRIES):
        assert tries.wait("a") == 0
        tries.wrong("a")

    assert tries.wait("b") == 0
    assert 0 < tries.wait("a") <= TRY_AGAIN_AFTER
    now += TRY_AGAIN_AFTER
    assert tries.wait("a") == 0
    tries.wrong("a")
    assert tries.wait("a") > 0


def test_the_addresses_of_wrong_tokens_are_bounded() -> None:
    tries = Tries()
    for n in range(5000):
        tries.wrong(str(n))

    assert len(tries._tried) <= 1000


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs Linux, and to become another user")
def test_without_a_token_another_user_of_the_machine_may_look_only(dashboard: Dashboard, client: redis.Redis) -> None:
    program = f"""
import encodings.idna, http.client, os  # loaded before the files of this Python are out of reach
os.setuid({NOBODY})
for method, path in (("GET", "/api/status"), ("POST", "/api/spiders/s/pause")):
    connection = http.client.HTTPConnection("127.0.0.1", {dashboard.port})
    connection.request(method, path, b"{{}}", {CHANGE!r})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode() if method == "POST" else "")
"""
    command = [sys.executable, "-c", program]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=HANG)

    looked, changed = asked.stdout.splitlines()
    assert looked.strip() == "200", asked.stderr
    assert changed.startswith("403")
    assert f"uid {NOBODY}" in json.loads(changed.partition(" ")[2])["error"]
    assert not client.exists(CONTROL)
    assert dashboard.post("/api/spiders/s/pause", {}).status == 200
