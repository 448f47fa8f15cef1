"""``scrapy chunkdl status``: its numbers are the queue's, with or without a crawl."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from typing import Any

import pytest
import redis
from origin import Origin
from patience import HANG
from project import Project, attachment, item
from servers import wait_for

from scrapy_chunkdl import __version__
from scrapy_chunkdl.queue.item_queue import ItemQueue

pytestmark = pytest.mark.usefixtures("client")

WAITING, LEASES, WORKERS = "files:items", "{files:items}:leases", "{files:items}:workers"

SCHEMA = {
    "spider": str,
    "key": str,
    "waiting": int,
    "leased": int,
    "delayed": int,
    "dead": int,
    "failed": int,
    "parked": int,
    "ill_hosts": [],
    "backlog": int,
    "done": dict.fromkeys(("items", "files", "given_up", "bytes"), int),
    "oldest_waits": float,
    "empty_in": type(None),
    "need": str,
    "rank": int,
    "is_idle": bool,
    "paused": bool,
    "max_rate": type(None),
    "files": int,
    "connections": int,
    "throughput": {f"{n}m": {"items_per_second": float, "bytes_per_second": float} for n in (1, 5, 15)},
    "workers": [
        {
            "id": str,
            "host": str,
            "pid": int,
            "version": str,
            "state": str,
            "items": int,
            "longest_held": float,
            "files": int,
            "connections": int,
            "up_for": float,
            "silent_for": float,
            "paused": bool,
            "disk_free": int,
            "disk_size": int,
            "waits": [],
        }
    ],
}

TWO = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"


class OtherSpider(scrapy.Spider):
    name = "other"
    custom_settings = {"CHUNKDL_ITEMS_KEY": "elsewhere"}


class InlineSpider(scrapy.Spider):
    name = "inline"
    custom_settings = {"CHUNKDL_MODE": "inline"}
"""


