"""The files of one item on their way: its attachments become jobs for the bridge, their outcomes go back into it.

Both modes use it: the consumer and the inline mode make an ``ItemFiles``, give its jobs to the bridge, and are called
back once. Knows attachments, jobs and the stats; nothing of Redis, leases or the engine, nor of how a file is asked for
(``FileRequests``). Everything here happens on Scrapy's thread, but for ``may_publish``, which the download threads ask.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from itemadapter import ItemAdapter
from twisted.python.failure import Failure

from scrapy_chunkdl import signals
from scrapy_chunkdl.bridge.run import Job, Permission
from scrapy_chunkdl.crawl.file_requests import FileRequests, MayPublish
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.traced import ItemTrace
from scrapy_chunkdl.crawl.via_scrapy import asked_of
from scrapy_chunkdl.download import (
    DownloadError,
    FileResult,
    Permanent,
    Postponed,
    Transient,
    host_of,
    without_userinfo,
)
from scrapy_chunkdl.items.attachments import Attachment, says_of_request, strip
from scrapy_chunkdl.items.shown import about
from scrapy_chunkdl.queue.metrics_table import size_class
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import masked, printable, shown_url

logger = logging.getLogger(__name__)

_LONGEST_HINT = 100
_MOST_TOLD = 100
"""Files given up of one item that are told of, each in a line."""

_LONGEST_SHOWN = 200

Results = list[tuple[bool, Any]]
"""What FilesPipeline's ``item_completed`` gets: (True, a dict of url, path, checksum, status) or (False, a Failure)."""


NewItemFiles = Callable[..., "ItemFiles"]
"""Makes the files of an item (``item, on_done=, may_publish=``), with all that is the same for a whole crawl."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A file that could not be had, and why."""

    attachment: Attachment
    error: DownloadError

    def record(self, spider: str) -> dict[str, Any]:
        """Return what a person needs to know of it, as JSON types. ``bytes_done`` stay on disk when ``resumable``."""
        return {
            "url": without_userinfo(self.attachment.url),
            "filename": self.attachment.filename,
            "reason": self.error.reason,
            "error": type(self.error).__name__,
            "message": str(self.error),
            "status": self.error.status,
            "attempts": self.error.attempts,
            "bytes_done": self.error.bytes_done,
            "resumable": self.error.resumable,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "spider": spider,
        }


