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

_SERIALIZED = bytes([*range(0x80, 0xC0), 0xDE, 0xDF])
"""What begins an entry that another serializer wrote, and no text: pickle (from protocol 2), CBOR, MessagePack."""


class Unreadable:
    """Those of one process. ``give_up`` is called when the list is one of another format. ``most``: items held at once.

    The first ones stay leased until it is clear what they are a sign of: ten of them without one that can be read, or a
    list that has nothing but what another serializer wrote, are another program's. Where they would take all places, or
    a process waits for more for ever, they are buried meanwhile, and count.
    """

    def __init__(self, items_key: str, most: int, settling: Settling, give_up: Callable[[], None]) -> None:
        self._key = items_key
        self._most = most
        self._settling = settling
        self._give_up = give_up
        self._is_over = False
        self._any_was_read = False
        self._buried = 0
        self._last_reason = ""
        self._all_are_serialized = True
        self._undecided: dict[str, tuple[ClaimedItem, str]] = {}

    def __len__(self) -> int:
        """Return how many are held, undecided."""
        return len(self._undecided)

    def note(self, item: ClaimedItem, reason: str) -> None:
        """Bury an item that cannot be read; but where nothing else was ever found, first see whether anything can."""
        reason = printable(reason)[:_LONGEST_REASON]
        if self._any_was_read:
            self._settling.bury(item, Event.CANNOT_BE_READ, reason)
            return
        self._settling.move(item, Event.CANNOT_BE_READ_SO_FAR)
        self._undecided[item.id] = (item, reason)
        self._last_reason = reason
        payload = item.claimed.payload
        self._all_are_serialized &= bool(payload) and payload[0] in _SERIALIZED
        if self._is_over:
            return
        if len(self) + self._buried == MOST_UNREADABLE:
            self._refuse_the_list()
        elif len(self) == self._most:
            self._bury_all()

    def one_was_read(self) -> None:
        """Note that an entry can be read: the list is not one of another format, what was found is buried."""
        if not self._is_over and not self._any_was_read:
            self._any_was_read = True
            self._bury_all()

    def these_are_all(self, *, ends: bool) -> None:
        """Note that the list is empty: all it had may be another program's, else it is buried."""
        if self._is_over or self._any_was_read:
            return
        if ends and self._all_are_serialized and (self._undecided or self._buried):
            self._refuse_the_list()
        else:
            self._bury_all()

    def release(self) -> None:
        """Give them back, as nothing is claimed any more."""
        self._is_over = True
        undecided, self._undecided = self._undecided, {}
        for item, _ in undecided.values():
            self._settling.give_back(item, Event.STOPPED)

    def _refuse_the_list(self) -> None:
        kept = f"{self._buried} of them are in :dead, what is left" if self._buried else "Nothing was buried, all"
        logger.error(
            "All %d entries of %s that were read so far are no JSON objects (one is %s). %s goes back. Does another "
            "program write them (REDIS_ITEMS_SERIALIZER)? Have it write JSON, or set CHUNKDL_ITEMS_KEY.",
            *(len(self) + self._buried, self._key, self._last_reason, kept),
        )
        self._is_over = True
        self._give_up()

    def _bury_all(self) -> None:
        undecided, self._undecided = self._undecided, {}
        self._buried += len(undecided)
        for item, reason in undecided.values():
            self._settling.bury(item, Event.CANNOT_BE_READ, reason)
