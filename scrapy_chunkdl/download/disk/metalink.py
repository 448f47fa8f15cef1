"""Metalink 4 documents (RFC 5854): where else a file lies, its size, its checksum, and those of its pieces. Pure.

Read as it comes, by a parser that knows no DTD and no entities: of what a document has, no more is kept than is used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from scrapy_chunkdl.download.disk.checksum import algorithm_of, parse_expected, strength
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.model import Pieces

LONGEST = 8 << 20
"""Bytes of a document that are read: hashes of 100,000 pieces have room."""

_NAMESPACE = "{urn:ietf:params:xml:ns:metalink}"
_LAST = 1_000_000
"""The priority of a URL that names none (RFC 5854 §4.2.16.2 has 1 to 999999)."""

_MOST_URLS = 1000
_MOST_FILES = 20_000
_DEEPEST = 32
"""Elements within each other: what is read has four. Each is looked at with all it is in."""


@dataclass(frozen=True, slots=True)
class MetalinkFile:
    """One file of a document: its name and its URLs, the best first.

    ``checksum`` is "algorithm:hex", ``size`` in bytes; None for what is not told.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str | None = None
    size: int | None = None
    pieces: Pieces | None = None


def read_metalink(text: bytes, schemes: Collection[str], base: str = "") -> list[MetalinkFile]:
    """Return the files of a document, with those of their URLs that are of ``schemes``.

    What is relative is so to ``base``, the document's own URL. Raises Permanent, reason ``bad_metalink``.
    """
    if len(text) >= LONGEST:
        raise _bad(f"it is longer than {LONGEST} bytes")
    reader = _Reader()
    try:
        parser = DefusedXMLParser(target=reader, forbid_dtd=True)
        parser.feed(text)
        parser.close()
    except DefusedXmlException as error:
        raise _bad("it has a DOCTYPE or entities, which no metalink has") from error
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise _bad(f"it is no XML: {error}") from error
    return [_file(found, schemes, base) for found in reader.files]


def find_file(files: Iterable[MetalinkFile], names: Iterable[str]) -> MetalinkFile | None:
    """Return the file that is called by one of ``names``; a document of one file alone needs none."""
    files, wanted = list(files), {name for name in names if name}
    named = [file for file in files if last_of(file.name) in wanted]
    return named[0] if len(named) == 1 else files[0] if len(files) == 1 else None


def last_of(name: str) -> str:
    """Return a file's name without its folders (RFC 5854 §4.1.2.1)."""
    return name.replace("\\", "/").rpartition("/")[2]


@dataclass(slots=True)
class _Found:
    """What the elements of one file say, as text."""

    name: str
    urls: list[tuple[int, int, str]] = field(default_factory=list)
    hashes: list[tuple[str, str]] = field(default_factory=list)
    size: str = ""
    pieces: list[tuple[str, str, list[str]]] = field(default_factory=list)


class _Reader:
    """Takes elements as they come, and keeps the text of those that are used."""

    def __init__(self) -> None:
        self.files: list[_Found] = []
        self._path: list[str] = []
        self._attributes: dict[str, str] = {}
        self._text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.removeprefix(_NAMESPACE)
        if not self._path and (name == tag or name != "metalink"):
            raise _bad("it is no metalink of version 4 (RFC 5854)")
        if len(self._path) >= _DEEPEST:
            raise _bad(f"it has elements {_DEEPEST} deep in each other")
        self._path.append(name)
        self._text = None
        match self._path[1:]:
            case ["file"]:
                if len(self.files) >= _MOST_FILES:
                    raise _bad(f"it has more than {_MOST_FILES} files")
                self.files.append(_Found(attributes.get("name", "")))
            case ["file", "pieces"]:
                self.files[-1].pieces.append((attributes.get("type", ""), attributes.get("length", ""), []))
            case ["file", "url" | "hash" | "size"] | ["file", "pieces", "hash"]:
                self._attributes, self._text = attributes, []

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, tag: str) -> None:
        path, self._path = self._path, self._path[:-1]
        if self._text is None:
            return
        text, self._text, file = "".join(self._text).strip(), None, self.files[-1]
        match path[2:]:
            case ["url"] if len(file.urls) < _MOST_URLS:
                file.urls.append((_priority(self._attributes), len(file.urls), text))
            case ["hash"]:
                file.hashes.append((self._attributes.get("type", ""), text))
            case ["size"]:
                file.size = text
            case ["pieces", "hash"]:
                file.pieces[-1][2].append(text)

    def close(self) -> None:
        """It is over."""


def _file(found: _Found, schemes: Collection[str], base: str) -> MetalinkFile:
    urls = (urljoin(base, url) for _, _, url in sorted(found.urls))
    usable = tuple(dict.fromkeys(url for url in urls if url.partition("://")[0].lower() in schemes))
    size = _number(found.size)
    if found.size and size is None:
        raise _bad(f"the size of {found.name!r} is no number: {found.size!r}")
    file = MetalinkFile(found.name, usable, _strongest(found.hashes), size)
    pieces = [one for kind, length, digests in found.pieces if (one := _pieces(kind, length, digests)) is not None]
    best = max(pieces, key=lambda one: strength(one.algorithm), default=None)
    if best is not None and size is not None and not best.fit(size):
        raise _bad(f"{found.name!r} has {len(best.digests)} pieces of {best.length} bytes, and {size} bytes")
    return replace(file, pieces=best)


def _priority(attributes: dict[str, str]) -> int:
    if (priority := _number(attributes.get("priority", ""))) is not None:
        return priority
    preference = _number(attributes.get("preference", ""))  # as of version 3: the highest is the best
    return _LAST - preference if preference is not None else _LAST


def _number(text: str) -> int | None:
    """Read a number of at most 18 digits; None for what is none."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _strongest(hashes: Iterable[tuple[str, str]]) -> str | None:
    known = {name: digest for kind, digest in hashes if (name := algorithm_of(kind)) is not None}
    best = max(known, key=strength, default=None)
    return ":".join(_checked(best, known[best])) if best is not None else None


def _pieces(kind: str, length: str, digests: list[str]) -> Pieces | None:
    algorithm = algorithm_of(kind)
    if algorithm is None:
        return None
    if not (bytes_each := _number(length)):
        raise _bad(f"the length of its pieces is no number: {length!r}")
    return Pieces(bytes_each, algorithm, tuple(_checked(algorithm, digest)[1] for digest in digests))


def _checked(algorithm: str, digest: str) -> tuple[str, str]:
    try:
        return parse_expected(f"{algorithm}:{digest}")
    except Permanent as error:
        raise _bad(str(error)) from error


def _bad(why: str) -> Permanent:
    return Permanent(f"the metalink cannot be used: {why}", reason="bad_metalink")
