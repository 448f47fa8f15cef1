"""Equal files are stored once, under the name of their content, and each URL is found again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from scrapy_chunkdl.download import Published
from scrapy_chunkdl.storage.content import ContentStore

BYTES = b"the same bytes"
DIGEST = hashlib.sha256(BYTES).hexdigest()


def put(store: ContentStore, key: str, content: bytes = BYTES, checksum: str | None = None) -> Published:
    path = store.parts / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    record = Published("https://example.org/" + key, len(content), etag='"1"', checksum=checksum)
    store.put(path, key, record, lambda _: None)
    path.unlink(missing_ok=True)
    return record


def contents(folder: Path) -> list[str]:
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if name.parts[0] != ".chunkdl")


def test_equal_files_of_two_urls_are_stored_once_and_each_keeps_its_record(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)

    records = {key: put(store, key) for key in ("a/report.pdf", "b/copy.pdf")}

    path = tmp_path / DIGEST[:2] / f"{DIGEST}.pdf"
    assert contents(tmp_path) == [path.relative_to(tmp_path).as_posix()]
    assert path.read_bytes() == BYTES
    for key, record in records.items():
        assert store.find(key) == record
        assert store.uri(key) == str(path)


def test_a_new_version_leads_to_its_own_content_and_the_old_stays(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    put(store, "a/report.pdf")
    put(store, "b/report.pdf")

    put(store, "a/report.pdf", b"changed")

    assert Path(store.uri("a/report.pdf")).read_bytes() == b"changed"
    assert Path(store.uri("b/report.pdf")).read_bytes() == BYTES


def test_a_known_checksum_is_not_computed_again(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)

    put(store, "a.bin", checksum="sha256:" + "0" * 64)

    assert contents(tmp_path) == ["00/" + "0" * 64 + ".bin"]


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_content_that_is_gone_or_damaged_is_not_found_and_put_again(tmp_path: Path, damage: str) -> None:
    store = ContentStore(tmp_path)
    record = put(store, "a.bin")
    path = Path(store.uri("a.bin"))
    path.unlink()
    if damage == "cut":
        path.write_bytes(BYTES[:3])

    assert store.find("a.bin") is None
    put(store, "a.bin")
    assert store.find("a.bin") == record
    assert path.read_bytes() == BYTES


def test_nothing_was_put_and_a_broken_record_are_not_found(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    put(store, "a.bin")
    [record] = (tmp_path / ".chunkdl" / "records").rglob("*.json")
    record.write_text("{")

    assert store.find("a.bin") is None
    assert store.find("other.bin") is None
    with pytest.raises(FileNotFoundError, match=r"a\.bin"):
        store.uri("a.bin")


def test_a_file_system_without_hard_links_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = ContentStore(tmp_path)

    put(store, "a.bin")

    assert Path(store.uri("a.bin")).read_bytes() == BYTES


def test_hashing_a_file_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    path = tmp_path / "part"
    path.write_bytes(BYTES)

    def stop(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        store.put(path, "a.bin", Published("u", len(BYTES)), stop)
    assert contents(tmp_path) == ["part"]
