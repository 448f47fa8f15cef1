"""What is known of hosts, of as many as are worth their memory. Knows not what that is; called with locks held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

HOSTS_REMEMBERED = 4096

V = TypeVar("V")


class Remembered(OrderedDict[str, V]):
    """A record of each host, made by ``make`` when the host is first noted; the longest known makes room."""

    def __init__(self, make: Callable[[], V]) -> None:
        super().__init__()
        self._make = make

    def of(self, host: str) -> V:
        """Return the record of a host, a new one if there is none."""
        if (known := self.get(host)) is None:
            known = self[host] = self._make()
            if len(self) > HOSTS_REMEMBERED:
                self.popitem(last=False)
        return known
