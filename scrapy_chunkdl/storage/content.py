"""A local folder in which equal files are stored once: a file's name is the SHA-256 of its bytes.

Under a key, that is a URL's own path, lies only a small record: which content it led to. Two processes may put the same
content at once; the second finds it there. Knows the disk; nothing of HTTP, items or settings.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from scrapy_chunkdl.download.disk.checksum import hash_file
from scrapy_chunkdl.download.disk.platform import sync_file, sync_folder
from scrapy_chunkdl.download.disk.record import Published, with_kept_url

OURS = ".chunkdl"
"""Folder in the store for records and part files. On the same disk, so that files can be linked and not copied."""

_LONGEST_SUFFIX = 20


class ContentStore:
    """A :class:`~scrapy_chunkdl.download.Store` in ``folder``. Files with another extension are other files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._records = self.folder / OURS / "records"
        self.parts = self.folder / OURS / "parts"

    def find(self, key: str) -> Published | None:
        """Return the record of what was put under ``key``, if its content is still there, whole."""
        found = self._read(key)
        if found is None:
            return None
        path, record = found
        try:
            return record if path.stat().st_size == record.size else None
        except OSError:
            return None

    def put(self, path: Path, key: str, record: Published, moved: Callable[[int], None]) -> None:
        """Give the file's content its name, unless it has it already, and note that ``key`` leads there."""
        digest = _sha256(path, record, moved)
        suffix = PurePosixPath(key).suffix
        name = f"{digest[:2]}/{digest}{suffix if len(suffix) <= _LONGEST_SUFFIX else ''}"
        self._keep(path, self.folder / name)
        self._write(key, json.dumps({"content": name, "record": asdict(with_kept_url(record))}))

    def uri(self, key: str) -> str:
        """Return the path of the content that ``key`` leads to. Raises FileNotFoundError if there is none."""
        found = self._read(key)
        if found is None:
            raise FileNotFoundError(f"nothing was put under {key}")
        return str(found[0])

    def _keep(self, path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            if target.stat().st_size == path.stat().st_size:
                return
        new = target.with_name(f"{target.name}.{uuid.uuid4().hex}~")
        try:
            os.link(path, new)
            os.replace(new, target)
        except OSError:  # a file system without hard links
            with suppress(OSError):
                new.unlink(missing_ok=True)
            os.replace(path, target)
        sync_folder(target.parent)

    def _record_path(self, key: str) -> Path:
        return self._records / f"{key}.json"

    def _read(self, key: str) -> tuple[Path, Published] | None:
        try:
            read = json.loads(self._record_path(key).read_bytes())
            return self.folder / read["content"], Published(**read["record"])
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def _write(self, key: str, text: str) -> None:
        path = self._record_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{uuid.uuid4().hex}~")
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            sync_file(file.fileno())
        os.replace(new, path)
        sync_folder(path.parent)


def _sha256(path: Path, record: Published, moved: Callable[[int], None]) -> str:
    algorithm, _, known = (record.checksum or "").partition(":")
    if algorithm == "sha256" and known:
        return known
    return hash_file(path, ["sha256"], lambda: moved(0))["sha256"]
