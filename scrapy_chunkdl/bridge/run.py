"""One file that somebody wants, and its one download, for however many want it.

Knows requests, results and who waits for them; nothing of threads. Called by the bridge, under its lock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scrapy_chunkdl.bridge.states import Event, State, after, may
from scrapy_chunkdl.download import (
    DownloadError,
    FileRequest,
    FileResult,
    Options,
    Progress,
    host_of,
    without_userinfo,
)
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.progress import Doing

if TYPE_CHECKING:
    from scrapy_chunkdl.bridge.lane import Lane


class Permission:
    """Whether a finished file may get its name, asked in a download thread: by the one who wants it, or all of a run.

    Given as a request's ``may_publish``; any other callable has its request copied, with 20 fields, for each run.
    """

    __slots__ = ("own", "run")

    def __init__(self, own: Callable[[], bool]) -> None:
        self.own = own
        self.run: Run | None = None

    def __call__(self) -> bool:
        run = self.run
        return self.own() if run is None else run.may_publish()


@dataclass(slots=True, eq=False)
class Job:
    """One file somebody wants.

    When ``on_done`` is called, exactly one of ``result``, ``error`` and ``cancelled`` is set. Of jobs that shared a
    run, one accounts for its bytes and requests; the others find the file ``"uptodate"``. ``run`` is the bridge's.
    ``host`` is the one that is asked first, as limits know it.
    """

    request: FileRequest
    on_done: Callable[[Job], None]
    progress: Progress = field(default_factory=Progress)
    result: FileResult | None = None
    error: DownloadError | None = None
    cancelled: bool = False
    run: Run | None = field(default=None, repr=False)
    host: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.host = _host_of(self.request.url)

    def tell(self) -> None:
        """Call ``on_done``, and let go of whom it is for, who has this job: they would wait for the collector."""
        on_done, self.on_done = self.on_done, _told
        on_done(self)

    @property
    def is_done(self) -> bool:
        """Whether the file has its outcome, told or about to be."""
        return self.cancelled or self.result is not None or self.error is not None


class Run:
    """One download, for all the jobs that want it. Its state changes by :meth:`step` alone."""

    def __init__(self, job: Job, key: Hashable) -> None:
        self.key = key
        self.state = State.WAITING
        self.host = job.host
        self.progress = job.progress
        self.jobs = [job]
        self.lane: Lane | None = None
        self.task: asyncio.Task[FileResult] | None = None
        self.request = job.request
        self.place = job.progress.during(Doing.WAITING_FOR_A_PLACE).begin()
        may_publish = job.request.may_publish
        if isinstance(may_publish, Permission):
            may_publish.run = self
        elif may_publish is not None:
            self.request = replace(job.request, may_publish=self.may_publish)
        job.run = self

    @property
    def is_with_a_thread(self) -> bool:
        """Whether a download thread has it."""
        return self.state in (State.RUNNING, State.STOPPING)

    def may(self, event: Event) -> bool:
        """Tell whether that can happen to it now."""
        return may(self.state, event)

    def step(self, event: Event) -> None:
        """Go to the next state."""
        self.state = after(self.state, event)

    def may_publish(self) -> bool:
        """Called on a download thread: one job that may is enough."""
        return any(map(_allows, tuple(self.jobs)))

    def join(self, job: Job) -> None:
        """Let one more job have what comes of it."""
        self.step(Event.JOINED)
        job.run = self
        job.progress = self.progress
        self.jobs.append(job)

    def leave(self, job: Job) -> None:
        """Let one job go while others stay: what it brought stays with them."""
        self.step(Event.LEFT)
        self.jobs.remove(job)
        job.run = None
        job.progress = Progress()
        job.cancelled = True

    def settle(self, *, result: FileResult | None = None, error: DownloadError | None = None) -> None:
        """Note with all jobs what came of it; neither result nor error means cancelled."""
        if isinstance(self.request.may_publish, Permission):
            self.request.may_publish.run = None
        for number, job in enumerate(self.jobs):
            if number:
                job.progress = Progress()
            if result is not None:
                job.result = _seen_by_others(result) if number else result
            job.error = error
            job.cancelled = result is None and error is None
            job.run = None


def _told(job: Job) -> None:
    """Stand for what was called."""


def _allows(job: Job) -> bool:
    may_publish = job.request.may_publish
    if isinstance(may_publish, Permission):
        return may_publish.own()
    return may_publish is None or may_publish()


def key_of(request: FileRequest, options: Options) -> Hashable:
    """Return what two requests must have in common to be served by one download."""
    wanted = (os.fspath(request.folder), request.name, request.checksum, request.mirrors, request.accept)
    beside = (request.checksum_url, request.metalink)
    # What may not be asked for twice at the same time, a form, is known by its method and body.
    source = request.source if not request.asked else None
    return FileIdentity.of(request, options), wanted, beside, _cookies(request.cookies), source


def _cookies(jar: CookieJar | None) -> Hashable:
    return jar and frozenset((cookie.domain, cookie.path, cookie.name, cookie.value) for cookie in jar)


def _host_of(url: str) -> str:
    try:
        return host_of(without_userinfo(url))
    except DownloadError:  # of another kind of source; or not a URL: the downloader says so when it gets there
        try:
            return urlsplit(url).netloc.rpartition("@")[2].lower()
        except ValueError:
            return ""


def _seen_by_others(result: FileResult) -> FileResult:
    return replace(result, status="uptodate", requests=0, retries={}, fetched=0, resumed=0)
