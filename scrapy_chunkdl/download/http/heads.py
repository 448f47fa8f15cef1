"""The head of an answer as HTTP means it, made of one as servers send it, before a strict parser reads it. Pure.

Lines that are no field are skipped (a warning that PHP prints among them), equal Content-Lengths are one (RFC 9110
§8.6), Transfer-Encoding beats Content-Length (RFC 9112 §6.3), folded lines are joined (§5.2), and what is no length is
none. Lengths that differ stay a fault: who reads the other one reads another body (§11.2).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from scrapy_chunkdl.text.masking import masked_quote

LONGEST_LINE = 100 * 1024
LONGEST_HEAD = 300 * 1024
"""Bytes; what curl takes."""

_END = re.compile(rb"\n\r*\n")
_CLEAN = re.compile(
    rb"HTTP/1\.[01] [1-5]\d\d(?: [^\r\n\0]{0,500})?\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)+\r\n"
)
_STATUS = re.compile(rb"(?:HTTP/([0-9])(?:\.[0-9])?|ICY)[ \t]+([1-9][0-9]{2})(?:[ \t]+(.*))?[ \t]*", re.IGNORECASE)
_OLD = re.compile(rb"HTTP/1\.0|ICY", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_LONGEST_REASON = 200
_BODILESS = frozenset({204, 304})


class BadHead(ValueError):
    """A head that nobody can read; the message says why, in a few words."""


class Head(NamedTuple):
    """A head in the form that parsers take. ``length`` is that of the body in bytes, None where it ends otherwise."""

    status: int
    raw: bytes
    length: int | None


def end_of_head(data: bytes | bytearray) -> int:
    """Return the index behind the empty line that ends a head, or -1 while it is not there."""
    found = _END.search(data)
    return found.end() if found else -1


def read_head(raw: bytes) -> Head:
    """Read a head with its empty line. Raises :class:`BadHead`."""
    if _CLEAN.fullmatch(raw) is not None:
        lowered = raw.lower()
        lengths = lowered.count(b"\ncontent-length:")
        if b"\ntransfer-encoding:" not in lowered and lengths <= 1:
            if not lengths:
                return Head(int(raw[9:12]), raw, None)
            value = lowered[lowered.index(b"\ncontent-length:") + 16 :].split(b"\r", 1)[0].strip()
            if _DIGITS.fullmatch(value):
                return Head(int(raw[9:12]), raw, int(value))
    return _repaired(raw)


def _repaired(raw: bytes) -> Head:
    first, *lines = (line.strip(b"\r") for line in raw.rstrip(b"\r\n").split(b"\n"))
    match = _STATUS.fullmatch(first.strip())
    if match is None:
        raise BadHead(f"it begins with {masked_quote(first[:40].decode('latin-1'))!r}")
    status, reason = int(match[2]), (match[3] or b"").replace(b"\0", b"").replace(b"\r", b"")[:_LONGEST_REASON]
    fields = _fields(lines)
    length = _length(fields)
    version = b"HTTP/1.0" if _OLD.match(first.strip()) else b"HTTP/1.1"
    head = [b"%b %d %b" % (version, status, reason), *(name + b": " + value for name, value in fields), b"", b""]
    return Head(status, b"\r\n".join(head), length)


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    is_junk = True
    for line in lines:
        if len(line) > LONGEST_LINE:
            raise BadHead(f"a line of it has {len(line)} bytes")
        if line[:1] in (b" ", b"\t"):
            if not is_junk:
                name, value = fields[-1]
                fields[-1] = name, value + b" " + _clean(line)
            continue
        name, colon, value = line.partition(b":")
        name = name.rstrip()
        is_junk = not colon or _TOKEN.fullmatch(name) is None
        if not is_junk:
            fields.append((name, _clean(value)))
    return fields


def _clean(value: bytes) -> bytes:
    return value.replace(b"\0", b" ").replace(b"\r", b" ").strip(b" \t")


def _length(fields: list[tuple[bytes, bytes]]) -> int | None:
    """Leave one way to tell where the body ends in the fields, and return its length if that is it."""
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    tokens = [token.strip().lower() for value in codings for token in value.split(b",")]
    tokens = [token for token in tokens if token and token != b"identity"]
    numbers = [
        part.strip() for name, value in fields if name.lower() == b"content-length" for part in value.split(b",")
    ]
    lengths = {int(number) for number in numbers if _DIGITS.fullmatch(number)}
    fields[:] = [(n, v) for n, v in fields if n.lower() not in (b"transfer-encoding", b"content-length")]
    if tokens:
        once = list(dict.fromkeys(tokens))
        fields.append((b"Transfer-Encoding", b", ".join(once)))
        return None
    if len(lengths) > 1:
        raise BadHead(f"it has several Content-Lengths: {', '.join(map(str, sorted(lengths)))}"[:100])
    if not lengths:
        return None
    (length,) = lengths
    fields.append((b"Content-Length", b"%d" % length))
    return length


def body_length(head: Head, *, to_head: bool) -> int | None:
    """Return how many bytes follow a head: none to a HEAD or where the status has no body (RFC 9112 §6.3)."""
    return 0 if to_head or head.status in _BODILESS else head.length
