"""Killed, or without power, at any step: what was safe is found again, and what has the final name is whole."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from failing_disk import FailingDisk, PowerLoss
from part_files import ONE, PIECE, PIECES, SIZE, TWO, URL, VERSIONS, fill, open_part

from scrapy_chunkdl.download.disk import journal, platform
from scrapy_chunkdl.download.disk.part_lock import remove_leftovers
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.record import Published, read_published
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.plan.ranges import Range

Story = Callable[[Path, list[Range]], None]
"""Works on one file, and notes in the list what it was told is safe."""


def publish(part: PartFile, etag: str) -> None:
    part.prepare(Published(URL, SIZE, etag, "Mon, 01 Jan 2024 00:00:00 GMT"))
    part.publish()
    part.close()


def download(final: Path, safe: list[Range], etag: str = TWO) -> None:
    part = open_part(final, etag)
    try:
        fill(part, etag, safe)
        publish(part, etag)
    finally:
        part.close()


def download_resumed(final: Path, safe: list[Range]) -> None:
    part = open_part(final, TWO)
    safe.extend(part.done)
    try:
        fill(part, TWO, safe, range(PIECES // 2, PIECES))
        publish(part, TWO)
    finally:
        part.close()


def download_while_it_changes(final: Path, safe: list[Range]) -> None:
    part = open_part(final, ONE)
    try:
        fill(part, ONE, [])
        part.reset(SIZE, Validator(TWO))
        fill(part, TWO, safe)
        publish(part, TWO)
    finally:
        part.close()


def download_without_a_journal(final: Path, safe: list[Range]) -> None:
    part = open_part(final, TWO, journaled=False)
    try:
        part.write(0, VERSIONS[TWO])
        part.prepare(Published(URL, SIZE, TWO))
        part.publish()
        part.close()
    finally:
        part.close()


def give_up(final: Path, safe: list[Range]) -> None:
    part = open_part(final, TWO)
    try:
        fill(part, TWO, [])
        part.discard()
    finally:
        part.close()


def download_twice(final: Path, safe: list[Range]) -> None:
    """As after a wrong checksum: all of it again, though the version is the same."""
    part = open_part(final, TWO)
    try:
        fill(part, TWO, [])
        part.reset(SIZE, Validator(TWO))
        fill(part, TWO, safe)
        publish(part, TWO)
    finally:
        part.close()


def nothing(final: Path) -> None:
    pass


def half_of(etag: str) -> Callable[[Path], None]:
    def leave(final: Path) -> None:
        part = open_part(final, etag)
        fill(part, etag, [], range(PIECES // 2))
        part.close()

    return leave


def an_older_file(final: Path) -> None:
    download(final, [], ONE)


def litter(final: Path) -> None:
    half_of(TWO)(final)
    final.with_name("a.bin.part").unlink()
    final.with_name("a.bin.part.journal~").write_bytes(b"torn")


STORIES = [
    (nothing, download),
    (half_of(TWO), download_resumed),
    (half_of(ONE), download),
    (an_older_file, download),
    (litter, download),
    (nothing, download_while_it_changes),
    (half_of(TWO), download_without_a_journal),
    (litter, download_without_a_journal),
    (half_of(TWO), download_twice),
    (half_of(TWO), give_up),
]


@pytest.mark.parametrize(("before", "story"), STORIES)
def test_stopped_at_any_step_nothing_safe_is_lost_and_nothing_wrong_is_kept(
    before: Callable[[Path], None], story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_REWRITE_AFTER", 3)  # so that rewriting it is among the steps
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)  # what they do for this disk is up to it
    for stop_at in count():
        folder = tmp_path / str(stop_at)
        folder.mkdir()
        before(folder / "a.bin")
        safe: list[Range] = []
        disk = FailingDisk(folder, stop_at)
        with monkeypatch.context() as patch:
            disk.install(patch)
            try:
                story(folder / "a.bin", safe)
                is_over = True
                disk.stop()
            except PowerLoss:
                is_over = False
        assert disk.left is not None
        assert not is_over or {path.name for path in folder.iterdir()} <= {"a.bin"}
        for variant, (keep, keep_names) in enumerate(
            [("all", True), ("none", True), ("none", False), *[("some", True), ("some", False)] * 3]
        ):
            after = tmp_path / f"{stop_at}-{variant}"
            disk.left.put(after, keep=keep, keep_names=keep_names, seed=stop_at * 100 + variant)
            where = f"stopped before step {stop_at} of {disk.steps}, {keep} of the bytes, names {keep_names}"
            is_there = check_found(after / "a.bin", safe, where)
            assert is_there or not is_over or story is give_up, where
        disk.close()
        if is_over:
            break

    assert stop_at > 5


def check_found(final: Path, safe: list[Range], where: str) -> bool:
    """Whether the file was there, whole and new. In any case it can be had from what is left."""
    found = final.read_bytes() if final.exists() else None
    assert found is None or found in VERSIONS.values(), where

    part = open_part(final, TWO)
    for start, stop in part.done:
        assert os.pread(part._fd, stop - start, start) == VERSIONS[TWO][start:stop], where
    assert found == VERSIONS[TWO] or all(part.done.covers(*range_) for range_ in safe), where
    for start, stop in list(part.done.missing(0, SIZE)):
        part.write(start, VERSIONS[TWO][start:stop])
        part.checkpoint([(start, stop)])
    part.prepare(Published(URL, SIZE, TWO))
    part.publish()
    part.close()

    assert final.read_bytes() == VERSIONS[TWO], where
    assert [path.name for path in final.parent.iterdir()] == ["a.bin"], where
    return found == VERSIONS[TWO]


def test_the_journal_of_a_process_killed_after_the_rename_is_removed(tmp_path: Path) -> None:
    litter(tmp_path / "a.bin")
    (tmp_path / "a.bin.part.journal~").unlink()

    remove_leftovers(tmp_path / "a.bin")

    assert list(tmp_path.iterdir()) == []


def test_the_journal_of_a_download_under_way_is_no_leftover(tmp_path: Path) -> None:
    half_of(TWO)(tmp_path / "a.bin")

    remove_leftovers(tmp_path / "a.bin")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin.part", "a.bin.part.journal"]


def test_publishing_leaves_the_journal_of_a_process_that_begins_anew_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, temporary = tmp_path / "a.bin", tmp_path / "a.bin.part.journal~"
    replace, others = os.replace, []

    def replace_and_begin_anew(source: str | Path, target: str | Path) -> None:
        replace(source, target)
        if target == final:
            others.append(open_part(final, TWO))
            temporary.touch()  # it is about to write its journal

    part = open_part(final, TWO)
    fill(part, TWO, [])
    monkeypatch.setattr(os, "replace", replace_and_begin_anew)
    publish(part, TWO)

    assert final.read_bytes() == VERSIONS[TWO]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.bin",
        "a.bin.part",
        "a.bin.part.journal",
        "a.bin.part.journal~",
    ]
    [other] = others
    other.close()


def test_bytes_a_disk_failed_to_sync_are_never_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = open_part(tmp_path / "a.bin", TWO)
    fill(part, TWO, [], range(2))
    part.write(2 * PIECE, b"lost")

    def fail_once(fd: int) -> None:
        monkeypatch.undo()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail_once)
    for _ in range(2):  # the second call of the system would succeed
        with pytest.raises(Permanent, match="Input/output error") as failure:
            part.checkpoint([(2 * PIECE, 3 * PIECE)])
        assert failure.value.reason == "disk_error"
    part.prepare(Published(URL, SIZE, TWO))
    with pytest.raises(Permanent, match="Input/output error"):
        part.publish()
    part.close()

    part = open_part(tmp_path / "a.bin", TWO)
    assert list(part.done) == [(0, 2 * PIECE)]
    part.close()


def test_a_file_system_without_locks_attributes_or_reservation_does_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    for name in ("setxattr", "getxattr", "utime"):
        monkeypatch.setattr(os, name, unsupported)
    monkeypatch.setattr(platform, "_fallocate", lambda fd, size: errno.EOPNOTSUPP)
    monkeypatch.setattr("fcntl.flock", unsupported)

    download(tmp_path / "a.bin", [])

    assert (tmp_path / "a.bin").read_bytes() == VERSIONS[TWO]
    record = read_published(tmp_path / "a.bin")
    assert record is not None
    assert (record.url, record.size) == (URL, SIZE)


def test_without_reservation_a_full_disk_is_still_noticed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "_fallocate", lambda fd, size: errno.EOPNOTSUPP)

    with pytest.raises(Permanent) as refusal:
        PartFile.open(tmp_path / "a.bin", url=URL, size=1 << 60, validator=Validator(ONE))

    assert refusal.value.reason == "disk_full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_part_file_published_while_its_lock_was_waited_for_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made_again: bool
) -> None:
    final, path = tmp_path / "a.bin", tmp_path / "a.bin.part"
    lock = fcntl.flock

    def lock_late(fd: int, operation: int) -> None:
        if not final.exists():
            path.rename(final)
            if is_made_again:
                path.touch()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    part = open_part(final, TWO)
    part.write(0, b"later")
    part.close()

    assert final.read_bytes() == b""
    assert path.read_bytes()[:5] == b"later"


def test_a_folder_under_the_final_name_is_told_before_the_first_byte(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()

    with pytest.raises(Permanent, match=r"a\.bin is a folder") as refusal:
        open_part(tmp_path / "a.bin", TWO)

    assert refusal.value.reason == "disk_error"
    assert read_published(tmp_path / "a.bin") is None


def test_a_name_as_long_as_names_may_be_fits_with_all_its_companions(tmp_path: Path) -> None:
    from scrapy_chunkdl.text.naming import MOST_BYTES

    download(tmp_path / ("x" * MOST_BYTES), [])

    assert [len(path.name) for path in tmp_path.iterdir()] == [MOST_BYTES]
