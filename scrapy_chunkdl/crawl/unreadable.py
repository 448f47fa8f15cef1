"""Entries of the list that cannot be read: dead letters, or the sign that another program writes the list.

Knows the items that were found so far; nothing of why one cannot be read. Called by the consumer, on Scrapy's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from scrapy_chunkdl.crawl.claimed import ClaimedItem, Event
from scrapy_chunkdl.crawl.settling import Settling
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

MOST_UNREADABLE = 10
"""Entries that may be unreadable before the first that can be read: another program writes them in another format."""

_LONGEST_REASON = 120


class Unreadable:
    """Those of one process. ``give_up`` is called when the list is one of another format. ``most``: items held at once.

    The first ones stay leased until it is clear what they are a sign of.
    """

    def __init__(self, items_key: str, most: int, settling: Settling, give_up: Callable[[], None]) -> None:
        self._key = items_key
        self._settling = settling
        self._give_up = give_up
        self._gave_up = False
        self._undecided: dict[str, tuple[ClaimedItem, str]] | None = {} if most > MOST_UNREADABLE else None

    def note(self, item: ClaimedItem, reason: str) -> None:
        """Bury an item that cannot be read; but where nothing else was ever found, first see whether anything can."""
        reason = printable(reason)[:_LONGEST_REASON]
        if self._undecided is None:
            self._settling.bury(item, Event.CANNOT_BE_READ, reason)
            return
        self._settling.move(item, Event.CANNOT_BE_READ_SO_FAR)
        self._undecided[item.id] = (item, reason)
        if len(self._undecided) == MOST_UNREADABLE and not self._gave_up:
            logger.error(
                "The first %d entries of %s are no JSON objects (one is %s). Nothing was buried, all goes back. Does "
                "another program write them (REDIS_ITEMS_SERIALIZER)? Have it write JSON, or set CHUNKDL_ITEMS_KEY.",
                *(MOST_UNREADABLE, self._key, reason),
            )
            self._gave_up = True
            self._give_up()

    def one_was_read(self) -> None:
        """Note that an entry can be read: the list is not one of another format, what was found is buried."""
        if self._undecided is not None and not self._gave_up:
            undecided, self._undecided = self._undecided, None
            self._bury(undecided)

    def these_are_all(self) -> None:
        """Note that the list is empty: what was found is buried, and the next may still show that all are so."""
        if self._undecided and not self._gave_up:
            undecided, self._undecided = self._undecided, {}
            self._bury(undecided)

    def release(self) -> None:
        """Give them back, as nothing is claimed any more."""
        self._gave_up = True
        undecided, self._undecided = self._undecided or {}, {}
        for item, _ in undecided.values():
            self._settling.give_back(item, Event.STOPPED)

    def _bury(self, undecided: dict[str, tuple[ClaimedItem, str]]) -> None:
        for item, reason in undecided.values():
            self._settling.bury(item, Event.CANNOT_BE_READ, reason)
