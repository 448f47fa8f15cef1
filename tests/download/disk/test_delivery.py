"""Finished files that go into a store: fetched once, delivered once, never lost in between. The store is a folder."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import QUICK, SIZE, Client, payload
from origin import Origin
from patience import HANG

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Progress, Published, Store
from scrapy_chunkdl.download.disk import delivery
from scrapy_chunkdl.download.errors import KeysExpired
from scrapy_chunkdl.download.progress import Doing

KEY = "ab/out.bin"


class FolderStore:
    """A store as a user would write it, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, Published] = {}
        self.puts: list[str] = []
        self.failures: list[Exception] = []
        self.failures_at_the_end: list[Exception] = []
        self.hold: threading.Event | None = None
        self.begun = threading.Event()
        self.stopped_by: BaseException | None = None

    def find(self, key: str) -> Published | None:
        return self.records.get(key)

    def put(self, path: Path, key: str, record: Published, moved: Callable[[int], None]) -> None:
        self.puts.append(key)
        if self.failures:
            raise self.failures.pop()
        self.begun.set()
        try:
            while self.hold is not None and not self.hold.wait(0.01):
                moved(0)
        except BaseException as error:
            self.stopped_by = error
            raise
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        moved(record.size)
        self.records[key] = record
        if self.failures_at_the_end:
            raise self.failures_at_the_end.pop()

    def uri(self, key: str) -> str:
        return f"own://{key}"

    def read(self, key: str = KEY) -> bytes:
        return (self.folder / key).read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "far")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Where files are until they are in the store."""
    return tmp_path / "parts"


@pytest.fixture
def stored(origin: Origin, store: Store, parts: Path) -> Client:
    """A client whose files go into the store."""
    options = replace(QUICK, store=store, store_root=parts)
    return Client(parts / "ab", origin, options)


def left(parts: Path) -> list[str]:
    return sorted(path.name for path in parts.rglob("*") if path.is_file())


async def test_the_file_goes_into_the_store_and_from_the_disk(stored: Client, store: FolderStore, parts: Path) -> None:
    result = await stored.fetch(stored.url())

    assert store.read() == payload()
    assert (result.status, result.uri, result.size) == ("downloaded", f"own://{KEY}", SIZE)
    assert store.records[KEY].url == stored.url()
    assert store.records[KEY].etag == result.etag is not None
    assert left(parts) == []


async def test_without_a_store_there_is_no_uri(client: Client) -> None:
    assert (await client.right(client.url())).uri is None


@pytest.mark.parametrize("faults", ["", "ranges:none", "length:none;framing:chunked", "etag:none;date:none"])
async def test_a_file_of_any_kind_is_delivered(stored: Client, store: FolderStore, parts: Path, faults: str) -> None:
    await stored.fetch(stored.url(faults))

    assert store.read() == payload()
    assert left(parts) == []


async def test_an_unchanged_file_is_not_fetched_again_and_a_changed_one_is(
    stored: Client, store: FolderStore, origin: Origin, parts: Path
) -> None:
    await stored.fetch(stored.url())
    sent = origin.stats("file.bin").sent

    again = await stored.fetch(stored.url())
    assert (again.status, again.uri) == ("uptodate", f"own://{KEY}")
    assert origin.stats("file.bin").sent == sent

    origin.set_version("file.bin", 2)
    changed = await stored.fetch(stored.url())
    assert changed.status == "downloaded"
    assert store.read() == payload(version=2)
    assert store.puts == [KEY, KEY]
    assert left(parts) == []


async def test_a_store_that_fails_is_tried_again(stored: Client, store: FolderStore) -> None:
    store.failures = [OSError("not now"), RuntimeError("neither now")]

    result = await stored.fetch(stored.url())

    assert store.read() == payload()
    assert result.retries == {"store_failed": 2}


async def test_a_file_that_cannot_be_delivered_waits_whole_and_is_delivered_later_without_being_fetched(
    stored: Client, store: FolderStore, origin: Origin, parts: Path
) -> None:
    store.failures = [OSError("down")] * 4  # and retry_times is 3
    with pytest.raises(Exception, match="the store failed: down") as failure:
        await stored.fetch(stored.url())
    assert failure.value.reason == "store_failed"  # type: ignore[attr-defined]
    assert (failure.value.bytes_done, failure.value.resumable) == (SIZE, True)  # type: ignore[attr-defined]
    assert left(parts) == ["out.bin"]
    sent = origin.stats("file.bin").sent

    result = await stored.fetch(stored.url())

    assert origin.stats("file.bin").sent == sent
    assert (result.status, result.fetched, result.resumed) == ("downloaded", 0, SIZE)
    assert store.read() == payload()
    assert left(parts) == []


async def test_an_upload_whose_answer_was_lost_is_not_sent_again(stored: Client, store: FolderStore) -> None:
    store.failures_at_the_end = [OSError("connection lost")]

    result = await stored.fetch(stored.url())

    assert result.status == "downloaded"
    assert store.puts == [KEY]


async def test_a_version_that_cannot_be_told_from_another_is_sent_again(stored: Client, store: FolderStore) -> None:
    store.failures_at_the_end = [OSError("connection lost")]

    await stored.fetch(stored.url("etag:none;date:none"))

    assert store.puts == [KEY, KEY]


async def test_a_refusal_is_not_tried_again(stored: Client, store: FolderStore) -> None:
    store.failures = [PermissionError("no")]

    with pytest.raises(Exception, match="the store refuses: no") as failure:
        await stored.fetch(stored.url())

    assert failure.value.reason == "store_denied"  # type: ignore[attr-defined]
    assert store.puts == [KEY]


@pytest.mark.parametrize(
    "said",
    [
        OSError("Generic S3 error: 400 Bad Request (ExpiredToken)"),
        PermissionError("The provided token has expired."),
        PermissionError("The security token included in the request is expired (ExpiredTokenException)"),
        PermissionError("Server failed to authenticate: Signature not valid in the specified time frame"),
        OSError("ExpiredAuthenticationToken: the access token expiry UTC time is earlier than the current time"),
        RuntimeError("Reauthentication is needed. Please run `gcloud auth application-default login`"),
    ],
    ids=str,
)
async def test_keys_that_ran_out_are_waited_for_and_cost_no_file(
    stored: Client, store: FolderStore, origin: Origin, said: Exception
) -> None:
    store.failures = [said]
    with pytest.raises(KeysExpired, match="the store's keys have run out") as refused:
        await stored.fetch(stored.url())
    sent = origin.stats("file.bin").sent

    await stored.fetch(stored.url())

    assert (refused.value.reason, origin.stats("file.bin").sent) == ("store_keys_expired", sent)
    assert store.read() == payload()


async def test_a_whole_file_whose_source_has_changed_meanwhile_is_not_delivered(
    stored: Client, store: FolderStore, origin: Origin, parts: Path
) -> None:
    store.failures = [PermissionError("no")]
    with pytest.raises(Exception, match="refuses"):
        await stored.fetch(stored.url())

    origin.set_version("file.bin", 2)
    await stored.fetch(stored.url())

    assert store.read() == payload(version=2)
    assert left(parts) == []


async def test_a_lost_lease_leaves_the_whole_file_for_the_next_run(
    stored: Client, store: FolderStore, parts: Path
) -> None:
    answers = [False, True]  # for publishing here, and for delivering

    with pytest.raises(Exception, match="lease was lost"):
        await stored.fetch(stored.url(), may_publish=answers.pop)

    assert store.puts == []
    assert left(parts) == ["out.bin"]


async def test_cancelled_the_upload_is_told_to_stop_and_nothing_is_fetched_again(
    stored: Client, store: FolderStore, origin: Origin, parts: Path
) -> None:
    store.hold = threading.Event()
    async with Downloader(stored.options) as downloader:
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(stored.url(), stored.folder, "out.bin")))
        await asyncio.to_thread(store.begun.wait)
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert store.stopped_by is not None
    assert left(parts) == ["out.bin"]
    sent = origin.stats("file.bin").sent

    store.hold = None
    await stored.fetch(stored.url())

    assert origin.stats("file.bin").sent == sent
    assert store.read() == payload()


async def test_an_upload_without_a_sign_for_a_while_is_told_and_alive(stored: Client, store: FolderStore) -> None:
    store.hold = threading.Event()
    progress = Progress()
    async with Downloader(stored.options) as downloader:
        request = FileRequest(stored.url(), stored.folder, "out.bin")
        fetching = asyncio.ensure_future(downloader.fetch(request, progress))
        await asyncio.to_thread(store.begun.wait)
        doing, since = progress.state()
        alive = progress.is_alive(since + 200)
        store.hold.set()
        await fetching

    assert doing is Doing.DELIVERING
    assert alive
    assert progress.uploaded == SIZE


async def test_two_downloads_of_one_file_deliver_it_once(stored: Client, store: FolderStore, origin: Origin) -> None:
    store.hold = threading.Event()
    async with Downloader(stored.options) as downloader:

        def fetch() -> asyncio.Future[FileResult]:
            return asyncio.ensure_future(downloader.fetch(FileRequest(stored.url(), stored.folder, "out.bin")))

        first = fetch()
        await asyncio.to_thread(store.begun.wait)
        second = fetch()
        await origin.begun("file.bin", origin.stats("file.bin").requests + 1)
        store.hold.set()
        statuses = [(await fetching).status for fetching in (first, second)]

    assert statuses == ["downloaded", "uptodate"]
    assert store.puts == [KEY]


async def test_a_download_that_waited_for_another_finds_the_file_in_the_store(
    stored: Client, store: FolderStore, origin: Origin
) -> None:
    url = stored.url("hold:gate:1000@get")
    begun = origin.when("file.bin", lambda stats: stats.sent >= 1000)
    async with Downloader(stored.options) as downloader:

        def fetch() -> asyncio.Future[FileResult]:
            return asyncio.ensure_future(downloader.fetch(FileRequest(url, stored.folder, "out.bin")))

        first = fetch()
        await asyncio.wrap_future(begun)
        asked = origin.when("file.bin", lambda stats: stats.methods["HEAD"] >= 2)
        second = fetch()
        await asyncio.wrap_future(asked)
        await asyncio.sleep(0)
        origin.release("gate")
        statuses = [(await fetching).status for fetching in (first, second)]

    assert statuses == ["downloaded", "uptodate"]
    assert store.puts == [KEY]
    assert origin.stats("file.bin").sent < 2 * SIZE


async def test_the_object_of_another_url_is_not_replaced(stored: Client, store: FolderStore) -> None:
    await stored.fetch(stored.url())

    other = await stored.fetch(stored.url(name="other.bin"))
    assert store.read() == payload()
    assert other.uri is not None
    assert other.uri.startswith("own://ab/out-")
    assert store.read(other.uri.removeprefix("own://")) == payload(key="other.bin")

    assert (await stored.fetch(stored.url(name="other.bin"))).status == "uptodate"


async def test_where_only_the_time_is_known_a_file_as_large_and_not_older_is_unchanged(
    stored: Client, store: FolderStore
) -> None:
    store.records[KEY] = Published(None, SIZE, stored_at="Mon, 17 Oct 2022 12:00:00 GMT")
    assert (await stored.fetch(stored.url())).status == "uptodate"

    store.records[KEY] = Published(None, SIZE, stored_at="Mon, 17 Oct 2011 12:00:00 GMT")
    assert (await stored.fetch(stored.url())).status == "downloaded"

    store.records[KEY] = Published(None, SIZE + 1, stored_at="Mon, 17 Oct 2022 12:00:00 GMT")
    assert (await stored.fetch(stored.url())).status == "downloaded"


async def test_the_wanted_and_the_reported_checksum_are_both_kept_in_the_store(
    stored: Client, store: FolderStore
) -> None:
    stored = stored.with_options(checksum="sha256")
    checksum = f"md5:{hashlib.md5(payload()).hexdigest()}"
    store.failures = [OSError("down")] * 4  # it waits whole, and is delivered by the next run
    with pytest.raises(DownloadError):
        await stored.fetch(stored.url(), checksum=checksum)

    statuses = [(await stored.fetch(stored.url(), checksum=checksum)).status for _ in range(2)]

    assert statuses == ["downloaded", "uptodate"]
    assert store.records[KEY].has_checksum(checksum)
    assert store.records[KEY].checksum == f"sha256:{hashlib.sha256(payload()).hexdigest()}"


async def test_a_store_that_never_says_what_it_has_costs_a_few_threads_and_then_no_more(
    stored: Client, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), []
    find = store.find

    def find_late(key: str) -> Published | None:
        asked.append(key)
        answers.wait()
        return find(key)

    monkeypatch.setattr(store, "find", find_late)
    monkeypatch.setattr(delivery, "FIND_TIMEOUT_S", 0.01)
    try:
        failures = []
        for _ in range(4):  # of four tries each
            with pytest.raises(DownloadError, match=r"(did|does) not answer") as failure:
                await stored.fetch(stored.url())
            failures.append(failure.value.reason)
        hanging = [thread for thread in threading.enumerate() if thread.name == "chunkdl-store"]
    finally:
        answers.set()
    for thread in hanging:
        await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    monkeypatch.setattr(delivery, "FIND_TIMEOUT_S", HANG)
    result = await stored.fetch(stored.url())

    assert failures == ["store_failed"] * 4
    assert len(hanging) == len(asked) - 1 == delivery._MOST_OVERDUE
    assert result.status == "downloaded"
