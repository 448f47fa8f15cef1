"""Killed, stopped, out of space: the next run goes on where the last one was safe."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from origin import Origin
from origin_content import content
from patience import HANG
from servers import wait_for

from scrapy_chunkdl.download import Downloader, FileRequest, Options, Permanent, Progress
from scrapy_chunkdl.download.disk import journal
from scrapy_chunkdl.download.disk.part_lock import JOURNAL
from scrapy_chunkdl.download.disk.platform import record_path

CHUNK = 65_536
CONNECTIONS = 4
SIZE = 40 * CHUNK + 77
COMPARED = 4096
"""Bytes that are asked for once more before an earlier run's are trusted, at most."""

OPTIONS = Options(chunk_size=CHUNK, chunks_per_file=CONNECTIONS, backoff_base=0.01, stall_timeout=5.0)

PROGRAM = f"""
import asyncio, sys
from pathlib import Path
from scrapy_chunkdl.download import Downloader, FileRequest, Options

async def main():
    options = Options(chunk_size={CHUNK}, chunks_per_file=int(sys.argv[3]), stall_timeout={HANG})
    async with Downloader(options) as downloader:
        result = await downloader.fetch(FileRequest(sys.argv[1], Path(sys.argv[2]), "a.bin"))
        print(result.status, result.fetched, result.resumed)

asyncio.run(main())
"""


