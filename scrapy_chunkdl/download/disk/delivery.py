"""A whole local file on its way into a store: blocking work in threads of its own, retried, and ended when asked.

Knows the store's protocol; nothing of HTTP to the source, or of what a store is made of.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.disk.room import is_full, says
from scrapy_chunkdl.download.disk.store import Store
from scrapy_chunkdl.download.errors import DownloadError, KeysExpired, NoRoom, Permanent, Transient
from scrapy_chunkdl.download.model import Progress
from scrapy_chunkdl.download.progress import Doing

T = TypeVar("T")

FIND_TIMEOUT_S = 60.0
"""Seconds a store may take to say what it has."""

_MOST_OVERDUE = 8
"""Threads that may hang in calls to a store that does not answer, before it is not asked any more until one returns."""

_overdue: Counter[int] = Counter()
"""By store, the calls that are not waited for any more and have not returned."""

_STOP_PATIENCE = 3.0
"""Seconds a cancelled upload gets to take back what it has sent."""


_SAYS_EXPIRED = re.compile(
    r"expired.?(authentication)?.?token|token.{0,30}(has |is |have )?expired|TokenRefreshRequired|RefreshError"
    r"|(credential|session|signature|key)s?.{0,20} (has |have |is |are )?expired"
    r"|signature not valid in the specified time|reauthentication (is )?(needed|required)",
    re.IGNORECASE,
)
"""What stores say of keys that were good: ExpiredToken of S3 and STS, ExpiredAuthenticationToken and the time frame of
a signature of Azure, RefreshError and "Reauthentication is needed" of Google's library."""

Insist = Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]
"""Makes a coroutine function of one that is called again after a Transient error, as often as a file is worth it."""


class Delivery:
    """The store's side of one file, whose local path under ``root`` is its key."""

    def __init__(self, store: Store, root: Path, insist: Insist, progress: Progress) -> None:
        self._store = store
        self.root = root
        self._insist = insist
        self._progress = progress

    def uri(self, final: Path) -> str:
        """Return where the file is, or will be, in the store."""
        return self._store.uri(self._key(final))

    async def find(self, final: Path) -> Published | None:
        """Return what the store has under the file's key. Raises DownloadError."""
        found: Published | None = await self._insist(self._find)(final)
        return found

    async def _find(self, final: Path) -> Published | None:
        if _overdue[id(self._store)] >= _MOST_OVERDUE:
            raise Transient("the store does not answer what it has", reason="store_failed")
        work = _in_own_thread(self._store.find, self._key(final))
        with self._progress.during(Doing.DELIVERING):
            await asyncio.wait({work}, timeout=FIND_TIMEOUT_S)
        if not work.done():
            _overdue[id(self._store)] += 1
            work.add_done_callback(lambda _: _overdue.subtract([id(self._store)]))
            text = f"the store did not answer in {FIND_TIMEOUT_S:g} s what it has"
            raise Transient(text, reason="store_failed")
        return await _told(work)

    async def put(self, final: Path, record: Published) -> None:
        """Copy the file into the store. Raises DownloadError; when cancelled, what was sent is taken back."""
        failed = False

        async def insist() -> None:
            nonlocal failed
            if failed and _is_same(await self._find(final), record):
                return  # only the answer was lost, or somebody else was quicker
            failed = True
            await self._put(final, record)

        await self._insist(insist)()

    async def _put(self, final: Path, record: Published) -> None:
        stop = threading.Event()

        def moved(count: int) -> None:
            if stop.is_set():
                raise _Stopped
            self._progress.moved()
            self._progress.uploaded += count

        work = _in_own_thread(self._store.put, final, self._key(final), record, moved)
        try:
            with self._progress.during(Doing.DELIVERING):
                await asyncio.wait({work})
        except asyncio.CancelledError:
            stop.set()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work}, timeout=_STOP_PATIENCE)
            raise
        await _told(work)

    def _key(self, final: Path) -> str:
        return final.relative_to(self.root).as_posix()


class _Stopped(Exception):
    """Ends an upload whose task was cancelled."""


def _is_same(there: Published | None, record: Published) -> bool:
    """Whether the store has this very version, as far as can be told: the URL may be kept as its digest."""
    if there is None or not (record.etag or record.last_modified or record.checksum):
        return False
    return replace(there, url=record.url) == record


async def _told(work: Awaitable[T]) -> T:
    """Wait for a store's answer; whatever it raises is told in our own errors."""
    try:
        return await work
    except DownloadError:
        raise
    except Exception as error:
        if is_full(error):
            raise NoRoom(f"the store has no room: {error or type(error).__name__}") from error
        if says(error, _SAYS_EXPIRED):
            raise KeysExpired(f"the store's keys have run out: {error or type(error).__name__}") from error
        if isinstance(error, PermissionError):
            raise Permanent(f"the store refuses: {error}", reason="store_denied") from error
        raise Transient(f"the store failed: {error or type(error).__name__}", reason="store_failed") from error


def _in_own_thread(function: Callable[..., T], *args: object) -> asyncio.Future[T]:
    """Run blocking work in a new thread.

    Not in the loop's executor: uploads would keep checkpoints waiting there, and its threads are joined when the
    process ends, which a hung upload must not hold up.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
            done.exception()  # a cancelled upload's error is nobody's
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = function(*args)
        except BaseException as error:  # noqa: BLE001 -- it is raised in the loop
            problem = error
        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="chunkdl-store", daemon=True).start()
    return done
