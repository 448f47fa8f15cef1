"""Metalink 4 documents (RFC 5854): where else a file lies, and its checksum. Pure.

A document with a DOCTYPE is refused: none has one, and entities can grow without end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from scrapy_chunkdl.download.disk.checksum import ALGORITHMS, parse_expected
from scrapy_chunkdl.download.errors import Permanent

LONGEST = 8 << 20
"""Bytes of a document that are read."""

_NAMESPACE = "{urn:ietf:params:xml:ns:metalink}"
_LAST = 1_000_000
"""The priority of a URL that names none (RFC 5854 §4.2.16.2 has 1 to 999999)."""


@dataclass(frozen=True, slots=True)
class MetalinkFile:
    """One file of a document: its name, its URLs, the best first, and "algorithm:hex", None for no checksum."""

    name: str
    urls: tuple[str, ...]
    checksum: str | None


def read_metalink(text: bytes, schemes: Collection[str]) -> list[MetalinkFile]:
    """Return the files of a document, with those of their URLs that are of ``schemes``. Raises Permanent."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise Permanent("a metalink with a DOCTYPE is not read", reason="bad_metalink")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise Permanent(f"it is no XML: {error}", reason="bad_metalink") from error
    if root.tag != f"{_NAMESPACE}metalink":
        raise Permanent("it is no metalink of version 4 (RFC 5854)", reason="bad_metalink")
    return [_file(element, schemes) for element in root.iter(f"{_NAMESPACE}file")]


def find_file(files: Iterable[MetalinkFile], names: Iterable[str]) -> MetalinkFile | None:
    """Return the file that is called by one of ``names``; a document of one file alone needs none."""
    files, wanted = list(files), {name for name in names if name}
    named = [file for file in files if file.name.rpartition("/")[2] in wanted]
    return named[0] if len(named) == 1 else files[0] if len(files) == 1 else None


def _file(element: ElementTree.Element, schemes: Collection[str]) -> MetalinkFile:
    urls = [
        (_priority(url.get("priority")), number, (url.text or "").strip())
        for number, url in enumerate(element.iter(f"{_NAMESPACE}url"))
    ]
    usable = [url for _, _, url in sorted(urls) if url.partition("://")[0].lower() in schemes]
    return MetalinkFile(element.get("name", ""), tuple(dict.fromkeys(usable)), _checksum(element))


def _priority(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else _LAST


def _checksum(element: ElementTree.Element) -> str | None:
    """Return the strongest checksum of the whole; those of pieces stand deeper."""
    sums = {}
    for hashed in element.findall(f"{_NAMESPACE}hash"):
        algorithm = hashed.get("type", "").lower().replace("-", "")
        if algorithm in ALGORITHMS:
            sums[algorithm] = (hashed.text or "").strip()
    strongest = max(sums, key=lambda name: (len(sums[name]), name), default=None)
    return ":".join(parse_expected(f"{strongest}:{sums[strongest]}")) if strongest is not None else None