def start(url: str, folder: Path, connections: int = CONNECTIONS) -> subprocess.Popen[str]:
    """Start a process that fetches the file; with one connection no other takes over what is under way to it."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), url, str(folder), str(connections)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, int, int]:
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err
    status, fetched, resumed = out.split()
    return status, int(fetched), int(resumed)


async def fetch(url: str, folder: Path, **options: object) -> tuple[Progress, object]:
    progress = Progress()
    async with Downloader(OPTIONS) as downloader:
        return progress, await downloader.fetch(FileRequest(url, folder, "a.bin"), progress)


@pytest.mark.parametrize("sent", [CHUNK // 2, 3 * CHUNK, 17 * CHUNK, 39 * CHUNK])
def test_killed_at_any_moment_it_fetches_at_most_a_chunk_for_each_connection_again(
    origin: Origin, tmp_path: Path, sent: int
) -> None:
    url = origin.url("a.bin", SIZE, f"hold:gate:{sent // CONNECTIONS}@get")
    reached = origin.when("a.bin", lambda stats: stats.sent >= sent)

    process = start(url, tmp_path)
    reached.result(60)
    # How long two syncs take, and how much comes meanwhile, is the machine's business: wait for what is promised.
    wait_for(lambda: safe_bytes(tmp_path) >= sent - CONNECTIONS * CHUNK, "the journal stays behind")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "a.bin").exists()
    origin.release("gate")
    status, fetched, resumed = finish(start(url, tmp_path, connections=1))

    assert status == "downloaded"
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE)
    assert 0 <= fetched - (SIZE - resumed) <= COMPARED
    assert resumed >= sent - CONNECTIONS * CHUNK
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin"]


def safe_bytes(folder: Path) -> int:
    """Return how many bytes the journal claims."""
    try:
        return journal.read(folder / f"a.bin{JOURNAL}")[1].total
    except journal.JournalError:
        return 0


def test_killed_again_and_again_it_gets_there(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE, "rate:2000000:16384@get")
    kills = 0
    for share in (0.2, 0.5, 0.8):
        reached = origin.when("a.bin", lambda stats, share=share: stats.sent >= share * SIZE)
        process = start(url, tmp_path)
        reached.result(60)
        process.kill()
        process.communicate()
        kills += 1

    finish(start(url, tmp_path))

    assert kills == 3
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE)


def test_a_new_version_between_two_runs_starts_afresh(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE, "rate:2000000:16384@get")
    reached = origin.when("a.bin", lambda stats: stats.sent >= SIZE // 2)
    process = start(url, tmp_path)
    reached.result(60)
    process.kill()
    process.communicate()

    origin.set_version("a.bin", 2)
    status, fetched, resumed = finish(start(url, tmp_path, connections=1))

    assert (status, resumed) == ("downloaded", 0)
    assert fetched == SIZE
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE, 2)


def test_two_processes_on_one_file_fetch_it_once(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE, "rate:2000000:16384@get")
    begun = origin.when("a.bin", lambda stats: stats.sent >= CHUNK)

    first = start(url, tmp_path)
    begun.result(60)
    second = start(url, tmp_path)

    assert {finish(first)[0], finish(second)[0]} == {"downloaded", "uptodate"}
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE)


def test_the_second_process_takes_over_when_the_first_is_killed(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE, "hold:gate:100000@get")
    held = origin.when("a.bin", lambda stats: stats.sent >= CONNECTIONS * 100_000)
    asked_again = origin.when("a.bin", lambda stats: stats.methods["HEAD"] >= 2)

    first = start(url, tmp_path)
    held.result(60)
    second = start(url, tmp_path)
    asked_again.result(60)
    first.kill()
    first.communicate()
    origin.release("gate")

    status, _, _ = finish(second)

    assert status == "downloaded"
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE)


async def test_cancelled_it_keeps_what_it_has(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE, "hold:gate:100000@get")
    held = origin.when("a.bin", lambda stats: stats.sent >= CONNECTIONS * 100_000)
    progress = Progress()
    async with Downloader(OPTIONS) as downloader:
        task = asyncio.ensure_future(downloader.fetch(FileRequest(url, tmp_path, "a.bin"), progress))
        await asyncio.wrap_future(held)
        while progress.done < CONNECTIONS * 100_000:  # noqa: ASYNC110 -- sent already; there is no event for read
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    origin.release("gate")

    _, result = await fetch(url, tmp_path)

    assert result.resumed == CONNECTIONS * 100_000  # type: ignore[attr-defined]
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE)


@pytest.fixture
def small_disk(new_disk: Callable[[str], Path]) -> Path:
    """A file system with room for less than the file."""
    return new_disk("1m")


async def test_a_full_disk_gives_up_this_file_and_it_comes_when_there_is_room(origin: Origin, small_disk: Path) -> None:
    url = origin.url("a.bin", SIZE)

    with pytest.raises(Permanent, match="larger than its disk") as refusal:
        await fetch(url, small_disk)
    assert refusal.value.reason == "disk_full"
    assert not (small_disk / "a.bin").exists()
    assert origin.stats("a.bin").sent == 0

    small = origin.url("b.bin", 1000)
    async with Downloader(OPTIONS) as downloader:
        await downloader.fetch(FileRequest(small, small_disk, "b.bin"))
    make_room(small_disk)
    await fetch(url, small_disk)

    assert (small_disk / "a.bin").read_bytes() == content("a.bin", SIZE)


def make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)


async def test_a_finished_file_is_not_fetched_again_until_it_changes(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE)
    await fetch(url, tmp_path)
    sent = origin.stats("a.bin").sent

    _, again = await fetch(url, tmp_path)
    assert again.status == "uptodate"  # type: ignore[attr-defined]
    assert origin.stats("a.bin").sent == sent

    origin.set_version("a.bin", 2)
    _, changed = await fetch(url, tmp_path)
    assert changed.status == "downloaded"  # type: ignore[attr-defined]
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", SIZE, 2)


async def test_what_a_process_killed_after_the_rename_left_beside_the_file_goes(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", SIZE)
    await fetch(url, tmp_path)
    (tmp_path / "a.bin.part.journal").write_bytes(b"left")

    _, again = await fetch(url, tmp_path)

    assert again.status == "uptodate"  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir() if path != record_path(tmp_path / "a.bin")] == ["a.bin"]


def test_the_example_for_plain_asyncio_runs(origin: Origin, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "plain_asyncio.py"

    command = [sys.executable, str(example), origin.url("a.bin", 5_000_000), str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "a.bin (5000000 bytes" in printed
    assert (tmp_path / "a.bin").read_bytes() == content("a.bin", 5_000_000)


def test_a_failing_example_says_the_reason(origin: Origin, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "plain_asyncio.py"

    command = [sys.executable, str(example), origin.url("a.bin", 5, "status:404"), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert ended.stderr.startswith("http_404: ")
    assert json.dumps(ended.stderr).count("Traceback") == 0
