"""Every store there is runs what docs/storage.md asks of a store. A new one is a class here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import fsspec
import pytest
from s3_server import BUCKET, S3

from scrapy_chunkdl.download import Store
from scrapy_chunkdl.storage import open_store
from scrapy_chunkdl.storage.conformance import StoreConformance
from scrapy_chunkdl.storage.content import ContentStore
from scrapy_chunkdl.storage.filesystem import FileSystemStore

ROOT = Path(__file__).parents[2]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class TestContentStore(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return ContentStore(tmp_path / "store")

    def read(self, store: Store, key: str) -> bytes:
        return Path(store.uri(key)).read_bytes()

    def names(self, store: Any) -> Collection[str]:
        return {name for name in files_in(store.folder) if not name.endswith(".json")}


class TestFolderOfAFileSystem(StoreConformance):
    """fsspec's own local file system: what any of its others is compared with."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FileSystemStore(f"file://{tmp_path / 'store'}", {})

    def read(self, store: Store, key: str) -> bytes:
        return Path(store.uri(key).removeprefix("file://")).read_bytes()

    def names(self, store: Store) -> Collection[str]:
        return files_in(Path(store.uri("").removeprefix("file://")))


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        fsspec.filesystem("memory").store.clear()
        return open_store("memory://folder", {})

    def read(self, store: Store, key: str) -> bytes:
        return bytes(fsspec.filesystem("memory").cat_file(f"/folder/{key}"))

    def names(self, store: Store) -> Collection[str]:
        return fsspec.filesystem("memory").find("/folder")


class OverANetwork(StoreConformance):
    """A server whose folder is on this disk."""

    folder: Path

    def read(self, store: Store, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def names(self, store: Store) -> Collection[str]:
        return files_in(self.folder)


class TestFtp(OverANetwork):
    @pytest.fixture
    def store(self, ftp: tuple[str, Path], tmp_path: Path) -> Store:
        type(self).folder = ftp[1] / tmp_path.name
        return open_store(f"ftp://me:secret@{ftp[0]}/{tmp_path.name}", {})

    @pytest.fixture
    def refusing_store(self, ftp: tuple[str, Path]) -> Store:
        return open_store(f"ftp://reader:secret@{ftp[0]}/", {})

    @pytest.fixture
    def missing_store(self) -> Store:
        return open_store("ftp://me:secret@127.0.0.1:1/folder", {})


class TestSftp(OverANetwork):
    @pytest.fixture
    def store(self, sftp: tuple[str, Path], tmp_path: Path) -> Store:
        type(self).folder = sftp[1] / tmp_path.name
        return open_store(f"sftp://{sftp[0]}/{tmp_path.name}", {})


class OfACloud(StoreConformance):
    @pytest.fixture(autouse=True)
    def _server(self, s3: S3) -> None:
        pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")
        type(self).server = s3

    server: S3

    def read(self, store: Store, key: str) -> bytes:
        return self.server.read(f"some/folder/{key}")

    def names(self, store: Store) -> Collection[str]:
        return [*self.server.keys(), *self.server.unfinished()]


class TestS3(OfACloud):
    @pytest.fixture
    def store(self, s3: S3) -> Store:
        return open_store(f"s3://{BUCKET}/some/folder", s3.settings())

    @pytest.fixture
    def refusing_store(self, s3: S3, store: Store) -> Store:
        s3.refuse("PUT", 403)
        return store

    @pytest.fixture
    def missing_store(self, s3: S3) -> Store:
        return open_store("s3://nowhere/folder", s3.settings())


class TestGoogle(OfACloud):
    @pytest.fixture
    def open_gs(self, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Store]:
        monkeypatch.setenv("GOOGLE_BASE_URL", s3.url)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "test")
        return lambda bucket: open_store(f"gs://{bucket}/some/folder", {})

    @pytest.fixture
    def store(self, open_gs: Callable[[str], Store]) -> Store:
        return open_gs(BUCKET)

    @pytest.fixture
    def refusing_store(self, s3: S3, store: Store) -> Store:
        s3.refuse("PUT", 403)
        return store

    @pytest.fixture
    def missing_store(self, open_gs: Callable[[str], Store]) -> Store:
        return open_gs("nowhere")


def test_the_example_of_the_documentation_is_a_store_and_its_test_runs_as_it_stands_there(tmp_path: Path) -> None:
    """In a process of its own, without this project's configuration, as a user has it."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", "--basetemp", tmp_path / "t"]

    ended = subprocess.run([*command, "test_own_store.py"], cwd=ROOT / "examples", capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout
    assert int(re.search(r"(\d+) passed", ended.stdout)[1]) > 20  # type: ignore[index]
