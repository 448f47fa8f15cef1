"""Undoing a Content-Encoding that a server insists on though identity was asked for (RFC 9110 §8.4). Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from scrapy_chunkdl.download.errors import Permanent, Transient

_PIECE = 1 << 20


class Decoder:
    """Decodes a body as it arrives. Raises Permanent, reason ``encoded``, for a coding it does not know."""

    def __init__(self, coding: str) -> None:
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise Permanent(f"the server sends it in Content-Encoding {coding}, unasked", reason="encoded")
        self._is_gzip = coding != "deflate"
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._is_gzip else zlib.MAX_WBITS)
        self._is_fresh = True

    @property
    def is_complete(self) -> bool:
        """Whether the encoded form has come to its end."""
        return self._zlib.eof

    def decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield what ``data`` stands for, a megabyte at a time: a small body may stand for a huge file.

        Raises Transient, reason ``bad_encoding``, when it is broken.
        """
        if self._is_fresh and data and not self._is_gzip and data[0] & 0x0F != 8:
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # "deflate" without its zlib wrapper is common
        self._is_fresh = False
        try:
            while data:
                if self._zlib.eof:
                    if not self._is_gzip:
                        return  # what follows the end of a deflate stream means nothing
                    self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)  # a gzip body may have several members
                yield self._zlib.decompress(data, _PIECE)
                data = self._zlib.unconsumed_tail or self._zlib.unused_data
        except zlib.error as error:
            raise Transient(f"the encoded body is broken: {error}", reason="bad_encoding") from error
