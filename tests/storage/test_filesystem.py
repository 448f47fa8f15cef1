"""What fsspec knows: tested with its file system in memory, and with real FTP and SSH servers."""

from __future__ import annotations

import sys
from email.utils import parsedate_to_datetime
from pathlib import Path

import fsspec
import pytest
from origin_content import content

from scrapy_chunkdl.download import Published, Store
from scrapy_chunkdl.storage import MissingExtra, StoreUnusable, open_store

SIZE = 3_000_000
RECORD = Published("https://example.org/a", SIZE)


@pytest.fixture(params=["memory", "ftp", "sftp"])
def place(request: pytest.FixtureRequest) -> tuple[Store, Path | None]:
    """A store, and its folder on disk if it has one."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return open_store("memory://folder", {}), None
    address, folder = request.getfixturevalue(request.param)
    login = "me:secret@" if request.param == "ftp" else ""
    return open_store(f"{request.param}://{login}{address}/folder", {}), folder / "folder"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content("a", SIZE))
    return path


def ignore(count: int) -> None:
    pass


def read(place: tuple[Store, Path | None], key: str) -> bytes:
    folder = place[1]
    return (folder / key).read_bytes() if folder else bytes(fsspec.filesystem("memory").cat(f"/folder/{key}"))


def names(place: tuple[Store, Path | None]) -> set[str]:
    folder = place[1]
    if folder is None:
        return {Path(path).name for path in fsspec.filesystem("memory").find("/folder")}
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_stored_whole_and_its_time_and_size_are_found(place: tuple[Store, Path | None], file: Path) -> None:
    store, moved = place[0], list[int]()

    store.put(file, "new/folder/a b.bin", RECORD, moved.append)

    found = store.find("new/folder/a b.bin")
    assert found is not None
    assert (found.url, found.size) == (None, SIZE)
    assert found.stored_at is not None
    assert parsedate_to_datetime(found.stored_at).year >= 2024
    assert read(place, "new/folder/a b.bin") == content("a", SIZE)
    assert sum(moved) == SIZE


def test_an_upload_that_is_stopped_leaves_nothing(place: tuple[Store, Path | None], file: Path) -> None:
    class Stopped(Exception):
        pass

    def moved(count: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        place[0].put(file, "stopped/never.bin", RECORD, moved)

    assert not [name for name in names(place) if name.startswith("never.bin")]
    place[0].put(file, "stopped/after.bin", RECORD, ignore)
    assert "after.bin" in names(place)


def test_a_file_that_does_not_arrive_whole_gets_no_name(place: tuple[Store, Path | None], file: Path) -> None:
    with pytest.raises(OSError, match=f"{SIZE} bytes of {SIZE + 1} arrived"):
        place[0].put(file, "cut/short.bin", Published("https://example.org/a", SIZE + 1), ignore)

    assert not [name for name in names(place) if name.startswith("short.bin")]


def test_the_password_is_not_written_into_items(ftp: tuple[str, Path]) -> None:
    address, _ = ftp

    assert open_store(f"ftp://me:secret@{address}/x", {}).uri("a.bin") == f"ftp://me@{address}/x/a.bin"


def test_user_and_password_may_stand_in_scrapys_settings(ftp: tuple[str, Path], file: Path) -> None:
    address, folder = ftp
    store = open_store(f"ftp://{address}/named", {"FTP_USER": "me", "FTP_PASSWORD": "secret"})

    store.put(file, "a.bin", RECORD, ignore)

    assert (folder / "named" / "a.bin").stat().st_size == SIZE
    assert store.uri("a.bin") == f"ftp://{address}/named/a.bin"


def test_active_ftp_is_refused() -> None:
    with pytest.raises(StoreUnusable, match="FEED_STORAGE_FTP_ACTIVE"):
        open_store("ftp://host/x", {"FEED_STORAGE_FTP_ACTIVE": True})


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbprotocol", None)
    monkeypatch.setitem(sys.modules, "smbclient", None)

    with pytest.raises(MissingExtra, match="smbprotocol"):
        open_store("smb://host/x", {})
