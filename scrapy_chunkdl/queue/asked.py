"""What operators ask of one process for one running file: to give it up, or to begin anew.

Kept in a list of that process until it reads it, a minute at most: a process that is gone is asked nothing. Knows Redis
and names; what is done is the crawl's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.item_queue import key_prefix

KEPT_S = 60
MOST = 1000
"""Requests that wait for one process at most: the oldest go."""

WHATS = ("give_up", "retry")


@dataclass(frozen=True, slots=True)
class Asked:
    """``what`` is one of :data:`WHATS`; ``file`` is the id that the process told of the file."""

    what: str
    file: str


class AskedOfProcesses:
    """The requests of the list ``key``. Every method may raise what :data:`.errors.REDIS_ERRORS` names."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._prefix = key_prefix(key)

    def ask(self, worker: str, asked: Asked) -> None:
        """Ask it of a process."""
        key = f"{self._prefix}:asked {worker}"
        pipe = self._client.pipeline(transaction=False)
        pipe.rpush(key, f"{asked.what} {asked.file}")
        pipe.ltrim(key, -MOST, -1)
        pipe.expire(key, KEPT_S)
        pipe.execute()

    def take(self, worker: str) -> list[Asked]:
        """Return what a process was asked, once. What is no such request is passed over."""
        key = f"{self._prefix}:asked {worker}"
        told, found = self._client.lrange(key, 0, -1), []
        if told:
            self._client.ltrim(key, len(told), -1)  # what is asked meanwhile stays
        for raw in told:
            what, _, file = (untrusted.text(raw.decode(errors="replace")) or "").partition(" ")
            if what in WHATS and file:
                found.append(Asked(what, file))
        return found
