"""Who the requests of one file say they are: the headers, cookies and credentials of each hop, and no others.

What identifies somebody (Authorization, Cookie) goes to the origin it was meant for and nowhere else, whatever a
redirect says; Scrapy had to learn that hop by hop (GHSA-cw9j-q3vf-hrrv, GHSA-4qqq-9vqf-3h3f). Knows URLs and headers;
sends nothing.
"""

from __future__ import annotations

import base64
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractCookieJar
from multidict import CIMultiDict
from yarl import URL

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.urls import PLAIN_URL, NoUrl, userinfo_of, wire_url, without_userinfo
from scrapy_chunkdl.download.model import FileRequest, Options
from scrapy_chunkdl.text.masking import shown_url

if TYPE_CHECKING:
    from scrapy_chunkdl.download.http.digest import Challenge

_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
_OF_THE_ORIGIN = _CREDENTIALS | {"host"}
"""What is for the origin an item names, and for no other that a redirect leads to."""

OURS = frozenset({"range", "if-range", "accept-encoding"}) | {
    f"if-{condition}" for condition in ("match", "none-match", "modified-since", "unmodified-since")
}
_UNSAFE_IN_HEADER = re.compile(r"[\r\n\0]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Identity:
    """What goes into the headers of one file's requests, whichever URL they go to."""

    def __init__(self, request: FileRequest, options: Options) -> None:
        self._home = _origin(request.url)
        self._options = options
        self._logins = {_origin(url): login for url, login in request.logins.items()}
        self._session_cookies = request.cookies
        self._cookies: AbstractCookieJar | None = None
        self._challenges: dict[str, Challenge] = {}
        self._as_sent: dict[tuple[str, str], str] = {}  # a jar keeps what a value means; RFC 6265 §5.4 sends it back
        given = _checked_headers(request.headers)
        self._given = CIMultiDict(_of_every_request(options.user_agent, tuple(options.headers.items())))
        self._has_own_authorization = hdrs.AUTHORIZATION in CIMultiDict(given)
        self._given.update(given)

    @property
    def user_agent(self) -> str:
        """The User-Agent header, empty for none."""
        return self._given.get(hdrs.USER_AGENT, "")

    def without_login(self, url: str) -> str:
        """Take a ``user:password@`` out of a URL and keep it for that URL's origin."""
        bare = without_userinfo(url)
        if login := _login_of(url):
            self._logins[_origin(bare)] = login
        return bare

    def renew(self, url: str, headers: Mapping[str, str]) -> None:
        """Send ``headers`` from now on, too; credentials among them are for that URL's origin, the file's for its own.

        Raises Permanent for headers that cannot be sent.
        """
        given = _checked_headers(headers)
        if not _is_same_origin(url, self._home):
            self._has_own_authorization = False
            for name in _CREDENTIALS:
                self._given.popall(name, None)
        self._home = url
        self._has_own_authorization = self._has_own_authorization or hdrs.AUTHORIZATION in CIMultiDict(given)
        self._given.update(given)

    def headers_for(self, url: str, method: str = hdrs.METH_GET) -> CIMultiDict[str]:
        """Return the headers that a request to ``url``, as it is sent, carries: a hop of a redirect perhaps."""
        headers = CIMultiDict(self._given)
        if not _is_same_origin(url, self._home):
            for name in _OF_THE_ORIGIN:
                headers.popall(name, None)
        if url.startswith("http:") and headers.get(hdrs.REFERER, "").startswith("https:"):
            del headers[hdrs.REFERER]  # RFC 9110 §10.1.3
        authorization = self._authorization_for(url)
        if authorization and (challenge := self._challenges.get(host_of(url))) is not None:
            authorization = self._answered(challenge, url, method, authorization)
        if authorization:
            headers[hdrs.AUTHORIZATION] = authorization
        if cookies := self._joined_cookies(url, headers.get(hdrs.COOKIE)):
            headers[hdrs.COOKIE] = cookies
        return headers

    def takes_up(self, challenge: Challenge, url: str, sent: str) -> bool:
        """Tell whether a 401 can be answered, and do so with the requests to this host from now on (RFC 7616 §3.3).

        ``sent`` is the Authorization that was refused: an answer is refused for good, unless its nonce was stale.
        """
        login = self._authorization_for(url)
        if not (login or "").startswith("Basic ") or (sent.startswith("Digest ") and not challenge.is_stale):
            return False
        self._challenges[host_of(url)] = challenge
        return True

    def _answered(self, challenge: Challenge, url: str, method: str, login: str) -> str:
        if not login.startswith("Basic "):
            return login
        user, _, password = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")
        parts = urlsplit(url)
        return challenge.answer(method, f"{parts.path or '/'}{'?' if '?' in url else ''}{parts.query}", user, password)

    def cookies_for(self, url: str) -> str:
        """Return the Cookie header that a request to ``url`` carries."""
        return self.headers_for(url).get(hdrs.COOKIE, "")

    def note_cookies(self, cookies: SimpleCookie, url: URL) -> None:
        """Keep the cookies that a response set, for this file alone."""
        if self._cookies is None:
            self._cookies = aiohttp.CookieJar(unsafe=True)
        self._cookies.update_cookies(cookies, url)
        self._as_sent |= {(name, morsel.value): morsel.coded_value for name, morsel in cookies.items()}

    def _authorization_for(self, url: str) -> str | None:
        """Return what is sent instead of the default headers' Authorization, if anything."""
        at_home = _is_same_origin(url, self._home)
        if at_home and self._has_own_authorization:
            return None
        for origin, login in self._logins.items():
            if _is_same_origin(url, origin):
                return login
        domain, host = self._options.authorization_domain, urlsplit(url).hostname or ""
        if domain:
            known = host == domain or host.endswith("." + domain)
            return self._options.authorization if known and not _is_downgrade(url, self._home) else None
        return self._options.authorization if at_home else None

    def _joined_cookies(self, url: str, given: str | None) -> str:
        """Join the spider's cookies, the item's and those set on the way; a later one replaces one of its name."""
        joined: dict[str, str] = {}
        if self._session_cookies is not None:
            session_request = urllib.request.Request(url)
            self._session_cookies.add_cookie_header(session_request)
            joined |= _parsed_cookies(session_request.get_header("Cookie"))
        joined |= _parsed_cookies(given)
        if self._cookies is not None:
            set_on_the_way = self._cookies.filter_cookies(URL(url, encoded=True))
            joined |= {
                name: f"{name}={self._as_sent.get((name, morsel.value), morsel.coded_value)}"
                for name, morsel in set_on_the_way.items()
            }
        return "; ".join(joined.values())


def _origin(url: str) -> str:
    """Return a URL as it is compared with one that is sent; nothing is of the origin of what is no URL."""
    try:
        return wire_url(url)
    except NoUrl:
        return ""


def with_logins_apart(request: FileRequest) -> FileRequest:
    """Return the request with every ``user:password@`` taken out of its URLs and into ``logins``.

    From then on no log line, error, journal or record can show them.
    """
    urls = (request.url, *request.mirrors, *request.found_at)
    if not any("@" in url for url in urls):
        return request
    logins = dict(request.logins)
    for url in urls:
        if login := _login_of(url):
            logins[without_userinfo(url)] = login
    mirrors = tuple(without_userinfo(url) for url in request.mirrors)
    found_at = tuple(without_userinfo(url) for url in request.found_at)
    return replace(request, url=without_userinfo(request.url), mirrors=mirrors, found_at=found_at, logins=logins)


def basic(userinfo: str) -> str:
    """Return the Authorization that ``user:password``, percent-encoded as in a URL, stands for (RFC 7617)."""
    user, _, password = userinfo.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode("ascii")


PORTS = {"http": 80, "https": 443, "ftp": 21, "ftps": 990, "sftp": 22}
_KEPT_APART = frozenset({*PORTS, "s3", "gs", "az"})


@lru_cache(maxsize=1024)
def host_of(url: str) -> str:
    """Return ``host:port``, the key of per-host limits. Raises Permanent, reason ``bad_url``, for what is no URL.

    Of what has no port, such as a bucket, the scheme is in its place.
    """
    if (plain := PLAIN_URL.fullmatch(url)) is not None:
        scheme, name, port, _ = plain.groups()
        return f"{name}:{port or PORTS[scheme]}"
    try:
        parts = urlsplit(wire_url(url, schemes=_KEPT_APART))
    except NoUrl as error:
        raise no_url(url, error) from None
    return f"{parts.hostname}:{parts.port or PORTS.get(parts.scheme, parts.scheme)}"


def no_url(url: str, error: NoUrl) -> Permanent:
    """Return the error that a text which is no URL is given up for."""
    return Permanent(f"'{shown_url(url)}' cannot be fetched: it {error}", reason="bad_url")


def _login_of(url: str) -> str | None:
    userinfo = userinfo_of(url)
    return basic(userinfo) if userinfo else None


def _is_same_origin(url: str, home: str) -> bool:
    """Whether ``url`` may have what was meant for ``home``: its origin, or the same host moved from http to https."""
    if url == home:
        return True
    a, b = urlsplit(url), urlsplit(home)
    if a.scheme == b.scheme:
        return host_of(url) == host_of(home)
    upgraded = a.scheme == "https" and b.scheme == "http" and (a.port or 443, b.port or 80) == (443, 80)
    return upgraded and a.hostname == b.hostname


def _is_downgrade(url: str, home: str) -> bool:
    return url.startswith("http:") and home.startswith("https:")


def _parsed_cookies(header: str | None) -> dict[str, str]:
    pairs = (pair.strip() for pair in (header or "").split(";"))
    return {pair.partition("=")[0]: pair for pair in pairs if pair}


@lru_cache(maxsize=16)
def _of_every_request(user_agent: str, headers: tuple[tuple[str, str], ...]) -> CIMultiDict[str]:
    given = CIMultiDict({hdrs.USER_AGENT: user_agent} if user_agent else {})
    given.update(_checked_headers(dict(headers)))
    return given


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _UNSAFE_IN_HEADER.search(value):
            raise Permanent(f"header {name!r} cannot be sent: {_shown(name, value)}", reason="bad_header")
    return {name: value for name, value in headers.items() if name.lower() not in OURS}


def _shown(name: str, value: str) -> str:
    return "its value has a line break" if name.lower() in _CREDENTIALS else repr(value)
