"""The main job: items through the Redis list, their files on disk, and out again, by real crawls."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths
from servers import wait_for

pytestmark = pytest.mark.usefixtures("client")

WAITING, FAILED, DEAD = "files:items", "{files:items}:failed", "{files:items}:dead"


def records(client: redis.Redis) -> list[dict[str, object]]:
    return [json.loads(record) for record in client.lrange(FAILED, 0, -1)]


def test_a_scraped_item_comes_back_with_its_files(project: Project, origin: Origin, client: redis.Redis) -> None:
    urls = {name: origin.url(name, size) for name, size in (("a.pdf", 1), ("b.pdf", 70_000), ("c.pdf", 3_000_000))}
    project.items = [item(*(attachment(url, name) for name, url in urls.items()))]

    crawl = project.crawl()

    assert crawl.returncode == 0
    [finished] = project.scraped()
    for path, (name, size) in zip(
        paths(finished), (("a.pdf", 1), ("b.pdf", 70_000), ("c.pdf", 3_000_000)), strict=True
    ):
        assert Path(path).name == name
        assert Path(path).read_bytes() == content(name, size)
    assert project.seen() == [finished]
    assert len(project.files()) == 3
    assert client.keys("*") == []


def test_queueing_an_item_drops_none(project: Project, origin: Origin) -> None:
    project.items = [item(attachment(origin.url("a", 10)))]

    crawl = project.crawl()

    assert crawl.stats.get("item_dropped_count", 0) == 0
    assert crawl.stats["item_scraped_count"] == 1
    assert "Dropped" not in crawl.log
    assert "WARNING" not in crawl.log


def test_items_pushed_by_anyone_are_picked_up(project: Project, origin: Origin, client: redis.Redis) -> None:
    wanted = [item(attachment(origin.url(f"{n}.bin", 1000)), n=n) for n in range(3)]
    client.rpush(WAITING, *map(json.dumps, wanted))

    project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2]
    assert all(Path(paths(found)[0]).stat().st_size == 1000 for found in project.scraped())


def test_an_item_without_attachments_passes_untouched(project: Project, client: redis.Redis) -> None:
    project.items = [{"title": "no files"}, item()]
    client.rpush(WAITING, json.dumps({"title": "queued, no files"}))

    crawl = project.crawl()

    assert {found.get("title") for found in project.scraped()} == {"no files", "queued, no files", None}
    assert crawl.stats.get("chunkdl/items/queued", 0) == 0
    assert origin_was_not_asked(crawl.stats)


def origin_was_not_asked(stats: dict[str, object]) -> bool:
    return not any(name.startswith("chunkdl/files") for name in stats)


def test_a_file_given_up_leaves_a_record_and_the_item_goes_on(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    gone, there = origin.url("gone.pdf", 10, "status:404"), origin.url("there.pdf", 10)
    project.items = [item(attachment(gone, "gone.pdf"), attachment(there, "there.pdf"))]

    crawl = project.crawl()

    [finished] = project.scraped()
    assert [bool(path) for path in paths(finished)] == [False, True]
    [record] = records(client)
    assert record["item"] == project.items[0]
    assert (record["url"], record["filename"], record["spider"]) == (gone, "gone.pdf", "files")
    assert (record["reason"], record["error"], record["status"]) == ("http_404", "Permanent", 404)
    assert (record["bytes_done"], record["resumable"]) == (0, False)
    assert record["attempts"] == 2
    assert record["time"]
    assert crawl.stats["chunkdl/failures/http_404"] == 1
    assert client.keys("*") == [FAILED.encode()]


def test_hold_keeps_the_item_with_its_record(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings["CHUNKDL_ON_FAILURE"] = "hold"
    project.items = [item(attachment(origin.url("gone.pdf", 10, "status:410")), exact=12345678901234567890)]

    crawl = project.crawl()

    assert project.scraped() == []
    [record] = records(client)
    assert record["item"] == project.items[0]
    assert crawl.stats["chunkdl/items/held"] == 1


@pytest.mark.parametrize(
    "entry",
    [b"{not json", b"\xff\xfe", b"[1, 2]", b'"text"', b"7", b'{"data":' * 100_000],
    ids=["no json", "no text", "list", "string", "number", "nested"],
)
def test_an_entry_that_is_no_item_is_kept_byte_for_byte(project: Project, client: redis.Redis, entry: bytes) -> None:
    client.rpush(WAITING, entry)

    crawl = project.crawl()

    assert client.lrange(DEAD, 0, -1) == [entry]
    [record] = records(client)
    assert record["reason"] == "bad_item"
    assert crawl.log.count("byte for byte") == 1
    assert project.scraped() == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"path": ""}, "it has no ori_url"),
        ({"ori_url": "gopher://example.org/a"}, "is of the scheme gopher:, not "),
        ({"ori_url": "/a.pdf"}, "is not a whole URL: use response.urljoin"),
        ({"ori_url": "http://"}, "has a host or port that cannot be"),
        ({"ori_url": "http://[::1"}, "has a host or port that cannot be"),
        ({"ori_url": "file:///etc/passwd"}, "is of the scheme file:, not "),
    ],
)
def test_an_attachment_that_makes_no_sense_is_recorded_and_the_item_goes_on(
    project: Project, client: redis.Redis, broken: dict[str, str], message: str
) -> None:
    project.items = [item(broken)]

    crawl = project.crawl()

    assert len(project.scraped()) == 1
    [record] = records(client)
    assert message in str(record["message"])
    assert crawl.log.count(message) == 1
    assert "Traceback" not in crawl.log


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"CHUNKDL_DONE_KEY": "done"}, {"CHUNKDL_ON_FAILURE": "hold"}])
def test_half_an_emoji_anywhere_in_an_item_holds_up_nothing(
    project: Project, origin: Origin, client: redis.Redis, settings: dict[str, Any]
) -> None:
    project.settings |= settings
    half = "\ud83d"
    there, gone = origin.url("a", 10), origin.url("b", 10, "status:404")
    broken = [
        attachment(there, f"{half}.pdf"),
        attachment(gone, f"b{half}"),
        attachment(there + half, "c"),
        attachment(there, "d", headers={"X-Half": half}),
        attachment(there, "e", checksum=half),
        attachment(there, "f", mirrors=[there + half]),
        attachment(there, "g", proxy=half),
        half,
    ]
    client.rpush("files:items", json.dumps(item(*broken, mark=half)))
    project.items = [item(attachment(there, "scraped"), mark=half)]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished", crawl.log
    assert "Traceback" not in crawl.log
    kept = 1 if "CHUNKDL_ON_FAILURE" in settings else 0
    assert [found["mark"] for found in project.scraped()] == [half] * (2 - kept)
    assert {record["filename"] for record in records(client)} >= {f"b{half}"}
    assert client.llen("done") == (2 if "CHUNKDL_DONE_KEY" in settings else 0)
    assert client.exists("{files:items}:leases", "{files:items}:dead") == 0


def test_the_result_field_says_what_became_of_each_file(project: Project, origin: Origin) -> None:
    project.settings |= {"CHUNKDL_RESULT_FIELD": "result", "CHUNKDL_CHECKSUM": "md5"}
    project.items = [
        item(attachment(origin.url("a", 10)), attachment(origin.url("b", 10, "status:404"))),
    ]

    project.crawl()

    [finished] = project.scraped()
    good, bad = (entry["result"] for entry in finished["data"][0]["attachments"])
    assert (good["status"], good["size"], good["error"]) == ("downloaded", 10, None)
    assert good["checksum"].startswith("md5:")
    assert (bad["status"], bad["size"]) == ("failed", None)
    assert "404" in bad["error"]


def test_the_done_list_gets_what_the_pipelines_made_of_the_item(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {
        "CHUNKDL_DONE_KEY": "done",
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Mark": 2},
    }
    project.support = """
    class Mark:
        def process_item(self, item, spider=None):
            return {**item, "marked": True}
    """
    project.items = [item(attachment(origin.url("a", 10)))]

    project.crawl()

    [done] = client.lrange("done", 0, -1)
    assert json.loads(done) == project.scraped()[0]
    assert json.loads(done)["marked"] is True


def test_a_finished_item_that_is_no_json_for_the_done_list_is_kept_among_the_dead(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_DONE_KEY": "done", "FEEDS": {}}
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Read": 2,
    }
    project.support = """
    class Read:
        def process_item(self, item, spider=None):
            return {**item, "body": object()} if item["mark"] == "object" else item
    """
    project.items = [item(attachment(origin.url(mark, 10)), mark=mark) for mark in ("object", "text")]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished"
    assert [json.loads(done)["mark"] for done in client.lrange("done", 0, -1)] == ["text"]
    assert [json.loads(dead)["mark"] for dead in client.lrange(DEAD, 0, -1)] == ["object"]
    assert "not for done, which takes JSON: body is object" in crawl.log
    assert "Traceback" not in crawl.log


def test_an_item_that_fails_in_a_later_pipeline_comes_back_and_its_files_are_not_fetched_again(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {
        "CHUNKDL_RETRY_DELAY": 0.1,
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Moody": 2},
    }
    project.support = """
    class Moody:
        calls = 0

        def process_item(self, item, spider=None):
            self.calls += 1
            if self.calls < 3:
                raise RuntimeError("not today")
            return item
    """
    project.items = [item(attachment(origin.url("a.bin", 2_000_000)))]

    crawl = project.crawl()

    assert len(project.scraped()) == 1
    assert crawl.stats["chunkdl/items/retried"] == 2
    assert crawl.stats["chunkdl/files/uptodate"] == 2
    assert crawl.stats["chunkdl/bytes/fetched"] == 2_000_000
    assert client.keys("*") == []


def test_an_item_that_always_fails_ends_among_the_dead(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings |= {
        "CHUNKDL_RETRY_DELAY": 0,
        "CHUNKDL_MAX_DELIVERIES": 2,
        "ITEM_PIPELINES": {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, "probe.support.Broken": 2},
    }
    project.support = """
    class Broken:
        def process_item(self, item, spider=None):
            raise RuntimeError("never")
    """
    project.items = [item(attachment(origin.url("a.bin", 10)), note="exact")]

    project.crawl()

    [dead] = client.lrange(DEAD, 0, -1)
    assert json.loads(dead) == project.items[0]
    [record] = records(client)
    assert (record["reason"], "item" in record) == ("pipeline_failed", False)
    assert "RuntimeError in probe.support.Broken" in str(record["message"])
    assert set(client.keys("*")) == {DEAD.encode(), FAILED.encode()}


def test_an_item_dropped_by_a_later_pipeline_is_done(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Picky": 2,
    }
    project.support = """
    from scrapy.exceptions import DropItem

    class Picky:
        def process_item(self, item, spider=None):
            raise DropItem("not wanted")
    """
    project.items = [item(attachment(origin.url("a.bin", 10)))]

    project.crawl()

    assert project.scraped() == []
    assert client.keys("*") == []


def test_ctrl_c_hands_back_what_is_unfinished_and_the_next_crawl_resumes_it(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    size = 4_000_000
    project.settings |= {
        "CHUNKDL_SHUTDOWN_GRACE": 0.2,
        "CHUNKDL_CHUNK_SIZE": 65536,
        "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 2,
    }
    url = origin.url("big.bin", size, "hold:gate:1000000@get")
    project.items = [item(attachment(url, "big.bin"))]
    half_way = origin.when("big.bin", lambda stats: stats.sent >= 1_500_000)

    process = project.start()
    half_way.result(60)
    process.send_signal(signal.SIGINT)
    crawl = project.finish(process)

    assert crawl.returncode == 0
    assert crawl.stats["finish_reason"] == "shutdown"
    assert project.scraped() == []
    assert client.zcard("{files:items}:delayed") == 1
    assert client.exists("{files:items}:leases") == 0
    [tries] = client.hvals("{files:items}:tries")
    assert tries == b"0"  # handing back counts as no delivery

    origin.release("gate")
    project.items = []
    crawl = project.crawl()

    [finished] = project.scraped()
    assert Path(paths(finished)[0]).read_bytes() == content("big.bin", size)
    assert crawl.stats["chunkdl/bytes/resumed"] > 1_000_000
    assert client.keys("*") == []


def test_a_second_ctrl_c_ends_at_once_and_the_next_crawl_has_the_item_when_the_lease_is_over(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_CHUNK_SIZE": 65536, "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 2}
    url = origin.url("big.bin", 4_000_000, "hold:gate:1000000@get")
    project.items = [item(attachment(url, "big.bin"))]
    half_way = origin.when("big.bin", lambda stats: stats.sent >= 1_500_000)

    process = project.start()
    half_way.result(60)
    assert process.stdout is not None
    for answer in ("Closing spider", "forcing unclean shutdown"):
        process.send_signal(signal.SIGINT)
        next(line for line in process.stdout if answer in line)
    project.finish(process)
    [held] = client.zrange("{files:items}:leases", 0, -1)
    client.zadd("{files:items}:leases", {held: 1})  # its time has passed
    origin.release("gate")
    project.items = []
    project.crawl()

    assert Path(paths(project.scraped()[0])[0]).read_bytes() == content("big.bin", 4_000_000)
    assert client.exists("{files:items}:leases", "{files:items}:payload", WAITING) == 0


def test_a_file_that_ends_within_the_grace_goes_its_whole_way(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 60}
    project.items = [item(attachment(origin.url("slow.bin", 100_000, "hold:gate:1000@get"), "slow.bin"))]
    begun = origin.when("slow.bin", lambda stats: stats.sent >= 1000)

    process = project.start()
    begun.result(60)
    process.send_signal(signal.SIGINT)
    for line in process.stdout or ():
        if "Closing spider" in line:
            break
    origin.release("gate")
    crawl = project.finish(process)

    assert crawl.stats["finish_reason"] == "shutdown"
    assert len(project.scraped()) == 1
    assert project.seen() == project.scraped()
    assert client.keys("*") == []


def test_two_crawls_share_the_list_and_emit_each_item_once(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    wanted = {f"{n}-{m}.bin": 100 + 37 * n + m for n in range(200) for m in range(2)}
    files = {name: attachment(origin.url(name, size, "hold:gate@get"), name) for name, size in wanted.items()}
    payloads = [json.dumps(item(files[f"{n}-0.bin"], files[f"{n}-1.bin"], n=n)) for n in range(200)]
    client.rpush(WAITING, *payloads)

    first, second = project.start(), project.start()
    owner = "{files:items}:owner"
    wait_for(lambda: len({told.split()[0] for told in client.hvals(owner)}) == 2, "one crawl takes all there is")
    origin.release("gate")
    crawls = [project.finish(first), project.finish(second)]

    assert sorted(found["n"] for found in project.scraped()) == list(range(200))
    assert all(crawl.stats["item_scraped_count"] > 10 for crawl in crawls)
    for found in project.scraped():
        for path in map(Path, paths(found)):
            assert path.read_bytes() == content(path.name, wanted[path.name])
    assert sum(crawl.stats["chunkdl/files/downloaded"] for crawl in crawls) == 400
    assert client.keys("*") == []
