"""Items set aside: those whose files were given up, in ``:failed``, and those nobody may claim any more, in ``:dead``.

For a person to look at, put back or drop, with no crawl running. Knows Redis and the shape of an entry: a record in
``:failed`` is a JSON object whose ``delivery`` is the same for all files of one item, and the last field of the last of
them, ``item``, is the item as it was in the list, byte for byte; an entry in ``:dead`` is such an item alone.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from scrapy_chunkdl.queue.item_queue import MOST_BYTES, in_groups, key_prefix, load_script

PAGE = 100
"""Entries read at once: a reader must not keep Redis from its work."""

_ITEM = b', "item": '


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One item, with what is told of each of its files. ``payload`` is None for a record whose item is in ``:dead``."""

    entries: tuple[bytes, ...]
    records: tuple[dict[str, Any], ...]
    payload: bytes | None

    @property
    def id(self) -> str:
        """A name for this very item: 32 hex digits made of all that is kept of it."""
        return hashlib.sha256(b"\n".join(self.entries)).hexdigest()[:32]

    @property
    def size_bytes(self) -> int:
        """What it takes to name it to Redis."""
        return len(self.payload or b"") + sum(map(len, self.entries))

    @property
    def reasons(self) -> frozenset[str]:
        """Why its files were given up."""
        return frozenset(str(record["reason"]) for record in self.records if "reason" in record)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts its files were to come from, in small letters."""
        found = set()
        for record in self.records:
            with suppress(ValueError):
                found.add(urlsplit(str(record.get("url") or "")).hostname or "")
        return frozenset(found)

    @property
    def list(self) -> str | None:
        """The list it came from, if that is told: another than the queue's own."""
        return next((str(record["list"]) for record in self.records if "list" in record), None)

    def mentions(self, text: str) -> bool:
        """Whether ``text`` occurs in the item or its records, as it is or as JSON may write it."""
        forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        return any(form in entry.decode(errors="replace") for entry in self.entries for form in forms)


def everything(item: DeadLetter) -> bool:
    """Want every item."""
    return True


class DeadLetters:
    """The items of one queue: make it with :meth:`failed` or :meth:`dead`. Methods raise as ItemQueue's do.

    What is put back goes behind those that wait in the list it came from, where that is known and one of ``above``,
    else into ``key``.
    """

    def __init__(
        self, client: Any, key: str, name: str, read: Callable[[bytes], _Entry], above: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._lists = [key, *above]
        self._list = f"{key_prefix(key)}:{name}"
        self._read = read
        self._take_out = load_script(client, "take_out")

    @classmethod
    def failed(cls, client: Any, key: str, above: Sequence[str] = ()) -> DeadLetters:
        """Items of the list ``key`` that have records in ``:failed``. Putting back one that went on does it again."""
        return cls(client, key, "failed", _read_record, above)

    @classmethod
    def dead(cls, client: Any, key: str) -> DeadLetters:
        """Items of the list ``key`` that are in ``:dead``. Putting one back counts its deliveries from 1 again."""
        return cls(client, key, "dead", lambda raw: _Entry(raw, None, raw, None))

    def __iter__(self) -> Iterator[DeadLetter]:
        """Read all items, oldest first, page by page; what is added meanwhile is left out."""
        start, end = 0, len(self)
        while items := self._page(start, end):
            yield from items
            start += sum(len(item.entries) for item in items)

    def __len__(self) -> int:
        """Return how many entries there are; an item of several files has several."""
        return int(self._client.llen(self._list))

    def page(self, start: int) -> list[DeadLetter]:
        """Read some :data:`PAGE` entries from number ``start`` on, 0 being the oldest, as whole items; [] at the end.

        The next page starts behind the entries of these. What is taken out meanwhile shifts what stands behind it.
        """
        return self._page(start, len(self))

    def put_back(self, wanted: Callable[[DeadLetter], bool] = everything, most: int | None = None) -> int:
        """Move wanted items, ``most`` of them, to the end of the waiting list, page by page. Return how many."""
        return self._sweep(lambda item: item.payload is not None and wanted(item), most, then_push=True)

    def drop(self, wanted: Callable[[DeadLetter], bool] = everything, most: int | None = None) -> int:
        """Forget wanted items, ``most`` of them, page by page. Return how many."""
        return self._sweep(wanted, most, then_push=False)

    def _sweep(self, wanted: Callable[[DeadLetter], bool], most: int | None, *, then_push: bool) -> int:
        taken = start = 0
        end = len(self)  # an item put back may fail again while this runs: not swept twice
        while (most is None or taken < most) and (items := self._page(start, end)):
            place = kept = start
            chosen: list[tuple[int, DeadLetter]] = []
            for item in items:
                size = len(item.entries)
                if wanted(item):
                    chosen.append((place, item))
                else:
                    kept += size
                place += size
            gone = 0
            for group in in_groups(chosen, lambda one: one[1].size_bytes, MOST_BYTES):
                arguments: list[str | bytes | int] = [int(then_push), uuid.uuid4().hex]
                for at, item in group:
                    back_to = 2 + (self._lists.index(item.list) if item.list in self._lists else 0)
                    arguments += [item.payload or b"", back_to, at - gone, len(item.entries), *item.entries]
                taken += self._take_out(keys=[self._list, *self._lists], args=arguments)
                gone += sum(len(item.entries) for _, item in group)
            start, end = kept, end - (place - kept)
        return taken

    def _page(self, start: int, end: int) -> list[DeadLetter]:
        """Read at least one whole item from ``start`` on, if there is one before ``end``."""
        size = PAGE
        while start < end:
            stop = min(start + size, end)
            items = _group([self._read(raw) for raw in self._client.lrange(self._list, start, stop - 1)])
            if stop == end:
                return items
            if len(items) > 1:
                return items[:-1]  # the last may go on behind this page
            size *= 2
        return []


@dataclass(frozen=True, slots=True)
class _Entry:
    raw: bytes
    record: dict[str, Any] | None
    payload: bytes | None
    delivery: str | None


def _read_record(raw: bytes) -> _Entry:
    # the first occurrence is the field: inside a JSON string its quotes would be escaped
    head, found, rest = raw.partition(_ITEM)
    try:
        record = json.loads(head + b"}" if found else head)
    except (ValueError, RecursionError):
        return _Entry(raw, None, None, None)  # not written by us: it can be seen and dropped
    if not isinstance(record, dict):
        return _Entry(raw, None, None, None)
    return _Entry(raw, record, rest[:-1] if found else None, record.get("delivery"))


def _group(entries: Sequence[_Entry]) -> list[DeadLetter]:
    """Join the records of one delivery, which one script wrote side by side."""
    groups: list[list[_Entry]] = []
    for entry in entries:
        if groups and entry.delivery is not None and entry.delivery == groups[-1][0].delivery:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return [
        DeadLetter(
            tuple(entry.raw for entry in group),
            tuple(entry.record for entry in group if entry.record is not None),
            next((entry.payload for entry in group if entry.payload is not None), None),
        )
        for group in groups
    ]
