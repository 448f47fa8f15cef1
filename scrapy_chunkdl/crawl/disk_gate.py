"""Whether there is room for the files of more items: claiming stops before the disk is full, and goes on by itself.

Looks at the disk once a second, in a thread, as a share that hangs would hang Scrapy's. What statvfs cannot see, a
quota or a full store, is found out by one item at a time, with growing pauses. Knows how much room there is and what to
say of it; nothing of Redis or of who claims.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scrapy_chunkdl.download import NoRoom
from scrapy_chunkdl.download.disk.room import LEAST_NAMES, Reserve, Room, room_of
from scrapy_chunkdl.text.units import size_text

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

TOLD_AGAIN_S = 600.0
"""Seconds with room after which the next time that there is none is news."""

_JITTER = 0.25


class DiskGate:
    """One process's, for the disk that ``folder`` is on. ``keep`` is left free of it. ``clock`` is in seconds."""

    def __init__(
        self,
        folder: Path,
        keep: Reserve,
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[Path], Room] = room_of,
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._clock = clock
        self._look = look
        self.seen: Room | None = None
        """The disk when it was looked at last; None before that, and where it cannot be looked at."""
        self._looks = False
        self._looked_at = float("-inf")
        self._low: str | None = None
        self._refusal: NoRoom | None = None
        self._next_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._since: float | None = None
        self._had_room_since = float("-inf")
        self._has_told = False

    @property
    def because(self) -> str | None:
        """Why nothing, or one item at a time, is claimed, as a sentence; None while there is room."""
        if self._low is not None:
            return self._low
        if self._refusal is None:
            return None
        left_s = max(0.0, self._next_at - self._clock())
        return f"{self._refusal}. One item is tried next, in {left_s:.0f} s"

    @property
    def delay_s(self) -> float:
        """Seconds until an item that found no room should come back."""
        return max(FIRST_PAUSE_S, self._next_at - self._clock())

    def tick(self, needs_bytes: Callable[[], int]) -> None:
        """Have the disk looked at, if it is time. ``needs_bytes`` are what files that run have still to write.

        Called a few times a second, from one thread; does not block.
        """
        if self._looks or self._clock() - self._looked_at < LOOK_EVERY_S:
            return
        self._looks, self._looked_at = True, self._clock()
        threading.Thread(target=self._look_once, args=(needs_bytes(),), name="chunkdl-disk-look", daemon=True).start()

    def _look_once(self, needs_bytes: int) -> None:
        try:
            self.note(self._look(self._folder), needs_bytes)
        except OSError as error:  # it cannot be looked at: who writes to it finds out the same
            self.seen = None
            logger.debug("Room on the disk of %s is not known: %s", self._folder, error)
        finally:
            self._looks = False

    def note(self, room: Room, needs_bytes: int) -> None:
        """Take note of how much room there is."""
        self.seen = room
        kept, free = self._keep.of(room.total_bytes), room.free_bytes
        refusal = self._refusal
        if room.free_names is not None and room.free_names < LEAST_NAMES:
            self._low = f"The disk of {self._folder} has {room.free_names} inodes left: remove files"
        elif room.total_bytes and free - needs_bytes < kept:
            needed = f", running files need {size_text(needs_bytes)}" if needs_bytes else ""
            self._low = (
                f"The disk of {self._folder} has {size_text(free)} free{needed}, and {size_text(kept)} are kept free "
                "(CHUNKDL_MIN_FREE)"
            )
        else:
            self._low = None
            if refusal is not None and 0 < refusal.needs_bytes <= free - needs_bytes - kept:
                self._next_at = min(self._next_at, self._clock())  # there is room for it now
        self._tell()

    def refused(self, error: NoRoom) -> None:
        """Take note that a file found no room. Errors of files that began before the last pause tell nothing new."""
        now = self._clock()
        if self._refusal is None or now >= self._next_at:
            self._next_at = now + self._pause_s * random.uniform(1.0, 1.0 + _JITTER)
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        self._refusal = error
        self._tell()

    def passed(self) -> None:
        """Take note that a file was written."""
        if self._refusal is not None:
            self._refusal, self._pause_s = None, FIRST_PAUSE_S
            self._tell()

    def room(self, wanted: int, held: int) -> int:
        """Return how many items may be claimed where ``wanted`` could be, and ``held`` are not settled."""
        if self._low is not None:
            return 0
        if self._refusal is None:
            return wanted
        return 0 if held or self._clock() < self._next_at else min(wanted, 1)

    def _tell(self) -> None:
        now, because = self._clock(), self._low or self._refusal
        if because is not None and self._since is None:
            self._since = now
            self._has_told = now - self._had_room_since >= TOLD_AGAIN_S
            logger.log(
                logging.WARNING if self._has_told else logging.DEBUG,
                "%s. Nothing more is claimed until %s; no file is given up for it.",
                *(because, NoRoom.until if self._refusal is None else self._refusal.until),
            )
        elif because is None and self._since is not None:
            logger.log(
                logging.INFO if self._has_told else logging.DEBUG,
                "There is room in %s again after %.0f s: claiming goes on.",
                *(self._folder, now - self._since),
            )
            self._since, self._had_room_since = None, now
