"""Limits of single hosts, by name or pattern: what holds there instead of what holds everywhere. Pure.

Knows names of hosts and numbers; nothing of settings or of who keeps to them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

_HOSTS_REMEMBERED = 4096


class HostRule(NamedTuple):
    """What holds for a host; None is what holds everywhere. ``delay_s`` is between the starts of two requests,
    ``rate`` in bytes per second, 0 for no limit. ``via`` is a proxy's URL, ``direct``, or :data:`VIA_SCRAPY`."""

    connections: int | None = None
    delay_s: float | None = None
    rate: float | None = None
    via: str | None = None


_NO_RULE = HostRule()

VIA_SCRAPY = "scrapy"
"""Instead of a proxy: Scrapy's downloader asks."""


class NamedRule(NamedTuple):
    """A rule and whom it is for: a host's name, such as ``files.example`` or ``*.gov``, with or without ``:port``."""

    pattern: str
    rule: HostRule

    def fits(self, host: str) -> bool:
        """Whether it is for ``host``, as limits know it: ``name:port``."""
        return fits(self.pattern, host)


def fits(pattern: str, host: str) -> bool:
    """Whether a pattern, with or without ``:port``, is for ``host``, as limits know it: ``name:port``."""
    return fnmatchcase(host if ":" in pattern else host.rpartition(":")[0], pattern)


class HostRules:
    """The rules of a process. The first that fits a host and says something of a limit decides on it. Thread-safe."""

    def __init__(self, rules: Sequence[NamedRule] = ()) -> None:
        self._settings = self._rules = tuple(rules)
        self._known: OrderedDict[str, HostRule] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def limit_rates(self) -> bool:
        """Whether there is a limit in bytes per second for any host."""
        return any(named.rule.rate for named in self._rules)

    @property
    def name_scrapy(self) -> bool:
        """Whether Scrapy's downloader is to ask any host."""
        return any(named.rule.via == VIA_SCRAPY for named in self._rules)

    def put_first(self, rules: Sequence[NamedRule]) -> None:
        """Have other rules hold before those of the settings, in place of others put there before."""
        with self._lock:
            self._rules = (*rules, *self._settings)
            self._known.clear()

    def of(self, host: str) -> HostRule:
        """Return what holds for a host."""
        if not self._rules:
            return _NO_RULE
        if (known := self._known.get(host)) is not None:
            return known
        found = [named.rule for named in self._rules if named.fits(host)]
        rule = HostRule(
            next((one.connections for one in found if one.connections is not None), None),
            next((one.delay_s for one in found if one.delay_s is not None), None),
            next((one.rate for one in found if one.rate is not None), None),
            next((one.via for one in found if one.via is not None), None),
        )
        with self._lock:
            self._known[host] = rule
            if len(self._known) > _HOSTS_REMEMBERED:
                self._known.popitem(last=False)
        return rule