class ItemFiles:
    """All files of one item. ``on_done`` is called once, when the last of them is finished, given up or cancelled.

    ``given_up`` then tells of each file that could not be had, ``cancelled`` whether one was cancelled, ``postponed``
    what files have to wait for with which nothing is wrong,
    ``unwritable`` why the item could not take its results, if so, and ``failed`` what else was raised. ``announce``
    sends a signal, ``trace`` makes spans where the crawl is traced. ``may_publish`` is asked right before a file gets
    its name. Making one raises what hooks raise; its ``jobs`` are still to be submitted to the bridge.
    """

    def __init__(
        self,
        item: object,
        *,
        requests: FileRequests,
        config: Config,
        stats: Stats,
        announce: Callable[..., None],
        on_done: Callable[[ItemFiles], None],
        may_publish: MayPublish | None = None,
        trace: ItemTrace | None = None,
    ) -> None:
        self.given_up: list[GivenUp] = []
        self.postponed: list[Postponed] = []
        self.unwritable: ValueError | None = None
        self.failed: Exception | None = None
        self.cancelled = False
        self.jobs: list[Job] = []
        self._config = config
        self._stats = stats
        self.item = item
        self._requests = requests
        self._announce = announce
        self._on_done = on_done
        self._may_publish = may_publish
        self._trace = trace
        self._attachments = requests.wanted(item)
        self._outcomes: dict[int, tuple[bool, Any]] = {}
        self._same_file: dict[Job, Sequence[Attachment]] = {}
        self._left = 0
        self._told = 0
        self._not_wanted: set[Job] = set()
        for same_file in _by_file(self._attachments):
            self._plan(same_file)

    @property
    def is_done(self) -> bool:
        """Whether every file has its outcome; an item without any file to fetch is done at once."""
        return self._left == 0

    def strip(self) -> None:
        """Take from the item what only requests needed, where CHUNKDL_STRIP_REQUESTS says so."""
        if self._config.strip_requests and (self._requests.selects or any(map(says_of_request, self._attachments))):
            try:
                strip(self.item, self._config)
            except ValueError as error:
                self.unwritable = error

    def results(self) -> Results:
        """Return what became of each attachment, in their order, but for those that were cancelled."""
        outcomes = (self._outcomes.get(id(attachment)) for attachment in self._attachments)
        return [outcome for outcome in outcomes if outcome is not None]

    @property
    def has_written(self) -> bool:
        """Whether a file of it came down."""
        return any(job.result is not None and job.result.status == "downloaded" for job in self.jobs)

    def give_up_postponed(self) -> None:
        """Count the files that were to wait as given up: for an item that goes on without them."""
        for job in self.jobs:
            if isinstance(job.error, Postponed):
                self._give_up(self._same_file[job], job.error)

    def give_up(self, job: Job) -> None:
        """Have a file that is about to be cancelled count as given up, as a person asked for."""
        self._not_wanted.add(job)

    def give_up_cancelled(self) -> None:
        """Count the files that were cancelled as given up: for an item that goes on without them."""
        for job in self.jobs:
            if job.cancelled:
                self._give_up(
                    self._same_file[job], Transient("The crawl was stopped before it was finished.", reason="shutdown")
                )

    def _plan(self, same_file: Sequence[Attachment]) -> None:
        attachment = same_file[0]
        if attachment.problem is not None:
            self._give_up(
                same_file, Permanent(f"Attachment cannot be fetched: {attachment.problem}.", reason="bad_attachment")
            )
            return
        try:
            permission = Permission(self._may_publish) if self._may_publish is not None else None
            request = self._requests.build(self.item, attachment, permission)
        except ValueError as error:
            text = f"{masked(attachment.url)} has no place: {error}"
            self._give_up(same_file, Permanent(text, reason="bad_path"))
            return
        self._left += 1
        job = Job(request, on_done=self._job_done)
        if self._trace is not None:
            self._trace.begin(job)
        self._same_file[job] = same_file
        self.jobs.append(job)

    def _job_done(self, job: Job) -> None:
        if self._trace is not None:
            self._trace.done(job)
        try:
            self._settle(job, self._same_file[job])
        except Exception as error:  # noqa: BLE001 -- of this item: it must not wait for ever for a file that is done
            self.failed = error
        self._left -= 1
        if self.is_done:
            self._on_done(self)

    def _settle(self, job: Job, same_file: Sequence[Attachment]) -> None:
        for reason, count in job.progress.retries.items():
            self._stats.inc_value(f"chunkdl/retries/{reason}", count)
        self._stats.inc_value("chunkdl/requests", job.progress.requests)
        if job.progress.uploaded:
            self._stats.inc_value("chunkdl/bytes/uploaded", job.progress.uploaded)
        self._stats.inc_value("chunkdl/bytes/fetched", job.progress.fetched)
        self._stats.inc_value("chunkdl/chunks", -(-job.progress.fetched // self._config.chunk_size))
        if job.result is not None:
            self._finish(job.result, same_file, job.host)
        elif job.error is not None and job.error.reason == "lease_lost":
            self.cancelled = True  # there is nothing wrong with the file: it only may not be finished now
        elif isinstance(job.error, Postponed):
            self.postponed.append(job.error)
        elif job.error is not None:
            self._give_up(same_file, job.error)
        elif job in self._not_wanted:
            self._give_up(same_file, Permanent("Somebody gave it up on the page.", reason="stopped"))
        else:
            self.cancelled = True

    def _finish(self, result: FileResult, same_file: Sequence[Attachment], host: str) -> None:
        self._stats.inc_value(f"chunkdl/files/{result.status}")
        self._stats.inc_value("chunkdl/bytes/resumed", result.resumed)
        if result.status == "downloaded":
            self._stats.inc_value("chunkdl/bytes/downloaded", result.size)
            self._stats.inc_value("chunkdl/bytes/refetched", max(0, result.fetched + result.resumed - result.size))
            if result.one_stream:
                self._stats.inc_value(f"chunkdl/one_stream/{result.one_stream}")
            self._stats.inc_value("chunkdl/download_seconds", result.elapsed)
            self._stats.max_value("chunkdl/download_seconds_max", result.elapsed)
            self._stats.observe("file", result.elapsed, size_class(result.size))
        outcome = {
            "status": result.status,
            "size": result.size,
            "checksum": result.checksum,
            "etag": result.etag,
            "content_type": result.content_type,
            "elapsed": round(result.elapsed, 3),
            "retries": sum(result.retries.values()),
            "error": None,
        }
        path = result.uri or str(result.path)
        self._write_back(same_file, path, outcome)
        file = {
            "url": same_file[0].url,
            "path": self._requests.relative(result),
            "checksum": result.checksum and result.checksum.partition(":")[2],
            "status": result.status,
        }
        self._outcomes.update((id(attachment), (True, dict(file))) for attachment in same_file)
        self._note_finished(result, host)
        url = without_userinfo(same_file[0].url)
        self._announce(signals.attachment_downloaded, item=self.item, url=url, path=path, result=outcome)

    def _note_finished(self, result: FileResult, host: str) -> None:
        """Keep it among the last files, for people; what is told of it is made when it is asked for, if it is."""
        now, item = time.time(), self.item

        def told() -> dict[str, Any]:
            return {
                "url": masked(result.url)[:_LONGEST_SHOWN],
                "name": printable(result.path.name)[:_LONGEST_SHOWN],
                "status": result.status,
                "size": result.size,
                "elapsed": round(result.elapsed, 3),
                "time": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
                **about(item),
            }

        self._stats.finished.note(told)
        self._stats.report.finished(
            lambda: shown_url(result.url)[:_LONGEST_SHOWN],
            *(host or "no host", result.content_type or "", result.size, result.elapsed, result.status),
        )

    def _give_up(self, same_file: Sequence[Attachment], error: DownloadError) -> None:
        self._stats.inc_value("chunkdl/files/failed")
        self._stats.inc_value(f"chunkdl/failures/{error.reason}")
        url = shown_url(same_file[0].url)
        of, text = url or f"an attachment of an item{_hint_of(self.item)}", str(error)
        told = text.replace(f"'{url}'" if f"'{url}'" in text else url, "it", 1) if url else text
        self._told += 1
        if self._told == _MOST_TOLD:
            told += " Further files of this item that are given up are told at DEBUG."
        level = logging.WARNING if self._told <= _MOST_TOLD else logging.DEBUG
        logger.log(level, "Gave up %s: %s", of, told.removeprefix("it: "))
        self._stats.report.given_up(url[:_LONGEST_SHOWN], _host_of(same_file[0].url), error.reason, text)
        outcome = {
            "status": "failed",
            "size": None,
            "checksum": None,
            "etag": None,
            "content_type": None,
            "elapsed": None,
            "retries": None,
            "error": str(error),
        }
        self._write_back(same_file, "", outcome)
        self.given_up.append(GivenUp(same_file[0], error))
        failure = Failure(error)  # type: ignore[no-untyped-call]
        self._outcomes.update((id(attachment), (False, failure)) for attachment in same_file)
        url = without_userinfo(same_file[0].url)
        self._announce(signals.attachment_failed, item=self.item, url=url, error=error)

    def _write_back(self, same_file: Sequence[Attachment], path: str, outcome: dict[str, Any]) -> None:
        try:
            for attachment in same_file:
                attachment.write_back(self._config, path, outcome)
        except ValueError as error:
            self.unwritable = error


def _by_file(attachments: Sequence[Attachment]) -> Iterable[Sequence[Attachment]]:
    """Return those that are one file together."""
    if len(attachments) == 1:
        return [attachments]
    files: dict[object, list[Attachment]] = {}
    for attachment in attachments:
        files.setdefault(_wanted(attachment), []).append(attachment)
    return files.values()


def _wanted(attachment: Attachment) -> object:
    """Return what attachments must have in common to be one file: all that is said of it. Header names have no case."""
    if attachment.problem is not None:
        return id(attachment)
    headers = frozenset((name.lower(), value) for name, value in attachment.headers.items())
    other = asked_of(attachment.shown) if attachment.shown is not None else ""
    asked = (headers, attachment.proxy, attachment.cookiejar, other)
    checked = (attachment.checksum, attachment.checksum_url, attachment.metalink, attachment.accept)
    return attachment.url, attachment.filename, attachment.mirrors, checked, asked


def _host_of(url: str) -> str:
    try:
        return host_of(url)
    except DownloadError:
        return "no host"


def _hint_of(item: object) -> str:
    """Return which item it is to a person: the first URL in it, which often is the page it comes from."""
    try:
        fields = item if isinstance(item, dict) else dict(ItemAdapter(item))
    except Exception:  # noqa: BLE001 -- of the item's class
        return ""
    urls = (f" ({name}: {value})" for name, value in fields.items() if isinstance(value, str) and "://" in value)
    return printable(next(urls, ""))[:_LONGEST_HINT]
