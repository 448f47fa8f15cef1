"""What is recorded with a finished file, so that a later run knows what it is.

Stores keep the same record beside what they have. Reads and writes the record; fetches nothing.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path

from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.http.headers import Validator, parse_date
from scrapy_chunkdl.text import naming


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a finished file.

    ``url`` is None where nothing was recorded with the file; ``last_modified`` then is its own time of modification.
    ``stored_at`` is an HTTP date too: when it came to a store that records nothing else. ``date_is_strong`` as in
    :class:`~scrapy_chunkdl.download.http.headers.Validator`; a time of modification is. ``checksum`` is the one that is
    reported, ``more_checksums`` are what else was computed, with blanks between.
    """

    url: str | None
    size: int
    etag: str | None = None
    last_modified: str | None = None
    checksum: str | None = None
    stored_at: str | None = None
    date_is_strong: bool = False
    more_checksums: str | None = None

    def has_checksum(self, checksum: str) -> bool:
        """Tell whether the file is known to have a checksum, ``algorithm:hex``."""
        return checksum == self.checksum or checksum in (self.more_checksums or "").split()

    @property
    def validator(self) -> Validator:
        """What tells its version."""
        return Validator(self.etag, self.last_modified, self.date_is_strong)


def with_kept_url(record: Published) -> Published:
    """Return a record as it is written down: of a URL that may hold a secret, only the digest."""
    kept = naming.kept_url(record.url) if record.url is not None else None
    return record if kept == record.url else replace(record, url=kept)


def read_published(path: Path) -> Published | None:
    """Return what is known of the finished file at ``path``, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    try:
        record: Published | None = Published(**json.loads(platform.recall(path) or b"{}"))
    except (TypeError, ValueError):
        record = None
    if record is None or record.size != status.st_size:
        modified = formatdate(status.st_mtime, usegmt=True)
        return Published(url=None, size=status.st_size, last_modified=modified, date_is_strong=True)
    return record


def remember(fd: int, final: Path, record: Published) -> None:
    """Keep the record with the file, and the time of its version as its own, as curl -R and wget do."""
    if (modified := parse_date(record.last_modified)) is not None:
        with suppress(OSError, OverflowError):  # not every file system takes every time
            os.utime(fd, (modified.timestamp(), modified.timestamp()))
    kept = with_kept_url(record)
    fields = {name: getattr(kept, name) for name in Published.__slots__}  # asdict takes 50 µs
    platform.remember(fd, final, json.dumps(fields).encode())
