"""The page's server: routes, the events that keep a page live, and who may do what.

Knows HTTP and the board; what a queue is, the board knows. Rules: only whom the token lets in, if there is one; names
other than ours in Host are refused, for a hostile page may have its own name lead to 127.0.0.1 (DNS rebinding); what
changes something must come with a header that no foreign page can send without being asked first (Fetch standard,
CORS-safelisted request-header). No script but ours runs: Content-Security-Policy.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import resources
from typing import Any, TypeVar

from aiohttp import hdrs, web

from scrapy_chunkdl.dashboard import login
from scrapy_chunkdl.dashboard.board import KINDS, Board, Filter, NoSuchSpider
from scrapy_chunkdl.queue.client import REDIS_ERRORS, explain

logger = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVERY = 2.0
"""Seconds between events."""

CSRF_HEADER = "X-Chunkdl"
COOKIE = "chunkdl_token"
MOST_ITEMS = 500
"""Items set aside that one answer tells of, at most."""

MOST_FILES = 1000
"""Running files that one answer tells of, at most."""

FILES_IN_EVENTS = 50

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_BOARD = web.AppKey("board", Board)
_GUARD: web.AppKey[_Guard] = web.AppKey("guard")
_LIVE: web.AppKey[_Live] = web.AppKey("live")


class Unusable(ValueError):
    """The page cannot be served like this; the message says why, and what to do."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(host: str, token: str | None) -> None:
    """Raise :class:`Unusable` for an address that others can reach without a token."""
    if not token and not is_loopback(host):
        raise Unusable(
            f"{host} can be reached from other machines: set CHUNKDL_DASHBOARD_TOKEN to a long secret, or serve on "
            "127.0.0.1 and come through an SSH tunnel"
        )


def new_app(board: Board, host: str, token: str | None) -> web.Application:
    """Return the application that serves ``board`` on the address ``host``. Raises as :func:`check` does."""
    check(host, token)
    app = web.Application(middlewares=[_told_as_json, _guarded], client_max_size=1 << 20)
    app[_BOARD], app[_GUARD], app[_LIVE] = board, _Guard(host, token), _Live(board)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_end_events)
    app.router.add_get("/", _page)
    app.router.add_post("/login", _login)
    app.router.add_get("/static/{name:.+}", _static)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/api/status", _status)
    app.router.add_get("/api/events", _events)
    app.router.add_get("/api/spiders/{spider}/history", _history)
    app.router.add_get("/api/spiders/{spider}/files", _files)
    app.router.add_get("/api/spiders/{spider}/hosts", _hosts)
    app.router.add_get("/api/spiders/{spider}/failed", _set_aside)
    app.router.add_post("/api/spiders/{spider}/failed/{action:retry|drop}", _act)
    app.router.add_post("/api/spiders/{spider}/{action:pause|resume}", _pause)
    app.router.add_post("/api/spiders/{spider}/rate", _rate)
    return app


# --- who may do what


class _Guard:
    """Knows whom to let in."""

    def __init__(self, host: str, token: str | None) -> None:
        self._token = token
        self._names = {host.strip("[]").lower(), "localhost", "127.0.0.1", "::1"}

    def knows_name(self, request: web.Request) -> bool:
        """Whether the request asks for a server of one of our names. With a token any name will do: it is no secret."""
        if self._token:
            return True
        name = request.headers.get(hdrs.HOST, "")
        host = name.rpartition("]")[0] if name.startswith("[") else name.partition(":")[0]
        return host.strip("[").lower() in self._names

    def lets_in(self, request: web.Request) -> bool:
        if not self._token:
            return True
        scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(bearer.strip()):
            return True
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self.cookie().encode())

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def cookie(self) -> str:
        """What stands for the token in a browser: the token itself is kept by nobody but its owner."""
        return hashlib.sha256(b"chunkdl dashboard " + (self._token or "").encode()).hexdigest()


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    guard = request.app[_GUARD]
    if not guard.knows_name(request):
        raise _refused(web.HTTPForbidden, f"this server has no name {request.headers.get(hdrs.HOST)!r}")
    if request.path in ("/login", "/static/style.css"):
        return await handler(request)
    if not guard.lets_in(request):
        if request.path == "/":
            return _form(request)
        raise _refused(web.HTTPUnauthorized, "the token is missing or wrong: send 'Authorization: Bearer TOKEN'")
    if request.method == "POST" and (
        request.headers.get(CSRF_HEADER) != "1" or request.content_type != "application/json"
    ):
        raise _refused(
            web.HTTPForbidden, f"changes need the header '{CSRF_HEADER}: 1' and Content-Type: application/json"
        )
    return await handler(request)


