"""Limits of single hosts that people set while processes run: in Redis, for all lists, until they are taken back.

Each process looks at them twice a second. Knows Redis, names of hosts and numbers; nothing of who keeps to them.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KEY = "{chunkdl}:limits"
MOST_HOSTS = 1000
LONGEST_HOST = 300
MOST_CONNECTIONS = 1024
LONGEST_DELAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class AskedLimits:
    """What is asked for a host; None is what its settings say. ``delay`` in seconds, ``rate`` in bytes per second."""

    connections: int | None = None
    delay: float | None = None
    rate: float | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> AskedLimits:
        """Check what is asked. Raises ValueError, which names the field."""
        if unknown := fields.keys() - {"connections", "delay", "rate"}:
            raise ValueError(f"{min(unknown)[:40]!r} is none of connections, delay, rate")
        connections = _within(fields, "connections", 1, MOST_CONNECTIONS)
        delay, rate = _within(fields, "delay", 0, LONGEST_DELAY_S), _within(fields, "rate", 0, 1e15)
        return cls(None if connections is None else int(connections), delay, rate)


class HostLimits:
    """Asks, and tells what is asked. Methods raise what :data:`scrapy_chunkdl.queue.errors.REDIS_ERRORS` names."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ask(self, host: str, limits: AskedLimits) -> None:
        """Have all processes keep to limits at a host, ``name:port``. Raises ValueError where there are too many."""
        if self._client.hlen(KEY) >= MOST_HOSTS and not self._client.hexists(KEY, host):
            raise ValueError(f"limits of {MOST_HOSTS} hosts are set: take some back")
        self._client.hset(KEY, host, json.dumps({name: n for name, n in asdict(limits).items() if n is not None}))

    def take_back(self, host: str) -> None:
        """Have what the settings say hold at a host."""
        self._client.hdel(KEY, host)

    def look(self) -> dict[str, AskedLimits]:
        """Return what is asked, by host. What is none of ours is left out."""
        found = {}
        for raw_host, raw in self._client.hgetall(KEY).items():
            try:
                found[raw_host.decode()[:LONGEST_HOST]] = AskedLimits.of(json.loads(raw))
            except (ValueError, AttributeError, RecursionError):
                continue
        return found


def _within(fields: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or (name == "connections" and value != int(value)):
        raise ValueError(f"{name} = {reprlib.repr(value)}: should be a number from {least:g} to {most:g}")
    return float(value)
