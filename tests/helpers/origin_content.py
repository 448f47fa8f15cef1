"""The bytes of the test files: any file of any size and version, at any offset, from its name alone.

Knows nothing of HTTP. A file repeats a pseudo-random block whose length is a prime above 1 MiB, so that bytes taken
from a wrong offset (a shifted chunk, two chunks swapped) always differ from the right ones, whatever the chunk size.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

PERIOD = 1_048_583
CRCS = {"crc32": ("CRC32", 8), "crc32c": ("CRC32C", 8), "crc64nvme": ("CRC64-NVME", 16)}


@lru_cache(maxsize=64)
def _block(key: str, version: int) -> memoryview:
    block = hashlib.shake_128(f"{key}\0{version}".encode()).digest(PERIOD)
    return memoryview(block + block)


def content_slice(key: str, version: int, offset: int, length: int) -> memoryview:
    """Return up to ``length`` bytes at ``offset`` without copying; at most ``PERIOD`` at once."""
    start = offset % PERIOD
    return _block(key, version)[start : start + min(length, PERIOD)]


def content(key: str, size: int, version: int = 1) -> bytes:
    """Return a whole file: for small ones."""
    return b"".join(_pieces(key, size, version))


def _pieces(key: str, size: int, version: int) -> list[memoryview]:
    return [content_slice(key, version, at, min(PERIOD, size - at)) for at in range(0, size, PERIOD)]


@lru_cache(maxsize=1024)
def content_hash(key: str, size: int, version: int = 1, algorithm: str = "sha256") -> str:
    """Return the file's hash, or CRC, in hex."""
    if algorithm in CRCS:
        import anycrc

        model, digits = CRCS[algorithm]
        return format(anycrc.Model(model).calc(content(key, size, version)), f"0{digits}x")
    digest = hashlib.new(algorithm)
    for piece in _pieces(key, size, version):
        digest.update(piece)
    return digest.hexdigest()


def expected_sha256(key: str, size: int, version: int = 1) -> str:
    """Return what the sha256 of a rightly downloaded file is."""
    return content_hash(key, size, version, "sha256")
