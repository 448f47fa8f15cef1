"""Disks that are full are waited for: nothing is given up, no delivery is counted, and it goes on by itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from patience import HANG
from project import Project, attachment, item
from s3_server import BUCKET, S3
from servers import wait_for
from small_disks import KINDS, small_disk

FILES = 200
SMALL, LARGE = 30_000, 150_000


def size_of(number: int) -> int:
    return LARGE if number % 2 else SMALL


@contextmanager
def cleaner(store: Path, below_bytes: int) -> Iterator[dict[str, bytes]]:
    """Take finished files away whenever the disk has less room than that; yields what was taken, by URL name."""
    taken: dict[str, bytes] = {}
    is_over = threading.Event()

    def take() -> None:
        for folder, _, names in os.walk(store):  # passes over folders that go meanwhile
            for name in names:
                if name.endswith(".bin"):
                    taken[name] = Path(folder, name).read_bytes()
                    Path(folder, name).unlink()

    def clean() -> None:
        while not is_over.wait(0.2):
            room = os.statvfs(store)
            if room.f_bavail * room.f_frsize < below_bytes:
                take()

    thread = threading.Thread(target=clean)
    thread.start()
    try:
        yield taken
    finally:
        is_over.set()
        thread.join()
        take()


@pytest.mark.long
@pytest.mark.parametrize("mode", ["queue", "inline"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_larger_than_the_disk_together_all_come_while_somebody_makes_room(
    project: Project, origin: Origin, tmp_path: Path, client: redis.Redis, kind: str, mode: str
) -> None:
    size = {"tmpfs": "4m", "ext4": "6m"}[kind]
    project.items = [item(attachment(origin.url(f"{n}.bin", size_of(n)), f"{n}.bin"), n=n) for n in range(FILES)]
    with small_disk(tmp_path / "disk", kind, size) as disk, cleaner(disk, 1 << 20) as taken:
        project.settings |= {"CHUNKDL_STORE": str(disk), "CHUNKDL_MODE": mode, "CHUNKDL_MAX_DELIVERIES": 1}
        project.settings |= {"CHUNKDL_CHUNK_SIZE": 65536, "CHUNKDL_MIN_FREE": 200_000}

        crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == list(range(FILES))
    assert taken == {f"{n}.bin": content(f"{n}.bin", size_of(n)) for n in range(FILES)}
    assert "chunkdl/files/failed" not in crawl.stats
    assert "chunkdl/items/dead" not in crawl.stats
    assert client.keys("*") == []
    assert crawl.log.count("Nothing more is claimed until there is room") <= 1


def test_a_quota_that_the_disk_does_not_tell_of_is_found_out_by_one_item_at_a_time(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.items = [item(attachment(origin.url(f"{n}.bin", LARGE), f"{n}.bin"), n=n) for n in range(12)]
    project.settings |= {"CHUNKDL_MAX_DELIVERIES": 1, "CHUNKDL_CHUNK_SIZE": 65536}
    project.settings["EXTENSIONS"] = {"probe.support.WriteStats": 1, "probe.support.Quota": 2}
    project.support = """
    import errno

    from scrapy_chunkdl.crawl import disk_gate
    from scrapy_chunkdl.download.disk import platform

    disk_gate.FIRST_PAUSE_S = disk_gate.LONGEST_PAUSE_S = 0.1

    class Quota:
        def __init__(self):
            self.left = 40
            self.real, platform._fallocate = platform._fallocate, self.fallocate

        def fallocate(self, fd, size):
            self.left -= 1
            return errno.EDQUOT if self.left > 0 else self.real(fd, size)
    """

    crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == list(range(12))
    assert crawl.stats["chunkdl/postponed/disk_full"] == 39
    assert "chunkdl/files/failed" not in crawl.stats
    assert client.keys("*") == []


def test_a_file_that_no_disk_of_this_size_holds_is_given_up_and_the_others_come(
    project: Project, origin: Origin, tmp_path: Path, client: redis.Redis
) -> None:
    sizes = [SMALL, 9_000_000, SMALL]
    project.items = [item(attachment(origin.url(f"{n}.bin", size), f"{n}.bin"), n=n) for n, size in enumerate(sizes)]
    with small_disk(tmp_path / "disk", "tmpfs", "4m") as disk:
        project.settings |= {"CHUNKDL_STORE": str(disk)}

        crawl = project.crawl()

    assert len(project.scraped()) == 3
    assert crawl.stats["chunkdl/failures/disk_full"] == 1
    assert "larger than its disk" in crawl.log


SOON = """
    from scrapy_chunkdl.crawl import disk_gate

    disk_gate.FIRST_PAUSE_S = disk_gate.LONGEST_PAUSE_S = 0.1
