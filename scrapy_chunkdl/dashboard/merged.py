"""What all processes of a spider tell in detail, joined: files one after the other, hosts added up. Pure."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

logger = logging.getLogger(__name__)


class Details:
    """Made empty; :meth:`add` takes what one process told."""

    def __init__(self) -> None:
        self._files: list[dict[str, Any]] = []
        self._running = 0
        self._hosts: dict[str, dict[str, Any]] = {}

    def add(self, worker: str, raw: bytes) -> None:
        """Add what ``worker`` told, as :mod:`scrapy_chunkdl.details` writes it. Another version's is left out."""
        try:
            told = json.loads(raw)
            for host in told["hosts"]:
                self._add_host(host)
            self._files += [{"worker": worker, **file} for file in told["files"]]
            self._running += told["running"]
        except (KeyError, TypeError, ValueError) as error:
            logger.debug("What %s tells is not understood: %r", worker, error)

    def _add_host(self, told: dict[str, Any]) -> None:
        known = self._hosts.setdefault(told["host"], {"host": told["host"], "errors": Counter(), "cooling_for": 0.0})
        for name in ("connections", "limit", "bytes_per_second"):
            known[name] = known.get(name, 0) + told[name]
        known["errors"].update(told["errors"])
        known["cooling_for"] = max(known["cooling_for"], told["cooling_for"])

    def files(self, start: int, limit: int) -> dict[str, Any]:
        """Return some of the running files, each with the process that has it; ``sampled`` if not all are known."""
        shown = self._files[start : start + limit]
        return {"total": self._running, "sampled": len(self._files) < self._running, "files": shown}

    def hosts(self) -> dict[str, Any]:
        """Return the hosts, the busiest first."""
        busiest = sorted(self._hosts.values(), key=lambda host: (-host["bytes_per_second"], -host["connections"]))
        return {"hosts": busiest}
