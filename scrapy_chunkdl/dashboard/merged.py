"""What all processes of a spider tell in detail, joined: files one after the other, hosts added up. Pure."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from scrapy_chunkdl.queue import untrusted

logger = logging.getLogger(__name__)


def _errors(value: object) -> dict[str, int]:
    """Return how often a host failed, by reason."""
    if not isinstance(value, dict):
        return {}
    return {str(reason): number for reason, told in value.items() if (number := untrusted.count(told)) is not None}


def _or_zero(value: object) -> float:
    return untrusted.number(value) or 0


_FILE = {
    **dict.fromkeys(("id", "url", "name", "map", "doing", "title", "page"), lambda value: untrusted.text(value) or ""),
    **dict.fromkeys(("size", "chunks"), untrusted.count),
    **dict.fromkeys(("done", "bytes_per_second", "retries", "doing_for"), _or_zero),
    "eta": untrusted.number,
}
_HOST = {
    "host": lambda value: untrusted.text(value) or "",
    **dict.fromkeys(("connections", "limit", "bytes_per_second", "cooling_for"), _or_zero),
    "errors": _errors,
}


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


class Details:
    """Made empty; :meth:`add` takes what one process told."""

    def __init__(self) -> None:
        self._files: list[dict[str, Any]] = []
        self._running = 0
        self._hosts: dict[str, dict[str, Any]] = {}

    def add(self, worker: str, raw: bytes) -> None:
        """Add what ``worker`` told, as :mod:`scrapy_chunkdl.crawl.reports` writes it. Nothing else is taken."""
        try:
            told = untrusted.fields(
                untrusted.parsed(raw), {"running": untrusted.count, "files": _objects, "hosts": _objects}
            )
        except ValueError as error:
            logger.debug("What %s tells is not understood: %r", worker, error)
            return
        for host in told["hosts"]:
            self._add_host(untrusted.fields(host, _HOST))
        self._files += [{"worker": worker, **untrusted.fields(file, _FILE)} for file in told["files"]]
        self._running += max(told["running"] or 0, len(told["files"]))

    def _add_host(self, told: dict[str, Any]) -> None:
        known = self._hosts.setdefault(
            told["host"], {"host": told["host"], "errors": Counter(), "cooling_for": 0.0, "asked": None}
        )
        for name in ("connections", "limit", "bytes_per_second"):
            known[name] = known.get(name, 0) + told[name]
        known["errors"].update(told["errors"])
        known["cooling_for"] = max(known["cooling_for"], told["cooling_for"])

    def add_limits(self, host: str, asked: dict[str, Any]) -> None:
        """Add limits of a host that people set, also where nothing runs."""
        self._add_host(untrusted.fields({"host": host}, _HOST))
        self._hosts[host]["asked"] = asked

    def files(self, start: int, limit: int) -> dict[str, Any]:
        """Return some of the running files, each with the process that has it; ``sampled`` if not all are known."""
        shown = self._files[start : start + limit]
        return {"total": self._running, "sampled": len(self._files) < self._running, "files": shown}

    def hosts(self) -> dict[str, Any]:
        """Return the hosts, the busiest first."""
        busiest = sorted(self._hosts.values(), key=lambda host: (-host["bytes_per_second"], -host["connections"]))
        return {"hosts": busiest}
