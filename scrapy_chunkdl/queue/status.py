"""What a queue and its processes look like at one moment: the numbers people see, wherever they look.

A process tells of itself in a :class:`Report`, which it writes into Redis now and then; :func:`look` joins the reports
of all with what the queue itself knows. Knows numbers and JSON; nothing of who counts what, or of how it is shown.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.cluster import RedisCluster

from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.control import Wishes
from scrapy_chunkdl.queue.forecast import forecast
from scrapy_chunkdl.queue.heartbeat import REPORT_EVERY
from scrapy_chunkdl.queue.host_health import HostHealth, Illness
from scrapy_chunkdl.queue.item_queue import ItemQueue, parked_under
from scrapy_chunkdl.queue.snapshot import Counts, Lease, Reported, Snapshot, read_snapshot
from scrapy_chunkdl.queue.totals import Counted, Totals

WINDOWS = (1, 5, 15)
"""Minutes over which throughput is told."""

MOST_ILL_HOSTS = 200
"""Ill hosts that are told of, for each queue."""

SILENT_AFTER = 3 * REPORT_EVERY
"""Seconds without a report after which a process is taken for dead: long before its leases end."""

_MOST_SENTENCES = 8
_MINUTE = 60.0
_MINUTES = 61  # an hour's whole ones, and the one that has just begun


@dataclass(frozen=True, slots=True)
class Pace:
    """Items finished and bytes fetched, minute by minute, the newest first. That one is ``age`` seconds old.

    ``connections`` is the most of them that were seen in each minute.
    """

    age: float = 0.0
    items: tuple[int, ...] = ()
    bytes: tuple[int, ...] = ()
    connections: tuple[int, ...] = ()

    def within(self, seconds: float) -> tuple[float, float]:
        """Return the items and bytes of the last ``seconds``. Of a minute that began before, its part is taken."""
        return _within(self.items, self.age, seconds), _within(self.bytes, self.age, seconds)


def _within(counts: Sequence[int], age: float, seconds: float) -> float:
    whole = int(max(0.0, seconds - age) // _MINUTE) + (seconds >= age)
    begun = seconds - age - (whole - 1) * _MINUTE if whole else seconds
    part = begun / (_MINUTE if whole else age) if begun > 0 else 0.0
    return sum(counts[:whole]) + part * (counts[whole] if whole < len(counts) else 0)


class PaceMeter:
    """Makes a :class:`Pace` of totals that only grow. Keeps the last hour."""

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._minutes: deque[tuple[int, int, int]] = deque([(0, 0, 0)], maxlen=_MINUTES)
        self._totals = (0, 0)

    def note(self, items: int, size: int, connections: int, now: float) -> Pace:
        """Count what came since the last call towards the minute of ``now``, in seconds of any clock."""
        for _ in range(min(_MINUTES, int((now - self._began_at) // _MINUTE))):
            self._minutes.appendleft((0, 0, 0))
        age = (now - self._began_at) % _MINUTE
        self._began_at = now - age
        before_items, before_size, before_connections = self._minutes[0]
        new_items, new_size = max(0, items - self._totals[0]), max(0, size - self._totals[1])
        self._minutes[0] = (before_items + new_items, before_size + new_size, max(before_connections, connections))
        self._totals = (items, size)
        return Pace(age, *zip(*self._minutes, strict=True))


@dataclass(frozen=True, slots=True)
class Report:
    """What a process tells of itself. ``state`` is ``claiming``, ``paused`` or ``closing``.

    ``files`` counts those that run, ``connections`` those that are open for them; ``disk_free`` and ``disk_size`` are
    bytes where files grow. ``waits`` says why it claims less than it could, a sentence each. What a report tells in a
    way that nobody understands is None.
    """

    host: str | None
    pid: int | None
    version: str | None
    state: str | None
    files: int | None
    connections: int | None
    pace: Pace
    disk_free: int | None = None
    disk_size: int | None = None
    waits: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the report as JSON."""
        minutes = {name: _trimmed(getattr(self.pace, name)) for name in ("items", "bytes", "connections")}
        pace = {"age": round(self.pace.age, 1), **minutes}
        return json.dumps({**asdict(self), "pace": pace}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Report:
        """Read what :meth:`encode` wrote. Raises ValueError for what is something else altogether."""
        told = untrusted.fields(untrusted.parsed(raw), _REPORT)
        if told["pace"] is None:
            raise ValueError("no report of this version")
        return cls(**told)


def _pace(value: object) -> Pace | None:
    if not isinstance(value, dict):
        return None
    minutes = (_counts(value.get(name)) for name in ("items", "bytes", "connections"))
    return Pace(max(0.0, untrusted.number(value.get("age")) or 0.0), *minutes)


def _counts(value: object) -> tuple[int, ...]:
    return tuple(untrusted.count(one) or 0 for one in value[:_MINUTES]) if isinstance(value, list) else ()


def _sentences(value: object) -> tuple[str, ...]:
    some = value[:_MOST_SENTENCES] if isinstance(value, list) else []
    return tuple(untrusted.text(one) or "" for one in some)


_REPORT = {
    **dict.fromkeys(("host", "version", "state"), untrusted.text),
    **dict.fromkeys(("pid", "files", "connections", "disk_free", "disk_size"), untrusted.count),
    "pace": _pace,
    "waits": _sentences,
}


def _trimmed(counts: Sequence[int]) -> list[int]:
    end = next((n for n in range(len(counts), 0, -1) if counts[n - 1]), 0)
    return list(counts[:end])


@dataclass(frozen=True, slots=True)
class Worker:
    """A process: what it holds, by the queue, and what it last told, if it did. Times are in seconds.

    ``state`` is its own, ``unknown`` when nobody understands what it tells, or ``silent`` when it has told nothing for
    :data:`SILENT_AFTER` or never did. ``paused`` is what was asked of this one alone.
    """

    id: str
    host: str
    pid: int | None
    version: str | None
    state: str
    items: int
    longest_held: float | None
    files: int | None
    connections: int | None
    up_for: float | None
    silent_for: float | None
    paused: bool
    disk_free: int | None
    disk_size: int | None
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rate:
    """A throughput."""

    items_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Minute:
    """What came in a minute that began ``age`` seconds ago, and the most connections there were at once."""

    age: float
    items_per_second: float
    bytes_per_second: float
    connections: int


DONE: Mapping[str, tuple[str, ...]] = {
    "items": ("items/finished",),
    "files": ("files/downloaded", "files/uptodate"),
    "given_up": ("files/failed",),
    "bytes": ("received",),
}
"""What is told of all that was done, and the counts it adds up."""


_DONE_NAMES = tuple(name for names in DONE.values() for name in names)

AT_ONCE = 50
"""Queues asked about in one round trip: what is sent and answered stays below a megabyte."""


@dataclass(frozen=True, slots=True)
class Status:
    """A queue at one moment.

    ``throughput`` is that of the processes there are, by :data:`WINDOWS` in minutes; ``told`` what each of them said of
    itself. ``paused`` and ``max_rate`` are what was asked of all: see :mod:`.control`. ``counted`` is
    what was done by all processes so far, see :mod:`.totals`. ``ill_hosts`` are left alone by all processes on this
    Redis, the longest ill first, see :mod:`.host_health`; items here are parked for ``waits_for``. ``lists`` tells how
    many items wait in each list.
    """

    key: str
    counts: Counts
    workers: tuple[Worker, ...]
    throughput: Mapping[int, Rate]
    told: tuple[tuple[Reported, Report | None], ...]
    paused: bool
    max_rate: float | None
    counted: Counted
    ill_hosts: tuple[Illness, ...] = ()
    waits_for: tuple[Illness, ...] = ()
    lists: Mapping[str, int] = field(default_factory=dict)

    @property
    def minutes(self) -> tuple[Minute, ...]:
        """The last hour of the throughput, the oldest minute first."""
        return _last_hour(self.told)

    @property
    def backlog(self) -> int:
        """Items that are still to be done: waiting, leased, delayed and parked."""
        return self.counts.waiting + self.counts.leased + self.counts.delayed + self.counts.parked

    def running(self, what: str) -> int:
        """Return how many ``files`` or ``connections`` the processes that live have."""
        return sum(getattr(worker, what) or 0 for worker in self.workers if worker.state != "silent")

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        expected = forecast(self.backlog, (rate.items_per_second for rate in self.throughput.values()))
        return {
            "key": self.key,
            **asdict(self.counts),
            **({"lists": dict(self.lists)} if len(self.lists) > 1 else {}),
            "backlog": self.backlog,
            "done": {
                name: int(sum(self.counted.counts.get(count, 0) for count in counts)) for name, counts in DONE.items()
            },
            "oldest_waits": self.counted.oldest_waits,
            "empty_in": _rounded(asdict(expected)) if expected is not None else None,
            "paused": self.paused,
            "max_rate": self.max_rate,
            "files": self.running("files"),
            "connections": self.running("connections"),
            "throughput": {
                f"{minutes}m": {name: round(value, 3) for name, value in asdict(rate).items()}
                for minutes, rate in self.throughput.items()
            },
            "workers": [_rounded(asdict(worker)) for worker in self.workers],
            "ill_hosts": [
                {**_rounded(asdict(ill)), "sentence": ill.sentence()} for ill in self.waits_for[:MOST_ILL_HOSTS]
            ],
        }


def _rounded(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}


def look(queue: ItemQueue, *, every_count: bool = False) -> Status:
    """Return how a queue is, with the counts of :data:`DONE`, or all of them. Raises as ItemQueue's methods do."""
    return look_at_all([queue], every_count=every_count)[0]


def look_at_all(queues: Sequence[ItemQueue], *, every_count: bool = False) -> list[Status]:
    """Look at many queues, in few round trips where several are on one server. Raises as ItemQueue's methods do."""
    names = () if every_count else _DONE_NAMES
    found: dict[int, Status] = {}
    by_client: dict[int, list[int]] = {}
    for number, queue in enumerate(queues):
        by_client.setdefault(id(queue.client), []).append(number)
    for numbers in by_client.values():
        first = queues[numbers[0]]
        ill = tuple(sorted(HostHealth(first.client, first.token).look().values(), key=lambda one: -one.since_s))
        for start in range(0, len(numbers), AT_ONCE):
            some = numbers[start : start + AT_ONCE]
            answers = _asked([queues[number] for number in some], names)
            for number, (snapshot, counted) in zip(some, answers, strict=True):
                found[number] = _status(queues[number].key, snapshot, counted, ill)
    return [found[number] for number in range(len(queues))]


def _asked(queues: Sequence[ItemQueue], names: Sequence[str]) -> list[tuple[Snapshot, Counted]]:
    totals = [Totals(queue.client, queue.key, above=queue.above) for queue in queues]
    client = queues[0].client
    if len(queues) == 1 or isinstance(client, RedisCluster):  # which takes no scripts in pipelines
        return [(queue.snapshot(), total.read(names)) for queue, total in zip(queues, totals, strict=True)]
    pipe = client.pipeline(transaction=False)
    for queue, total in zip(queues, totals, strict=True):
        queue.ask_snapshot(pipe)
        total.ask(names, pipe)
    answers = pipe.execute()
    return [
        (read_snapshot(snapshot, queue.lists), total.read_answer(counted))
        for queue, total, snapshot, counted in zip(queues, totals, answers[::2], answers[1::2], strict=True)
    ]


def _status(key: str, snapshot: Snapshot, counted: Counted, ill: tuple[Illness, ...]) -> Status:
    told = {process.token: (process, _report_of(process)) for process in snapshot.reported}
    held: dict[str, list[Lease]] = {}
    for lease in snapshot.leases:
        held.setdefault(lease.owner, []).append(lease)
    tokens = dict.fromkeys([*told, *held])
    wishes, parked = Wishes.of(snapshot.wishes), frozenset(snapshot.parked_hosts)
    workers = tuple(
        _worker(token, held.get(token, []), *told.get(token, (None, None)), paused=token in wishes.paused_workers)
        for token in tokens
    )
    return Status(
        key,
        snapshot.counts,
        workers,
        _throughput([*told.values()]),
        tuple(told.values()),
        wishes.paused,
        wishes.max_rate,
        counted,
        ill,
        tuple(one for one in ill if parked_under(one.host) in parked) if parked else (),
        snapshot.lists,
    )


def _report_of(process: Reported) -> Report | None:
    try:
        return Report.decode(process.report)
    except ValueError:
        return None


def _worker(
    token: str, leases: Sequence[Lease], told: Reported | None, report: Report | None, *, paused: bool
) -> Worker:
    host, _, pid = token.rpartition(":")[0].rpartition(":")  # as new_token makes it
    silent = told is None or told.silent_for > SILENT_AFTER
    return Worker(
        id=token,
        host=(report.host if report else None) or host or token,
        pid=(report.pid if report else None) or (int(pid) if pid.isdecimal() and len(pid) < 10 else None),
        version=report.version if report else None,
        state="silent" if silent or report is None else report.state or "unknown",
        items=len(leases),
        longest_held=max((lease.held_for for lease in leases), default=None),
        files=report.files if report else None,
        connections=report.connections if report else None,
        up_for=told.up_for if told else None,
        silent_for=told.silent_for if told else None,
        paused=paused,
        disk_free=report.disk_free if report else None,
        disk_size=report.disk_size if report else None,
        waits=report.waits if report and not silent else (),
    )


def _throughput(told: Sequence[tuple[Reported, Report | None]]) -> dict[int, Rate]:
    """Add up what came in each window. What came before the oldest process was there is not known, nor divided by."""
    longest = max((process.up_for for process, _ in told), default=0.0)
    rates = {}
    for minutes in WINDOWS:
        items = size = 0.0
        for process, report in told:
            if report is None:
                continue
            quiet = max(0.0, process.silent_for - SILENT_AFTER)  # one that lives is as fast as it last said
            more_items, more_size = report.pace.within(minutes * _MINUTE - quiet)
            items, size = items + more_items, size + more_size
        seconds = max(1.0, min(minutes * _MINUTE, longest))
        rates[minutes] = Rate(items / seconds, size / seconds)
    return rates


def _last_hour(told: Sequence[tuple[Reported, Report | None]]) -> tuple[Minute, ...]:
    """Add up the last hour of all processes in minutes counted back from now, the oldest first."""
    longest = max((process.up_for for process, _ in told), default=0.0)
    number = min(60, int(longest // _MINUTE) + 1) if told else 0
    items, size, connections = [0.0] * number, [0.0] * number, [0] * number
    for process, report in told:
        if report is None:
            continue
        pace, silent = report.pace, max(0.0, process.silent_for - SILENT_AFTER)  # as for the throughput
        for minute in range(number):
            end, begin = minute * _MINUTE - silent, (minute + 1) * _MINUTE - silent
            if begin <= 0:
                continue
            now, before = pace.within(end), pace.within(begin)
            items[minute] += before[0] - now[0]
            size[minute] += before[1] - now[1]
            first, last = (max(0, int((seconds - pace.age) // _MINUTE) + 1) for seconds in (end, begin - 1))
            connections[minute] += max(pace.connections[first : last + 1], default=0)
    return tuple(
        Minute((minute + 1) * _MINUTE, items[minute] / _MINUTE, size[minute] / _MINUTE, connections[minute])
        for minute in range(number - 1, -1, -1)
    )
