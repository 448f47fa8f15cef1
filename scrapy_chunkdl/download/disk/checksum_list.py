"""Lists of checksums as they lie beside downloads: SHA256SUMS, ``.md5``, ``.sha256``, BSD's form, signed ones. Pure.

Each line is read in time that grows with its length alone, whatever somebody wrote into it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scrapy_chunkdl.download.disk.checksum import ALGORITHMS, algorithm_of, strength

LONGEST = 8 << 20
"""Bytes of a list that are read: that of a large distribution has one."""

_BY_LENGTH = {8: "crc32", 32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
_HEX = r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{24}|[0-9a-fA-F]{32}|[0-9a-fA-F]{64}|[0-9a-fA-F]{96})?"
_TAGGED = re.compile(rf"([A-Za-z0-9/-]{{1,20}}) ?\((.+)\) ?= ?({_HEX})")
_PLAIN = re.compile(rf"\\?({_HEX})(?:[ \t]+\*?(.*))?")
_TURNED = re.compile(rf"(.+)[:=\s]({_HEX})")
_IN_COLUMNS = re.compile(rf"([A-Za-z0-9]{{2,10}})[ \t]+({_HEX})[ \t]+(.+)")
_CRC = re.compile(r"(.+)[ \t]([0-9a-fA-F]{8})")
_ESCAPES = {r"\n": "\n", r"\r": "\r", "\\\\": "\\"}

_CALLED = (
    (re.compile(r"(?:^|[._-])(?:b3|blake3)(?:sums?)?(?:[._-]|$)", re.IGNORECASE), "blake3"),
    (re.compile(r"(?:^|[._-])(?:b2|blake2b?)(?:sums?)?(?:[._-]|$)", re.IGNORECASE), "blake2b"),
    (re.compile(r"(?:^|[._-])sha3[_-]?(?:224|256|384|512)?(?:sums?)?(?:[._-]|$)", re.IGNORECASE), "sha3"),
    (re.compile(r"(?:^|[._-])(?:sm3|rmd160|ripemd-?160)(?:sums?)?(?:[._-]|$)", re.IGNORECASE), "another"),
    (re.compile(r"\.sfv$", re.IGNORECASE), "crc32"),
)
"""Lists whose name says that their sums are not those which others of that length are (B2SUMS, ``a.iso.sha3-256``)."""


class Entry(NamedTuple):
    """A line: the name it gives, empty for none, the algorithm, and the sum in lower-case hex."""

    name: str
    algorithm: str
    digest: str


class ChecksumList:
    """A list that was read once, for all the files it names. ``called`` is its own name, which may tell its kind."""

    def __init__(self, text: bytes, called: str = "") -> None:
        kind = next((kind for pattern, kind in _CALLED if pattern.search(called)), "")
        self._by_name: dict[str, list[Entry]] = defaultdict(list)
        self._names: set[str] = set()
        for entry in _entries(_decoded(text), kind):
            self._by_name[_last(entry.name)].append(entry)
            self._names.add(entry.name)

    def find(self, names: Iterable[str]) -> str | None:
        """Return the checksum of a file as "algorithm:hex", the strongest that is given; None for none.

        ``names`` are what the file may be called there, with the folders it lies in where they are known: of several of
        one name, those count that agree with most of these. A list of one file alone needs no name.
        """
        names = [name for name in names if name]
        found = [entry for last in dict.fromkeys(map(_last, names)) for entry in self._by_name.get(last, ()) if last]
        if not found and len(self._names) == 1:
            found = [entry for entries in self._by_name.values() for entry in entries]
        nearest = max((_agreeing(entry.name, names) for entry in found), default=0)
        found = [entry for entry in found if _agreeing(entry.name, names) == nearest]
        sums = {entry.algorithm: entry.digest for entry in found}
        if len({(entry.algorithm, entry.digest) for entry in found}) > len(sums):
            return None  # two files of that name in two folders, and nothing tells which
        best = max(sums, key=strength, default=None)
        return f"{best}:{sums[best]}" if best is not None else None


def _decoded(text: bytes) -> str:
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell writes them
        return text.decode("utf-16", "replace")
    if b"\0" in text[:2]:
        return text.decode("utf-16-be" if text[:1] == b"\0" else "utf-16-le", "replace")
    return text.decode("utf-8-sig", "surrogateescape")


def _entries(text: str, kind: str) -> Iterator[Entry]:
    """Read name, algorithm and hex of each line; what is none is left out."""
    for line in re.split(r"\r\n|[\r\n]", text):
        entry = _entry(line.removeprefix("- ").strip(), kind)  # so in a signed list (RFC 9580 §7.2)
        if entry is None or entry.algorithm not in ALGORITHMS:
            continue
        if len(entry.digest) == 2 * strength(entry.algorithm)[0]:
            yield entry._replace(digest=entry.digest.lower())


def _entry(line: str, kind: str) -> Entry | None:
    if kind == "crc32":
        named = _CRC.fullmatch(line) if not line.startswith(";") else None
        return Entry(named[1].strip(), kind, named[2]) if named is not None else None
    if (tagged := _TAGGED.fullmatch(line)) is not None:
        return Entry(tagged[2], algorithm_of(tagged[1]) or "", tagged[3])
    if (plain := _PLAIN.fullmatch(line)) is not None:
        name = plain[2] or ""
        if line.startswith("\\"):
            name = re.sub(r"\\[nr\\]", lambda found: _ESCAPES[found[0]], name)
        return Entry(name, _by_length(plain[1], kind), plain[1])
    if (columns := _IN_COLUMNS.fullmatch(line)) is not None and (algorithm := algorithm_of(columns[1])) is not None:
        return Entry(columns[3], algorithm, columns[2])  # PowerShell's Get-FileHash
    if (turned := _TURNED.fullmatch(line)) is not None:
        name = turned[1].rstrip(":= \t")
        if (algorithm := algorithm_of(name)) is not None:  # "SHA256: …", of the one file it is about
            return Entry("", algorithm, turned[2])
        return Entry(name, _by_length(turned[2], kind), turned[2])
    return None


def _by_length(digest: str, kind: str) -> str:
    if kind == "sha3":
        return f"sha3_{len(digest) * 4}"
    return kind or _BY_LENGTH[len(digest)]


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _agreeing(name: str, names: Iterable[str]) -> int:
    """Return how many folders in a row above it a name shares with one of ``names``, none if it has others as well.

    ``x/a.iso`` is that of ``/pub/x/a.iso``; ``y/a.iso`` is not.
    """
    theirs = _parts(name)
    return max((len(theirs) for ours in map(_parts, names) if theirs and ours[-len(theirs) :] == theirs), default=0)
