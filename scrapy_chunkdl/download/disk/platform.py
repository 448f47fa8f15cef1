"""What a platform or a file system may lack: each thing here alone, with its way round, and every errno with its class.

Looked for at the call, since the same process may use several file systems; told once. Everything blocks. Knows the
operating system; nothing of parts, journals or downloads.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import cast

from scrapy_chunkdl.download.disk.room import FULL, NO_RESERVE, Reserve, room_of
from scrapy_chunkdl.download.errors import DownloadError, NoRoom, Permanent, Transient

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

RECORD = ".chunkdl"
_XATTR = "user.chunkdl"

_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_PASSING = _TOO_MANY_FILES | {
    getattr(errno, name, errno.EAGAIN)
    for name in ("ESTALE", "EINTR", "EAGAIN", "ENOMEM", "EBUSY", "ETIMEDOUT", "EHOSTDOWN", "ENETUNREACH", "EREMOTEIO")
}
_NOT_KNOWN = frozenset(
    {
        getattr(errno, name, errno.ENOSYS)
        for name in ("ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "ENOTTY", "ENODEV", "EISDIR")
    }
)
"""What a file system says that does not know a call."""

_NO_FOLDER_SYNC = _NOT_KNOWN | _REFUSED | {errno.EBADF}
"""EINVAL of SMB, vboxsf and drvfs, EBADF of AFS, EACCES where a folder cannot even be opened (Windows). PostgreSQL
passes over the same (fd.c, fsync_fname_ext)."""

_BLIND_LOCKS = ("fuse.", "vboxsf", "prl_fs", "hgfs", "9p")
"""Types of file systems whose locks the machines that share them do not see, without any error: flock(2) stays in one
kernel. ``fuseblk`` is a disk of this machine."""

_told: set[str] = set()


def _tell(what: str, text: str) -> None:
    if what not in _told:
        _told.add(what)
        logger.info("%s", text)


def disk_error(error: OSError, path: object, *, reading: bool = False) -> DownloadError:
    """Return what an OSError means for a file: Transient where it passes by itself, else Permanent.

    EIO is final where bytes were written or synced: what the disk holds is not known then, see ``PartFile._sync``.
    """
    said = error.strerror or type(error).__name__
    if error.errno in FULL:
        return NoRoom(f"no space left for {path}: make room, it resumes")
    if error.errno in _REFUSED:
        return Permanent(f"{path} may not be written: {said}", reason="read_only")
    if error.errno in _TOO_MANY_FILES:
        return DiskFault(f"{said}, for {path}: raise the limit (ulimit -n)", reason="too_many_open_files")
    if error.errno in _PASSING or (reading and error.errno == errno.EIO):
        return DiskFault(f"{path} cannot be used now: {said}", reason="disk_error")
    return Permanent(f"{path} cannot be {'read' if reading else 'written'}: {said}", reason="disk_error")


@contextmanager
def disk_errors(path: object, *, reading: bool = False) -> Iterator[None]:
    """Turn OSError into errors that say what to do. The bytes that are there stay, and are resumed from."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path, reading=reading) from error


class DiskFault(Transient):
    """A disk, or this process's share of open files, that may do the next time."""


def passes(error: OSError) -> bool:
    """Tell whether the same call may succeed in a moment."""
    return error.errno in _PASSING


# --- opening, writing, reading

_OPENED = os.O_RDWR | os.O_CREAT
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY", "O_NOINHERIT"):
    _OPENED |= getattr(os, _name, 0)


def open_file(path: Path | str) -> int:
    """Open a file of our own for reading and writing, made where there is none; never through a symbolic link."""
    return os.open(path, _OPENED, 0o666)


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
    """Write at an offset, as much as goes; return how many bytes that were."""
    try:
        return os.pwrite(fd, data, offset)
    except AttributeError:  # Windows
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read at an offset, ``size`` bytes at most."""
    try:
        return os.pread(fd, size, offset)
    except AttributeError:  # Windows
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def reserve(fd: int, size: int, folder: Path, keep: Reserve = NO_RESERVE) -> bool:
    """Have room for ``size`` bytes, and leave free what is to be kept; tell whether the disk has set it aside.

    Raises NoRoom where there is none, Permanent where the disk is too small for it, and OSError, ENOSPC perhaps.

    By Linux' own fallocate(2). glibc's posix_fallocate writes into every block where the file system does not know it
    (NFS before 4.2, ext3, NTFS): the whole file, before its first byte.
    """
    room = room_of(folder)
    kept_bytes = keep.of(room.total_bytes)
    if room.total_bytes and room.free_bytes - size < kept_bytes:
        if size > room.total_bytes - kept_bytes:
            text = f"{size} bytes for {folder}, a disk of {room.total_bytes} bytes with {kept_bytes} to be left free"
            raise Permanent(f"the file is larger than its disk: {text}", reason="disk_full")
        raise _too_little(size, folder, room.free_bytes, kept_bytes)
    problem = _fallocate(fd, size)
    if not problem:
        if kept_bytes and (free_bytes := room_of(folder).free_bytes) < kept_bytes:  # others took it meanwhile
            os.ftruncate(fd, 0)
            raise _too_little(size, folder, free_bytes, kept_bytes)
        return True
    if problem not in _NOT_KNOWN:
        os.ftruncate(fd, 0)
        raise OSError(problem, os.strerror(problem))
    os.ftruncate(fd, size)
    return False


def _too_little(size: int, folder: Path, free_bytes: int, kept_bytes: int) -> NoRoom:
    kept = f", of which {kept_bytes} are left free" if kept_bytes else ""
    text = f"no space left for {size} bytes in {folder}, which has {free_bytes}{kept}: make room, it resumes"
    return NoRoom(text, needs_bytes=size)


def _fallocate(fd: int, size: int) -> int:
    """Return 0, or why not as an errno."""
    call = _libc_fallocate()
    if call is None:
        return errno.ENOSYS
    ctypes.set_errno(0)
    return 0 if call(fd, 0, 0, size) == 0 else ctypes.get_errno() or errno.EIO


@lru_cache(maxsize=1)
def _libc_fallocate() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None
    call = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        call.restype = ctypes.c_int
    return cast("Callable[[int, int, int, int], int] | None", call)


# --- syncing


def sync_data(fd: int) -> None:
    """Have a file's bytes on disk. macOS has no fdatasync."""
    try:
        os.fdatasync(fd)
    except AttributeError:
        sync_file(fd)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
        sync_file(fd)


