"""``scrapy chunkdl dashboard``: serves the live page of all spiders, or of one, until it is stopped."""

from __future__ import annotations

import asyncio
import signal

from scrapy.settings import BaseSettings

from scrapy_chunkdl.commands.console import CommandError
from scrapy_chunkdl.commands.queues import opened
from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.guard import Unusable
from scrapy_chunkdl.dashboard.server import new_app
from scrapy_chunkdl.dashboard.serving import serve
from scrapy_chunkdl.settings.config import Config, ConfigError


def run(settings: BaseSettings, spider: str | None, host: str, port: int) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code. Raises :class:`CommandError` if it cannot be served."""
    with opened(settings, spider) as queues:
        board = Board()
        for queue in queues:
            board.add(queue.spider, queue.key, queue.client, queue.config)
        try:
            asyncio.run(_serve(board, host, port, _token(settings)))
        except Unusable as error:
            raise CommandError(f"{error}.") from error
        except OSError as error:
            raise CommandError(f"{host} port {port} cannot be served: {error.strerror or error}.") from error
    return 0


def _token(settings: BaseSettings) -> str | None:
    try:
        return Config.read(settings).dashboard_token
    except ConfigError as error:
        raise CommandError(str(error)) from error


async def _serve(board: Board, host: str, port: int, token: str | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(new_app(board, host, token), host, port, stop, lambda url: print(f"Dashboard at {url}", flush=True))
