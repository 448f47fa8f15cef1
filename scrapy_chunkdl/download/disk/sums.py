"""Checksums of a file that is being written, made of the bytes as they pass, so that they need not be read again.

A CRC is computed of each run of bytes by itself, and put together at the end, in whatever order they came. A hash has
to see the bytes in order: it goes on where those written continue it, and reads the rest. What was written by an
earlier run has to be read once. So have pieces with hashes of their own. Knows offsets and bytes; neither files nor
where the bytes come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from scrapy_chunkdl.download.disk.checksum import CRCS, Hash, crc_hex, crc_model, new_hash
from scrapy_chunkdl.download.model import Pieces
from scrapy_chunkdl.download.plan.ranges import Range, Ranges


@dataclass(slots=True, eq=False)
class _Run:
    """Bytes that were written one after another, and their CRCs."""

    start: int
    stop: int
    crcs: dict[str, int]


@dataclass(slots=True)
class _InOrder:
    """Hashes of a file's first bytes; ``stop`` is up to where."""

    hashes: dict[str, Hash] = field(default_factory=dict)
    stop: int = 0

    def begin(self, algorithms: Iterable[str]) -> None:
        self.hashes, self.stop = {name: new_hash(name) for name in algorithms}, 0

    def update(self, data: bytes | memoryview) -> None:
        for one in self.hashes.values():
            one.update(data)
        self.stop += len(data)


class Sums:
    """The checksums of one file. :meth:`wrote` is told all that is written; it may be on an event loop.

    A hash takes 0.7 ns a byte (SHA-256) to 1.6 ns (MD5), as it would behind the last byte.
    """

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}
        self._runs: set[_Run] = set()
        self._there = Ranges()
        self._ends: dict[int, _Run] = {}
        self._in_order = _InOrder()
        self._pieces: PieceSums | None = None

    def want(self, algorithms: Collection[str], pieces: Pieces | None = None) -> None:
        """Compute these, too; what was written until now has to be read for them."""
        crcs = (CRCS.keys() & set(algorithms)) - self._models.keys()
        hashes = set(algorithms) - CRCS.keys() - self._in_order.hashes.keys()
        if crcs or hashes:
            self._models |= {name: crc_model(name) for name in crcs}
            self._in_order.begin([*self._in_order.hashes, *hashes])
            self.forget()
        if pieces is not None and self._pieces is None:
            self._pieces = PieceSums(pieces)

    def forget(self) -> None:
        """Forget all bytes, as the file was emptied."""
        self._runs.clear()
        self._there = Ranges()
        self._ends.clear()
        self._in_order.begin(self._in_order.hashes)
        if self._pieces is not None:
            self._pieces.forget()

    def wrote(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Go on with bytes that were written at ``offset``, again perhaps."""
        view = memoryview(data)
        if self._in_order.hashes:
            if offset < self._in_order.stop:
                self._in_order.begin(self._in_order.hashes)
            if offset == self._in_order.stop:
                self._in_order.update(view)
        if self._models:
            self._take(offset, view)
        if self._pieces is not None:
            self._pieces.take(offset, view)

    def _take(self, offset: int, data: memoryview) -> None:
        size = len(data)
        if self._there.add(offset, offset + size) != size:
            self._drop(offset, offset + size)
        run = self._ends.pop(offset, None)
        if run is None:
            run = _Run(offset, offset, dict.fromkeys(self._models, 0))
            self._runs.add(run)
        for name, model in self._models.items():
            run.crcs[name] = model.calc(data, run.crcs[name])
        run.stop += size
        self._ends[run.stop] = run

    def _drop(self, start: int, stop: int) -> None:
        """Forget the runs that have bytes which are written again: what else they have is to be read."""
        self._runs = {run for run in self._runs if run.stop <= start or run.start >= stop}
        self._ends = {run.stop: run for run in self._runs}
        self._there = Ranges((run.start, run.stop) for run in self._runs)
        self._there.add(start, stop)

    # --- at the end

    def at_hand(self, size: int) -> set[str]:
        """Return the algorithms for which nothing of a file of ``size`` bytes has to be read."""
        whole = {name for name in self._models if not self._gaps(size)}
        return whole | (self._in_order.hashes.keys() if self._in_order.stop >= size else set())

    def to_read(self, size: int, algorithms: Collection[str]) -> list[Range]:
        """Return what has to be read for these algorithms, in order; :meth:`was_read` is told each block of it."""
        wanted = Ranges(() if self._models.keys().isdisjoint(algorithms) else self._gaps(size))
        if not self._in_order.hashes.keys().isdisjoint(algorithms):
            wanted.add(self._in_order.stop, size)
        edges = sorted({self._in_order.stop, size, *(edge for there in self._there for edge in there), 0})
        return [(start, stop) for start, stop in pairwise(edges) if start < stop and wanted.covers(start, stop)]

    def was_read(self, offset: int, data: bytes) -> None:
        """Go on with bytes that were read: where they are new to a checksum."""
        view = memoryview(data)
        if self._in_order.hashes and offset == self._in_order.stop:
            self._in_order.update(view)
        if self._models and not self._there.covers(offset, offset + len(data)):
            self._take(offset, view)

    def digests(self, algorithms: Iterable[str]) -> dict[str, str]:
        """Return the checksums of the whole file, in hex."""
        found = {}
        for name in algorithms:
            if name in CRCS:
                model, value = self._models[name], 0
                for run in sorted(self._runs, key=lambda run: run.start):
                    value = model.combine(value, run.crcs[name], run.stop - run.start)
                found[name] = crc_hex(value, CRCS[name][1])
            else:
                found[name] = self._in_order.hashes[name].hexdigest()
        return found

    @property
    def pieces(self) -> PieceSums | None:
        """Those of the pieces."""
        return self._pieces

    def _gaps(self, size: int) -> list[Range]:
        return list(self._there.missing(0, size))


class PieceSums:
    """The hashes of a file's pieces, of those at least whose bytes came in order."""

    def __init__(self, pieces: Pieces) -> None:
        self._expected = pieces
        self._begun: dict[int, Hash] = {}
        self._found: dict[int, str] = {}

    def forget(self) -> None:
        """Forget all bytes."""
        self._begun.clear()
        self._found.clear()

    def take(self, offset: int, data: memoryview) -> None:
        """Go on with bytes at ``offset``."""
        length = self._expected.length
        while data:
            number, within = divmod(offset, length)
            piece = data[: length - within]
            self._found.pop(number, None)
            running = self._begun.pop(offset, None) if within else new_hash(self._expected.algorithm)
            if running is not None:
                running.update(piece)
                if within + len(piece) == length:
                    self._found[number] = running.hexdigest()
                else:
                    self._begun[offset + len(piece)] = running
            offset += len(piece)
            data = data[len(piece) :]

    def ended(self, size: int) -> None:
        """Note that the file has ``size`` bytes: the last piece may be a short one."""
        if size % self._expected.length and (running := self._begun.get(size)) is not None:
            self._found[size // self._expected.length] = running.hexdigest()

    def not_right(self) -> list[int]:
        """Return the numbers of the pieces that are not known to be right."""
        return [number for number, digest in enumerate(self._expected.digests) if self._found.get(number) != digest]
