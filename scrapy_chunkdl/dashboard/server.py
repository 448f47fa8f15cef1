"""The page's server: routes, and the events that keep a reader up to date.

Knows HTTP and the board; what a queue is, the board knows, and who may do what, the guard. No script but ours runs:
Content-Security-Policy.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import math
import reprlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import hdrs, web

from scrapy_chunkdl.dashboard import login
from scrapy_chunkdl.dashboard.board import KINDS, Board, Filter, NoSuchSpider
from scrapy_chunkdl.dashboard.guard import Guard, check, refused
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

logger = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

EVERY = 2.0
"""Seconds between events."""

MOST_ITEMS = 500
"""Items set aside that one answer tells of, at most."""

MOST_FILES = 1000
"""Running files that one answer tells of, at most."""

MOST_BYTES_PER_SECOND = 10**15
"""No line is faster."""

MOST_ENTRIES = 10**15
"""No list is longer."""

FILES_IN_EVENTS = 50


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


_TO_THE_FOLDER = 'if (!location.pathname.endsWith("/")) location.pathname += "/"'
TO_THE_FOLDER = f"<script>{_TO_THE_FOLDER}</script>"
"""Behind a proxy that serves us in a folder, its name without the slash leads here, too; what the page asks for by
relative addresses is in the folder. Only the browser knows its name."""

SLASHES = "/{slashes:/*}"
"""``location /chunkdl { proxy_pass http://…/; }`` of nginx makes ``//api/status`` of ``/chunkdl/api/status``."""

_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' {_csp_hash(_TO_THE_FOLDER)}; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer" the form's Origin is "null", see guard.give_cookie
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_BOARD = web.AppKey("board", Board)
_GUARD = web.AppKey("guard", Guard)
_LIVE: web.AppKey[_Live] = web.AppKey("live")


def new_app(board: Board, host: str, token: str | None) -> web.Application:
    """Return the application that serves ``board`` on the address ``host``. Raises as :func:`check` does."""
    check(host, token)
    app = web.Application(middlewares=[_told_as_json, _guarded], client_max_size=1 << 20)
    app[_BOARD], app[_GUARD], app[_LIVE] = board, Guard(host, token), _Live(board)
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_end_events)
    for method, path, handler in _ROUTES:
        app.router.add_route(method, SLASHES + path, handler)
    return app


# --- who may do what


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    guard = request.app[_GUARD]
    guard.check_name(request)
    path = request.path.lstrip("/")
    if path in ("login", "static/style.css"):
        return await handler(request)
    if not guard.lets_in(request):
        if path == "":
            return _form(request)
        raise refused(web.HTTPUnauthorized, "the token is missing or wrong: send 'Authorization: Bearer TOKEN'")
    if request.method == "POST":
        await guard.check_change(request)
    return await handler(request)


def _form(request: web.Request, *, refused: bool = False) -> web.Response:
    script = "" if refused else TO_THE_FOLDER  # the answer to "login" is no folder, and is in the right one
    text = login.form(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), script, refused=refused)
    return web.Response(text=text, content_type="text/html", status=401)


async def _ask(request: web.Request) -> web.StreamResponse:
    """Lead an address that is left from a wrong token to the page, which asks again."""
    raise web.HTTPSeeOther("./")


async def _login(request: web.Request) -> web.StreamResponse:
    guard = request.app[_GUARD]
    try:
        given = (await request.post()).get("token")
    except (AssertionError, LookupError, ValueError) as error:  # a charset, or a multipart body, that nobody can read
        raise _BadRequest("the form cannot be read") from error
    if not isinstance(given, str) or not guard.is_token(request, given):
        return _form(request, refused=True)
    to_the_page = web.HTTPSeeOther("./")
    guard.give_cookie(request, to_the_page)
    raise to_the_page


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    if not request.path.lstrip("/").startswith("static/"):
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


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


async def _page(request: web.Request) -> web.StreamResponse:
    return _sent(request, "index.html")


