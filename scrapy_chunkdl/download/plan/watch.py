"""Two things to watch in the bytes of a ranged fetch: whether they are still of the same file, and still fast.

Knows bytes and times; nothing of sources or connections.
"""

from __future__ import annotations

from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.errors import SourceChanged

_WINDOW = 0.25
_SLOWER = 8.0
_FASTER = 4.0
_TRIAL = 2.0
_MOST_IN_VAIN = 2


class Look:
    """The bytes in place before a span, which an answer begins with once more: they have to be the same.

    It finds a server that goes on sending the old ETag and date with new bytes (Tomcat for 5 s, Tornado for its life).
    """

    def __init__(self, part: PartFile, position: int, size: int, url: str) -> None:
        self._bytes = part.read(position - size, size)
        self._url = url

    def compare(self, data: bytes | memoryview, before: int) -> None:
        """Raise SourceChanged unless ``data``, which begins ``before`` bytes before the span, is what is in place."""
        have = self._bytes
        at = len(have) - before  # of the first byte of data within what is in place
        theirs = data[: max(0, before)]
        if at < 0:
            theirs, at = theirs[-at:], 0
        if bytes(theirs) != have[at : at + len(theirs)]:
            raise SourceChanged(f"{self._url} sends other bytes under the same validators", status=206)


class Slowing:
    """Whether the whole file has become much slower than it was, and answers asked for anew are fast again.

    Some servers send the first megabyte of each answer at full speed and the rest at the speed of a film. A line that
    all connections share is as fast together as one was alone, so it is the sum that is measured. New requests are a
    trial: where the sum did not become much faster by two of these, there are no more. Times are monotonic.
    """

    def __init__(self) -> None:
        self.due = 0.0
        self.found_at = float("-inf")
        self._from = 0
        self._at = 0.0
        self._best = 0.0
        self._slow: float | None = None
        self._in_vain = 0

    def measure(self, done: int, now: float) -> None:
        """Note how many bytes are in place, each quarter of a second at least."""
        rate = (done - self._from) / (now - self._at) if self._at else 0.0
        self._from, self._at, self.due = done, now, now + _WINDOW
        self._best = max(self._best, rate)
        if self._in_vain >= _MOST_IN_VAIN or not rate:
            return
        if self._slow is not None and rate > _FASTER * self._slow:
            self._slow, self._in_vain = None, 0
        elif self._slow is not None and now - self.found_at > _TRIAL:
            self._slow, self._in_vain = None, self._in_vain + 1
        elif self._slow is None and rate < self._best / _SLOWER:
            self._slow, self.found_at = rate, now
