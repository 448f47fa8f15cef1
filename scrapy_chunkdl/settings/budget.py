"""Reads ``CHUNKDL_BUDGET``: how much may come in a day or an hour, from each host and from all together.

Knows values alone. The reader raises as those of ``values.py`` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scrapy_chunkdl.settings import values

What = Literal["bytes", "files"]
Period = Literal["day", "hour"]

ALL = "*"
"""Stands for all hosts together."""

_EXAMPLE = 'a dict such as {"*": {"bytes_per_day": 50_000_000_000}, "*.gov": {"files_per_day": 1000}}'


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``most`` bytes or files in each day or hour of UTC."""

    what: What
    period: Period
    most: int

    @property
    def name(self) -> str:
        """What it is called in the setting."""
        return f"{self.what}_per_{self.period}"


_KINDS: Mapping[str, tuple[What, Period]] = {
    "bytes_per_day": ("bytes", "day"),
    "files_per_day": ("files", "day"),
    "bytes_per_hour": ("bytes", "hour"),
    "files_per_hour": ("files", "hour"),
}


def budget(value: Any) -> Mapping[str, tuple[Limit, ...]]:
    """Read limits by host or pattern, ``*`` for all hosts together; ``-s`` gives them as JSON."""
    told = values.by_host(value, _EXAMPLE)
    return {host.strip().lower(): _limits(host.strip(), limits) for host, limits in told.items()}


def _limits(host: str, told: Any) -> tuple[Limit, ...]:
    shown = repr(host[:40])
    if "/" in host or "@" in host:
        raise ValueError(f"{_EXAMPLE}: {shown} is no host's name")
    if not isinstance(told, Mapping) or not told:
        raise ValueError(f"{_EXAMPLE}: that of {shown} is no dict of limits")
    limits = []
    for name, most in told.items():
        if name not in _KINDS:
            raise ValueError(f"a budget in {', '.join(_KINDS)}, and {shown} has {str(name)[:40]!r}")
        read = values.size_bytes(1) if _KINDS[name][0] == "bytes" else values.integer(1)
        try:
            limits.append(Limit(*_KINDS[name], read(most)))
        except ValueError as error:
            raise ValueError(f"a budget with {name} of {shown} {error}") from None
    return tuple(limits)
