"""FEEDS of a crawl that takes items from a list: no process writes another's file, and an item is safe before its ack.

Knows the inside of Scrapy's feed exporter and local files; nothing of Redis, leases or downloads. Everything here
happens on Scrapy's thread, but for :func:`synced`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import portalocker
from scrapy import Spider, signals
from scrapy.crawler import Crawler
from scrapy.extensions.feedexport import (
    FeedExporter,
    FileFeedStorage,
    FTPFeedStorage,
    GCSFeedStorage,
    S3FeedStorage,
    StdoutFeedStorage,
)
from scrapy.utils.defer import maybe_deferred_to_future
from twisted.internet.defer import Deferred

from scrapy_chunkdl.crawl.refusal import FEED_TAKEN, FEED_UNUSABLE, Unusable
from scrapy_chunkdl.crawl.scrapy_engine import fitting
from scrapy_chunkdl.download.disk.platform import sync_file

logger = logging.getLogger(__name__)

_OVERWRITTEN_AS_A_WHOLE = (S3FeedStorage, GCSFeedStorage, FTPFeedStorage)
_LINES = ("jsonlines", "jsonl", "jl")
"""Formats of which each item is one line, that several processes may append: a write is never torn (measured)."""

_AFTER_ERROR_S = 5.0
_TELLS_RUNS_APART = re.compile(r"%\((?:process|time|batch_time)\)")


def exporter_of(crawler: Crawler) -> Any:
    """Return Scrapy's feed exporter, or one made from it; None where there are no feeds."""
    return crawler.get_extension(FeedExporter)


def name_process(spider: Spider) -> None:
    """Have ``%(process)s`` in the URIs of feeds stand for this process: host, process id and start.

    Scrapy fills in the spider's attributes. One of the project's own of that name is left alone.
    """
    if not hasattr(spider, "process"):
        started = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
        spider.process = f"{host}-{os.getpid()}-{started}"  # type: ignore[attr-defined]


def watch_refusals(crawler: Crawler, exporter: Any, refused: Callable[[object, Exception], None]) -> None:
    """Have ``refused`` called with each item that a feed does not take, and why: JSON knows no bytes, the disk is full.

    Scrapy logs what the exporter raises, as of any receiver of a signal, and takes the item for scraped.
    """
    export = exporter.item_scraped
    call = fitting(export)

    @functools.wraps(export)
    def item_scraped(**said: Any) -> Any:
        try:
            exported = call(export, said)
        except Exception as error:
            refused(said["item"], error)
            raise
        if exported is None or not inspect.isawaitable(exported):
            return exported
        return awaited(exported, said["item"])

    async def awaited(exported: Any, item: object) -> Any:  # by an exporter of the project's
        try:
            return await (maybe_deferred_to_future(exported) if isinstance(exported, Deferred) else exported)
        except Exception as error:
            refused(item, error)
            raise

    crawler.signals.disconnect(export, signals.item_scraped)
    crawler.signals.connect(item_scraped, signals.item_scraped, weak=False)


def may_pass(error: BaseException | None) -> bool:
    """Whether a feed that did not take an item may take it later: the disk was at fault, or a file is closed."""
    return isinstance(error, OSError) or (isinstance(error, ValueError) and "closed file" in str(error))


