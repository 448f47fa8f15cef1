"""Reads ``CHUNKDL_SCHEDULE``: windows of the day, and what holds in each of them.

Knows values alone; when a window is in force is ``crawl/schedule.py``'s. Readers raise as those of ``values.py`` do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from scrapy_chunkdl.settings import values

DAY = 24 * 60
MOST_WINDOWS = 100

_EXAMPLE = 'windows such as {"from": "08:00", "to": "18:00", "days": "mon-fri", "rate": 1000000} or with "pause": True'
_NAMES = ("from", "to", "days", "zone", "rate", "pause")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """A time of day. ``begins`` and ``ends`` are minutes from midnight; one that ends before it begins goes over it.

    ``days`` are those it begins on, Monday 0. ``zone`` None is the machine's. ``rate`` is in bytes per second, 0 for as
    fast as it goes; None: a pause.
    """

    begins: int
    ends: int
    days: frozenset[int]
    zone: ZoneInfo | None
    rate: int | None

    @property
    def minutes(self) -> int:
        """How long it is, by a clock that nobody sets."""
        return (self.ends - self.begins) % DAY or DAY


def schedule(value: Any) -> tuple[Window, ...]:
    """Read a list of windows; ``-s`` gives it as JSON."""
    value = values.from_json(value, f"a list of {_EXAMPLE}")
    if value is None:
        return ()
    if not isinstance(value, Sequence) or not all(isinstance(window, Mapping) for window in value):
        raise ValueError(f"a list of {_EXAMPLE}")
    if len(value) > MOST_WINDOWS:
        raise ValueError(f"at most {MOST_WINDOWS} windows")
    return tuple(_window(window, f"window {number}") for number, window in enumerate(value, start=1))


def _window(told: Mapping[Any, Any], which: str) -> Window:
    for name in told:
        if name not in _NAMES:
            raise ValueError(f"{_EXAMPLE}: {which} has {str(name)[:40]!r}, which is none of {', '.join(_NAMES)}")
    try:
        is_pause = values.boolean(told.get("pause", False))
    except ValueError:
        raise ValueError(f'a schedule with "pause": True or none, in {which}') from None
    if is_pause == ("rate" in told):
        raise ValueError(f'a schedule with either a "rate" or "pause": True in each window, and {which} has not')
    begins = _minute(told.get("from", "00:00"), f"from of {which}")
    ends = _minute(told.get("to", "24:00"), f"to of {which}")
    if begins in (ends, DAY):
        raise ValueError(f'a schedule in which no window is empty, and {which} is: the whole day is "00:00" to "24:00"')
    rate = None
    if not is_pause:
        try:
            rate = values.size_bytes(0)(told["rate"])
        except ValueError as error:
            raise ValueError(f"a schedule with rate of {which} {error}") from None
    return Window(begins, ends, _days(told.get("days", "mon-sun"), which), _zone(told.get("zone"), which), rate)


def _minute(value: Any, which: str) -> int:
    if value == "24:00":
        return DAY
    if not isinstance(value, str) or (found := _TIME.fullmatch(value.strip())) is None:
        raise ValueError(f'a schedule with {which} a time of day such as "08:00", up to "24:00"')
    return int(found[1]) * 60 + int(found[2])


def _days(value: Any, which: str) -> frozenset[int]:
    parts = value.split(",") if isinstance(value, str) else value
    wanted = ValueError(f'a schedule with days of {which} such as "mon-fri" or "sat,sun"')
    if not isinstance(parts, Sequence) or not parts:
        raise wanted
    found: set[int] = set()
    for part in parts:
        first, _, last = part.strip().lower().partition("-") if isinstance(part, str) else ("", "", "")
        if first.strip() not in _DAYS or (last or first).strip() not in _DAYS:
            raise wanted
        begin, end = _DAYS.index(first.strip()), _DAYS.index((last or first).strip())
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


def _zone(value: Any, which: str) -> ZoneInfo | None:
    if value is None:
        return None
    try:
        return ZoneInfo(value)
    except (KeyError, OSError, TypeError, ValueError):  # not there, a folder, no text, a way out of the folder
        raise ValueError(
            f'a schedule with zone of {which} one that this machine knows, such as "Europe/Berlin" (pip install '
            "tzdata brings all)"
        ) from None
