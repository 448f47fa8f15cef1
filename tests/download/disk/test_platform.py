"""Whatever a platform or a file system lacks costs a feature, never a file."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import lacking as taking
import pytest
from fetching import CHUNK, Client, payload
from lacking import LACKS, take_away
from origin import Origin
from part_files import PIECE, TWO, fill, open_part

from scrapy_chunkdl.download import Downloader, FileRequest
from scrapy_chunkdl.download.disk import platform
from scrapy_chunkdl.download.disk.partfile import PartFile


@pytest.fixture(params=[*LACKS, "all"])
def lack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    take_away(monkeypatch, request.param)
    return str(request.param)


def parts_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".part" in path.name)


@pytest.mark.parametrize(
    "faults", ["", "ranges:none", "length:none;framing:chunked"], ids=["ranges", "whole", "chunked"]
)
async def test_a_file_is_fetched_and_not_again_while_it_is_unchanged(client: Client, lack: str, faults: str) -> None:
    await client.right(client.url(faults))
    again = await client.fetch(client.url(faults))

    assert again.status == "uptodate" or "length" in faults
    assert parts_in(client.folder) == []


async def test_what_was_interrupted_is_resumed(client: Client, origin: Origin, lack: str) -> None:
    url = client.url("hold:gate:0.5@get")
    async with Downloader(client.options) as downloader:
        running = asyncio.ensure_future(downloader.fetch(FileRequest(url, client.folder, "out.bin")))
        while not any(path.stat().st_size for path in client.folder.glob("*.part")):
            assert not running.done(), running
            await asyncio.sleep(0.01)
        await asyncio.to_thread(origin.when("file.bin", lambda stats: stats.sent > 3 * CHUNK).result, 60)
        await asyncio.sleep(0.2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    origin.release("gate")

    result = await client.right(url)

    assert result.resumed > 0
    assert parts_in(client.folder) == []


async def test_two_urls_with_one_path_have_a_file_each(client: Client, origin: Origin, lack: str) -> None:
    urls = [client.url(name=name) for name in ("one.bin", "two.bin")]
    for _ in range(2):
        async with Downloader(client.options) as downloader:
            results = [await downloader.fetch(FileRequest(url, client.folder, "out.bin")) for url in urls]

    assert [result.status for result in results] == ["uptodate", "uptodate"]
    assert [result.path.read_bytes() for result in results] == [payload(key="one.bin"), payload(key="two.bin")]


async def test_two_downloads_of_one_file_at_once_leave_it_whole(client: Client, lack: str) -> None:
    async with Downloader(client.options) as downloader:
        request = FileRequest(client.url(), client.folder, "out.bin")
        results = await asyncio.gather(*(downloader.fetch(request) for _ in range(4)))

    assert {result.path for result in results} == {client.target}
    assert client.target.read_bytes() == payload()
    assert parts_in(client.folder) == []


@pytest.mark.parametrize("lacking", ["flock", "all"])
def test_without_locks_two_processes_do_not_write_into_one_part(
    client: Client, origin: Origin, tmp_path: Path, lacking: str
) -> None:
    """The second opens between the first one's last byte and its rename: the worst moment."""
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        import pytest
        from lacking import take_away
        from scrapy_chunkdl.download import Downloader, FileRequest, Options
        from scrapy_chunkdl.download.disk.partfile import PartFile

        take_away(pytest.MonkeyPatch(), sys.argv[3])
        publish = PartFile.publish

        def wait_and_publish(self):
            print("PREPARED", flush=True)
            sys.stdin.readline()
            publish(self)

        PartFile.publish = wait_and_publish

        async def main():
            async with Downloader(Options(chunk_size=65536)) as downloader:
                await downloader.fetch(FileRequest(sys.argv[1], Path(sys.argv[2]), "out.bin"))

        asyncio.run(main())
        """
    )
    begin: Callable[[], subprocess.Popen[str]] = lambda: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", program, client.url(), str(client.folder), lacking],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(taking.__file__).parent)},
    )
    first, second = begin(), begin()
    for process in (first, second):
        assert process.stdout is not None
        assert "PREPARED" in process.stdout.readline()

    for process in (first, second):
        process.communicate("go on\n", timeout=60)
        assert process.returncode == 0
        assert client.target.read_bytes() == payload()
    assert parts_in(client.folder) == []


def test_what_a_dead_process_left_without_locks_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(monkeypatch, "flock")
    final = tmp_path / "a.bin"
    with monkeypatch.context() as patch:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        patch.setattr(os, "getpid", lambda: ended.pid)
        left = open_part(final, TWO)
        fill(left, TWO, [], range(2))
        left.close()

    part = open_part(final, TWO)

    assert list(part.done) == [(0, 2 * PIECE)]
    part.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        ("ENOSPC", "NoRoom", "disk_full"),
        ("EDQUOT", "NoRoom", "disk_full"),
        ("EROFS", "Permanent", "read_only"),
        ("EACCES", "Permanent", "read_only"),
        ("EPERM", "Permanent", "read_only"),
        ("EIO", "Permanent", "disk_error"),
        ("EFBIG", "Permanent", "disk_error"),
        ("EMFILE", "DiskFault", "too_many_open_files"),
        ("ENFILE", "DiskFault", "too_many_open_files"),
        ("ESTALE", "DiskFault", "disk_error"),
        ("EINTR", "DiskFault", "disk_error"),
        ("ENOMEM", "DiskFault", "disk_error"),
        ("ETIMEDOUT", "DiskFault", "disk_error"),
    ],
)
def test_each_errno_has_its_class(number: str, kind: str, reason: str) -> None:
    error = platform.disk_error(OSError(getattr(errno, number), "what it says"), "a.bin")

    assert (type(error).__name__, error.reason) == (kind, reason)


@pytest.mark.parametrize("number", ["EMFILE", "ENFILE", "ESTALE", "EINTR"])
@pytest.mark.parametrize("step", ["open", "prepare", "publish", "read", "checkpoint", "write"])
async def test_what_passes_costs_a_retry_and_no_file(
    client: Client, monkeypatch: pytest.MonkeyPatch, number: str, step: str
) -> None:
    call, failures = getattr(PartFile, step), [OSError(getattr(errno, number), number)]

    def fail_once(*args: object, **options: object) -> object:
        if failures:
            raise platform.disk_error(failures.pop(), "a.bin")
        return call(*args, **options)

    monkeypatch.setattr(
        PartFile, step, classmethod(lambda cls, *a, **o: fail_once(*a, **o)) if step == "open" else fail_once
    )
    options = {"checksum": "sha256"} if step == "read" else {}

    from dataclasses import replace

    client.options = replace(client.options, **options)
    await client.right(client.url())

    assert failures == []
    assert parts_in(client.folder) == []


async def test_reserving_never_writes_the_file(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: pytest.fail("glibc would write into every block"))
    monkeypatch.setattr(platform, "_fallocate", lambda fd, size: errno.EOPNOTSUPP)

    await client.right(client.url())


def test_a_record_that_finds_no_room_leaves_nothing_beside_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "a.bin"
    monkeypatch.delattr(os, "setxattr", raising=False)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "replace", full)
    with final.open("wb") as file, pytest.raises(OSError, match="no room"):
        platform.remember(file.fileno(), final, b"told")

    assert list(tmp_path.iterdir()) == [final]