class FeedFiles:
    """Keeps the files that this process writes from being written by another. Made when the exporter has its slots."""

    def __init__(self) -> None:
        self._locks: list[tuple[IO[bytes], Path]] = []

    def claim(self, exporter: Any, *, starts_again: bool) -> None:
        """Lock the local files of all feeds. ``starts_again``: the process may be started again on the same list.

        Raises Unusable for a feed that would be overwritten, or torn, or cannot be written; nothing has been opened by
        then, and the exporter is left without feeds, as closing an empty one would overwrite it, too.
        """
        try:
            if len(exporter.slots) < len(getattr(exporter, "feeds", ())):
                raise Unusable("FEEDS has a feed that could not be opened: see the error above.", FEED_UNUSABLE)
            for slot in exporter.slots:
                if starts_again:
                    _refuse_to_overwrite(slot)
                if isinstance(slot.storage, FileFeedStorage) and "%(process)" not in slot.uri_template:
                    self._lock(slot)
        except Unusable:
            exporter.slots = []
            self.release()
            raise

    def release(self) -> None:
        """Let others write them."""
        locks, self._locks = self._locks, []
        for file, path in locks:
            with suppress(portalocker.LockException, OSError):  # another one appends: the last removes it
                _take(file, shared=False)
                path.unlink()
            file.close()

    def _lock(self, slot: Any) -> None:
        target = Path(os.path.abspath(slot.storage.path))
        path = target.with_name(f".{target.name}.lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(slot, error) from error
        try:
            file = _locked(path, shared=slot.storage.write_mode == "ab" and slot.format in _LINES)
        except portalocker.AlreadyLocked:
            raise Unusable(
                f"FEEDS has {_shown(slot)}, and another process is writing it: it would be overwritten or torn. Put "
                "%(process)s into the URI, so that each process has a file of its own.",
                FEED_TAKEN,
            ) from None
        except (portalocker.LockException, OSError) as error:
            if not os.access(target if target.exists() else target.parent, os.W_OK):
                raise _unwritable(slot, error) from error
            logger.warning("%s cannot be locked (%s): no other process may write it meanwhile.", _shown(slot), error)
            return
        self._locks.append((file, path))


def _refuse_to_overwrite(slot: Any) -> None:
    storage, template = slot.storage, slot.uri_template
    overwrites = isinstance(storage, FileFeedStorage) and storage.write_mode == "wb"
    overwrites |= isinstance(storage, _OVERWRITTEN_AS_A_WHOLE) and getattr(storage, "overwrite", True)
    if overwrites and not _TELLS_RUNS_APART.search(template):
        raise Unusable(
            f"FEEDS has {_shown(slot)}, which each worker overwrites: what it or another wrote before would be gone. "
            "Put %(process)s into the URI, or, for a local file of JSON lines, set overwrite to False.",
            FEED_TAKEN,
        )


def _unwritable(slot: Any, error: Exception) -> Unusable:
    said = getattr(error, "strerror", None) or type(error).__name__
    return Unusable(f"FEEDS has {_shown(slot)}, which cannot be written ({said}): name another place.", FEED_UNUSABLE)


def _shown(slot: Any) -> str:
    return repr(re.sub(r"(?<=://)[^/@]*@", "***@", str(slot.uri_template)))[:80]


def _locked(path: Path, *, shared: bool) -> IO[bytes]:
    """Open and lock a file. Raises what portalocker and the system raise."""
    while True:
        file = path.open("ab")
        try:
            _take(file, shared=shared)
            if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # whoever held it removed it meanwhile


def _take(file: IO[bytes], *, shared: bool) -> None:
    flags = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(file, flags | portalocker.LockFlags.NON_BLOCKING)
    except ImportError:  # Windows without pywin32 knows no shared locks
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)


@dataclass(slots=True, eq=False)
class _Held:
    """An item that came out, and what is to be called when each of these slots has it safely, or one has lost it."""

    safe: Callable[[], None]
    lost: Callable[[], None]
    slots: set[Any] = field(default_factory=set)


