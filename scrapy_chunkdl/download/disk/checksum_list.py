"""Lists of checksums as they lie beside downloads: SHA256SUMS, ``.md5``, ``.sha256``, BSD's form, signed ones. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from scrapy_chunkdl.download.disk.checksum import ALGORITHMS

LONGEST = 8 << 20
"""Bytes of a list that are read: that of a large distribution has one."""

_BY_LENGTH = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_HEX = r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{24}|[0-9a-fA-F]{32}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96})?"
_TAGGED = re.compile(rf"\s*([A-Za-z0-9/-]+) ?\((.+)\) ?= ?({_HEX})\s*")
_PLAIN = re.compile(rf"\s*\\?({_HEX})(?:[ \t]+\*?(.*?))?\s*")
_TURNED = re.compile(rf"\s*(.+?)[:\s]\s*({_HEX})\s*")
_ESCAPES = {r"\n": "\n", r"\r": "\r", "\\\\": "\\"}


def find_checksum(text: bytes, names: Iterable[str]) -> str | None:
    """Return the checksum of a file as "algorithm:hex", the strongest that is given; None for none.

    ``names`` are what the file may be called there. A list of one file alone needs no name.
    """
    entries = list(_entries(_decoded(text)))
    wanted = {_last(name) for name in names if name}
    found = [entry for entry in entries if entry[0] and _last(entry[0]) in wanted]
    if not found and len({entry[0] for entry in entries}) == 1:
        found = entries
    sums = {algorithm: digest for _, algorithm, digest in found}
    if len(found) > len(sums) and len({(algorithm, digest) for _, algorithm, digest in found}) > len(sums):
        return None  # two files of that name in two folders, and nothing tells which
    strongest = max(sums, key=lambda name: (len(sums[name]), name), default=None)
    return f"{strongest}:{sums[strongest]}" if strongest is not None else None


def _decoded(text: bytes) -> str:
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell writes them
        return text.decode("utf-16", "replace")
    return text.decode("utf-8-sig", "surrogateescape")


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """Read name (empty for none), algorithm and hex of each line; what is none is left out."""
    for line in text.splitlines():
        line = line.removeprefix("- ")  # in a signed list (RFC 9580 §7.2)
        if (tagged := _TAGGED.fullmatch(line)) is not None:
            algorithm = _algorithm(tagged[1])
            if algorithm is not None:
                yield tagged[2], algorithm, tagged[3].lower()
        elif (plain := _PLAIN.fullmatch(line)) is not None:
            name = plain[2] or ""
            if line.lstrip().startswith("\\"):
                name = re.sub(r"\\[nr\\]", lambda found: _ESCAPES[found[0]], name)
            yield name, _BY_LENGTH[len(plain[1])], plain[1].lower()
        elif (turned := _TURNED.fullmatch(line)) is not None:
            yield turned[1].rstrip(": \t"), _BY_LENGTH[len(turned[2])], turned[2].lower()


def _algorithm(tag: str) -> str | None:
    """Return the algorithm of BSD's and OpenSSL's lists: SHA256, SHA2-256, SHA512/256, BLAKE2b."""
    plain = tag.lower().replace("sha2-", "sha").replace("/", "_")
    spellings = plain, plain.replace("-", "_"), plain.replace("-", "")
    return next((name for name in spellings if name in ALGORITHMS), None)


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
