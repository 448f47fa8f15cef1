"""A crawl ends when nothing waits, comes back later, or is held by a process that may be dead."""

from __future__ import annotations

import json

import pytest
import redis
from origin import Origin
from project import Project, attachment, item

from scrapy_chunkdl.crawl.strangers import Strangers
from scrapy_chunkdl.queue.snapshot import Counts, Lease, Reported, Snapshot


@pytest.mark.parametrize("command", [["crawl", "files"], ["chunkdl", "worker", "--until-empty", "files"]])
def test_what_a_killed_process_holds_is_waited_for(
    project: Project, origin: Origin, client: redis.Redis, command: list[str]
) -> None:
    project.settings |= {"CHUNKDL_LEASE": 6}
    names = [f"{n}.bin" for n in range(4)]
    client.rpush("files:items", *(json.dumps(item(attachment(origin.url(n, 10, "hold:gate@get")))) for n in names))
    asked = [origin.when(name, lambda stats: stats.methods["GET"] >= 1) for name in names]
    killed = project.start()
    for begun in asked:
        begun.result(60)
    killed.kill()
    killed.communicate()
    origin.release("gate")

    crawl = project.finish(project.begin(*command))

    assert crawl.stats["finish_reason"] == "finished"
    assert len(project.scraped()) == 4, crawl.log
    assert client.keys("*:leases") == []


@pytest.mark.parametrize(
    ("reports", "awaited"),
    [
        ([], 2),  # it left, or its report is gone
        ([Reported("dead", b"", 100.0, 3.0)], 2),  # it told of itself last before anybody looked
        ([Reported("dead", b"", 100.0, 0.5)], 0),  # it has since
        ([Reported("another", b"", 100.0, 0.5)], 2),
    ],
)
def test_a_holder_is_alive_when_it_told_of_itself_since_it_was_first_seen(
    reports: list[Reported], awaited: int
) -> None:
    leases = [Lease(str(n), "dead", 1, 5.0, 50.0) for n in range(2)] + [Lease("ours", "me", 1, 5.0, 50.0)]
    strangers = Strangers("files:items", "me")

    strangers.note(Snapshot(Counts(0, 3, 0, 0, 0), leases, reports, {}, at_s=100.0))
    first = strangers.awaited
    strangers.note(Snapshot(Counts(0, 3, 0, 0, 0), leases, reports, {}, at_s=101.0))

    assert (first, strangers.awaited) == (2, awaited)


@pytest.mark.parametrize(
    ("held_for", "reports", "told"),
    [
        (20.0, [], True),
        (20.0, [Reported("dead", b"", 100.0, 20.0)], True),
        (20.0, [Reported("dead", b"", 100.0, 3.0)], False),  # the next report may be under way
        (1.0, [], False),  # it may have begun just now, and have had no time for its first
    ],
)
def test_it_is_told_how_long_what_a_dead_process_holds_will_take(
    caplog: pytest.LogCaptureFixture, held_for: float, reports: list[Reported], told: bool
) -> None:
    leases = [Lease(str(n), "dead", 1, held_for, 51.6) for n in range(8)]
    strangers = Strangers("files:items", "me")

    with caplog.at_level("INFO"):
        for second in range(3):
            strangers.note(Snapshot(Counts(0, 8, 0, 0, 0), leases, reports, {}, at_s=100.0 + second))

    sentence = "8 items of files:items are held by a process that is gone: they come back in 52 s."
    assert caplog.messages == ([sentence] if told else [])
    assert strangers.awaited == 8


def test_one_item_whose_class_refuses_its_results_by_an_assertion_strands_no_other(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.spider = """
    import attr
    import scrapy

    def not_empty(instance, attribute, value):
        assert value != ""

    @attr.define
    class Document:
        ori_url: str
        path: object = attr.field(default=None, validator=not_empty)

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            for url in ITEMS:
                yield {"url": url, "data": [{"attachments": [Document(url)]}]}
    """
    project.settings["FEEDS"] = {}
    project.settings["ITEM_PIPELINES"] = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1}
    project.items = [origin.url("gone", 10, "status:404"), *(origin.url(str(n), 10) for n in range(5))]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished"
    assert crawl.stats["item_scraped_count"] == 5, crawl.log
    assert client.exists("{files:items}:leases", "{files:items}:delayed", "files:items") == 0
