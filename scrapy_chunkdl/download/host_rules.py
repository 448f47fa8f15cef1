"""Limits of single hosts, by name or pattern: what holds there instead of what holds everywhere. Pure.

Knows names of hosts and numbers; nothing of settings or of who keeps to them.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

_HOSTS_REMEMBERED = 4096
_IN_BRACKETS = re.compile(r"\[([^\]]*:[^\]]*)\](?::(.+))?")


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
    """Whether a pattern, with or without ``:port``, is for ``host``, as limits know it: ``name:port``.

    As in URLs, case and a dot at the end make no difference, names may have other letters than those of ASCII, and an
    IPv6 address stands in brackets where a port follows. ``host`` itself fits as well.
    """
    if pattern == host:
        return True
    name, port = _read(pattern)
    of_host, _, port_of_host = host.rpartition(":")
    return (port is None or fnmatchcase(port_of_host, port)) and fnmatchcase(of_host.rstrip("."), name)


@lru_cache(maxsize=_HOSTS_REMEMBERED)
def _read(pattern: str) -> tuple[str, str | None]:
    """Return the name, or address, and the port of a pattern, as they are in the names that limits know hosts by."""
    pattern = pattern.strip().lower()
    if (bracketed := _IN_BRACKETS.fullmatch(pattern)) is not None:
        return _address(bracketed[1]), bracketed[2]
    if pattern.count(":") > 1:
        return _address(pattern), None
    name, _, port = pattern.partition(":")
    return ".".join(_label(label) for label in name.rstrip(".").split(".")), port or None


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:  # with a * perhaps
        return text


def _label(label: str) -> str:
    try:
        return label if label.isascii() else label.encode("idna").decode("ascii")
    except UnicodeError:
        return label


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
