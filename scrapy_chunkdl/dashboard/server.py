"""The page's server, put together: routes, who may ask for them, and what every answer says.

No script but ours runs: Content-Security-Policy.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from scrapy_chunkdl.dashboard.answers import told_as_json
from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.events import BOARD, LIVE, Live, end_events
from scrapy_chunkdl.dashboard.guard import GUARD, Guard, check
from scrapy_chunkdl.dashboard.health import Probe
from scrapy_chunkdl.dashboard.login import guarded
from scrapy_chunkdl.dashboard.routes import PROBE, ROUTES
from scrapy_chunkdl.dashboard.static_files import SCRIPT_HASHES

SLASHES = "/{slashes:/*}"
"""``location /chunkdl { proxy_pass http://…/; }`` of nginx makes ``//api/status`` of ``/chunkdl/api/status``."""

_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self' {SCRIPT_HASHES}; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer" the form's Origin is "null", see guard.give_cookie
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def new_app(board: Board, host: str, token: str | None, probe: Probe | None = None) -> web.Application:
    """Return the application that serves ``board`` on the address ``host``. Raises as :func:`check` does.

    ``probe`` looks at the crawl that serves it, if one does.
    """
    check(host, token)
    app = web.Application(middlewares=[told_as_json, guarded], client_max_size=1 << 20)
    app[BOARD], app[GUARD], app[LIVE], app[PROBE] = board, Guard(host, token), Live(board), probe
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(end_events)
    for method, path, handler in ROUTES:
        app.router.add_route(method, SLASHES + path, handler)
    return app


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    if not request.path.lstrip("/").startswith("static/"):
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