def shape(value: Any) -> Any:
    """Return the types in a JSON value; of a list, that of its first element."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value[:1]]
    return type(value)


def status(project: Project, *words: str) -> list[dict[str, Any]]:
    done = project.command("chunkdl", "status", "--json", *words)
    assert (done.returncode, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    assert set(told) == {"time", "spiders"}
    spiders: list[dict[str, Any]] = told["spiders"]
    return spiders


def test_the_numbers_are_the_queues_while_a_worker_works_and_after_it_died(
    project: Project, origin: Origin, client: redis.Redis, redis_url: str
) -> None:
    project.settings |= {"CHUNKDL_BATCH_SIZE": 2, "CHUNKDL_THREADS": 1}
    url = origin.url("a.bin", 5000, "hold:gate:10@get")
    client.rpush(WAITING, *(json.dumps(item(attachment(url))) for _ in range(5)))
    client.rpush("{files:items}:dead", "x")
    client.rpush("{files:items}:failed", "x", "y", "z")

    process = project.begin("chunkdl", "worker", "files")
    wait_for(lambda: client.zcard(LEASES) == 2 and client.hlen(WORKERS) == 1, "the worker does not begin")
    wait_for(lambda: status(project, "files")[0]["workers"][0]["disk_free"] is not None, "its disk is not looked at")
    [told] = status(project, "files")

    assert shape(told) == SCHEMA
    assert {name: told[name] for name in ("spider", "key")} == {"spider": "files", "key": WAITING}
    assert [told[name] for name in ("waiting", "leased", "delayed", "failed", "dead")] == [3, 2, 0, 3, 1]
    [worker] = told["workers"]
    assert (worker["pid"], worker["version"], worker["state"]) == (process.pid, __version__, "claiming")
    assert worker["items"] == 2

    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    origin.release("gate")
    ms, since, report = client.hget(WORKERS, worker["id"]).split(b" ", 2)
    client.hset(WORKERS, worker["id"], b"%d %d %s" % (int(ms) - 100_000, int(since) - 100_000, report))
    text = project.command("chunkdl", "status").stdout.splitlines()

    assert text[1].strip() == "3 waiting, 2 leased, 0 delayed, 3 failed, 1 dead"
    assert text[-2].split()[:3] == ["host", "pid", "items"]
    assert text[-1].split()[1:3] == [str(process.pid), "2"]
    assert text[-1].split()[-1] == "silent"


def test_all_spiders_that_have_a_queue_are_told_and_none_is_changed(
    project: Project, client: redis.Redis, redis_url: str
) -> None:
    project.spider = TWO
    client.rpush("elsewhere", "a", "b")
    client.rpush("from-the-command-line", "a", "b")
    with redis.Redis.from_url(redis_url, protocol=2) as connection:
        ItemQueue(connection, "from-the-command-line").claim(1, "p")
    before = {key: client.dump(key) for key in client.keys("*")}

    told = status(project, "-s", "CHUNKDL_ITEMS_KEY=from-the-command-line")

    assert [(spider["spider"], spider["key"], spider["waiting"]) for spider in told] == [
        ("files", "from-the-command-line", 1),
        ("other", "from-the-command-line", 1),  # -s beats custom_settings, as in a crawl
    ]
    assert [(spider["key"], spider["waiting"]) for spider in status(project, "other")] == [("elsewhere", 2)]
    assert {key: client.dump(key) for key in client.keys("*")} == before


def test_watching_prints_a_line_again_and_again_until_it_is_stopped(project: Project, client: redis.Redis) -> None:
    client.rpush(WAITING, "a")
    process = project.begin("chunkdl", "status", "files", "--watch")
    assert process.stdout is not None
    first = process.stdout.readline()
    client.rpush(WAITING, "b")
    second = process.stdout.readline()
    process.send_signal(signal.SIGINT)

    rest, _ = process.communicate(timeout=HANG)

    assert [" files waiting=1 leased=0" in first, " files waiting=2 leased=0" in second] == [True, True]
    assert (process.returncode, rest) == (0, "")


def test_on_a_terminal_the_picture_is_drawn_over_the_last(project: Project) -> None:
    project.write()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "scrapy", "chunkdl", "status", "--watch"]
    process = subprocess.Popen(command, cwd=project.folder, stdout=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    while shown.count(b"0 waiting") < 2:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 0
    os.close(ours)
    assert shown.count(b"\x1b[H\x1b[J") == 2


@pytest.mark.parametrize(
    ("words", "settings", "says"),
    [
        (["nobody"], {}, "no spider 'nobody' in this project; it has: files."),
        (["files"], {"CHUNKDL_MODE": "inline"}, "nothing of it waits in Redis"),
        ([], {"REDIS_URL": "unix:///nowhere/s"}, "Redis cannot be reached"),
        ([], {"REDIS_URL": "http://host"}, "Redis cannot be reached: REDIS_URL = 'http://host' does not begin with"),
    ],
    ids=["no-spider", "inline", "no-redis", "wrong-url"],
)
def test_what_cannot_be_told_is_one_line_and_exit_code_1(
    project: Project, words: list[str], settings: dict[str, object], says: str
) -> None:
    project.settings |= settings

    done = project.command("chunkdl", "status", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("scrapy chunkdl: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


MANY = """
import scrapy

for n in range(30):
    name = f"spider{n:02}"
    globals()[name] = type(name, (scrapy.Spider,), {"name": name, "__module__": __name__})
"""


def test_of_many_spiders_those_that_matter_come_first_and_the_rest_is_counted(
    project: Project, client: redis.Redis
) -> None:
    project.spider = MANY
    client.rpush("spider07:items", *range(5))
    client.rpush("{spider20:items}:failed", "x")

    short = project.command("chunkdl", "status").stdout.splitlines()
    whole = project.command("chunkdl", "status", "--all").stdout.splitlines()

    names = [line.split(":")[0] for line in short if line.startswith("spider")]
    assert names[:3] == ["spider07", "spider20", "spider00"]
    assert short[2].strip() == "!! items wait, and nobody works"
    assert short[3].strip() == "0 files done, 0 B received; 5 items left, nobody can tell how long they take"
    assert short[-1] == "… and 20 more: 20 idle. All of them: scrapy chunkdl status --all"
    assert len([line for line in whole if line.startswith("spider")]) == 30


def test_what_was_given_up_is_not_idle(project: Project, client: redis.Redis) -> None:
    client.rpush("{files:items}:dead", "x")

    text = project.command("chunkdl", "status").stdout.splitlines()

    assert text[2].strip() == "! items are dead"
