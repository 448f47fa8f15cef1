"""Every decision of a chaos run, drawn from its seed: items, files, faults, and who is hurt when.

Pure: the same seed gives the same decisions, whatever the machine does with them. What hangs on an item is drawn for
its number and delivery, what is done from outside is due after so many requests to the origin, so that neither asks
the clock. Knows nothing of processes, Redis or the package.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from origin import Origin
from origin_content import expected_sha256

KEY, DONE_KEY = "files:items", "files:done"
FEEDER = "feeder"
LEASE = 1.5
MAX_DELIVERIES = 8
CHUNK = 64 * 1024
LARGEST_REQUEST = "1mb"
"""What Redis takes of a client at once (``client-query-buffer-limit``); services refuse such requests, too."""

GROWN_BYTES = 3_000_000
WAVE = 20
"""Items pushed at once."""

KILL_POINTS = ("claimed", "downloaded", "emitted", "before the ack", "after the ack")
"""Where a process kills itself, by SIGKILL: between two steps of an item, which a shot from outside rarely hits."""

KILLERS = 150
"""One in so many items ends each process that works on it, from the first wave on."""

KILLED_DELIVERIES = 0.05
FAILED_DELIVERIES = 0.05
SLOW_DELIVERIES = 0.2

SECOND_HOST = "127.0.0.2"
"""The origin's other address, from which a quarter of the files come, and which bans."""

BANS = ("status:429", "status:503", "status:503:1", "close")
"""What it answers to all while it bans; no 403, which so few files cannot be told from private ones by."""

SCHEDULE = [
    {"from": "08:00", "to": "09:00", "zone": "UTC", "pause": True},
    {"from": "10:00", "to": "11:00", "zone": "UTC", "rate": 400_000},
]
TIMES = {"pause by the schedule": 8.5 * 3600, "slow by the schedule": 10.5 * 3600}
"""What the clock of the workers' schedule shows meanwhile, in seconds of a day; else it is midnight."""

WAITED_FOR = ("ban a host", "fill the disk", "pause by the schedule")


@dataclass(frozen=True)
class File:
    """A file of the origin. ``versions`` are those it may be finished in; none: it cannot be had."""

    name: str
    size: int
    faults: str
    versions: tuple[int, ...] = (1,)
    checksum: str | None = None

    def url(self, origin: Origin, seed: str) -> str:
        url = origin.url(self.name, self.size, self.faults, seed=seed)
        return url.replace("127.0.0.1", SECOND_HOST, 1) if draw("host", self.name).random() < 0.25 else url

    @property
    def digests(self) -> set[str]:
        """The sha256 it may have when finished."""
        return {expected_sha256(self.name, self.size, version) for version in self.versions}


@dataclass(frozen=True)
class Item:
    """An item of the list. ``kind`` is "plain", "dropped" (by a later pipeline), "poison" (which fails for ever),
    "killer" (which ends its process), "grown" (by a later pipeline, beyond what Redis takes) or "unreadable"."""

    number: int
    kind: str
    files: tuple[File, ...] = ()

    def payload(self, origin: Origin, seed: str) -> bytes:
        """Return the bytes that wait in Redis: written as no serializer of ours would, to see that they stay so."""
        if self.kind == "unreadable":
            return f'{{"number": {self.number}, "cut short'.encode()
        attachments = []
        for file in self.files:
            attachment = {"ori_url": file.url(origin, seed), "path": "", "filename": f"{file.name}.bin"}
            if file.checksum is not None:
                attachment["checksum"] = file.checksum
            attachments.append(attachment)
        fields = json.dumps({"data": [{"title": "Bericht – “Größe”", "attachments": attachments}]}, ensure_ascii=False)
        head = f'{{"number" : {self.number},  "kind":"{self.kind}", "big": 12345678901234567890.10, "twice": 1, '
        return f'{head}"twice": 2, {fields[1:]}'.encode()


@dataclass(frozen=True)
class Event:
    """Something done from outside once the origin has seen ``due`` requests. ``slot`` says to which worker."""

    due: int
    what: str
    slot: int
    seconds: float


def draw(*words: object) -> random.Random:
    """Return the dice of one decision."""
    return random.Random("/".join(map(str, words)))


# --- items and files


def waves(seed: str) -> Iterator[list[Item]]:
    """Yield the items of each wave, without end."""
    recent: list[File] = []
    for wave in count():
        numbers = range(wave * WAVE, (wave + 1) * WAVE)
        yield [_item(seed, number, recent) for number in numbers]
        del recent[:-WAVE]


def _item(seed: str, number: int, recent: list[File]) -> Item:
    dice = draw(seed, "item", number)
    kind = dice.choices(["plain", "dropped", "poison", "grown", "unreadable"], [87, 5, 2, 3, 3])[0]
    if number % KILLERS == WAVE // 2:
        kind = "killer"
    if kind == "unreadable":
        return Item(number, kind)
    files: list[File] = []
    for index in range(dice.choices([0, 1, 2, 3, 5], [4, 50, 26, 14, 6])[0]):
        if recent and dice.random() < 0.1:
            shared = dice.choice(recent)
            if shared not in files:
                files.append(shared)
            continue
        file = _file(dice, f"f{number}-{index}")
        files.append(file)
        if file.checksum is None:
            recent.append(file)
    return Item(number, kind, tuple(files))


