"""Answers that all routes share: errors as JSON with a sentence, and work that blocks done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from scrapy_chunkdl.dashboard.board import NoSuchSpider
from scrapy_chunkdl.dashboard.parameters import BadRequest
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain

T = TypeVar("T")


@web.middleware
async def told_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell errors as ``{"error": sentence}``."""
    try:
        return await handler(request)
    except NoSuchSpider as error:
        return error_answer(404, str(error))
    except BadRequest as error:
        return error_answer(400, str(error))
    except REDIS_ERRORS as error:
        return error_answer(503, explain(error))
    except web.HTTPError as error:
        if error.content_type == "application/json":
            raise
        return error_answer(error.status, error.reason)


def error_answer(status: int, text: str) -> web.Response:
    """Return ``{"error": text}``."""
    return web.json_response({"error": text}, status=status)


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run what blocks, such as a call to Redis, off the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
