"""The journal beside a part file: which bytes of which version of which file are safe on disk.

A text file: a header line, then one line for each checkpoint with the ranges that became safe since the last. Every
line ends in its CRC-32, so that a line torn by a crash is recognised and ignored, with all that follows. Knows files
and text; whether the bytes really are on disk is the part file's business.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.plan.ranges import Range, Ranges

VERSION = 1
TEMPORARY = "~"
_BINARY = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_REWRITE_AFTER = 4096


class JournalError(Exception):
    """The journal cannot be used; the message says why. The file starts afresh."""


class Identity(NamedTuple):
    """Which version of which file the bytes belong to."""

    url: str
    size: int
    validator: Validator


def read(path: Path) -> tuple[Identity, Ranges]:
    """Read a journal. Raises :class:`JournalError` if it is absent, foreign, newer, or its header is damaged."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise JournalError("it has no journal") from None
    except OSError as error:
        raise JournalError(f"its journal cannot be read ({error.strerror})") from error
    header = _parse(lines[0])
    if not isinstance(header, dict) or "chunkdl" not in header:
        raise JournalError("its journal is damaged or not ours")
    if header["chunkdl"] != VERSION:
        raise JournalError(f"its journal is of version {header['chunkdl']}, this is version {VERSION}")
    try:
        identity = Identity(str(header["url"]), int(header["size"]), Validator(**header["validator"]))
        done = Ranges()
        for line in lines[1:]:
            ranges = _parse(line)
            if not isinstance(ranges, list):
                break
            for start, stop in ranges:
                if not 0 <= start <= stop <= identity.size:
                    raise ValueError
                done.add(start, stop)
    except (KeyError, TypeError, ValueError):
        raise JournalError("its journal is damaged") from None
    return identity, done


class JournalWriter:
    """Appends to the journal of one part file. Blocking; raises OSError."""

    def __init__(self, path: Path, identity: Identity, done: Iterable[Range]) -> None:
        self._path = path
        self._identity = identity
        self._lines = 0
        self._fd = -1
        self.rewrite(done)

    def append(self, ranges: Iterable[Range], all_done: Iterable[Range]) -> None:
        """Record more ranges and have them on disk; now and then write a short journal of ``all_done`` instead."""
        if self._lines >= _REWRITE_AFTER:
            self.rewrite(all_done)
            return
        self._lines, lines = _REWRITE_AFTER, self._lines  # a line torn by a full disk must not stay in the middle
        _write(self._fd, _line(list(ranges)))
        platform.sync_data(self._fd)
        self._lines = lines + 1

    def is_in_place(self) -> bool:
        """Whether the journal at the path is the one written here, and not another's."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file; what it says stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def rewrite(self, done: Iterable[Range]) -> None:
        """Write a journal of these ranges in place of what was recorded."""
        temporary = self._path.with_name(self._path.name + TEMPORARY)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _BINARY, 0o644)
        try:
            named = {**self._identity._asdict(), "validator": self._identity.validator._asdict()}
            _write(fd, _line({"chunkdl": VERSION, **named}) + _line(list(done)))
            platform.sync_data(fd)
            os.replace(temporary, self._path)
            # Else power loss brings back the old one, and what is appended now is gone.
            platform.sync_folder(self._path.parent)
        except BaseException:
            os.close(fd)
            with suppress(OSError):  # what went wrong first is what counts
                os.unlink(temporary)
            raise
        self.close()
        self._fd = fd
        self._lines = 0


def _write(fd: int, data: bytes) -> None:
    """Write all of it: on a disk nearly full the first call writes a part, only the second one fails."""
    while data:
        data = data[os.write(fd, data) :]


def _line(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _parse(line: bytes) -> Any:
    text, _, check = line.rpartition(b" ")
    try:
        return json.loads(text) if int(check, 16) == zlib.crc32(text) else None
    except ValueError:
        return None
