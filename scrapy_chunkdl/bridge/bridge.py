"""The bridge: download threads, each running one asyncio loop and one downloader for its whole life.

Decides which file starts when and on which thread; results come back on the thread that ``deliver`` calls on, which is
Scrapy's. What it knows of a file is the table of :mod:`scrapy_chunkdl.bridge.states`. Knows nothing of items, crawls or
Redis.

A file goes to the thread that holds its host's connections, as long as that one keeps up: another is used only when it
has a core to itself and could use more, because threads take Python's lock from each other (docs/performance.md). Jobs
that want the same file under the same name share one run, however many items they belong to.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from scrapy_chunkdl.bridge.lane import Lane
from scrapy_chunkdl.bridge.run import Job, Run, key_of
from scrapy_chunkdl.bridge.states import Event
from scrapy_chunkdl.bridge.turns import Turns
from scrapy_chunkdl.download import DownloadError, FileResult, Limits, Options
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

Deliver = Callable[[Callable[[], object]], object]

_HOSTS_REMEMBERED = 4096

GATHER_S = 0.01
"""Seconds that a finished file waits for others to be told together, while some run: a thread that is woken, and takes
Python's lock from the one that downloads, costs as much as what is to be done for a file."""


@dataclass(slots=True)
class _HostCounts:
    fetched: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Bridge:
    """A pool of download threads behind :meth:`submit`. All public methods are called on Scrapy's thread."""

    ends_within_s = 10.0

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
        self._turns = Turns(options.files, max(options.chunks_per_host, options.files - options.files // 4))
        self._lanes = [Lane(number, options, limits, self._finished) for number in range(threads)]
        self._lock = threading.Lock()
        self._runs: dict[Hashable, Run] = {}
        self._in_lanes: set[Run] = set()
        self._bytes_fetched = 0
        self._hosts: OrderedDict[str, _HostCounts] = OrderedDict()
        self._homes: OrderedDict[str, Lane] = OrderedDict()
        self._done: deque[Job] = deque()
        self._delivery_due = False
        self._gathering = False

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
                    key = key_of(job.request, self._options)
                except Exception as error:  # noqa: BLE001 -- of one file, with odd values: the others go on
                    text = f"The request for it cannot be told from others ({type(error).__name__}: {error})"
                    job.error = DownloadError(text, reason="bad_attachment")
                    self._report([job])
                    continue
                run = self._runs.get(key)
                if run is not None and run.may(Event.JOINED):
                    run.join(job)
                    continue
                run = self._runs[key] = Run(job, key)
                job.progress.turned, job.progress.told = self._turned_at, self._answered
                self._turns.queue(run)
            self._dispatch()

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Stop these files, waiting or running; what they have on disk stays. ``on_done`` still follows for each.

        A run that other jobs share goes on for them.
        """
        with self._lock:
            for job in jobs:
                run = job.run
                if run is None or not run.may(Event.CANCELLED):
                    continue
                if len(run.jobs) > 1:
                    run.leave(job)
                    self._report([job])
                    continue
                run.step(Event.CANCELLED)
                if run.lane is not None:
                    run.lane.cancel(run)
                else:
                    self._turns.remove(run)
                    self._end(run)

    def is_running(self, job: Job) -> bool:
        """Tell whether a download thread has this file, rather than it waiting for its turn or being done."""
        return job.run is not None and job.run.is_with_a_thread

    def running(self) -> int:
        """Return how many files are being downloaded right now."""
        return len(self._in_lanes)

    def jobs_running(self) -> list[Job]:
        """Return the files that are being downloaded right now, each once, the first to be wanted first."""
        with self._lock:
            return [run.jobs[0] for run in self._runs.values() if run.is_with_a_thread and run.jobs]

    def waiting(self) -> int:
        """Return how many files wait for their turn."""
        with self._lock:
            return self._turns.waiting

    def bytes_fetched(self) -> int:
        """Return the body bytes received so far, those of running files included."""
        with self._lock:
            return self._bytes_fetched + sum(run.progress.fetched for run in self._in_lanes)

    def hosts(self) -> dict[str, tuple[int, dict[str, int]]]:
        """Return of each host the bytes received from it and its errors by reason, those of running files included.

        Hosts are those that were asked; redirects may have led elsewhere. The last 4096 of them are known.
        """
        with self._lock:
            told = {host: (counts.fetched, dict(counts.errors)) for host, counts in self._hosts.items()}
            for run in self._in_lanes:
                fetched, errors = told.get(run.host, (0, {}))
                told[run.host] = fetched + run.progress.fetched, Counter(errors) + Counter(run.progress.retries)
        return told

    def _turned_at(self) -> float:
        """Return when the loop of some download thread turned last: a file that waits may get any of them."""
        return max(lane.ticked_at for lane in self._lanes)

    def loops_turned(self) -> list[float]:
        """Return when the loop of each download thread turned last, by the monotonic clock."""
        return [lane.ticked_at for lane in self._lanes]

    def stop(self) -> None:
        """Cancel what still runs, close the connections and end the threads, all within ``ends_within_s`` seconds."""
        ends_at = time.monotonic() + self.ends_within_s
        for lane in self._lanes:
            lane.stopping.set()
            lane.wake()
        for lane in self._lanes:
            lane.ends_within_s = max(0.0, ends_at - time.monotonic())
            lane.stop()
            if lane.is_alive():
                text = "Download thread %s did not stop within %g s; left behind."
                logger.warning(text, lane.name, self.ends_within_s)
        self._gathered()

    def _dispatch(self) -> None:
        posted: dict[Lane, list[Run]] = {}
        while (run := self._turns.take()) is not None:
            run.step(Event.BEGUN)
            run.lane = self._lane_for(run.host)
            run.lane.running += 1
            self._in_lanes.add(run)
            posted.setdefault(run.lane, []).append(run)
        for lane, runs in posted.items():
            lane.post(runs)

    def _lane_for(self, host: str) -> Lane:
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

    def _finished(self, run: Run, result: FileResult | None, error: DownloadError | None) -> None:
        """Called on the run's download thread."""
        with self._lock:
            lane = run.lane
            assert lane is not None
            lane.running -= 1
            run.lane = None
            self._in_lanes.discard(run)
            self._bytes_fetched += run.progress.fetched
            self._note_host(run, error)
            self._turns.ended(run)
            run.step(Event.ENDED)
            self._end(run, result, error, lane)
            self._dispatch()

    def _note_host(self, run: Run, error: DownloadError | None) -> None:
        counts = self._hosts.setdefault(run.host, _HostCounts())
        self._hosts.move_to_end(run.host)
        if len(self._hosts) > _HOSTS_REMEMBERED:
            self._hosts.popitem(last=False)
        counts.fetched += run.progress.fetched
        if run.progress.retries:
            counts.errors.update(run.progress.retries)
        if error is not None:
            counts.errors[error.reason] += 1

    def _end(
        self,
        run: Run,
        result: FileResult | None = None,
        error: DownloadError | None = None,
        lane: Lane | None = None,
    ) -> None:
        """Tell the jobs of a run that is done, in ``lane`` if in any; neither result nor error means cancelled."""
        if self._runs.get(run.key) is run:
            del self._runs[run.key]
        run.settle(result=result, error=error)
        self._report(run.jobs, lane)

    def _report(self, jobs: Iterable[Job], lane: Lane | None = None) -> None:
        """Have ``on_done`` called. A burst of finished files costs the receiving thread one wake-up.

        From ``lane``, which calls this, more may follow in a moment.
        """
        self._done.extend(jobs)
        if lane is None or not self._in_lanes:
            self._have_handed_over()
        elif not self._gathering:
            self._gathering = True
            lane.call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        """Have what was gathered handed over."""
        with self._lock:
            self._gathering = False
            if self._done:
                self._have_handed_over()

    def _have_handed_over(self) -> None:
        if not self._delivery_due:
            self._delivery_due = True
            self._deliver(self._hand_over)

    def _hand_over(self) -> None:
        with self._lock:
            self._delivery_due = False
            done, self._done = self._done, deque()
        for job in done:
            try:
                job.tell()
            except Exception as error:  # of one file: what came with it must be told all the same
                url = printable(job.request.url)
                logger.error("What follows the end of %s failed by a bug of scrapy-chunkdl", url, exc_info=error)
