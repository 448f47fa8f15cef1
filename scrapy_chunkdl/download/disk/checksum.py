"""Checksums of files: reading expected ones, computing real ones in threads of their own. Knows bytes, not parts.

Besides the hashes of Python there are the CRCs that clouds give: CRC-32 and CRC-32C (Google, AWS), CRC-64/NVME (AWS),
and CRC-64/XZ, which Alibaba and Tencent call ECMA. Those find what a line or a disk does to a file, not what somebody
does on purpose.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from scrapy_chunkdl.download.concurrency import outlast
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.plan.ranges import Range

CRCS = {
    "crc32": ("CRC32-ISO-HDLC", 4),
    "crc32c": ("CRC32-ISCSI", 4),
    "crc64nvme": ("CRC64-NVME", 8),
    "crc64ecma": ("CRC64-XZ", 8),
}
"""What anycrc calls them, and their bytes."""

ALGORITHMS = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")) | CRCS.keys()

_BLOCK = 1 << 20
_SLICE = 32 * _BLOCK


class Hash(Protocol):
    """A checksum that is being computed."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Go on with these bytes."""
        ...

    def hexdigest(self) -> str:
        """Return what it is so far, in hex."""
        ...


def crc_model(algorithm: str) -> Any:
    """Return what computes and combines one of :data:`CRCS`."""
    import anycrc  # the first file that has one pays for it

    return anycrc.Model(CRCS[algorithm][0])


class Crc:
    """A CRC, as a hash. It is computed at 8 GB/s, so that it may be done on an event loop."""

    def __init__(self, algorithm: str) -> None:
        self._model = crc_model(algorithm)
        self._size = CRCS[algorithm][1]
        self._value = self._model.calc(b"")

    def update(self, data: bytes | memoryview, /) -> None:
        """Go on with these bytes."""
        self._value = self._model.calc(data, self._value)

    def hexdigest(self) -> str:
        """Return what it is so far, in hex, the highest byte first, as clouds have it."""
        return crc_hex(self._value, self._size)


def crc_hex(value: int, size: int) -> str:
    """Return a CRC of ``size`` bytes in hex."""
    return value.to_bytes(size, "big").hex()


def new_hash(algorithm: str) -> Hash:
    """Begin one of :data:`ALGORITHMS`."""
    return Crc(algorithm) if algorithm in CRCS else hashlib.new(algorithm, usedforsecurity=False)


def digests_of(data: bytes | memoryview, algorithms: Iterable[str]) -> dict[str, str]:
    """Return the checksums of bytes that are all in memory, in hex."""
    hashes = {name: new_hash(name) for name in algorithms}
    for one in hashes.values():
        one.update(data)
    return {name: one.hexdigest() for name, one in hashes.items()}


def told_first(algorithms: Iterable[str]) -> str:
    """Return which of several checksums that a server told is reported: a hash before a CRC; empty for none."""
    return min(algorithms, key=lambda name: (name in CRCS, name), default="")


def strength(algorithm: str) -> tuple[int, str]:
    """Return what sorts algorithms by how much they tell, the weakest first."""
    size = CRCS[algorithm][1] if algorithm in CRCS else hashlib.new(algorithm, usedforsecurity=False).digest_size
    return size, algorithm


def algorithm_of(text: str) -> str | None:
    """Return which of :data:`ALGORITHMS` is meant by a name as servers, lists and metalinks write it; None for none.

    SHA-256, SHA2-256, SHA3-256, BLAKE2b, BLAKE2b-512, CRC-32C are such.
    """
    plain = text.strip().lower().replace("sha2-", "sha")
    plain = {"blake2b-512": "blake2b", "blake2s-256": "blake2s"}.get(plain, plain)
    spellings = plain, plain.replace("-", "").replace("/", ""), plain.replace("-", "_")
    return next((name for name in spellings if name in ALGORITHMS), None)


def parse_expected(text: str) -> tuple[str, str]:
    """Split "sha256:hex" into algorithm and lower-case hex; base64 does as well, as clouds give it.

    Raises Permanent, reason ``bad_checksum``.
    """
    algorithm, _, digest = text.strip().partition(":")
    algorithm = algorithm_of(algorithm) or algorithm.lower()
    size = strength(algorithm)[0] if algorithm in ALGORITHMS else 0
    plain = digest.lower() if re.fullmatch(f"[0-9a-fA-F]{{{size * 2}}}", digest) else _hex_of_base64(digest)
    if not size or len(plain) != size * 2:
        raise Permanent(
            f'checksum {text!r} is not "algorithm:hex", such as "sha256:" and 64 hex digits', reason="bad_checksum"
        )
    return algorithm, plain


def _hex_of_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""


def hash_file(path: Path, algorithms: Iterable[str], moved: Callable[[], object] = lambda: None) -> dict[str, str]:
    """Read a file once and return its digests in hex, by algorithm; ``moved`` is called after each block."""
    hashes = {name: new_hash(name) for name in algorithms}
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            for digest in hashes.values():  # hashlib lets other threads run meanwhile
                digest.update(block)
            moved()
    return {name: digest.hexdigest() for name, digest in hashes.items()}


class Hashing:
    """Hashes files in two threads of their own: names, places and checkpoints do not wait behind 100 GB.

    A file goes back to the end of the queue after each slice, so that a small one does not wait for a large one's end.
    ``moved_at`` is when a block of any file was done, by the monotonic clock.
    """

    def __init__(self, threads: int = 2) -> None:
        self.moved_at = 0.0
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="chunkdl-hash")

    async def feed(
        self,
        read: Callable[[int, int], bytes],
        ranges: Iterable[Range],
        take: Callable[[int, bytes], object],
        moved: Callable[[], object],
    ) -> None:
        """Read ``ranges`` in order by ``read(offset, size)``, and have ``take`` hash each block.

        ``take`` and ``moved`` are called in the thread, for each block. Cancelled, it ends with the block that is being
        read: what ``read`` reads from may be closed then. Raises what ``read`` does.
        """
        stop, loop = threading.Event(), asyncio.get_running_loop()

        def hash_slice(position: int, end: int) -> int:
            end = min(end, position + _SLICE)
            while position < end and not stop.is_set() and (block := read(position, min(_BLOCK, end - position))):
                take(position, block)
                position += len(block)
                self.moved_at = time.monotonic()
                moved()
            return position

        for start, end in ranges:
            before, position = -1, start
            while before < position < end:
                work = loop.run_in_executor(self._executor, hash_slice, position, end)
                before, position = position, await outlast(work, on_cancel=stop.set)


hashing = Hashing()
"""That of the process, whose threads begin with the first file."""