async def _static(request: web.Request) -> web.StreamResponse:
    return _sent(request, request.match_info["name"])


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, as it is sent."""

    kind: str
    body: bytes
    etag: str


@lru_cache(maxsize=1)
def _files_of_the_page() -> Mapping[str, _File]:
    """Read them all, by name. No name from outside is ever looked for on the disk."""
    return dict(_read(resources.files("scrapy_chunkdl.dashboard").joinpath("static"), ""))


def _read(folder: Traversable, path: str) -> Iterator[tuple[str, _File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{path}{entry.name}/")
            continue
        body = entry.read_bytes()
        if entry.name == "index.html":
            body = body.replace(b"<head>", f"<head>{TO_THE_FOLDER}".encode(), 1)
        kind = _TYPES.get(entry.name.rpartition(".")[2], "text/plain")
        yield f"{path}{entry.name}", _File(kind, body, hashlib.sha256(body).hexdigest()[:16])


_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "png": "image/png"}


def _sent(request: web.Request, name: str) -> web.StreamResponse:
    file = _files_of_the_page().get(name)
    if file is None:
        raise web.HTTPNotFound
    headers = {hdrs.ETAG: f'"{file.etag}"', hdrs.CACHE_CONTROL: "no-cache"}
    if any(known.value == file.etag for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if file.kind.startswith("text/") else None
    return web.Response(body=file.body, content_type=file.kind, charset=charset, headers=headers)


async def _status(request: web.Request) -> web.StreamResponse:
    return web.json_response(await request.app[_LIVE].status())


async def _details(request: web.Request) -> web.StreamResponse:
    return web.json_response(await _in_thread(_of_spider, request.app[_BOARD], request.match_info["spider"]))


async def _history(request: web.Request) -> web.StreamResponse:
    return web.json_response(await _in_thread(request.app[_BOARD].history, request.match_info["spider"]))


async def _files(request: web.Request) -> web.StreamResponse:
    start, limit = _number(request.query, "offset", 0, MOST_ENTRIES), _number(request.query, "limit", 50, MOST_FILES)
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
    start, limit = _number(query, "cursor", 0, MOST_ENTRIES), _number(query, "limit", 100, MOST_ITEMS)
    board = request.app[_BOARD]
    return web.json_response(
        await _in_thread(board.set_aside, request.match_info["spider"], kind, wanted, start, limit)
    )


async def _act(request: web.Request) -> web.StreamResponse:
    asked = await _json(request)
    ids = asked.get("ids")
    if ids is not None and not (isinstance(ids, list) and ids and all(isinstance(one, str) for one in ids)):
        raise _BadRequest(f"ids = {_shown(ids)}: should be a list of ids of items")
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
    if worker is not None and not (isinstance(worker, str) and worker.isprintable() and worker.split() == [worker]):
        raise _BadRequest(f"worker = {_shown(worker)}: should be the id of a worker")
    board, paused = request.app[_BOARD], request.match_info["action"] == "pause"
    await _in_thread(board.pause if paused else board.resume, request.match_info["spider"], worker)
    request.app[_LIVE].forget()
    return web.json_response({"paused": paused})


async def _rate(request: web.Request) -> web.StreamResponse:
    asked = await _json(request)
    rate = asked.get("bytes_per_second", "missing")
    fits = isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 <= rate <= MOST_BYTES_PER_SECOND
    if rate is not None and not fits:
        raise _BadRequest(f"bytes_per_second = {_shown(rate)}: should be a number, 0 for no limit, or null")
    await _in_thread(request.app[_BOARD].limit_rate, request.match_info["spider"], rate)
    request.app[_LIVE].forget()
    return web.json_response({"max_rate": rate})


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        asked = await request.json()
    except (LookupError, RecursionError, ValueError) as error:  # no such charset, too deep, no JSON
        raise _BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise _BadRequest("the body should be a JSON object")
    return asked


def _shown(value: object) -> str:
    """Return what was sent, short enough for a sentence."""
    return reprlib.repr(value)


def _kind(name: object) -> str:
    if name not in KINDS:
        raise _BadRequest(f"kind = {_shown(name)}: should be one of {', '.join(KINDS)}")
    return str(name)


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise _BadRequest(f"{name} = {_shown(text)}: should be a whole number up to {most}")
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


_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "", _page),
    ("GET", "login", _ask),
    ("POST", "login", _login),
    ("GET", "static/{name:.+}", _static),
    ("GET", "metrics", _metrics),
    ("GET", "api/status", _status),
    ("GET", "api/events", _events),
    ("GET", "api/spiders/{spider}/details", _details),
    ("GET", "api/spiders/{spider}/history", _history),
    ("GET", "api/spiders/{spider}/files", _files),
    ("GET", "api/spiders/{spider}/hosts", _hosts),
    ("GET", "api/spiders/{spider}/failed", _set_aside),
    ("POST", "api/spiders/{spider}/failed/{action:retry|drop}", _act),
    ("POST", "api/spiders/{spider}/{action:pause|resume}", _pause),
    ("POST", "api/spiders/{spider}/rate", _rate),
)
