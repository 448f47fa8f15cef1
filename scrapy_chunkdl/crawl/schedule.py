"""Times of day in which files come more slowly, or nothing is claimed: CHUNKDL_SCHEDULE.

A window is in force while the clock on the wall of its zone shows a time in it: one that begins in the hour that spring
skips begins with the next, and the hour that autumn doubles has its windows twice. One that the clock skips as a whole
comes right after it, for its length, as RFC 5545 (§3.3.5) reads such times. Where several are in force, a pause is
first, then the lowest rate. Knows clocks and numbers; nothing of who claims, or of how bytes are held back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

from scrapy_chunkdl.settings.schedule import DAY, Window
from scrapy_chunkdl.text.units import size_text

logger = logging.getLogger(__name__)

DAYS_AHEAD = 8
"""Days looked ahead for the next change: a window comes once a week at least."""

LOOK_AGAIN_S = 3600.0
"""Seconds after which all is looked at anew, as a machine's zone may be changed."""

_HOUR = 3600
_SKIPPED_WHOLLY_LOOKS_BACK = 2


@dataclass(frozen=True, slots=True)
class InForce:
    """What holds at a moment: a pause, or a ``rate`` in bytes per second (None: as the settings say).

    ``until`` is in seconds since 1970, None for ever.
    """

    is_pause: bool = False
    rate: int | None = None
    until: float | None = None
    zone: ZoneInfo | None = None

    @property
    def until_text(self) -> str:
        """When it ends, for a person, in the zone of the window."""
        if self.until is None:
            return "for ever"
        moment = datetime.fromtimestamp(self.until, timezone.utc).astimezone(self.zone)
        return f"until {moment:%Y-%m-%d %H:%M %Z}"


class Schedule:
    """All windows of a crawl."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._zones = list(dict.fromkeys(window.zone for window in windows))

    def at(self, now: float) -> InForce:
        """Return what holds at a moment, in seconds since 1970, and until when."""
        covering = [window for window in self._windows if _covers(window, now)]
        is_pause, rate = _holds(covering)
        zone = covering[0].zone if covering else None
        return InForce(is_pause, rate, self._next_change(now, (is_pause, rate)), zone)

    def _next_change(self, now: float, holds: tuple[bool, int | None]) -> float | None:
        moments = {moment for window in self._windows for moment in _edges(window, now)}
        moments |= {moment for zone in self._zones for moment in _switches(zone, now)}
        for moment in sorted(moments):
            if moment > now and _holds([one for one in self._windows if _covers(one, moment)]) != holds:
                return moment
        return None


def _holds(covering: Sequence[Window]) -> tuple[bool, int | None]:
    if any(window.rate is None for window in covering):
        return True, None
    rates = [window.rate for window in covering if window.rate is not None]
    return False, min(rates, key=lambda rate: rate or float("inf")) if rates else None


def _covers(window: Window, now: float) -> bool:
    wall = _wall(now, window.zone)
    minute, today, yesterday = wall.hour * 60 + wall.minute, wall.weekday(), (wall.weekday() - 1) % 7
    if window.begins < window.ends:
        shows = today in window.days and window.begins <= minute < window.ends
    else:
        begun_today = today in window.days and minute >= window.begins
        shows = begun_today or (yesterday in window.days and minute < window.ends)
    return shows or any(begin <= now < end for begin, end in _moved(window, wall.date()))


def _moved(window: Window, today: date) -> Iterator[tuple[float, float]]:
    """Yield when a window is in force that the clock skips as a whole, on one of the last days."""
    for back in range(_SKIPPED_WHOLLY_LOOKS_BACK):
        day = today - timedelta(days=back)
        if day.weekday() not in window.days or window.minutes == DAY:
            continue
        first = _on(day, window.begins)
        if _is_skipped(first, window.zone) and _is_skipped(first + timedelta(minutes=window.minutes - 1), window.zone):
            begin = _moment(first, window.zone)
            yield begin, begin + window.minutes * 60


def _edges(window: Window, now: float) -> Iterator[float]:
    today = _wall(now, window.zone).date()
    for ahead in range(-_SKIPPED_WHOLLY_LOOKS_BACK, DAYS_AHEAD + 1):
        day = today + timedelta(days=ahead)
        for minute in (window.begins, window.ends):
            for fold in (0, 1):  # the first and the second of a doubled hour
                yield _moment(_on(day, minute).replace(fold=fold), window.zone)
        for begin, end in _moved(window, day):
            yield from (begin, end)


def _switches(zone: ZoneInfo | None, now: float) -> Iterator[float]:
    """Yield when the clock of a zone is set forward or back, to the second."""
    first = int(now // _HOUR)
    offsets = [_offset(hour * _HOUR, zone) for hour in range(first, first + DAYS_AHEAD * 24 + 2)]
    for number, (before, after) in enumerate(pairwise(offsets)):
        if before == after:
            continue
        low, high = (first + number) * _HOUR, (first + number + 1) * _HOUR
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
        yield high


def _on(day: date, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day) + timedelta(minutes=minute)


def _wall(now: float, zone: ZoneInfo | None) -> datetime:
    return datetime.fromtimestamp(now, zone).replace(tzinfo=None)


def _moment(wall: datetime, zone: ZoneInfo | None) -> float:
    return wall.replace(tzinfo=zone).timestamp()  # PEP 495: a time that is skipped, by the offset before


def _is_skipped(wall: datetime, zone: ZoneInfo | None) -> bool:
    return _wall(_moment(wall, zone), zone) != wall


def _offset(moment: float, zone: ZoneInfo | None) -> timedelta:
    return _wall(moment, zone) - datetime.fromtimestamp(moment, timezone.utc).replace(tzinfo=None)


class ScheduleGate:
    """One process's. ``change_rate`` is called with the bytes per second that hold from now on.

    ``max_rate`` holds outside of all windows. ``clock`` is in seconds since 1970.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        max_rate: int,
        change_rate: Callable[[int], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._schedule = Schedule(windows) if windows else None
        self._max_rate = max_rate
        self._change_rate = change_rate
        self._clock = clock
        self._now = InForce()
        self._rate: int | None = None
        self._looked_at = float("-inf")
        self.tick()

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be claimed."""
        return self._now.is_pause

    @property
    def because(self) -> str | None:
        """Why nothing is claimed, as a sentence; None while there is no pause."""
        if not self._now.is_pause:
            return None
        return f"Nothing is claimed {self._now.until_text}: a pause of CHUNKDL_SCHEDULE"

    def tick(self) -> bool:
        """Look at the clock; return whether a pause has just begun. Called a few times a second, from one thread."""
        if self._schedule is None:
            return False
        now, before = self._clock(), self._now
        until = before.until if before.until is not None else float("inf")
        if self._looked_at <= now < min(until, self._looked_at + LOOK_AGAIN_S):
            return False
        self._looked_at, self._now = now, self._schedule.at(now)
        if self._now.rate != self._rate and not self._now.is_pause:
            self._rate = self._now.rate
            rate = self._max_rate if self._now.rate is None else self._now.rate
            self._change_rate(rate)
            told = f"at most {size_text(rate)}/s" if rate else "as fast as they come"
            logger.info("Files are fetched %s now, %s (CHUNKDL_SCHEDULE).", told, self._now.until_text)
        if self._now.is_pause and not before.is_pause:
            logger.info("%s. Running files go on.", self.because)
        elif before.is_pause and not self._now.is_pause:
            logger.info("The pause of CHUNKDL_SCHEDULE is over: claiming goes on.")
        return self._now.is_pause and not before.is_pause
