"""Which file has its turn: queues by host, so that a slow host does not keep those that come later waiting.

When more files wait than may run, the host with the fewest running files is served first, and a quarter of the places
is not for the one host that has all the others. Knows hosts and order; nothing of threads. Under the bridge's lock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from scrapy_chunkdl.bridge.run import Run


class Turns:
    """What waits, by host, and how many files of each host run. ``most`` files may run in all, ``of_host`` of one."""

    def __init__(self, most: int, of_host: int) -> None:
        self._most = most
        self._of_host = of_host
        self._waiting: OrderedDict[str, deque[Run]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._running_count = 0

    @property
    def waiting(self) -> int:
        """How many files wait."""
        return sum(map(len, self._waiting.values()))

    def queue(self, run: Run) -> None:
        """Have a file wait."""
        self._waiting.setdefault(run.host, deque()).append(run)

    def take(self) -> Run | None:
        """Return the file whose turn it is, and count it as running; None if none may begin now."""
        if not self._waiting or self._running_count >= self._most:
            return None
        host = min(self._waiting, key=lambda name: self._running.get(name, 0))
        if self._running.get(host, 0) >= self._of_host:
            return None
        run = self._waiting[host][0]
        self.remove(run)
        if host in self._waiting:
            self._waiting.move_to_end(host)
        self._running[host] = self._running.get(host, 0) + 1
        self._running_count += 1
        return run

    def remove(self, run: Run) -> None:
        """Have a file that waits wait no more."""
        queue = self._waiting[run.host]
        queue.remove(run)
        if not queue:
            del self._waiting[run.host]

    def ended(self, run: Run) -> None:
        """Count a file as running no more."""
        self._running_count -= 1
        if (count := self._running[run.host] - 1) > 0:
            self._running[run.host] = count
        else:
            del self._running[run.host]
