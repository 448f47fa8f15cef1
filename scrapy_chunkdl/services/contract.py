"""The contract of whatever is started and stopped. ``tests/services/test_contract.py`` has all of them keep it."""

from __future__ import annotations

from typing import Protocol


class Service(Protocol):
    """Something that runs beside its caller: a thread, a pool of them, a server.

    - :meth:`start` begins, once. It raises where it cannot.
    - :meth:`stop` may be called before the start, which then does nothing any more, and any number of times.
    - After :meth:`stop` the threads and processes are gone, files, sockets and handlers are back; it returns after
      :attr:`ends_within_s` seconds even where something hangs, which then is left behind: no thread keeps a process
      alive.
    """

    ends_within_s: float
    """Seconds after which :meth:`stop` returns at the latest."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End, and give everything back."""
        ...
