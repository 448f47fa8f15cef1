"""Which proxy a request goes through: the file's own, or that of the environment. Knows URLs; connects to nothing."""

from __future__ import annotations

import base64
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http import socks
from scrapy_chunkdl.download.http.urls import NoUrl, wire_url

DIRECT = "direct"
"""Instead of a proxy's URL: no proxy, whatever the environment says."""

_PORTS = {"http": 80, "https": 443, **dict.fromkeys(socks.SCHEMES, socks.PORT)}
_SCHEMES = frozenset(_PORTS)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL without credentials, and its Proxy-Authorization, if it wants one.

    ``login`` is the ``user:password`` of one of SOCKS, percent-encoded as in a URL.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)
    login: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str, encoding: str = "latin-1") -> Proxy:
        """Read ``http://user:password@host:port``; a missing scheme is http. Raises ValueError, without the password.

        Besides http and https there are socks5 and socks5h, whose login is in :attr:`login`. ``encoding`` is that of
        the credentials, which nothing in HTTP tells (RFC 7617 §2).
        """
        text = url if "://" in url else f"http://{url}"
        try:
            if urlsplit(text).netloc == "":  # a socket's path, of which browsers' rules would make a host
                raise NoUrl("has no host")
            parts = urlsplit(wire_url(text, schemes=_SCHEMES))
        except ValueError:
            shown = f"{text.partition('://')[0][:20]}://{text.partition('://')[2].rpartition('@')[2][:80]}"
            raise ValueError(f"{shown} is not a proxy of http, https, socks5 or socks5h") from None
        assert parts.hostname is not None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        address = f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}"
        if parts.scheme in socks.SCHEMES:
            return cls(address, login=parts.netloc.rpartition("@")[0] or None)
        if parts.username is None:
            return cls(address)
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode(encoding)
        return cls(address, "Basic " + base64.b64encode(login).decode("ascii"))

    @property
    def connected_to(self) -> str:
        """The URL it is connected to by: connections of two logins are never shared.

        Of SOCKS the login is its path: of a userinfo the HTTP library makes a header, which the server would get.
        """
        return f"{self.url}/{quote(self.login, safe='')}" if self.login else self.url

    @property
    def host(self) -> str:
        """The proxy's host name or address."""
        return urlsplit(self.url).hostname or ""


def of_environment(encoding: str = "latin-1") -> Mapping[str, Proxy]:
    """Return the proxies that ``http_proxy`` and ``https_proxy`` name, by scheme. What cannot be one is left out."""
    found = {}
    for scheme, url in urllib.request.getproxies().items():
        if scheme in ("http", "https"):
            try:
                found[scheme] = Proxy.parse(url, encoding)
            except ValueError:
                continue
    return found


def proxy_for(url: str, own: str | None, proxies: Mapping[str, Proxy]) -> Proxy | None:
    """Return the proxy for a request to ``url``. Raises Permanent, reason ``bad_proxy``.

    ``own`` is the file's, :data:`DIRECT` for none; ``proxies`` are those by scheme, for which ``no_proxy`` is heeded.
    """
    if own == DIRECT:
        return None
    if own:
        try:
            return Proxy.parse(own)
        except ValueError as error:
            raise Permanent(f"the attachment's proxy cannot be used: {error}", reason="bad_proxy") from error
    parts = urlsplit(url)
    if parts.scheme not in proxies or (parts.hostname and urllib.request.proxy_bypass(parts.hostname)):
        return None
    return proxies[parts.scheme]
