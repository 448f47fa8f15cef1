"""Waiting, for transfers: blocking work in threads, and coroutines side by side. Knows asyncio only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run blocking work on a part file in a thread, and wait for its end also when cancelled meanwhile.

    A checkpoint left behind would go on to claim bytes in the journal of a part file started afresh by then.
    """
    return await outlast(asyncio.get_running_loop().run_in_executor(None, function, *args))


async def outlast(work: asyncio.Future[T]) -> T:
    """Wait for the end of ``work``; a cancellation that comes meanwhile is raised after that."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # what it met, the next run meets again
        raise cancelled
    return work.result()


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
