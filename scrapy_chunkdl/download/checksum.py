"""Checksums of files: reading expected ones, computing real ones. Blocking; callers run it in a thread."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from scrapy_chunkdl.download.errors import Permanent

ALGORITHMS = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))

_BLOCK = 1 << 20


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


def hash_file(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Read a file once and return its digests in hex, by algorithm. hashlib lets other threads run meanwhile."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            for digest in hashes.values():
                digest.update(block)
    return {name: digest.hexdigest() for name, digest in hashes.items()}
