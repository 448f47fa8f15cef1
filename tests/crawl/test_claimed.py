"""The life of a claimed item: the table, and the real consumer against it.

The consumer, the courier, the heartbeat and the server are real. What they wait for is in the hands of the test: when a
file ends and how, what the pipelines make of an item, when a feed is safe, and when another process takes an item.
"""

from __future__ import annotations

import json
import queue
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from patience import HANG
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector

from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl import backpressure, breaker, disk_gate, polling, queue_mode, unreadable
from scrapy_chunkdl.crawl.claimed import ENDS, ROWS, ClaimedItem, Event, Row, State, Undeclared
from scrapy_chunkdl.crawl.item_files import ItemFiles
from scrapy_chunkdl.crawl.passage import Delivery
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.download import FileRequest, FileResult, HostIll, NoRoom, Permanent
from scrapy_chunkdl.download.disk.room import NO_RESERVE
from scrapy_chunkdl.download.limits.circuits import FILES, Circuits
from scrapy_chunkdl.items.attachments import Attachment
from scrapy_chunkdl.items.types import ItemTypes
from scrapy_chunkdl.queue import host_health
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.item_queue import Claimed, ItemQueue
from scrapy_chunkdl.settings.config import Config

LIST, PREFIX = "s:items", "{s:items}"
MOST_STEPS = 20_000
MOST_UNREADABLE = 3
HOST = "h:80"
PLACES = 8
"""Items that may be claimed and not settled; more than may be unreadable before one can be read."""


# --- the table


def test_each_event_leads_from_a_state_to_one_other() -> None:
    assert max(Counter((row.state, row.event) for row in ROWS).values()) == 1
    assert {row.to for row in ROWS} | {State.CLAIMED} == set(State)
    assert {row.event for row in ROWS} == set(Event)
    assert {row.verb for row in ROWS if row.to in ENDS} == {None}, "what ends an item is an answer, not a question"


def test_what_goes_to_redis_is_a_verb_of_the_queue() -> None:
    assert all(callable(getattr(ItemQueue, row.verb.value)) for row in ROWS if row.verb is not None)


def test_an_event_that_is_not_declared_raises_and_changes_nothing() -> None:
    item = ClaimedItem(Claimed("batch:1", b"{}", 1), claimed_at=0.0, lease_until=0.0)

    with pytest.raises(Undeclared, match="SAFE_IN_FEEDS cannot happen to an item that is CLAIMED"):
        item.take(Event.SAFE_IN_FEEDS)

    assert item.state is State.CLAIMED


# --- the consumer


class Sealed(Attachment):
    """One of an item that does not take what comes of it."""

    def write_back(self, *_: object) -> None:
        raise ValueError("path cannot be written")


class Requests:
    """What items want, by what they say: nothing, a file, or an error of the project's."""

    selects = False

    def __init__(self, is_away: Callable[[], bool]) -> None:
        self.is_away = is_away

    def wanted(self, item: Any) -> list[Attachment]:
        if item["wants"] == "error" or (self.is_away() and item["n"] % 3 == 0):
            raise RuntimeError("get_media_requests fails")
        kinds = {"file": Attachment, "sealed": Sealed}
        return [kinds[item["wants"]](url=f"http://h/{item['n']}")] if item["wants"] in kinds else []

    def build(self, item: Any, attachment: Attachment, may_publish: Callable[[], bool] | None) -> FileRequest:
        return FileRequest(attachment.url, Path(), may_publish=may_publish)

    def relative(self, result: FileResult) -> str:
        return "x"

    def problem_of_type(self, item: Any) -> str | None:
        return "it has no field for them" if item["wants"] == "field" else None


