"""Quick calls go to a thread together, others side by side; a cancellation waits for the end of what it interrupts."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from patience import HANG

from scrapy_chunkdl.download.concurrency import QuickCalls

ALWAYS, NEVER = math.inf, 0.0


class Threads(ThreadPoolExecutor):
    """Counts how often it was given work."""

    def __init__(self) -> None:
        super().__init__(max_workers=6)
        self.submissions = 0

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.submissions += 1
        return super().submit(function, *args, **kwargs)


@pytest.fixture
async def threads() -> Threads:
    threads = Threads()
    asyncio.get_running_loop().set_default_executor(threads)
    return threads


async def begun(call: Callable[[], object], calls: QuickCalls) -> asyncio.Task[None]:
    """Return the task of a call that runs in its thread by now."""
    runs = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(calls.call(lambda: (loop.call_soon_threadsafe(runs.set), call())))
    await asyncio.wait_for(runs.wait(), HANG)
    return task


async def test_quick_calls_that_are_ready_go_together_one_batch_after_another(threads: Threads) -> None:
    calls, gate, made = QuickCalls(ALWAYS), threading.Event(), list[int]()
    await calls.call(bool)  # from now on it is known that they are quick

    first = await begun(lambda: gate.wait(HANG), calls)
    others = [asyncio.ensure_future(calls.call(lambda number=number: made.append(number))) for number in range(20)]  # type: ignore[misc]
    for _ in range(3):  # the tasks begin, and what they ask for would
        await asyncio.sleep(0)
    assert threads.submissions == 2
    gate.set()
    await asyncio.gather(first, *others)

    assert made == list(range(20))
    assert threads.submissions == 3


@pytest.mark.parametrize("known", [0, 1])
async def test_other_calls_run_side_by_side_and_so_do_the_first(known: int, threads: Threads) -> None:
    calls, together = QuickCalls(NEVER if known else ALWAYS), threading.Barrier(6)
    for _ in range(known):
        await calls.call(bool)

    await asyncio.gather(*(calls.call(lambda: together.wait(HANG)) for _ in range(6)))

    assert threads.submissions == known + 6


async def test_each_caller_gets_its_own_error() -> None:
    calls = QuickCalls(ALWAYS)
    await calls.call(bool)

    def fail() -> None:
        raise OSError("no space left")

    outcomes = await asyncio.gather(*(calls.call(call) for call in (bool, fail, bool)), return_exceptions=True)

    assert [repr(outcome) for outcome in outcomes] == ["None", "OSError('no space left')", "None"]


async def test_a_cancelled_caller_waits_for_the_end_of_its_call(threads: Threads) -> None:
    calls, gate = QuickCalls(), threading.Event()
    caller = await begun(lambda: gate.wait(HANG), calls)

    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_where_there_are_no_threads_any_more_nobody_waits_for_one(threads: Threads) -> None:
    threads.shutdown()

    with pytest.raises(RuntimeError, match="shutdown"):
        await asyncio.wait_for(QuickCalls().call(bool), HANG)
