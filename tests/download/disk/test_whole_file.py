"""Files that are whole in memory: killed, or without power, at any step, each name has a whole file or none."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from failing_disk import FailingDisk, PowerLoss

from scrapy_chunkdl.download.disk import whole_file
from scrapy_chunkdl.download.disk.record import Published, read_published
from scrapy_chunkdl.download.disk.whole_file import FolderSyncs, Publishing, WholeFile

BODIES = {f"{name}.bin": bytes([n]) * 3000 for n, name in enumerate("abc")}


def begun(folder: Path, name: str) -> WholeFile:
    file = WholeFile(str(folder), name)
    file.lock()
    file.write(BODIES[name], Published("http://example.org/" + name, 3000, '"v1"', "Mon, 01 Jan 2024 00:00:00 GMT"))
    return file


def at_once() -> Publishing:
    return Publishing(quick_s=float("inf"))


def in_threads() -> Publishing:
    return Publishing(quick_s=0.0)


async def publish_together(folder: Path, publishing: Publishing, told: list[str]) -> None:
    """As a batch is: all are written, then all get their names."""

    async def one(name: str, file: WholeFile) -> None:
        await publishing.publish(file)
        told.append(name)

    files = [(name, begun(folder, name)) for name in BODIES]
    await asyncio.gather(*(one(name, file) for name, file in files))
    publishing.close()


async def publish_in_turn(folder: Path, publishing: Publishing, told: list[str]) -> None:
    for name in BODIES:
        await publishing.publish(begun(folder, name))
        told.append(name)
    publishing.close()


@pytest.mark.parametrize(
    ("publish", "kind"), [(publish_together, at_once), (publish_in_turn, at_once), (publish_in_turn, in_threads)]
)
def test_stopped_at_any_step_what_was_told_is_there_and_what_is_there_is_whole(
    publish: Callable[..., object], kind: Callable[[], Publishing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)  # what they do for this disk is up to it
    for stop_at in count():
        folder = tmp_path / str(stop_at)
        folder.mkdir()
        disk = FailingDisk(folder, stop_at)
        told: list[str] = []
        with monkeypatch.context() as patch:
            disk.install(patch)
            try:
                asyncio.run(publish(folder, kind(), told))  # type: ignore[arg-type]
                is_over = True
                disk.stop()
            except PowerLoss:
                is_over = False
        assert disk.left is not None
        for variant, (keep, keep_names) in enumerate(
            [("all", True), ("none", True), ("none", False), *[("some", True), ("some", False)] * 3]
        ):
            after = tmp_path / f"{stop_at}-{variant}"
            disk.left.put(after, keep=keep, keep_names=keep_names, seed=stop_at * 100 + variant)
            where = f"stopped before step {stop_at} of {disk.steps}, {keep} of the bytes, names {keep_names}"
            there = {path.name: path.read_bytes() for path in after.iterdir() if not path.name.endswith(".part")}
            assert there.items() <= BODIES.items(), where
            assert set(told) <= set(there), where
        disk.close()
        if is_over:
            break

    assert told == list(BODIES)
    assert stop_at > 15


def test_a_batch_syncs_its_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = whole_file.sync_folder
    monkeypatch.setattr(whole_file, "sync_folder", lambda folder: (synced.append(folder), sync(folder)))

    asyncio.run(publish_together(tmp_path, at_once(), []))

    assert synced == [str(tmp_path)]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == BODIES


def test_folders_that_had_to_be_made_are_synced_from_the_file_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(whole_file, "sync_folder", synced.append)
    folder = tmp_path / "ab" / "cdef"

    file = begun(folder, "a.bin")
    file.finish(whole_file.sync_folder)
    file.close()

    assert synced == [str(folder), str(tmp_path / "ab"), str(tmp_path)]


@pytest.mark.parametrize("kind", [at_once, in_threads])
def test_a_file_that_cannot_be_synced_leaves_nothing_and_the_others_are_published(
    kind: Callable[[], Publishing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def failing(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("b.bin.part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    async def publish() -> list[BaseException | None]:
        publishing = kind()
        files = [begun(tmp_path, name) for name in BODIES]
        done = await asyncio.gather(*map(publishing.publish, files), return_exceptions=True)
        publishing.close()
        return done

    monkeypatch.setattr(os, "fsync", failing)
    done = asyncio.run(publish())

    assert [type(one) for one in done] == [type(None), OSError, type(None)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "c.bin"]


def test_a_part_file_of_another_download_is_left_alone(tmp_path: Path) -> None:
    first = begun(tmp_path, "a.bin")

    second = WholeFile(str(tmp_path), "a.bin")
    with pytest.raises(BlockingIOError):
        second.lock()
    second.discard()

    first.finish(whole_file.sync_folder)
    first.close()
    record = read_published(tmp_path / "a.bin")
    assert record is not None
    assert (record.url, record.etag) == ("http://example.org/a.bin", '"v1"')


def test_a_part_file_begun_anew_by_another_is_not_removed_after_the_rename(tmp_path: Path) -> None:
    first = begun(tmp_path, "a.bin")

    def another_begins(folder: str) -> None:
        (tmp_path / "a.bin.part").touch()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output"):
        first.finish(another_begins)
    first.discard()

    assert (tmp_path / "a.bin.part").exists()


def test_one_cancelled_before_its_turn_leaves_nothing(tmp_path: Path) -> None:
    async def publish() -> None:
        publishing = at_once()
        one = asyncio.ensure_future(publishing.publish(begun(tmp_path, "a.bin")))
        other = asyncio.ensure_future(publishing.publish(begun(tmp_path, "b.bin")))
        asyncio.get_running_loop().call_soon(one.cancel)
        await other
        assert one.cancelled() or (await asyncio.gather(one, return_exceptions=True)) == [None]
        publishing.close()

    asyncio.run(publish())

    assert (tmp_path / "b.bin").exists()
    assert not list(tmp_path.glob("*.part"))


def test_those_that_wait_for_a_folder_share_one_sync_that_began_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    running, go_on = threading.Event(), threading.Event()
    synced: list[str] = []

    def sync(folder: str) -> None:
        synced.append(folder)
        running.set()
        go_on.wait()

    monkeypatch.setattr(whole_file, "sync_folder", sync)
    syncs = FolderSyncs()
    threads = [threading.Thread(target=syncs.sync, args=["f"]) for _ in range(5)]
    threads[0].start()
    running.wait()
    for thread in threads[1:]:
        thread.start()
    while syncs.waiting("f") < 5:
        pass
    go_on.set()
    for thread in threads:
        thread.join()

    assert synced == ["f", "f"]
    assert syncs.waiting("f") == 0


def test_a_folder_that_cannot_be_synced_is_told_to_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(folder: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(whole_file, "sync_folder", failing)
    syncs = FolderSyncs()

    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            syncs.sync("f")
