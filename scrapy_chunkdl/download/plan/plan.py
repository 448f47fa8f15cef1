"""The plan of a file: which bytes are done, running and missing, and who fetches what next. Pure; time is passed in.

A chunk is the unit of the plan. One request, a *span*, may run over several adjacent missing chunks: a request for
each chunk would pay the latency of its first byte each time. The missing chunks are first split evenly over the
connections. A connection that finds nothing missing takes over the tail of the span expected to end last, so much that
both end together, judged by the rates measured on this very file: of one about as fast as its peers half, of a much
slower one nearly all, and nothing where that would not gain more than asking costs. Of a span that is silent, where its
peers are not that slow to answer, everything is taken; and what was taken that way may be silent twice as long
before it is taken again, so that a pause of the whole network is not met with ever more requests. Bytes are never
fetched twice but for those already under way to the connection that lost them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from scrapy_chunkdl.download.plan.ranges import Range, Ranges

_WINDOW = 0.25
_SILENT = 0.5
_SILENT_LATENCIES = 3.0
_LEAST_GAIN = 0.05
_LEAST_PIECE = 1 << 16
_REMEMBERED = 64


@dataclass(slots=True, eq=False)
class Span:
    """Bytes one connection is fetching: ``[start, stop)``, of which everything before ``position`` is in place.

    ``stop`` may shrink while it runs. ``silences`` counts the silent connections these bytes were taken from,
    ``tries`` the requests for them; ``taken_over`` whether another connection had them. Times are in seconds of the
    caller's clock.
    """

    start: int
    stop: int
    position: int = field(init=False)
    safe: int = field(init=False)
    asked_at: float = 0.0
    first_byte_at: float | None = None
    silences: int = 0
    tries: int = 0
    taken_over: bool = False
    _last_at: float = 0.0
    _window_at: float = 0.0
    _window_from: int = 0
    _rate: float = 0.0

    def __post_init__(self) -> None:
        self.position = self.safe = self.start

    @property
    def remaining(self) -> int:
        """Bytes still to come."""
        return self.stop - self.position

    def asked(self, now: float) -> None:
        """Note that a request for the rest went out."""
        self.asked_at, self.first_byte_at, self._rate = now, None, 0.0
        self.tries += 1

    def arrived(self, size: int, now: float) -> None:
        """Note that ``size`` more bytes are in place."""
        if self.first_byte_at is None:
            self.first_byte_at = self._window_at = now
            self._window_from = self.position
        self.position += size
        self._last_at = now
        if now - self._window_at >= _WINDOW:
            self._rate = (self.position - self._window_from) / (now - self._window_at)
            self._window_at, self._window_from = now, self.position

    def mean_rate(self) -> float:
        """Return the bytes per second between its first byte and its last; 0 where that is no time to measure."""
        elapsed = self._last_at - self.first_byte_at if self.first_byte_at is not None else 0.0
        return (self.position - self.start) / elapsed if elapsed > 0 else 0.0

    def silent_for(self, now: float) -> float:
        """Return the seconds since the last byte, or since a request went out that none has answered yet."""
        return now - (self.asked_at if self.first_byte_at is None else self._last_at)

    def rate(self, now: float) -> float:
        """Return the bytes per second of late; it sinks while nothing comes."""
        if self.first_byte_at is None:
            return 0.0
        elapsed = now - self._window_at
        if elapsed >= _WINDOW or not self._rate:
            return (self.position - self._window_from) / max(elapsed, 1e-3)
        return self._rate


class Plan:
    """The bytes of one file of known size."""

    def __init__(self, size: int, chunk_size: int, done: Iterable[Range] = ()) -> None:
        self.size = size
        self.chunk_size = chunk_size
        self.done = Ranges(done)
        self.running: set[Span] = set()
        self._missing = list(self.done.missing(0, size))
        self._unsafe: list[Range] = []
        self._share = 0
        self._latencies: list[float] = []
        self._rates: list[float] = []

    @property
    def is_complete(self) -> bool:
        """Whether every byte is in place."""
        return self.done.total + sum(span.position - span.start for span in self.running) >= self.size

    def connections_worth(self, most: int) -> int:
        """Return how many connections have a chunk to fetch, at most ``most``; splits what is missing over them."""
        missing = sum(stop - start for start, stop in self._missing)
        chunks = (missing + self.chunk_size // 2) // self.chunk_size  # a short tail goes with its neighbour
        connections = max(1, min(most, chunks))
        self._share = max(1, -(-chunks // connections)) * self.chunk_size
        return connections

    def take(self, *, whole: bool = False) -> Span | None:
        """Return the next missing span and count it as running, or None if nothing is missing.

        It is as long as a connection's share, or, if ``whole``, all that is missing in one piece there.
        """
        if not self._missing:
            return None
        start, stop = self._missing.pop(0)
        end = (start + self._share) // self.chunk_size * self.chunk_size
        if not whole and start < end and stop - end >= self.chunk_size // 2:
            self._missing.insert(0, (end, stop))
            stop = end
        span = Span(start, stop)
        self.running.add(span)
        return span

    def take_over(self, now: float, idle: int = 1, queue: float = 0.0) -> tuple[Span, Span] | None:
        """Cut the tail off the running span that would end last; return it and the span it was cut off.

        Of a long tail only a piece is returned: the others are missing then, for the ``idle`` connections, this one
        included, that have nothing else to do. None if that would gain too little. ``queue`` is how many seconds a
        connection waits for its turn under a limit in bytes per second, which is no silence of its peer: once for the
        headers, once for the body. See the module's docstring for the rule.
        """
        latency, usual = self._usual(now)
        if not usual:
            return None
        asked = [span for span in self.running if span.asked_at and span.remaining > 0]
        turns = 2 * queue
        victim = max(asked, key=lambda span: self._time_left(span, now, latency, usual, turns), default=None)
        if victim is None:
            return None
        left = self._time_left(victim, now, latency, usual, turns)
        is_silent = left == float("inf")
        answered = victim.first_byte_at is not None
        rate = 0.0 if is_silent else self._rate_of(victim, now, usual, turns)
        waits = 0.0 if answered else max(0.0, latency - victim.silent_for(now))
        takers = min(idle, int(victim.remaining / max(_LEAST_PIECE, 2 * latency * usual))) or 1
        together = takers * usual
        keeps = int(rate * (latency - waits + victim.remaining / together) / (1 + rate / together))
        keeps = min(keeps, victim.remaining)
        then = latency + (victim.remaining - keeps) / together
        if left - then < max(_LEAST_GAIN, 2 * latency) or then > 0.75 * left:
            return None
        start, stop = victim.position + keeps, victim.stop
        piece = -(-(stop - start) // takers)
        span = Span(start, min(start + piece, stop), silences=victim.silences + is_silent, taken_over=True)
        self._missing += [(at, min(at + piece, stop)) for at in range(span.stop, stop, piece)]
        victim.stop = start
        self.running.add(span)
        return span, victim

    def half_of(self, span: Span) -> Span | None:
        """Return the second half of a running span, from a chunk on, as it might be cut off; None for one too short."""
        start = -(-(span.position + span.stop) // 2 // self.chunk_size) * self.chunk_size
        return Span(start, span.stop) if span.position < start < span.stop else None

    def cut_off(self, half: Span, span: Span) -> bool:
        """Cut a half off a running span, and have it run; False where the span has passed its beginning by now."""
        if span not in self.running or span.position >= half.start or span.stop != half.stop:
            return False
        span.stop = half.start
        self.running.add(half)
        return True

    def cut(self, span: Span) -> None:
        """Have a running span end with the chunk it is at; the rest is missing again."""
        stop = min(span.stop, -(-span.position // self.chunk_size) * self.chunk_size)
        if stop < span.stop:
            self._missing.append((stop, span.stop))
            span.stop = stop

    def give_up_rest(self, span: Span) -> None:
        """Have a running span end where it is; the rest is missing again."""
        if span.position < span.stop:
            self._missing.append((span.position, span.stop))
            span.stop = span.position

    def settle(self, span: Span) -> None:
        """Count what a span has as done and what it has not as missing. It runs no more."""
        self.running.discard(span)
        self.done.add(span.start, span.position)
        if span.remaining > 0:
            self._missing.append((span.position, span.stop))
        if span.position > span.safe:
            self._unsafe.append((span.safe, span.position))
        self._note(span)

    @property
    def chunks(self) -> int:
        """Return how many chunks the file has."""
        return -(-self.size // self.chunk_size)

    def cells(self, most: int) -> str:
        """Draw the file in at most ``most`` cells, a letter each; called from any thread.

        d done, r being fetched, h the same over from another connection, t tried again, m missing. A cell over several
        chunks shows the last of these that one of them is, in the order d, m, r, t, h.
        """
        number = max(1, min(most, self.chunks))
        width = -(-self.size // number) or 1
        cells = bytearray(b"m" * number)
        for start, stop in self.in_place():
            first, last = -(-start // width), number if stop >= self.size else stop // width
            cells[first:last] = b"d" * max(0, last - first)
        for letter, spans in self._being_fetched():
            for position in spans:
                cells[min(number - 1, position // width)] = letter
        return cells.decode("ascii")

    def in_place(self) -> Ranges:
        """Return what is done as a whole; pieces that adjoin are one."""
        done = Ranges()
        for start, stop in [*self.done.seen(), *((span.start, span.position) for span in tuple(self.running))]:
            done.add(start, stop)
        return done

    def _being_fetched(self) -> Iterable[tuple[int, list[int]]]:
        kinds: dict[int, list[int]] = {letter: [] for letter in b"rth"}
        for span in tuple(self.running):
            if span.remaining > 0:
                kinds[b"h"[0] if span.taken_over else b"t"[0] if span.tries > 1 else b"r"[0]].append(span.position)
        return kinds.items()

    def newly_in_place(self) -> list[Range]:
        """Return the ranges that came into place since the last call: the caller makes them safe."""
        fresh, self._unsafe = self._unsafe, []
        for span in self.running:
            if span.position > span.safe:
                fresh.append((span.safe, span.position))
                span.safe = span.position
        return fresh

    def _note(self, span: Span) -> None:
        if span.first_byte_at is not None:
            self._latencies = [*self._latencies[-_REMEMBERED:], span.first_byte_at - span.asked_at]
        if rate := span.mean_rate():
            self._rates = [*self._rates[-_REMEMBERED:], rate]

    def _usual(self, now: float) -> tuple[float, float]:
        """Return the usual latency in seconds and the usual rate in bytes per second, as measured on this file."""
        begun = [span.first_byte_at - span.asked_at for span in self.running if span.first_byte_at is not None]
        latencies = self._latencies + begun
        rates = self._rates + [rate for span in self.running if (rate := span.rate(now)) > 0]
        if not latencies or not rates:
            return 0.0, 0.0
        return median(latencies), median(rates)

    def _time_left(self, span: Span, now: float, latency: float, usual: float, turns: float) -> float:
        """Return the seconds until a span is expected to end; for ever, if it is silent."""
        silence = span.silent_for(now)
        if silence > max(_SILENT, _SILENT_LATENCIES * latency) * 2.0**span.silences + turns:
            return float("inf")
        if span.first_byte_at is None:
            return max(0.0, latency - silence) + span.remaining / usual
        rate = self._rate_of(span, now, usual, turns)
        return span.remaining / rate if rate > 0 else float("inf")

    def _rate_of(self, span: Span, now: float, usual: float, turns: float) -> float:
        waits = span.first_byte_at is None or span.silent_for(now) < turns
        return usual if waits else span.rate(now)
