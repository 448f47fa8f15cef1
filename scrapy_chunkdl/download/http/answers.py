"""What the head of a response says of the file. Reads fields, sends no requests.

A HEAD is a hint: its length may be that of a redirect page or of a gzip form, or plainly wrong. What an answer means is
judged elsewhere.
"""

from __future__ import annotations

import aiohttp

from scrapy_chunkdl.download.http.coding import KEEP, Coding, meaning_of_coding
from scrapy_chunkdl.download.http.headers import Validator, parse_content_length, parse_content_range, parse_digests
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.text import naming


def remote_of(response: aiohttp.ClientResponse) -> Remote:
    """Read a good response to HEAD or GET, whole (2xx) or in part (206)."""
    headers = response.headers
    coding = coding_of(response)
    is_get = response.method == "GET"
    accepts = headers.get("Accept-Ranges", "").strip().lower()
    ignored = is_get and "Range" in response.request_info.headers and response.status != 206
    if response.status == 206:
        part = parse_content_range(headers.get("Content-Range"))
        size = part.total if part else None
        ranges: bool | None = True
    else:
        size = None if coding else parse_content_length(headers.get("Content-Length"))
        ranges = False if ignored or accepts == "none" else (True if "bytes" in accepts else None)
    return Remote(
        size=size,
        ranges=ranges,
        validator=Validator.of(headers),
        digests={} if coding else parse_digests(headers, whole=response.status != 206 or covers_whole(response)),
        disposition=headers.get("Content-Disposition"),
        content_type=headers.get("Content-Type") or None,
        coding=coding,
        confirmed=is_get,
        no_ranges="range_ignored" if ignored and "bytes" in accepts else "",
    )


def coding_of(response: aiohttp.ClientResponse) -> Coding:
    """Return what is to be done about the Content-Encoding of a response."""
    headers = response.headers
    if "Content-Encoding" not in headers:
        return KEEP
    named = naming.name_from_content_disposition(headers.get("Content-Disposition")) or response.url.name
    coding = meaning_of_coding(headers.getall("Content-Encoding"), named, headers.get("Content-Type"))
    if not coding or "Transfer-Encoding" in headers:
        return coding
    return coding._replace(coded_size=parse_content_length(headers.get("Content-Length")))


def covers_whole(response: aiohttp.ClientResponse) -> bool:
    """Whether a 206 brings all of the file: the same as a 200, then (RFC 9110 §15.3.7)."""
    part = parse_content_range(response.headers.get("Content-Range"))
    return part is not None and part.start == 0 and part.stop is not None and part.stop == part.total
