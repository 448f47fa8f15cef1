"""The journal: it says what was written to it, or that it cannot be used."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_chunkdl.download.disk import journal
from scrapy_chunkdl.download.disk.journal import Identity, JournalError, JournalWriter, read
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.plan.ranges import Ranges

IDENTITY = Identity(
    "http://example.org/年.bin", 1_000_000, Validator('"\udce9"', "Mon, 01 Jan 2024 00:00:00 GMT", True)
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.bin.part.journal"


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Limit the size of files, in bytes: the call that passes it writes a part, the next one fails.

    It holds for the whole process, the file its output may go to included, so nothing else may happen meanwhile.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_it_tells_what_it_was_told(path: Path) -> None:
    writer = JournalWriter(path, IDENTITY, [(0, 10)])
    writer.append([(20, 30), (40, 50)], ())
    writer.append([(10, 20)], ())
    writer.close()

    identity, done = read(path)

    assert identity == IDENTITY
    assert list(done) == [(0, 30), (40, 50)]


def test_a_long_one_is_written_anew_and_short(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_REWRITE_AFTER", 50)
    writer = JournalWriter(path, IDENTITY, ())
    done = Ranges()
    lines = []
    for start in range(0, 2000, 10):
        done.add(start, start + 10)
        writer.append([(start, start + 10)], done)
        lines.append(path.read_bytes().count(b"\n"))
        assert list(read(path)[1]) == [(0, start + 10)]
    writer.close()

    assert max(lines) == 52  # the header, what was done before, and 50 more
    assert lines.count(2) == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_line_torn_by_a_full_disk_does_not_hide_the_lines_after_it(path: Path) -> None:
    writer = JournalWriter(path, IDENTITY, [(0, 10)])
    with pytest.raises(OSError, match="File too large"), files_limited_to(path.stat().st_size + 5):
        writer.append([(10, 20)], [(0, 20)])
    assert list(read(path)[1]) == [(0, 10)]

    writer.append([(30, 40)], [(0, 20), (30, 40)])
    writer.append([(40, 50)], [(0, 20), (30, 50)])
    writer.close()

    assert list(read(path)[1]) == [(0, 20), (30, 50)]


def test_one_that_cannot_be_written_anew_stays_as_it_was(path: Path) -> None:
    JournalWriter(path, IDENTITY, [(0, 10)]).close()

    with pytest.raises(OSError, match="File too large"), files_limited_to(5):
        JournalWriter(path, IDENTITY, [(0, 20)])

    assert list(read(path)[1]) == [(0, 10)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("range_", [(0, 1_000_001), (-1, 5), (20, 10)])
def test_claims_outside_the_file_are_damage(path: Path, range_: tuple[int, int]) -> None:
    JournalWriter(path, IDENTITY, ()).close()
    with path.open("ab") as file:
        file.write(journal._line([range_]))

    with pytest.raises(JournalError, match="damaged"):
        read(path)


def test_a_folder_in_its_place_is_a_reason_not_a_crash(path: Path) -> None:
    path.mkdir()

    with pytest.raises(JournalError, match="cannot be read"):
        read(path)


@given(flipped=st.integers(0, 10_000), mask=st.integers(1, 255))
def test_no_flipped_bits_make_it_claim_more(tmp_path_factory: pytest.TempPathFactory, flipped: int, mask: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    writer = JournalWriter(path, IDENTITY, ())
    for start in (0, 100, 200):
        writer.append([(start, start + 50)], ())
    writer.close()
    damaged = bytearray(path.read_bytes())
    damaged[flipped % len(damaged)] ^= mask
    path.write_bytes(damaged)

    try:
        identity, done = read(path)
    except JournalError:
        return
    finally:
        os.unlink(path)

    assert identity == IDENTITY
    assert list(done) in [[(0, 50), (100, 150), (200, 250)][:n] for n in range(4)]
