"""What happened to every item, from the log in which Redis or Valkey itself keeps what it did (its AOF).

The log has the effects of all scripts in the one order in which they took place, so it tells of every delivery who had
it, from when, until when, and how it ended: evidence that the processes under test cannot lose or embellish. Knows the
keys of :class:`~scrapy_chunkdl.queue.item_queue.ItemQueue` and what each step promises; nothing of files or pipelines.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Command = list[bytes]


@dataclass
class Delivery:
    """One lease of one item. Times are milliseconds of Redis' clock.

    ``ended`` is None while it lasts, then "acked", "retried", "released", "ran out" (claimed anew, or dead), "buried".
    """

    id: str
    payload: bytes
    count: int
    token: str
    began: int
    runs_out: int
    ended: str | None = None
    ended_at: int = 0

    @property
    def pid(self) -> int:
        return int(self.token.split(":")[1])


class History:
    """The queue on ``key``, replayed. ``broken`` has a sentence for each promise that some step did not keep."""

    def __init__(self, key: str, done_key: str) -> None:
        self.deliveries: dict[str, Delivery] = {}
        self.pushed: Counter[bytes] = Counter()
        self.acked: Counter[bytes] = Counter()
        self.dead: Counter[bytes] = Counter()
        self.done: list[bytes] = []
        self.broken: list[str] = []
        self._verbs = {
            (key, b"RPUSH"): self._push,
            (key, b"LPOP"): self._pop,
            (key, b"LTRIM"): self._trim,
            (done_key, b"RPUSH"): lambda *words: self.done.extend(words),
            (f"{{{key}}}:payload", b"HSET"): lambda *words: _by_two(self._set_payload, words),
            (f"{{{key}}}:payload", b"HDEL"): self._drop_payload,
            (f"{{{key}}}:tries", b"HSET"): self._set_count,
            (f"{{{key}}}:tries", b"HINCRBY"): self._refund,
            (f"{{{key}}}:owner", b"HSET"): self._set_owner,
            (f"{{{key}}}:leases", b"ZADD"): self._set_lease,
            (f"{{{key}}}:delayed", b"ZADD"): self._delay,
            (f"{{{key}}}:parked", b"ZADD"): lambda *words: _by_two(self._park, words),
            (f"{{{key}}}:calls", b"HSET"): self._remember_call,
            (f"{{{key}}}:dead", b"RPUSH"): self._die,
            (f"{{{key}}}:failed", b"RPUSH"): self._record,
        }
        self._waiting: deque[bytes] = deque()
        self._places: Counter[bytes] = Counter()
        self._runs_out: dict[str, int] = {}
        # of one step
        self._touched: set[bytes] = set()
        self._begun: dict[bytes, Delivery] = {}
        self._gone: list[Delivery] = []
        self._is_ack = self._is_record = False

    def replay(self, log: bytes) -> History:
        """Add what the log tells, and return this object."""
        for commands in transactions(log):
            for name, key, *words in commands:
                if verb := self._verbs.get((key.decode(), name.upper())):
                    verb(*words)
            self._end_step()
        return self

    def of(self, payload: bytes) -> list[Delivery]:
        """Return all deliveries of an item, in order."""
        found = [delivery for delivery in self.deliveries.values() if delivery.payload == payload]
        return sorted(found, key=lambda delivery: delivery.began)

    # --- what commands do

    def _push(self, *payloads: bytes) -> None:
        self.pushed.update(payloads)
        self._waiting.extend(payloads)
        self._move(*payloads, by=1)

    def _pop(self, *_: bytes) -> None:
        self._move(self._waiting.popleft(), by=-1)

    def _trim(self, taken: bytes, _last: bytes) -> None:
        for _ in range(int(taken)):
            self._pop()

    def _set_payload(self, item_id: bytes, payload: bytes) -> None:
        self._move(payload, by=1)
        delivery = Delivery(item_id.decode(), payload, 0, "", 0, self._runs_out.pop(item_id.decode(), 0))
        if (unheard := self.deliveries.pop(delivery.id, None)) is not None:
            # Its claim was sent again, after the reply was lost and another process had taken the items over.
            self.deliveries[f"{unheard.id} of {unheard.began}"] = unheard
        self.deliveries[delivery.id] = self._begun[payload] = delivery

    def _drop_payload(self, item_id: bytes) -> None:
        delivery = self.deliveries[item_id.decode()]
        self._move(delivery.payload, by=-1)
        self._gone.append(delivery)

    def _set_count(self, item_id: bytes, count: bytes) -> None:
        self.deliveries[item_id.decode()].count = int(count)

    def _refund(self, item_id: bytes, amount: bytes) -> None:
        self.deliveries[item_id.decode()].count += int(amount)
        self.deliveries[item_id.decode()].ended = "released"

    def _set_owner(self, item_id: bytes, owner: bytes) -> None:
        delivery = self.deliveries[item_id.decode()]
        delivery.token, _, began = owner.decode().rpartition(" ")
        delivery.began = int(began)

    def _set_lease(self, runs_out: bytes, item_id: bytes) -> None:
        if (delivery := self.deliveries.get(item_id.decode())) is not None and delivery.ended is None:
            delivery.runs_out = int(float(runs_out))
        else:  # a claim writes the lease first
            self._runs_out[item_id.decode()] = int(float(runs_out))

    def _delay(self, _due: bytes, item_id: bytes) -> None:
        self.deliveries[item_id.decode()].ended = "retried"

    def _park(self, _score: bytes, member: bytes) -> None:
        """Also of an item that waited, and was passed by: the id it is parked under is of no delivery of anybody."""
        self.deliveries[member.split()[-1].decode()].ended = "released"

    def _remember_call(self, field: bytes, _value: bytes) -> None:
        self._is_ack = field.endswith(b" ack")

    def _die(self, payload: bytes) -> None:
        self._move(payload, by=1)
        self.dead[payload] += 1

    def _record(self, *_: bytes) -> None:
        self._is_record = True

    def _move(self, *payloads: bytes, by: int) -> None:
        self._touched.update(payloads)
        for payload in payloads:
            self._places[payload] += by

    # --- what a step means

    def _end_step(self) -> None:
        for delivery in self._gone:
            follower = self._begun.get(delivery.payload)
            delivery.ended_at = follower.began if follower else 0
            if self._is_ack:
                delivery.ended = "acked"
                self.acked[delivery.payload] += 1
                self._move(delivery.payload, by=1)
            elif self._is_record:
                delivery.ended = "buried"
            elif delivery.ended is None:
                delivery.ended = "ran out"
                if follower is not None and follower.began < delivery.runs_out:
                    early = delivery.runs_out - follower.began
                    self.broken.append(f"the lease {delivery.id} was taken over {early} ms before it ran out")
        for payload in self._touched:
            if self._places[payload] != 1:
                self.broken.append(f"in {self._places[payload]} places after a step of Redis: {payload[:60]!r}")
        self._touched, self._begun, self._gone, self._is_ack, self._is_record = set(), {}, [], False, False


def _by_two(verb: Callable[[bytes, bytes], None], words: tuple[bytes, ...]) -> None:
    for first, second in zip(words[::2], words[1::2], strict=True):
        verb(first, second)


def read_log(folder: Path) -> bytes:
    """Return the log of the server whose data is in ``folder``: all its parts, in order."""
    parts = sorted(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
    return b"".join(path.read_bytes() for path in parts)


def transactions(log: bytes) -> Iterator[list[Command]]:
    """Yield the commands that took effect together. What a crash tore at the end is left out, as the server does."""
    together: list[Command] | None = None
    for command in _commands(log):
        if command[0].upper() == b"MULTI":
            together = []
        elif command[0].upper() == b"EXEC":
            yield together or []
            together = None
        elif together is not None:
            together.append(command)
        else:
            yield [command]


def _commands(log: bytes) -> Iterator[Command]:
    at = 0
    while (end := log.find(b"\r\n", at)) > 0:
        count, at, command = int(log[at + 1 : end]), end + 2, []
        for _ in range(count):
            if (end := log.find(b"\r\n", at)) < 0:
                return
            start, length = end + 2, int(log[at + 1 : end])
            at = start + length + 2
            if at > len(log):
                return
            command.append(log[start : start + length])
        yield command
