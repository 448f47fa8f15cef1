"""Checksums are made of bytes as they are written, in any order, and only what was not seen has to be read."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from scrapy_chunkdl.download.disk.checksum import digests_of
from scrapy_chunkdl.download.disk.sums import Sums
from scrapy_chunkdl.download.model import Pieces

CRCS, HASHES = ["crc32", "crc32c", "crc64nvme", "crc64ecma"], ["md5", "sha256"]
SIZE = 10_000


class Written:
    """A file in memory, whose writes its checksums see."""

    def __init__(self, algorithms: list[str], pieces: Pieces | None = None) -> None:
        self.data = bytearray(SIZE)
        self.algorithms = algorithms
        self.sums = Sums()
        self.sums.want(algorithms, pieces)
        self.read = 0

    def write(self, start: int, data: bytes, step: int = 777) -> None:
        self.data[start : start + len(data)] = data
        for at in range(0, len(data), step):
            self.sums.wrote(start + at, data[at : at + step])

    def digests(self) -> dict[str, str]:
        for start, stop in self.sums.to_read(SIZE, self.algorithms):
            for at in range(start, stop, 500):
                block = bytes(self.data[at : min(at + 500, stop)])
                self.read += len(block)
                self.sums.was_read(at, block)
        return self.sums.digests(self.algorithms)


def drawn(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("algorithm", CRCS)
@pytest.mark.parametrize("seed", range(10))
def test_crcs_of_pieces_in_any_order_are_those_of_the_whole_without_reading(algorithm: str, seed: int) -> None:
    file, data, draw = Written([algorithm]), drawn(seed), random.Random(seed)
    edges = sorted({0, SIZE, *draw.sample(range(SIZE), 9)})
    spans = list(pairwise(edges))
    draw.shuffle(spans)

    for start, stop in spans:
        file.write(start, data[start:stop])

    assert file.sums.at_hand(SIZE) == {algorithm}
    assert file.digests() == digests_of(data, [algorithm])
    assert file.read == 0


@pytest.mark.parametrize("algorithm", CRCS + HASHES)
def test_what_comes_in_order_is_not_read(algorithm: str) -> None:
    file, data = Written([algorithm]), drawn(1)

    for start in range(0, SIZE, 1000):
        file.write(start, data[start : start + 1000])

    assert file.digests() == digests_of(data, [algorithm])
    assert file.read == 0


@pytest.mark.parametrize(
    ("algorithms", "read"),
    [(["crc32c"], 3000), (["sha256"], SIZE), (["crc32c", "crc64nvme"], 3000), (["crc32c", "sha256"], SIZE)],
)
def test_what_an_earlier_run_left_is_read_once(algorithms: list[str], read: int) -> None:
    file, data = Written(algorithms), drawn(1)
    file.data[:3000] = data[:3000]

    file.write(3000, data[3000:])

    assert file.digests() == digests_of(data, algorithms)
    assert file.read == read


def test_a_hash_reads_from_where_the_order_ended() -> None:
    file, data = Written(["md5"]), drawn(1)

    file.write(0, data[:4000])
    file.write(7000, data[7000:])
    file.write(4000, data[4000:7000])

    assert file.digests() == digests_of(data, ["md5"])
    assert file.read == 3000


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_written_again_the_last_bytes_count(seed: int) -> None:
    algorithms = CRCS + HASHES
    file, draw = Written(algorithms), random.Random(seed)
    file.write(0, drawn(seed), step=draw.choice([100, 777, SIZE]))

    for number in range(6):
        start = draw.choice([0, draw.randrange(SIZE), 777, 1554])
        file.write(start, drawn(number, draw.randrange(1, SIZE - start + 1)), step=draw.choice([100, 777]))

    assert file.digests() == digests_of(bytes(file.data), algorithms)


def test_what_is_wanted_later_is_read() -> None:
    file, data = Written(["md5"]), drawn(1)
    file.write(0, data)

    file.algorithms = ["md5", "crc32c"]
    file.sums.want(file.algorithms)

    assert file.digests() == digests_of(data, file.algorithms)
    assert file.read == SIZE


def pieces_of(data: bytes, length: int) -> Pieces:
    parts = [data[at : at + length] for at in range(0, len(data), length)]
    return Pieces(length, "sha1", tuple(digests_of(part, ["sha1"])["sha1"] for part in parts))


@pytest.mark.parametrize("length", [300, 1000, 3000, SIZE, SIZE + 1])
@pytest.mark.parametrize("step", [50, 1000, SIZE])
def test_pieces_that_came_in_order_within_themselves_are_known(length: int, step: int) -> None:
    data = drawn(1)
    file = Written([], pieces_of(data, length))
    spans = [(6000, SIZE), (0, 6000)] if 6000 % length == 0 else [(0, SIZE)]

    for start, stop in spans:
        file.write(start, data[start:stop], step)

    assert file.sums.pieces is not None
    file.sums.pieces.ended(SIZE)
    assert file.sums.pieces.not_right() == []


def test_a_wrong_piece_is_named_and_right_once_it_came_again() -> None:
    data = drawn(1)
    file = Written([], pieces_of(data, 1000))
    spoiled = bytearray(data)
    spoiled[4321] ^= 1
    file.write(0, bytes(spoiled))
    pieces = file.sums.pieces
    assert pieces is not None
    pieces.ended(SIZE)

    assert pieces.not_right() == [4]
    file.write(4000, data[4000:5000])
    assert pieces.not_right() == []