"""


@pytest.mark.parametrize(
    ("status", "code"), [(507, "InsufficientStorage"), (403, "QuotaExceeded"), (507, "XMinioStorageFull")]
)
def test_a_bucket_that_is_full_is_waited_for_and_no_file_is_given_up_or_counted(
    project: Project, origin: Origin, s3: S3, client: redis.Redis, status: int, code: str
) -> None:
    pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")
    project.support = SOON
    project.items = [item(attachment(origin.url(f"{n}.bin", SMALL), f"{n}.bin"), n=n) for n in range(12)]
    project.settings |= {"CHUNKDL_STORE": f"s3://{BUCKET}/reports", "CHUNKDL_MAX_DELIVERIES": 1} | s3.settings()
    s3.refuse("PUT", status, code=code)

    process = project.start()
    wait_for(lambda: sum(one.startswith("PUT") for one in s3.requests()) >= 20, "nothing is uploaded")
    s3.accept()
    crawl = project.finish(process)

    assert sorted(found["n"] for found in project.scraped()) == list(range(12))
    assert len(s3.keys()) == 12
    assert crawl.stats["chunkdl/postponed/disk_full"] >= 1
    assert "chunkdl/files/failed" not in crawl.stats
    assert client.keys("*") == []


def test_a_file_system_of_fsspec_that_is_full_is_waited_for(
    project: Project, origin: Origin, tmp_path: Path, client: redis.Redis
) -> None:
    project.support = SOON
    project.items = [item(attachment(origin.url(f"{n}.bin", LARGE), f"{n}.bin"), n=n) for n in range(40)]
    with small_disk(tmp_path / "disk", "tmpfs", "2m") as disk, cleaner(disk, 500_000) as taken:
        project.settings |= {"CHUNKDL_STORE": f"local://{disk}", "CHUNKDL_MAX_DELIVERIES": 1}

        crawl = project.crawl()

    assert sorted(found["n"] for found in project.scraped()) == list(range(40))
    assert taken == {f"{n}.bin": content(f"{n}.bin", LARGE) for n in range(40)}
    assert "chunkdl/files/failed" not in crawl.stats
    assert client.keys("*") == []


def test_a_worker_until_empty_says_what_it_waits_for_and_so_does_status(
    project: Project, origin: Origin, tmp_path: Path, client: redis.Redis
) -> None:
    project.items = [item(attachment(origin.url("a.bin", SMALL), "a.bin"))]
    with small_disk(tmp_path / "disk", "tmpfs", "4m") as disk:
        project.settings |= {"CHUNKDL_STORE": str(disk), "CHUNKDL_MIN_FREE": "50%", "LOG_LEVEL": "INFO"}
        (disk / "other").write_bytes(b"x" * 3_000_000)
        process = project.start()
        for line in process.stdout or ():
            if "Items of files:items wait." in line:
                break
        assert "kept free (CHUNKDL_MIN_FREE)" in line
        told, end = "", time.monotonic() + HANG
        while "kept free" not in told and time.monotonic() < end:  # with the next report
            told = project.command("chunkdl", "status", "files").stdout
        (disk / "other").unlink()
        crawl = project.finish(process)

    assert "kept free (CHUNKDL_MIN_FREE)" in told
    assert crawl.stats["chunkdl/items/finished"] == 1
    assert "There is room in" in crawl.log
