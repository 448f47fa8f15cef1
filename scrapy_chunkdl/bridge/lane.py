"""One download thread: a loop, a downloader in it for life, and the files it was given.

Knows one thread and its load; nothing of which file goes where. Called by the bridge.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from scrapy_chunkdl.bridge.run import Run
from scrapy_chunkdl.download import Downloader, DownloadError, FileResult, Limits, Options, Permanent
from scrapy_chunkdl.services.thread import ServiceThread
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

_TICK = 1.0

_NO_SUCH_NAME = (
    f"Its name has letters that file names cannot have in this process, whose locale makes them "
    f"{sys.getfilesystemencoding()}: set PYTHONUTF8=1, or LC_ALL=C.UTF-8."
)

_SATURATED = 0.9
"""Share of a core from which on a thread is taken to be held up by the core, not by Python's lock or by the network."""


class Lane(ServiceThread):
    """One download thread, in whose one loop a downloader lives. Daemonic: leases and journals cover what it leaves.

    ``running`` is counted by the bridge. ``ticked_at`` is when its loop turned last, monotonic.
    """

    ends_within_s = 10.0

    def __init__(
        self,
        number: int,
        options: Options,
        limits: Limits,
        finished: Callable[[Run, FileResult | None, DownloadError | None], None],
    ) -> None:
        super().__init__(f"chunkdl-{number}")
        self.running = 0
        self.ticked_at = time.monotonic()
        self.is_saturated = False
        self._cpu_time = 0.0
        self._options = options
        self._limits = limits
        self._finished = finished
        self._inbox: deque[Run] = deque()
        self._tasks: set[asyncio.Task[FileResult]] = set()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None
        self._turned = lambda: self.ticked_at

    def wait_until_ready(self) -> None:
        """Wait until it has its loop. Raises whatever kept it from that."""
        if self.ident is None:  # stopped before it was started
            return
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def post(self, runs: Iterable[Run]) -> None:
        """Have files downloaded."""
        self._inbox.extend(runs)
        self._call(self._take)

    def cancel(self, run: Run) -> None:
        """End a file's task; what it has on disk stays."""
        self._call(lambda: run.task is None or run.task.cancel())

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Have its loop call that in a while, if it turns then. Called on this thread."""
        assert self._loop is not None
        self._loop.call_later(seconds, function)

    def wake(self) -> None:
        """Have the loop end what it has."""
        if self._stop_asked is not None:
            self._call(self._stop_asked.set)

    def run(self) -> None:
        """Run the loop."""
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
        if self.stopping.is_set():
            self._stop_asked.set()
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
            run.progress.turned = self._turned
            run.place.end()
            run.task = self._loop.create_task(self._downloader.fetch(run.request, progress=run.progress))
            self._tasks.add(run.task)
            run.task.add_done_callback(lambda task, run=run: self._settle(run, task))  # type: ignore[misc]

    def _settle(self, run: Run, task: asyncio.Task[FileResult]) -> None:
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
        elif isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
            self._finished(run, None, Permanent(_NO_SUCH_NAME, reason="bad_path"))
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
