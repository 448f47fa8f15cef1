"""Checksums of files: reading expected ones, computing real ones in threads of their own. Knows bytes, not parts."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scrapy_chunkdl.download.concurrency import outlast
from scrapy_chunkdl.download.errors import Permanent

ALGORITHMS = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))

_BLOCK = 1 << 20
_SLICE = 32 * _BLOCK


def parse_expected(text: str) -> tuple[str, str]:
    """Split "sha256:hex" into algorithm and lower-case hex. Raises Permanent, reason ``bad_checksum``."""
    algorithm, _, digest = text.strip().lower().partition(":")
    spellings = algorithm.replace("-", ""), algorithm.replace("-", "_")  # SHA-256, SHA3-256
    algorithm = next((name for name in spellings if name in ALGORITHMS), algorithm)
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2 if algorithm in ALGORITHMS else 0
    if not size or not re.fullmatch(f"[0-9a-f]{{{size}}}", digest):
        raise Permanent(
            f'checksum {text!r} is not "algorithm:hex", such as "sha256:" and 64 hex digits', reason="bad_checksum"
        )
    return algorithm, digest


def hash_file(path: Path, algorithms: Iterable[str], moved: Callable[[], object] = lambda: None) -> dict[str, str]:
    """Read a file once and return its digests in hex, by algorithm; ``moved`` is called after each block."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
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

    async def digests(
        self, read: Callable[[int, int], bytes], algorithms: Iterable[str], moved: Callable[[], object]
    ) -> dict[str, str]:
        """Return the digests, in hex by algorithm, of what ``read(offset, size)`` gives until it gives nothing.

        ``moved`` is called in the thread after each block. Cancelled, it ends with the block that is being read: what
        ``read`` reads from may be closed then. Raises what ``read`` does.
        """
        hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
        stop, loop = threading.Event(), asyncio.get_running_loop()

        def hash_slice(start: int) -> int:
            position = start
            while position < start + _SLICE and not stop.is_set() and (block := read(position, _BLOCK)):
                for digest in hashes.values():
                    digest.update(block)
                position += len(block)
                self.moved_at = time.monotonic()
                moved()
            return position

        before, position = -1, 0
        while hashes and before < position:
            work = loop.run_in_executor(self._executor, hash_slice, position)
            before, position = position, await outlast(work, on_cancel=stop.set)
        return {name: digest.hexdigest() for name, digest in hashes.items()}


hashing = Hashing()
"""That of the process, whose threads begin with the first file."""
