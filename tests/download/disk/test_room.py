"""How much room a disk has, how much of it is kept, and what says that there is none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.room import NO_RESERVE, Reserve, Room, is_full, room_of
from scrapy_chunkdl.download.errors import NoRoom, Permanent
from scrapy_chunkdl.download.http.headers import Validator

GIB = 1 << 30


@pytest.mark.parametrize(
    ("setting", "total", "kept"),
    [
        (None, 1000 * GIB, 20 * GIB),
        (None, 100 * GIB, 2 * GIB),
        (None, 20 * GIB, GIB),
        (None, 5 * GIB, GIB // 2),
        (None, 10 << 20, 1 << 20),
        (None, 0, 0),
        (0, 1000 * GIB, 0),
        (12345, 10 * GIB, 12345),
        (0.05, 100 * GIB, 5 * GIB),
        (0.0, 100 * GIB, 0),
    ],
)
def test_what_is_kept_free_is_bytes_or_a_share_or_the_default(setting: float | None, total: int, kept: int) -> None:
    assert abs(Reserve.of_setting(setting).of(total) - kept) <= 1


def test_a_folder_that_is_not_there_yet_has_the_room_of_those_above(tmp_path: Path) -> None:
    assert room_of(tmp_path / "not" / "there" / "yet").total_bytes == room_of(tmp_path).total_bytes > 0


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        OSError("Generic S3 error: Server returned non-2xx status code: 507 Insufficient Storage"),
        OSError("<Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive threshold"),
        OSError("QuotaExceeded: you have exceeded your quota"),
        RuntimeError("[Errno 28] No space left on device"),
        RuntimeError("552 Requested file action aborted: not enough storage"),
    ],
)
def test_a_store_says_in_many_ways_that_it_is_full(error: Exception) -> None:
    assert is_full(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError("only 507 bytes of report.pdf could be read"),
        OSError(errno.EACCES, "Permission denied"),
        RuntimeError("503 Slow Down"),
        OSError("The file is not full"),
    ],
)
def test_other_errors_of_a_store_do_not(error: Exception) -> None:
    assert not is_full(error)


def test_what_an_error_was_raised_from_counts() -> None:
    error = RuntimeError("the upload failed")
    error.__cause__ = OSError(errno.ENOSPC, "no")

    assert is_full(error)


def open_part(folder: Path, size: int, keep: Reserve) -> PartFile:
    return PartFile.open(folder / "a.bin", url="http://h/a", size=size, validator=Validator('"1"'), keep=keep)


def test_a_file_that_would_touch_the_reserve_waits_and_leaves_nothing(tmp_path: Path) -> None:
    free, total, _ = room_of(tmp_path)
    with pytest.raises(NoRoom) as refusal:
        open_part(tmp_path, 1 << 20, Reserve(size_bytes=min(free, total - (1 << 21))))

    assert refusal.value.needs_bytes == 1 << 20
    assert "left free" in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_file_larger_than_the_disk_is_given_up_as_no_waiting_helps(tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refusal:
        open_part(tmp_path, room_of(tmp_path).total_bytes + 1, NO_RESERVE)

    assert not isinstance(refusal.value, NoRoom)
    assert refusal.value.reason == "disk_full"
    assert "larger than its disk" in str(refusal.value)


def test_room_that_others_took_while_it_was_set_aside_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = iter([Room(10 << 20, 100 << 20), Room(1 << 20, 100 << 20)])
    monkeypatch.setattr(platform, "room_of", lambda folder: next(rooms))

    with pytest.raises(NoRoom):
        open_part(tmp_path, 1 << 20, Reserve(size_bytes=5 << 20))

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_no_space_and_no_quota_are_the_same_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(platform, "_fallocate", lambda fd, size: getattr(errno, code))

    with pytest.raises(NoRoom):
        open_part(tmp_path, 1 << 20, NO_RESERVE)


def test_what_the_disk_has_set_aside_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = open_part(tmp_path, 1 << 20, NO_RESERVE)
    assert part.has_room
    part.write(0, b"x" * 4096)
    part.checkpoint([(0, 4096)])
    part.close()

    resumed = open_part(tmp_path, 1 << 20, NO_RESERVE)
    assert (resumed.done.total, resumed.has_room) == (4096, True)
    resumed.discard()
    monkeypatch.setattr(platform, "_fallocate", lambda fd, size: errno.EOPNOTSUPP)
    assert not open_part(tmp_path, 1 << 20, NO_RESERVE).has_room
