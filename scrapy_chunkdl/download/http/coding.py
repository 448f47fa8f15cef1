"""What a Content-Encoding means for a file that was asked for as it is (``Accept-Encoding: identity``). Pure.

RFC 9110 §8.4 wants a coding undone, and many servers name as a coding what the file itself is: a .tar.gz as x-gzip
(Apache's AddEncoding, Flask's send_file, Django's static view). Browsers, curl and wget keep such a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from scrapy_chunkdl.download.http.media_types import essence, type_of_name

_NAMES = {"x-gzip": "gzip", "x-compress": "compress"}
"""RFC 9110 §8.4.1.2 and 3: the same codings."""

_UNDONE = frozenset({"gzip", "deflate"})
_REFUSED = frozenset({"br", "zstd", "compress", "dcb", "dcz", "exi", "pack200-gzip", "aes128gcm"})
"""The other codings that IANA registers: what they stand for cannot be had here."""

_OWN_FORMAT = {
    "gzip": frozenset({"application/gzip", "application/x-gtar", "application/x-compressed"}),
    "br": frozenset({"application/x-brotli"}),
    "zstd": frozenset({"application/zstd"}),
    "compress": frozenset({"application/x-compress"}),
}
"""Types of files that are in the coded form themselves, by coding."""

_OWN_NAMES = {
    "gzip": re.compile(r"\.(?:gz|tgz|taz|svgz|emz|wmz|vsvgz|adz|ipa\.gz|gzip|z\.gz|dicom\.gz|warc\.gz|apkg\.gz)$"),
    "br": re.compile(r"\.br$"),
    "zstd": re.compile(r"\.t?zst$"),
    "compress": re.compile(r"\.(?:t?z|taz)$"),
}

_PAGES = frozenset({"text/html", "application/xhtml+xml"})


class Coding(NamedTuple):
    """What to do with a body. ``undo`` has the codings to undo, the last one applied first; ``refused`` one that cannot
    be. With neither, which is false, the bytes are the file, and ranges, lengths and digests are of it. ``coded_size``
    is the length of the body in bytes, None where it was not told.
    """

    undo: tuple[str, ...] = ()
    refused: str | None = None
    coded_size: int | None = None

    def __bool__(self) -> bool:
        return bool(self.undo or self.refused)

    def __str__(self) -> str:
        return self.refused or ", ".join(reversed(self.undo))


KEEP = Coding()


def meaning_of_coding(fields: Iterable[str], name: str, content_type: str | None) -> Coding:
    """Return what the Content-Encoding lines of an answer mean for a file of that name and type.

    What is no registered coding is none (``none``, ``UTF-8``, a media type), and identity counts nothing. A coding that
    is the file's own format is the file, unless it was announced as a page.
    """
    lines = tuple(fields)
    return _meaning(lines, name.lower(), essence(content_type)) if lines else KEEP


@lru_cache(maxsize=1024)
def _meaning(lines: tuple[str, ...], name: str, kind: str) -> Coding:
    tokens = (token.strip().lower() for line in lines for token in line.split(","))
    codings = [_NAMES.get(token, token) for token in tokens]
    codings = [coding for coding in codings if coding in _UNDONE or coding in _REFUSED]
    if not codings:
        return KEEP
    if codings[-1] in _OWN_FORMAT and kind not in _PAGES and _is_own_format(codings[-1], name, kind):
        return KEEP
    refused = next((coding for coding in codings if coding in _REFUSED), None)
    return Coding(refused=refused) if refused else Coding(undo=tuple(reversed(codings)))


def _is_own_format(coding: str, name: str, kind: str) -> bool:
    if kind in _OWN_FORMAT[coding] or _OWN_NAMES[coding].search(name):
        return True
    return type_of_name(name) in _OWN_FORMAT[coding]
