"""What operators ask of running crawls: to pause, to go slower, to show what they do."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from typing import Any

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from servers import wait_for

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.control import Control
from scrapy_chunkdl.queue.host_limits import AskedLimits, HostLimits
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import Worker, look

WAITING = "files:items"


@pytest.fixture
def control(client: redis.Redis) -> Control:
    return Control(client, WAITING)


@pytest.fixture
def queue(redis_url: str) -> ItemQueue:
    return ItemQueue(make_client({"REDIS_URL": redis_url}), WAITING, token="somebody-who-looks")


def the_worker(queue: ItemQueue) -> Worker | None:
    workers = look(queue).workers
    return workers[0] if workers else None


def push(client: redis.Redis, *urls: str) -> None:
    client.rpush(WAITING, *(json.dumps(item(attachment(url))) for url in urls))


def test_a_paused_spider_claims_nothing_stays_and_goes_on_when_it_may(
    project: Project, origin: Origin, client: redis.Redis, control: Control, queue: ItemQueue
) -> None:
    push(client, origin.url("a.bin", 1000), origin.url("b.bin", 1000))
    control.pause()
    process = project.start()
    wait_for(lambda: (worker := the_worker(queue)) is not None and worker.state == "paused", "it is not paused")
    assert client.llen(WAITING) == 2

    control.resume()
    done = project.finish(process)

    assert done.returncode == 0, done.log
    assert len(project.scraped()) == 2
    assert re.search(r"Claiming from files:items is paused.*dashboard", done.log)
    assert "Claiming from files:items goes on." in done.log
    assert client.keys("*") == []


def test_a_paused_crawl_can_be_stopped(
    project: Project, origin: Origin, client: redis.Redis, control: Control, queue: ItemQueue
) -> None:
    push(client, origin.url("a.bin", 1000))
    control.pause()
    process = project.start()
    wait_for(lambda: (worker := the_worker(queue)) is not None and worker.state == "paused", "it is not paused")
    process.send_signal(signal.SIGINT)

    done = project.finish(process)

    assert done.stats["finish_reason"] == "shutdown"
    assert client.llen(WAITING) == 1


def test_running_files_go_on_while_claiming_is_paused(
    project: Project, origin: Origin, client: redis.Redis, control: Control, queue: ItemQueue
) -> None:
    project.settings |= {"CHUNKDL_BATCH_SIZE": 1, "CHUNKDL_THREADS": 1}
    push(client, origin.url("a.bin", 1000, "hold:gate@get"), origin.url("b.bin", 1000))
    begun = origin.when("a.bin", lambda stats: stats.methods["GET"] >= 1)
    process = project.start()
    begun.result(60)
    control.pause()
    origin.release("gate")
    wait_for(lambda: len(project.seen()) == 1 and the_worker(queue).state == "paused", "the first does not end")

    assert client.llen(WAITING) == 1
    control.resume()
    assert project.finish(process).returncode == 0
    assert len(project.scraped()) == 2


def test_the_rate_is_changed_while_a_file_runs_and_told_in_detail(
    project: Project, origin: Origin, client: redis.Redis, control: Control, queue: ItemQueue
) -> None:
    size = 3 << 20
    push(client, origin.url("dir/a.bin", size))
    control.limit_rate(60_000)
    control.watch()
    process = project.start("-s", "CHUNKDL_MAX_RATE=50000")
    details: dict[str, Any] = {}

    def told() -> bool:
        control.watch()
        for raw in queue.details().values():
            details.update(json.loads(raw))
        return bool(details.get("files")) and details["files"][0]["bytes_per_second"] > 0

    wait_for(told, "nothing is told in detail")
    [file], [host] = details["files"], details["hosts"]
    assert (file["name"], file["size"], file["chunks"]) == ("a.bin", size, 3)
    assert 0 < file["done"] < size
    assert file["eta"] > 0
    assert set(re.sub(r"\d", "", file["map"])) <= set("rmd")
    assert host["host"] == origin.url("dir/a.bin", size).split("/")[2]
    assert host["connections"] >= 1

    control.limit_rate(0)
    done = project.finish(process)

    assert done.returncode == 0, done.log
    assert "Files are fetched at most 60 kB/s now" in done.log
    assert "Files are fetched as fast as they come now" in done.log


def test_limits_of_a_host_are_changed_while_a_file_runs_and_taken_back(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    push(client, origin.url("a.bin", 3 << 20))
    host = origin.url("a.bin", 1).split("/")[2]
    asked = HostLimits(client)
    asked.ask(host, AskedLimits(connections=1, rate=50_000))
    process = project.start("-s", "LOG_LEVEL=INFO")
    for line in process.stdout or ():
        if "1 connections at most, 50 kB/s at most, as was asked for" in line:
            break
    wait_for(lambda: origin.stats("a.bin").sent > 0, "nothing comes")
    assert origin.peak <= 4, "the first requests may have been sent before"

    asked.take_back(host)
    done = project.finish(process)

    assert done.returncode == 0, done.log
    assert f"{host}: limits as the settings say, as was asked for." in done.log
    assert client.keys("*") == []


def test_a_crawl_serves_its_own_page_where_that_is_asked_for(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_DASHBOARD": "127.0.0.1:0"}
    push(client, origin.url("a.bin", 1000, "hold:gate@get"))
    process = project.start()
    assert process.stdout is not None
    line = next(line for line in process.stdout if "Dashboard at" in line)
    url = line.split("Dashboard at ")[1].strip()

    with urllib.request.urlopen(f"{url}api/status") as answer:
        told = json.load(answer)
    with urllib.request.urlopen(url) as answer:
        page = answer.read()
    origin.release("gate")

    assert project.finish(process).returncode == 0
    assert [spider["spider"] for spider in told["spiders"]] == ["files"]
    assert b"<title>" in page


def test_a_page_for_others_without_a_token_is_refused(project: Project) -> None:
    project.settings |= {"CHUNKDL_DASHBOARD": "0.0.0.0:6024"}

    done = project.crawl()

    assert done.returncode != 0
    assert "CHUNKDL_DASHBOARD = '0.0.0.0:6024'" in done.log
    assert "CHUNKDL_DASHBOARD_TOKEN" in done.log
