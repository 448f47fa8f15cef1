"""What must not end the loop it is called from: an exception is told, once while it stays the same, and that is all.

Scrapy's looping calls stop for good at the first exception of what they call, and a burst of callbacks ends with the
first that raises: the items behind it would be held for ever. Knows nothing of what is called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


class Guard:
    """Calls things and tells what they raise. ``what`` says of what that is an error, as the subject of a sentence."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told: tuple[type[BaseException], str] | None = None

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Call ``function``; False if it raised. The same error again costs a line at DEBUG."""
        try:
            function(*arguments)
        except Exception as error:  # whatever it is, the loop goes on
            told = (type(error), str(error))
            if told == self._told:
                logger.debug("%s failed again: %r", self._what, error)
            else:
                self._told = told
                logger.error("%s failed; it is tried again, unsaid while it fails alike.", self._what, exc_info=error)
            return False
        return True


class Steps:
    """What was started, to be stopped in the reverse order: each step for itself, whatever the others raise."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def add(self, what: str, stop: Callable[[], object]) -> None:
        """Have ``stop`` called by :meth:`undo`; ``what`` is what is stopped."""
        self._steps.append((what, stop))

    def undo(self) -> None:
        """Stop all, the last that was started first. A second call does nothing."""
        while self._steps:
            what, stop = self._steps.pop()
            try:
                stop()
            except Exception as error:
                logger.error("Stopping failed for: %s. The rest is stopped all the same.", what, exc_info=error)
