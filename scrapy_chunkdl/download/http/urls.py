"""The URL that goes over the wire, made of what items, mirrors, hooks and Locations say. Pure text; sends nothing.

Browsers' rules, the URL Standard's, by ada-url, an implementation of it in C++: tabs and line breaks are dropped,
``\\`` is ``/``, dots are resolved, a host is what IDNA and the IPv4 parser make of it, so that ``①②⑦.⓪.⓪.①`` and
``0x7f.1`` are known to be 127.0.0.1 before anything is connected to. w3lib's ``safe_url_string`` takes the same 10 µs;
it leaves dots and hosts alone, drops an empty query, and takes ``http:///host/`` for one without a host. What the
Standard leaves as it is though no URI may have it (RFC 3986 §2) becomes %XX besides, as Scrapy does it and Tomcat wants
it. What is %XX already stays, or signatures would break.
"""

from __future__ import annotations

import re
from functools import lru_cache

_RAW_BYTE = re.compile("[\udc80-\udcff]")
"""How bytes of a field that are no UTF-8 come out of the HTTP library: they are opaque (RFC 9110 §5.5)."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_USERINFO = re.compile(r"^\s*([A-Za-z][A-Za-z0-9+.-]*:)?([/\\]{2,})([^/\\?#]*)@")
_NOT_IN_A_URI = re.compile(r"[\"<>\\^`{|}\x00-\x20\x7f]")

_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HOST = rf"(?![^/:]*xn--)(?:(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*|{_BYTE}(?:\.{_BYTE}){{3}})"
_PORT = r"(?!(?:80|443)/)(?:[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3})"
_ENCODED = r"%(?!2[Ee])[0-9A-Fa-f]{2}"
_SEGMENT = rf"/(?!\.{{1,2}}(?:[/?]|$))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|{_ENCODED})+"
_QUERY = rf"\?(?:[A-Za-z0-9._~!$()*+,;:@/?&=-]|{_ENCODED})+"
PLAIN_URL = re.compile(rf"(https?)://({_HOST})(?::({_PORT}))?((?:{_SEGMENT})+(?:{_QUERY})?)")
"""A URL that goes over the wire as it is, as most do: scheme, host, port, target. Seen in 2 µs, where ada-url takes 20,
and lets go of Python's lock, which comes back late where other threads are at work."""


class NoUrl(ValueError):
    """A text that cannot be asked for; the message says why, without the text."""


LONGEST = 65_536
"""Characters of a URL: what is longer is data, and no server takes it (nginx 8 KB, Apache 8 KB, IIS 16 KB)."""


WEB = frozenset({"http", "https"})


def wire_url(text: str, base: str | None = None, *, schemes: frozenset[str] = WEB) -> str:
    """Return the URL of a text as it is sent: ASCII, with a host, without fragment. Raises :class:`NoUrl`.

    ``base`` is what a relative reference is resolved against: the URL of the answer that had it. The same again gives
    the same. ``user:password@`` stays. ``schemes`` are those it may be of.
    """
    if len(text) > LONGEST:
        raise NoUrl(f"has {len(text)} characters, more than {LONGEST}")
    return _wire_url(text, base, schemes)


@lru_cache(maxsize=4096)
def _wire_url(text: str, base: str | None, schemes: frozenset[str]) -> str:
    if PLAIN_URL.fullmatch(text) is not None and text.partition(":")[0] in schemes:
        return text
    import ada_url  # what most crawls have is written as it is sent

    raw = _RAW_BYTE.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", text)
    raw = _LONE_SURROGATE.sub("\ufffd", raw)
    try:
        parsed = ada_url.URL(raw, base) if base is not None else ada_url.URL(raw)
    except ValueError:
        raise NoUrl(_why_not(raw, base)) from None
    if parsed.protocol.removesuffix(":") not in schemes:
        known = "http: or https:" if schemes == WEB else ", ".join(f"{name}:" for name in sorted(schemes))
        raise NoUrl(f"is of the scheme {parsed.protocol[:20]}, not {known}")
    if not parsed.hostname:
        raise NoUrl("has no host")
    href, _, _ = parsed.href.partition("#")
    return _NOT_IN_A_URI.sub(lambda found: f"%{ord(found[0]):02X}", href)


def _why_not(raw: str, base: str | None) -> str:
    scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*):", raw)
    if base is None and scheme is None:
        return "is not a whole URL: use response.urljoin(...)"
    return "has a host or port that cannot be"


def host_name(url: str) -> str:
    """Return the host of a URL made by :func:`wire_url`, in lower case, an IPv6 address without its brackets."""
    rest = url.partition("://")[2]
    authority = re.split(r"[/?]", rest, maxsplit=1)[0].rpartition("@")[2]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def without_userinfo(url: str) -> str:
    """Return a URL without its ``user:password@``, whichever slashes it is written with."""
    return _USERINFO.sub(lambda match: f"{match[1] or ''}{match[2]}", url, count=1) if "@" in url else url


def userinfo_of(url: str) -> str:
    """Return the ``user:password`` of a URL, percent-encoded as it is; empty where it has none."""
    match = _USERINFO.match(url)
    return match[3] if match else ""
