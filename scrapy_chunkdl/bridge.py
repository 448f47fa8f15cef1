"""The bridge: download threads, each running one asyncio loop and one downloader for its whole life.

Decides which file starts when and on which thread; results come back on the thread that ``deliver`` calls on, which is
Scrapy's. Knows nothing of items, crawls or Redis.

A file goes to the thread that holds its host's connections, and to the least loaded one when that is full. When more
files wait than may run, the host with the fewest running files is served first, so that a slow host keeps few places.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scrapy_chunkdl.download import (
    Downloader,
    DownloadError,
    FileRequest,
    FileResult,
    Limits,
    Options,
    Progress,
    without_userinfo,
)

logger = logging.getLogger(__name__)

Deliver = Callable[[Callable[[], object]], object]

_HOMES_REMEMBERED = 4096
_TICK = 1.0


@dataclass(slots=True, eq=False)
class Job:
    """One file on its way through the bridge.

    When ``on_done`` is called, exactly one of ``result``, ``error`` and ``cancelled`` is set.
    """

    request: FileRequest
    on_done: Callable[[Job], None]
    progress: Progress = field(default_factory=Progress)
    result: FileResult | None = None
    error: DownloadError | None = None
    cancelled: bool = False
    _host: str = ""
    _lane: _Lane | None = None
    _task: asyncio.Task[FileResult] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the file has its outcome, told or about to be."""
        return self.cancelled or self.result is not None or self.error is not None


