"""The state of all spiders as of a moment ago, and the events that keep a reader up to date.

Knows the board and HTTP's event stream; nothing of what is shown, or of who may look.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from contextlib import suppress
from typing import Any

from aiohttp import hdrs, web

from scrapy_chunkdl.dashboard.answers import in_thread
from scrapy_chunkdl.dashboard.board import Board, NoSuchSpider
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain
from scrapy_chunkdl.services.patience import within

logger = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between events."""

FILES_IN_EVENTS = 50


class Live:
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
                    self._told = {**await in_thread(self._board.status), "redis": {"ok": True}}
                except REDIS_ERRORS as error:
                    self._told = {**self._told, "spiders": [], "redis": {"ok": False, "error": explain(error)}}
                self._made_at = now
            return self._told


BOARD = web.AppKey("board", Board)
LIVE = web.AppKey("live", Live)


async def end_events(app: web.Application) -> None:
    """Have every stream end: the server goes."""
    app[LIVE].ended.set()


async def events(request: web.Request) -> web.StreamResponse:
    """Stream ``status``, and ``spider`` where one is named, until the reader or the server goes."""
    board, live, spider = request.app[BOARD], request.app[LIVE], request.query.get("spider")
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
                    await response.write(_event("spider", await in_thread(of_spider, board, spider)))
                except REDIS_ERRORS as error:  # the next status tells of it
                    logger.debug("Nothing to tell of %s: %s", spider, error)
            with suppress(asyncio.TimeoutError):
                await within(EVERY, live.ended.wait())
    except ConnectionResetError:
        logger.debug("A page was closed.")
    return response


def of_spider(board: Board, spider: str) -> dict[str, Any]:
    """Return what is told of one spider besides its status: the body of ``…/details``."""
    details = board.details(spider)
    return {
        "spider": spider,
        "history": board.history(spider),
        "files": details.files(0, FILES_IN_EVENTS),
        "hosts": details.hosts(),
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
