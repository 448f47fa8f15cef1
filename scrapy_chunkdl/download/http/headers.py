"""Strict readers of the HTTP header fields a download depends on. Pure; no network, no clock but what is passed in."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

from multidict import MultiMapping

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)", re.IGNORECASE)
_DECIMAL_64 = re.compile(r"[0-9]{1,20}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_ETAG = re.compile(r'(?:W/)?"[^\x00-\x20"\x7f]+"')
_BARE_ETAG = re.compile(r'[^\x00-\x20"\x7f]{4,}')
# By what is left out: a class of ranges up to the last character takes 3 ms to compile, this one 0.1.
_NO_ETAGS = frozenset({"null", "none", "nil", "undefined", "false"})
# Without the look-behind a field that is one long word takes 0.3 s of the event loop: each letter is a start.
_FIELD_ITEM = re.compile(r"(?<![\w-])([\w-]+)=:([A-Za-z0-9+/]+=*):")
_DIGEST_ITEM = re.compile(r"(?<![\w-])([\w-]+)=([A-Za-z0-9+/]+=*)")
_STRONG_DATE_GAP = 1.0
_OWN_CLOCK_MARGIN = 60.0
"""Seconds by which a server's clock may be behind ours, where it sends no Date (RFC 9110 §6.6.1)."""

_FIRST_DATE = datetime(1990, 1, 1, tzinfo=timezone.utc)
"""What says it was changed before there was a web is a build that sets all times to one (SOURCE_DATE_EPOCH, images)."""


class ContentRange(NamedTuple):
    """What a Content-Range says. ``stop`` is exclusive; ``start`` and ``stop`` are None in the unsatisfied form."""

    start: int | None
    stop: int | None
    total: int | None


def parse_content_range(value: str | None) -> ContentRange | None:
    """Read ``bytes 0-99/1000``, ``bytes 0-99/*`` or ``bytes */1000`` (RFC 9110 §14.4); None for anything invalid."""
    match = _CONTENT_RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    total = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return ContentRange(None, None, total) if total is not None else None
    start, stop = int(match[1]), int(match[2]) + 1
    if start >= stop or (total is not None and stop > total):
        return None
    return ContentRange(start, stop, total)


