"""``scrapy chunkdl worker --processes N``: starts worker processes and looks after them.

One that dies is started again, after a pause that doubles; one that cannot start ends them all. Signals are handed on.
Shows one set of bars, and one summary at the end, made of what the processes tell (``progress/supervised.py``). Knows
processes, pipes and signals; nothing of Redis, items or downloads.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import IO, Any

from scrapy.settings import BaseSettings, Settings
from scrapy.utils.log import configure_logging
from scrapy.utils.misc import load_object

from scrapy_chunkdl.commands.console import WITHOUT_SOME, CommandError, no_such_spider
from scrapy_chunkdl.progress.supervised import VARIABLE, Snapshot, decode
from scrapy_chunkdl.progress.totals import Totals, sum_of, summary
from scrapy_chunkdl.text.units import size_text

try:
    from scrapy_chunkdl.progress import bars
except ModuleNotFoundError:  # without the extra "progress"
    bars = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Before a process that died is started again; one that lived for the longest pause begins with the first anew."""

_DRAW_EVERY_S = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: BaseSettings, spider: str, count: int) -> int:
    """Run ``count`` processes of the worker that this command line asks for, as many as there are cores for 0.

    Returns the exit code. Raises :class:`CommandError` if there is no such spider, or the number makes no sense.
    """
    if count < 0:
        raise CommandError(f"--processes {count}: it takes the number of processes, or 0 for one for each core.")
    if os.name != "posix":
        raise CommandError("--processes hands pipes on to its processes, which this system cannot: start them apart.")
    spiders = load_object(settings["SPIDER_LOADER_CLASS"]).from_settings(settings.frozencopy()).list()
    if spider not in spiders:
        raise CommandError(no_such_spider(spider, spiders))
    assert isinstance(settings, Settings)
    configure_logging(settings)
    command = [sys.executable, "-m", "scrapy", "chunkdl", *sys.argv[1:]]  # Scrapy has taken the command's name out
    return Supervisor(command, count or _cores()).run()