def _file(dice: random.Random, name: str) -> File:
    size = dice.choices(
        [0, 1, dice.randrange(2, CHUNK), CHUNK, dice.randrange(CHUNK + 1, 8 * CHUNK), dice.randrange(1 << 20, 3 << 20)],
        [2, 2, 30, 6, 45, 15],
    )[0]
    if dice.random() < 0.06:
        return _lost_file(dice, name, size)
    if dice.random() < 0.3:
        return File(name, size, "", checksum=_checksum(name, size) if dice.random() < 0.3 else None)
    faults = [_healing_fault(dice)]
    if size == 0 and faults[0].startswith("length:"):  # a size was told and nothing came: that is no file
        return File(name, size, "")
    if dice.random() < 0.3:
        faults.append(dice.choice(["rate:800000", "rate:3000000", "etag:weak", "date:none", "etag:backend:2"]))
    if size > 2 * CHUNK and dice.random() < 0.15:  # slow, so that workers die in the middle of it
        return File(name, size, f"change@get@{dice.randrange(2, 6)}-;cut:0.4@get@1;rate:800000", versions=(1, 2))
    return File(name, size, ";".join(faults), checksum=_checksum(name, size) if dice.random() < 0.2 else None)


def _checksum(name: str, size: int) -> str:
    return f"sha256:{expected_sha256(name, size)}"


def _lost_file(dice: random.Random, name: str, size: int) -> File:
    kind = dice.choice(["missing", "missing", "hole", "other"])
    if kind == "hole" and size > CHUNK:
        return File(name, size, f"status:404@over={size - 1}", versions=())
    if kind == "other" and size > 0:
        return File(name, size, "", versions=(), checksum=_checksum(name + "?", size))
    return File(name, size, dice.choice(["status:404", "status:410", "status:403"]), versions=())


def _healing_fault(dice: random.Random) -> str:
    """Return a fault that any patient downloader gets over: within the retries of a chunk, or no fault for HTTP."""
    place, times = dice.choice(["0", "1", "0.3", "0.9"]), dice.choice(["@get@1", "@get@2", "@get@2-3"])
    return dice.choice(
        [
            f"reset{times}",
            f"close{times}",
            f"garbage{times}",
            f"cut:{place}{times}",
            f"cut:{place}{times}",
            f"rst:{place}{times}",
            f"rst:{place}{times}",
            f"stall:{place}@get@1",
            "hang@head@1",
            "close@head@2",
            "delay:0.3@get@3",
            f"pause:{place}:0.4@get@2",
            f"status:500{times}",
            f"status:502{times}",
            "status:503:1@get@1",
            "status:503:date+1@get@2",
            "status:429:0@get@2",
            "status:429:1@head@1",
            "status:408@get@1",
            "status:405@head",
            "ranges:none",
            "ranges:ignored",
            "ranges:ignored@range@2-2",
            "ranges:shift:1000@range@2",
            "ranges:shorter:1000@range@2",
            "ranges:earlier:1000@range@2",
            "ranges:multipart@range@1",
            "ranges:416@range@2-2",
            "length:none@head",
            "length:+1000@head",
            "length:-1@head",
            "framing:chunked",
            "framing:chunked;ranges:none",
            "encode:gzip",
            "digest:repr",
        ]
    )


# --- violence


@dataclass(frozen=True)
class Odds:
    """How often something is done from outside. ``pace`` is the mean number of requests in between."""

    pace: float = 45.0
    weights: dict[str, int] = field(
        default_factory=lambda: {
            "kill": 34,
            "stop": 14,
            "interrupt": 8,
            "interrupt twice": 6,
            "freeze": 10,
            "kill redis": 12,
            "shut down redis": 8,
            "fail over": 5,
            "drop connections": 6,
            "close the origin": 2,
            "pipelines away": 4,
            "ban a host": 8,
            "fill the disk": 4,
            "pause by the schedule": 5,
            "slow by the schedule": 3,
        }
    )


def events(seed: str, workers: int, odds: Odds) -> Iterator[Event]:
    """Yield what is done from outside, in order, without end. Each kind comes up once before chance takes over.

    What is waited for comes first, so that the shortest run meets it.
    """
    dice = draw(seed, "events")
    once = list(odds.weights)
    dice.shuffle(once)
    once.sort(key=lambda what: what not in WAITED_FOR)
    due = 0.0
    for number in count():
        due += 5 + dice.expovariate(1 / odds.pace)
        what = once[number] if number < len(once) else dice.choices(list(odds.weights), list(odds.weights.values()))[0]
        yield Event(round(due), what, dice.randrange(workers), dice.choice([0.05, 0.4, 1.0, 2.5]))


def kill_point(seed: str, number: int, delivery: int) -> str | None:
    """Say where the process that has this delivery of the item kills itself, if so."""
    dice = draw(seed, "kill", number, delivery)
    return dice.choice(KILL_POINTS) if dice.random() < KILLED_DELIVERIES else None


def fails(seed: str, number: int, delivery: int) -> bool:
    """Say whether a later pipeline fails for this delivery of the item."""
    return draw(seed, "fail", number, delivery).random() < FAILED_DELIVERIES


def slowness(seed: str, number: int, delivery: int) -> float:
    """Say how many seconds a later pipeline takes for this delivery of the item."""
    dice = draw(seed, "slow", number, delivery)
    return dice.choice([0.05, 0.3, 1.0]) if dice.random() < SLOW_DELIVERIES else 0.0
