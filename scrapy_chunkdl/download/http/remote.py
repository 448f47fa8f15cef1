"""What is known of a remote file from the headers of a response, and which responses are errors. Sends no requests.

A HEAD is a hint: its length may be that of a redirect page or of a gzip form, or plainly wrong. What the first GET says
counts (``Remote.confirmed``). What an answer means is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import aiohttp

from scrapy_chunkdl.download.http.coding import KEEP, Coding, meaning_of_coding
from scrapy_chunkdl.download.http.headers import Validator, parse_content_length, parse_content_range, parse_digests
from scrapy_chunkdl.download.http.known import By, Known
from scrapy_chunkdl.text import naming


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as its server describes it. ``size`` is in bytes, None when unknown; ``ranges`` None when not said.

    ``digests`` maps algorithms to hex; ``content_type`` is the field as it was sent; ``coding`` is what is to be done
    about a Content-Encoding, false where the bytes are the file.
    """

    size: int | None
    ranges: bool | None
    validator: Validator
    digests: Mapping[str, str] = field(default_factory=dict)
    disposition: str | None = None
    content_type: str | None = None
    coding: Coding = KEEP
    confirmed: bool = False

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> Remote:
        """Read a good response to HEAD or GET, whole (2xx) or in part (206)."""
        headers = response.headers
        coding = coding_of(response)
        is_get = response.method == "GET"
        if response.status == 206:
            part = parse_content_range(headers.get("Content-Range"))
            size = part.total if part else None
            ranges: bool | None = True
        else:
            size = None if coding else parse_content_length(headers.get("Content-Length"))
            accepts = headers.get("Accept-Ranges", "").strip().lower()
            ignored = is_get and "Range" in response.request_info.headers
            ranges = False if ignored or accepts == "none" else (True if "bytes" in accepts else None)
        return cls(
            size=size,
            ranges=ranges,
            validator=Validator.of(headers),
            digests={} if coding else parse_digests(headers, whole=response.status != 206),
            disposition=headers.get("Content-Disposition"),
            content_type=headers.get("Content-Type") or None,
            coding=coding,
            confirmed=is_get,
        )

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


def coding_of(response: aiohttp.ClientResponse) -> Coding:
    """Return what is to be done about the Content-Encoding of a response."""
    headers = response.headers
    if "Content-Encoding" not in headers:
        return KEEP
    named = naming.name_from_content_disposition(headers.get("Content-Disposition")) or response.url.name
    coding = meaning_of_coding(headers.getall("Content-Encoding"), named, headers.get("Content-Type"))
    if not coding or "Transfer-Encoding" in headers:
        return coding
    return replace(coding, coded_size=parse_content_length(headers.get("Content-Length")))


def covers_whole(response: aiohttp.ClientResponse) -> bool:
    """Whether a 206 brings all of the file: the same as a 200, then (RFC 9110 §15.3.7)."""
    part = parse_content_range(response.headers.get("Content-Range"))
    return part is not None and part.start == 0 and part.stop is not None and part.stop == part.total
