"""The bridge: download threads, each running one asyncio loop and one downloader for its whole life.

Decides which file starts when and on which thread; results come back on the thread that ``deliver`` calls on, which is
Scrapy's. Knows nothing of items, crawls or Redis.

A file goes to the thread that holds its host's connections, as long as that one keeps up: another is used only when it
has a core to itself and could use more, because threads take Python's lock from each other (docs/performance.md). When
more files wait than may run, the host with the fewest running files is served first, and a quarter of the places is not
for the one host that has all the others: so a slow host does not keep those that come later waiting.

Jobs that want the same file under the same name share one run, however many items they belong to.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar

from scrapy_chunkdl.download import (
    Downloader,
    DownloadError,
    FileRequest,
    FileResult,
    Limits,
    Options,
    Progress,
    host_of,
    without_userinfo,
)
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.progress import Doing
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

Deliver = Callable[[Callable[[], object]], object]

_HOSTS_REMEMBERED = 4096
_TICK = 1.0

_SATURATED = 0.9
"""Share of a core from which on a thread is taken to be held up by the core, not by Python's lock or by the network."""


@dataclass(slots=True, eq=False)
class Job:
    """One file somebody wants.

    When ``on_done`` is called, exactly one of ``result``, ``error`` and ``cancelled`` is set. Of jobs that shared a
    run, one accounts for its bytes and requests; the others find the file ``"uptodate"``.
    """

    request: FileRequest
    on_done: Callable[[Job], None]
    progress: Progress = field(default_factory=Progress)
    result: FileResult | None = None
    error: DownloadError | None = None
    cancelled: bool = False
    _run: _Run | None = None

    @property
    def is_done(self) -> bool:
        """Whether the file has its outcome, told or about to be."""
        return self.cancelled or self.result is not None or self.error is not None


@dataclass(slots=True)
class _HostFigures:
    fetched: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class _Run:
    """One download, for all the jobs that want it. Joined and left under the bridge's lock only."""

    def __init__(self, job: Job, key: Hashable) -> None:
        self.key = key
        self.host = _host_of(job.request.url)
        self.progress = job.progress
        self.jobs = [job]
        self.cancelling = False
        self.lane: _Lane | None = None
        self.task: asyncio.Task[FileResult] | None = None
        self.request = job.request
        self.place = job.progress.during(Doing.WAITING_FOR_A_PLACE).begin()
        if job.request.may_publish is not None:
            self.request = replace(job.request, may_publish=self._may_publish)

    def _may_publish(self) -> bool:
        """Called on a download thread: one job that may is enough."""
        return any(job.request.may_publish is None or job.request.may_publish() for job in tuple(self.jobs))

    def join(self, job: Job) -> None:
        job._run = self
        job.progress = self.progress
        self.jobs.append(job)

    def leave(self, job: Job) -> None:
        """Let one job go while others stay: the figures remain with them."""
        self.jobs.remove(job)
        job._run = None
        job.progress = Progress()
        job.cancelled = True

    def settle(self, *, result: FileResult | None = None, error: DownloadError | None = None) -> None:
        """Tell all jobs what came of it; neither result nor error means cancelled."""
        for number, job in enumerate(self.jobs):
            if number:
                job.progress = Progress()
            if result is not None:
                job.result = _seen_by_others(result) if number else result
            job.error = error
            job.cancelled = result is None and error is None


def _seen_by_others(result: FileResult) -> FileResult:
    return replace(result, status="uptodate", requests=0, retries={}, fetched=0, resumed=0)


