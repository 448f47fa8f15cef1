"""What is asked for at which address, as JSON, and what each may say. What a queue is, the board knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import hdrs, web

from scrapy_chunkdl.dashboard import health, login, static_files
from scrapy_chunkdl.dashboard.answers import error_answer, in_thread
from scrapy_chunkdl.dashboard.board import Filter
from scrapy_chunkdl.dashboard.events import BOARD, LIVE, events, of_spider
from scrapy_chunkdl.dashboard.parameters import BadRequest, json_body, kind, number, places, shown, word
from scrapy_chunkdl.queue.errors import REDIS_ERRORS
from scrapy_chunkdl.queue.host_limits import AskedLimits
from scrapy_chunkdl.queue.totals import HISTORY_DAYS

PROBE: web.AppKey[health.Probe | None] = web.AppKey("probe")

MOST_ITEMS = 500
"""Items set aside that one answer tells of, at most."""

MOST_FILES = 1000
"""Running files that one answer tells of, at most."""

MOST_BYTES_PER_SECOND = 10**15
"""No line is faster."""

MOST_ENTRIES = 10**15
"""No list is longer."""


async def _status(request: web.Request) -> web.StreamResponse:
    return web.json_response(await request.app[LIVE].status())


async def _details(request: web.Request) -> web.StreamResponse:
    return web.json_response(await in_thread(of_spider, request.app[BOARD], request.match_info["spider"]))


async def _history(request: web.Request) -> web.StreamResponse:
    return web.json_response(await in_thread(request.app[BOARD].history, request.match_info["spider"]))


async def _hours(request: web.Request) -> web.StreamResponse:
    days = number(request.query, "days", HISTORY_DAYS, HISTORY_DAYS)
    return web.json_response(await in_thread(request.app[BOARD].hours, request.match_info["spider"], days))


async def _files(request: web.Request) -> web.StreamResponse:
    start, limit = number(request.query, "offset", 0, MOST_ENTRIES), number(request.query, "limit", 50, MOST_FILES)
    details = await in_thread(request.app[BOARD].details, request.match_info["spider"])
    return web.json_response(details.files(start, limit))


async def _hosts(request: web.Request) -> web.StreamResponse:
    details = await in_thread(request.app[BOARD].details, request.match_info["spider"])
    return web.json_response(details.hosts())


async def _healthz(request: web.Request) -> web.StreamResponse:
    """Tell whether this process is well: that it answers, and the crawl it serves beside, if there is one."""
    probe = request.app[PROBE]
    return health.answer({"page": None, **(probe.live() if probe is not None else {})})


async def _readyz(request: web.Request) -> web.StreamResponse:
    """Tell whether it can show something besides: whether Redis answers."""
    probe, redis = request.app[PROBE], (await request.app[LIVE].status())["redis"]
    checks = dict(probe.ready()) if probe is not None else {}
    return health.answer({"page": None, **checks, "redis": None if redis["ok"] else "Redis does not answer"})


async def _metrics(request: web.Request) -> web.StreamResponse:
    try:
        from scrapy_chunkdl.dashboard import metrics
    except ModuleNotFoundError:
        return error_answer(501, "metrics need: pip install 'scrapy-chunkdl[dashboard]'")
    try:
        body = metrics.text(await in_thread(request.app[BOARD].measured))
    except REDIS_ERRORS:  # told by a metric: a scrape that fails says less
        body = metrics.text(None)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"})


async def _set_aside(request: web.Request) -> web.StreamResponse:
    query = request.query
    wanted_kind = kind(query.get("kind", "failed"))
    wanted = Filter(text=query.get("text", ""), reason=query.get("reason", ""))
    start, limit = number(query, "cursor", 0, MOST_ENTRIES), number(query, "limit", 100, MOST_ITEMS)
    board = request.app[BOARD]
    return web.json_response(
        await in_thread(board.set_aside, request.match_info["spider"], wanted_kind, wanted, start, limit)
    )


async def _act(request: web.Request) -> web.StreamResponse:
    asked = await json_body(request)
    ids = asked.get("ids")
    if ids is not None and not (isinstance(ids, list) and ids and all(isinstance(one, str) for one in ids)):
        raise BadRequest(f"ids = {shown(ids)}: should be a list of ids of items")
    text, reason = (asked.get(name) or "" for name in ("text", "reason"))
    if not (isinstance(text, str) and isinstance(reason, str)):
        raise BadRequest("text and reason: should be texts")
    if ids is None and not text and not reason and asked.get("all") is not True:
        raise BadRequest('which items are meant: give ids, text, reason or "all": true')
    board, spider = request.app[BOARD], request.match_info["spider"]
    wanted = Filter(frozenset(ids) if ids is not None else None, text, reason)
    act = board.put_back if request.match_info["action"] == "retry" else board.drop
    done = await in_thread(act, spider, kind(asked.get("kind", "failed")), wanted)
    request.app[LIVE].forget()
    return web.json_response({"items": done})


async def _waiting(request: web.Request) -> web.StreamResponse:
    query, spider = request.query, request.match_info["spider"]
    start, limit = number(query, "cursor", 0, MOST_ENTRIES), number(query, "limit", 100, MOST_ITEMS)
    return web.json_response(await in_thread(request.app[BOARD].waiting, spider, query.get("text", ""), start, limit))


async def _move(request: web.Request) -> web.StreamResponse:
    wanted, board = places(await json_body(request)), request.app[BOARD]
    act = board.move_to_front if request.match_info["action"] == "front" else board.take_out
    done = await in_thread(act, request.match_info["spider"], wanted)
    request.app[LIVE].forget()
    return web.json_response({"items": done})


async def _finished(request: web.Request) -> web.StreamResponse:
    return web.json_response(await in_thread(request.app[BOARD].finished, request.match_info["spider"]))


async def _ask_of_file(request: web.Request) -> web.StreamResponse:
    asked = await json_body(request)
    worker, file, what = word(asked, "worker"), word(asked, "file"), request.match_info["action"].replace("-", "_")
    await in_thread(request.app[BOARD].ask, request.match_info["spider"], worker, what, file)
    return web.json_response({"asked": what})


async def _pause(request: web.Request) -> web.StreamResponse:
    asked = await json_body(request)
    worker = word(asked, "worker") if asked.get("worker") is not None else None
    board, paused = request.app[BOARD], request.match_info["action"] == "pause"
    await in_thread(board.pause if paused else board.resume, request.match_info["spider"], worker)
    request.app[LIVE].forget()
    return web.json_response({"paused": paused})


async def _rate(request: web.Request) -> web.StreamResponse:
    asked = await json_body(request)
    rate = asked.get("bytes_per_second", "missing")
    fits = isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 <= rate <= MOST_BYTES_PER_SECOND
    if rate is not None and not fits:
        raise BadRequest(f"bytes_per_second = {shown(rate)}: should be a number, 0 for no limit, or null")
    await in_thread(request.app[BOARD].limit_rate, request.match_info["spider"], rate)
    request.app[LIVE].forget()
    return web.json_response({"max_rate": rate})


async def _limit_host(request: web.Request) -> web.StreamResponse:
    asked = await json_body(request)
    host, board = word(asked, "host"), request.app[BOARD]
    if request.match_info["action"] == "reset":
        await in_thread(board.reset_host, request.match_info["spider"], host)
        return web.json_response({"host": host, "asked": None})
    try:
        limits = AskedLimits.of({name: value for name, value in asked.items() if name != "host"})
        await in_thread(board.limit_host, request.match_info["spider"], host, limits)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return web.json_response({"host": host, "asked": asdict(limits)})


ROUTES: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "", static_files.page),
    ("GET", "login", login.ask),
    ("POST", "login", login.sign_in),
    ("GET", "static/{name:.+}", static_files.static),
    ("GET", "metrics", _metrics),
    ("GET", health.LIVE, _healthz),
    ("GET", health.READY, _readyz),
    ("GET", "api/status", _status),
    ("GET", "api/events", events),
    ("GET", "api/spiders/{spider}/details", _details),
    ("GET", "api/spiders/{spider}/history", _history),
    ("GET", "api/spiders/{spider}/hours", _hours),
    ("GET", "api/spiders/{spider}/files", _files),
    ("GET", "api/spiders/{spider}/hosts", _hosts),
    ("GET", "api/spiders/{spider}/failed", _set_aside),
    ("POST", "api/spiders/{spider}/failed/{action:retry|drop}", _act),
    ("POST", "api/spiders/{spider}/{action:pause|resume}", _pause),
    ("POST", "api/spiders/{spider}/rate", _rate),
    ("POST", "api/spiders/{spider}/hosts/{action:limit|reset}", _limit_host),
    ("GET", "api/spiders/{spider}/waiting", _waiting),
    ("POST", "api/spiders/{spider}/waiting/{action:front|out}", _move),
    ("GET", "api/spiders/{spider}/finished", _finished),
    ("POST", "api/spiders/{spider}/files/{action:give-up|retry}", _ask_of_file),
)
