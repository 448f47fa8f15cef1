"""The part file and its journal: resumed when everything agrees, afresh when anything does not, whole or not there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from scrapy_chunkdl.download.disk import journal
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.download.disk.part_lock import Busy
from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.disk.record import Published, read_published
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.text import naming

URL = "http://example.org/a.bin"
SIZE = 100_000
VALIDATOR = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT", True)


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "a.bin"


def open_part(final: Path, **changes: object) -> PartFile:
    options: dict[str, object] = {"url": URL, "size": SIZE, "validator": VALIDATOR} | changes
    return PartFile.open(final, **options)  # type: ignore[arg-type]


def leave_half(final: Path) -> None:
    part = open_part(final)
    part.write(0, b"a" * 50_000)
    part.checkpoint([(0, 50_000)])
    part.close()


def journal_of(final: Path) -> Path:
    return final.with_name(final.name + ".part.journal")


def test_what_was_safe_is_resumed(final: Path) -> None:
    leave_half(final)

    part = open_part(final)

    assert list(part.done) == [(0, 50_000)]
    assert part.fresh_reason is None
    part.close()


def test_published_it_has_its_name_its_record_and_nothing_beside_it(final: Path) -> None:
    part = open_part(final)
    part.write(0, b"a" * SIZE)
    record = Published(URL, SIZE, VALIDATOR.etag, VALIDATOR.last_modified, "md5:00")

    part.prepare(record)
    part.publish()
    part.close()

    assert [path.name for path in final.parent.iterdir()] == ["a.bin"]
    assert final.stat().st_mtime == 1704067200
    found = read_published(final)
    assert found is not None
    assert (found.size, found.last_modified) == (SIZE, VALIDATOR.last_modified)
    assert found.url in (URL, None)


def test_a_file_of_the_wrong_size_is_not_published(final: Path) -> None:
    part = open_part(final)

    with pytest.raises(Permanent, match="has 100000 bytes, not 99999"):
        part.prepare(Published(URL, SIZE - 1))
    part.close()

    assert not final.exists()
    part.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"url": URL + "?other"}, "another URL"),
        ({"size": SIZE + 1}, "changed at its source"),
        ({"validator": Validator('"v2"')}, "changed at its source"),
        ({"validator": Validator()}, "no validator to tell"),
    ],
)
def test_bytes_of_another_file_or_version_are_not_resumed(final: Path, changes: dict[str, object], reason: str) -> None:
    leave_half(final)

    part = open_part(final, **changes)

    assert part.done.total == 0
    assert part.fresh_reason is not None
    assert reason in part.fresh_reason
    part.close()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda part, journal: journal.unlink(), "no journal"),
        (lambda part, journal: journal.write_bytes(b""), "damaged or not ours"),
        (lambda part, journal: journal.write_bytes(b"\x00\xff garbage\n"), "damaged or not ours"),
        (lambda part, journal: journal.write_bytes(b'{"version": 1}\n'), "damaged or not ours"),
        (lambda part, journal: newer(journal), "of version 2"),
        (lambda part, journal: part.unlink(), "does not have the size"),
        (lambda part, journal: os.truncate(part, 10), "does not have the size"),
        (lambda part, journal: os.truncate(part, SIZE + 10), "does not have the size"),
    ],
)
def test_a_damaged_journal_or_part_starts_afresh_and_says_so(final: Path, damage: object, reason: str) -> None:
    leave_half(final)
    damage(final.with_name("a.bin.part"), journal_of(final))  # type: ignore[operator]

    part = open_part(final)

    assert part.done.total == 0
    assert reason in (part.fresh_reason or "")
    part.close()


def newer(journal: Path) -> None:
    import json
    import zlib

    header = json.loads(journal.read_bytes().splitlines()[0].rpartition(b" ")[0])
    text = json.dumps({**header, "chunkdl": 2}).encode()
    journal.write_bytes(b"%s %08x\n" % (text, zlib.crc32(text)))


def test_a_journal_torn_anywhere_claims_only_what_stands_whole_in_it(final: Path) -> None:
    part = open_part(final)
    for start in range(0, 50_000, 10_000):
        part.write(start, b"a" * 10_000)
        part.checkpoint([(start, start + 10_000)])
    part.close()
    whole = journal_of(final).read_bytes()
    data = final.with_name("a.bin.part").read_bytes()

    claimed = []
    for length in range(len(whole), -1, -7):
        journal_of(final).write_bytes(whole[:length])
        final.with_name("a.bin.part").write_bytes(data)
        part = open_part(final)
        claimed.append(part.done.total)
        assert all(stop <= 50_000 for _, stop in part.done)
        part.close()

    assert claimed[0] == 50_000
    assert claimed == sorted(claimed, reverse=True)
    assert claimed[-1] == 0


def test_an_old_journal_never_outlives_the_bytes_it_was_about(final: Path) -> None:
    leave_half(final)

    part = open_part(final, journaled=False)  # the chunk size grew, say: too small for a journal now
    part.close()

    assert not journal_of(final).exists()
    part = open_part(final)
    assert part.done.total == 0
    part.close()


def test_two_downloads_never_hold_one_part_file(final: Path) -> None:
    part = open_part(final)

    with pytest.raises(Busy):
        open_part(final)

    part.close()
    open_part(final).close()


def test_the_lock_of_a_dead_process_is_gone(final: Path) -> None:
    code = f"""
    import os, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from pathlib import Path
    from test_partfile_and_part_lock import leave_half, open_part
    leave_half(Path({str(final)!r}))
    part = open_part(Path({str(final)!r}))
    print("held", flush=True)
    sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Busy):
            open_part(final)
        process.kill()

    part = open_part(final)

    assert part.done.total == 50_000
    part.close()


