"""What one answer says of a remote file, in words that every kind of source has. Pure.

A hint (HTTP's HEAD) may be wrong in anything. What the first answer with a body says counts (``Remote.confirmed``).
Knows sizes, versions and types; nothing of requests, nor of what an answer means.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from scrapy_chunkdl.download.http.coding import KEEP, Coding
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.known import By, Known

_NO_DIGESTS: Mapping[str, str] = MappingProxyType({})


ONE_STREAM: Mapping[str, str] = MappingProxyType(
    {
        "small": "it is no larger than a chunk, or came in a moment",
        "size_unknown": "no size is told",
        "coded": "its bytes come in a Content-Encoding",
        "no_ranges": "no ranges are offered",
        "range_ignored": "ranges are asked for and ignored",
        "range_refused": "ranges are refused, or never answered",
        "range_mismatch": "what comes for a range is not what was asked for, or of another version than the rest",
        "no_validator": "nothing tells its versions apart: no strong ETag, no date that is old enough, no digest",
        "keeps_changing": "it changed while it came, again and again",
        "one_request": (
            "it is asked for by one request (CHUNKDL_PROBE, links that a HEAD uses up, or a request of one's own)"
        ),
        "source": "its server begins at the first byte only",
    }
)
"""Why a file comes in one stream: the word that is counted, and what it means."""


class Remote(NamedTuple):
    """A file as its server describes it. ``size`` is in bytes, None when unknown; ``ranges`` None when not said.

    ``no_ranges`` is the word of :data:`ONE_STREAM` for ranges that are not to be had, where more is known than that.

    ``digests`` maps algorithms to hex; ``content_type`` is the field as it was sent; ``coding`` is what is to be done
    about a Content-Encoding, false where the bytes are the file.
    """

    size: int | None
    ranges: bool | None
    validator: Validator
    digests: Mapping[str, str] = _NO_DIGESTS
    disposition: str | None = None
    content_type: str | None = None
    coding: Coding = KEEP
    confirmed: bool = False
    no_ranges: str = ""

    @property
    def known(self) -> Known:
        """What this answer alone says of the file."""
        by = By.HEAD if not self.confirmed else By.BARE_GET if self.validator.is_empty else By.GET
        return Known(by, self.size, self.validator, self.content_type)

    @property
    def can_be_split(self) -> bool:
        """Whether it may be fetched by several requests without ever mixing two versions unnoticed.

        That takes ranges, a known size, and a usable validator or a digest to check the whole by (RFC 9110 §13.1.5,
        §15.3.7.3). Without them one response, which is of one version, has to bring it all.
        """
        return bool(self.ranges and self.could_be_split)

    @property
    def could_be_split(self) -> bool:
        """The same, if the server did ranges."""
        usable = self.validator.is_usable or bool(self.digests)
        return bool(self.size and usable and not self.coding)

    @property
    def one_stream(self) -> str:
        """Why it cannot be split, as a word of :data:`ONE_STREAM`; empty where it can."""
        if self.can_be_split:
            return ""
        if self.coding:
            return "coded"
        if self.size is None:
            return "size_unknown"
        return "no_validator" if self.ranges else self.no_ranges or "no_ranges"
