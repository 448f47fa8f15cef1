"""``scrapy chunkdl plan``: what would be fetched is told by HEADs alone, and nothing is changed."""

from __future__ import annotations

import json

import pytest
import redis
from origin import Origin
from project import Project, attachment, item

WAITING = "files:items"


def test_what_waits_is_weighed_by_heads_alone(project: Project, origin: Origin, client: redis.Redis) -> None:
    there = origin.url("there.bin", 500)
    project.items = [item(attachment(there))]
    assert project.crawl().returncode == 0
    project.items = []
    client.rpush(
        WAITING,
        json.dumps(item(attachment(origin.url("a.bin", 1000)), attachment(origin.url("b.bin", 2000)))),
        json.dumps(item(attachment(origin.url("a.bin", 1000)))),  # the same file again
        json.dumps(item(attachment(origin.url("gone.bin", 10, "status:404")), attachment("no url"))),
        json.dumps(item(attachment(there))),
        "no item",
    )
    before = client.lrange(WAITING, 0, -1)

    done = project.command("chunkdl", "plan", "files", "--json")
    shown = project.command("chunkdl", "plan", "files", "--items", "1")

    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["items_waiting"], told["items_looked_at"]) == (5, 5)
    assert (told["files"], told["bytes"], told["there_already"]) == (2, 3000, 1)
    assert told["refused"] == {"bad_item": 1, "bad_url": 1, "http_404": 1}
    assert "1 of 5 waiting items looked at" in shown.stdout
    assert "2 files to fetch, 3 kB" in shown.stdout
    for name in ("a.bin", "b.bin", "gone.bin"):
        assert set(origin.stats(name).methods) == {"HEAD"}
    assert client.lrange(WAITING, 0, -1) == before


def test_a_server_that_knows_no_head_has_files_of_unknown_size(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    client.rpush(WAITING, json.dumps(item(attachment(origin.url("a.bin", 1000, "status:405@head")))))

    told = json.loads(project.command("chunkdl", "plan", "files", "--json").stdout)

    assert (told["files"], told["bytes"], told["files_of_unknown_size"]) == (1, 0, 1)


def test_an_empty_list_is_no_error(project: Project) -> None:
    done = project.command("chunkdl", "plan", "files")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "files: no item waits, so nothing would be fetched\n"


@pytest.mark.parametrize("words", [("nobody",), ("files", "--items", "0")])
def test_what_makes_no_sense_is_told_in_a_line(project: Project, words: tuple[str, ...]) -> None:
    done = project.command("chunkdl", "plan", *words)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


HOOKS = """
from scrapy import Request

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline


class Own(ChunkDownloadPipeline):
    def get_media_requests(self, item, info):
        if item.get("fails"):
            raise RuntimeError("of the project")
        base = item["base"]
        yield Request(base + "/chosen.bin?size=1000")
        yield Request(base + "/named.bin?size=500", meta={"filename": "n.bin"})
        yield Request(base + "/form.bin?size=500", method="POST", body=b"a=1")

    def file_path(self, request, response=None, info=None, *, item=None):
        if "outside" in item:
            return "../outside.bin"
        return f"{info.spider.name}/{request.url.rpartition('/')[2].partition('?')[0]}"
"""


def test_hooks_choose_and_name_files_as_in_a_crawl(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.support = HOOKS
    project.settings["ITEM_PIPELINES"] = {"probe.support.Own": 1}
    base = origin.url("x", 1).rpartition("/")[0]
    there = project.folder / "downloads" / "files" / "named.bin"
    there.parent.mkdir(parents=True)
    client.rpush(
        WAITING, json.dumps({"base": base}), json.dumps({"fails": 1}), json.dumps({"base": base, "outside": 1})
    )

    done = project.command("chunkdl", "plan", "files", "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["files"], told["bytes"], told["files_of_unknown_size"]) == (3, 1500, 1), str(told)[-150:]
    assert told["refused"] == {"hook_failed": 1, "bad_path": 3}
    assert set(origin.stats("chosen.bin").methods) == set(origin.stats("named.bin").methods) == {"HEAD"}
    assert origin.stats("form.bin").requests == 0
    assert client.llen(WAITING) == 3


def test_a_host_gets_no_more_heads_at_once_than_a_crawl_would_have_connections(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings["CHUNKDL_CONCURRENT_CHUNKS_PER_HOST"] = 2
    client.rpush(
        WAITING, *(json.dumps(item(attachment(origin.url(f"{n}.bin", 1000, "delay:0.05")))) for n in range(12))
    )

    told = json.loads(project.command("chunkdl", "plan", "files", "--json").stdout)

    assert (told["files"], told["bytes"]) == (12, 12_000)
    assert 0 < origin.peak <= 2