def _form(request: web.Request, *, refused: bool = False) -> web.Response:
    text = login.form(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), refused=refused)
    return web.Response(text=text, content_type="text/html", status=401)


async def _login(request: web.Request) -> web.StreamResponse:
    guard = request.app[_GUARD]
    given = (await request.post()).get("token")
    if not isinstance(given, str) or not guard.is_token(given):
        return _form(request, refused=True)
    to_the_page = web.HTTPSeeOther("./")
    to_the_page.set_cookie(COOKIE, guard.cookie(), httponly=True, samesite="Strict", secure=request.secure)
    raise to_the_page


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    if not request.path.startswith("/static/"):
        response.headers[hdrs.CACHE_CONTROL] = "no-store"


# --- answers


@web.middleware
async def _told_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell errors as ``{"error": sentence}``."""
    try:
        return await handler(request)
    except NoSuchSpider as error:
        return _error(404, str(error))
    except _BadRequest as error:
        return _error(400, str(error))
    except REDIS_ERRORS as error:
        return _error(503, explain(error))
    except web.HTTPError as error:
        if error.content_type == "application/json":
            raise
        return _error(error.status, error.reason)


class _BadRequest(ValueError):
    """The request makes no sense; the message says why."""


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _refused(kind: type[web.HTTPClientError], text: str) -> web.HTTPClientError:
    return kind(text=json.dumps({"error": text}), content_type="application/json")


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def _page(request: web.Request) -> web.StreamResponse:
    request.match_info["name"] = "index.html"
    return await _static(request)


_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "png": "image/png"}


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
        raise web.HTTPNotFound
    file = resources.files("scrapy_chunkdl.dashboard").joinpath("static", *parts)
    kind = _TYPES.get(name.rpartition(".")[2], "text/plain")
    try:
        body = await _in_thread(file.read_bytes)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise web.HTTPNotFound from error
    text = kind.startswith("text/")
    etag = hashlib.sha256(body).hexdigest()[:16]
    headers = {hdrs.ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "no-cache"}
    if any(known.value == etag for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=kind, charset="utf-8" if text else None, headers=headers)


async def _status(request: web.Request) -> web.StreamResponse:
    return web.json_response(await request.app[_LIVE].status())


async def _history(request: web.Request) -> web.StreamResponse:
    return web.json_response(await _in_thread(request.app[_BOARD].history, request.match_info["spider"]))


async def _files(request: web.Request) -> web.StreamResponse:
    start, limit = _number(request.query, "offset", 0, math.inf), _number(request.query, "limit", 50, MOST_FILES)
    details = await _in_thread(request.app[_BOARD].details, request.match_info["spider"])
    return web.json_response(details.files(start, limit))


async def _hosts(request: web.Request) -> web.StreamResponse:
    details = await _in_thread(request.app[_BOARD].details, request.match_info["spider"])
    return web.json_response(details.hosts())


async def _metrics(request: web.Request) -> web.StreamResponse:
    try:
        from scrapy_chunkdl.dashboard import metrics
    except ModuleNotFoundError:
        return _error(501, "metrics need: pip install 'scrapy-chunkdl[dashboard]'")
    body = metrics.text(await request.app[_LIVE].status())
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"})


async def _set_aside(request: web.Request) -> web.StreamResponse:
    query = request.query
    kind = _kind(query.get("kind", "failed"))
    wanted = Filter(text=query.get("text", ""), reason=query.get("reason", ""))
    start, limit = _number(query, "cursor", 0, math.inf), _number(query, "limit", 100, MOST_ITEMS)
    board = request.app[_BOARD]
    return web.json_response(
        await _in_thread(board.set_aside, request.match_info["spider"], kind, wanted, start, limit)
    )


async def _act(request: web.Request) -> web.StreamResponse:
    asked = await _json(request)
    ids = asked.get("ids")
    if ids is not None and not (isinstance(ids, list) and ids and all(isinstance(one, str) for one in ids)):
        raise _BadRequest(f"ids = {ids!r}: should be a list of ids of items")
    text, reason = (asked.get(name) or "" for name in ("text", "reason"))
    if not (isinstance(text, str) and isinstance(reason, str)):
        raise _BadRequest("text and reason: should be texts")
    if ids is None and not text and not reason and asked.get("all") is not True:
        raise _BadRequest('which items are meant: give ids, text, reason or "all": true')
    board, spider = request.app[_BOARD], request.match_info["spider"]
    wanted = Filter(frozenset(ids) if ids is not None else None, text, reason)
    act = board.put_back if request.match_info["action"] == "retry" else board.drop
    done = await _in_thread(act, spider, _kind(asked.get("kind", "failed")), wanted)
    request.app[_LIVE].forget()
    return web.json_response({"items": done})


async def _pause(request: web.Request) -> web.StreamResponse:
    worker = (await _json(request)).get("worker")
    if worker is not None and not (isinstance(worker, str) and worker and worker.split() == [worker]):
        raise _BadRequest(f"worker = {worker!r}: should be the id of a worker")
    board, paused = request.app[_BOARD], request.match_info["action"] == "pause"
    await _in_thread(board.pause if paused else board.resume, request.match_info["spider"], worker)
    request.app[_LIVE].forget()
    return web.json_response({"paused": paused})


async def _rate(request: web.Request) -> web.StreamResponse:
    asked = await _json(request)
    rate = asked.get("bytes_per_second", "missing")
    fits = isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 <= rate < math.inf
    if rate is not None and not fits:
        raise _BadRequest(f"bytes_per_second = {rate!r}: should be a number, 0 for no limit, or null")
    await _in_thread(request.app[_BOARD].limit_rate, request.match_info["spider"], rate)
    request.app[_LIVE].forget()
    return web.json_response({"max_rate": rate})


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        asked = await request.json()
    except ValueError as error:
        raise _BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise _BadRequest("the body should be a JSON object")
    return asked


def _kind(name: object) -> str:
    if name not in KINDS:
        raise _BadRequest(f"kind = {name!r}: should be one of {', '.join(KINDS)}")
    return str(name)


def _number(query: Any, name: str, default: int, most: float) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise _BadRequest(
            f"{name} = {text!r}: should be a whole number" + (f" up to {most}" if most < math.inf else "")
        )
    return int(text)


# --- events


class _Live:
    """The state of all spiders as of a moment ago: however many look, Redis is asked once."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._made_at = -math.inf
        self._told: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self.ended = asyncio.Event()

    def forget(self) -> None:
        """Have the next one to look see a change at once."""
        self._made_at = -math.inf

    async def status(self) -> dict[str, Any]:
        """Return the body of /api/status; a Redis that is away is told of in it."""
        async with self._making:
            now = asyncio.get_running_loop().time()
            if now - self._made_at >= EVERY / 2:
                try:
                    self._told = {**await _in_thread(self._board.status), "redis": {"ok": True}}
                except REDIS_ERRORS as error:
                    self._told = {**self._told, "spiders": [], "redis": {"ok": False, "error": explain(error)}}
                self._made_at = now
            return self._told


async def _end_events(app: web.Application) -> None:
    app[_LIVE].ended.set()


async def _events(request: web.Request) -> web.StreamResponse:
    board, live, spider = request.app[_BOARD], request.app[_LIVE], request.query.get("spider")
    if spider is not None and spider not in board.names():
        raise NoSuchSpider(f"there is no spider {spider!r} here")
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    await response.write(b"retry: 2000\n\n")
    try:
        while not live.ended.is_set():
            told = await live.status()
            await response.write(_event("status", told))
            if spider is not None and told["redis"]["ok"]:
                try:
                    await response.write(_event("spider", await _in_thread(_of_spider, board, spider)))
                except REDIS_ERRORS as error:  # the next status tells of it
                    logger.debug("Nothing to tell of %s: %s", spider, error)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(live.ended.wait(), EVERY)
    except ConnectionResetError:
        logger.debug("A page was closed.")
    return response


def _of_spider(board: Board, spider: str) -> dict[str, Any]:
    details = board.details(spider)
    return {
        "spider": spider,
        "history": board.history(spider),
        "files": details.files(0, FILES_IN_EVENTS),
        "hosts": details.hosts(),
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
