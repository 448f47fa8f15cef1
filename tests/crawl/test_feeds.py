"""FEEDS of crawls and workers: none overwrites another's, and with CHUNKDL_ACK = "feed" what is acked is there."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from origin import Origin
from project import Project, attachment, item
from scrapy.extensions.feedexport import FileFeedStorage, S3FeedStorage, StdoutFeedStorage

from scrapy_chunkdl.crawl.feeds import FeedAcks, FeedFiles, name_process
from scrapy_chunkdl.settings.config import ConfigError

WAITING = """
class Slow:
    '''Waits for the test when it has let so many items through.'''

    async def process_item(self, item, spider=None):
        if item["n"] == "last":
            from twisted.internet.defer import Deferred
            from scrapy.utils.defer import maybe_deferred_to_future

            print("REACHED", flush=True)
            await maybe_deferred_to_future(Deferred())
        return item
"""


def push(client: redis.Redis, origin: Origin, *numbers: object) -> None:
    for number in numbers:
        client.rpush("files:items", json.dumps(item(attachment(origin.url(f"f{number}", 10)), n=number)))


# --- one file, several processes


def slot(uri: str, *, overwrite: bool, of: Any = FileFeedStorage, format_: str = "jsonlines", path: str = "") -> Any:
    storage = of.__new__(of)
    storage.path, storage.write_mode = path or uri, "wb" if overwrite else "ab"
    return SimpleNamespace(uri_template=uri, uri=uri, storage=storage, format=format_, feed_options={}, itemcount=0)


def claim(*slots: Any, starts_again: bool = False) -> FeedFiles:
    files = FeedFiles()
    files.claim(SimpleNamespace(slots=list(slots)), starts_again=starts_again)
    return files


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ({"overwrite": True}, {"overwrite": True}, True),
        ({"overwrite": True}, {"overwrite": False}, True),
        ({"overwrite": False}, {"overwrite": True}, True),
        ({"overwrite": False}, {"overwrite": False}, False),
        ({"overwrite": False, "format_": "json"}, {"overwrite": False, "format_": "json"}, True),
        ({"overwrite": False, "format_": "csv"}, {"overwrite": False, "format_": "csv"}, True),
        ({"overwrite": False}, {"overwrite": False, "format_": "xml"}, True),
    ],
    ids=str,
)
def test_a_local_file_that_another_process_writes_is_refused_unless_lines_are_appended(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], refused: bool
) -> None:
    uri = str(tmp_path / "new" / "items")
    held = claim(slot(uri, **first))

    if refused:
        with pytest.raises(ConfigError, match=r"another process is writing it.*%\(process\)s"):
            claim(slot(uri, **second))
    else:
        claim(slot(uri, **second)).release()

    held.release()
    claim(slot(uri, **second)).release()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "options", "refused"),
    [
        ("items.jsonl", {"overwrite": True}, True),
        ("items.jsonl", {"overwrite": False}, False),
        ("%(name)s-%(batch_id)d.jsonl", {"overwrite": True}, True),
        ("%(process)s.jsonl", {"overwrite": True}, False),
        ("%(time)s.jsonl", {"overwrite": True}, False),
        ("s3://bucket/items.jsonl", {"overwrite": True, "of": S3FeedStorage}, True),
        ("s3://bucket/%(batch_time)s.jsonl", {"overwrite": True, "of": S3FeedStorage}, False),
        ("stdout:", {"overwrite": False, "of": StdoutFeedStorage}, False),
    ],
)
def test_a_worker_must_not_overwrite_what_was_written_before_it_was_started_again(
    tmp_path: Path, uri: str, options: dict[str, Any], refused: bool
) -> None:
    feed = slot(uri, path=str(tmp_path / "items"), **options)

    if refused:
        with pytest.raises(ConfigError, match=r"which each worker overwrites") as told:
            claim(feed, starts_again=True)
        assert len(str(told.value)) <= 300
    else:
        claim(feed, starts_again=True).release()


def test_a_password_in_the_uri_is_not_told() -> None:
    feed = slot("s3://key:s3cr3t@bucket/items.jsonl", overwrite=True, of=S3FeedStorage)

    with pytest.raises(ConfigError) as told:
        claim(feed, starts_again=True)

    assert "s3cr3t" not in str(told.value)


def test_a_spider_with_an_attribute_of_that_name_keeps_it() -> None:
    own, none = SimpleNamespace(process="mine"), SimpleNamespace()

    name_process(own)  # type: ignore[arg-type]
    name_process(none)  # type: ignore[arg-type]

    assert own.process == "mine"
    assert f"-{os.getpid()}-" in none.process


def test_a_second_worker_with_one_feed_ends_and_leaves_the_file_as_it_is(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"FEEDS": {"items.json": {"format": "json", "store_empty": True}}, "FEED_STORE_EMPTY": True}
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Slow": 200,
    }
    project.support = WAITING
    push(client, origin, 1, 2, "last")
    first = project.begin("chunkdl", "worker", "files")
    assert first.stdout is not None
    while "REACHED" not in (line := first.stdout.readline()):
        assert line

    second = project.finish(project.begin("chunkdl", "worker", "files"))

    assert second.returncode == 1
    assert second.stats["finish_reason"] == "chunkdl_feed_taken"
    assert second.log.count("another process is writing it") == 1
    first.send_signal(signal.SIGKILL)
    first.communicate()


def test_each_process_may_have_a_file_of_its_own_by_its_uri(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings["FEEDS"] = {"out/%(name)s-%(process)s.jsonl": {"format": "jsonlines", "overwrite": True}}
    for _ in range(2):
        push(client, origin, 1)
        crawl = project.finish(project.begin("chunkdl", "worker", "files", "--until-empty"))
        assert crawl.returncode == 0, crawl.log

    written = sorted((project.folder / "out").iterdir())
    assert len(written) == 2
    assert all(path.name.startswith("files-") and len(path.read_text().splitlines()) == 1 for path in written)


# --- acked only when the feed has it


def exporter() -> Any:
    made = SimpleNamespace(slots=[])
    made._start_new_batch = lambda of: of
    return made


class Slot(SimpleNamespace):
    """What FeedAcks looks at of Scrapy's FeedSlot."""

    __hash__ = object.__hash__


