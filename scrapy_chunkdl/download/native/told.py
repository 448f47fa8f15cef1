"""What a server without HTTP tells of a file, and the reading of a range of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Protocol

from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.remote import Remote


@dataclass(frozen=True, slots=True)
class Told:
    """A file as its server describes it now. ``size`` is in bytes, None when unknown.

    ``changed`` is when it was changed, in UTC; ``version`` what besides tells one version from the next; ``offsets``
    whether a reading may begin anywhere, None where that was not asked.
    """

    size: int | None
    changed: datetime | None = None
    version: str | None = None
    offsets: bool | None = None

    def remote(self) -> Remote:
        """Return it in the words that all sources have.

        The ETag is made of time and size, as nginx and Apache make theirs, where the server has no word of its own.
        """
        told = {}
        if self.changed is not None:
            told["Last-Modified"] = format_datetime(self.changed.replace(microsecond=0), usegmt=True)
        if (version := self.version or self._made_version()) is not None:
            told["ETag"] = f'"{version}"'
        validator = Validator.of(told)
        if self.version is not None:  # it decides: a date has seconds, and two versions of one second have one
            validator = validator._replace(date_is_strong=False)
        return Remote(self.size, self.offsets, validator, confirmed=True, no_ranges="source")

    def _made_version(self) -> str | None:
        if self.changed is None or self.size is None:
            return None
        return f"{int(self.changed.timestamp() * 1000):x}-{self.size:x}"


class Reading(Protocol):
    """A range of a file on its way. ``told`` is the file as it was when the reading began."""

    told: Told

    async def next(self) -> bytes | memoryview:
        """Return the next bytes, good until the next call, or none at the end of the range.

        Raises DownloadError for one that came too early.
        """
        ...

    async def stop(self) -> None:
        """End it before its end, in order: its connection is kept. Raises SourceChanged if the file is another by now.

        After the end it does nothing.
        """
        ...

    def close(self) -> None:
        """Drop what has not come. Once is enough; after the end it does nothing."""
        ...


class NativeSource(Protocol):
    """One file at one server."""

    async def look(self) -> Told:
        """Ask what the file is."""
        ...

    async def read(self, start: int, stop: int | None) -> Reading:
        """Begin to read ``[start, stop)`` in bytes; a ``stop`` of None is the end of the file.

        Where the server cannot begin at ``start`` the reading begins at 0, and its ``told.offsets`` is False.
        """
        ...