class _Stored:
    """A feed's storage, with another ``store``."""

    def __init__(self, storage: Any, store: Callable[[IO[bytes]], Any]) -> None:
        self._storage = storage
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class FeedAcks:
    """Tells when items are safe in all feeds: CHUNKDL_ACK = "feed".

    A local file has an item safely when it was flushed and synced after it, which :meth:`sync` does for all at once;
    any other feed, a compressed one among them, when it was stored: at the end of its batch, or of the crawl. A feed
    that could not be stored has lost its items.
    """

    def __init__(self, exporter: Any) -> None:
        self._held: list[_Held] = []
        self._slots: set[Any] = set()
        self._flushing: tuple[set[Any], list[_Held]] = (set(), [])
        self._told: str | None = None
        self._not_before = 0.0
        make = exporter._start_new_batch

        def started(*arguments: Any, **keywords: Any) -> Any:
            slot = make(*arguments, **keywords)
            self._watch(slot)
            return slot

        exporter._start_new_batch = started
        for slot in exporter.slots:
            self._watch(slot)

    def __len__(self) -> int:
        """How many items are not safe yet."""
        return len(self._held)

    def scraped(self, safe: Callable[[], None], lost: Callable[[], None]) -> None:
        """Note an item that the exporter has been given. ``safe`` is called when all feeds have it, or ``lost``."""
        unsafe = {slot for slot in self._slots if slot.itemcount}
        if unsafe:
            self._held.append(_Held(safe, lost, unsafe))
        else:
            safe()

    def flush(self) -> Callable[[], OSError | None]:
        """Write out what local files have in memory. Returns what syncs them, to be called on any thread.

        What that returns goes to :meth:`flushed`; items that come out meanwhile wait for the next time.
        """
        files = {slot: _local_file(slot) for slot in self._slots if slot.itemcount}
        descriptors: list[int] = []
        self._flushing = {slot for slot, file in files.items() if file is not None}, list(self._held)
        problem: OSError | None = None
        for file in filter(None, files.values()):
            try:
                file.flush()
                descriptors.append(os.dup(file.fileno()))
            except OSError as error:  # the disk is full, perhaps
                problem = error
        return lambda: synced(descriptors) or problem

    def flushed(self, error: OSError | None) -> None:
        """Take what syncing gave: None, or why a file could not be synced; then it is tried again."""
        if error is not None:
            self._not_before = time.monotonic() + _AFTER_ERROR_S
            if str(error) != self._told:
                logger.error("A feed cannot be written: %s. Its items wait; they are not acknowledged.", error)
            self._told = str(error)
            return
        self._told = None
        self._settle(*self._flushing)

    @property
    def may_flush(self) -> bool:
        """Whether an item waits for a local file."""
        if not self._held or time.monotonic() < self._not_before:
            return False
        return any(_local_file(slot) is not None for held in self._held for slot in held.slots)

    def give_up(self) -> None:
        """Count all that is not safe by now as lost: the exporter has closed."""
        held, self._held = self._held, []
        for entry in held:
            entry.lost()

    def _watch(self, slot: Any) -> None:
        if isinstance(slot.storage, StdoutFeedStorage):
            return  # whoever reads it has to keep it
        self._slots.add(slot)
        store = slot.storage.store

        def stored(outcome: Any) -> Any:
            self._slots.discard(slot)
            self._settle({slot}, self._held)
            return outcome

        async def awaited(storing: Any) -> Any:
            return stored(await storing)

        def store_and_tell(file: IO[bytes]) -> Any:
            if (local := _local_file(slot)) is not None:
                local.flush()
                sync_file(local.fileno())
            storing = store(file)
            if isinstance(storing, Deferred):
                return storing.addCallback(stored)
            return awaited(storing) if inspect.isawaitable(storing) else stored(storing)

        try:
            slot.storage.store = store_and_tell
        except AttributeError:  # a class with __slots__; Scrapy has the name of the class in its stats
            slot.storage = type(type(slot.storage).__name__, (_Stored,), {})(slot.storage, store_and_tell)

    def _settle(self, slots: set[Any], among: Iterable[_Held]) -> None:
        among = list(among)
        for entry in among:
            entry.slots -= slots
        safe = [entry for entry in among if not entry.slots]
        settled = set(map(id, safe))
        self._held = [entry for entry in self._held if id(entry) not in settled]
        for entry in safe:
            entry.safe()


def synced(descriptors: Iterable[int]) -> OSError | None:
    """Sync open files to the disk and close them. Returns the first error. For any thread."""
    problem = None
    for descriptor in descriptors:
        try:
            sync_file(descriptor)
        except OSError as error:
            problem = problem or error
        finally:
            os.close(descriptor)
    return problem


def _local_file(slot: Any) -> IO[bytes] | None:
    """Return the file of a feed whose bytes are in place as they come; None for one that is made at the end."""
    if not isinstance(slot.storage, FileFeedStorage) or "postprocessing" in slot.feed_options:
        return None
    file: IO[bytes] | None = slot.file
    return file if file is not None and not file.closed else None
