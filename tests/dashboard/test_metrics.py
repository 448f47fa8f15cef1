"""Metrics: all of the table, of a real crawl, and none that goes backwards when a process dies."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from prometheus_client.parser import text_string_to_metric_families
from served import TOTALS, WAITING, Dashboard, NewDashboard, report
from servers import Server, any_binary, wait_for

from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.metrics import GAUGES, GAUGES_OF_REDIS
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.host_health import HostHealth
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.metrics_table import METRICS, MOST_VALUES, REDIS_UP, Metric, bucket_field
from scrapy_chunkdl.settings.config import Config

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(dashboard: Dashboard) -> Samples:
    answer = dashboard.get("/metrics")
    assert answer.status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def value(of: Samples, name: str, **labels: str) -> float:
    return of[name, frozenset({"spider": "files", **labels}.items())]


@pytest.fixture
def of_files(redis_url: str, new_dashboard: NewDashboard) -> Dashboard:
    board = Board()
    board.add("files", "files:items", make_client({"REDIS_URL": redis_url}), Config())
    return new_dashboard(board)


def test_every_gauge_of_the_table_has_a_way_to_be_read() -> None:
    assert {row.name for row in METRICS if row.kind == "gauge" and row.of_spider} == GAUGES.keys()
    assert {row.name for row in METRICS if not row.of_spider} == {*GAUGES_OF_REDIS, REDIS_UP}


def test_a_crawl_is_measured_from_its_requests_to_its_acks(
    project: Project, origin: Origin, of_files: Dashboard
) -> None:
    project.settings |= {"CHUNKDL_RETRY_TIMES": 1}
    urls = [origin.url(f"{n}.bin", 100_000) for n in range(3)]
    urls.append(origin.url("gone.bin", 10, "status:404"))
    project.items = [item(attachment(url)) for url in urls]

    done = project.crawl()

    assert done.returncode == 0, done.log
    told = samples(of_files)
    assert value(told, "chunkdl_files_total", outcome="downloaded") == 3
    assert value(told, "chunkdl_files_total", outcome="failed") == 1
    assert value(told, "chunkdl_failures_total", reason="http_404") == 1
    assert value(told, "chunkdl_received_bytes_total") >= 300_000
    assert value(told, "chunkdl_file_bytes_total", kind="downloaded") == 300_000
    assert value(told, "chunkdl_requests_total", status_class="2xx") >= 3
    assert value(told, "chunkdl_requests_total", status_class="4xx") >= 1
    assert value(told, "chunkdl_deliveries_total") == 4
    assert value(told, "chunkdl_lease_losses_total") == 0
    assert value(told, "chunkdl_items_total", step="finished") == 4
    assert value(told, "chunkdl_time_to_first_byte_seconds_count") >= 4
    assert value(told, "chunkdl_file_duration_seconds_count", size_class="up_to_1MiB") == 3
    assert value(told, "chunkdl_file_duration_seconds_bucket", size_class="up_to_1MiB", le="+Inf") == 3
    assert value(told, "chunkdl_ack_duration_seconds_count") == 4
    assert value(told, "chunkdl_claim_duration_seconds_count") >= 1
    assert value(told, "chunkdl_backlog_items") == 0
    assert value(told, "chunkdl_oldest_waiting_age_seconds") == 0
    assert {name for name, _ in told} <= {series for row in METRICS for series in row.series}


def test_counters_stay_when_a_worker_is_killed_and_grow_with_the_next(
    project: Project, origin: Origin, client: redis.Redis, of_files: Dashboard
) -> None:
    client.rpush("files:items", json.dumps(item(attachment(origin.url("a.bin", 100)))))
    first = project.begin("chunkdl", "worker", "files")
    wait_for(lambda: client.hget("{files:items}:totals", "items/finished") == b"1", "it is not counted")
    first.send_signal(signal.SIGKILL)
    project.finish(first)
    before = samples(of_files)

    client.rpush("files:items", json.dumps(item(attachment(origin.url("b.bin", 100)))))
    client.delete("{files:items}:workers")  # as if it had died long ago
    done = project.finish(project.begin("chunkdl", "worker", "files", "--until-empty"))

    assert done.returncode == 0, done.log
    after = samples(of_files)
    falls = [name for name, number in before.items() if name[0].endswith(("_total", "_count")) and after[name] < number]
    assert falls == []
    assert value(before, "chunkdl_items_total", step="finished") == 1
    assert value(after, "chunkdl_items_total", step="finished") == 2


def test_hosts_that_are_waited_for_are_counted_by_the_state_of_their_circuit(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    health = HostHealth(queue.client, "a")
    for n in range(5):
        health.fell(f"{n}.example:443", "http_503", 0.0)
        if n < 4:
            client.zadd("{s:items}:parked_hosts", {f"{n}.example:443": 1})
    client.hset("{chunkdl}:ill", "0.example:443", b"ill 1 1 15000 0 0 - http_503")  # long ago
    assert health.may_try("0.example:443")[0] == "try"

    told = dashboard.get("/metrics").body.decode()

    assert 'chunkdl_host_circuits{spider="s",state="open"} 3.0' in told
    assert 'chunkdl_host_circuits{spider="s",state="half_open"} 1.0' in told
    assert "\nchunkdl_ill_hosts 5.0\n" in told


def test_a_host_that_is_left_alone_counts_once_however_many_spiders_there_are(
    board: Board, queue: ItemQueue, new_dashboard: NewDashboard
) -> None:
    board.add("t", "t:items", queue.client, Config())
    HostHealth(queue.client, "a").fell("a.example:443", "http_503", 0.0)

    told = samples(new_dashboard(board))

    assert told["chunkdl_ill_hosts", frozenset()] == 1
    [seconds] = [labels for name, labels in told if name == "chunkdl_ill_host_seconds"]
    assert seconds == {("host", "a.example:443"), ("reason", "http_503")}


def test_free_disk_is_told_of_each_machine(dashboard: Dashboard, queue: ItemQueue) -> None:
    told = json.loads(report())
    for token, host, free in (("a", "m1", 5), ("b", "m1", 3), ("c", "m2", 9)):
        queue.token = token
        queue.report(json.dumps({**told, "host": host, "disk_free": free, "disk_size": 10}).encode())

    free = {
        dict(labels)["host"]: number for (name, labels), number in samples(dashboard).items() if "disk_free" in name
    }

    assert free == {"m1": 3, "m2": 9}


@pytest.mark.parametrize(
    "field",
    [
        'failures/x"} 1\nevil{a="b',
        "failures/with space",
        "failures/",
        "files/" + "x" * 100,
        "file/evil kind/3",
        "file/up_to_1MiB/no_bucket",
        "no_such/thing",
        "\x00",
    ],
)
def test_what_strangers_count_makes_no_series_of_theirs(dashboard: Dashboard, client: redis.Redis, field: str) -> None:
    client.hset(TOTALS, field, 5)

    told = samples(dashboard)

    assert {name for name, _ in told} <= {series for row in METRICS for series in row.series}
    labels = {text for _, labels in told for label, text in labels if label not in ("le", "spider")}
    assert all(len(text) <= 40 and text.replace("_", "").isalnum() for text in labels)


def test_a_thousand_reasons_are_some_and_others(dashboard: Dashboard, client: redis.Redis) -> None:
    client.hset(TOTALS, mapping={f"failures/reason_{n:04}": 1 for n in range(1000)})

    told = samples(dashboard)

    failures = {labels: number for (name, labels), number in told.items() if name == "chunkdl_failures_total"}
    assert len(failures) == MOST_VALUES + 1
    assert sum(failures.values()) == 1000


def test_buckets_add_up_as_prometheus_wants_them(dashboard: Dashboard, client: redis.Redis) -> None:
    for seconds in (0.001, 0.002, 0.3, 99.0):
        client.hincrby(TOTALS, bucket_field("claim", seconds), 1)
    client.hset(TOTALS, "claim/sum", 99.303)

    told = samples(dashboard)

    buckets = {
        dict(labels)["le"]: number
        for (name, labels), number in told.items()
        if name == "chunkdl_claim_duration_seconds_bucket"
    }
    assert (buckets["0.001"], buckets["0.005"], buckets["0.5"], buckets["10.0"], buckets["+Inf"]) == (1, 2, 3, 3, 4)


def test_scaling_has_one_number_of_all_that_is_not_done(
    dashboard: Dashboard, queue: ItemQueue, client: redis.Redis
) -> None:
    client.rpush(WAITING, *range(10))
    batch, _ = queue.claim(4, "p")
    queue.retry(batch[0].id, 3600.0)

    assert samples(dashboard)["chunkdl_backlog_items", frozenset({("spider", "s")})] == 10


def test_redis_away_is_a_metric_and_nothing_else(new_dashboard: NewDashboard) -> None:
    board = Board()
    with Server(any_binary()) as server:
        board.add("s", WAITING, make_client({"REDIS_URL": server.url}), Config())
        dashboard = new_dashboard(board)

    assert samples(dashboard) == {("chunkdl_redis_up", frozenset()): 0.0}


BOUNDED = {
    *("state", "outcome", "reason", "status_class", "kind", "step", "size_class"),  # words of ours, see MOST_VALUES
    "host",  # of machines and of ill hosts, at most so many
}
OTHER_UNITS = re.compile(
    r"_(ms|millis\w*|minutes|hours|days|kb|mb|gb|\w+bits|percent|ratio_percent)(_|$)", re.IGNORECASE
)


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_names_keep_the_conventions_of_prometheus(row: Metric) -> None:
    """https://prometheus.io/docs/practices/naming/: a prefix, base units, ``_total`` for counters alone."""
    assert re.fullmatch(r"chunkdl(_[a-z]+)+", row.name)
    assert row.name.endswith("_total") == (row.kind == "counter")
    assert not row.name.endswith(("_bucket", "_count", "_sum", "_info"))
    assert not OTHER_UNITS.search(row.name)
    assert row.kind not in row.name
    if row.kind == "histogram":
        assert row.name.endswith(("_seconds", "_bytes"))
        assert list(row.buckets) == sorted(set(row.buckets))
    assert row.meaning.endswith(".")
    assert set(row.labels) <= BOUNDED
    assert "le" not in row.labels


def test_promtool_has_nothing_to_say_of_the_metrics(dashboard: Dashboard, queue: ItemQueue) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    queue.report(report())

    told = dashboard.get("/metrics").body
    linted = subprocess.run(["promtool", "check", "metrics"], input=told, capture_output=True, check=False)

    assert linted.stderr.decode() + linted.stdout.decode() == ""
    assert linted.returncode == 0
