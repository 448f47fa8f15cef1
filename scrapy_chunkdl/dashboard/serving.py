"""Serving the page: for as long as a program runs, or in a thread beside a crawl. Knows loops and sockets only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from scrapy_chunkdl.services.thread import ServiceThread

logger = logging.getLogger(__name__)

PORT = 6024


async def serve(app: web.Application, host: str, port: int, stop: asyncio.Event, tell: Callable[[str], object]) -> None:
    """Serve until ``stop`` is set; ``tell`` gets the address once it does. Raises OSError if it cannot be had."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        name, number = runner.addresses[0][:2]
        tell(f"http://{f'[{name}]' if ':' in name else name}:{number}/")
        await stop.wait()
    finally:
        await runner.cleanup()


class ServerThread(ServiceThread):
    """Serves ``what`` beside a crawl, until :meth:`stop`: "dashboard", "health"."""

    def __init__(self, what: str, app: web.Application, host: str, port: int) -> None:
        super().__init__(f"chunkdl-{what}")
        self._what = what
        self._app = app
        self._address = host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:  # another process of this machine serves it, as a rule
            host, port = self._address
            logger.warning(
                "No %s on %s port %d (%s): the crawl goes on without.", self._what, host, port, error.strerror
            )

    async def _serve(self) -> None:
        self._stop_asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self.stopping.is_set():  # before there was a loop to tell it to
            return
        await serve(self._app, *self._address, self._stop_asked, self._tell)

    def _tell(self, url: str) -> None:
        logger.info("%s at %s", self._what.capitalize(), url)

    def wake(self) -> None:
        """Stop serving."""
        if self._loop is not None and self._stop_asked is not None:
            with suppress(RuntimeError):  # it serves no more
                self._loop.call_soon_threadsafe(self._stop_asked.set)
