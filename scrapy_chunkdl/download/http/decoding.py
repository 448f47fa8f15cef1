"""Undoing a Content-Encoding that a server insists on though identity was asked for (RFC 9110 §8.4). Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from scrapy_chunkdl.download.errors import Permanent, Transient
from scrapy_chunkdl.download.http.coding import Coding

_PIECE = 1 << 20


class Decoder:
    """Decodes a body as it arrives. Raises Permanent, reason ``encoded``, for a coding that cannot be undone."""

    def __init__(self, coding: Coding) -> None:
        if coding.refused:
            raise Permanent(
                f"the server sends it in Content-Encoding {coding.refused}, unasked, which is not undone here",
                reason="encoded",
            )
        self._steps = [_Step(name) for name in coding.undo]
        self._left = coding.coded_size

    @property
    def is_complete(self) -> bool:
        """Whether the encoded form has come to its end, and to that of the body: a gzip file may have several."""
        return all(step.is_complete for step in self._steps) and not (self._left is not None and self._left > 0)

    def decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield what ``data`` stands for, a megabyte at a time: a small body may stand for a huge file.

        Raises Transient, reason ``bad_encoding``, when it is broken.
        """
        if self._left is not None:
            self._left -= len(data)
        try:
            yield from _through(self._steps, data)
        except zlib.error as error:
            raise Transient(f"the encoded body is broken: {error}", reason="bad_encoding") from error


def _through(steps: Sequence[_Step], data: bytes | memoryview) -> Iterator[bytes]:
    if not steps:
        yield bytes(data)
        return
    for piece in steps[0].decode(data):
        yield from _through(steps[1:], piece)


class _Step:
    """One coding."""

    def __init__(self, name: str) -> None:
        self._is_gzip = name == "gzip"
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._is_gzip else zlib.MAX_WBITS)
        self._is_fresh = True

    @property
    def is_complete(self) -> bool:
        return self._zlib.eof

    def decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self._is_fresh and data and not self._is_gzip and data[0] & 0x0F != 8:
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # "deflate" without its zlib wrapper is common
        self._is_fresh = self._is_fresh and not data
        while data:
            if self._zlib.eof:
                data = bytes(data).lstrip(b"\0")  # tapes and disks pad what they store; gzip(1) passes over it, too
                if not self._is_gzip or not data:
                    return  # what follows the end of a deflate stream means nothing
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)  # a gzip body may have several members
            yield self._zlib.decompress(data, _PIECE)
            data = self._zlib.unconsumed_tail or self._zlib.unused_data