class Bridge:
    """A pool of download threads behind :meth:`submit`. All public methods are called on Scrapy's thread."""

    def __init__(self, options: Options, *, threads: int, deliver: Deliver) -> None:
        self._deliver = deliver
        self._files = options.files
        capacity = -(-options.files // threads)
        limits = Limits(options)
        self._lanes = [_Lane(number, options, limits, capacity, self._finished) for number in range(threads)]
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._in_lanes: set[Job] = set()
        self._bytes_fetched = 0
        self._homes: OrderedDict[str, _Lane] = OrderedDict()
        self._done: deque[Job] = deque()
        self._delivery_due = False

    def start(self) -> None:
        """Start the threads and wait until each has its loop. Raises whatever kept a thread from starting."""
        for lane in self._lanes:
            lane.start()
        for lane in self._lanes:
            lane.wait_until_ready()

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue files for download. Each job's ``on_done`` is called once, on the delivery thread."""
        with self._lock:
            for job in jobs:
                job._host = _host_of(job.request.url)
                self._waiting.setdefault(job._host, deque()).append(job)
            self._dispatch()

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Stop these files, waiting or running; what they have on disk stays. ``on_done`` still follows for each."""
        with self._lock:
            for job in jobs:
                if job._lane is not None:
                    job._lane.cancel(job)
                elif job in self._waiting.get(job._host, ()):
                    self._remove_waiting(job)
                    job.cancelled = True
                    self._report(job)

    def is_running(self, job: Job) -> bool:
        """Tell whether a download thread has this file, rather than it waiting for its turn or being done."""
        return job in self._in_lanes

    def running(self) -> int:
        """Return how many files are being downloaded right now."""
        return len(self._in_lanes)

    def bytes_fetched(self) -> int:
        """Return the body bytes received so far, those of running files included."""
        with self._lock:
            return self._bytes_fetched + sum(job.progress.fetched for job in self._in_lanes)

    def is_alive(self, within: float) -> bool:
        """Tell whether some download thread's loop has turned in the last ``within`` seconds."""
        return any(time.monotonic() - lane.ticked_at < within for lane in self._lanes)

    def stop(self, timeout: float = 10.0) -> None:
        """Cancel what still runs, close the connections and join the threads, each within ``timeout`` seconds."""
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.join(timeout)
            if lane.is_alive():
                logger.warning("Download thread %s did not stop within %g s; left behind.", lane.name, timeout)

    def _dispatch(self) -> None:
        posted: dict[_Lane, list[Job]] = {}
        while self._waiting and len(self._in_lanes) < self._files:
            host = min(self._waiting, key=lambda name: self._running.get(name, 0))
            job = self._waiting[host][0]
            self._remove_waiting(job)
            if host in self._waiting:
                self._waiting.move_to_end(host)
            job._lane = self._lane_for(host)
            job._lane.running += 1
            self._running[host] = self._running.get(host, 0) + 1
            self._in_lanes.add(job)
            posted.setdefault(job._lane, []).append(job)
        for lane, jobs in posted.items():
            lane.post(jobs)

    def _remove_waiting(self, job: Job) -> None:
        queue = self._waiting[job._host]
        queue.remove(job)
        if not queue:
            del self._waiting[job._host]

    def _lane_for(self, host: str) -> _Lane:
        least_loaded = min(self._lanes, key=lambda lane: lane.running)
        home = self._homes.setdefault(host, least_loaded)
        self._homes.move_to_end(host)
        if len(self._homes) > _HOMES_REMEMBERED:
            self._homes.popitem(last=False)
        return home if home.running < home.capacity else least_loaded

    def _finished(self, job: Job) -> None:
        """Called on the job's download thread."""
        with self._lock:
            assert job._lane is not None
            job._lane.running -= 1
            job._lane = None
            self._in_lanes.discard(job)
            self._bytes_fetched += job.progress.fetched
            if (count := self._running[job._host] - 1) > 0:
                self._running[job._host] = count
            else:
                del self._running[job._host]
            self._report(job)
            self._dispatch()

    def _report(self, job: Job) -> None:
        """Have ``on_done`` called. A burst of finished files costs the receiving thread one wake-up."""
        self._done.append(job)
        if not self._delivery_due:
            self._delivery_due = True
            self._deliver(self._hand_over)

    def _hand_over(self) -> None:
        with self._lock:
            self._delivery_due = False
            done, self._done = self._done, deque()
        for job in done:
            job.on_done(job)


class _Lane(threading.Thread):
    """One download thread. Daemonic: a second Ctrl-C must not wait for it, leases and journals cover that."""

    def __init__(
        self, number: int, options: Options, limits: Limits, capacity: int, finished: Callable[[Job], None]
    ) -> None:
        super().__init__(name=f"chunkdl-{number}", daemon=True)
        self.capacity = capacity
        self.running = 0
        self.ticked_at = time.monotonic()
        self._options = options
        self._limits = limits
        self._finished = finished
        self._inbox: deque[Job] = deque()
        self._tasks: set[asyncio.Task[FileResult]] = set()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None

    def wait_until_ready(self) -> None:
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def post(self, jobs: Iterable[Job]) -> None:
        self._inbox.extend(jobs)
        self._call(self._take)

    def cancel(self, job: Job) -> None:
        self._call(lambda: job._task is None or job._task.cancel())

    def stop(self) -> None:
        if self._stop_asked is not None:
            self._call(self._stop_asked.set)

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.is_set():
                raise
            self._failure = error
            self._ready.set()

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    async def _serve(self) -> None:
        self._stop_asked = asyncio.Event()
        async with Downloader(self._options, self._limits) as self._downloader:
            self._loop = asyncio.get_running_loop()
            self._tick()
            self._ready.set()
            await self._stop_asked.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tick(self) -> None:
        assert self._loop is not None
        self.ticked_at = time.monotonic()
        self._loop.call_later(_TICK, self._tick)

    def _take(self) -> None:
        assert self._loop is not None
        while self._inbox:
            job = self._inbox.popleft()
            job.progress.moved_at = time.monotonic()
            job._task = self._loop.create_task(self._downloader.fetch(job.request, progress=job.progress))
            self._tasks.add(job._task)
            job._task.add_done_callback(lambda task, job=job: self._settle(job, task))  # type: ignore[misc]

    def _settle(self, job: Job, task: asyncio.Task[FileResult]) -> None:
        job._task = None
        self._tasks.discard(task)
        if task.cancelled():
            job.cancelled = True
        elif (error := task.exception()) is None:
            job.result = task.result()
        elif isinstance(error, DownloadError):
            job.error = error
        else:
            url = without_userinfo(job.request.url)
            logger.error("Downloading %s failed by a bug of scrapy-chunkdl", url, exc_info=error)
            job.error = DownloadError(f"{type(error).__name__}: {error}", reason="internal_error")
        self._finished(job)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:  # not a URL: the downloader says so when it gets there
        return ""
