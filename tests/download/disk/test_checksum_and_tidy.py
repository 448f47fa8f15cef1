"""Hashing tells that it goes on, ends when it is stopped, and keeps neither small files nor anything else waiting."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

from fetching import CHUNK, Client, payload
from origin import Origin
from part_files import TWO, fill, open_part

from scrapy_chunkdl.download.disk import tidy
from scrapy_chunkdl.download.disk.checksum import Hashing

BLOCK = 1 << 20


class Slow:
    """A file of many blocks; the first one waits until it may be read."""

    def __init__(self, blocks: int) -> None:
        self.size = blocks * BLOCK
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.read_blocks = 0

    def read(self, offset: int, size: int) -> bytes:
        self.begun.set()
        self.may_go_on.wait()
        self.read_blocks += 1
        return bytes(min(size, self.size - offset))


async def read_all(hashing: Hashing, file: Slow) -> None:
    await hashing.feed(file.read, [(0, file.size)], lambda offset, block: None, lambda: None)


async def test_digests_are_those_of_the_whole_and_each_block_is_a_sign_of_life() -> None:
    slow, signs = Slow(70), []
    slow.may_go_on.set()

    digest = hashlib.md5()
    await Hashing().feed(slow.read, [(0, slow.size)], lambda _, block: digest.update(block), lambda: signs.append(1))

    assert digest.hexdigest() == hashlib.md5(bytes(slow.size)).hexdigest()
    assert len(signs) == 70


async def test_cancelled_it_ends_with_the_block_that_is_being_read() -> None:
    slow = Slow(1000)
    hashing = asyncio.ensure_future(read_all(Hashing(), slow))
    await asyncio.to_thread(slow.begun.wait)

    hashing.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    slow.may_go_on.set()
    await asyncio.gather(hashing, return_exceptions=True)

    assert hashing.cancelled()
    assert slow.read_blocks == 1


async def test_a_small_file_does_not_wait_for_the_end_of_large_ones() -> None:
    hashing, large, small = Hashing(threads=1), Slow(200), Slow(1)
    small.may_go_on.set()
    first = asyncio.ensure_future(read_all(hashing, large))
    await asyncio.to_thread(large.begun.wait)
    second = asyncio.ensure_future(read_all(hashing, small))
    await asyncio.sleep(0)
    large.may_go_on.set()

    await second

    assert not first.done()
    await first


async def test_stopped_while_it_is_hashed_nothing_comes_again(client: Client, origin: Origin) -> None:
    client = client.with_options(checksum="sha256")
    from scrapy_chunkdl.download.disk import checksum

    begun, stop = asyncio.Event(), asyncio.get_running_loop()
    feed = checksum.hashing.feed

    async def hang(*args: object) -> None:
        begun.set()
        await stop.create_future()
        raise AssertionError

    checksum.hashing.feed = hang  # type: ignore[method-assign, assignment]
    url = client.url("hold:gate@range@1")  # what comes before the first chunk is read once more
    try:
        fetching = asyncio.ensure_future(client.fetch(url))
        await origin.sent("file.bin", 2 * CHUNK)
        origin.release("gate")
        await begun.wait()
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
    finally:
        checksum.hashing.feed = feed  # type: ignore[method-assign]
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    sent = origin.stats("file.bin").sent

    result = await client.right(url)

    assert result.resumed == len(payload())
    assert origin.stats("file.bin").sent == sent


def test_parts_nobody_has_are_swept_after_a_week_and_others_stay(tmp_path: Path) -> None:
    abandoned, held, whole = (tmp_path / name / "x" / "a.bin" for name in ("abandoned", "held", "whole"))
    for final in (abandoned, held):
        part = open_part(final, TWO)
        fill(part, TWO, [], range(2))
        if final is abandoned:
            part.close()
    whole.parent.mkdir(parents=True)
    whole.write_bytes(b"whole")
    later = abandoned.with_name("a.bin.part").stat().st_mtime + tidy.ABANDONED_AFTER_S

    assert tidy.sweep(tmp_path, now=later - 60) == 0
    assert tidy.sweep(tmp_path, now=later + 60) == 2

    part.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held", "whole"]
    assert sorted(path.name for path in held.parent.iterdir()) == ["a.bin.part", "a.bin.part.journal"]
