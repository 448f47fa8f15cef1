"""Waiting, for transfers: blocking work in threads, and coroutines side by side. Knows asyncio only."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_QUICK = 0.0005
_CALLS_REMEMBERED = 16


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run blocking work on a part file in a thread, and wait for its end also when cancelled meanwhile.

    A checkpoint left behind would go on to claim bytes in the journal of a part file started afresh by then.
    """
    return await outlast(asyncio.get_running_loop().run_in_executor(None, function, *args))


async def outlast(work: asyncio.Future[T], on_cancel: Callable[[], object] = lambda: None) -> T:
    """Wait for the end of ``work``; a cancellation that comes meanwhile calls ``on_cancel``, and is raised after it."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        work.exception()  # what it met, the next run meets again
        raise cancelled
    return work.result()


class QuickCalls:
    """Blocking calls in threads: side by side where they wait for a disk, else those that are ready together.

    To wake a thread, and to take Python's lock back from it at each system call, costs 0.1 ms and more. To publish a
    small file takes 0.05 ms in memory and on disks that keep what they have when the power fails; there one thread
    makes all calls that are ready, then those that became ready meanwhile. On other disks it takes 1 to 20 ms, and six
    threads are faster than one (docs/performance.md). ``quick`` is the limit between the two, in seconds, for the
    median of the last calls: a busy machine makes some slow, and a disk some quick. Lives in one loop.
    """

    def __init__(self, quick: float = _QUICK) -> None:
        self._quick = quick
        self._took: deque[float] = deque(maxlen=_CALLS_REMEMBERED)
        self._ready: list[tuple[Callable[[], object], asyncio.Future[None]]] = []
        self._running = 0

    async def call(self, function: Callable[[], object]) -> None:
        """Call ``function`` in a thread, and wait for its end also when cancelled meanwhile. Raises what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._ready.append((function, done))
        if len(self._ready) == 1:
            loop.call_soon(self._start)
        await outlast(done)

    def _start(self) -> None:
        together = bool(self._took) and statistics.median(self._took) < self._quick
        if not self._ready or (together and self._running):
            return
        ready, self._ready = self._ready, []
        for batch in [ready] if together else [[one] for one in ready]:
            try:
                work = asyncio.get_running_loop().run_in_executor(None, _call_all, [function for function, _ in batch])
            except RuntimeError as error:  # the program ends: there are no threads any more
                for _, done in batch:
                    done.set_exception(error)
                continue
            self._running += 1
            work.add_done_callback(partial(self._settle, [done for _, done in batch]))

    def _settle(self, waiting: list[asyncio.Future[None]], work: asyncio.Future[list[_Called]]) -> None:
        self._running -= 1
        for done, (error, took) in zip(waiting, work.result(), strict=True):
            self._took.append(took)
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        self._start()


_Called = tuple[BaseException | None, float]


def _call_all(functions: list[Callable[[], object]]) -> list[_Called]:
    """Return what each call raised, and the seconds it took."""
    called: list[_Called] = []
    for function in functions:
        began, problem = time.monotonic(), None
        try:
            function()
        except BaseException as error:  # noqa: BLE001 -- it is raised where the call is waited for
            problem = error
        called.append((problem, time.monotonic() - began))
    return called


async def until(
    jobs: list[Coroutine[Any, Any, None]], done: Callable[[], bool], watched: asyncio.Future[None] | None
) -> None:
    """Run coroutines side by side until all returned, or ``done``; the first error cancels the others and is raised.

    So is an error of ``watched``, which is not waited for otherwise.
    """
    tasks = {asyncio.ensure_future(job) for job in jobs}
    try:
        pending: set[asyncio.Future[None]] = {*tasks, *([watched] if watched is not None else [])}
        while not pending.isdisjoint(tasks) and not done():
            finished, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
