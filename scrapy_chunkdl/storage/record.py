"""What is written down of a file in and about a store: the record in an object's metadata, and URIs. Pure text.

The record tells later whether the file's source has changed.
It is one entry, ``chunkdl``, percent-encoded as in a URL's query. One, since names with a separator do not come through
everywhere: Azure takes no hyphens, and some HTTP servers drop headers with underscores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.text.naming import kept_url, url_digest

KEY = "chunkdl"
_LONGEST_URL = 1000
_LONGEST = 2048 - 64
"""Bytes of the entry as it is sent, three for each byte of a URL's other letters: S3 takes 2,048 of metadata in all."""

_FIELDS = ("url", "etag", "last_modified", "checksum", "more_checksums")
_STRONG_DATE = "strong"


def to_metadata(record: Published) -> dict[str, str]:
    """Return the entry to be kept with an object.

    An object may be open to the world, so a URL that may hold a password or a signature is kept as its digest.
    """
    known = {name: value for name, value in asdict(record).items() if name in _FIELDS and value is not None}
    if record.date_is_strong:
        known[_STRONG_DATE] = "1"
    if record.url is not None:
        known["url"] = kept_url(record.url)
    if record.url is not None and (len(record.url) > _LONGEST_URL or len(_encoded(known)) > _LONGEST):
        known["url"] = url_digest(record.url)
    while len(_encoded(known)) > _LONGEST:  # no server needs so much to tell versions apart
        del known[max(known, key=lambda name: len(known[name]))]
    return {KEY: _encoded(known)}


def _encoded(known: Mapping[str, str]) -> str:
    return urlencode(known, errors="surrogatepass")


def from_metadata(size: int, metadata: Mapping[str, str]) -> Published:
    """Read an object's entry; an object that somebody else put there has none."""
    found = dict(parse_qsl(metadata.get(KEY, "")))
    fields = {name: found.get(name) for name in _FIELDS}
    return Published(size=size, date_is_strong=_STRONG_DATE in found, **fields)


def without_password(uri: str) -> str:
    """Return a store's URI as it may be shown, and written into items."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}"))
