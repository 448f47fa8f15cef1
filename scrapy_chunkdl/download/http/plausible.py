"""Is it the file at all: whether bytes can be what was asked for, or are a page in its place. Pure; no I/O.

No RFC decides; it is a policy, told in docs/failures.md. A login page, an error told as JSON, a challenge or an empty
body may come under 200. It takes two to refuse: what the first bytes are, and a name or an announced type that promises
something else. What may be a text of any format, and what is not known, is let through, whatever was announced: servers
send PDFs as text/html.

What a page is, is told by the rules of browsers (the MIME Sniffing Standard §7.1). Other formats are told by puremagic,
and only for the few files that look like text, or whose attachment says what it accepts: most are settled by their
first bytes that are no text. Of 41 samples of binary formats (pdf, zip, docx, png, jpg, gz, mp4, 7z, OLE, DjVu …)
puremagic 1.30 names 40 and tells no text for one of them; Office's zips are one family to it. filetype 1.2 names 38,
docx and xlsx apart, takes text that begins with "GIF" for an image, and has had no release since 2022. It takes 50 µs
and 260 KB, puremagic 650 µs and 230 KB.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase

from scrapy_chunkdl.download.http.media_types import (
    Kind,
    essence,
    is_any_bytes,
    kind_of_name,
    kind_of_type,
    says_nothing,
    type_of_name,
)
from scrapy_chunkdl.text.masking import masked_quote

FIRST_BYTES = 2048
"""Bytes that are looked at. A PDF may have 1,024 before its header (ISO 32000-1, annex H.3.4.1)."""

_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text has: "binary data bytes" of the MIME Sniffing Standard §3."""

