"""``ItemQueue``: the user's Redis list with leases on top, one method per script in ``lua/``.

Knows Redis and bytes. Must not know what an item is, nor Scrapy. Safe to use from several threads.

States of an item: waiting (in the list) -> leased -> acked, delayed or parked (-> leased again), held in ``:failed`` or
dead.
Runs on Redis 5.0 and later, Valkey, and Redis Cluster: all keys of one queue hash to one slot.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeVar

from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.errors import WrongType
from scrapy_chunkdl.queue.life import Claimed, Life
from scrapy_chunkdl.queue.lists import above_of, check_lists
from scrapy_chunkdl.queue.snapshot import NOT_OURS, REPORT_KEPT, Counts, Lease, Snapshot, read_snapshot

T = TypeVar("T")

MOST_PER_CLAIM = 100
"""A claim of 100 keeps Redis busy for about 3 ms, one of 1000 blocks it for 23 ms (measured)."""

MOST_PASSED_BY = 200
"""Waiting items that a claim parks on its way, at most."""

MOST_PARKED_HOSTS = 1000
"""Hosts with parked items that are looked at at once."""

DETAILS_KEPT = 10.0
"""Seconds for which what a process told in detail is kept."""

MOST_BYTES = 512 << 10
"""Bytes of what goes to Redis in one request, unless one thing alone is larger. Services take 1 MB (Upstash), Redis
itself no less than ``client-query-buffer-limit``, which is 1 MiB at least."""

FAILED_MOST_BYTES = 64 << 20
"""Bytes that ``:failed`` may take where its number of records is bounded."""

Suspects = Literal["due", "overdue", "none"]
"""Which suspects a claim may bring: all that are due, those due for a whole lease, or none."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What is asked of this process: to claim nothing, a limit in bytes per second if any, and to tell in detail.

    ``odd`` is a limit that is none: nobody obeys it.
    """

    paused: bool = False
    max_rate: float | None = None
    watched: bool = False
    odd: str = ""


def key_prefix(key: str) -> str:
    """Return what the names of derived keys begin with, so that they hash to the slot of ``key`` (cluster spec).

    Raises ValueError for a key with braces that are no hash tag: no derived key could hash to its slot.
    """
    opening = key.find("{")
    if opening >= 0 and key.find("}", opening) > opening + 1:
        return key
    if "{" in key or "}" in key:
        raise ValueError(f"The key {key!r} has braces that are no hash tag: use a key without them, or {{tag}}.")
    return "{" + key + "}"


def new_token() -> str:
    """Return a name for this process that no other has: host, process id and a random part, without spaces."""
    return f"{'-'.join(socket.gethostname().split())}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def parked_under(host: str) -> str:
    """Return what a host is parked under: park.lua tells where it ends by a space."""
    return "".join(host.split()) or "-"


class ItemQueue:
    """One process's access to the queue on ``key``.

    ``client`` is a redis-py client that returns bytes. ``above`` are lists that are claimed before ``key``, first one
    first, see :mod:`.lists`. ``lease`` is in seconds. ``done_key`` is a list for finished items, ``failed_max`` how
    many records ``:failed`` keeps (0: all). ``token`` names the owner of what is claimed. ``url_fields`` are fields of
    items, as they wait, whose URLs are of hosts that the item cannot do without: where items are parked for one, others
    that wait are parked with them without coming here first, and counted in ``passed_by``.

    A method may be called again when its reply was lost, with the same arguments and before any other call that
    changes something: it does nothing twice and tells the same. Every method may raise what
    :data:`scrapy_chunkdl.queue.errors.REDIS_ERRORS` names. Raises ValueError for a key or token that cannot be used.
    """

    def __init__(
        self,
        client: Any,
        key: str,
        *,
        above: Sequence[str] = (),
        lease: float = 60.0,
        max_deliveries: int = 5,
        done_key: str | None = None,
        failed_max: int = 0,
        token: str | None = None,
        url_fields: Sequence[str] = (),
    ) -> None:
        prefix = key_prefix(key)
        check_lists(client, key, above, done_key)
        self.key, self.above = key, tuple(above)
        self.lists = [*above, key]
        self.token = token or new_token()
        self.leases_key = f"{prefix}:leases"
        self.payload_key = f"{prefix}:payload"
        self.tries_key = f"{prefix}:tries"
        self.owner_key = f"{prefix}:owner"
        self.delayed_key = f"{prefix}:delayed"
        self.dead_key = f"{prefix}:dead"
        self.failed_key = f"{prefix}:failed"
        self.calls_key = f"{prefix}:calls"
        self.workers_key = f"{prefix}:workers"
        self.control_key = f"{prefix}:control"
        self.watched_key = f"{prefix}:watched"
        self.details_key = f"{prefix}:details"
        self.past_key = f"{prefix}:past"
        self.totals_key = f"{prefix}:totals"
        self.parked_key = f"{prefix}:parked"
        self.parked_hosts_key = f"{prefix}:parked_hosts"
        self._parts_key = f"{prefix}:parts {self.token}"
        self._try_key = f"{prefix}:try {self.token}"
        self.records_dropped = 0
        self.passed_by = 0
        self._url_fields = [MOST_PASSED_BY, *url_fields] if url_fields else []
        self.most_bytes = MOST_BYTES
        if not self.token or self.token.split() != [self.token]:
            raise ValueError(f"The token {token!r} must be one word: scripts tell owners by it.")
        self._client = client
        self._lease_ms = max(1, round(lease * 1000))
        self._max_deliveries = max_deliveries
        self._done_key = done_key
        self._failed_max = failed_max
        self._claim, self._renew, self._ack, self._retry, self._put_back, self._fail, self._push = (
            load_script(client, name) for name in ("claim", "renew", "ack", "retry", "put_back", "fail", "push")
        )
        self._park = load_script(client, "park")
        self._counts, self._report, self._snapshot, self._details, self._keep = (
            load_script(client, name) for name in ("counts", "report", "snapshot", "details", "keep")
        )
        self._check = load_script(client, "check")
        self._counted = [key, self.leases_key, self.delayed_key, self.dead_key, self.failed_key, self.parked_key]
        kept = [self.totals_key, self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.past_key]
        self.life = Life(load_script(client, "life"), kept, self.token, self._lease_ms, self._groups_of_items)

    @property
    def client(self) -> Any:
        """The redis-py client it was made with."""
        return self._client

    def push(self, payloads: Sequence[bytes], number: int, priority: int = 0) -> None:
        """Append items of one priority. A second push with the ``number`` of the last one does nothing."""
        key = above_of(self.above, priority) or self.key
        self._push(keys=[key, self.calls_key], args=[self.token, number, *payloads])

    def keep(self, payload: bytes, record: Mapping[str, Any], call_id: str) -> None:
        """Put what never was in the list into ``:dead``, and record why. Again with the last ``call_id``: nothing."""
        text = _text({**record, "delivery": call_id})
        self._keep(keys=[self.dead_key, self.failed_key, self.calls_key], args=[self.token, call_id, payload, text])

    def claim(self, n: int, id_prefix: str, suspects: Suspects = "due") -> tuple[list[Claimed], int]:
        """Lease up to ``n`` items, 100 at most; return them, and how many went to ``:dead`` on the way.

        The dead ones were over the delivery limit; they count towards ``n``, so fewer may come though more wait.
        A suspect comes alone. ``id_prefix`` is new for each claim and without spaces; the same again gives the same
        batch. Nothing comes where people asked that nothing be claimed (:mod:`.control`).
        """
        keys = [self.key, self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.delayed_key]
        arguments = [min(n, MOST_PER_CLAIM), self._lease_ms, self.token, id_prefix, self._max_deliveries, suspects]
        keys += [self.dead_key, self.control_key, self.past_key, self.totals_key]
        keys += [self.parked_key, self.parked_hosts_key, *self.above]
        dead, passed_by, *flat = self._claim(keys=keys, args=[*arguments, *self._url_fields])
        self.passed_by += int(passed_by)
        batch = [
            Claimed(item_id.decode(), payload, int(deliveries), int(errors))
            for item_id, deliveries, errors, payload in zip(*(flat[n::4] for n in range(4)), strict=True)
        ]
        self.life.leased(batch)
        return batch, int(dead)

    def renew(self, ids: Iterable[str], on_disk: Mapping[str, int] | None = None) -> list[str]:
        """Make leases last from now again; return the ids that are lost.

        ``on_disk`` tells how many bytes of an item's files are there by now. More than in any earlier delivery is
        progress: this claim then does not count towards the limit of deliveries.
        """
        arguments: list[str | int] = [self.token, self._lease_ms]
        for item_id in ids:
            arguments += [item_id, (on_disk or {}).get(item_id, 0)]
        keys = [self.leases_key, self.owner_key, self.tries_key, self.past_key]
        lost = self.life.sure(lambda: self._ids(self._renew, keys, arguments), lambda lost: not lost)
        self.life.ended(lost)
        return lost

    def ack(self, finished: Iterable[tuple[str, bytes | None]]) -> list[str]:
        """Forget items that are done; push what is given with them to the done list. Return the ids that were ours."""
        arguments: list[str | bytes | int] = [self.token]
        ids = []
        for item_id, payload in finished:  # in bytes, which redis-py takes as they are: for others it makes 10 calls
            ids.append(item_id)
            arguments += [item_id.encode(), b"0" if payload is None else b"1", payload or b""]
        keys = [self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.calls_key, self.past_key]
        return self._ended(ids, self._ack, [*keys, self._done_key or self.owner_key], arguments)

    def retry(self, item_id: str, delay: float, *, is_error: bool = True) -> bool:
        """Give an item back that was processed in vain, to be claimed after ``delay`` seconds. False if not ours.

        Nobody died of it, so no claim counts any more; ``is_error`` counts one more error of the project's code.
        """
        return bool(self._give_back([item_id], delay, "error" if is_error else "retry"))

    def release(self, ids: Sequence[str], delay: float = 0.0) -> list[str]:
        """Give items back, to come after ``delay`` seconds, their delivery not counted. Return those that were ours."""
        return self._give_back(ids, delay, "release")

    def park(self, host: str, delay: float, ids: Sequence[str]) -> list[str]:
        """Set items aside that need ``host``, their delivery not counted. Return the ids that were ours.

        One of them may be claimed after ``delay`` seconds, the others when :meth:`let_out` was called.
        """
        keys = [self.leases_key, self.tries_key, self.owner_key, self.calls_key, self.past_key]
        keys += [self.parked_key, self.parked_hosts_key]
        return self._ended(ids, self._park, keys, [self.token, parked_under(host), round(delay * 1000), *ids])

    def let_out(self, host: str) -> bool:
        """Have all that is parked for ``host`` claimed in turn. False if nothing is."""
        return bool(self._client.zadd(self.parked_hosts_key, {parked_under(host): 0}, xx=True, ch=True))

    def try_parked(self, host: str, delay: float) -> None:
        """Have one item parked for ``host`` claimed in ``delay`` seconds, sooner or later than was told before."""
        seconds, microseconds = self._client.time()
        due_ms = seconds * 1000 + microseconds // 1000 + round(delay * 1000)
        self._client.zadd(self.parked_hosts_key, {parked_under(host): due_ms}, xx=True)

    def parked_hosts(self) -> list[str]:
        """Return hosts that items are parked for until they are tried, those that are soon first, 1000 at most."""
        found = self._client.zrangebyscore(self.parked_hosts_key, "(0", "+inf", start=0, num=MOST_PARKED_HOSTS)
        return [host.decode(errors="replace") for host in found]

    def put_back(self, ids: Sequence[str]) -> list[str]:
        """Put items behind all that wait in their lists, their delivery not counted. Return the ids that were ours.

        One that died or failed before stays ours and is not among them: the list keeps no count.
        """
        keys = [self.key, self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.calls_key]
        keys += [self.past_key, *self.above]
        arguments = [self.token, *ids]
        back = self.life.sure(lambda: self._ids(self._put_back, keys, arguments), lambda back: len(back) == len(ids))
        self.life.ended(back)
        return back

    def fail(self, item_id: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Record files given up of an item that goes on, once however often it comes. False if it was not ours."""
        return self._record(item_id, "keep", records)

    def hold(self, item_id: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Record files given up and end the lease: the item waits in its records. False if it was not ours."""
        return self._record(item_id, "hold", records)

    def bury(self, item_id: str, *records: Mapping[str, Any]) -> bool:
        """Move an item to ``:dead``, byte for byte, and record why, and its files given up. False if not ours."""
        return self._record(item_id, "bury", records)

    def counts(self) -> Counts:
        """Count the items in each state, at one moment."""
        *counts, life = self._counts(keys=[*self._counted, self.totals_key, *self.above], args=[])
        self.life.look(life)
        return Counts(*counts)

    def has_work(self) -> bool:
        """Whether an item waits, now, delayed or parked. What others have leased does not count."""
        counts = self.counts()
        return bool(counts.waiting or counts.delayed or counts.parked)

    def report(self, report: bytes, details: bytes = b"") -> Orders:
        """Have people see ``report`` as what this process tells of itself, in place of what it told before.

        ``details`` are kept for :data:`DETAILS_KEPT` seconds. Returns what people ask of it.
        """
        paused, max_rate, watched = self._report(
            keys=[
                *(self.workers_key, self.control_key, self.watched_key, self.details_key),
                *(self.leases_key, self.delayed_key, self.parked_hosts_key),
            ],
            args=[self.token, report, round(REPORT_KEPT * 1000), details, round(DETAILS_KEPT * 1000)],
        )
        limit = untrusted.rate(max_rate)
        odd = max_rate[:60].decode(errors="replace") if max_rate and limit is None else ""
        return Orders(bool(paused), limit, bool(watched), odd)

    def details(self) -> dict[str, bytes]:
        """Return what each process told in detail in the last :data:`DETAILS_KEPT` seconds, by token."""
        now_ms, fields = self._details(keys=[self.details_key], args=[])
        told = {}
        for token, value in zip(fields[::2], fields[1::2], strict=True):
            with suppress(*NOT_OURS):
                told_ms, details = value.split(b" ", 1)
                if now_ms - int(told_ms) < DETAILS_KEPT * 1000:
                    told[token.decode()] = details
        return told

    def snapshot(self) -> Snapshot:
        """Tell how many items are in each state, who holds which, and what each process told. For people to look at."""
        return read_snapshot(self.ask_snapshot(None), self.lists)

    def ask_snapshot(self, pipe: Any) -> Any:
        """Ask for a snapshot, on a pipeline: its answer is for :func:`.snapshot.read_snapshot`."""
        *counted, parked = self._counted
        keys = [*counted, self.tries_key, self.owner_key, self.workers_key, self.control_key, parked]
        keys += [self.parked_hosts_key, *self.above]
        return self._snapshot(keys=keys, args=[MOST_PARKED_HOSTS], client=pipe)

    def leases(self) -> list[Lease]:
        """Tell who holds which item, the longest held first. Reads all leases: for people to look at."""
        return self.snapshot().leases

    def forget(self) -> None:
        """Remove what the queue remembers of this process: its last calls, and its report. Called when it leaves."""
        calls = ("push", "ack", "fail", "back", "behind", "end", "keep", "park")
        self._client.hdel(self.calls_key, *(f"{self.token} {call}" for call in calls))
        for key in (self.workers_key, self.details_key):
            self._client.hdel(key, self.token)
        self._client.hdel(self.control_key, f"paused {self.token}")

    def ping(self) -> None:
        """Ask for an answer, by the smallest request there is."""
        self._client.ping()

    def check(self) -> None:
        """See whether Redis does all that the scripts ask for, and each key is what it is to be, or not there yet.

        Raises :class:`.errors.WrongType` where one is not, and what Redis says to a command that it refuses.
        """
        wanted: list[tuple[str | None, str, str]] = [("CHUNKDL_ITEMS_KEY", key, "list") for key in self.lists]
        wanted += [("CHUNKDL_DONE_KEY", self._done_key, "list")] if self._done_key else []
        sets = (self.leases_key, self.delayed_key, self.parked_key, self.parked_hosts_key)
        hashes = (self.payload_key, self.tries_key, self.owner_key, self.calls_key, self.workers_key, self.control_key)
        wanted += [(None, key, "list") for key in (self.dead_key, self.failed_key)]
        wanted += [(None, key, "zset") for key in sets]
        wanted += [(None, key, "hash") for key in (*hashes, self.past_key, self.totals_key)]
        self._check(keys=[f"{{chunkdl}}:try {self.token}"], args=[])  # what all queues of this Redis share
        types = self._check(keys=[self._try_key, *(key for _, key, _ in wanted)], args=[])
        for (setting, key, kind), found in zip(wanted, map(_text_of, types), strict=True):
            if found not in ("none", kind):
                raise WrongType(setting, key, found, kind)
        self.life.begin()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _give_back(self, ids: Sequence[str], delay: float, why: str) -> list[str]:
        keys = [self.leases_key, self.tries_key, self.owner_key, self.delayed_key, self.calls_key, self.past_key]
        return self._ended(ids, self._retry, keys, [self.token, round(delay * 1000), why, *ids])

    def _ended(
        self, ids: Sequence[str], script: Callable[..., Any], keys: Sequence[str], arguments: Sequence[Any]
    ) -> list[str]:
        """Run a script after which this process holds none of ``ids``. Return those of them that were ours."""
        ours = self.life.sure(lambda: self._ids(script, keys, arguments), lambda ours: len(ours) == len(ids))
        self.life.ended(ids)
        return ours

    def _ids(self, script: Callable[..., Any], keys: Sequence[str], arguments: Sequence[Any]) -> list[str]:
        return [item_id.decode() for item_id in script(keys=keys, args=arguments)]

    def _groups_of_items(self, items: Iterable[Claimed]) -> Iterator[list[Claimed]]:
        return in_groups(items, lambda item: len(item.payload), self.most_bytes)

    def _record(self, item_id: str, then: str, records: Sequence[Mapping[str, Any]]) -> bool:
        went_on = {"went_on": True} if then == "keep" else {}
        texts = [_text({**record, "delivery": item_id, **went_on}) for record in records]
        told = [then, *sorted(f"{record.get('url')} {record.get('reason')}" for record in records)]
        digest = hashlib.sha256("\n".join(told).encode(errors="surrogatepass")).hexdigest()[:16]
        *parts, last = list(in_groups(texts, len, self.most_bytes)) or [[]]
        for number, part in enumerate(parts):
            if not self._send_records(item_id, "part", f"{self.most_bytes}.{number}", digest, part):
                return False
        return self._send_records(item_id, then, f"{self.most_bytes}.{len(parts)}", digest, last)

    def _send_records(self, item_id: str, then: str, part: str, digest: str, records: Sequence[bytes]) -> bool:
        keys = [self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.calls_key, self.failed_key]
        most_bytes = FAILED_MOST_BYTES if self._failed_max else 0
        arguments = [self.token, item_id, then, part, self._failed_max, most_bytes, digest, *records]
        keys += [self.dead_key, self.past_key, self._parts_key]
        answer = self.life.sure(lambda: self._fail(keys=keys, args=arguments), lambda answer: bool(answer[0]))
        is_ours, dropped = answer
        if then in ("hold", "bury"):
            self.life.ended([item_id])
        self.records_dropped += dropped
        return bool(is_ours)


def in_groups(things: Iterable[T], size_of: Callable[[T], int], most_bytes: int) -> Iterator[list[T]]:
    """Split what goes to Redis into requests of ``most_bytes`` at most, but for one thing that is larger alone."""
    group: list[T] = []
    size = 0
    for thing in things:
        if group and size + size_of(thing) > most_bytes:
            yield group
            group, size = [], 0
        group.append(thing)
        size += size_of(thing)
    if group:
        yield group


def _text_of(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else raw.decode(errors="replace")


def _text(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace")  # \\ud83d: half an emoji


def load_script(client: Any, name: str) -> Callable[..., Any]:
    """Return ``lua/<name>.lua`` as a callable. It is sent by its hash, and in full where Redis does not know it."""
    script: Callable[..., Any] = client.register_script(_source(name))
    return script


@cache
def _source(name: str) -> str:
    return (resources.files("scrapy_chunkdl.queue") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
