"""What all processes of a queue have counted, those that are gone included, and what they did hour by hour.

Knows Redis and names of counts; what they mean stands in :mod:`.metrics_table`. Every method may raise what
:data:`scrapy_chunkdl.queue.errors.REDIS_ERRORS` names. What anybody else wrote there is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.item_queue import key_prefix, load_script
from scrapy_chunkdl.queue.metrics_table import HISTORY
from scrapy_chunkdl.queue.snapshot import REPORT_KEPT
from scrapy_chunkdl.queue.tally import Part

HISTORY_DAYS = 90
"""Days for which what was done is kept, hour by hour: about 1.3 kB a day and queue."""

MOST_MARKS = 512
"""Moments remembered to tell how long the oldest item waits: 8 hours by the minute, more in larger steps."""

_DAY = 86400


@dataclass(frozen=True, slots=True)
class Counted:
    """All counts by field, and the seconds that the oldest item has waited at least, None where none waits."""

    counts: dict[str, float]
    oldest_waits: float | None


@dataclass(frozen=True, slots=True)
class Hour:
    """What was done in an hour that began ``at``, in seconds since 1970, by the names of the counts."""

    at: int
    counts: dict[str, int]


class Totals:
    """The totals of the queue on ``key``, and on the lists ``above`` it; ``token`` names who tells."""

    def __init__(self, client: Any, key: str, token: str = "", above: Sequence[str] = ()) -> None:
        prefix = self._prefix = key_prefix(key)
        self._client = client
        self._token = token
        self.totals_key, self.marks_key = f"{prefix}:totals", f"{prefix}:marks"
        self._marked = [self.totals_key, key, self.marks_key]
        for name in above:
            self._marked += [name, f"{self.marks_key} {name}"]
        self._tallied_key = f"{prefix}:tallied"
        self._day = int(time.time()) // _DAY
        self._tally, self._mark, self._totals = (load_script(client, name) for name in ("tally", "mark", "totals"))

    def add(self, part: Part) -> bool:
        """Add what this process counted. The same part again adds nothing. False: ask again, a new day has begun."""
        arguments: list[str | int | float] = [self._token, part.number, self._day, (HISTORY_DAYS + 1) * _DAY]
        arguments.append(round(REPORT_KEPT * 1000))
        for name, number in part.counts.items():
            arguments += [name, repr(round(number, 6)), HISTORY.get(name, "")]
        keys = [self.totals_key, self._tallied_key, self.history_key(self._day)]
        counts, self._day = self._tally(keys=keys, args=arguments)
        return bool(counts)

    def mark(self) -> None:
        """Remember, at most once a minute, how far each list reaches: so it is known how long its oldest item waits."""
        self._mark(keys=self._marked, args=[MOST_MARKS, (HISTORY_DAYS + 1) * _DAY])

    def read(self, names: Sequence[str] = ()) -> Counted:
        """Return these counts, or all there are."""
        return self.read_answer(self.ask(names, None))

    def ask(self, names: Sequence[str], pipe: Any) -> Any:
        """Ask for these counts, or all, on a pipeline: its answer is for :meth:`read_answer`."""
        return self._totals(keys=self._marked, args=[*names], client=pipe)

    def read_answer(self, answer: Any) -> Counted:
        """Read what :meth:`ask` brought."""
        waited, *told = answer
        counts = {}
        for name, raw in zip(told[::2], told[1::2], strict=True):
            if (number := untrusted.rate(raw)) is not None:
                counts[name.decode(errors="replace")] = number
        return Counted(counts, int(waited) / 1000 if int(waited) >= 0 else None)

    def history(self, days: int = HISTORY_DAYS) -> list[Hour]:
        """Return the hours of the last days in which something was done, the oldest first."""
        today = int(time.time()) // _DAY
        asked = range(today - days, today + 2)  # Redis' clock may be ahead
        pipe = self._client.pipeline(transaction=False)
        for day in asked:
            pipe.hgetall(self.history_key(day))
        names = {letter: name for name, letter in HISTORY.items()}
        hours: dict[int, dict[str, int]] = {}
        for day, fields in zip(asked, pipe.execute(), strict=True):
            for field, raw in fields.items():
                hour, letter = field[:2].decode(errors="replace"), field[2:].decode(errors="replace")
                number = untrusted.rate(raw)
                if hour.isdecimal() and int(hour) < 24 and letter in names and number is not None:
                    hours.setdefault(day * _DAY + int(hour) * 3600, {})[names[letter]] = int(number)
        return [Hour(at, hours[at]) for at in sorted(hours)]

    def history_key(self, day: int) -> str:
        """Return the key of a day, in days since 1970."""
        return f"{self._prefix}:history {day}"