def parse_content_length(value: str | None) -> int | None:
    """Read a Content-Length; None when absent or not a number."""
    return int(value) if value is not None and _DIGITS.fullmatch(value.strip()) else None


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds a Retry-After asks for, a delay or a date (RFC 9110 §10.2.3); None when absent or invalid."""
    if value is None:
        return None
    if _DIGITS.fullmatch(value.strip()):
        return float(value)
    date = parse_date(value)
    return None if date is None else max(0.0, (date - now).total_seconds())


@lru_cache(maxsize=256)
def parse_date(value: str | None) -> datetime | None:
    """Read an HTTP date in any of its three forms (RFC 9110 §5.6.7). Some 20 µs, so the last ones are remembered."""
    if not value:
        return None
    try:
        date = parsedate_to_datetime(value.strip())
    except (TypeError, ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)


def parse_digests(headers: MultiMapping[str], *, whole: bool = True) -> dict[str, str]:
    """Return the checksums a server sends, by algorithm, in hex.

    Repr-Digest (RFC 9530) and Digest (RFC 3230) are of the whole representation also on a 206. Content-Digest and
    Content-MD5 are of the bytes of this very message, so pass ``whole=False`` for a part. So may those of S3 be, which
    of an object in several parts are of the parts' checksums (``-3`` at the end, or COMPOSITE): these cannot be
    compared. Azure has the MD5 of the whole blob in a field of its own, OSS and COS a CRC-64 in decimal. The hash of
    ``x-goog-hash`` is of the stored object, and of no use where that is in another coding than
    what is sent (Cloud Storage decompresses on the way).
    """
    found: dict[str, str] = {}
    if _WITH_DIGESTS.isdisjoint(map(str.lower, headers)):
        return found  # as most answers, of which this took 25 µs
    for name, entry in _FIELD_ITEM.findall(_joined(headers, "Repr-Digest")):
        _keep(found, name, entry)
    for name, entry in _DIGEST_ITEM.findall(_joined(headers, "Digest")):
        _keep(found, name, entry)
    stored, sent = headers.get("x-goog-stored-content-encoding"), headers.get("Content-Encoding")
    is_as_stored = stored is None or stored.strip().lower() == (sent or "identity").strip().lower()
    for name, entry in _DIGEST_ITEM.findall(_joined(headers, "x-goog-hash") if is_as_stored else ""):
        _keep(found, name, entry)
    _keep(found, "md5", headers.get("x-ms-blob-content-md5", "").strip())
    for name in _ECMA:
        if _DECIMAL_64.fullmatch(decimal := headers.get(name, "").strip()) and int(decimal) < 1 << 64:
            found.setdefault("crc64ecma", f"{int(decimal):016x}")
    if not whole:
        return found
    for name, entry in _FIELD_ITEM.findall(_joined(headers, "Content-Digest")):
        _keep(found, name, entry)
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").strip().upper() == "FULL_OBJECT":
        for name in _AMAZON:
            _keep(found, name, headers.get(f"x-amz-checksum-{name}", "").strip())
    if "Content-MD5" in headers:
        _keep(found, "md5", headers["Content-MD5"].strip())
    return found


def _joined(headers: MultiMapping[str], name: str) -> str:
    """Return all lines of a field as one list (RFC 9110 §5.3): Google sends one x-goog-hash line for each hash."""
    return ", ".join(headers.getall(name, ()))


_AMAZON = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
_ECMA = ("x-oss-hash-crc64ecma", "x-cos-hash-crc64ecma")
_WITH_DIGESTS = frozenset(
    {"repr-digest", "digest", "x-goog-hash", "content-digest", "content-md5", "x-ms-blob-content-md5", *_ECMA}
    | {f"x-amz-checksum-{name}" for name in _AMAZON}
)
_DIGEST_NAMES = {
    **{"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"},
    **{name: name for name in _AMAZON},
}
_DIGEST_SIZES = {"sha256": 32, "sha512": 64, "sha1": 20, "md5": 16, "crc32": 4, "crc32c": 4, "crc64nvme": 8}


def _keep(found: dict[str, str], name: str, encoded: str) -> None:
    algorithm = _DIGEST_NAMES.get(name.lower())
    if algorithm is None:
        return
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return
    if len(raw) == _DIGEST_SIZES[algorithm]:
        found.setdefault(algorithm, raw.hex())


class Validator(NamedTuple):
    """What tells one version of a file from another (RFC 9110 §8.8). Both fields are kept as the server wrote them.

    An ETag that tells nothing (empty, "null") and a date before 1990 count as absent. ``date_is_strong`` says whether
    Last-Modified was at least a second older than Date when it was received, without which two versions of one second
    look the same (§8.8.2.2).
    """

    etag: str | None = None
    last_modified: str | None = None
    date_is_strong: bool = False

    @classmethod
    def of(cls, headers: Mapping[str, str], clock: Callable[[], float] = time.time) -> Validator:
        """Read the validators of a response; malformed ones count as absent.

        ``clock`` gives the time of receipt in seconds since 1970. It is the Date of an answer without one.
        """
        etag, modified = headers.get("ETag", "").strip(), headers.get("Last-Modified")
        is_dated, strong = _dated(modified, headers.get("Date"), clock)
        return cls(
            etag=etag if etag and _is_etag(etag) else None,
            last_modified=modified.strip() if is_dated and modified is not None else None,
            date_is_strong=strong,
        )

    @property
    def strong_etag(self) -> str | None:
        """The ETag if it promises the same bytes, which a weak one does not; it may be one without its quotes."""
        return self.etag if self.etag is not None and not self.etag.startswith("W/") else None

    @property
    def is_empty(self) -> bool:
        """Whether the answer had no validator at all."""
        return self.etag is None and self.last_modified is None

    def if_range(self) -> str | None:
        """Return what may go into If-Range: a strong ETag, else a strong date (RFC 9110 §13.1.5).

        An ETag without quotes is no entity-tag by §8.8.3: who sends it cannot be trusted to read it. What is no ASCII
        would not go out as it came in.
        """
        if (etag := self.strong_etag) is not None and etag[0] == '"' and etag.isascii():
            return etag
        return self.last_modified if self.date_is_strong else None

    @property
    def is_usable(self) -> bool:
        """Whether parts fetched by several requests can be known to be of one version."""
        return self.strong_etag is not None or self.date_is_strong

    def same_version(self, other: Validator) -> bool | None:
        """Compare what the first response said (this) with a later one: True, False, or None when nothing tells.

        All validators that both have must agree. Last-Modified comes first: servers that keep a path's ETag for as long
        as they run (Tornado) are more than those that date one version twice, which costs one restart. Strong ETags
        that differ mean another version, unless a strong date is equal: load balancers whose backends each make an ETag
        of their own are common (the caller compares sizes too).
        """
        same_date = False
        if self.last_modified and other.last_modified:
            if parse_date(self.last_modified) != parse_date(other.last_modified):
                return False
            same_date = self.date_is_strong
        if self.strong_etag is not None and other.strong_etag is not None:
            return same_date or self.strong_etag == other.strong_etag
        if same_date:
            return True
        if self.etag and other.etag and self.etag.removeprefix("W/") != other.etag.removeprefix("W/"):
            return False
        return None


NO_VALIDATOR = Validator()


def _dated(modified: str | None, date: str | None, clock: Callable[[], float]) -> tuple[bool, bool]:
    """Return whether Last-Modified tells a version, and whether it is strong."""
    if date is not None and parse_date(date) is not None:
        return _dated_at(modified, date)
    changed = _version_date(modified)
    return changed is not None, changed is not None and _is_older(changed, clock() - _OWN_CLOCK_MARGIN)


@lru_cache(maxsize=256)
def _dated_at(modified: str | None, date: str) -> tuple[bool, bool]:
    """The same of answers with a Date, of which many come in one second."""
    changed, sent = _version_date(modified), parse_date(date)
    assert sent is not None
    return changed is not None, changed is not None and _is_older(changed, sent.timestamp())


def _version_date(modified: str | None) -> datetime | None:
    changed = parse_date(modified)
    return changed if changed is not None and changed >= _FIRST_DATE else None


def _is_older(changed: datetime, sent_at: float) -> bool:
    return sent_at - changed.timestamp() >= _STRONG_DATE_GAP


def _is_etag(text: str) -> bool:
    if _ETAG.fullmatch(text):
        return text.removeprefix("W/")[1:-1].lower() not in _NO_ETAGS
    return bool(_BARE_ETAG.fullmatch(text)) and text.lower() not in _NO_ETAGS


def is_challenge(headers: Mapping[str, str]) -> bool:
    """Whether an answer is Cloudflare's question whether a person asks."""
    return headers.get("cf-mitigated", "").lower() == "challenge"


def pause_of(status: int, headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds that an error asks to be left alone for, 0 for none."""
    if status < 400 or "Retry-After" not in headers:
        return 0.0
    return parse_retry_after(headers["Retry-After"], now) or 0.0
