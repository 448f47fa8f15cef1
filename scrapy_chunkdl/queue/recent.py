"""The files that were finished last, of all processes of a queue: for people, bounded, gone after some days.

What one process finished waits here until its next report, the newest of it. Knows Redis and dicts; thread-safe.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.item_queue import key_prefix

MOST = 100
"""Files remembered of each queue: about 25 kB."""

KEPT_S = 7 * 86400

_SHAPE: Mapping[str, Callable[[object], Any]] = {
    **dict.fromkeys(("url", "name", "status", "title", "page", "time"), untrusted.text),
    **dict.fromkeys(("size", "elapsed"), untrusted.number),
}


class Finished:
    """The finished files of one process that nobody was told of yet."""

    def __init__(self) -> None:
        self._files: deque[Callable[[], dict[str, Any]]] = deque(maxlen=MOST)

    def note(self, told: Callable[[], dict[str, Any]]) -> None:
        """Note a file; ``told`` returns url, name, status, size, elapsed, title, page and time where it is asked."""
        self._files.append(told)

    def take(self) -> list[dict[str, Any]]:
        """Return those that are new, the oldest first."""
        taken = []
        while self._files:
            taken.append(self._files.popleft()())
        return taken


class Recent:
    """The list in Redis. Every method may raise what :data:`.errors.REDIS_ERRORS` names."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = f"{key_prefix(key)}:finished"

    def add(self, files: list[dict[str, Any]]) -> None:
        """Add files, the oldest first."""
        pipe = self._client.pipeline(transaction=False)  # MULTI is no right that a user needs else
        pipe.lpush(self._key, *(json.dumps(file, separators=(",", ":")) for file in files))
        pipe.ltrim(self._key, 0, MOST - 1)
        pipe.expire(self._key, KEPT_S)
        pipe.execute()

    def files(self) -> list[dict[str, Any]]:
        """Return them, the newest first. What is no such file is passed over."""
        found = []
        for raw in self._client.lrange(self._key, 0, MOST - 1):
            try:
                found.append(untrusted.fields(untrusted.parsed(raw), _SHAPE))
            except ValueError:
                continue
        return found
