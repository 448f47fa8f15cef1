"""The name of a file, of what its answer, its URLs and its type say. Pure text.

Asked once, with the head of a GET: a HEAD may leave fields out (RFC 9110 §9.3.2).
"""

from __future__ import annotations

from scrapy_chunkdl.download.http.media_types import Kind, essence, extension_of, kind_of_name, type_of_name
from scrapy_chunkdl.download.http.urls import host_name
from scrapy_chunkdl.text import naming
from scrapy_chunkdl.text.charsets import hints_of

_SAYS_LITTLE = frozenset({"text/plain"})
"""What servers call whatever they have no type for: LICENSE gets no extension by it."""


def name_of(disposition: str | None, final_url: str, url: str, content_type: str | None) -> str:
    """Return the safe name of a file whose item gives none.

    It is the Content-Disposition's, else that of ``url``, the item's, or where that has no extension and ``final_url``,
    to which it led, has one, that one's. A name without any gets that of its type, unless that says nothing.
    """
    hints = hints_of(host_name(final_url))
    name = naming.name_from_content_disposition(disposition, hints)
    if name is None:
        name = naming.name_from_url(url, hints)
        last = naming.name_from_url(final_url, hints)
        if last and (name is None or (not _has_extension(name) and type_of_name(last))):
            name = last
    name = name or naming.FALLBACK
    if _has_extension(name) or essence(content_type) in _SAYS_LITTLE:
        return name
    extension = extension_of(content_type)
    return (naming.safe_name(name + extension) or name) if extension else name


def _has_extension(name: str) -> bool:
    """Whether a name ends as files do: not in a number, as versions and identifiers (``10.1``) do."""
    if type_of_name(name) or kind_of_name(name) is not Kind.UNKNOWN:
        return True
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot) and extension.isalnum() and not extension.isdigit() and len(extension) <= 8
