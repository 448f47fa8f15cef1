"""``scrapy chunkdl status``: how the queues are, as text or JSON.

Knows how numbers are shown; where they come from is :mod:`scrapy_chunkdl.queue.status`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from scrapy.settings import BaseSettings

from scrapy_chunkdl.commands.queues import SpiderQueue, opened
from scrapy_chunkdl.dashboard.board import statuses_as_dict
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain
from scrapy_chunkdl.queue.status import Status, Worker, look
from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.units import size_text

WATCH_EVERY = 2.0
"""Seconds between looks with ``--watch``."""

_CLEAR = "\x1b[H\x1b[J"
_MOST_SENTENCES = 20
_HEADINGS = ("host", "pid", "items", "held for", "heartbeat", "files", "connections", "up", "state")

Looked = Sequence[tuple[SpiderQueue, Status]]


def run(settings: BaseSettings, spider: str | None, *, as_json: bool, watch: bool) -> int:
    """Print the state of one spider's queue, or of all, once or again and again; return the exit code."""
    with opened(settings, spider) as queues:
        if not watch:
            looked = _look(queues)
            print(_json(looked) if as_json else "\n".join(_blocks(looked)))
            return 0
        try:
            while True:
                _show_again(queues, as_json=as_json)
                time.sleep(WATCH_EVERY)
        except KeyboardInterrupt:
            return 0


def _look(queues: Sequence[SpiderQueue]) -> Looked:
    return [(queue, look(queue.open())) for queue in queues]


def _show_again(queues: Sequence[SpiderQueue], *, as_json: bool) -> None:
    """Print over the last time on a terminal, else below it. A Redis that is away may come back: it is watched, too."""
    try:
        looked = _look(queues)
    except REDIS_ERRORS as error:
        print(f"{_now()} {explain(error)}", file=sys.stderr)
        return
    if as_json:
        print(_json(looked), flush=True)
    elif sys.stdout.isatty():
        print(_CLEAR + "\n".join([_now(), *_blocks(looked)]), flush=True)
    else:
        print("\n".join(_lines(looked)), flush=True)


def _json(looked: Looked) -> str:
    return json.dumps(statuses_as_dict((queue.spider, status) for queue, status in looked))


def _lines(looked: Looked) -> Iterator[str]:
    for queue, status in looked:
        counts, rate = status.counts, status.throughput[1]
        yield (
            f"{_now()} {queue.spider} waiting={counts.waiting} leased={counts.leased} delayed={counts.delayed} "
            f"parked={counts.parked} failed={counts.failed} dead={counts.dead} workers={len(status.workers)} "
            f"items_per_second={rate.items_per_second:.3g} bytes_per_second={rate.bytes_per_second:.0f}"
        )


def _blocks(looked: Looked) -> Iterator[str]:
    if not looked:
        yield "No spider of this project has a queue."
    for queue, status in looked:
        counts = status.counts
        yield printable(f"{queue.spider}: {queue.place}")
        yield (
            f"  {counts.waiting} waiting, {counts.leased} leased, {counts.delayed} delayed, "
            f"{f'{counts.parked} parked, ' if counts.parked else ''}{counts.failed} failed, {counts.dead} dead"
        )
        if asked := _asked(status):
            yield f"  {asked}"
        if status.workers:
            rates = (
                f"{minutes} min {rate.items_per_second:.3g} items/s {size_text(rate.bytes_per_second)}/s"
                for minutes, rate in status.throughput.items()
            )
            yield "  " + ", ".join(rates)
            yield from _table([_HEADINGS, *map(_row, status.workers)])
        yield from _waits(status)


def _asked(status: Status) -> str:
    """Tell what people asked of all processes: nothing, as a rule."""
    parts = ["claiming is paused"] if status.paused else []
    if status.max_rate is not None:
        parts.append(
            f"at most {size_text(status.max_rate)}/s each" if status.max_rate else "no limit in bytes per second"
        )
    return ", ".join(parts)


def _waits(status: Status) -> Iterator[str]:
    """Tell what is waited for, in the words of whoever decided it."""
    of_workers = dict.fromkeys(sentence for worker in status.workers for sentence in worker.waits)
    sentences = [*of_workers, *(ill.sentence() for ill in status.ill_hosts)]
    for sentence in sentences[:_MOST_SENTENCES]:
        yield f"  {printable(sentence)}"
    if len(sentences) > _MOST_SENTENCES:
        yield f"  ... and {len(sentences) - _MOST_SENTENCES} more"


def _row(worker: Worker) -> tuple[str, ...]:
    return (
        printable(worker.host),
        "-" if worker.pid is None else str(worker.pid),
        str(worker.items),
        _duration(worker.longest_held),
        _duration(worker.silent_for, " ago"),
        "-" if worker.files is None else str(worker.files),
        "-" if worker.connections is None else str(worker.connections),
        _duration(worker.up_for),
        printable(worker.state),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _duration(seconds: float | None, ago: str = "") -> str:
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s{ago}"
    if whole < 7200:
        return f"{whole // 60} min{ago}"
    return f"{whole // 3600} h {whole % 3600 // 60} min{ago}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
