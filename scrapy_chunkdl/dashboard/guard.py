"""Who may see the page, and who may change something: names, the token, the cookie that stands for it, local users.

Rules: only whom the token lets in, if there is one, after a limited number of wrong tries; names other than ours in
Host are refused, for a hostile page may have its own name lead to 127.0.0.1 (DNS rebinding). What changes something
must come with a header that no foreign page can send without being asked first (Fetch standard, CORS-safelisted
request-header), and, where there is no token, from the user who runs the page, or root. Knows HTTP and the system's
table of sockets; nothing of queues.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs, web

from scrapy_chunkdl.dashboard.local_users import owner_of

CSRF_HEADER = "X-Chunkdl"
COOKIE = "chunkdl_token"
COOKIE_KEPT = 7 * 24 * 3600
"""Seconds for which a browser need not give the token again."""

TRIES = 20
"""Wrong tokens, or cookies, that an address may give at once."""

TRY_AGAIN_AFTER = 3.0
"""Seconds after which it may give another one."""

_MOST_ADDRESSES = 1000


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


def refused(kind: type[web.HTTPClientError], text: str) -> web.HTTPClientError:
    """Return the answer ``{"error": text}`` of that kind, to be raised."""
    return kind(text=json.dumps({"error": text}), content_type="application/json")


@dataclass(slots=True)
class _Tried:
    """What an address has left, as of a time of the monotonic clock."""

    left: float
    at: float


class Tries:
    """Counts wrong tokens by address: some at once, then one every now and then. Forgets the addresses of long ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tried: OrderedDict[str, _Tried] = OrderedDict()

    def wait(self, address: str) -> float:
        """Return for how many seconds this address is not asked: 0.0 if it may try."""
        tried = self._tried.get(address)
        return max(0.0, (1 - self._left(tried)) * TRY_AGAIN_AFTER) if tried is not None else 0.0

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        tried = self._tried.pop(address, None)
        left = self._left(tried) if tried is not None else TRIES
        self._tried[address] = _Tried(left - 1, self._clock())
        while len(self._tried) > _MOST_ADDRESSES:
            self._tried.popitem(last=False)

    def _left(self, tried: _Tried) -> float:
        return min(TRIES, tried.left + (self._clock() - tried.at) / TRY_AGAIN_AFTER)


class Guard:
    """Knows whom to let in."""

    def __init__(self, host: str, token: str | None, clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self._names = {host.strip("[]").lower(), "localhost", "127.0.0.1", "::1"}
        self._clock = clock
        self._tries = Tries()

    def check_name(self, request: web.Request) -> None:
        """Raise 403 for a request to a name that is not ours. With a token any name will do: it is no secret."""
        if self._token:
            return
        name = request.headers.get(hdrs.HOST, "")
        host = name.rpartition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if host.strip("[").lower() not in self._names:
            raise refused(
                web.HTTPForbidden,
                f"this page has no name {name[:100]!r}: behind a reverse proxy set CHUNKDL_DASHBOARD_TOKEN, then any "
                "name will do; without a token the proxy has to ask for 127.0.0.1",
            )

    def lets_in(self, request: web.Request) -> bool:
        """Whether the request has the token or its cookie. Raises 429 where too many wrong ones came from there."""
        if not self._token:
            return True
        scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(request, bearer.strip()):
            return True
        end, _, seal = request.cookies.get(COOKIE, "").partition(".")
        if not (end.isascii() and end.isdigit() and len(end) < 16):
            return False
        is_ours = self._try(request, lambda: hmac.compare_digest(_bytes(seal), self._seal(int(end)).encode()))
        return is_ours and int(end) > self._clock()

    def is_token(self, request: web.Request, given: str) -> bool:
        """Whether this is the token. Raises as :meth:`lets_in` does."""
        return self._try(request, lambda: hmac.compare_digest(_bytes(given), _bytes(self._token or "")))

    def give_cookie(self, request: web.Request, response: web.StreamResponse) -> None:
        """Have a browser keep what stands for the token: the token itself is kept by nobody but its owner.

        Sent back over TLS alone where it came by TLS, be it to a server in front of this one.
        """
        end = int(self._clock()) + COOKIE_KEPT
        response.set_cookie(
            COOKIE,
            f"{end}.{self._seal(end)}",
            max_age=COOKIE_KEPT,
            httponly=True,
            samesite="Strict",
            secure=_tls(request),
        )

    async def check_change(self, request: web.Request) -> None:
        """Raise 403 for a change that a foreign page, or where there is no token another local user, could ask for."""
        if request.headers.get(CSRF_HEADER) != "1" or request.content_type != "application/json":
            raise refused(
                web.HTTPForbidden, f"changes need the header '{CSRF_HEADER}: 1' and Content-Type: application/json"
            )
        if self._token or request.transport is None or not hasattr(os, "getuid"):
            return
        here, there = (request.transport.get_extra_info(name) for name in ("sockname", "peername"))
        owner = await asyncio.get_running_loop().run_in_executor(None, owner_of, there, here)
        if owner not in (None, 0, os.getuid()):
            raise refused(
                web.HTTPForbidden,
                f"another user of this machine (uid {owner}) may look, but not change anything: for that, and behind "
                "a reverse proxy, set CHUNKDL_DASHBOARD_TOKEN",
            )

    def _try(self, request: web.Request, is_right: Callable[[], bool]) -> bool:
        address = request.remote or ""
        if wait := self._tries.wait(address):
            error = refused(web.HTTPTooManyRequests, f"too many wrong tokens: try again in {math.ceil(wait)} s")
            error.headers[hdrs.RETRY_AFTER] = str(math.ceil(wait))
            raise error
        if is_right():
            return True
        self._tries.wrong(address)
        return False

    def _seal(self, end: int) -> str:
        return hmac.new(_bytes(self._token or ""), b"chunkdl dashboard until %d" % end, hashlib.sha256).hexdigest()


GUARD = web.AppKey("guard", Guard)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # as headers of any bytes are decoded


def _tls(request: web.Request) -> bool:
    """Whether the browser's end speaks TLS. Who lies here harms only their own cookie."""
    told = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.secure or told == "https" or request.headers.get(hdrs.ORIGIN, "").startswith("https://")
