"""Attachments as ``scrapy.Request``, for the project's hooks to see and change, and back.

Knows the meta keys of attachments; nothing of downloads. The request that a hook returned stays with its attachment,
and every later hook is shown that very one. Called by the hooks, and by ``FileRequests`` before a hook is asked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from scrapy import Request
from scrapy.utils.python import to_unicode

from scrapy_chunkdl.items.as_text import short_repr
from scrapy_chunkdl.items.attachments import Attachment, accepted

SHOWN_ATTACHMENT = "chunkdl_attachment"


def as_request(attachment: Attachment) -> Request:
    """Show an attachment to a hook, as the request that stands for it. Raises ValueError for what is no URL."""
    if attachment.shown is None:
        meta = {
            "filename": attachment.filename,
            "checksum": attachment.checksum,
            "checksum_url": attachment.checksum_url,
            "metalink": attachment.metalink,
            "mirrors": attachment.mirrors,
            "accept": attachment.accept or None,
            "proxy": attachment.proxy,
            "cookiejar": attachment.cookiejar,
            SHOWN_ATTACHMENT: attachment,
        }
        given = {name: value for name, value in meta.items() if value is not None}
        attachment.shown = Request(attachment.url, headers=attachment.headers, meta=given)
    request: Request = attachment.shown
    return request


def as_attachment(request: object) -> Attachment:
    """Take from a hook of the project's what is to be fetched, for the attachment it was shown or for none.

    Raises TypeError for what is no request.
    """
    if not isinstance(request, Request):
        raise TypeError(f"get_media_requests gave {short_repr(request)}, not a scrapy.Request")
    meta = request.meta
    shown: Attachment = meta.get(SHOWN_ATTACHMENT) or Attachment(url=request.url)
    unchanged = request.url == Request(shown.url).url  # but for what Scrapy does to any URL
    attachment = replace(shown, url=shown.url if unchanged else request.url, shown=request)
    attachment.problem = _problem_of(request)
    if attachment.problem is None:
        attachment.filename = meta.get("filename") or None
        attachment.headers = sent_headers(request)
        attachment.checksum = meta.get("checksum") or None
        attachment.checksum_url = meta.get("checksum_url") or None
        attachment.metalink = meta.get("metalink") or None
        attachment.mirrors = tuple(meta.get("mirrors") or ())
        attachment.accept = accepted(meta.get("accept")) or ()
        attachment.proxy = meta.get("proxy") or None
        attachment.cookiejar = meta.get("cookiejar")
    return attachment


def _problem_of(request: Request) -> str | None:
    """Say what of a request cannot be had here, by the name of the hook that made it."""
    meta = request.meta
    for name in ("filename", "checksum", "checksum_url", "metalink", "proxy"):
        if meta.get(name) and not isinstance(meta[name], str):
            return f'get_media_requests gave meta["{name}"] as {type(meta[name]).__qualname__}, not a string'
    mirrors = meta.get("mirrors")
    if mirrors and not (isinstance(mirrors, (list, tuple)) and all(isinstance(mirror, str) for mirror in mirrors)):
        return 'get_media_requests gave meta["mirrors"], which is not a list of URLs'
    if accepted(meta.get("accept")) is None:
        return 'get_media_requests gave meta["accept"], which is not types or extensions such as "image/*" or ".pdf"'
    if not isinstance(meta.get("cookiejar"), Hashable):
        return 'get_media_requests gave meta["cookiejar"], which is not the name of one'
    if not all(isinstance(cookie.get("name"), (str, bytes)) and "value" in cookie for cookie in _cookies(request)):
        return "get_media_requests gave cookies that are no pairs of name and value"
    return None


def _cookies(request: Request) -> list[Mapping[str, Any]]:
    """Return a request's cookies in the longer of the two forms Scrapy knows; what is no cookie is an empty one."""
    cookies: Any = request.cookies
    if isinstance(cookies, Mapping):
        return [{"name": name, "value": value} for name, value in cookies.items()]
    return [cookie if isinstance(cookie, Mapping) else {} for cookie in cookies]


def sent_headers(request: Request) -> dict[str, str]:
    """Return a request's headers with its ``cookies``, which Scrapy's downloader would have put among them."""
    headers = {str(name): str(value) for name, value in request.headers.to_unicode_dict().items()}
    pairs = [f"{to_unicode(cookie['name'])}={_text(cookie['value'])}" for cookie in _cookies(request)]
    if pairs:
        headers["Cookie"] = "; ".join([*pairs, *filter(None, [headers.get("Cookie")])])
    return headers


def _text(value: object) -> str:
    return to_unicode(value) if isinstance(value, (str, bytes)) else str(value)
