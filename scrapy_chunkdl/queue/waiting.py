"""What waits in the lists, for a person to look at: a page at a time, searched in parts, moved to the front, taken out.

Several lists of one queue are shown as one, those that are claimed first in front.

Knows Redis and bytes. Every method may raise what :data:`.errors.REDIS_ERRORS` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from scrapy_chunkdl.queue.item_queue import MOST_BYTES, in_groups, key_prefix, load_script

PAGE = 100
"""Items read at once: a reader must not keep Redis from its work."""

SEARCHED_AT_ONCE = 5000
"""Items looked through for one page of a search: some 0.2 s."""

_SHIFTED_BY = 2000
"""Places by which claims may have moved the list since a person saw it: looked at around where an item stood."""


@dataclass(frozen=True, slots=True)
class WaitingItem:
    """An item, in which list, and where it stands in all of them: 0 is claimed next."""

    at: int
    payload: bytes
    key: str

    @property
    def id(self) -> str:
        """A name for what the item says: 32 hex digits."""
        return id_of(self.payload)


def id_of(payload: bytes) -> str:
    """Return the name of a waiting item. Equal items have the same."""
    return hashlib.sha256(payload).hexdigest()[:32]


class Waiting:
    """The waiting list ``key``, and those ``above`` it."""

    def __init__(self, client: Any, key: str, above: Sequence[str] = ()) -> None:
        prefix = key_prefix(key)
        self._client = client
        self._lists = [*above, key]
        self._keys = [key, f"{prefix}:dead", f"{prefix}:totals", *above]
        self._take = load_script(client, "take_waiting")

    def __len__(self) -> int:
        """Return how many items wait."""
        return sum(self._lengths())

    def page(self, start: int, limit: int, text: str = "") -> tuple[list[WaitingItem], int]:
        """Return ``limit`` items with ``text`` in them from number ``start`` on, and where the next page starts."""
        found: list[WaitingItem] = []
        at, looked = start, 0
        wanted = text.encode()
        while len(found) < limit and looked < SEARCHED_AT_ONCE:
            raws = self._read(at)
            for key, raw in raws:
                if wanted in raw:
                    found.append(WaitingItem(at, raw, key))
                at, looked = at + 1, looked + 1
                if len(found) == limit:
                    break
            if len(raws) < PAGE:
                break
        return found, at

    def move_to_front(self, places: Collection[tuple[str, int]]) -> int:
        """Have items claimed next, at the front of the first list; return how many were there still.

        Each is told by its id and where it stood.
        """
        return self._act("front", places)

    def take_out(self, places: Collection[tuple[str, int]]) -> int:
        """Move items to ``:dead``, from where they can be put back; return how many were there still."""
        return self._act("out", places)

    def _act(self, what: Literal["front", "out"], places: Collection[tuple[str, int]]) -> int:
        payloads = [payload for item_id, at in places if (payload := self._find(item_id, at)) is not None]
        moved = 0
        for group in in_groups(reversed(payloads) if what == "front" else payloads, len, MOST_BYTES):
            moved += int(self._take(keys=self._keys, args=[what, *group]))
        return moved

    def _find(self, item_id: str, at: int) -> bytes | None:
        first, last = max(0, at - _SHIFTED_BY), at + PAGE
        if len(self._lists) > 1:  # what is pushed into a list moves those behind it back
            last += _SHIFTED_BY
        for start in (at, *range(first, last, PAGE)):
            for _, payload in self._read(start):
                if id_of(payload) == item_id:
                    return payload
        return None

    def _lengths(self) -> list[int]:
        return [int(self._client.llen(key)) for key in self._lists]

    def _read(self, start: int) -> list[tuple[str, bytes]]:
        """Return a page of items from place ``start`` on, each with its list."""
        found: list[tuple[str, bytes]] = []
        lengths = self._lengths()[:-1] if len(self._lists) > 1 else []
        for key, length in zip_longest(self._lists, lengths):
            if length is None or start < length:
                stop = start + PAGE - len(found) - 1
                found += [(key, raw) for raw in self._client.lrange(key, start, stop)]
                if len(found) >= PAGE:
                    break
            start = max(0, start - (length or 0))
        return found
