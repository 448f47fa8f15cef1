"""Holds what a chaos run left behind against what was pushed: every promise, for every item and every file.

Evidence is of three kinds that check each other: what Redis logged (history.py), what the workers wrote down before
they went on (in_worker.py), and what is in the lists and in the store at the end. Changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from decisions import DONE_KEY, FEEDER, KEY, LEASE, MAX_DELIVERIES, File, Item
from history import Delivery, History, transactions

from scrapy_chunkdl.queue import host_health
from scrapy_chunkdl.text import naming

if TYPE_CHECKING:
    from run import Chaos, Worker

SUSPICIOUS = re.compile(r"by a bug|Unhandled|CRITICAL|Exception in thread|never retrieved|never awaited|SyntaxError")
LEFT_BY_THE_DEAD = (f"{{{KEY}}}:calls", f"{{{KEY}}}:workers")
"""Hashes in which each process has fields of its own, which it removes when it ends in order."""


@dataclass(frozen=True)
class Emission:
    """An item that came out of the last pipeline, as the worker wrote down. ``at`` is seconds of the wall clock."""

    number: int
    delivery: str
    pid: int
    at: float


class Judge:
    """The verdict on a finished run: ``violations``, one sentence each, and :meth:`figures`."""

    def __init__(self, chaos: Chaos, history: History, client: redis.Redis) -> None:
        self.violations: list[str] = [*chaos.hung, *history.broken]
        self._chaos = chaos
        self._history = history
        self._items = {item.number: item for item in chaos.items.values()}
        self._payloads = {item.number: payload for payload, item in chaos.items.items()}
        self._store = chaos.store
        self._workers = {worker.pid: worker for worker in chaos.workers}
        evidence = [json.loads(line) for line in (chaos.folder / "evidence.jsonl").read_text().splitlines()]
        self._emissions = [
            Emission(line["number"], line["delivery"], line["pid"], line["time"])
            for line in evidence
            if line["what"] == "emit"
        ]
        self._own_kills = {line["pid"]: line for line in evidence if line["what"] == "kill"}
        self._done = [json.loads(text) for text in client.lrange(DONE_KEY, 0, -1)]
        kept = (chaos.folder / "project").rglob("chunkdl-refused/finished-*.json")
        self._kept = {json.loads(path.read_bytes())["number"] for path in kept}
        self._dead = client.lrange(f"{{{KEY}}}:dead", 0, -1)
        self._records = client.lrange(f"{{{KEY}}}:failed", 0, -1)
        self._keys = {key.decode() for key in client.keys("*")}
        self._left = {key: [field.decode() for field in client.hkeys(key)] for key in LEFT_BY_THE_DEAD}
        self._ends_by_itself = {key for key in (*LEFT_BY_THE_DEAD, host_health.KEY) if client.pttl(key) > 0}
        self._expected_paths: dict[Path, File] = {}
        for item in self._items.values():
            for file in item.files:
                self._expected_paths[self._path(file)] = file
        self._finished: set[Path] = set()
        self._causes: Counter[str] = Counter()
        self._given_up: Counter[str] = Counter()
        self._forgotten_ids, self._forgotten_pushes = _forgotten(chaos.forgotten)
        self._lost: set[int] = set()

    def judge(self) -> None:
        """Look at everything."""
        self._judge_workers()
        self._judge_places()
        self._judge_done()
        self._judge_feeds()
        self._judge_dead()
        self._judge_emissions()
        self._judge_keys()
        self._judge_store()

    def figures(self, elapsed: float) -> Iterator[tuple[str, object]]:
        """Yield what there is to tell, as names and figures."""
        done_to_us, deliveries = self._chaos.done_to_us, list(self._history.deliveries.values())
        points = Counter(line["point"] for line in self._own_kills.values())
        sent = {file: self._chaos.origin.stats(file.name).sent for file in self._expected_paths.values()}
        finished = {self._expected_paths[path] for path in self._finished if path in self._expected_paths}
        needed = sum(file.size for file in finished)
        again = {file: max(0, sent[file] - file.size) for file in finished}
        harmless = sum(count for file, count in again.items() if not file.faults)
        yield "seconds", f"{elapsed:.0f}"
        yield "items pushed", len(self._items)
        yield "  finished, in the done list once each", len(self._done)
        yield "  too large for the done list, in files", len(self._kept)
        dropped = sum(self._history.acked.values()) - len(self._done) - len(self._kept)
        yield "  dropped by a pipeline and acked", dropped
        yield "  dead, byte for byte", len(self._dead)
        if self._lost:
            yield "  lost with Redis' last seconds", len(self._lost)
        yield "deliveries", len(deliveries)
        for ended, number in sorted(Counter(str(delivery.ended) for delivery in deliveries).items()):
            yield f"  {ended}", number
        yield "files finished", len(finished)
        yield "  bytes", f"{needed:,}"
        # The origin counts what it wrote: what was in sockets when a worker died is in it, though nobody had it.
        yield "  bytes sent more than once", f"{sum(again.values()):,} ({sum(again.values()) / max(1, needed):.1%})"
        yield "    of files without a fault", f"{harmless:,}"
        yield "files given up, each with its record", sum(self._given_up.values())
        for reason, number in sorted(self._given_up.items()):
            yield f"  {reason}", number
        yield "requests", self._chaos.origin.requests
        yield "worker processes", len(self._workers)
        yield "killed by itself", sum(points.values())
        for point, number in sorted(points.items()):
            yield f"  {point}", number
        for what, number in sorted(done_to_us.items()):
            yield what, number
        away = sum(end - begin for begin, end in self._chaos.outages)
        yield "seconds without Redis", f"{away:.1f}"
        told = [worker.log.read_text(errors="replace") for worker in self._chaos.workers]
        yield "pauses of the schedule kept by workers", sum(log.count(": a pause of CHUNKDL_SCHEDULE") for log in told)
        yield "emissions", len(self._emissions)
        yield "  of them duplicates, each explained", sum(self._causes.values())
        for cause, number in sorted(self._causes.items()):
            yield f"    {cause}", number

    # --- one promise after the other

    def _judge_workers(self) -> None:
        for worker in self._chaos.workers:
            end = worker.process.returncode
            asked = [number for _, number in worker.signals]
            log = worker.log.read_text(errors="replace")
            if asked and "Spider opened" not in log:  # it did not yet listen to signals
                continue
            if end == -signal.SIGKILL and signal.SIGKILL not in asked and worker.pid not in self._own_kills:
                self._blame(f"worker {worker.pid} was killed by somebody else: is there enough memory?")
            elif end not in (0, -signal.SIGKILL) and not worker.was_forced:
                self._blame(f"worker {worker.pid} ended with {end}: see {worker.log}")
            elif end == 0 and not asked and worker.end < self._chaos.over_at:
                self._blame(f"worker {worker.pid} ended by itself: see {worker.log}")
            for line in log.splitlines():
                if SUSPICIOUS.search(line):
                    self._blame(f"worker {worker.pid} says {line.strip()!r}: see {worker.log}")

    def _judge_places(self) -> None:
        """Every item is acked or dead, and that once."""
        for number, payload in self._payloads.items():
            places = self._history.acked[payload] + self._history.dead[payload]
            if self._history.pushed[payload] == 0 and payload in self._forgotten_pushes:
                self._lost.add(number)
            elif places != 1:
                ends = [f"{delivery.id} {delivery.ended}" for delivery in self._deliveries_of(number)]
                self._blame(f"item {number} is in {places} places at the end; its deliveries: {ends or 'none'}")
        if strangers := self._history.pushed.keys() - set(self._payloads.values()):
            self._blame(f"items were pushed that nobody made: {list(strangers)[:3]}")

    def _judge_done(self) -> None:
        records = self._read_records()
        times = Counter(entry["number"] for entry in self._done)
        acked = {number for number, payload in self._payloads.items() if self._history.acked[payload]}
        for number, count in times.items():
            if count != 1:
                self._blame(f"item {number} is in the done list {count} times")
        for number in acked ^ set(times):
            kind = self._items[number].kind
            is_kept = kind == "grown" and number in self._kept
            if number in times or not (kind == "dropped" or is_kept):
                self._blame(f"item {number}, {kind}, is acked or in the done list, but not both")
        for entry in self._done:
            item = self._items[entry["number"]]
            if item.kind != "plain":
                self._blame(f"item {item.number} is {item.kind} and in the done list")
            if self._history.deliveries[entry["delivery"]].ended != "acked":
                self._blame(f"item {item.number} was finished by delivery {entry['delivery']}, which was not acked")
            for file, attachment in zip(item.files, entry["data"][0]["attachments"], strict=True):
                url = attachment["ori_url"]
                earlier = [records.get((delivery.id, url)) for delivery in self._deliveries_of(item.number)]
                told = next((record for record in reversed(earlier) if record is not None), None)
                self._judge_attachment(item, file, attachment, records.get((entry["delivery"], url)), told)

    def _judge_feeds(self) -> None:
        """What is acked lies in a feed by then, if that is what acks wait for, and all lines there are items."""
        fed: set[str] = set()
        for feed in self._chaos.feeds.glob("*.jsonl"):
            *lines, torn = feed.read_bytes().split(b"\n")
            fed |= {json.loads(line)["delivery"] for line in lines}
            worker = self._workers.get(int(feed.stem.rsplit("-", 2)[1]))
            if torn and (worker is None or worker.process.returncode == 0):
                self._blame(f"{feed} ends in the middle of an item")
        for delivery in self._history.deliveries.values() if self._chaos.acks_by_feed else ():
            item = self._chaos.items[delivery.payload]
            if delivery.ended == "acked" and item.kind != "dropped" and delivery.id not in fed:
                self._blame(f"item {item.number} was acked by {delivery.id}, and is in no feed")

    def _judge_attachment(
        self,
        item: Item,
        file: File,
        attachment: dict[str, Any],
        record: dict[str, Any] | None,
        told: dict[str, Any] | None,
    ) -> None:
        """``record`` is of the delivery that finished the item, ``told`` the last of any: the same is told once."""
        name = f"file {file.name} ({file.faults or 'no faults'}) of item {item.number}"
        if attachment["path"]:
            path = Path(attachment["path"])
            self._finished.add(path)
            if path != self._path(file):
                self._blame(f"{name} is at {path}, not {self._path(file)}")
            if not path.is_file():
                self._blame(f"{name} is not there")
            if record is not None:
                self._blame(f"{name} is there and given up: {record['message']}")
        elif told is None:
            self._blame(f"{name} is not there, and no record tells why")
        else:
            self._given_up[told["reason"]] += 1
            if file.versions:
                self._blame(f"{name} was given up though it could be had: {told['message']}")

    def _read_records(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the records by delivery and URL; each must end with its item, byte for byte."""
        records = {}
        for text in self._records:
            record = json.loads(text)
            delivery = self._history.deliveries.get(record["delivery"])
            if record["reason"] in ("bad_item", "pipeline_failed") or delivery is None:
                continue
            if "item" in record and not text.endswith(b', "item": ' + delivery.payload + b"}"):
                self._blame(f"a record of {record['url']} does not have the exact item: {text[-200:]!r}")
            if (key := (record["delivery"], record["url"])) in records:
                self._blame(f"delivery {key[0]} has two records of {key[1]}")
            records[key] = record
        return records

    def _judge_dead(self) -> None:
        if Counter(self._dead) != self._history.dead:
            self._blame("the dead list is not what the log of Redis says")
        records = [json.loads(text) for text in self._records]
        buried = Counter(one["delivery"] for one in records if one["reason"] in ("bad_item", "pipeline_failed"))
        for payload in self._dead:
            if (item := self._chaos.items.get(payload)) is None:
                self._blame(f"a dead item has other bytes than were pushed: {payload!r}")
                continue
            last = self._deliveries_of(item.number)[-1]
            if item.kind == "unreadable":
                if last.ended != "buried" or buried[last.id] != 1:
                    self._blame(f"item {item.number} cannot be read: {last.ended}, {buried[last.id]} records")
            elif last.ended == "buried":
                if item.kind != "poison" or buried[last.id] != 1:
                    self._blame(f"item {item.number} is {item.kind}, and was buried with {buried[last.id]} records")
            elif last.count != MAX_DELIVERIES or last.ended != "ran out":
                self._blame(f"item {item.number} is dead after {last.count} deliveries, the last {last.ended}")
        for number, item in self._items.items():
            if item.kind in ("poison", "killer", "unreadable") and self._history.acked[self._payloads[number]]:
                self._blame(f"item {number} is {item.kind} and was acked")

    def _judge_emissions(self) -> None:
        """An item comes out again only if the process died, or lost its lease, between the emission and the ack."""
        for delivery, count in Counter(emission.delivery for emission in self._emissions).items():
            if count != 1:
                self._blame(f"delivery {delivery} was emitted {count} times")
        by_number: dict[int, list[Emission]] = defaultdict(list)
        for emission in self._emissions:
            by_number[emission.number].append(emission)
        for entry in self._done:
            if entry["delivery"] not in {emission.delivery for emission in by_number[entry["number"]]}:
                self._blame(f"item {entry['number']} is done, by a delivery that emitted nothing")
        for emission in self._emissions:
            delivery = self._history.deliveries.get(emission.delivery)
            if emission.delivery in self._forgotten_ids:
                self._causes["forgotten with Redis' last second"] += 1
            elif delivery is None:
                self._blame(f"item {emission.number} was emitted by a delivery Redis never made, {emission.delivery}")
            elif delivery.ended == "ran out":
                self._causes[self._cause(emission, delivery)] += 1
            elif delivery.ended != "acked":
                self._blame(f"item {emission.number} was emitted, and its delivery then {delivery.ended}")

    def _cause(self, emission: Emission, delivery: Delivery) -> str:
        """Say why this emission was not followed by an ack, from what was done to its process in the meantime."""
        worker = self._workers[delivery.pid]
        over = delivery.ended_at / 1000 or float("inf")
        if delivery.pid != emission.pid:
            self._blame(f"delivery {delivery.id} of process {delivery.pid} was emitted by {emission.pid}")
        if over < delivery.runs_out / 1000:
            self._blame(f"delivery {delivery.id} was taken over while its lease held")
        if emission.at <= self._killed_at(worker) <= over:
            return "killed between emit and ack"
        if worker.was_forced and emission.at <= worker.end <= over:
            return "interrupted twice between emit and ack"
        if worker.was_frozen(emission.at, over):
            return "frozen until the lease was lost"
        if self._redis_was_away(delivery.runs_out / 1000 - LEASE, over):
            return "lease lost while Redis was away"
        return "lease lost on a busy machine"

    def _killed_at(self, worker: Worker) -> float:
        if (own := self._own_kills.get(worker.pid)) is not None:
            return float(own["time"])
        return next((at for at, number in worker.signals if number == signal.SIGKILL), float("inf"))

    def _judge_keys(self) -> None:
        """Nothing is left in Redis but what people are to see, and for a while what processes that died said last."""
        for_people = {DONE_KEY, f"{{{KEY}}}:dead", f"{{{KEY}}}:failed"}
        for key in self._keys - for_people - {*LEFT_BY_THE_DEAD, host_health.KEY}:
            self._blame(f"the key {key} is left in Redis")
        for key in (self._keys & {*LEFT_BY_THE_DEAD, host_health.KEY}) - self._ends_by_itself:
            self._blame(f"the key {key} is left in Redis for ever")
        for key in self._keys & set(LEFT_BY_THE_DEAD):
            for field in self._left[key]:
                self._judge_left(key, field.split()[0])

    def _judge_left(self, key: str, token: str) -> None:
        if token == FEEDER:
            return
        worker = self._workers[int(token.split(":")[1])]
        in_order = worker.process.returncode == 0 and not worker.was_forced
        if in_order and not self._redis_was_away(worker.end - 10, worker.end):
            self._blame(f"{key} tells of {token}, which ended in order")

    def _judge_store(self) -> None:
        """Only right files under final names, and parts only of files given up or of items that are dead or lost."""
        unfinished = [*self._lost, *(self._chaos.items[payload].number for payload in self._dead)]
        may_be_left = {self._path(file) for number in unfinished for file in self._items[number].files}
        for path in sorted(found for found in self._store.rglob("*") if found.is_file()):
            final = path.with_name(re.sub(r"\.part(\.journal~?)?$", "", path.name))
            file = self._expected_paths.get(final)
            if file is None:
                self._blame(f"{path} is a file that nobody asked for")
            elif path == final:
                if hashlib.sha256(path.read_bytes()).hexdigest() not in file.digests:
                    self._blame(f"{path} is a WRONG FILE under a final name: {file}, {path.stat().st_size} bytes")
            elif final in self._finished:
                self._blame(f"{path} is left beside the finished file")
            elif file.versions and final not in may_be_left:
                self._blame(f"{path} is left of a file that could be had: {file}")

    # --- help

    def _path(self, file: File) -> Path:
        url = file.url(self._chaos.origin, self._chaos.seed)
        return self._store / naming.file_path(url, f"{file.name}.bin")

    def _redis_was_away(self, begin: float, end: float) -> bool:
        return any(since < end and until > begin for since, until in self._chaos.outages)

    def _deliveries_of(self, number: int) -> list[Delivery]:
        return self._history.of(self._payloads[number])

    def _blame(self, violation: str) -> None:
        self.violations.append(violation)


def _forgotten(tails: list[bytes]) -> tuple[set[str], set[bytes]]:
    """Return the ids of deliveries, and the items pushed, of the parts of Redis' log that a crash took."""
    ids: set[str] = set()
    pushed: set[bytes] = set()
    for tail in tails:
        for commands in transactions(tail[max(0, tail.find(b"*")) :]):
            for name, key, *words in commands:
                if key.endswith(b":payload") and name.upper() in (b"HSET", b"HDEL"):
                    ids.add(words[0].decode())
                elif key == KEY.encode():
                    pushed.update(words)
    return ids, pushed
