"""Connections that were logged in and wait for the next file: to log in takes longer than most files.

Knows their keys and ages; nothing of protocols. Lives in one loop.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient

_LONGEST_IDLE_S = 50.0
"""Servers close what is idle after 60 s (vsftpd: 300, ProFTPD: 600, load balancers: 60)."""

_MOST_IDLE = 64

_MOST_REFUSALS = 3
"""Of a login that was taken before: accounts are locked, and addresses banned, after five (fail2ban's maxretry)."""


class Closable(Protocol):
    """A connection."""

    @property
    def is_open(self) -> bool:
        """Whether it is still good, as far as is known here."""
        ...

    def close(self) -> None:
        """End it at once."""
        ...


C = TypeVar("C", bound=Closable)


class Kept(Generic[C]):
    """Idle connections by key: whom they lead to, and as whom. The one used last is taken first."""

    def __init__(self) -> None:
        self._idle: list[tuple[float, Hashable, C]] = []
        self._made: weakref.WeakKeyDictionary[C, Hashable] = weakref.WeakKeyDictionary()
        self._refusals: dict[Hashable, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, key: Hashable) -> C | None:
        """Return an idle connection, which is the caller's from now on; None for none."""
        self._forget_old()
        for number in range(len(self._idle) - 1, -1, -1):
            if self._idle[number][1] == key:
                return self._idle.pop(number)[2]
        return None

    def made(self, key: Hashable, connection: C) -> None:
        """Note a connection that was logged in; whoever uses it has it."""
        self._made[connection] = key
        self._refusals[key] = 0

    def give(self, key: Hashable, connection: C) -> None:
        """Keep a connection for the next one who wants it."""
        self._idle.append((time.monotonic(), key, connection))
        if len(self._idle) > _MOST_IDLE:
            self._idle.pop(0)[2].close()
        if self._timer is None:
            self._look_later()

    def meaning(self, key: Hashable, error: Permanent) -> DownloadError:
        """Return what an error of logging in means, by what became of that login before: itself, or a Transient.

        Where others of the login are open, there may be no more of it. One that was taken is tried a few times more
        where none is, as a server may not have noticed yet that they ended. More often would have an account locked
        whose password was changed.
        """
        if error.reason != "login_refused":
            return error
        if any(connection.is_open for connection, whose in self._made.items() if whose == key):
            return Transient(str(error), reason="too_many_connections")
        refusals = self._refusals.get(key, _MOST_REFUSALS)
        self._refusals[key] = refusals + 1
        return Transient(str(error), reason=error.reason) if refusals < _MOST_REFUSALS else error

    def close(self) -> None:
        """End all that is idle."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.pop()[2].close()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LONGEST_IDLE_S, self._look)

    def _look(self) -> None:
        self._timer = None
        self._forget_old()
        if self._idle:
            self._look_later()

    def _forget_old(self) -> None:
        oldest = time.monotonic() - _LONGEST_IDLE_S
        for entry in [entry for entry in self._idle if entry[0] < oldest or not entry[2].is_open]:
            self._idle.remove(entry)
            entry[2].close()
