"""What runs inside the workers of a chaos run: pipelines that trouble and tell, and death at the chosen points.

Imported by the throw-away project's settings. Everything told goes to ``evidence.jsonl``, appended by one write and
synced before the next step, so that it outlives the process by any death. ``ItemQueue`` is tapped at its public methods
only: the item is told its delivery, as nothing else tells pipelines of it, and is not altered in Redis.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import decisions
from scrapy import signals
from scrapy.exceptions import DontCloseSpider, DropItem

from scrapy_chunkdl.crawl import disk_gate, postponing, schedule
from scrapy_chunkdl.queue import host_health
from scrapy_chunkdl.queue.item_queue import ItemQueue, Suspects
from scrapy_chunkdl.queue.life import Claimed

host_health.FIRST_PAUSE_S, host_health.LONGEST_PAUSE_S = 0.5, 3.0  # an origin that was closed is tried again soon
postponing.SUSPECT_HOST_DELAY_S = 0.2
disk_gate.FIRST_PAUSE_S, disk_gate.LONGEST_PAUSE_S = 0.2, 1.0

FOLDER = Path(os.environ["CHAOS_FOLDER"])
SEED = os.environ["CHAOS_SEED"]
CALM = FOLDER / "calm"
"""Once this exists nothing is done to items any more, but what is done to every delivery of theirs."""

AWAY = FOLDER / "away"
"""While this exists a later pipeline fails for every item, as with a database that is away."""

MORE = FOLDER / "more"
"""While this exists, the workers stay though the list is empty."""

CLOCK = FOLDER / "clock"
"""What the clock of the schedule shows, in seconds of a day; where there is none it is midnight."""


def clock() -> float:
    try:
        return float(CLOCK.read_text())
    except FileNotFoundError:
        return 0.0


schedule.ScheduleGate.__init__.__defaults__ = (clock,)

_evidence = os.open(FOLDER / "evidence.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_deliveries: dict[str, tuple[int, int]] = {}


class SeededFailure(Exception):
    """Raised by a later pipeline because the dice said so."""


def tell(what: str, **fields: object) -> None:
    """Append one line of evidence, and have it on disk before anything else happens."""
    line = json.dumps({"what": what, "pid": os.getpid(), "time": time.time(), **fields})
    os.write(_evidence, line.encode() + b"\n")
    os.fsync(_evidence)


def die_if_chosen(point: str, number: int, delivery: int) -> None:
    if decisions.kill_point(SEED, number, delivery) == point and not CALM.exists():
        tell("kill", point=point, number=number, deliveries=delivery)
        os.kill(os.getpid(), signal.SIGKILL)


def _tap_claim() -> None:
    claim = ItemQueue.claim

    def tapped(self: ItemQueue, n: int, id_prefix: str, suspects: Suspects = "due") -> tuple[list[Claimed], int]:
        batch, dead = claim(self, n, id_prefix, suspects)
        return [_labelled(claimed) for claimed in batch], dead

    ItemQueue.claim = tapped  # type: ignore[method-assign]


def _labelled(claimed: Claimed) -> Claimed:
    try:
        item = json.loads(claimed.payload)
    except ValueError:
        return claimed
    delivery = claimed.deliveries + claimed.errors
    _deliveries[claimed.id] = item["number"], delivery
    die_if_chosen("claimed", item["number"], delivery)
    item |= {"delivery": claimed.id, "deliveries": delivery}
    return dataclasses.replace(claimed, payload=json.dumps(item).encode())


def _tap_ack() -> None:
    ack = ItemQueue.ack

    def tapped(self: ItemQueue, finished: Iterable[tuple[str, bytes | None]]) -> list[str]:
        acks = list(finished)
        for item_id, _ in acks:
            die_if_chosen("before the ack", *_deliveries[item_id])
        acked = ack(self, acks)
        for item_id, _ in acks:
            die_if_chosen("after the ack", *_deliveries[item_id])
        return acked

    ItemQueue.ack = tapped  # type: ignore[method-assign]


_tap_claim()
_tap_ack()


class Trouble:
    """A pipeline behind ours that is slow, drops items, makes them large, fails, or ends the process."""

    async def process_item(self, item: dict[str, Any], spider: object = None) -> dict[str, Any]:
        number, delivery = item["number"], item["deliveries"]
        die_if_chosen("downloaded", number, delivery)
        if item["kind"] == "killer":
            tell("kill", point="by its item", number=number, deliveries=delivery)
            os.kill(os.getpid(), signal.SIGKILL)
        if AWAY.exists():
            raise ConnectionError("the database is away")
        await asyncio.sleep(decisions.slowness(SEED, number, delivery))
        if item["kind"] == "poison" or (decisions.fails(SEED, number, delivery) and not CALM.exists()):
            raise SeededFailure(f"item {number}, delivery {delivery}")
        if item["kind"] == "dropped":
            raise DropItem("as the dice said")
        return {**item, "text": "x" * decisions.GROWN_BYTES} if item["kind"] == "grown" else item


class Emit:
    """The last pipeline: what comes here is emitted."""

    def process_item(self, item: dict[str, Any], spider: object = None) -> dict[str, Any]:
        tell("emit", number=item["number"], delivery=item["delivery"])
        die_if_chosen("emitted", item["number"], item["deliveries"])
        return item


class StayOpen:
    """Keeps the crawl from ending while more is to come."""

    @classmethod
    def from_crawler(cls, crawler: Any) -> StayOpen:
        self = cls()
        crawler.signals.connect(self.idle, signals.spider_idle)
        return self

    def idle(self) -> None:
        if MORE.exists():
            raise DontCloseSpider
