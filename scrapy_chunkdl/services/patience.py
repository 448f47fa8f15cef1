"""Awaiting something for so long and no longer. Knows the clock of a loop; nothing of what is awaited.

``asyncio.wait_for`` of Python 3.11 and older is not used anywhere: it swallows a cancellation that comes in the moment
in which the answer does (bpo-37658, mended in 3.12), and who was cancelled goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

T = TypeVar("T")


async def within(seconds: float | None, asking: Awaitable[T]) -> T:
    """Return what ``asking`` brings. Raises :class:`asyncio.TimeoutError` after ``seconds``; None: never."""
    async with timeout(seconds):
        return await asking
