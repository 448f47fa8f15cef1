"""The files of the page, as a browser gets them: read once, by name, with an ETag. Knows HTTP and the package."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


_TO_THE_FOLDER = 'if (!location.pathname.endsWith("/")) location.pathname += "/"'
TO_THE_FOLDER = f"<script>{_TO_THE_FOLDER}</script>"
"""Behind a proxy that serves us in a folder, its name without the slash leads here, too; what the page asks for by
relative addresses is in the folder. Only the browser knows its name."""

SCRIPT_HASHES = _csp_hash(_TO_THE_FOLDER)
"""Of the scripts that stand in a page itself, for its Content-Security-Policy."""


async def page(request: web.Request) -> web.StreamResponse:
    """Answer with the page itself."""
    return _sent(request, "index.html")


async def static(request: web.Request) -> web.StreamResponse:
    """Answer with one of its files, or 404."""
    return _sent(request, request.match_info["name"])


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, as it is sent."""

    kind: str
    body: bytes
    etag: str


@lru_cache(maxsize=1)
def _files_of_the_page() -> Mapping[str, _File]:
    """Read them all, by name. No name from outside is ever looked for on the disk."""
    return dict(_read(resources.files("scrapy_chunkdl.dashboard").joinpath("static"), ""))


def _read(folder: Traversable, path: str) -> Iterator[tuple[str, _File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{path}{entry.name}/")
            continue
        body = entry.read_bytes()
        if entry.name == "index.html":
            body = body.replace(b"<head>", f"<head>{TO_THE_FOLDER}".encode(), 1)
        kind = _TYPES.get(entry.name.rpartition(".")[2], "text/plain")
        yield f"{path}{entry.name}", _File(kind, body, hashlib.sha256(body).hexdigest()[:16])


_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "png": "image/png"}


def _sent(request: web.Request, name: str) -> web.StreamResponse:
    file = _files_of_the_page().get(name)
    if file is None:
        raise web.HTTPNotFound
    headers = {hdrs.ETAG: f'"{file.etag}"', hdrs.CACHE_CONTROL: "no-cache"}
    if any(known.value == file.etag for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if file.kind.startswith("text/") else None
    return web.Response(body=file.body, content_type=file.kind, charset=charset, headers=headers)