_BLANK_BYTES = b" \t\r\n\f\xef\xbb\xbf"
_MARKUP = b"<{[\xff\xfe"
_BLANK = " \t\r\n\f\ufeff"
_TAGS = "html|head|body|title|meta|script|style|link|iframe|div|table|font|form|center|noscript|main|section|span|img"
_TAGS += "|h[1-6]|a|b|p|br|hr|ul|pre"
_HTML = re.compile(rf"<(?:!doctype\s+html|(?:{_TAGS})(?=[\s>/]))", re.IGNORECASE)
_SURE_HTML = re.compile(r"<(?:!doctype\s+html|(?:html|head|body|script|meta|title)(?=[\s>/]))", re.IGNORECASE)
_SURE_HTML_BYTES = re.compile(rb"\s*<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)
"""What no other format begins with, whatever follows."""

_JSON_BEGINS = re.compile(r"""\{\s*(?:"|\}\s*$)|\[\s*(?:[\[{"\]]|-?\d|true|false|null)""")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_OLD_OFFICE = frozenset({"application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"})
"""Formats that Office also reads as HTML, XML or text, and that sites export as such under the old extension."""

_NEVER_A_PAGE = frozenset(
    {"text/csv", "text/tab-separated-values", "application/json", "application/jsonl", "application/geo+json"}
    | {"text/calendar", "text/vcard", "text/x-vcard", "application/yaml"}
)
_NEVER_JSON = frozenset({"text/csv", "text/tab-separated-values", "text/calendar", "text/vcard", "application/xml"})

_TEXTS_WITH_SIGNATURES = frozenset({"application/rtf", "application/postscript"})
_COMPRESSED = frozenset({"application/gzip", "application/x-bzip2", "application/x-xz", "application/zstd"})

_SHOWN = 60

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


def why_not(
    name: str,
    announced: str | None,
    size: int,
    first: bytes,
    *,
    told: str | None = None,
    told_size: int = 0,
    accept: Iterable[str] = (),
) -> str | None:
    """Return what came instead of the file, such as "an HTML page instead of application/pdf"; None if it may be it.

    ``name`` is the file's, or what its URL calls it; ``announced`` the Content-Type that came with the bytes; ``size``
    in bytes; ``first`` the first :data:`FIRST_BYTES` of them. ``told`` and ``told_size`` are the type and size that an
    earlier answer, a HEAD say, gave. ``accept`` has what the item takes: types such as ``image/*``, or extensions with
    their dot; where it is given it alone decides.
    """
    if accept:
        return _not_accepted(name, announced, size, first, tuple(accept))
    if size and is_no_text(first, announced):
        return None
    is_blank = size <= len(first) and not first.strip(_BLANK_BYTES)
    wanted = _promises(name, announced, told)
    binary = [kind for kind in wanted if kind_of_type(kind) is Kind.BINARY]
    if size == 0:
        if told_size:
            return f"an empty body instead of {told_size} bytes"
        return f"an empty body instead of {binary[0]}" if binary else None
    if is_blank:
        return f"blanks instead of {binary[0]}" if binary else None
    text = as_text(first)
    if text is None:
        return None
    found = _kind_of_text(text, announced, is_all=size <= len(first))
    instead = _instead_of(found, text, announced, wanted, binary)
    if instead is None or (found == "text" and recognised(first)):
        return None
    return f"{_NAMES[found]} instead of {instead}"


def is_no_text(first: bytes, announced: str | None) -> bool:
    """Whether the first bytes settle it, as those of most files do: neither a page nor what was announced as text."""
    begins = first.lstrip(_BLANK_BYTES)[:1]
    if begins == b"<" and _SURE_HTML_BYTES.match(first) is not None:
        return False
    if begins and begins not in _MARKUP and kind_of_type(announced) not in (Kind.TEXT, Kind.PAGE):
        return True
    return _NO_TEXT.search(first) is not None and not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


_NAMES = {"html": "an HTML page", "json": "a JSON answer", "xml": "an XML answer", "text": "plain text"}


def _promises(name: str, announced: str | None, told: str | None) -> list[str]:
    """Return the types that were promised, by whom one would believe first; a name of a program promises nothing.

    The name of something compressed (sitemap.xml.gz) promises what is in it: servers undo it on the way, unasked.
    """
    by_name = type_of_name(name) if kind_of_name(name) is not Kind.PAGE else ""
    if by_name in _COMPRESSED:
        by_name = type_of_name(name.rpartition(".")[0]) or by_name
    return [kind for kind in (by_name, essence(told), essence(announced)) if kind]


def _instead_of(found: str, text: str, announced: str | None, wanted: list[str], binary: list[str]) -> str | None:
    """Return the promised type that such a text cannot be of; None if it may be the file."""
    kind = essence(announced)
    old_office = not _OLD_OFFICE.isdisjoint(wanted) and kind not in _HTML_TYPES and found != "json"
    if binary and old_office and all(each in _OLD_OFFICE for each in binary):
        return None
    agreed = _agrees(kind, found)
    if binary and (found != "text" or (agreed and binary[0] not in _COMPRESSED)):
        return binary[0]
    others = [each for each in wanted if each != kind]
    if found == "html":
        for each in others:
            if each in _NEVER_A_PAGE and (agreed or _SURE_HTML.match(text)):
                return each
            if agreed and (is_any_bytes(each) or kind_of_type(each) is Kind.TEXT):
                return each
    if found == "json" and agreed:
        return next((each for each in others if each in _NEVER_JSON or is_any_bytes(each)), None)
    return None


def _agrees(kind: str, found: str) -> bool:
    """Whether a type was announced as what was found."""
    if found == "html":
        return kind in _HTML_TYPES
    if found == "text":
        return kind_of_type(kind) in (Kind.TEXT, Kind.PAGE)
    return kind == f"application/{found}" or kind.endswith(f"+{found}")


def as_text(first: bytes) -> str | None:
    """Decode the beginning of a text, without a byte order mark and what is blank; None for what is no text."""
    for mark, encoding in _BOMS:
        if first.startswith(mark):
            return first[len(mark) :].decode(encoding, "replace").lstrip(_BLANK)
    if _NO_TEXT.search(first) is not None and _SURE_HTML_BYTES.match(first) is None:
        return None
    return first.decode("utf-8", "replace").lstrip(_BLANK)


def _kind_of_text(text: str, announced: str | None, *, is_all: bool) -> str:
    is_xml = text.startswith("<?xml")
    while text.startswith(("<!--", "<?xml")):
        _, end, rest = text.partition("-->" if text.startswith("<!--") else "?>")
        if not end:
            return "xml" if is_xml else "html"
        text = rest.lstrip()
    if _HTML.match(text):
        return "html"
    if is_xml or (text.startswith("<") and _agrees(essence(announced), "xml")):
        return "xml"
    if _JSON_BEGINS.match(text):
        if not is_all:
            return "json"
        with suppress(ValueError, RecursionError):
            json.loads(text)
            return "json"
    return "json" if _agrees(essence(announced), "json") else "text"


def shown(first: bytes) -> str:
    """Return how bytes begin, as a person can read it, without secrets."""
    text = as_text(first)
    if text is None:
        return repr(first[:16])[1:]
    return repr(masked_quote(" ".join(text[: 2 * _SHOWN].split()))[:_SHOWN])


def recognised(first: bytes) -> list[tuple[str, str]]:
    """Return the formats, as (type, extension), that bytes may be of by their signature; pages and texts are none."""
    import puremagic  # few files get here, and its tables take 8 ms and 2 MB

    at = first.find(b"%PDF-", 0, 1024)
    found = [("application/pdf", ".pdf")] if at >= 0 else []
    with suppress(puremagic.PureError, ValueError):
        for match in puremagic.magic_string(first):
            kind = essence(match.mime_type)
            if kind_of_type(kind) in (Kind.BINARY, Kind.UNKNOWN) or kind in (
                "application/rtf",
                "application/postscript",
            ):
                found.append((kind, match.extension.lower()))
    return found


def _not_accepted(name: str, announced: str | None, size: int, first: bytes, accept: tuple[str, ...]) -> str | None:
    wanted = " or ".join(accept)
    if size == 0:
        return f"an empty body instead of {wanted}"
    text = as_text(first)
    if text is None:
        found = recognised(first)
        shown = found[0][0] or found[0][1] if found else "bytes of an unknown format"
        if not found:  # the announced type is all there is to go by, or the name where that says nothing
            kind = type_of_name(name) if says_nothing(announced) else essence(announced)
            found = [(kind, name[name.rfind(".") :].lower() if "." in name else "")]
    else:
        word = _kind_of_text(text, announced, is_all=size <= len(first))
        found = recognised(first) if word == "text" else []
        shown = found[0][0] if found else _NAMES[word]
        if not found and any(_takes_text(pattern, word) for pattern in accept):
            return None
    return (
        None if any(_takes(pattern, *each) for pattern in accept for each in found) else f"{shown} instead of {wanted}"
    )


def _takes(pattern: str, kind: str, extension: str) -> bool:
    pattern = pattern.strip().lower()
    if pattern.startswith("."):
        return pattern == extension or (bool(kind) and type_of_name(pattern) == kind)
    return fnmatchcase(kind, essence(pattern) or pattern)


def _takes_text(pattern: str, word: str) -> bool:
    """Whether a text of a kind may be what is accepted: bytes alone do not tell CSV from any other plain text."""
    pattern = pattern.strip().lower()
    kind = type_of_name(pattern) if pattern.startswith(".") else essence(pattern) or pattern
    if word == "html":
        return any(fnmatchcase(each, kind) for each in _HTML_TYPES)
    if word == "text":
        return kind == "*/*" or (kind_of_type(kind) is Kind.TEXT and not kind.endswith(("xml", "json")))
    return fnmatchcase(f"application/{word}", kind) or kind.endswith(f"+{word}") or kind in ("text/*", "text/plain")
