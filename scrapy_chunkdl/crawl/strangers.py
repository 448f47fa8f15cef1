"""Items that other processes hold: whether a crawl may end while they do.

A process that was killed still holds what it had claimed until its leases run out, and nobody else would come for it.
Knows snapshots of the queue; never asks Redis itself.
"""

from __future__ import annotations

import logging

from scrapy_chunkdl.queue.heartbeat import REPORT_EVERY
from scrapy_chunkdl.queue.snapshot import Snapshot

logger = logging.getLogger(__name__)

_GONE_AFTER = 2 * REPORT_EVERY
"""Seconds without a report, or of a lease whose holder never made one, after which people are told that a process is
gone. It is waited for before, too."""


class Strangers:
    """What one process knows of the others that hold items of its list."""

    def __init__(self, items_key: str, token: str) -> None:
        self._key = items_key
        self._token = token
        self._since: float | None = None
        self._told = 0
        self.awaited = 0
        """Items whose holder has not told of itself since they were first seen: it may be dead, they come back."""

    def none(self) -> None:
        """Note that nobody else holds anything."""
        self._since, self.awaited, self._told = None, 0, 0

    def note(self, snapshot: Snapshot) -> None:
        """Take what was told. Who has told of itself since the first time is alive, all of it by Redis' clock.

        By ours an answer that was long on its way, or was read late, would make a report look young.
        """
        self._since = snapshot.at_s if self._since is None else self._since
        silent = {process.token: process.silent_for for process in snapshot.reported}
        seen_for = snapshot.at_s - self._since
        leases = [lease for lease in snapshot.leases if lease.owner != self._token]
        awaited = [lease for lease in leases if silent.get(lease.owner, seen_for) >= seen_for]
        self.awaited = len(awaited)
        gone = [lease for lease in awaited if silent.get(lease.owner, lease.held_for) >= _GONE_AFTER]
        if len(gone) > self._told:
            logger.info(
                "%d items of %s are held by a process that is gone: they come back in %.0f s.",
                *(len(gone), self._key, max(0.0, *(lease.runs_out_in for lease in gone))),
            )
        self._told = len(gone)
