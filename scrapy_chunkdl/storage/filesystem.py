"""``ftp://``, ``sftp://`` and whatever else fsspec knows. Knows file systems and Scrapy's FTP_* settings.

These keep no record with a file: that it is unchanged is judged by size and time, as wget -N does.
"""

from __future__ import annotations

import ftplib
import posixpath
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.storage.errors import MissingExtra, StoreUnusable
from scrapy_chunkdl.storage.record import without_password

PIECE = 1 << 20
PART = ".part"
_IDLE_S = 30.0
"""Seconds after which a connection nobody used is not trusted."""

_REFUSED = re.compile(r"53[023]|553|55\d.*(denied|privilege|permi)", re.IGNORECASE | re.DOTALL)
_SILENT_S = 60.0
_KEEPALIVE_S = 15


def open_store(uri: str, settings: Mapping[Any, Any]) -> FileSystemStore:
    """Return the store at a URI. Raises :class:`StoreUnusable` and :class:`MissingExtra`."""
    parts = urlsplit(uri)
    options: dict[str, Any] = {}
    if parts.scheme == "ftp":
        if settings.get("FEED_STORAGE_FTP_ACTIVE") in (True, 1, "1", "True", "true"):
            raise StoreUnusable("FEED_STORAGE_FTP_ACTIVE is on, and fsspec's FTP is always passive: switch it off")
        if not parts.username:
            options = {"username": settings.get("FTP_USER"), "password": settings.get("FTP_PASSWORD")}
    return FileSystemStore(uri, options)


class FileSystemStore:
    """A folder of any file system of fsspec."""

    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        self._uri = uri.rstrip("/")
        self._shown = without_password(self._uri)
        self._options = dict(options)
        self._idle: deque[tuple[float, tuple[Any, str]]] = deque()
        self._check()

    def uri(self, key: str) -> str:
        """Return the file's URI, without the password that may stand in the store's."""
        return f"{self._shown}/{key}"

    def find(self, key: str) -> Published | None:
        """Return what is known of a file: its size and, where the file system tells, its time."""
        with self._file_system() as (system, root):
            path = posixpath.join(root, key)
            system.invalidate_cache(posixpath.dirname(path))
            try:
                info = system.info(path)
            except FileNotFoundError:
                return None
            if info.get("type") == "directory":
                return None
            stored = _time_of(system, path, info)
            return Published(url=None, size=int(info["size"] or 0), stored_at=stored)

    def put(self, path: Path, key: str, record: Published, moved: Callable[[int], None]) -> None:
        """Write the file under another name, then rename it."""
        with _refusals(), self._file_system() as (system, root):
            final = posixpath.join(root, key)
            part = f"{final}.{uuid.uuid4().hex[:8]}{PART}"  # two machines may have the same file at the same time
            _make_folder(system, posixpath.dirname(final))
            try:
                with path.open("rb", buffering=0) as source, system.open(part, "wb") as target:
                    if hasattr(target, "set_pipelined"):  # paramiko, which else waits for an answer every 32 KB
                        target.set_pipelined(True)
                    while piece := source.read(PIECE):
                        target.write(piece)
                        moved(len(piece))
                system.invalidate_cache(posixpath.dirname(final))
                if (arrived := system.info(part)["size"]) != record.size:
                    raise OSError(f"{arrived} bytes of {record.size} arrived")
                if system.exists(final):
                    system.rm_file(final)
                _rename(system, part, final)
            except BaseException:
                with suppress(Exception):
                    system.rm_file(part)
                raise
            moved(0)

    def _check(self) -> None:
        try:
            from fsspec.core import split_protocol
            from fsspec.registry import get_filesystem_class

            get_filesystem_class(split_protocol(self._uri)[0])
        except ImportError as error:
            raise MissingExtra(f"{self._shown} cannot be reached: {error}") from error
        except ValueError as error:
            raise StoreUnusable(f"{self._shown}: {error}") from error

    @contextmanager
    def _file_system(self) -> Iterator[tuple[Any, str]]:
        """Lend a connection, which is used by one thread at a time, and not again once something went wrong on it."""
        lent = self._connection()
        try:
            yield lent
        except BaseException:
            self._idle.clear()  # where one has died of idleness, so have the others
            raise
        self._idle.append((time.monotonic(), lent))

    def _connection(self) -> tuple[Any, str]:
        """Return a connection that was used lately, or a new one: servers and firewalls drop idle ones unsaid."""
        with suppress(IndexError):
            since, lent = self._idle.pop()
            if time.monotonic() - since < _IDLE_S:
                return lent
            self._idle.clear()  # the others have been idle for longer
        system, root = url_to_fs(self._uri, skip_instance_cache=True, **self._options)
        if (sftp := getattr(system, "ftp", None)) is not None and hasattr(sftp, "get_channel"):  # paramiko
            channel = sftp.get_channel()
            channel.settimeout(_SILENT_S)
            channel.get_transport().set_keepalive(_KEEPALIVE_S)
        return system, root


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell what a server refuses from what may go well the next time; FTP has one class for both (RFC 959 §4.2)."""
    try:
        yield
    except ftplib.error_perm as error:
        if _REFUSED.match(str(error)):
            raise PermissionError(str(error)) from None
        raise


def _make_folder(system: Any, folder: str) -> None:
    """Make a folder, which another upload may make at the same moment, one of those above it first."""
    for is_last in (False, False, True):
        try:
            system.makedirs(folder, exist_ok=True)
            return
        except Exception:  # each file system has its own for "it is there"
            system.invalidate_cache()
            if system.isdir(folder):
                return
            if is_last:
                raise


def _rename(system: Any, path: str, final: str) -> None:
    """Rename a file; where a file system only knows how to copy, past what takes ``[x]`` and ``?`` for patterns."""
    if type(system).mv is AbstractFileSystem.mv:
        system.cp_file(path, final)
        system.rm_file(path)
    else:
        system.mv(path, final)


def _time_of(system: Any, path: str, info: Mapping[str, Any]) -> str | None:
    try:
        time = system.modified(path)
    except (NotImplementedError, KeyError, TypeError):
        time = info.get("mtime")  # SFTP, before fsspec knew
        if "modify" in info:  # FTP, by MLSD (RFC 3659 §7.5.3)
            time = datetime.strptime(info["modify"].partition(".")[0], "%Y%m%d%H%M%S")
    if not isinstance(time, datetime):
        return None
    return format_datetime(time.replace(tzinfo=time.tzinfo or timezone.utc).astimezone(timezone.utc), usegmt=True)
