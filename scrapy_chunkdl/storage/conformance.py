"""What every store must do, as tests: the stores here run them, and so can anybody's own (docs/storage.md).

Knows the protocol of a store alone. Needs pytest, so it is imported by tests only, never by a crawl.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.disk.store import Store

_HANG_S = 60.0
_LONGEST_MESSAGE = 300

_ODD_NAMES = (
    "plain.pdf",
    "with blanks.pdf",
    "no-extension",
    ".hidden",
    "many.dots.tar.gz",
    "日本 語#1%~[x].pdf",
    "a%20b.pdf",
    "q?x=1&y.pdf",
    "z+é.pdf",
    "'quoted' (1).pdf",
    f"{'long' * 40}.pdf",
)


class _Stopped(Exception):
    """Raised out of ``moved``, as the downloader does when an upload has to end."""


class StoreConformance:
    """Subclass it, give it a store, and pytest runs what follows against it.

    A subclass has a fixture ``store``, an empty one for each test, and :meth:`read`. With :meth:`names`, what is left
    behind is looked for, too; with the fixtures ``refusing_store`` and ``missing_store``, what is raised.
    """

    @pytest.fixture
    def store(self) -> Store:
        """Return a store in which nothing was put yet."""
        raise NotImplementedError("the subclass has a fixture of this name")

    def read(self, store: Store, key: str) -> bytes:
        """Return the bytes that are in the store under ``key``, read past its own methods."""
        raise NotImplementedError

    def names(self, store: Store) -> Collection[str] | None:
        """Return the names of all files in the store but records; None where that cannot be told."""
        return None

    @pytest.fixture
    def refusing_store(self) -> Store:
        """Return a store that lets nobody write."""
        pytest.skip("there is no store here that refuses")

    @pytest.fixture
    def missing_store(self) -> Store:
        """Return a store whose place does not exist and is not made: no such bucket, nobody there."""
        pytest.skip("there is no store here whose place is missing")

    @pytest.fixture
    def put(self, store: Store, tmp_path: Path) -> Callable[..., Published]:
        """Put bytes under a key, and return the record they were put with."""
        number = count()

        def put(
            key: str, content: bytes, moved: Callable[[int], None] = lambda _: None, into: Store | None = None
        ) -> Published:
            path = tmp_path / f"local-{next(number)}"  # a store may link it or take it away
            path.write_bytes(content)
            record = Published(
                f"https://example.org/{len(content)}",
                len(content),
                etag=f'"{len(content)}"',
                last_modified="Mon, 17 Oct 2022 12:00:00 GMT",
                checksum=f"md5:{len(content):032x}",
            )
            try:
                (into or store).put(path, key, record, moved)
            finally:
                path.unlink(missing_ok=True)
            return record

        return put

    def assert_found(self, store: Store, key: str, record: Published, content: bytes) -> None:
        """Hold what is under ``key`` against what was put there."""
        found = store.find(key)
        assert found is not None, f"{key!r} was put and is not found"
        assert found.size == len(content)
        if found.url is not None:  # a store that cannot keep records says None
            assert replace(found, stored_at=None) == record
        assert self.read(store, key) == content

    def test_what_was_never_put_is_not_found(self, store: Store) -> None:
        """None, and not an error: it is asked of each new file, and of ``chunkdl-check`` when a crawl begins."""
        assert store.find("chunkdl-check") is None
        assert store.find("no/such/file.pdf") is None

    def test_what_was_put_is_found_with_its_bytes_and_record(self, store: Store, put: Callable[..., Published]) -> None:
        """Whole, under its key, with what was told of it."""
        moved: list[int] = []

        record = put("3f/0a1b2c3d4e/report.pdf", b"some bytes", moved.append)

        self.assert_found(store, "3f/0a1b2c3d4e/report.pdf", record, b"some bytes")
        assert sum(moved) in (0, record.size), "moved() gets the bytes sent since the last call; a link sends none"

    def test_an_empty_file_is_a_file(self, store: Store, put: Callable[..., Published]) -> None:
        """Of no bytes."""
        record = put("empty.txt", b"")

        self.assert_found(store, "empty.txt", record, b"")

    @pytest.mark.parametrize("name", _ODD_NAMES)
    def test_a_name_of_any_kind_is_kept(self, store: Store, put: Callable[..., Published], name: str) -> None:
        """Names come from URLs and servers."""
        record = put(f"ab/cd/{name}", b"odd")

        self.assert_found(store, f"ab/cd/{name}", record, b"odd")

    def test_a_new_version_replaces_the_old(self, store: Store, put: Callable[..., Published]) -> None:
        """Also a shorter one, and nothing of the old is left in it."""
        put("a/report.pdf", b"the first version")

        record = put("a/report.pdf", b"second")

        self.assert_found(store, "a/report.pdf", record, b"second")

    def test_files_whose_keys_are_alike_are_kept_apart(self, store: Store, put: Callable[..., Published]) -> None:
        """By folder, case of the extension's dot, and ending."""
        keys = ("a/x.pdf", "b/x.pdf", "a/x.pdf.1", "a/x", "x.pdf")

        records = {key: (put(key, key.encode()), key.encode()) for key in keys}

        for key, (record, content) in records.items():
            self.assert_found(store, key, record, content)

    def test_the_uri_of_a_file_is_its_own(self, store: Store, put: Callable[..., Published]) -> None:
        """It is written into the item, and the same tomorrow."""
        for key in ("a/x.pdf", "b/x.pdf"):
            put(key, key.encode())

        uris = [store.uri(key) for key in ("a/x.pdf", "b/x.pdf", "a/x.pdf")]

        assert uris[0] == uris[2] != uris[1]
        assert all(uri and isinstance(uri, str) for uri in uris)

    def test_an_upload_that_has_to_end_raises_that_and_leaves_nothing(
        self, store: Store, put: Callable[..., Published]
    ) -> None:
        """Or the whole file, where all of it was sent before the store heard."""

        def stop(_: int) -> None:
            raise _Stopped

        with pytest.raises(_Stopped):
            put("a/stopped.bin", b"never to arrive", stop)

        if store.find("a/stopped.bin") is not None:
            assert self.read(store, "a/stopped.bin") == b"never to arrive"
        else:
            assert not self.names(store)
        record = put("a/stopped.bin", b"arrives later")
        self.assert_found(store, "a/stopped.bin", record, b"arrives later")

    def test_an_upload_that_has_to_end_leaves_the_version_that_was_there(
        self, store: Store, put: Callable[..., Published]
    ) -> None:
        """Whole, or replaced as a whole."""
        put("a/kept.bin", b"old")

        def stop(_: int) -> None:
            raise _Stopped

        with pytest.raises(_Stopped):
            put("a/kept.bin", b"new version", stop)

        found = store.find("a/kept.bin")
        assert found is not None
        assert self.read(store, "a/kept.bin") == {3: b"old", 11: b"new version"}[found.size]

    def test_what_a_killed_upload_left_is_no_file_and_in_nobodys_way(
        self, store: Store, put: Callable[..., Published]
    ) -> None:
        """An upload that never goes on is to the others as one whose process was killed."""
        under_way, may_end = threading.Event(), threading.Event()

        def hang(_: int) -> None:
            under_way.set()
            may_end.wait(_HANG_S)
            raise _Stopped

        with ThreadPoolExecutor(1) as executor:
            killed = executor.submit(put, "a/same.bin", b"of the one that was killed", hang)
            try:
                assert under_way.wait(_HANG_S), "moved() was never called"
                found = store.find("a/same.bin")
                assert found is None or found.size == len(b"of the one that was killed")
                record = put("a/same.bin", b"of the next")
                self.assert_found(store, "a/same.bin", record, b"of the next")
            finally:
                may_end.set()
        assert isinstance(killed.exception(), _Stopped)
        self.assert_found(store, "a/same.bin", record, b"of the next")

    def test_two_writers_of_one_key_leave_one_of_both_whole(self, store: Store, put: Callable[..., Published]) -> None:
        """Two machines may have the same file at the same time."""
        rival = [b"of the second, which is longer"]

        def be_overtaken(_: int) -> None:
            if rival:
                put("a/both.bin", rival.pop())

        put("a/both.bin", b"of the first", be_overtaken)

        found = store.find("a/both.bin")
        assert found is not None
        assert self.read(store, "a/both.bin") in (b"of the first", b"of the second, which is longer")
        assert found.size == len(self.read(store, "a/both.bin"))
        names = self.names(store)
        assert names is None or len(names) <= 2, f"more than the two versions is left: {names}"

    def test_many_threads_use_it_at_once(self, store: Store, put: Callable[..., Published]) -> None:
        """As many as files are under way."""
        contents = {f"{n:02}/file.bin": b"x" * n for n in range(16)}

        with ThreadPoolExecutor(8) as executor:
            records = dict(zip(contents, executor.map(lambda key: put(key, contents[key]), contents), strict=True))

        for key, record in records.items():
            self.assert_found(store, key, record, contents[key])

    def test_a_store_that_refuses_says_so_in_a_sentence(
        self, refusing_store: Store, put: Callable[..., Published]
    ) -> None:
        """By PermissionError: it is not tried again."""
        with pytest.raises(PermissionError) as refusal:
            put("a/refused.bin", b"x", into=refusing_store)

        assert 0 < len(str(refusal.value)) <= _LONGEST_MESSAGE

    def test_a_place_that_is_missing_is_told_from_a_file_that_is(self, missing_store: Store) -> None:
        """It closes the crawl before an item is claimed, where None would have every file fetched in vain."""
        with pytest.raises(Exception) as problem:  # noqa: PT011 -- whatever it is
            missing_store.find("chunkdl-check")

        assert 0 < len(str(problem.value)) <= _LONGEST_MESSAGE
