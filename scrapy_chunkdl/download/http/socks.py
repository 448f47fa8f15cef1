"""Connections through SOCKS proxies (RFC 1928, 1929), by python-socks. Knows sockets; nothing of HTTP.

``socks5`` has names resolved here, ``socks5h`` by the proxy, as curl has it.
"""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import unquote, urlsplit

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.download.extras import needed

SCHEMES = frozenset({"socks5", "socks5h"})
PORT = 1080

_FOR_EVER = frozenset({2, 7, 8})
"""Replies that are the same the next time: not allowed, no CONNECT, no addresses of that kind (RFC 1928 §6)."""


def is_socks(url: str) -> bool:
    """Whether a proxy's URL is of SOCKS."""
    return url.partition("://")[0] in SCHEMES


async def connect(
    proxy: str, host: str, port: int, *, timeout: float | None, local_address: tuple[str, int] | None = None
) -> socket.socket:
    """Return a connection to ``host``, a name for ``socks5h`` or an address.

    ``proxy`` is a URL whose path is the login, ``user:password``, percent-encoded twice; or has none.

    Raises Permanent, reason ``missing_extra`` or ``proxy_refused``, Transient for what passes.
    """
    python_socks = needed("python_socks.async_.asyncio", "socks", "a SOCKS proxy")
    errors = needed("python_socks", "socks", "a SOCKS proxy")
    parts = urlsplit(proxy)
    at = f"{parts.hostname}:{parts.port or PORT}"
    user, colon, password = unquote(parts.path.lstrip("/")).partition(":")
    through = python_socks.Proxy(
        errors.ProxyType.SOCKS5,
        parts.hostname,
        parts.port or PORT,
        username=unquote(user) if user or colon else None,
        password=unquote(password) if user or colon else None,
        rdns=True,
    )
    try:
        connected: socket.socket = await through.connect(host, port, timeout=timeout, local_addr=local_address)
        return connected
    except errors.ProxyTimeoutError as error:
        raise Transient(
            f"no connection to {host}:{port} by the proxy {at} in time", reason="connect_timeout"
        ) from error
    except errors.ProxyConnectionError as error:
        raise Transient(f"no connection to the proxy {at}", reason="connect_failed") from error
    except errors.ProxyError as error:
        raise _refused(at, host, port, error, error.error_code) from error
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Transient(f"the proxy {at} closed the connection", reason="connection_lost") from error


def _refused(at: str, host: str, port: int, error: Exception, code: int | None) -> DownloadError:
    text = f"the proxy {at} did not connect to {host}:{port}: {str(error) or type(error).__name__}"
    if code in _FOR_EVER or "auth" in str(error).lower():
        return Permanent(text, reason="proxy_refused")
    return Transient(text, reason="connect_failed")
