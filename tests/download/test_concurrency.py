"""What transfers wait for in threads, when there are none to be had any more."""

from __future__ import annotations

import asyncio

import pytest

from scrapy_chunkdl.download.concurrency import in_thread


async def test_work_for_a_thread_counts_as_cancelled_when_the_program_ends() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()
    with pytest.raises(asyncio.CancelledError):
        await in_thread(print)
