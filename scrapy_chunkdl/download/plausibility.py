"""Whether bytes may be the file that was asked for: the rule of :mod:`.http.plausible`, with what one file is known by.

Knows names, types and first bytes; nothing of how these came. Where the item gives a checksum, that decides.
"""

from __future__ import annotations

from pathlib import Path

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.http import plausible
from scrapy_chunkdl.download.http.media_types import Kind, kind_of_name
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import FileContext
from scrapy_chunkdl.text import naming


class Plausibility:
    """What speaks against some bytes being one file."""

    def __init__(self, context: FileContext) -> None:
        self._request = context.request
        self._options = context.options
        self._evidence = context.evidence

    def is_no_page(self, final: Path, there: Published, remote: Remote | None) -> bool:
        """Whether what an earlier run left may be the file; one whose checksum was checked is."""
        if self._evidence.expected is not None:
            return True
        try:
            with final.open("rb") as file:
                first = file.read(plausible.FIRST_BYTES)
        except OSError:
            return True  # gone, or not to be read: what comes next tells
        return self.why_not(first, there.size, remote) is None

    def why_not(self, first: bytes, size: int, remote: Remote | None) -> str | None:
        """Return what bytes that begin so seem to be in place of the file, or None."""
        if not (self._options.check_type or self._request.accept):
            return None
        return plausible.why_not(
            self._called(remote),
            remote.content_type if remote is not None else None,
            size,
            first,
            told=self._evidence.hinted_type,
            told_size=self._evidence.hinted,
            accept=self._request.accept,
        )

    def _called(self, remote: Remote | None) -> str:
        """Return the name that promises most of what the file is: the item's, the server's or that of the URL."""
        given = remote and naming.name_from_content_disposition(remote.disposition)
        by_url = naming.name_from_url(self._request.url)
        names = [name for name in (self._request.name, given, by_url) if name]
        return next((name for name in names if kind_of_name(name) is not Kind.UNKNOWN), names[0] if names else "")
