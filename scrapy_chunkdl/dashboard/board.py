"""What the page shows and what it may ask for, as JSON types: the queues of all spiders of a project.

Every method but :meth:`Board.names` talks to Redis and blocks; it raises what
:data:`scrapy_chunkdl.queue.errors.REDIS_ERRORS` names. Thread-safe. Knows queues; nothing of HTTP.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from scrapy_chunkdl.dashboard.merged import Details
from scrapy_chunkdl.items.shown import as_dict, waiting_as_dict
from scrapy_chunkdl.queue.asked import Asked, AskedOfProcesses
from scrapy_chunkdl.queue.control import Control
from scrapy_chunkdl.queue.dead_letters import DeadLetter, DeadLetters
from scrapy_chunkdl.queue.host_limits import AskedLimits, HostLimits
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.needs import is_idle, need_of, rank_of
from scrapy_chunkdl.queue.recent import Recent
from scrapy_chunkdl.queue.status import Status, look, look_at_all
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.queue.waiting import Waiting
from scrapy_chunkdl.settings.config import Config

KINDS = ("failed", "dead")

SCANNED_AT_ONCE = 2000
"""Entries looked through for one page of a filtered list: some 0.2 s."""


MARK_EVERY = 60.0
"""Seconds between notes of how far the lists reach."""


class NoSuchSpider(LookupError):
    """The board has no spider of that name."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items set aside are meant: with one of ``ids``, if given, and with ``text`` and ``reason`` in them."""

    ids: frozenset[str] | None = None
    text: str = ""
    reason: str = ""

    def wants(self, item: DeadLetter) -> bool:
        """Whether it is one of them."""
        if self.reason and self.reason not in item.reasons:
            return False
        if self.text and not item.mentions(self.text):
            return False
        return self.ids is None or item.id in self.ids


class _Place:
    """One spider's queue and what goes with it."""

    def __init__(self, spider: str, key: str, client: Any, config: Config) -> None:
        self.spider = spider
        self.config = config
        above = config.lists_of(spider)[:-1]
        self.queue = ItemQueue(client, key, above=above, token="dashboard")
        self.control = Control(client, key)
        self.host_limits = HostLimits(client)
        self.totals = Totals(client, key, above=above)
        self.waiting, self.recent = Waiting(client, key, above), Recent(client, key)
        self.asked = AskedOfProcesses(client, key)
        self._set_aside = {"failed": DeadLetters.failed(client, key, above), "dead": DeadLetters.dead(client, key)}

    def items(self, kind: str) -> DeadLetters:
        return self._set_aside[kind]