def disk_calls(folder: Path, code: str) -> list[str]:
    """Run ``code``, where ``part`` is to be made, and return its system calls that change what is on disk."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    imports = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_partfile_and_part_lock import *\n"
    )
    calls = "trace=fdatasync,fsync,write,pwrite64,rename,renameat,renameat2"
    traced = subprocess.run(
        ["strace", "-f", "-y", "-e", calls, sys.executable, "-B", "-c", imports + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in traced.stderr:
        pytest.skip("strace may not trace here")
    return [line for line in traced.stderr.splitlines() if str(folder) in line]


def test_the_disk_has_the_bytes_before_the_journal_claims_them_and_the_name_comes_last(final: Path) -> None:
    code = f"""
    part = open_part(Path({str(final)!r}))
    part.write(0, b"a" * SIZE)
    part.checkpoint([(0, SIZE)])
    part.prepare(Published(URL, SIZE))
    part.publish()
    part.close()
    """
    seen = disk_calls(final.parent, code)

    def position(call: str, what: str, after: int = 0) -> int:
        return next(n for n, line in enumerate(seen) if n >= after and call + "(" in line and what in line)

    data = position("pwrite64", "a.bin.part>")
    synced = position("fdatasync", "a.bin.part>", data)
    claimed = position("write", "a.bin.part.journal", synced)
    claim_synced = position("fdatasync", "a.bin.part.journal", claimed)
    whole = position("fsync", "a.bin.part>", claim_synced)
    named = next(n for n, line in enumerate(seen) if n > whole and "rename" in line and 'a.bin"' in line)
    position("fsync", f"{final.parent}>", named)
    assert not any("write(" in line and "a.bin.part.journal" in line for line in seen[data:synced])


def test_a_small_file_in_new_folders_waits_for_the_disk_once_for_itself_and_once_for_each_name(final: Path) -> None:
    code = f"""
    part = open_part(Path({str(final.parent)!r}) / "new" / "newer" / "a.bin", journaled=False)
    part.write(0, b"a" * SIZE)
    part.prepare(Published(URL, SIZE))
    part.publish()
    part.close()
    """
    seen = [line.split("(")[0].split()[-1] + line.rpartition("/")[2] for line in disk_calls(final.parent, code)]

    shape = [re.sub(r"[>)\",].*", "", line) for line in seen]
    assert shape == [
        "pwrite64a.bin.part",
        "fsynca.bin.part",
        "renamea.bin",
        "fsyncnewer",
        "fsyncnew",
        f"fsync{final.parent.name}",
    ]


@pytest.fixture
def small_disk(new_disk: Callable[[str], Path]) -> Path:
    """A file system with room for less than the file."""
    return new_disk("256k")


def test_a_full_disk_is_noticed_before_the_first_byte(small_disk: Path) -> None:
    with pytest.raises(Permanent, match="larger than its disk") as refusal:
        open_part(small_disk / "a.bin", size=10_000_000)

    assert refusal.value.reason == "disk_full"
    assert not (small_disk / "a.bin").exists()


def test_a_disk_filled_by_others_keeps_what_is_safe_until_there_is_room(small_disk: Path) -> None:
    leave_half(small_disk / "a.bin")
    fill_up(small_disk)

    with pytest.raises(Permanent, match="make room, it resumes") as refusal:
        open_part(small_disk / "a.bin")
    assert (refusal.value.reason, refusal.value.bytes_done, refusal.value.resumable) == ("disk_full", 50_000, True)

    (small_disk / "other.bin").unlink()
    part = open_part(small_disk / "a.bin")
    assert part.done.total == 50_000
    part.close()


def test_a_disk_that_fills_up_while_a_file_of_unknown_size_comes_is_told(small_disk: Path) -> None:
    part = open_part(small_disk / "a.bin", size=None)

    with pytest.raises(Permanent) as refusal:
        write_a_megabyte(part)

    assert refusal.value.reason == "disk_full"
    part.discard()
    assert list(small_disk.iterdir()) == []


def fill_up(disk: Path) -> None:
    with (disk / "other.bin").open("wb", buffering=0) as other, suppress(OSError):
        while True:
            other.write(b"o" * 4096)


def write_a_megabyte(part: PartFile) -> None:
    for offset in range(0, 1_000_000, 4096):
        part.write(offset, b"a" * 4096)


def test_a_read_only_folder_is_told(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.raises(Permanent) as refusal:
        open_part(small_disk / "a.bin")

    assert refusal.value.reason == "read_only"


def test_other_troubles_of_the_disk_keep_their_name(tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").mkdir()

    with pytest.raises(Permanent, match=os.strerror(errno.EISDIR)) as refusal:
        open_part(tmp_path / "a.bin")

    assert refusal.value.reason == "disk_error"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.bin?X-Amz-Signature=s3cret",
        "https://me:s3cret@example.org/a.bin",
        "https://example.org/a.bin#s3cret",
    ],
)
def test_of_a_url_that_may_hold_a_secret_journal_and_record_keep_a_digest(final: Path, url: str) -> None:
    part = PartFile.open(final, url=url, size=4, validator=Validator('"e"'))
    part.write(0, b"data")
    part.checkpoint([(0, 2)])
    assert b"s3cret" not in journal_of(final).read_bytes()
    part.close()
    part = PartFile.open(final, url=url, size=4, validator=Validator('"e"'))
    assert list(part.done) == [(0, 2)]
    part.prepare(Published(url, 4, '"e"'))
    part.publish()
    part.close()

    assert read_published(final) == Published(naming.url_digest(url), 4, '"e"')


def test_journals_and_records_with_the_whole_url_are_read(final: Path) -> None:
    url = "https://example.org/a.bin?sig=1"
    final.parent.mkdir(parents=True)
    older = journal.JournalWriter(journal_of(final), journal.Identity(url, 4, Validator('"e"')), [(0, 2)])
    older.close()
    final.with_name("a.bin.part").write_bytes(b"data")

    part = PartFile.open(final, url=url, size=4, validator=Validator('"e"'))

    assert list(part.done) == [(0, 2)]
    part.discard()
    assert not FileIdentity(url).is_anothers(url)
    assert FileIdentity(url).is_anothers("https://example.org/a.bin?sig=2")
