"""Hosts that fail for everything they are asked for are left alone and waited for; the items of others go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from queued_files import LIST, SIZE, done, push
from servers import wait_for

PARKED, FAILED, DEAD = (f"{{{LIST}}}:{name}" for name in ("parked", "failed", "dead"))

QUICK = """
from scrapy_chunkdl.crawl import postponing
from scrapy_chunkdl.queue import host_health

host_health.FIRST_PAUSE_S, host_health.LONGEST_PAUSE_S = 0.5, 3.0
postponing.SUSPECT_HOST_DELAY_S = 0.2
"""


@pytest.fixture
def banning() -> Iterator[Origin]:
    """A second host, which a test has ban."""
    with Origin() as origin:
        yield origin


@pytest.fixture
def quick(project: Project) -> Project:
    """A project in which an ill host is tried again soon, and no delivery may be counted."""
    project.support = QUICK
    project.settings |= {"CHUNKDL_MAX_DELIVERIES": 1, "CHUNKDL_DONE_KEY": "done", "CHUNKDL_ON_FAILURE": "hold"}
    project.settings["EXTENSIONS"] = {"probe.support.WriteStats": 1}
    return project


BANS = ["page:900", "refused"]
MORE_BANS = ["status:403", "status:429", "status:503", "status:502", "reset", "close"]
MORE_BANS += ["header:cf-mitigated=challenge;code:403"]


@pytest.mark.parametrize("ban", [*BANS, *(pytest.param(ban, marks=pytest.mark.long) for ban in MORE_BANS)])
def test_a_host_that_bans_is_left_alone_and_its_items_come_when_it_serves_again(
    quick: Project, origin: Origin, banning: Origin, client: redis.Redis, ban: str
) -> None:
    push(client, banning, range(8), "b")
    served = quick.crawl()
    assert served.stats["chunkdl/items/finished"] == 8
    push(client, banning, range(8, 120), "b")
    push(client, origin, range(40), "o")
    client.delete("done")
    banning.ban(ban if ban != "refused" else "hang", after=12)  # until this thread has closed its listener
    asked_before = banning.requests
    quick.settings["LOG_LEVEL"] = "INFO"
    process = quick.start()
    if ban == "refused":
        wait_for(lambda: banning.requests >= asked_before + 12, "it never came")
        banning.close_listener()

    wait_for(lambda: done(client, "o") == 40 and client.llen(LIST) == 0 and client.zcard(PARKED) > 60, "it never came")
    asked = banning.requests - asked_before - 12
    time.sleep(2.5)
    later = banning.requests - asked_before - 12
    if ban == "refused":
        banning.open_listener()
    banning.ban("")
    crawl = quick.finish(process)

    print(f"{ban}: {asked} requests, and {later} a few tries later")
    assert asked <= later < 50
    assert done(client, "b") == 112
    assert client.llen(FAILED) == client.llen(DEAD) == 0
    assert client.keys("{files:items}*") == []
    assert crawl.stats["chunkdl/items/postponed"] >= 60
    assert "is left alone" in crawl.log


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"CHUNKDL_MODE": "inline"},
        {"CHUNKDL_MODE": "inline", "CHUNKDL_VIA_SCRAPY": "*", "RETRY_ENABLED": False},
        {"CHUNKDL_VIA_SCRAPY": "*", "RETRY_ENABLED": False},
    ],
    ids=["inline", "inline by Scrapy", "queue by Scrapy"],
)
@pytest.mark.parametrize("ban", ["status:503", "close"])
def test_a_host_that_bans_is_waited_for_in_each_mode_and_by_scrapys_downloader_too(
    quick: Project, origin: Origin, banning: Origin, client: redis.Redis, settings: dict[str, object], ban: str
) -> None:
    quick.settings |= {"CHUNKDL_ON_FAILURE": "continue", "LOG_LEVEL": "INFO"} | settings
    if "inline" in settings.values():
        del quick.settings["CHUNKDL_DONE_KEY"]
    urls = [banning.url(f"b{n}.bin", SIZE) for n in range(60)] + [origin.url(f"o{n}.bin", SIZE) for n in range(20)]
    quick.items = [item(attachment(url, url.rpartition("/")[2].partition("?")[0]), n=n) for n, url in enumerate(urls)]
    banning.ban(ban, after=12)

    process = quick.start()
    wait_for(lambda: len(quick.seen()) >= 20 and banning.requests > 12, "it never came")
    for line in process.stdout or ():
        if "is left alone" in line:
            break
    asked = banning.requests - 12
    banning.ban("")
    crawl = quick.finish(process)

    print(f"{ban}: {asked} requests")
    assert asked < 60
    assert sorted(found["n"] for found in quick.scraped()) == list(range(80))
    assert "chunkdl/files/failed" not in crawl.stats
    assert "serves again" in crawl.log


def test_a_host_that_stays_ill_is_waited_for_in_inline_mode_no_longer_than_it_is_set(
    quick: Project, origin: Origin, banning: Origin
) -> None:
    quick.settings |= {"CHUNKDL_MODE": "inline", "CHUNKDL_ON_FAILURE": "continue", "CHUNKDL_HOST_PATIENCE": 3}
    del quick.settings["CHUNKDL_DONE_KEY"]
    quick.items = [item(attachment(banning.url(f"b{n}.bin", SIZE)), n=n) for n in range(60)]
    banning.ban("status:503", after=12)

    crawl = quick.crawl()

    assert len(quick.scraped()) == 60
    assert crawl.stats.get("chunkdl/files/downloaded", 0) + crawl.stats["chunkdl/files/failed"] == 60
    assert crawl.stats["chunkdl/failures/http_503"] >= 20
    assert banning.requests < 100
