"""What processes count is added up in Redis, once, and stays when they are gone."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from scrapy_chunkdl.queue import totals as totals_module
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.metrics_table import COUNTED, HISTORY, METRICS, MOST_VALUES, SIZE_CLASSES, size_class
from scrapy_chunkdl.queue.status import look
from scrapy_chunkdl.queue.tally import Tally
from scrapy_chunkdl.queue.totals import MOST_MARKS, Totals

LIST, TOTALS, MARKS = "s:items", "{s:items}:totals", "{s:items}:marks"
DAY = 86400
DOCS = Path(__file__).parent.parent.parent / "docs"

NewQueue = Callable[..., ItemQueue]


@pytest.fixture
def new_totals(new_queue: NewQueue) -> Callable[[str], Totals]:
    return lambda token: Totals(new_queue().client, LIST, token)


def tell(totals: Totals, tally: Tally) -> None:
    part = tally.part()
    assert part is not None
    assert totals.add(part)
    tally.has(part)


def test_counts_of_all_processes_add_up(new_totals: Callable[[str], Totals]) -> None:
    one, other = new_totals("one"), new_totals("other")
    tallies = Tally(), Tally()
    for tally in tallies:
        tally.add({"files/downloaded": 2})
        tally.add({"failures/http_404": 1})
        tally.add({"items/claimed": 3})
        tally.answered(200, 0.02)
        tally.answered(None, 1.0)

    tell(one, tallies[0])
    tell(other, tallies[1])
    tallies[1].add({"files/downloaded": 1})
    tell(other, tallies[1])

    counts = one.read().counts
    assert counts["files/downloaded"] == 5
    assert counts["failures/http_404"] == 2
    assert (counts["items/claimed"], counts["deliveries"]) == (6, 6)
    assert (counts["answers/2xx"], counts["answers/none"]) == (2, 2)
    assert (counts["first_byte/1"], counts["first_byte/sum"]) == (2, 0.04)
    assert tallies[1].part() is None


def test_a_part_whose_reply_was_lost_counts_once(new_totals: Callable[[str], Totals]) -> None:
    totals, tally = new_totals("one"), Tally()
    tally.add({"files/failed": 3})
    lost = tally.part()
    assert lost is not None
    totals.add(lost)  # Redis has it, nobody here knows
    tally.add({"files/failed": 4})

    tell(totals, tally)
    tell(totals, tally)

    assert totals.read(["files/failed"]).counts == {"files/failed": 7}


def test_a_process_that_starts_counts_from_its_own_first_part(new_totals: Callable[[str], Totals]) -> None:
    totals = new_totals("one")
    for token in ("one", "two", "three"):
        tally = Tally()
        tally.add({"files/uptodate": 1})
        tell(new_totals(token), tally)

    assert totals.read().counts["files/uptodate"] == 3


def test_numbers_that_grow_elsewhere_are_followed_and_never_fall(new_totals: Callable[[str], Totals]) -> None:
    totals, tally = new_totals("one"), Tally()
    seen = iter([100, 250, 240, 300])
    tally.follow(lambda: {"received": next(seen)})

    for _ in range(2):
        tell(totals, tally)
    assert tally.part() is None  # it fell: nothing came
    tell(totals, tally)

    assert totals.read().counts["received"] == 310


def test_a_part_of_yesterday_is_told_again_today(
    new_totals: Callable[[str], Totals], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals_module.time, "time", lambda: 5 * DAY)
    totals, tally = new_totals("one"), Tally()
    monkeypatch.undo()
    tally.add({"files/downloaded": 1})
    part = tally.part()
    assert part is not None

    assert not totals.add(part)
    assert totals.read().counts == {}
    assert totals.add(part)

    assert totals.read().counts == {"files/downloaded": 1}
    [hour] = totals.history()
    assert hour.counts == {"files/downloaded": 1}


def test_history_is_kept_by_the_hour_and_ends_by_itself(
    new_totals: Callable[[str], Totals], client: redis.Redis
) -> None:
    totals, tally = new_totals("one"), Tally()
    for name in HISTORY:
        tally.add({name: 7})
    tally.add({"retries/stalled": 9})
    tell(totals, tally)

    [hour] = totals.history()

    now = client.time()[0]
    assert now - 3600 - 60 < hour.at <= now
    assert hour.at % 3600 == 0
    assert hour.counts == dict.fromkeys(HISTORY, 7)
    [key] = client.scan_iter("*history*")
    assert 90 * DAY < client.ttl(key) <= 91 * DAY
    assert 90 * DAY < client.ttl(TOTALS) <= 91 * DAY


@pytest.mark.parametrize(
    ("written", "is_read"),
    [(b"12", 12), (b"x", None), (b"nan", None), (b"-3", None), (b"1e400", None)],
)
def test_what_others_wrote_among_the_counts_is_passed_over(
    new_totals: Callable[[str], Totals], client: redis.Redis, written: bytes, is_read: float | None
) -> None:
    totals = new_totals("one")
    client.hset(TOTALS, "files/failed", written)
    client.hset(totals.history_key(int(time.time()) // DAY), mapping={b"07x": written, b"99x": b"1", b"\xff": b"1"})

    assert totals.read().counts.get("files/failed") == is_read
    assert [hour.counts for hour in totals.history()] == ([{"files/failed": 12}] if is_read else [])


def test_labels_are_bounded(new_totals: Callable[[str], Totals]) -> None:
    totals, tally = new_totals("one"), Tally()
    for n in range(MOST_VALUES + 20):
        tally.add({f"failures/reason_{n}": 1})
    for odd in ("failures/with space", "failures/ü", "failures/" + "x" * 41, "no_such/count", "files", "failures/"):
        tally.add({odd: 1})
    tell(totals, tally)

    counts = totals.read().counts
    assert len(counts) == MOST_VALUES + 1
    assert counts["failures/other"] == 20 + 3


# --- how long the oldest item waits


def mark(client: redis.Redis, minutes_ago: float, behind: int) -> None:
    client.rpush(MARKS, f"{int((client.time()[0] - 60 * minutes_ago) * 1000)} {behind}")


def test_the_oldest_waits_since_before_the_first_mark_it_was_there_for(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    queue = new_queue()
    client.rpush(LIST, *range(10))
    mark(client, 30, 4)
    mark(client, 20, 7)
    mark(client, 10, 10)

    waited = [look(queue).counted.oldest_waits]
    for _ in range(3):
        assert queue.claim(4, f"p{len(waited)}")
        waited.append(look(queue).counted.oldest_waits)

    assert [seconds is not None and round(seconds / 60) for seconds in waited] == [30, 20, 10, False]


def test_one_mark_a_minute_is_made_and_they_are_thinned_out(new_queue: NewQueue, client: redis.Redis) -> None:
    totals = Totals(new_queue().client, LIST)
    client.rpush(LIST, *range(10_000))
    for n in range(MOST_MARKS):
        mark(client, MOST_MARKS + 10 - n, n + 1)
    oldest_s = int(client.lindex(MARKS, 0).split()[0]) / 1000

    totals.mark()
    totals.mark()

    assert client.llen(MARKS) == MOST_MARKS // 2 + 1
    assert client.lindex(MARKS, -1).endswith(b" 10000")
    before_s, waits_s, after_s = client.time()[0], totals.read().oldest_waits or 0, client.time()[0]
    assert before_s - 1 <= oldest_s + waits_s <= after_s + 1


def test_marks_of_a_list_that_somebody_emptied_say_nothing(new_queue: NewQueue, client: redis.Redis) -> None:
    totals = Totals(new_queue().client, LIST)
    client.rpush(LIST, *range(10))
    mark(client, 30, 10)
    client.delete(LIST)
    client.rpush(LIST, "new")

    totals.mark()

    assert (totals.read().oldest_waits or 0) < 600


def test_nothing_waits_in_an_empty_list(new_queue: NewQueue) -> None:
    totals = Totals(new_queue().client, LIST)
    totals.mark()

    assert totals.read().oldest_waits is None


# --- the table


def test_the_page_has_the_table_as_it_is() -> None:
    spec = importlib.util.spec_from_file_location("metrics_page", DOCS / "metrics_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "monitoring.md").read_text("utf-8")

    assert module.with_table(page) == page, "run: make settings"
    assert all(f"`{metric.name}`" in page for metric in METRICS)


def test_names_are_prometheus_names() -> None:
    for metric in METRICS:
        assert metric.name.startswith("chunkdl_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert bool(metric.source) == (metric.kind != "gauge")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
    assert len(COUNTED) == sum(bool(metric.source) for metric in METRICS)


@pytest.mark.parametrize(
    ("size", "name"), [(0, "up_to_64KiB"), (65536, "up_to_64KiB"), (65537, "up_to_1MiB"), (1 << 40, "larger")]
)
def test_a_size_has_one_class(size: int, name: str) -> None:
    assert size_class(size) == name
    assert name in SIZE_CLASSES
