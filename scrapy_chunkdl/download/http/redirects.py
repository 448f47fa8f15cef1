"""Redirects of one request, whoever sends it: followed to the answer that is none, a loop told (RFC 9110 §15.4).

Knows answers, URLs and cookies as they were sent; nothing of sessions, files or who may be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import hdrs

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.urls import NoUrl, wire_url, without_userinfo
from scrapy_chunkdl.download.http.verdict import REDIRECTS
from scrapy_chunkdl.text.masking import shown_url


async def followed(
    url: str,
    send: Callable[[str], Awaitable[aiohttp.ClientResponse]],
    cookies_for: Callable[[str], str],
    most: int,
) -> aiohttp.ClientResponse:
    """Send a request to ``url`` and on, over ``most`` redirects at most; return the last answer, its body unread.

    A loop is a URL that was asked with the same Cookie header before, ``cookies_for`` says with which. Raises Permanent
    for a loop, for too many, and for a Location that is no URL.
    """
    seen: set[tuple[str, str]] = set()
    while True:
        response = await send(url)
        location = response.headers.get(hdrs.LOCATION)
        if response.status not in REDIRECTS or location is None:
            return response
        response.release()
        status = response.status
        seen.add((url, response.request_info.headers.get(hdrs.COOKIE, "")))
        try:  # credentials that a server puts into a Location are not ours to send (RFC 9110 §4.2.4)
            url = without_userinfo(wire_url(location, url))
        except NoUrl as error:
            text = f"a redirect to '{shown_url(location)}' cannot be followed: it {error}"
            raise Permanent(text, reason="bad_url", status=status) from None
        if (url, cookies_for(url)) in seen:  # and nothing new in the request
            raise Permanent(f"redirect loop at {shown_url(url)}", reason="redirect_loop", status=status)
        if len(seen) > most:
            text = f"more than {most} redirects, the last to {shown_url(url)}"
            raise Permanent(text, reason="too_many_redirects", status=status)