class Bridge:
    """Files that wait, begin and end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []
        self.begun: list[Job] = []

    def submit(self, jobs: Any) -> None:
        self.waiting += jobs

    def cancel(self, jobs: Any) -> None:
        for job in jobs:
            if job in self.waiting or job in self.begun:
                self.end(job, cancelled=True)

    def end(self, job: Job, **outcome: Any) -> None:
        (self.waiting if job in self.waiting else self.begun).remove(job)
        for name, value in outcome.items():
            setattr(job, name, value)
        self.deliver(lambda: job.on_done(job))

    deliver: Callable[[Callable[[], object]], object]

    def is_running(self, job: Job) -> bool:
        return job in self.begun

    def running(self) -> int:
        return len(self.begun)

    def bytes_fetched(self) -> int:
        return 0

    def jobs_running(self) -> list[Job]:
        return list(self.begun)

    def hosts(self) -> dict[str, Any]:
        return {}


class Passage:
    """Pipelines that are through with an item when the test says so."""

    sent: list[tuple[Delivery, Callable[[], object]]]

    def __init__(self, *_: object) -> None:
        Passage.sent = []

    def send(self, delivery: Delivery, then: Callable[[], object]) -> None:
        self.sent.append((delivery, then))

    def rest(self) -> bool:
        return False


class Feeds:
    """Feeds that are safe, or lost, when the test says so."""

    may_flush = False

    def __init__(self) -> None:
        self.held: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def scraped(self, safe: Callable[[], None], lost: Callable[[], None]) -> None:
        self.held.append((safe, lost))


class World:
    """One process after the other, on one list, and another that takes what is not renewed."""

    def __init__(self, url: str, client: redis.Redis, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.client = client
        self.settings = Settings({"REDIS_URL": url})
        self.folder = folder
        self.numbers = iter(range(10**9))
        self.inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.other = ItemQueue(make_client(self.settings), LIST)
        self.mode: queue_mode.QueueMode | None = None
        self.heartbeats: list[Heartbeat] = []
        self.is_away = False

    def begin(self) -> None:
        """Start a process with settings of its own."""
        self.end()
        choose = self.random.choice
        config = Config.read(
            {
                "CHUNKDL_BATCH_SIZE": PLACES,
                "CHUNKDL_THREADS": 1,
                "CHUNKDL_MAX_DELIVERIES": 2,
                "CHUNKDL_RETRY_DELAY": 0,
                "CHUNKDL_LEASE": 3600,
                "CHUNKDL_ON_FAILURE": choose(["continue", "hold"]),
                "CHUNKDL_DONE_KEY": choose([None, "{s:items}:done"]),
                "CHUNKDL_WORK_FOLDER": str(self.folder),
            }
        )
        self.bridge, self.feeds = Bridge(), choose([None, Feeds()])
        self.bridge.deliver = self.inbox.put
        crawler: Any = SimpleNamespace(settings=self.settings, spider=SimpleNamespace(name="s"))
        stats = Stats(MemoryStatsCollector(SimpleNamespace(settings=self.settings)))  # type: ignore[arg-type]
        requests = Requests(lambda: self.is_away)

        def new_files(item: Any, **arguments: Any) -> ItemFiles:
            return ItemFiles(
                item,
                requests=requests,  # type: ignore[arg-type]
                config=config,
                stats=stats,
                announce=lambda *_, **__: None,
                **arguments,
            )

        self.circuits = Circuits()
        limits: Any = SimpleNamespace(connections=lambda: 0, hosts=dict, circuits=self.circuits)
        self.mode = queue_mode.QueueMode(
            crawler,
            config,
            LIST,
            self.bridge,  # type: ignore[arg-type]
            limits,
            self.inbox.put,
            stats=stats,
            item_types=ItemTypes(),
            problem_of_type=requests.problem_of_type,
            announce=lambda *_, **__: None,
            new_files=new_files,
            wake=lambda: None,
            feeds=self.feeds,  # type: ignore[arg-type]
            url_fields=(),
            admit=None,
            disk=disk_gate.DiskGate(self.folder, NO_RESERVE),
        )
        self.mode.open()
        self.settle_down()

    def end(self) -> None:
        if self.mode is not None:
            self.mode.close()
            self.mode = None

    def settle_down(self) -> None:
        """Run what is delivered, until Redis has answered all that was asked."""
        assert self.mode is not None
        for _ in range(3):  # an answer may ask again
            answered: list[int] = []
            self.mode.ask_queued(answered.append)
            while not answered:
                self.inbox.get(timeout=HANG)()

    # --- what may happen

    def step(self) -> None:
        steps = {
            self.push: 3,
            self.tick: 4,
            self.begin_file: 3,
            self.end_file: 6,
            self.pass_pipelines: 6,
            self.settle_feed: 3,
            self.another_takes_one: 1.5,
            self.begin_or_end_outage: 0.2,
            self.host_falls_or_serves: 0.3,
            self.stop: 0.15,
        }
        [step] = self.random.choices([*steps], [*steps.values()])
        step()
        self.settle_down()

    def push(self) -> None:
        kinds = {"file": 12, "nothing": 1, "error": 1, "field": 1, "sealed": 1, "unreadable": 1, "list": 1}
        if self.mode is not None and self.random.random() < 0.02:
            kinds = {"unreadable": 1}
        for wants in self.random.choices([*kinds], [*kinds.values()], k=4):
            payload = {"unreadable": "{", "list": "[]"}.get(wants)
            self.client.rpush(LIST, payload or json.dumps({"wants": wants, "n": next(self.numbers)}))

    def tick(self) -> None:
        assert self.mode is not None
        self.mode.tick()
        self.mode.rest(ends=False)

    def begin_file(self) -> None:
        if self.bridge.waiting:
            self.bridge.begun.append(self.bridge.waiting.pop(0))

    def end_file(self) -> None:
        jobs = self.bridge.begun + self.bridge.waiting
        if not jobs:
            return
        job = self.random.choice(jobs)
        given_up = Permanent("gone", reason="http_404")
        result = FileResult("http://h/x", "http://h/x", Path("/store/x"), 1)
        outcomes: list[dict[str, Any]] = [{"result": result}] * 6 + [{"error": given_up}] * 3
        outcomes += [{"error": NoRoom("the disk is full")}, {"error": HostIll("it is ill", host=HOST)}]
        outcomes += [{"cancelled": True}, *[{"result": "no result: settling it raises"}] * 2]
        self.bridge.end(job, **self.random.choice(outcomes))

    def pass_pipelines(self) -> None:
        if not Passage.sent:
            return
        delivery, then = Passage.sent.pop(self.random.randrange(len(Passage.sent)))
        delivery.outcome = self.random.choice(["scraped"] * 6 + ["dropped", "error"] + ["error"] * 40 * self.is_away)
        delivery.output = self.random.choice([delivery.item, delivery.item, delivery.item, {"no JSON": object()}])
        delivery.error = ValueError("of a pipeline") if delivery.outcome == "error" else None
        then()

    def begin_or_end_outage(self) -> None:
        """The database that the project's pipelines and hooks need is away, or back."""
        self.is_away = not self.is_away

    def host_falls_or_serves(self) -> None:
        """The host of all files refuses what it is asked for, one file after the other, or serves again."""
        for number in range(FILES):
            status = 200 if self.circuits.ill(HOST) and not number else 503
            self.circuits.answered(HOST, number, status, time.monotonic())
            if status == 200:
                return

    def settle_feed(self) -> None:
        if self.feeds is not None and self.feeds.held:
            safe, lost = self.feeds.held.pop(0)
            self.random.choice([safe, safe, lost])()

    def another_takes_one(self) -> None:
        """A lease runs out, another process claims the item, and the heartbeat hears of it, or only the ack does."""
        leased = [key.decode() for key in self.client.zrange(f"{PREFIX}:leases", 0, -1)]
        if not leased:
            return
        self.client.zadd(f"{PREFIX}:leases", {self.random.choice(leased): 1})
        batch, _ = self.other.claim(1, f"o{next(self.numbers)}")
        if self.random.random() < 0.7:
            self.heartbeats[-1].beat()
        self.settle_down()
        self.other.release([claimed.id for claimed in batch])

    def stop(self) -> None:
        """The process ends, perhaps while it claims: what it holds goes back. Another takes its place."""
        assert self.mode is not None
        if self.random.random() < 0.5:
            self.push()
            self.tick()
        self.mode.stop_claiming()
        self.settle_down()
        self.mode.hand_back()
        self.settle_down()
        while Passage.sent:
            self.pass_pipelines()
            self.settle_down()
        while self.feeds is not None and self.feeds.held:
            self.settle_feed()
            self.settle_down()
        assert self.mode.is_settled(True)
        if self.random.random() < 0.5:
            self.client.flushall()
            self.push_unreadable()
        self.begin()

    def push_unreadable(self) -> None:
        for _ in range(self.random.choice([1, MOST_UNREADABLE - 1, MOST_UNREADABLE + 1])):
            self.client.rpush(LIST, "{")


