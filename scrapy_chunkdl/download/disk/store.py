"""What the downloader asks of a place for finished files other than the local disk. A protocol; no store of its own.

Anybody's object that has these three methods will do: see docs/storage.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from scrapy_chunkdl.download.disk.record import Published


class Store(Protocol):
    """Where finished files end up. A key is a relative path in POSIX form, such as ``"3f/0a1b2c3d4e/report.pdf"``.

    The methods block and are called from several threads at once. What they raise gives the file up once it was tried
    CHUNKDL_RETRY_TIMES again; a :class:`~scrapy_chunkdl.download.Permanent` or a ``PermissionError`` does so at once.
    The whole file stays on local disk meanwhile, and a later run delivers it without fetching it again.
    """

    def find(self, key: str) -> Published | None:
        """Return what was put under ``key``, with the record it was put with; None if nothing is there.

        A store that cannot keep the record gives ``url`` as None and, if it knows it, ``stored_at``.
        """
        ...

    def put(self, path: Path, key: str, record: Published, moved: Callable[[int], None]) -> None:
        """Copy the whole local file to ``key``, replacing what is there. It must appear at once and whole, or not.

        ``moved`` is called with the number of bytes sent since the last call, 0 while waiting; it raises when the
        upload has to end. What it raises must come out of here, and nothing be left behind in the store.
        """
        ...

    def uri(self, key: str) -> str:
        """Return what is written into the item as the file's path."""
        ...
