"""What operators ask of the processes that work on a list: to claim no more, to fetch slower, to tell more.

Each process reads it together with its report (``lua/report.lua``), so a wish is met within seconds, and by processes
that come later, too. Knows Redis and names of processes; nothing of who obeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.item_queue import key_prefix

WATCHED_FOR = 10.0
"""Seconds for which processes tell in detail what they do after somebody looked."""

PAUSED = "paused"
MAX_RATE = "max_rate"


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that is asked. ``max_rate`` is bytes per second for each process, 0 for no limit, None for its settings'."""

    paused: bool = False
    paused_workers: frozenset[str] = field(default_factory=frozenset)
    max_rate: float | None = None

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> Wishes:
        """Read the hash as it is in Redis. A limit that is none is no wish."""
        names = {name.decode(errors="replace"): value for name, value in fields.items()}
        workers = (name.partition(" ")[2] for name in names if name.startswith(f"{PAUSED} "))
        return cls(PAUSED in names, frozenset(workers), untrusted.rate(names.get(MAX_RATE)))


class Control:
    """Asks. Every method may raise what :data:`scrapy_chunkdl.queue.errors.REDIS_ERRORS` names."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = f"{key_prefix(key)}:control"
        self._watched_key = f"{key_prefix(key)}:watched"

    def pause(self, worker: str | None = None) -> None:
        """Have one process, or without its token all, claim nothing more until :meth:`resume`."""
        self._client.hset(self._key, _paused(worker), 1)

    def resume(self, worker: str | None = None) -> None:
        """Take back a :meth:`pause` of the same."""
        self._client.hdel(self._key, _paused(worker))

    def limit_rate(self, bytes_per_second: float | None) -> None:
        """Have each process fetch no faster, 0: as fast as it can; None: as its settings say.

        Raises ValueError for what is no number of bytes.
        """
        if bytes_per_second is None:
            self._client.hdel(self._key, MAX_RATE)
        elif 0 <= bytes_per_second < float("inf"):
            self._client.hset(self._key, MAX_RATE, repr(float(bytes_per_second)))
        else:
            raise ValueError(f"{bytes_per_second!r} is no limit in bytes per second: 0 for none, or more")

    def watch(self) -> None:
        """Have processes tell in detail what they do, for the next :data:`WATCHED_FOR` seconds."""
        self._client.set(self._watched_key, 1, px=round(WATCHED_FOR * 1000))


def _paused(worker: str | None) -> str:
    return PAUSED if worker is None else f"{PAUSED} {worker}"