class Bridge:
    """A pool of download threads behind :meth:`submit`. All public methods are called on Scrapy's thread."""

    def __init__(
        self,
        options: Options,
        limits: Limits,
        *,
        threads: int,
        deliver: Deliver,
        answered: Callable[[int | None, float], object] | None = None,
    ) -> None:
        self._deliver = deliver
        self._answered = answered
        self._options = options
        self._files = options.files
        self._files_per_host = max(options.chunks_per_host, options.files - options.files // 4)
        self._lanes = [_Lane(number, options, limits, self._finished) for number in range(threads)]
        self._lock = threading.Lock()
        self._runs: dict[Hashable, _Run] = {}
        self._waiting: OrderedDict[str, deque[_Run]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._in_lanes: set[_Run] = set()
        self._bytes_fetched = 0
        self._hosts: OrderedDict[str, _HostFigures] = OrderedDict()
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
                try:
                    key = _identity(job.request, self._options)
                except Exception as error:  # noqa: BLE001 -- of one file, with odd values: the others go on
                    text = f"The request for it cannot be told from others ({type(error).__name__}: {error})"
                    job.error = DownloadError(text, reason="bad_attachment")
                    self._report([job])
                    continue
                run = self._runs.get(key)
                if run is not None and not run.cancelling:
                    run.join(job)
                    continue
                job._run = self._runs[key] = _Run(job, key)
                job.progress.turned, job.progress.told = self._turned_at, self._answered
                self._waiting.setdefault(job._run.host, deque()).append(job._run)
            self._dispatch()

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Stop these files, waiting or running; what they have on disk stays. ``on_done`` still follows for each.

        A run that other jobs share goes on for them.
        """
        with self._lock:
            for job in jobs:
                run = job._run
                if run is None or run.cancelling:
                    continue
                if len(run.jobs) > 1:
                    run.leave(job)
                    self._report([job])
                elif run.lane is not None:
                    run.cancelling = True
                    run.lane.cancel(run)
                else:
                    self._remove_waiting(run)
                    run.settle()
                    self._end(run)

    def is_running(self, job: Job) -> bool:
        """Tell whether a download thread has this file, rather than it waiting for its turn or being done."""
        return job._run in self._in_lanes

    def running(self) -> int:
        """Return how many files are being downloaded right now."""
        return len(self._in_lanes)

    def jobs_running(self) -> list[Job]:
        """Return the files that are being downloaded right now, each once, the first to be wanted first."""
        with self._lock:
            return [run.jobs[0] for run in self._runs.values() if run in self._in_lanes and run.jobs]

    def waiting(self) -> int:
        """Return how many files wait for their turn."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def bytes_fetched(self) -> int:
        """Return the body bytes received so far, those of running files included."""
        with self._lock:
            return self._bytes_fetched + sum(run.progress.fetched for run in self._in_lanes)

    def hosts(self) -> dict[str, tuple[int, dict[str, int]]]:
        """Return of each host the bytes received from it and its errors by reason, those of running files included.

        Hosts are those that were asked; redirects may have led elsewhere. The last 4096 of them are known.
        """
        with self._lock:
            told = {host: (figures.fetched, dict(figures.errors)) for host, figures in self._hosts.items()}
            for run in self._in_lanes:
                fetched, errors = told.get(run.host, (0, {}))
                told[run.host] = fetched + run.progress.fetched, Counter(errors) + Counter(run.progress.retries)
        return told

    def _turned_at(self) -> float:
        """Return when the loop of some download thread turned last: a file that waits may get any of them."""
        return max(lane.ticked_at for lane in self._lanes)

    def stop(self, timeout: float = 10.0) -> None:
        """Cancel what still runs, close the connections and join the threads, each within ``timeout`` seconds."""
        started = [lane for lane in self._lanes if lane.ident is not None]
        for lane in started:
            lane.stop()
        for lane in started:
            lane.join(timeout)
            if lane.is_alive():
                logger.warning("Download thread %s did not stop within %g s; left behind.", lane.name, timeout)

    def _dispatch(self) -> None:
        posted: dict[_Lane, list[_Run]] = {}
        while self._waiting and len(self._in_lanes) < self._files:
            host = min(self._waiting, key=lambda name: self._running.get(name, 0))
            if self._running.get(host, 0) >= self._files_per_host:
                break
            run = self._waiting[host][0]
            self._remove_waiting(run)
            if host in self._waiting:
                self._waiting.move_to_end(host)
            run.lane = self._lane_for(host)
            run.lane.running += 1
            self._running[host] = self._running.get(host, 0) + 1
            self._in_lanes.add(run)
            posted.setdefault(run.lane, []).append(run)
        for lane, runs in posted.items():
            lane.post(runs)

    def _remove_waiting(self, run: _Run) -> None:
        queue = self._waiting[run.host]
        queue.remove(run)
        if not queue:
            del self._waiting[run.host]

    def _lane_for(self, host: str) -> _Lane:
        home = self._homes.get(host)
        if home is not None and not home.is_saturated:
            lane = home
        else:
            lane = min(self._lanes, key=lambda lane: (lane.is_saturated, lane.running if lane.is_saturated else 0))
        self._homes[host] = home or lane
        self._homes.move_to_end(host)
        if len(self._homes) > _HOSTS_REMEMBERED:
            self._homes.popitem(last=False)
        return lane

    def _finished(self, run: _Run, result: FileResult | None, error: DownloadError | None) -> None:
        """Called on the run's download thread."""
        with self._lock:
            assert run.lane is not None
            run.lane.running -= 1
            run.lane = None
            self._in_lanes.discard(run)
            self._bytes_fetched += run.progress.fetched
            self._note_host(run, error)
            if (count := self._running[run.host] - 1) > 0:
                self._running[run.host] = count
            else:
                del self._running[run.host]
            run.settle(result=result, error=error)
            self._end(run)
            self._dispatch()

    def _note_host(self, run: _Run, error: DownloadError | None) -> None:
        figures = self._hosts.setdefault(run.host, _HostFigures())
        self._hosts.move_to_end(run.host)
        if len(self._hosts) > _HOSTS_REMEMBERED:
            self._hosts.popitem(last=False)
        figures.fetched += run.progress.fetched
        figures.errors.update(run.progress.retries)
        if error is not None:
            figures.errors[error.reason] += 1

    def _end(self, run: _Run) -> None:
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
        for job in run.jobs:
            job._run = None
        self._report(run.jobs)

    def _report(self, jobs: Iterable[Job]) -> None:
        """Have ``on_done`` called. A burst of finished files costs the receiving thread one wake-up."""
        self._done.extend(jobs)
        if not self._delivery_due:
            self._delivery_due = True
            self._deliver(self._hand_over)

    def _hand_over(self) -> None:
        with self._lock:
            self._delivery_due = False
            done, self._done = self._done, deque()
        for job in done:
            try:
                job.on_done(job)
            except Exception as error:  # of one file: what came with it must be told all the same
                url = printable(job.request.url)
                logger.error("What follows the end of %s failed by a bug of scrapy-chunkdl", url, exc_info=error)


class _Lane(threading.Thread):
    """One download thread. Daemonic: a second Ctrl-C must not wait for it, leases and journals cover that."""

    def __init__(
        self,
        number: int,
        options: Options,
        limits: Limits,
        finished: Callable[[_Run, FileResult | None, DownloadError | None], None],
    ) -> None:
        super().__init__(name=f"chunkdl-{number}", daemon=True)
        self.running = 0
        self.ticked_at = time.monotonic()
        self.is_saturated = False
        self._cpu_time = 0.0
        self._options = options
        self._limits = limits
        self._finished = finished
        self._inbox: deque[_Run] = deque()
        self._tasks: set[asyncio.Task[FileResult]] = set()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None

    def wait_until_ready(self) -> None:
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def post(self, runs: Iterable[_Run]) -> None:
        self._inbox.extend(runs)
        self._call(self._take)

    def cancel(self, run: _Run) -> None:
        self._call(lambda: run.task is None or run.task.cancel())

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
        if self._loop is None or self._loop.is_closed():
            return
        if threading.current_thread() is self:  # a file that is done makes room for the next
            self._loop.call_soon(function)
        else:
            self._loop.call_soon_threadsafe(function)

    async def _serve(self) -> None:
        self._stop_asked = asyncio.Event()
        async with Downloader(self._options, self._limits) as self._downloader:
            self._loop = asyncio.get_running_loop()
            self.ticked_at, self._cpu_time = time.monotonic(), time.thread_time()
            self._loop.call_later(_TICK, self._tick)
            self._ready.set()
            await self._stop_asked.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tick(self) -> None:
        assert self._loop is not None
        before, self.ticked_at = self.ticked_at, time.monotonic()
        used, self._cpu_time = self._cpu_time, time.thread_time()
        self.is_saturated = self._cpu_time - used > _SATURATED * (self.ticked_at - before)
        self._loop.call_later(_TICK, self._tick)

    def _take(self) -> None:
        assert self._loop is not None
        while self._inbox:
            run = self._inbox.popleft()
            run.progress.turned = lambda: self.ticked_at
            run.place.end()
            run.task = self._loop.create_task(self._downloader.fetch(run.request, progress=run.progress))
            self._tasks.add(run.task)
            run.task.add_done_callback(lambda task, run=run: self._settle(run, task))  # type: ignore[misc]

    def _settle(self, run: _Run, task: asyncio.Task[FileResult]) -> None:
        run.task = None
        self._tasks.discard(task)
        if task.cancelled():
            self._finished(run, None, None)
        elif (error := task.exception()) is None:
            self._finished(run, task.result(), None)
        elif isinstance(error, DownloadError):
            self._finished(run, None, error)
        elif isinstance(error, RuntimeError) and _program_ends():
            self._finished(run, None, None)
        else:
            url = printable(run.request.url)
            logger.error("Downloading %s failed by a bug of scrapy-chunkdl", url, exc_info=error)
            text = f"{type(error).__name__}: {error}"
            self._finished(run, None, DownloadError(text, reason="internal_error"))


def _program_ends() -> bool:
    """Whether no thread can be had any more: executors are the first to know that the main thread has ended."""
    with ThreadPoolExecutor(1) as executor:
        try:
            executor.submit(bool)
        except RuntimeError:
            return True
    return False


def _identity(request: FileRequest, options: Options) -> Hashable:
    """Return what two requests must have in common to be served by one download."""
    wanted = (request.folder, request.name, request.checksum, request.mirrors, request.accept)
    return FileIdentity.of(request, options), wanted, _cookies(request.cookies)


def _cookies(jar: CookieJar | None) -> Hashable:
    return jar and frozenset((cookie.domain, cookie.path, cookie.name, cookie.value) for cookie in jar)


def _host_of(url: str) -> str:
    try:
        return host_of(without_userinfo(url))
    except DownloadError:  # not a URL: the downloader says so when it gets there
        return ""
