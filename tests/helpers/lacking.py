"""What other platforms and file systems lack, taken away from this one: the system's own calls."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

import pytest

from scrapy_chunkdl.download.disk import platform


def _failing(number: int) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def _absent(*names: str) -> Callable[[pytest.MonkeyPatch], None]:
    def take(patch: pytest.MonkeyPatch) -> None:
        for name in names:
            patch.delattr(os, name, raising=False)

    return take


def _no_reservation(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(os, "posix_fallocate", raising=False)
    patch.setattr(platform, "_libc_fallocate", lambda: None)


def _no_locks(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr("fcntl.flock", _failing(number))


def _no_folder_sync(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    def take(patch: pytest.MonkeyPatch) -> None:
        fsync = os.fsync

        def files_only(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(fd)

        patch.setattr(os, "fsync", files_only)

    return take


def _attributes_refused(patch: pytest.MonkeyPatch) -> None:
    for name in ("getxattr", "setxattr"):
        patch.setattr(os, name, _failing(errno.EOPNOTSUPP))


LACKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "fdatasync": _absent("fdatasync"),
    "posix_fallocate": _no_reservation,
    "getxattr": _absent("getxattr"),
    "setxattr": _absent("setxattr"),
    "attributes": _attributes_refused,
    "flock": _no_locks(errno.ENOLCK),
    "flock-ENOSYS": _no_locks(errno.ENOSYS),
    "flock-EBADF": _no_locks(errno.EBADF),
    "flock-EACCES": _no_locks(errno.EACCES),
    "pwrite": _absent("pwrite", "pread"),
    "flags": _absent("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC"),
    "folder-fsync": _no_folder_sync(errno.EINVAL),
    "folder-fsync-ENOTSUP": _no_folder_sync(errno.ENOTSUP),
    "folder-fsync-EBADF": _no_folder_sync(errno.EBADF),
    "folder-fsync-EACCES": _no_folder_sync(errno.EACCES),
}
"""What is lacking, by name: CHUNKDL_TEST_LACKS has some of them, with commas between."""

ALL = ("fdatasync", "posix_fallocate", "getxattr", "setxattr", "flock", "folder-fsync")


def taken_away() -> list[str]:
    """Return what CHUNKDL_TEST_LACKS takes away from the tests of downloads."""
    return [name for name in os.environ.get("CHUNKDL_TEST_LACKS", "").split(",") if name]


needs_locks = pytest.mark.skipif(
    any(name.startswith(("flock", "all")) for name in taken_away()),
    reason="where there are no locks, small files go the ordinary way",
)
"""For tests that count what the small way asks, or has on disk."""


def take_away(patch: pytest.MonkeyPatch, *names: str) -> None:
    for name in ALL if names == ("all",) else names:
        LACKS[name](patch)