@pytest.fixture
def world(redis_url: str, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(redis_url, client, tmp_path, seed=15)

    class Recorded(Heartbeat):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            world.heartbeats.append(self)

    monkeypatch.setattr(queue_mode, "Heartbeat", Recorded)
    monkeypatch.setattr(queue_mode, "Passage", Passage)
    monkeypatch.setattr(queue_mode.refusal, "close", lambda *_: None)
    monkeypatch.setattr(unreadable, "MOST_UNREADABLE", MOST_UNREADABLE)
    for module, names in {
        backpressure: ("LOOK_EVERY_S", "ALONE_FOR_S"),
        breaker: ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"),
        disk_gate: ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"),
        polling: ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"),
        host_health: ("FIRST_PAUSE_S", "LONGEST_PAUSE_S"),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, 0.0)
    yield world
    world.end()


def test_whatever_happens_only_what_the_table_declares_comes_to_pass_and_all_of_it_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[Row] = set()
    undeclared: list[str] = []
    take = ClaimedItem.take

    def recorded(item: ClaimedItem, event: Event) -> Row:
        try:
            row = take(item, event)
        except Undeclared as error:
            undeclared.append(str(error))
            raise
        seen.add(row)
        return row

    monkeypatch.setattr(ClaimedItem, "take", recorded)
    world.begin()

    for _ in range(MOST_STEPS):
        world.step()
        if len(seen) == len(ROWS):
            break

    assert undeclared == []
    assert {(row.state.name, row.event.name) for row in set(ROWS) - seen} == set()
