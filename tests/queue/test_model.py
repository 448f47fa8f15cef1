"""The queue against a simple model: whatever happens in whatever order, each item is in exactly one state.

Time passes by moving the deadlines in Redis into the past, so that nothing here waits for a clock.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from servers import Server

from examples import examples
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.dead_letters import DeadLetters
from scrapy_chunkdl.queue.item_queue import ItemQueue, Suspects
from scrapy_chunkdl.queue.waiting import Waiting, id_of

LIST, DONE, PREFIX = "s:items", "{s:items}:done", "{s:items}"
ABOVE = ("s:urgent", "s:soon")
LISTS = (*ABOVE, LIST)
MOST_DELIVERIES = 2
LONG_AGO = 1
PROCESSES = 3
HOSTS = ("ill.example:80", "ill.example:8080", "dead.example:443")
IN_THE_BEGINNING = 8
FIELD = "url"


def item_of(number: int) -> bytes:
    """Return an item: two of five need a host of :data:`HOSTS` and say so in plain text."""
    needs = number % 5
    if needs >= 2:
        return str(number).encode()
    return json.dumps({FIELD: f"http://{HOSTS[needs]}/{number}"}).encode()


def number_of(item: bytes) -> int:
    """Return the number of an item."""
    return int(item) if item.isdigit() else int(json.loads(item)[FIELD].rpartition("/")[2])


def needed_by(item: bytes) -> str | None:
    """Return the host that an item needs, and says so."""
    return None if item.isdigit() else HOSTS[number_of(item) % 5]


@dataclass
class _Process:
    """A live process, the claims it made (prefix -> items asked for), and what its last ack was told."""

    queue: ItemQueue
    claims: dict[str, int] = field(default_factory=dict)
    pushes: int = 0
    acked_last: list[str] = field(default_factory=list)
    back_last: list[str] = field(default_factory=list)
    behind_last: list[str] = field(default_factory=list)
    parked_last: list[str] = field(default_factory=list)
    ended_last: str = ""


@dataclass
class _Delivery:
    """Where the model has a delivered item: who holds it (None: delayed, or ``parked`` for a host); whether it is due.

    ``key`` is the list it came from.
    ``deliveries`` counts claims that came to nothing, and this one unless it brought bytes (``is_refunded``) or ended
    well; ``on_disk`` is the most bytes that any delivery told.
    """

    item: bytes
    key: str
    owner: str | None
    deliveries: int
    is_due: bool = False
    errors: int = 0
    on_disk: int = 0
    is_refunded: bool = False
    parked: str | None = None


class QueueModel(RuleBasedStateMachine):
    """Items are numbers, each pushed once."""

    client: redis.Redis  # to look at the raw state with
    of_processes: redis.Redis  # shared by the processes, which differ by their tokens

    @initialize()
    def start(self) -> None:
        self.client.flushall()
        self.numbers = itertools.count()
        self.prefixes = itertools.count()
        self.waiting: dict[str, list[bytes]] = {key: [] for key in LISTS}
        self.taken = 0
        self.out: dict[str, _Delivery] = {}
        self.done: list[bytes] = []
        self.acked_quietly: set[bytes] = set()
        self.held: list[tuple[str, bytes]] = []
        self.dead: list[bytes] = []
        self.processes = [self._new_process() for _ in range(PROCESSES)]
        self.failed = DeadLetters.failed(self.client, LIST, ABOVE)
        self.dead_letters = DeadLetters.dead(self.client, LIST)
        self.over: list[str] = []
        self.parked: dict[str, list[str]] = {}
        self.hosts_due: dict[str, bool | None] = {}
        self.push(0, IN_THE_BEGINNING, 0, False)

    def _new_process(self) -> _Process:
        options = {"above": ABOVE, "max_deliveries": MOST_DELIVERIES, "done_key": DONE, "lease": 3600}
        options["url_fields"] = (FIELD,)
        return _Process(ItemQueue(self.of_processes, LIST, **options))

    # --- what may happen

    @rule(who=st.integers(0, PROCESSES - 1), n=st.integers(1, 3), priority=st.integers(-1, 4), twice=st.booleans())
    def push(self, who: int, n: int, priority: int, twice: bool) -> None:
        process = self.processes[who]
        items = [item_of(next(self.numbers)) for _ in range(n)]
        process.pushes += 1
        for _ in range(1 + twice):
            process.queue.push(items, process.pushes, priority)
        self.waiting[(LIST, "s:soon", "s:urgent")[min(2, max(0, priority))]] += items

    @rule(
        who=st.integers(0, PROCESSES - 1),
        n=st.integers(1, 5),
        twice=st.booleans(),
        suspects=st.sampled_from(["due", "due", "overdue", "none"]),
    )
    def claim(self, who: int, n: int, twice: bool, suspects: Suspects) -> None:
        process, prefix = self.processes[who], f"c{next(self.prefixes)}"
        process.claims[prefix] = n
        looked_at = self._first_due(n)
        poison = [key for key in looked_at if self.out[key].deliveries >= MOST_DELIVERIES]
        alone = [key for key in looked_at if self._may_come(key, suspects) and key not in poison][:1]
        others = [] if alone else [key for key in looked_at if self.out[key].deliveries == 0]
        let_out = [] if alone else self._let_out(n - len(poison) - len(others))
        batch, dead = process.queue.claim(n, prefix, suspects)
        if twice and batch:
            assert process.queue.claim(n, prefix, suspects) == (batch, 0)

        came = [self.out[key] for key in [*alone, *others, *let_out]]
        for key in [*alone, *others, *let_out]:
            self._end(key)
        self.dead += [self._end(key).item for key in poison]
        assert dead == len(poison)
        room = n - len(poison) - len(others) - len(let_out)
        fresh = [] if alone else self._take_waiting(room, f"{prefix}:p")
        came += fresh
        assert [claimed.payload for claimed in batch] == [delivery.item for delivery in came]
        for claimed, known in zip(batch, came, strict=True):
            assert (claimed.deliveries, claimed.errors) == (known.deliveries + 1, known.errors)
            known = replace(known, is_due=False, is_refunded=False, parked=None)
            self.out[claimed.id] = replace(known, owner=process.queue.token, deliveries=known.deliveries + 1)
        self._next_millisecond()

    def _take_waiting(self, room: int, parked: str) -> list[_Delivery]:
        """From the first list that has items; every tenth from one of those behind it, in turn.

        Items of hosts that are left alone are parked on the way, under ids that begin with ``parked``.
        """
        taken: list[_Delivery] = []
        left_alone = {host for host, due in self.hosts_due.items() if due is False}
        passed_by = itertools.count(1)
        lists = [key for key in LISTS if self.waiting[key]]
        while lists and len(taken) < room:
            others = lists[1:] if self.taken % 10 == 9 else []
            key = others[self.taken // 10 % len(others)] if others else lists[0]
            item = self.waiting[key].pop(0)
            if (host := needed_by(item)) in left_alone:
                assert host is not None
                name = f"{parked}{next(passed_by)}"
                self.out[name] = _Delivery(item, key, None, 0, parked=host)
                self.parked[host].append(name)
            else:
                taken.append(_Delivery(item, key, None, 0))
            self.taken += 1
            lists = [key for key in lists if self.waiting[key]]
        return taken

    def _let_out(self, room: int) -> list[str]:
        """The parked items a claim takes: one of each host that is due, of a free one all, half of a batch at most."""
        due = [host.decode() for host in self.client.zrangebyscore(f"{PREFIX}:parked_hosts", "-inf", LONG_AGO)]
        found: list[str] = []
        room = max(0, room)
        due, left = due[:room], -(-room // 2) if any(self.waiting.values()) and due else room
        for host in due:
            if left < 1:
                break
            wanted = left if self.hosts_due[host] is None else 1
            keys, self.parked[host] = self.parked[host][:wanted], self.parked[host][wanted:]
            left -= len(keys)
            if len(keys) < wanted:
                del self.parked[host], self.hosts_due[host]
            elif self.hosts_due[host] is not None:
                self.hosts_due[host] = False
            for key in keys:
                if self.out[key].deliveries:  # a suspect waits for a batch of its own
                    self.out[key].parked, self.out[key].is_due = None, True
                else:
                    found.append(key)
        return found

    def _first_due(self, n: int) -> list[str]:
        """The deliveries a claim looks at: leases that ran out, then delays that are over, in Redis' order."""
        found: list[str] = []
        for name in ("leases", "delayed"):
            keys = [key.decode() for key in self.client.zrange(f"{PREFIX}:{name}", 0, -1)]
            found += [key for key in keys if self.out[key].is_due][: n - len(found)]
        return found

    def _may_come(self, key: str, suspects: Suspects) -> bool:
        where = f"{PREFIX}:leases" if self.out[key].owner else f"{PREFIX}:delayed"
        is_overdue = self.client.zscore(where, key) == LONG_AGO
        return self.out[key].deliveries > 0 and (suspects == "due" or (suspects == "overdue" and is_overdue))

    @rule(who=st.integers(0, PROCESSES - 1), data=st.data())
    def claim_again(self, who: int, data: st.DataObject) -> None:
        """The reply of an earlier claim was lost, and only now the command is sent again."""
        process = self.processes[who]
        known = sorted({key.split(":")[0] for key in self.out} & process.claims.keys())
        if not known:
            return
        prefix = data.draw(st.sampled_from(known))
        batch, _ = process.queue.claim(process.claims[prefix], prefix)

        ours = {key for key in self.out if key.startswith(f"{prefix}:") and self._is_owner(process, key)}
        assert {claimed.id for claimed in batch} == ours
        for claimed in batch:
            delivery = self.out[claimed.id]
            assert (claimed.payload, claimed.deliveries) == (delivery.item, delivery.deliveries)
            assert claimed.errors == delivery.errors
            delivery.is_due = False

    @rule(who=st.integers(0, PROCESSES - 1), data=st.data(), twice=st.booleans(), with_done=st.booleans())
    def ack(self, who: int, data: st.DataObject, twice: bool, with_done: bool) -> None:
        process = self.processes[who]
        ids = self._some(data)
        ours = [key for key in ids if self._is_owner(process, key)]
        acks = [(key, self.out[key].item if with_done and key in ours else None) for key in ids]
        told = [key for key in ids if key in ours or key in process.acked_last]
        for _ in range(1 + twice):
            assert process.queue.ack(acks) == told
        process.acked_last = told or process.acked_last
        for key in ours:
            item = self._end(key).item
            if with_done:
                self.done.append(item)
            else:
                self.acked_quietly.add(item)

    @rule(who=st.integers(0, PROCESSES - 1), data=st.data(), on_disk=st.integers(0, 3))
    def renew(self, who: int, data: st.DataObject, on_disk: int) -> None:
        process = self.processes[who]
        ids = self._some(data)
        ours = [key for key in ids if self._is_owner(process, key)]
        for _ in range(2):  # the second is the first again: its reply was lost
            assert process.queue.renew(ids, dict.fromkeys(ids, on_disk)) == [key for key in ids if key not in ours]
        for key in ours:
            delivery = self.out[key]
            delivery.is_due = False
            if on_disk > delivery.on_disk:
                delivery.deliveries -= not delivery.is_refunded
                delivery.on_disk, delivery.is_refunded = on_disk, True

    @rule(
        who=st.integers(0, PROCESSES - 1),
        data=st.data(),
        why=st.sampled_from(["release", "retry", "error"]),
        twice=st.booleans(),
    )
    def give_back(self, who: int, data: st.DataObject, why: str, twice: bool) -> None:
        process = self.processes[who]
        for key in self._some(data):
            is_ours = self._is_owner(process, key)
            told = is_ours or key in process.back_last
            for _ in range(1 + twice):
                if why == "release":
                    assert process.queue.release([key]) == [key] * told
                else:
                    assert process.queue.retry(key, 3600, is_error=why == "error") is told
            process.back_last = [key] if told else process.back_last
            if is_ours:
                delivery = self.out[key]
                delivery.owner, delivery.is_due = None, why == "release"
                delivery.deliveries = delivery.deliveries - (not delivery.is_refunded) if why == "release" else 0
                delivery.errors += why == "error"
                delivery.is_refunded = True

    @rule(who=st.integers(0, PROCESSES - 1), data=st.data(), twice=st.booleans())
    def put_back_behind_all_others(self, who: int, data: st.DataObject, twice: bool) -> None:
        process = self.processes[who]
        for key in self._some(data):
            delivery = self.out.get(key)
            goes = (
                self._is_owner(process, key)
                and delivery is not None
                and (delivery.deliveries, delivery.errors, delivery.is_refunded) == (1, 0, False)
            )
            told = goes or (not self._is_owner(process, key) and key in process.behind_last)
            for _ in range(1 + twice):
                assert process.queue.put_back([key]) == [key] * told
            process.behind_last = [key] if told else process.behind_last
            if goes:
                ended = self._end(key)
                self.waiting[ended.key].append(ended.item)

    @rule(
        who=st.integers(0, PROCESSES - 1),
        data=st.data(),
        host=st.sampled_from(HOSTS),
        twice=st.booleans(),
        due=st.booleans(),
    )
    def park(self, who: int, data: st.DataObject, host: str, twice: bool, due: bool) -> None:
        process = self.processes[who]
        ids = self._some(data)
        ours = [key for key in ids if self._is_owner(process, key)]
        told = [key for key in ids if key in ours or key in process.parked_last]
        for _ in range(1 + twice):
            assert process.queue.park(host, 3600, ids) == told
        process.parked_last = told or process.parked_last
        for key in ours:
            delivery = self.out[key]
            delivery.owner, delivery.parked = None, host
            delivery.deliveries -= not delivery.is_refunded
            delivery.is_refunded = True
        if ours:
            self.parked[host] = [*self.parked.get(host, []), *ours]
        if told:
            self.hosts_due[host] = False
            self.parked.setdefault(host, [])
        if told and due:
            self.client.zadd(f"{PREFIX}:parked_hosts", {host: LONG_AGO}, xx=True)
            self.hosts_due[host] = True
        self._next_millisecond()

    @rule(host=st.sampled_from(HOSTS))
    def host_is_well_again(self, host: str) -> None:
        assert self.processes[0].queue.let_out(host) is (self.hosts_due.get(host, None) is not None)
        if host in self.hosts_due:
            self.hosts_due[host] = None

    @rule(who=st.integers(0, PROCESSES - 1), data=st.data(), bury=st.booleans(), records=st.integers(1, 3))
    def set_aside(self, who: int, data: st.DataObject, bury: bool, records: int) -> None:
        process = self.processes[who]
        for key in self._some(data):
            is_ours = self._is_owner(process, key)
            told = is_ours or key == process.ended_last
            if bury:
                assert process.queue.bury(key, {"reason": "x"}) is told
            else:
                assert process.queue.hold(key, [{"url": str(n)} for n in range(records)]) is told
            process.ended_last = key if told else process.ended_last
            if is_ours:
                ended = self._end(key)
                if bury:
                    self.dead.append(ended.item)
                else:
                    self.held.append((ended.key, ended.item))

    @rule(chosen=st.integers(0, 2))
    def put_back_held(self, chosen: int) -> None:
        back = [(key, item) for key, item in self.held if number_of(item) % 3 == chosen]
        payloads = [item for _, item in back]
        assert self.failed.put_back(lambda item: item.payload in payloads) == len(back)
        self.held = [held for held in self.held if held not in back]
        for key, item in back:
            self.waiting[key].append(item)

    @rule()
    def put_back_dead(self) -> None:
        assert self.dead_letters.put_back() == len(self.dead)
        self.waiting[LIST] += self.dead
        self.dead = []

    @rule(front=st.booleans(), data=st.data())
    def a_person_moves_what_waits(self, front: bool, data: st.DataObject) -> None:
        page = Waiting(self.client, LIST, ABOVE)
        assert [(item.key, item.payload) for item in page.page(0, 1000)[0]] == [
            (key, item) for key in LISTS for item in self.waiting[key]
        ]
        everything = [item for key in LISTS for item in self.waiting[key]]
        if not everything:
            return
        chosen = data.draw(st.sampled_from(everything))
        place = [(id_of(chosen), everything.index(chosen))]
        assert (page.move_to_front(place) if front else page.take_out(place)) == 1
        [key] = [key for key in LISTS if chosen in self.waiting[key]]
        self.waiting[key].remove(chosen)
        if front:
            self.waiting[LISTS[0]].insert(0, chosen)
        else:
            self.dead.append(chosen)
            self.taken += 1

    @rule(who=st.integers(0, PROCESSES - 1))
    def crash(self, who: int) -> None:
        self.processes[who] = self._new_process()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        """Some leases run out and some delays are over."""
        some = st.lists(st.sampled_from(sorted(self.out)), unique=True, min_size=1)
        for key in data.draw(st.just(sorted(self.out)) | some):
            delivery = self.out[key]
            if delivery.parked:
                continue
            where = f"{PREFIX}:leases" if delivery.owner else f"{PREFIX}:delayed"
            self.client.zadd(where, {key: LONG_AGO}, xx=True)
            delivery.is_due = True

    @rule()
    def scripts_are_flushed(self) -> None:
        self.client.script_flush()

    # --- what must hold, always

    @invariant()
    def each_item_is_in_exactly_one_state(self) -> None:
        (
            waiting,
            (
                raw_leases,
                raw_delayed,
                raw_payloads,
                raw_tries,
                raw_owners,
                raw_past,
                raw_failed,
                done,
                dead,
                raw_parked,
            ),
        ) = self._raw_state()
        leased, delayed = ({key.decode() for key in keys} for keys in (raw_leases, raw_delayed))
        payloads = {key.decode(): item for key, item in raw_payloads.items()}
        tries = {key.decode(): int(count) for key, count in raw_tries.items()}
        owners = {key.decode(): owner.split()[0].decode() for key, owner in raw_owners.items()}
        stories = {key.decode(): past.decode().split(" ", 4) for key, past in raw_past.items()}
        records = map(json.loads, raw_failed)
        held = {record["delivery"]: json.dumps(record["item"]).encode() for record in records if "item" in record}

        assert dict(zip(LISTS, waiting, strict=True)) == self.waiting
        assert self.processes[0].queue.counts().waiting == sum(map(len, waiting))
        assert {key: owners[key] for key in leased} == owners
        assert owners == {key: delivery.owner for key, delivery in self.out.items() if delivery.owner}
        assert delayed == {key for key, delivery in self.out.items() if not delivery.owner and not delivery.parked}
        parked = [(member.split()[0].decode(), member.split()[-1].decode()) for member in raw_parked]
        assert parked == [(host, key) for host in sorted(self.parked) for key in self.parked[host]]
        assert {key for _, key in parked} == {key for key, delivery in self.out.items() if delivery.parked}
        assert payloads == {key: delivery.item for key, delivery in self.out.items()}
        assert tries.keys() <= self.out.keys()
        assert {key: tries.get(key, 0) for key in self.out} == {
            key: delivery.deliveries for key, delivery in self.out.items()
        }
        assert stories.keys() <= self.out.keys()
        for key, delivery in self.out.items():
            errors, on_disk, _, _, *of_list = stories.get(key, ["0"] * 4)
            assert (int(errors), int(on_disk)) == (delivery.errors, delivery.on_disk)
            assert of_list == [delivery.key] * (delivery.key != LIST)
        assert sorted(held.values()) == sorted(item for _, item in self.held)
        assert done == self.done
        assert sorted(dead) == sorted(self.dead)
        somewhere = [*itertools.chain(*waiting), *payloads.values(), *held.values()]
        everywhere = [*somewhere, *self.done, *self.dead, *self.acked_quietly]
        made = next(self.numbers)
        self.numbers = itertools.count(made)
        assert sorted(map(number_of, everywhere)) == list(range(made))

    # --- the model's own steps

    def _next_millisecond(self) -> None:
        """Go on when Redis' clock has: those parked in one millisecond have no order that the model knows."""
        _, before = self.client.time()
        while self.client.time()[1] // 1000 == before // 1000:
            pass

    def _raw_state(self) -> tuple[list[list[bytes]], list[Any]]:
        """Return the lists, and all keys but those of processes, in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for key in LISTS:
            pipeline.lrange(key, 0, -1)
        for name in ("leases", "delayed"):
            pipeline.zrange(f"{PREFIX}:{name}", 0, -1)
        for name in ("payload", "tries", "owner", "past"):
            pipeline.hgetall(f"{PREFIX}:{name}")
        for key in (f"{PREFIX}:failed", DONE, f"{PREFIX}:dead"):
            pipeline.lrange(key, 0, -1)
        pipeline.zrange(f"{PREFIX}:parked", 0, -1)
        found = pipeline.execute()
        return found[: len(LISTS)], found[len(LISTS) :]

    def _some(self, data: st.DataObject) -> list[str]:
        """Ids of deliveries, whoever holds them, and of some that are over."""
        known = sorted(self.out) + self.over[-2:]
        return data.draw(st.lists(st.sampled_from(known), unique=True, max_size=4)) if known else []

    def _end(self, key: str) -> _Delivery:
        self.over.append(key)
        return self.out.pop(key)

    def _is_owner(self, process: _Process, key: str) -> bool:
        return key in self.out and self.out[key].owner == process.queue.token


@pytest.fixture
def unsynced(client: redis.Redis) -> Iterator[redis.Redis]:
    """A client of a server that syncs nothing, as nothing here crashes it: a third of the time goes there else."""
    [before] = client.config_get("appendfsync").values()
    client.config_set("appendfsync", "no")
    yield client
    client.config_set("appendfsync", before)


@pytest.mark.hypothesis
def test_each_item_is_in_exactly_one_state_whatever_happens(server: Server, unsynced: redis.Redis) -> None:
    QueueModel.client = unsynced
    with closing(make_client({"REDIS_URL": server.url})) as QueueModel.of_processes:
        run_state_machine_as_test(
            QueueModel,
            settings=examples(50, stateful_step_count=40, database=None, suppress_health_check=list(HealthCheck)),
        )
