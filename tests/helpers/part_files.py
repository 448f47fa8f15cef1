"""A part file of six pieces, in two versions, that is opened and filled piece by piece."""

from __future__ import annotations

import random
from pathlib import Path

from scrapy_chunkdl.download.disk.partfile import PartFile
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.plan.ranges import Range

URL = "http://example.org/a.bin"
PIECE = 3000
PIECES = 6
SIZE = PIECE * PIECES
VERSIONS = {f'"v{n}"': random.Random(n).randbytes(SIZE) for n in (1, 2)}
ONE, TWO = VERSIONS


def open_part(final: Path, etag: str, **options: bool) -> PartFile:
    return PartFile.open(final, url=URL, size=SIZE, validator=Validator(etag), **options)


def fill(part: PartFile, etag: str, safe: list[Range], pieces: range = range(PIECES)) -> None:
    for start in (PIECE * n for n in pieces):
        for offset in range(start, start + PIECE, PIECE // 2):
            part.write(offset, VERSIONS[etag][offset : offset + PIECE // 2])
        part.checkpoint([(start, start + PIECE)])
        safe.append((start, start + PIECE))