class Storage(FileFeedStorage):
    def __init__(self) -> None:
        pass

    def store(self, file: Any) -> None:
        file.close()


class Remote:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def store(self, file: Any) -> None:
        if self.fails:
            raise OSError("denied")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Any]:
    """Makes a feed in a local file."""
    with ExitStack() as files:

        def make(**options: Any) -> Any:
            file = files.enter_context((tmp_path / "f").open("ab"))
            return Slot(storage=Storage(), file=file, itemcount=0, feed_options=options)

        yield make


def remote(**options: Any) -> Any:
    return Slot(storage=Remote(**options), file=io.BytesIO(), itemcount=0, feed_options={})


class Told(list[str]):
    def scraped(self, acks: FeedAcks, name: str, *slots: Any) -> None:
        for of in slots:
            of.file.write(name.encode())
            of.itemcount += 1
        acks.scraped(lambda: self.append(f"safe {name}"), lambda: self.append(f"lost {name}"))


async def test_a_local_file_has_an_item_when_it_was_synced_after_it(tmp_path: Path, local: Any) -> None:
    feed, told, feeds = local(), Told(), exporter()
    feeds.slots.append(feed)
    acks = FeedAcks(feeds)

    told.scraped(acks, "a", feed)
    assert acks.may_flush
    sync = acks.flush()
    assert (tmp_path / "f").read_bytes() == b"a"
    told.scraped(acks, "b", feed)
    acks.flushed(sync())
    assert told == ["safe a"]

    acks.flushed(acks.flush()())
    assert told == ["safe a", "safe b"]
    assert not acks.may_flush


