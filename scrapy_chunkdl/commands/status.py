"""``scrapy chunkdl status``: how the queues are, as text or JSON.

Knows how numbers are shown; where they come from is :mod:`scrapy_chunkdl.queue.status`.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from scrapy.settings import BaseSettings

from scrapy_chunkdl.commands.queues import SpiderQueue, opened
from scrapy_chunkdl.dashboard.board import statuses_as_dict
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain
from scrapy_chunkdl.queue.forecast import forecast
from scrapy_chunkdl.queue.needs import is_idle, need_of, rank_of
from scrapy_chunkdl.queue.status import DONE, Status, Worker, look_at_all
from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.units import size_text

WATCH_EVERY = 2.0
"""Seconds between looks with ``--watch``."""

AT_ONCE = 10
"""Spiders shown in full unless all are asked for: as many as a terminal has room for."""

_CLEAR = "\x1b[H\x1b[J"
_MOST_SENTENCES = 20
_HEADINGS = ("host", "pid", "items", "held for", "heartbeat", "files", "connections", "up", "state")

Looked = Sequence[tuple[SpiderQueue, Status]]


def run(settings: BaseSettings, spider: str | None, *, as_json: bool, watch: bool, show_all: bool = False) -> int:
    """Print the state of one spider's queue, or of all, once or again and again; return the exit code.

    Of many, those that need a person come first, and the rest is counted unless ``show_all``.
    """
    most = sys.maxsize if show_all else AT_ONCE
    with opened(settings, spider) as queues:
        if not watch:
            looked = _look(queues)
            print(_json(looked) if as_json else "\n".join(_blocks(looked, most)))
            return 0
        try:
            while True:
                _show_again(queues, most, as_json=as_json)
                time.sleep(WATCH_EVERY)
        except KeyboardInterrupt:
            return 0


def _look(queues: Sequence[SpiderQueue]) -> Looked:
    return [*zip(queues, look_at_all([queue.open() for queue in queues]), strict=True)]


def _show_again(queues: Sequence[SpiderQueue], most: int, *, as_json: bool) -> None:
    """Print over the last time on a terminal, else below it. A Redis that is away may come back: it is watched, too."""
    try:
        looked = _look(queues)
    except REDIS_ERRORS as error:
        print(f"{_now()} {explain(error)}", file=sys.stderr)
        return
    if as_json:
        print(_json(looked), flush=True)
    elif sys.stdout.isatty():
        print(_CLEAR + "\n".join([_now(), *_blocks(looked, most)]), flush=True)
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


def _blocks(looked: Looked, most: int) -> Iterator[str]:
    if not looked:
        yield "No spider of this project has a queue."
    ordered = sorted(looked, key=lambda one: (rank_of(one[1]), one[0].spider))
    yield from _block_of_each(ordered[:most])
    if rest := ordered[most:]:
        kinds = Counter(_kind(status) for _, status in rest)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        yield f"… and {len(rest)} more: {told}. All of them: scrapy chunkdl status --all"


def _kind(status: Status) -> str:
    if (need := need_of(status)) is not None:
        return f"where {need.sentence}"
    return "idle" if is_idle(status) else "at work" if status.running("files") else "where nothing runs"


def _block_of_each(looked: Looked) -> Iterator[str]:
    for queue, status in looked:
        counts = status.counts
        yield printable(f"{queue.spider}: {queue.place}")
        yield printable(
            f"  {counts.waiting} waiting{_in_each(status)}, {counts.leased} leased, {counts.delayed} delayed, "
            f"{f'{counts.parked} parked, ' if counts.parked else ''}{counts.failed} failed, {counts.dead} dead"
        )
        if (need := need_of(status)) is not None:
            yield f"  {'!! ' if need.is_urgent else '! '}{need.sentence}"
        if told := _done(status):
            yield f"  {told}"
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


def _in_each(status: Status) -> str:
    told = ", ".join(f"{number} in {key}" for key, number in status.lists.items())
    return f" ({told})" if len(status.lists) > 1 else ""


def _done(status: Status) -> str:
    """Tell what was done so far by all processes there were, and when the rest will be: nothing where nothing was."""
    counts = status.counted.counts
    files = sum(counts.get(name, 0) for name in DONE["files"])
    if not files and not status.backlog:
        return ""
    told = f"{files:.0f} files done, {size_text(counts.get('received', 0))} received"
    expected = forecast(status.backlog, (rate.items_per_second for rate in status.throughput.values()))
    if not status.backlog:
        return told
    if expected is None:
        return f"{told}; {status.backlog} items left, nobody can tell how long they take"
    if expected.sureness == "rough":
        left = f"{_duration(expected.at_best)} to {_duration(expected.at_worst)}"
    else:
        left = _duration(expected.seconds) + (" (a guess)" if expected.sureness == "guess" else "")
    return f"{told}; {status.backlog} items left, empty in {left}"


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
    sentences = [*of_workers, *(ill.sentence() for ill in status.waits_for)]
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
