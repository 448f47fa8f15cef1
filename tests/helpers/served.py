"""A dashboard that is asked over HTTP, as programs do."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import redis
from patience import HANG

from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.server import new_app
from scrapy_chunkdl.dashboard.serving import serve
from scrapy_chunkdl.queue.status import Pace, Report

WAITING, FAILED, DEAD, CONTROL = "s:items", "{s:items}:failed", "{s:items}:dead", "{s:items}:control"
TOTALS = "{s:items}:totals"
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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
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


@contextmanager
def served(board: Board, host: str = "127.0.0.1", token: str | None = None) -> Iterator[Dashboard]:
    """Serve a board in a loop of its own."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    ready = threading.Event()
    urls: list[str] = []

    def tell(url: str) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(
        target=lambda: loop.run_until_complete(serve(new_app(board, host, token), "127.0.0.1", 0, stop, tell))
    )
    thread.start()
    try:
        assert ready.wait(HANG)
        yield Dashboard(int(urls[0].rsplit(":", 1)[1].strip("/")))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def report(state: str = "claiming") -> bytes:
    return Report("host-1", 4711, "0.1.0", state, 3, 7, Pace(30.0, (30,), (3000,), (7,))).encode()


def push_failed(client: redis.Redis, number: int) -> None:
    for n in range(number):
        record = {"url": f"https://user:secret@x/{n}?token=t", "reason": f"http_{404 + n % 2}", "delivery": f"d{n}"}
        client.rpush(FAILED, json.dumps(record)[:-1] + ', "item": ' + json.dumps({"n": n}) + "}")