def _cores() -> int:
    """Return how many cores this process may use, which in a container are not all of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One of the processes, over all its lives."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.has_opened = False
        self.is_done = False
        self.began_at = 0.0
        self.begins_at: float | None = None
        self.pause_s = FIRST_PAUSE_S
        self.snapshot = Snapshot(Totals(), ())
        self.before = Totals()
        self.buffer = b""

    @property
    def totals(self) -> Totals:
        """What all lives did together."""
        return sum_of([self.before, self.snapshot.totals])

    def keep_totals(self) -> None:
        """Keep what the life that has ended did."""
        self.before, self.snapshot = replace(self.totals, left=0, queued=None), Snapshot(Totals(), ())


class Supervisor:
    """Runs ``count`` processes of ``command`` until all are done: :meth:`run`, once, on the main thread."""

    ends_within_s = 60.0
    """Longer than the grace that a worker has by default. One that has not ended by then is killed."""

    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._stops: list[int] = []
        self._handed_on = 0
        self._failed = False
        self._has_left_some_out = False
        self._is_stopped = False
        self._bars = bars.Bars() if bars is not None and bars.can_be_shown() else None
        self._given_back = ExitStack()
        self._began_at = time.monotonic()

    def run(self) -> int:
        """Return the exit code: that of the processes, the gravest of them."""
        try:
            self.start()
            while not all(worker.is_done for worker in self._workers):
                self._turn()
        finally:
            self.stop()
        self._summarize()
        return 1 if self._failed else WITHOUT_SOME if self._has_left_some_out else 0

    def start(self) -> None:
        """Take over Ctrl-C and SIGTERM, and start the processes."""
        if self._is_stopped:
            return
        self._watched, self._alive = os.pipe()  # its end is how the processes learn that this one is gone
        wake, woken = os.pipe()
        for descriptor in (self._watched, self._alive, woken):
            self._given_back.callback(os.close, descriptor)
        os.set_blocking(woken, False)
        self._selector = selectors.DefaultSelector()
        self._given_back.callback(self._close_what_is_read)
        self._selector.register(wake, selectors.EVENT_READ, lambda: os.read(wake, 4096))
        for number in _SIGNALS:
            self._given_back.callback(
                signal.signal, number, signal.signal(number, lambda number, _: self._stops.append(number))
            )
        self._given_back.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(woken, warn_on_full_buffer=False))
        if self._bars is not None:
            self._given_back.callback(self._bars.stop)
            self._bars.start()
        for worker in self._workers:
            self._begin(worker, time.monotonic())

    def stop(self) -> None:
        """End the processes that are left, in order, and give everything back."""
        self._is_stopped = True
        deadline = time.monotonic() + self.ends_within_s
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for worker in self._workers:
            worker.process = None
        self._given_back.close()

    def _close_what_is_read(self) -> None:
        for key in self._selector.get_map().values():
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
            else:
                key.fileobj.close()  # type: ignore[attr-defined]
        self._selector.close()

    def _turn(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.begins_at is not None and worker.begins_at <= now:
                self._begin(worker, now)
        for key, _ in self._selector.select(_DRAW_EVERY_S):
            key.data()
        for number in self._stops[self._handed_on :]:
            self._hand_on(number)
        self._handed_on = len(self._stops)
        for worker in self._workers:
            if worker.process is not None and (code := worker.process.poll()) is not None:
                self._ended(worker, code)
        if self._bars is not None:
            self._draw(self._bars)

    def _begin(self, worker: _Worker, now: float) -> None:
        reads, tells = os.pipe()
        os.set_blocking(reads, False)
        worker.began_at, worker.begins_at, worker.has_opened, worker.buffer = now, None, False, b""
        worker.process = subprocess.Popen(
            self._command,
            env={**os.environ, VARIABLE: f"{worker.number},{tells},{self._watched}"},
            pass_fds=(tells, self._watched),
            start_new_session=True,  # Ctrl-C comes from here alone, once
            stderr=subprocess.PIPE if self._bars is not None else None,
        )
        os.close(tells)
        self._selector.register(reads, selectors.EVENT_READ, lambda: self._hear(worker, reads))
        if (stream := worker.process.stderr) is not None:
            self._selector.register(stream, selectors.EVENT_READ, self._passes_on(stream))

    def _hear(self, worker: _Worker, reads: int) -> None:
        data = os.read(reads, 1 << 16)
        if not data:
            self._selector.unregister(reads)
            os.close(reads)
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # cut, because the pipe was full
                snapshot = decode(line)
                worker.has_opened = True
                worker.snapshot = snapshot or worker.snapshot

    def _passes_on(self, stream: IO[bytes]) -> Callable[[], None]:
        """Have what a process logs go above the bars, a line at a time."""
        begun = b""

        def read() -> None:
            nonlocal begun
            data = os.read(stream.fileno(), 1 << 16)
            *lines, begun = (begun + data).split(b"\n")
            if not data:
                self._selector.unregister(stream)
                stream.close()
                lines, begun = [begun] if begun else [], b""
            for line in lines:
                print(line.decode(errors="replace"), file=sys.stderr)

        return read

    def _hand_on(self, number: int) -> None:
        """A second one ends a process at once, as it does a single worker."""
        running = [worker for worker in self._workers if worker.process is not None]
        if len(self._stops) == 1:
            logger.info("Received %s: it goes on to %d processes.", signal.Signals(number).name, len(running))
        for worker in self._workers:
            if worker.process is None:
                worker.begins_at, worker.is_done = None, True
            else:
                worker.process.send_signal(number)

    def _ended(self, worker: _Worker, code: int) -> None:
        worker.process = None
        worker.keep_totals()
        if code in (0, WITHOUT_SOME) or self._stops:
            worker.is_done = True
            self._failed = self._failed or (code > 0 and code != WITHOUT_SOME)
            self._has_left_some_out = self._has_left_some_out or code == WITHOUT_SOME
            return
        if not worker.has_opened and code > 0:  # a setting, or a server that is not there: its log says what
            logger.error("Worker process %d could not start (exit code %d), see above: all end.", worker.number, code)
            self._failed = worker.is_done = True
            self._stops.append(signal.SIGTERM)
            return
        now = time.monotonic()
        if now - worker.began_at >= LONGEST_PAUSE_S:
            worker.pause_s = FIRST_PAUSE_S
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        logger.warning("Worker process %d ended %s: started again in %g s.", worker.number, how, worker.pause_s)
        worker.begins_at = now + worker.pause_s
        worker.pause_s = min(LONGEST_PAUSE_S, worker.pause_s * 2)

    def _draw(self, shown: Any) -> None:
        rows = [
            replace(row, key=hash((worker.number, row.key))) for worker in self._workers for row in worker.snapshot.rows
        ]
        shown.show(self._totals(), rows)

    def _totals(self) -> Totals:
        return sum_of([worker.totals for worker in self._workers])

    def _summarize(self) -> None:
        totals = self._totals()
        if totals.fetched or totals.failed:
            rate = totals.fetched / (time.monotonic() - self._began_at)
            logger.info(
                "Downloads of %d processes: %s, %s/s over the whole time",
                len(self._workers),
                summary(totals),
                size_text(rate),
            )