class Board:
    """All queues there are to look at."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._marked_at = -math.inf

    def add(self, spider: str, key: str, client: Any, config: Config) -> None:
        """Show the list ``key`` of a spider. The client stays the caller's to close."""
        self._places[spider] = _Place(spider, key, client, config)

    def names(self) -> list[str]:
        """Return the spiders."""
        return [*self._places]

    def status(self) -> dict[str, Any]:
        """Tell of all spiders; what ``scrapy chunkdl status --json`` tells."""
        self._mark()
        return statuses_as_dict(self._looked())

    def measured(self) -> list[tuple[str, Status]]:
        """Return each spider's status with all counts, for metrics."""
        self._mark()
        return self._looked(every_count=True)

    def history(self, spider: str) -> dict[str, Any]:
        """Tell of a spider's last hour, minute by minute."""
        minutes = look(self._place(spider).queue).minutes
        return {"step": 60, "minutes": [asdict(minute) for minute in minutes]}

    def hours(self, spider: str, days: int) -> dict[str, Any]:
        """Tell what a spider's processes did, hour by hour, also those that are gone."""
        return {"hours": [{"at": hour.at, **hour.counts} for hour in self._place(spider).totals.history(days)]}

    def details(self, spider: str) -> Details:
        """Tell which files run, and the hosts they come from. Processes tell it for as long as somebody asks."""
        place = self._place(spider)
        place.control.watch()
        details = Details()
        for token, raw in place.queue.details().items():
            details.add(token, raw)
        for host, asked in place.host_limits.look().items():
            details.add_limits(host, asdict(asked))
        return details

    def limit_host(self, spider: str, host: str, limits: AskedLimits) -> None:
        """Have all processes on the spider's Redis keep to limits at a host. Raises ValueError for too many hosts."""
        self._place(spider).host_limits.ask(host, limits)

    def reset_host(self, spider: str, host: str) -> None:
        """Have what the settings say hold at a host."""
        self._place(spider).host_limits.take_back(host)

    def set_aside(self, spider: str, kind: str, wanted: Filter, start: int, limit: int) -> dict[str, Any]:
        """Tell of some ``limit`` items set aside, from entry ``start`` on, the oldest first.

        ``next`` is where the next page starts, None at the end. ``reasons`` counts files among the entries looked at.
        """
        place = self._place(spider)
        items, at = place.items(kind), start
        shown: list[dict[str, Any]] = []
        reasons: Counter[str] = Counter()
        while len(shown) < limit and at - start < SCANNED_AT_ONCE:
            page = items.page(at)
            for item in page:
                if len(shown) == limit:
                    break
                at += len(item.entries)
                reasons.update(str(record["reason"]) for record in item.records if "reason" in record)
                if wanted.wants(item):
                    shown.append({"id": item.id, **as_dict(item, place.config)})
            if not page:
                break
        total = len(items)
        return {
            "total": total,
            "scanned": at - start,
            "reasons": dict(reasons.most_common()),
            "items": shown,
            "next": at if at < total else None,
        }

    def waiting(self, spider: str, text: str, start: int, limit: int) -> dict[str, Any]:
        """Tell of some ``limit`` waiting items with ``text`` in them, from place ``start`` on, the next to come first.

        ``next`` is where the next page starts, None at the end.
        """
        place = self._place(spider)
        total = len(place.waiting)
        items, end = place.waiting.page(start, limit, text)
        return {
            "total": total,
            "scanned": end - start,
            "items": [
                {"id": item.id, "at": item.at, "list": item.key, **waiting_as_dict(item.payload, place.config)}
                for item in items
            ],
            "next": end if end < total else None,
        }

    def move_to_front(self, spider: str, places: Collection[tuple[str, int]]) -> int:
        """Have waiting items claimed next; return how many."""
        return self._place(spider).waiting.move_to_front(places)

    def take_out(self, spider: str, places: Collection[tuple[str, int]]) -> int:
        """Move waiting items to ``:dead``; return how many."""
        return self._place(spider).waiting.take_out(places)

    def finished(self, spider: str) -> dict[str, Any]:
        """Tell of the files that were finished last, the newest first."""
        return {"files": self._place(spider).recent.files()}

    def ask(self, spider: str, worker: str, what: str, file: str) -> None:
        """Ask a process to give up a running file, or to begin it anew."""
        self._place(spider).asked.ask(worker, Asked(what, file))

    def put_back(self, spider: str, kind: str, wanted: Filter) -> int:
        """Put items set aside back into the list; return how many."""
        return self._place(spider).items(kind).put_back(wanted.wants, _most(wanted))

    def drop(self, spider: str, kind: str, wanted: Filter) -> int:
        """Forget items set aside; return how many."""
        return self._place(spider).items(kind).drop(wanted.wants, _most(wanted))

    def pause(self, spider: str, worker: str | None) -> None:
        """Have a spider's processes, or one of them, claim nothing more."""
        self._place(spider).control.pause(worker)

    def resume(self, spider: str, worker: str | None) -> None:
        """Take back the same pause."""
        self._place(spider).control.resume(worker)

    def limit_rate(self, spider: str, bytes_per_second: float | None) -> None:
        """Limit each process of a spider. Raises ValueError for what is no number of bytes."""
        self._place(spider).control.limit_rate(bytes_per_second)

    def _looked(self, *, every_count: bool = False) -> list[tuple[str, Status]]:
        places = list(self._places.values())
        looked = look_at_all([place.queue for place in places], every_count=every_count)
        return [(place.spider, status) for place, status in zip(places, looked, strict=True)]

    def _mark(self) -> None:
        """Note what waits where perhaps no process does: somebody looks, so its age is told from now on at least."""
        now = time.monotonic()
        if now - self._marked_at >= MARK_EVERY:
            self._marked_at = now
            for place in self._places.values():
                place.totals.mark()

    def _place(self, spider: str) -> _Place:
        try:
            return self._places[spider]
        except KeyError:
            raise NoSuchSpider(f"there is no spider {spider!r} here") from None


def statuses_as_dict(looked: Iterable[tuple[str, Status]]) -> dict[str, Any]:
    """Return what is told of spiders, and when, as JSON types."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    spiders = [{"spider": spider, **status.as_dict(), **_needs(status)} for spider, status in looked]
    return {"time": now, "spiders": spiders}


def _needs(status: Status) -> dict[str, Any]:
    need = need_of(status)
    return {"need": need and need.word, "rank": rank_of(status), "is_idle": is_idle(status)}


def _most(wanted: Filter) -> int | None:
    return len(wanted.ids) if wanted.ids is not None else None
