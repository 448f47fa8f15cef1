"""The small local site that the example crawls: an archive of made-up reports, 1 KB to 200 MB, served by aiohttp.

Its files are generated, the same ones each time, into a folder outside version control. Each connection gets a few
megabytes a second, as from a real site, so that there is something to watch. Some of it is troublesome on purpose:
``busy`` answers 503 twice before each file, ``flaky`` hangs up in the middle, ``nohead`` refuses HEAD, ``norange``
knows no ranges.

Run as a program it prints its address and serves until it is killed, or until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import html
import os
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

KB, MB = 1000, 1000 * 1000
BLOCK = 1 << 20
WRITE = 1 << 16
HANG_UP_AFTER = 2 * MB
RATE = 2 * MB
"""Bytes a second that one connection gets."""


@dataclass(frozen=True)
class Report:
    """One report of the archive: its files are (name, size in bytes, which trouble)."""

    year: int
    title: str
    files: tuple[tuple[str, int, str], ...]


ARCHIVE = (
    Report(2021, "Harbour survey", (("survey.pdf", 3 * MB, "plain"), ("soundings.csv", 18 * MB, "plain"))),
    Report(2021, "Minutes of the council", tuple((f"minutes-{n:02}.txt", n * KB, "plain") for n in range(1, 13))),
    Report(2021, "Aerial photographs", (("north.tif", 60 * MB, "plain"), ("south.tif", 45 * MB, "flaky"))),
    Report(2022, "Rainfall by station", (("rainfall.csv.gz", 12 * MB, "busy"), ("readme.txt", 2 * KB, "plain"))),
    Report(2022, "城市年报", (("年报 2022.pdf", 7 * MB, "nohead"), ("附件一.xlsx", 900 * KB, "plain"))),
    Report(2022, "Town film", (("film.mp4", 200 * MB, "plain"), ("subtitles.srt", 40 * KB, "norange"))),
    Report(2023, "Street network", (("streets.osm.pbf", 80 * MB, "plain"), ("licence.txt", 1 * KB, "plain"))),
    Report(2023, "Budget", (("budget.pdf", 4 * MB, "norange"), ("budget.xlsx", 600 * KB, "busy"))),
    Report(2023, "Tree register", (("trees.geojson", 30 * MB, "flaky"), ("trees.csv", 9 * MB, "plain"))),
)


def path_of(report: Report, name: str, trouble: str) -> str:
    """Return the path of a file on the site. Reports may share file names; their paths differ."""
    return f"{trouble}/{report.year}/{ARCHIVE.index(report)}/{name}"


def make_files(folder: Path, scale: float = 1.0) -> None:
    """Generate what is missing of the archive, and the list of checksums. ``scale`` shrinks every file."""
    sums = []
    for report in ARCHIVE:
        for name, size, trouble in report.files:
            path = path_of(report, name, trouble)
            sums.append(f"{_make(folder / path, max(1, int(size * scale)))}  {path}\n")
    (folder / "sha256sums.txt").write_text("".join(sums), encoding="utf-8")


def _make(path: Path, size: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    write = not path.exists() or path.stat().st_size != size
    with path.open("wb" if write else "rb") as file:
        for number in range(0, -(-size // BLOCK)):
            block = hashlib.shake_128(f"{path.name}/{number}".encode()).digest(min(BLOCK, size - number * BLOCK))
            digest.update(block)
            if write:
                file.write(block)
    return digest.hexdigest()


class Site:
    """The handlers of the site. ``rate`` is what one connection gets, in bytes a second."""

    def __init__(self, folder: Path, rate: float = RATE) -> None:
        self._folder = folder
        self._rate = rate
        self._refused: Counter[str] = Counter()
        self.app = web.Application()
        self.app.router.add_get("/", self._index)
        self.app.router.add_get("/{year:[0-9]{4}}.html", self._year)
        self.app.router.add_get("/sha256sums.txt", self._sums)
        self.app.router.add_route("*", "/{trouble:plain|busy|flaky|nohead|norange}/{rest:.+}", self._file)

    async def _index(self, request: web.Request) -> web.Response:
        years = sorted({report.year for report in ARCHIVE})
        links = "".join(f'<li><a class="year" href="/{year}.html">{year}</a></li>' for year in years)
        return _page("Archive of reports", f"<ul>{links}</ul>")

    async def _year(self, request: web.Request) -> web.Response:
        year = int(request.match_info["year"])
        entries = []
        for report in (report for report in ARCHIVE if report.year == year):
            files = "".join(
                f'<li><a class="file" href="/{quote(path_of(report, name, trouble))}">{html.escape(name)}</a></li>'
                for name, _, trouble in report.files
            )
            entries.append(f'<li class="report"><h2>{html.escape(report.title)}</h2><ul>{files}</ul></li>')
        return _page(f"Reports of {year}", f"<ul>{''.join(entries)}</ul>")

    async def _sums(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._folder / "sha256sums.txt")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        trouble = request.match_info["trouble"]
        path = self._folder / trouble / request.match_info["rest"]
        if request.method not in ("GET", "HEAD") or (trouble == "nohead" and request.method == "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET"])
        if not path.resolve().is_relative_to(self._folder.resolve()) or not path.is_file():
            raise web.HTTPNotFound
        if trouble == "busy" and request.method == "GET" and self._refused[str(path)] < 2:
            self._refused[str(path)] += 1
            raise web.HTTPServiceUnavailable
        return await self._send(request, path, ranges=trouble != "norange", hangs_up=trouble == "flaky")

    async def _send(self, request: web.Request, path: Path, *, ranges: bool, hangs_up: bool) -> web.StreamResponse:
        """Send a file, or one range of it (RFC 9110 section 14)."""
        status, size = path.stat(), path.stat().st_size
        headers = {
            "ETag": f'"{status.st_mtime_ns:x}-{size:x}"',
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes" if ranges else "none",
        }
        start, stop, code = 0, size, 200
        same_version = request.headers.get("If-Range") in (None, headers["ETag"], headers["Last-Modified"])
        if ranges and same_version and request.method == "GET" and "Range" in request.headers:
            try:
                start, stop, _ = request.http_range.indices(size)
            except ValueError:
                raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"}) from None
            if start >= stop:
                raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
            code = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        response = web.StreamResponse(status=code, headers={**headers, "Content-Length": str(stop - start)})
        await response.prepare(request)
        if request.method == "GET":
            last = min(stop, start + HANG_UP_AFTER) if hangs_up else stop
            with suppress(ConnectionResetError):  # a client may leave when it likes
                await self._send_body(response, path, start, last)
            if last < stop and request.transport is not None:
                request.transport.close()
        return response

    async def _send_body(self, response: web.StreamResponse, path: Path, start: int, stop: int) -> None:
        began = time.monotonic()
        with path.open("rb") as file:
            file.seek(start)
            for position in range(start, stop, WRITE):
                await response.write(file.read(min(WRITE, stop - position)))
                ahead = (position - start) / self._rate - (time.monotonic() - began)
                if ahead > 0:
                    await asyncio.sleep(ahead)


def _page(title: str, body: str) -> web.Response:
    text = f'<!doctype html><meta charset="utf-8"><title>{title}</title><h1 data-version="1">{title}</h1>{body}'
    return web.Response(text=text, content_type="text/html")


def _listen(preferred: Path) -> socket.socket:
    """Listen on the port of the last run if it is free: a file is known by its URL, so an interrupted run goes on."""
    last = preferred.read_text() if preferred.exists() else ""
    for port in [int(last), 0] if last.isdigit() else [0]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        preferred.write_text(str(listener.getsockname()[1]))
        return listener
    raise SystemExit("no free port on 127.0.0.1")


def _end_with_stdin() -> None:
    """End with whoever holds the other end of standard input, even if that one is killed."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Generate the files, then serve them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="shrink every file by this factor")
    parser.add_argument("--rate", type=float, default=RATE, help="bytes a second that one connection gets")
    arguments = parser.parse_args()
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    make_files(arguments.folder, arguments.scale)
    listener = _listen(arguments.folder / "port")
    host, port = listener.getsockname()
    print(f"http://{host}:{port}/", flush=True)
    web.run_app(Site(arguments.folder, arguments.rate).app, sock=listener, print=None, access_log=None)


if __name__ == "__main__":
    main()
