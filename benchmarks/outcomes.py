"""What becomes of a file when the server misbehaves: this downloader, aria2c and curl side by side.

Each tool fetches from the tests' own origin, one behaviour at a time, with like settings: four connections where it has
them, a few retries, 2 s without a byte count as a stall. Prints a table; a tool that is not installed is left out.
Exits 1 if this downloader had wrong bytes, hung, or failed where a file was to be had.

    python benchmarks/outcomes.py [--only TEXT] [--tools chunkdl,aria2c,curl] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from origin import Origin
from origin_content import expected_sha256

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, Limits, Options

SIZE = 6 * (1 << 20) + 123
HANG = 45.0
STALL = 2
TRIES = 4

RIGHT, FAILED, PARTIAL, WRONG, HUNG = "right file", "failed", "failed, part left", "WRONG BYTES", "HANGS"


@dataclass(frozen=True)
class Behaviour:
    """One way of a server. ``wants_file`` is False where there is no right file to be had; ``either``: both will do."""

    title: str
    faults: str = ""
    size: int = SIZE
    wants_file: bool = True
    either: bool = False
    lead: Callable[[Origin, str], str] = lambda _origin, url: url

    def is_good(self, outcome: str) -> bool:
        if outcome == RIGHT:
            return self.wants_file or self.either
        return outcome in (FAILED, PARTIAL) and (not self.wants_file or self.either)


def _redirect(**options: object) -> Callable[[Origin, str], str]:
    return lambda origin, url: origin.redirect("r", url, **options)  # type: ignore[arg-type]


def _redirected_head(origin: Origin, _url: str) -> str:
    login = origin.url("login", 2868, "header:Content-Type=text/html")
    return origin.url("file", SIZE, f"lead:{quote(login, safe='')}@head")


def _signed(*, uses: int) -> Callable[[Origin, str], str]:
    return lambda origin, url: origin.signed("s", url, uses=uses)


BEHAVIOURS = [
    Behaviour("nothing special"),
    Behaviour("HEAD refused with 403", "status:403@head"),
    Behaviour("HEAD refused with 405", "status:405@head"),
    Behaviour("HEAD refused with 501", "status:501@head"),
    Behaviour("HEAD never answered", "hang@head"),
    Behaviour("HEAD without a length", "length:none@head"),
    Behaviour("HEAD says a length too small", "length:-100000@head"),
    Behaviour("HEAD says a length too large", "length:+100000@head"),
    Behaviour("HEAD says zero", "length:0@head"),
    Behaviour("ranges not supported", "ranges:none"),
    Behaviour("ranges announced, never honoured", "ranges:ignored"),
    Behaviour("ranges ignored now and then", "ranges:ignored@range@3-4"),
    Behaviour("206 shifted, now and then", "ranges:shift:1000@range@2-3"),
    Behaviour("206 shorter than asked", "ranges:shorter:1000@range@3"),
    Behaviour("206 starting earlier", "ranges:earlier:1000@range@3"),
    Behaviour("206 as multipart/byteranges", "ranges:multipart@range@3"),
    Behaviour("206 without Content-Range", "ranges:unlabelled@range@3"),
    Behaviour("416 without cause", "ranges:416@range@2"),
    Behaviour("Content-Range total unknown", "ranges:total:*"),
    Behaviour("Content-Range total disagrees once", "ranges:total:+1000@range@2-2", either=True),
    Behaviour("chunked, no length", "framing:chunked;ranges:none"),
    Behaviour("delimited by close", "framing:close;ranges:none"),
    Behaviour("chunked, cut short", "framing:chunked;ranges:none;cut:0.5@get", wants_file=False),
    Behaviour("empty file", size=0),
    Behaviour("one byte", size=1),
    Behaviour("exact multiple of 1 MiB", size=4 << 20),
    Behaviour("bodies cut short", "cut:0.4@get@3"),
    Behaviour("bodies reset", "rst:0.4@get@3"),
    Behaviour("stall before the body", "stall:0@get@2"),
    Behaviour("stall within the body", "stall:100000@get@2"),
    Behaviour("500 a few times", "status:500@get@3"),
    Behaviour("503 a few times", "status:503@get@3"),
    Behaviour("429 with Retry-After in seconds", "status:429:1@get@2"),
    Behaviour("429 with Retry-After as a date", "status:429:date+1@get@2"),
    Behaviour("408 a few times", "status:408@get@3"),
    Behaviour("404", "status:404", wants_file=False),
    Behaviour("one part of the file always 404", "status:404@over=5000000", wants_file=False),
    Behaviour("file changes during the download", "change@4-;cut:500000@range@2"),
    Behaviour("file changes, ETag only", "change@4-;date:none;cut:500000@range@2"),
    Behaviour("file changes, date only", "change@4-;etag:none;cut:500000@range@2"),
    Behaviour("file changes, no validators", "change@4-;etag:none;date:none"),
    Behaviour("weak ETag", "etag:weak"),
    Behaviour("each backend its own ETag", "etag:backend:3"),
    Behaviour("If-Range honoured only with a date", "ifrange:date"),
    Behaviour("gzip forced on everything", "encode:gzip"),
    Behaviour("gzip forced, no ranges", "encode:gzip;ranges:none"),
    Behaviour("gzip forced on 206 only", "encode:gzip@range", either=True),
    Behaviour("Content-Encoding unknown", "encode:br", wants_file=False),
    Behaviour("redirect chain", lead=_redirect(hops=4)),
    Behaviour("redirect loop", wants_file=False, lead=lambda origin, _url: origin.redirect("loop", None)),
    Behaviour("cookie set on a redirect", "cookie:a=b", lead=_redirect(cookie="a=b")),
    Behaviour("signed URL expires midway", "cut:600000@get@4", lead=_signed(uses=6)),
    Behaviour("ranges refused with 403", "status:403@range"),
    Behaviour("ranges refused with 404", "status:404@range"),
    Behaviour("ranges refused with 500", "status:500@range"),
    Behaviour("ranges refused with 501", "status:501@range"),
    Behaviour("416 to every range", "ranges:416"),
    Behaviour("later ranges reset", "rst:0@range@2-4"),
    Behaviour("HEAD hangs, GET is late", "hang@head;delay:0.2@get"),
    Behaviour("no validators, a body is cut", "etag:none;date:none;cut:0.5@range@2"),
    Behaviour("connections reset now and then", "reset@get@2-2;reset@get@4-4"),
    Behaviour("HEAD leads to a login page", lead=_redirected_head),
    Behaviour("login page now and then", "page:2868@get@1"),
    Behaviour("login page each time", "page:2868@get", wants_file=False),
    Behaviour("nothing now and then, under 200", "void@get@1"),
    Behaviour("ETag and date stay, the file changes", "etag:fixed;date:fixed;change@get@3-;cut:0.4@get@1-4"),
    Behaviour("ETag stays, the file changes", "etag:fixed;change@get@3-;cut:0.4@get@1-4"),
    Behaviour("a part under 200", "ranges:as200"),
    Behaviour("206 with all of the file", "ranges:whole"),
    Behaviour("connection reset in a body without length", "framing:close;ranges:none;rst:0.5@get@1"),
    Behaviour("signed link good for one request", lead=_signed(uses=1)),
    Behaviour("more than two requests at once refused", "crowd:2:429"),
    Behaviour("Repr-Digest of other bytes", "digest:repr:wrong", either=True),
    Behaviour("overwritten in place, Repr-Digest told", "splice:3000000@get@4;digest:repr"),
]


def _chunkdl(url: str, folder: Path) -> int | None:
    async def fetch() -> int | None:
        options = Options(
            chunks_per_file=4, retry_times=TRIES, connect_timeout=STALL, stall_timeout=STALL, backoff_base=0.05
        )
        async with Downloader(options, Limits(options)) as downloader:
            try:
                await asyncio.wait_for(downloader.fetch(FileRequest(url, folder, "out")), HANG)
            except DownloadError:
                return 1
            except asyncio.TimeoutError:
                return None
        return 0

    return asyncio.run(fetch())


def _aria2c(url: str, folder: Path) -> int | None:
    options = f"--no-conf -q -x4 -s4 -k1M -m{TRIES} -t{STALL} --connect-timeout={STALL} --retry-wait=1"
    return _run(["aria2c", *options.split(), "--file-allocation=none", "-d", str(folder), "-o", "out", url])


def _curl(url: str, folder: Path) -> int | None:
    options = f"-sSfL --retry {TRIES} --retry-all-errors --retry-delay 1 --connect-timeout {STALL} -y {STALL} -Y 1"
    return _run(["curl", *options.split(), "-b", "", "-o", str(folder / "out"), url])


def _run(command: list[str]) -> int | None:
    try:
        return subprocess.run(command, timeout=HANG, capture_output=True).returncode
    except subprocess.TimeoutExpired:
        return None


TOOLS: dict[str, Callable[[str, Path], int | None]] = {"chunkdl": _chunkdl, "aria2c": _aria2c, "curl": _curl}


def outcome_of(behaviour: Behaviour, tool: str, origin: Origin) -> str:
    """Let a tool meet a behaviour, in a folder of its own."""
    origin.reset()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = behaviour.lead(origin, origin.url("file", behaviour.size, behaviour.faults))
        status = TOOLS[tool](url, folder)
        out = folder / "out"
        if status is None:
            return HUNG
        # aria2 marks an unfinished file by its control file; curl leaves the part under the final name.
        if status != 0 or (folder / "out.aria2").exists():
            return PARTIAL if out.exists() and not (folder / "out.aria2").exists() else FAILED
        versions = {expected_sha256("file", behaviour.size, version) for version in (1, 2)}
        found = hashlib.sha256(out.read_bytes() if out.exists() else b"").hexdigest()
        return RIGHT if found in versions else WRONG


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="behaviours whose title has this text")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    asked = arguments.tools.split(",")
    tools = [tool for tool in asked if tool == "chunkdl" or shutil.which(tool)]
    for tool in sorted(set(asked) - set(tools)):
        print(f"{tool} is not installed: left out", file=sys.stderr)
    behaviours = [behaviour for behaviour in BEHAVIOURS if arguments.only in behaviour.title]
    rows: dict[str, dict[str, str]] = {}
    print(f"{'behaviour':<42}" + "".join(f"{tool:<20}" for tool in tools))
    with Origin() as origin:
        for behaviour in behaviours:
            row = rows[behaviour.title] = {tool: outcome_of(behaviour, tool, origin) for tool in tools}
            marks = {tool: ("" if behaviour.is_good(found) else " !") for tool, found in row.items()}
            print(f"{behaviour.title:<42}" + "".join(f"{row[tool] + marks[tool]:<20}" for tool in tools), flush=True)
    good = {tool: sum(b.is_good(rows[b.title][tool]) for b in behaviours) for tool in tools}
    wrong = {tool: sum(rows[b.title][tool] == WRONG for b in behaviours) for tool in tools}
    print(f"{f'as it should be, of {len(behaviours)}':<42}" + "".join(f"{good[tool]:<20}" for tool in tools))
    print(f"{'wrong bytes under the final name':<42}" + "".join(f"{wrong[tool]:<20}" for tool in tools))
    if arguments.json:
        arguments.json.write_text(json.dumps({"outcomes": rows, "good": good, "wrong": wrong}, indent=1) + "\n")
    return int("chunkdl" in tools and good["chunkdl"] < len(behaviours))


if __name__ == "__main__":
    sys.exit(main())