async def test_a_file_that_cannot_be_synced_keeps_its_items_and_is_told_once(
    local: Any, caplog: pytest.LogCaptureFixture
) -> None:
    feed, told, feeds = local(), Told(), exporter()
    feeds.slots.append(feed)
    acks = FeedAcks(feeds)
    told.scraped(acks, "a", feed)

    for _ in range(3):
        acks.flush()
        acks.flushed(OSError(28, "No space left on device"))

    assert told == []
    assert len(caplog.messages) == 1
    assert not acks.may_flush  # for a while
    acks.give_up()
    assert told == ["lost a"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_feed_that_is_stored_at_the_end_has_its_items_then_or_never(local: Any, fails: bool) -> None:
    near, far, told, feeds = local(), remote(fails=fails), Told(), exporter()
    feeds.slots += [near, far]
    acks = FeedAcks(feeds)
    told.scraped(acks, "a", near, far)
    acks.flushed(acks.flush()())
    assert told == []

    try:
        await far.storage.store(far.file)
    except OSError:
        assert fails
    acks.give_up()

    assert told == ["lost a" if fails else "safe a"]


async def test_an_item_waits_for_its_batch_and_not_for_the_next() -> None:
    first, second, told, feeds = remote(), remote(), Told(), exporter()
    feeds.slots.append(first)
    acks = FeedAcks(feeds)
    told.scraped(acks, "a", first)
    feeds.slots = [feeds._start_new_batch(second)]
    await first.storage.store(first.file)
    told.scraped(acks, "b", second)

    assert told == ["safe a"]
    await second.storage.store(second.file)
    assert told == ["safe a", "safe b"]


async def test_without_a_feed_that_has_it_an_item_is_safe_at_once_and_compressed_files_wait(
    tmp_path: Path, local: Any
) -> None:
    packed, told, feeds = local(postprocessing=["gzip"]), Told(), exporter()
    feeds.slots.append(packed)
    acks = FeedAcks(feeds)

    told.scraped(acks, "a")
    told.scraped(acks, "b", packed)

    assert (list(told), acks.may_flush, len(acks)) == (["safe a"], False, 1)
    packed.storage.store(packed.file)
    assert told == ["safe a", "safe b"]


@pytest.mark.parametrize("uri", ["items.jsonl", "file://{folder}/items.csv", "items.jsonl.gz"])
def test_a_killed_worker_has_acknowledged_nothing_that_is_not_in_the_feed(
    project: Project, origin: Origin, client: redis.Redis, uri: str
) -> None:
    uri = uri.format(folder=project.folder)
    options = {"format": "csv" if "csv" in uri else "jsonlines", "fields": ["n"]}
    if uri.endswith(".gz"):
        options["postprocessing"] = ["scrapy.extensions.postprocessing.GzipPlugin"]
    project.settings |= {"FEEDS": {uri: options}, "CHUNKDL_ACK": "feed", "CHUNKDL_BATCH_SIZE": 2, "CHUNKDL_THREADS": 1}
    project.settings["ITEM_PIPELINES"] = {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "probe.support.Slow": 200,
    }
    project.support = WAITING
    numbers = [f"n{number}" for number in range(8)]
    push(client, origin, *numbers, "last")
    worker = project.begin("chunkdl", "worker", "files")
    assert worker.stdout is not None
    while "REACHED" not in (line := worker.stdout.readline()):
        assert line

    worker.send_signal(signal.SIGKILL)
    worker.communicate()

    in_feed = (project.folder / uri.rpartition("/")[2]).read_bytes().decode(errors="replace")
    left = b"".join(client.hvals("{files:items}:payload")).decode()
    assert [number for number in numbers if number not in in_feed and f'"{number}"' not in left] == []


def test_all_is_acknowledged_when_a_crawl_with_feeds_of_both_kinds_has_ended(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_ACK": "feed", "CHUNKDL_BATCH_SIZE": 4, "CHUNKDL_THREADS": 1}
    project.settings["FEED_STORAGES"] = {"far": "probe.support.Far"}
    project.settings["FEEDS"] = {
        "items.jsonl": {"format": "jsonlines"},
        "far://items": {"format": "jsonlines"},
        "far://batch-%(batch_id)d": {"format": "jsonlines", "batch_item_count": 3},
    }
    project.support = """
    from scrapy.extensions.feedexport import BlockingFeedStorage

    class Far(BlockingFeedStorage):
        def __init__(self, uri, *, feed_options=None):
            self.name = uri.rpartition("/")[2]

        def _store_in_thread(self, file):
            file.seek(0)
            with open("far-" + self.name, "wb") as stored:
                stored.write(file.read())
    """
    project.items = [item(attachment(origin.url(f"f{number}", 10)), n=number) for number in range(20)]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished"
    assert crawl.stats["chunkdl/items/finished"] == 20, crawl.log
    assert [key for key in client.keys("*") if b"dead" not in key] == []
    lines = {path.name: len(path.read_text().splitlines()) for path in project.folder.glob("far-*")}
    assert lines.pop("far-items") == len(project.scraped()) == 20
    assert sum(lines.values()) == 20


def test_a_feed_that_cannot_be_stored_gives_its_items_back(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_ACK": "feed", "FEED_STORAGES": {"far": "probe.support.Far"}}
    project.settings["FEEDS"] = {"far://items": {"format": "jsonlines"}}
    project.support = """
    from scrapy.extensions.feedexport import BlockingFeedStorage

    class Far(BlockingFeedStorage):
        def __init__(self, uri, *, feed_options=None):
            pass

        def _store_in_thread(self, file):
            raise OSError("denied")
    """
    project.items = [item(attachment(origin.url(f"f{number}", 10)), n=number) for number in range(5)]

    crawl = project.crawl()

    assert "5 items of files:items are not safe in the feeds: they go back to the list" in crawl.log
    assert crawl.stats.get("chunkdl/items/finished") is None
    assert client.zcard("{files:items}:delayed") + client.llen("files:items") == 5


REFUSING = """
import errno

from scrapy.exporters import JsonLinesItemExporter


class Bytes:
    def process_item(self, item, spider=None):
        return {**item, "raw": b"x"} if item["n"] == 2 else item


class Picky(JsonLinesItemExporter):
    def export_item(self, item):
        if item["n"] == 2:
            raise KeyError("title")
        super().export_item(item)


class Full(JsonLinesItemExporter):
    tries = 0

    def export_item(self, item):
        if item["n"] == 2:
            Full.tries += 1
            if Full.tries < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        super().export_item(item)


class Filter:
    def __init__(self, options):
        pass

    def accepts(self, item):
        return item["n"] != 2 or item["nothing"]
"""

NOT_TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a value JSON has no word for": ({}, {"probe.support.Bytes": 2}, "TypeError: Object of type bytes is not JSON"),
    "an exporter that raises": ({"format": "picky"}, {}, "KeyError: 'title'"),
    "a filter that raises": ({"item_filter": "probe.support.Filter"}, {}, "KeyError: 'nothing'"),
}


@pytest.mark.parametrize("ack", ["item", "feed"])
@pytest.mark.parametrize(("options", "pipelines", "why"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_an_item_that_a_feed_does_not_take_is_kept_among_the_dead(
    project: Project, origin: Origin, client: redis.Redis, options: Any, pipelines: Any, why: str, ack: str
) -> None:
    project.settings |= {"CHUNKDL_ACK": ack, "FEED_EXPORTERS": {"picky": "probe.support.Picky"}}
    project.settings["FEEDS"] = {"items.jsonl": {"format": "jsonlines", **options}}
    project.settings["ITEM_PIPELINES"] = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1, **pipelines}
    project.support = REFUSING
    project.items = [item(attachment(origin.url(f"f{n}", 10)), n=n) for n in range(4)]

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == [0, 1, 3]
    assert [json.loads(dead)["n"] for dead in client.lrange("{files:items}:dead", 0, -1)] == [2]
    assert f"a feed does not take it: {why}" in crawl.log
    assert crawl.stats["chunkdl/items/finished"] == 3


def test_an_item_that_a_feed_could_not_write_comes_back(project: Project, origin: Origin, client: redis.Redis) -> None:
    project.settings |= {"CHUNKDL_RETRY_DELAY": 0.01, "FEED_EXPORTERS": {"full": "probe.support.Full"}}
    project.settings["FEEDS"] = {"items.jsonl": {"format": "full"}}
    project.settings["ITEM_PIPELINES"] = {"scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1}
    project.support = REFUSING
    project.items = [item(attachment(origin.url(f"f{n}", 10)), n=n) for n in range(4)]

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == [0, 1, 2, 3]
    assert crawl.log.count("failed in a feed (OSError)") == 2
    assert client.keys("*") == []


def test_a_feed_that_could_not_be_opened_closes_the_crawl(project: Project, origin: Origin) -> None:
    project.settings["FEEDS"] = {"items.jsonl": {"format": "jsonlines", "uri_params": "probe.support.fail"}}
    project.support = """
    def fail(params, spider):
        raise RuntimeError("no such parameter")
    """
    project.items = [item(attachment(origin.url("a", 10)))]

    crawl = project.crawl()

    assert (crawl.returncode, crawl.stats["finish_reason"]) == (1, "chunkdl_feed_unusable")
    assert "FEEDS has a feed that could not be opened: see the error above." in crawl.log


STORAGES = """
import tempfile


class Slotted:
    __slots__ = ("uri",)

    def __init__(self, uri, *, feed_options=None):
        self.uri = uri

    def open(self, spider):
        return tempfile.TemporaryFile()

    def store(self, file):
        file.seek(0)
        Path("stored").write_bytes(file.read())
"""


@pytest.mark.parametrize("place", ["slotted://x", "pipe"])
def test_acks_wait_for_feeds_of_all_kinds(
    project: Project, origin: Origin, client: redis.Redis, tmp_path: Path, place: str
) -> None:
    project.settings |= {"CHUNKDL_ACK": "feed", "FEED_STORAGES": {"slotted": "probe.support.Slotted"}}
    project.settings["FEEDS"] = {place: {"format": "jsonlines"}}
    project.support = STORAGES
    project.items = [item(attachment(origin.url(f"f{n}", 10)), n=n) for n in range(4)]
    project.write()
    os.mkfifo(project.folder / "pipe")
    reader = os.open(project.folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)

    crawl = project.crawl()

    written = (project.folder / "stored").read_bytes() if place != "pipe" else os.read(reader, 1 << 16)
    os.close(reader)
    assert sorted(json.loads(line)["n"] for line in written.splitlines()) == [0, 1, 2, 3]
    assert crawl.stats["chunkdl/items/finished"] == 4, crawl.log
    assert client.keys("*") == []
