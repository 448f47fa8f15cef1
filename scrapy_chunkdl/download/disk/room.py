"""How much room a disk has, how much of it is left free, and what says that there is none. Blocks as the disk does.

Knows file systems and words; nothing of files under way, or of who waits for room.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""What a disk says that has no room, or no room for this user (POSIX; EDQUOT of quotas and NFS)."""

_LEAST_BYTES = 1 << 30
_LEAST_SHARE = 0.02
_MOST_SHARE = 0.1

LEAST_NAMES = 64
"""Inodes that are left free: a download takes up to three, and 16 may be published at once."""

_SAYS_FULL = re.compile(
    r"no space left|disk quota exceeded|insufficient.?storage|(status|error|http|code)\W{0,12}507\b|quota.?exceeded"
    r"|storage.?(is )?full|not enough (space|storage)|out of (disk )?space",
    re.IGNORECASE,
)
"""HTTP 507 (RFC 4918 §11.5), S3's InsufficientStorage and QuotaExceeded, MinIO's XMinioStorageFull, and errno's texts
where a library keeps nothing else."""


class Room(NamedTuple):
    """A disk at one moment: bytes that may be written, bytes in all (0: it does not tell), inodes left, if told."""

    free_bytes: int
    total_bytes: int
    free_names: int | None = None


class Reserve(NamedTuple):
    """What is left free of a disk: so many bytes, or such a share of it.

    Of neither, the larger of 1 GiB and 2 %, but no more than a tenth.
    """

    size_bytes: int | None = None
    share: float | None = None

    @classmethod
    def of_setting(cls, min_free: float | None) -> Reserve:
        """Read CHUNKDL_MIN_FREE: whole numbers are bytes, others a share of the disk."""
        return cls(share=min_free) if isinstance(min_free, float) else cls(size_bytes=min_free)

    def of(self, total_bytes: int) -> int:
        """Return the bytes to be left free of a disk of that size."""
        if self.size_bytes is not None:
            return self.size_bytes
        if self.share is not None:
            return int(self.share * total_bytes)
        return int(min(max(_LEAST_BYTES, _LEAST_SHARE * total_bytes), _MOST_SHARE * total_bytes))


NO_RESERVE = Reserve(size_bytes=0)


def room_of(folder: Path) -> Room:
    """Return the room there is for files in ``folder``, which need not be there yet. Raises OSError."""
    for place in (folder, *folder.parents):
        try:
            usage = shutil.disk_usage(place)
        except FileNotFoundError:
            continue
        return Room(usage.free, usage.total, _free_names(place))
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


def _free_names(place: Path) -> int | None:
    try:
        told = os.statvfs(place)
    except (AttributeError, OSError):  # Windows
        return None
    return told.f_favail if told.f_files else None  # btrfs and others make inodes as they go, and tell 0


def is_full(error: BaseException) -> bool:
    """Whether an error of a store means that it has no room."""
    return any(getattr(one, "errno", None) in FULL for one in _chain(error)) or says(error, _SAYS_FULL)


def says(error: BaseException, what: re.Pattern[str]) -> bool:
    """Whether an error of a store, or what it was raised from, says something."""
    return any(what.search(str(one)) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(5):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
