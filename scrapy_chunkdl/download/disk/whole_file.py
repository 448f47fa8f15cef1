"""Files that are whole in memory before they touch the disk: locked, written, recorded, synced, named, many together.

The protocol is that of :mod:`scrapy_chunkdl.download.disk.partfile` (``<name>.part``, locked; fsync; rename; fsync of
the folder), so that both ways may meet at one name. What is left out is what only a file that grows needs: plan,
journal, reservation. Raises plain OSError: whoever cannot go on here takes the ordinary way, which tells what is
wrong. Knows the disk; nothing of HTTP. Killed at any point, this is what the next process finds: the file as it was
before, with at most a part file beside it that no journal speaks for; or after the rename the new one, whole.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from scrapy_chunkdl.download.concurrency import outlast
from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.disk.part_lock import JOURNAL, PART, make_folder
from scrapy_chunkdl.download.disk.record import Published, remember

_QUICK_S = 0.0003
_CALLS_REMEMBERED = 16
_THREADS = 16


class NoLocks(OSError):
    """The file system has no locks that keep everybody away."""


class WholeFile:
    """One file on its way to its name. ``lock``, ``write``, then :meth:`Publishing.publish`; ``discard`` if not."""

    __slots__ = ("_fd", "_path", "final", "folder", "path", "unsynced")

    def __init__(self, folder: str, name: str) -> None:
        self.folder = folder
        self.final = f"{folder}/{name}"
        self.path = Path(self.final)
        self.unsynced: list[str] = []
        self._path = self.final + PART
        self._fd = -1

    def lock(self) -> None:
        """Open and lock the part file. Raises BlockingIOError where another download has it, NoLocks, OSError."""
        try:
            self._fd = platform.open_file(self._path)
        except FileNotFoundError:
            self.unsynced = make_folder(self.folder)
            self._fd = platform.open_file(self._path)
        try:
            there = os.fstat(self._fd)
            if not (platform.locks_reach_everybody(there.st_dev) and platform.lock(self._fd)):
                raise NoLocks(errno.ENOLCK, os.strerror(errno.ENOLCK))
            if not os.path.samestat(there, os.stat(self._path)):  # published while it was being locked
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except BaseException:
            self.close()
            raise
        if not self.unsynced:
            self._drop_leftovers(there.st_size)

    def _drop_leftovers(self, size: int) -> None:
        """The old journal goes first: its claims must not outlive the bytes they are about."""
        with suppress(FileNotFoundError):
            os.unlink(self.final + JOURNAL)
            sync_folder(self.folder)
        if size:
            os.ftruncate(self._fd, 0)

    def write(self, body: bytes | bytearray | memoryview, record: Published) -> None:
        """Put the bytes into the part file, with what they are."""
        written = platform.write_at(self._fd, body, 0)
        while written < len(body):
            written += platform.write_at(self._fd, memoryview(body)[written:], written)
        remember(self._fd, self.path, record)

    def finish(self, sync_folder: Callable[[str], None]) -> None:
        """Have the bytes on disk, then give them their name, then have that on disk."""
        platform.sync_file(self._fd)
        os.replace(self._path, self.final)
        self._path = ""  # the lock went with the name: what is called so from now on is another's
        for folder in (self.folder, *self.unsynced):
            sync_folder(folder)

    def discard(self) -> None:
        """Remove the part file and unlock."""
        try:
            if self._fd >= 0 and self._path:
                os.unlink(self._path)
        finally:
            self.close()

    def close(self) -> None:
        """Unlock."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Publishing:
    """Has files get their names: at once where that takes no time, else in threads that share their waits for the disk.

    In memory, and on disks that keep what they have when the power fails, a file takes 10 µs: there it is done on the
    loop, all that are ready in one go, and each folder is synced once for all of them. To wake a thread costs ten times
    as much. On other disks an fsync takes 1 to 20 ms, in which the file system takes in all that are waited for: there
    16 threads wait side by side, and of those that wait for one folder one syncs it for all. The last calls
    decide. Lives in one loop.
    """

    def __init__(self, quick_s: float = _QUICK_S) -> None:
        self._quick_s = quick_s
        self._took: deque[float] = deque(maxlen=_CALLS_REMEMBERED)
        self._is_quick = quick_s == float("inf")
        self._ready: list[tuple[WholeFile, asyncio.Future[None]]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._folders = FolderSyncs()

    async def publish(self, file: WholeFile) -> None:
        """Give a file its name; it is closed then, and gone if that failed. A cancellation waits for the end of it."""
        loop = asyncio.get_running_loop()
        if self._is_quick:
            done = loop.create_future()
            self._ready.append((file, done))
            if len(self._ready) == 1:
                loop.call_soon(self._finish_ready)
            try:
                await done
            except asyncio.CancelledError:
                if (file, done) in self._ready:
                    self._ready.remove((file, done))
                    file.discard()
                raise
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="chunkdl-disk")
        self._note(await outlast(loop.run_in_executor(self._threads, self._finish, file, self._folders.sync)))

    def _note(self, took_s: float) -> None:
        """Judge by the lower quartile: what else runs on the machine makes some calls slow, but none quick."""
        self._took.append(took_s)
        self._is_quick = sorted(self._took)[len(self._took) // 4] < self._quick_s

    def _finish_ready(self) -> None:
        """Give all that are ready their names, then sync each folder once for all of them."""
        ready, self._ready = self._ready, []
        if not ready:
            return
        folders: dict[str, list[asyncio.Future[None]]] = {}
        began = time.perf_counter()
        for file, done in ready:
            named: list[str] = []
            try:
                self._finish(file, named.append)
            except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
                done.set_exception(error)
            for folder in named:
                folders.setdefault(folder, []).append(done)
        for folder, waiting in folders.items():
            try:
                sync_folder(folder)
            except BaseException as error:  # noqa: BLE001
                for done in waiting:
                    if not done.done():
                        done.set_exception(error)
        self._note((time.perf_counter() - began) / len(ready))
        for _, done in ready:
            if not done.done():
                done.set_result(None)

    @staticmethod
    def _finish(file: WholeFile, sync: Callable[[str], None]) -> float:
        began = time.perf_counter()
        try:
            file.finish(sync)
        except BaseException:
            file.discard()
            raise
        file.close()
        return time.perf_counter() - began

    def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        if self._threads is not None:
            self._threads.shutdown()


class FolderSyncs:
    """Syncs of folders for many at once: who comes while a folder is being synced shares the next one. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._begun: dict[str, int] = {}
        self._ended: dict[str, tuple[int, OSError | None]] = {}
        self._waiting: dict[str, int] = {}

    def sync(self, folder: str) -> None:
        """Return once a sync of ``folder`` that began after this call has ended. Raises its OSError."""
        with self._turn:
            mine = self._begun.get(folder, 0) + 1
            self._waiting[folder] = self._waiting.get(folder, 0) + 1
            try:
                while (ended := self._ended.get(folder, (0, None)))[0] < mine:
                    if self._begun.get(folder, 0) == ended[0]:
                        self._lead(folder)
                    else:
                        self._turn.wait()
                if ended[1] is not None:
                    raise ended[1]
            finally:
                self._waiting[folder] -= 1
                if not self._waiting[folder]:
                    for known in (self._waiting, self._begun, self._ended):
                        known.pop(folder, None)

    def waiting(self, folder: str) -> int:
        """Return how many wait for a sync of ``folder``."""
        with self._turn:
            return self._waiting.get(folder, 0)

    def _lead(self, folder: str) -> None:
        number = self._begun[folder] = self._begun.get(folder, 0) + 1
        problem: OSError | None = None
        self._turn.release()
        try:
            sync_folder(folder)
        except OSError as error:
            problem = error
        finally:
            self._turn.acquire()
            before = self._ended.get(folder, (0, None))[1]  # a disk tells of what it lost once, and then no more
            self._ended[folder] = (number, before or problem)
            self._turn.notify_all()


def sync_folder(folder: str) -> None:
    """Have the names in a folder on disk."""
    platform.sync_folder(folder)
