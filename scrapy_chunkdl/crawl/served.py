"""What a crawl serves beside itself where that is asked for: the live page, and the probes of its health.

Knows settings and which application goes where; what they answer is the dashboard's. A crawl that serves nothing loads
no web server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scrapy_chunkdl.crawl.guard import Steps
from scrapy_chunkdl.crawl.health import Health
from scrapy_chunkdl.progress.supervised import supervised
from scrapy_chunkdl.settings import values
from scrapy_chunkdl.settings.config import Config


def serve_health(config: Config, health: Health, started: Steps) -> None:
    """Serve the probes at CHUNKDL_HEALTH; worker processes of one supervisor at one port after the other."""
    if not config.health:
        return
    from scrapy_chunkdl.dashboard.health import health_app

    host, port = values.address_of(config.health)
    below = supervised()
    _serve("health", health_app(health), host, port + (below.number - 1 if below and port else 0), started)


def serve_page(
    config: Config, spider: str, items_key: str, new_client: Callable[[], Any], health: Health, started: Steps
) -> None:
    """Serve the live page at CHUNKDL_DASHBOARD. Its questions to Redis go over a client of its own."""
    if not config.dashboard:
        return
    from scrapy_chunkdl.dashboard.board import Board
    from scrapy_chunkdl.dashboard.server import new_app

    client = new_client()
    started.add("client of the page", client.close)
    board = Board()
    board.add(spider, items_key, client, config)
    host, port = config.dashboard_address
    _serve("dashboard", new_app(board, host, config.dashboard_token, health), host, port, started)


def _serve(what: str, app: Any, host: str, port: int, started: Steps) -> None:
    from scrapy_chunkdl.dashboard.serving import ServerThread

    thread = ServerThread(what, app, host, port)
    started.add(what, thread.stop)
    thread.start()
