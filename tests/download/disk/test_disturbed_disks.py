"""Disks that fail at any call, and folders that somebody else tidies: told as what it is, and all is let go of."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fetching import CHUNK, Client, names_in, payload
from origin import Origin

from scrapy_chunkdl.download import DownloadError

CALLS = (
    *("open", "stat", "fstat", "mkdir", "scandir", "statvfs", "pread", "pwrite", "ftruncate", "fdatasync", "fsync"),
    *("utime", "setxattr", "getxattr", "replace", "unlink"),
)
WAYS = {
    "ranges": "",
    "named by the server": "header:Content-Disposition=attachment%3B filename=out.bin",
}
REASONS = {
    *("disk_error", "disk_full", "read_only", "too_many_open_files", "size_mismatch"),
}


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int, below: Path, at: int, times: float) -> list[str]:
    """Have a call fail from its ``at``-th use on for what lies below a folder; what it failed for is in the list."""
    module = fcntl if name == "flock" else os
    call: Callable[..., Any] = getattr(module, name)
    seen, failed = 0, list[str]()

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal seen
        place = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.fspath(args[0])
        if place.startswith(str(below)):
            seen += 1
            if at < seen <= at + times:
                failed.append(place)
                raise OSError(number, os.strerror(number))
        return call(*args, **options)

    monkeypatch.setattr(module, name, failing)
    return failed


@pytest.mark.parametrize(("number", "times"), [("EIO", float("inf")), ("ESTALE", 1)])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_fails_is_a_disk_error_at_worst_and_the_next_try_is_right(
    client: Client, way: str, call: str, number: str, times: float
) -> None:
    client.folder = client.folder / "a" / "b"
    name = None if "Disposition" in way else client.target.name
    for at in (0, 2):
        with pytest.MonkeyPatch.context() as patch:
            fail(patch, call, getattr(errno, number), client.folder, at, times)
            error = (await asyncio.gather(client.fetch(client.url(way), name=name), return_exceptions=True))[0]
        if isinstance(error, BaseException):
            assert isinstance(error, DownloadError), error
            assert error.reason in REASONS
            assert len(str(error)) <= 300

        result = await client.fetch(client.url(way), name=name)

        assert result.path.read_bytes() == payload()


def _remove_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _move_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def _remove_part(folder: Path) -> None:
    next(folder.glob("*.part")).unlink()


def _remove_journal(folder: Path) -> None:
    for journal in folder.glob("*.journal"):
        journal.unlink()


def _replace_part(folder: Path) -> None:
    part = next(folder.glob("*.part"))
    part.unlink()
    part.write_bytes(b"another process has begun anew")


@pytest.mark.parametrize("way", ["", "ranges:none"], ids=["ranges", "whole"])
@pytest.mark.parametrize("tidy", [_remove_folder, _move_folder, _remove_part, _remove_journal, _replace_part])
async def test_a_part_that_somebody_tidied_away_is_fetched_again_and_nobody_elses_gets_the_name(
    client: Client, origin: Origin, way: str, tidy: Callable[[Path], None]
) -> None:
    client.folder = client.folder / "a" / "b"
    running = asyncio.ensure_future(client.right(client.url(f"{way};hold:gate:0.5@get".strip(";"))))
    await asyncio.to_thread(origin.when("file.bin", lambda stats: stats.sent > CHUNK // 2).result, 60)
    while not any(path.stat().st_size for path in client.folder.glob("*.part")):
        assert not running.done(), running
        await asyncio.sleep(0.01)
    tidy(client.folder)
    origin.release("gate")

    await running

    assert names_in(client.folder) == ["out.bin"]


def _file(folder: Path) -> None:
    folder.write_bytes(b"x")


def _link_to_nowhere(folder: Path) -> None:
    folder.symlink_to(folder.with_name("not mounted"))


def _link_to_itself(folder: Path) -> None:
    folder.symlink_to(folder)


@pytest.mark.parametrize("below", ["", "c", "c/d"])
@pytest.mark.parametrize("what", [_file, _link_to_nowhere, _link_to_itself])
@pytest.mark.parametrize("is_known", [False, True], ids=["usual", "small"])
async def test_what_stands_where_a_folder_should_be_is_told(
    client: Client, what: Callable[[Path], None], below: str, is_known: bool
) -> None:
    client.is_known = is_known
    client.folder.mkdir(exist_ok=True)
    what(client.folder / "b")
    client.folder = client.folder / "b" / below

    error = await client.fails(client.url(size=1000), "disk_error")

    assert "/b" in str(error)