def sync_file(fd: int) -> None:
    """Have a file's bytes, and what is known of it, on disk."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NOT_KNOWN:
            raise
        _tell("fsync", "A file system here cannot sync files: after a power failure what came last may be gone.")


def open_folder(folder: Path | str) -> int:
    """Open a folder to sync it; -1 where that cannot be done."""
    flags = os.O_RDONLY
    for name in ("O_DIRECTORY", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    try:
        return os.open(folder, flags)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
        return -1


def sync_opened_folder(fd: int) -> None:
    """Have the names in a folder on disk: syncing a file does not. Passed over where folders cannot be synced."""
    if fd < 0:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
        _tell("folder", "A file system here cannot sync folders: after a power failure the newest names may be gone.")


def sync_folder(folder: Path | str) -> None:
    """Open a folder and sync it."""
    fd = open_folder(folder)
    try:
        sync_opened_folder(fd)
    finally:
        if fd >= 0:
            os.close(fd)


def replace(source: Path, target: Path) -> None:
    """Give a file the name ``target``. Windows refuses for a moment while a scanner looks at either."""
    for pause in (0.05, 0.2, 0.8, None) if os.name == "nt" else (None,):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if pause is None:
                raise
            time.sleep(pause)


def can_rename_open_files() -> bool:
    """Tell whether a file may get another name while it is open."""
    return os.name != "nt"


# --- locks


def lock(fd: int) -> bool:
    """Lock a file for as long as it is open; the lock goes with the process. False where there are no locks.

    Raises BlockingIOError while another has it. What else a lock fails with (ENOLCK, ENOSYS, EBADF, EACCES, …) means
    the same: nobody is kept away by it.
    """
    try:
        if fcntl is None:
            return _lock_on_windows(fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (OSError, AttributeError):
        _tell("lock", "A file system here has no locks: part files get names of their own for each process.")
        return False
    return True


def _lock_on_windows(fd: int) -> bool:
    import portalocker

    try:
        portalocker.lock(fd, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked as error:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    except portalocker.LockException:
        return False
    return True


@lru_cache(maxsize=256)
def locks_reach_everybody(device: int) -> bool:
    """Tell whether other machines that share a file system see our locks, as far as its mount says (Linux)."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            fields, _, rest = line.partition(" - ")
            if fields.split()[2] != wanted:
                continue
            kind, _, options = rest.partition(" ")
            said = options.rpartition(" ")[2].split(",")
            blind = kind == "fuse" or kind.startswith(_BLIND_LOCKS)
            blind = blind or not {"nolock", "local_lock=all", "local_lock=flock", "nobrl"}.isdisjoint(said)
            if blind:
                _tell("reach", f"Locks of {kind} do not reach other machines: part files get names for each machine.")
            return not blind
    return True


@lru_cache(maxsize=1)
def machine() -> str:
    """Return digits that stand for this machine, or container, until it starts again."""
    said = [socket.gethostname(), str(uuid.getnode())]
    with suppress(OSError):
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError, AttributeError):
        said.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Tell whether a process of this machine is there."""
    if os.name == "nt":
        return True  # os.kill would end it: what it left is swept one day
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


# --- what is remembered with a file


def remember(fd: int, final: Path, text: bytes) -> None:
    """Keep ``text`` with the open file that will be at ``final``: as an attribute, else in a hidden file beside it."""
    try:
        os.setxattr(fd, _XATTR, text)
        is_kept = os.getxattr(fd, _XATTR) == text
    except (OSError, AttributeError):
        is_kept = False
    if not is_kept:
        _write_record(fd, final, text)


def recall(path: Path) -> bytes | None:
    """Return what was remembered with the file at ``path``; None if nothing was, or of another file at this path."""
    with suppress(OSError, AttributeError):
        return os.getxattr(path, _XATTR)
    return _read_record(path)


def record_path(final: Path) -> Path:
    """Return the hidden file beside ``final`` that says what it is, where files cannot say it themselves."""
    return final.with_name(f".{final.name}{RECORD}")


def forget(final: Path) -> None:
    """Remove what was remembered beside a file that has gone."""
    with suppress(OSError):
        os.unlink(record_path(final))


def _write_record(fd: int, final: Path, text: bytes) -> None:
    status = os.fstat(fd)
    path = record_path(final)
    new = path.with_name(f"{path.name}~")
    try:
        new.write_bytes(b"%d %d\n%b" % (status.st_size, status.st_mtime_ns, text))
        os.replace(new, path)
    except OSError:  # the disk is full, say: then nothing of it stays
        with suppress(OSError):
            os.unlink(new)
        raise


def _read_record(path: Path) -> bytes | None:
    try:
        said, _, text = record_path(path).read_bytes().partition(b"\n")
        status = path.stat()
        size, changed = map(int, said.split())
    except (OSError, ValueError):
        return None
    same_time = abs(changed - status.st_mtime_ns) <= 2 * 10**9  # FAT counts by two seconds
    return text if size == status.st_size and same_time else None
