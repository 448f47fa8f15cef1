"""Which file a request is for: the one its URL gives to anybody, or the one it gives to this request alone.

One URL can give many files: another language, another account's invoice. What an item itself says of the request
(headers, cookie jar, proxy) makes another file of it, where that differs from what every request here has. Folders,
names, part files, journals, records and shared downloads all go by this identity. Pure; knows requests, not the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

from scrapy_chunkdl.download.http.identity import OURS
from scrapy_chunkdl.download.http.proxies import DIRECT, Proxy, proxy_for
from scrapy_chunkdl.download.model import FileRequest, Options
from scrapy_chunkdl.text.naming import url_digest

_DIGITS = 32
_LONGEST_URL = 8192
"""Characters of a URL that is written down as it is: one that is longer is data, and may have megabytes."""


class FileIdentity(NamedTuple):
    """A URL without credentials, and ``variant``: hex digits that stand for what else was asked, empty for nothing."""

    url: str
    variant: str = ""

    @classmethod
    def of(cls, request: FileRequest, options: Options) -> FileIdentity:
        """Return what a request is for.

        All headers of its own count, by name in any case and value, but for those that are sent to everybody with the
        same value anyway, and those that no request may have (Range, If-Range and their like). So do the name of its
        cookie jar (not the cookies: they change), its proxy, a login taken out of its URL, and a method and body.
        """
        url = url_digest(request.url) if len(request.url) > _LONGEST_URL else request.url
        if not (request.headers or request.proxy or request.session or request.logins or request.asked):
            return cls(url)
        asked = {
            "headers": sorted(_own_headers(request, options)),
            "session": request.session,
            "proxy": _own_proxy(request, options),
            "login": request.logins.get(request.url),
        }
        if request.asked:
            asked["asked"] = request.asked
        if not any(asked.values()):
            return cls(url)
        digest = hashlib.sha256(json.dumps([request.url, asked]).encode()).hexdigest()
        return cls(url, digest[:_DIGITS])

    @property
    def seed(self) -> str:
        """What folders and distinct names are made of: the URL alone for a plain request."""
        return f"{self.url}\n{self.variant}" if self.variant else self.url

    @property
    def recorded(self) -> str:
        """What is written down with the file as its URL: of what else was asked only a digest."""
        return url_digest(self.seed) if self.variant else self.url

    def is_anothers(self, recorded: str | None) -> bool:
        """Tell whether a record is of another file. None, where nothing was recorded, tells nothing."""
        if recorded is None:
            return False
        if self.variant:
            return recorded != self.recorded
        return recorded not in (self.url, url_digest(self.url))  # what is kept of a URL that may hold a secret


def _own_headers(request: FileRequest, options: Options) -> Iterator[tuple[str, str]]:
    to_all = {name.lower(): _plain(name, value) for name, value in options.headers.items()}
    to_all.setdefault("user-agent", options.user_agent)
    if options.authorization is not None:
        to_all["authorization"] = options.authorization
    for name, value in request.headers.items():
        name, value = name.lower(), _plain(name, value)
        if name not in OURS and to_all.get(name) != value:
            yield name, value


def _plain(name: str, value: str) -> str:
    """Return a value as it is compared: cookies in any order are the same."""
    if name.lower() == "cookie":
        return "; ".join(sorted(filter(None, (pair.strip() for pair in value.split(";")))))
    return value.strip()


def _own_proxy(request: FileRequest, options: Options) -> tuple[str, str | None] | None:
    if not request.proxy:
        return None
    usual = proxy_for(request.url, None, options.proxies)
    try:
        own = None if request.proxy == DIRECT else Proxy.parse(request.proxy)
    except ValueError:  # no proxy at all: the download says so
        return request.proxy, None
    if own == usual:
        return None
    return (own.url, own.authorization) if own is not None else (DIRECT, None)
