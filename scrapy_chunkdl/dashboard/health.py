"""``/healthz`` and ``/readyz``, for those who start processes anew: on a port of their own, or beside the page.

They tell whether a process is well, and what is wrong, in words of ours: nothing of items, addresses or settings, so
they need no token. Who looks, and at what, is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

Checks = Mapping[str, str | None]

LIVE, READY = "healthz", "readyz"
PATHS = frozenset({LIVE, READY})


class Probe(Protocol):
    """Looks at a process: what is wrong with each part of it, None where nothing is."""

    def live(self) -> Checks:
        """Look at what only a new process would cure."""

    def ready(self) -> Checks:
        """Look at whether it takes work besides."""


def health_app(probe: Probe) -> web.Application:
    """Return an application that serves the two, and nothing else."""
    app = web.Application()

    async def live(_: web.Request) -> web.Response:
        return answer(probe.live())

    async def ready(_: web.Request) -> web.Response:
        return answer(probe.ready())

    app.router.add_get(f"/{LIVE}", live)
    app.router.add_get(f"/{READY}", ready)
    return app


def answer(checks: Checks) -> web.Response:
    """Return 200 where all is well, else 503 with what is not."""
    wrong = {name: sentence for name, sentence in checks.items() if sentence is not None}
    body = {"ok": not wrong, "checks": {name: sentence or "ok" for name, sentence in checks.items()}}
    return web.json_response(body, status=503 if wrong else 200, headers={"Cache-Control": "no-store"})
