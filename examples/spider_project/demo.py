"""The demo: starts the local site, crawls it with ``scrapy crawl reports``, and checks every file against its list.

Exit status 0 only if every file is there and right. Ctrl-C stops the crawl gracefully; started again, it goes on where
it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis

from scrapy_chunkdl.queue import embedded

HERE = Path(__file__).resolve().parent
SITE_FOLDER = HERE / ".cache" / "site"
INTERRUPTED = HERE / ".cache" / "interrupted"
STORE = HERE / "downloads"
ITEMS = HERE / "items.jsonl"


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="shrink every file of the site by this factor")
    parser.add_argument("--rate", type=float, default=2e6, help="bytes a second that one connection gets")
    parser.add_argument("--spoil", help="damage the file of this name after the download, to see the check notice")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = embedded.EmbeddedServer(HERE / ".scrapy" / "chunkdl-redis")
    try:
        server.start()
    except embedded.EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        with _site(arguments.scale, arguments.rate) as address:
            resumed = _prepare(server.url, address)
            began = time.monotonic()
            status, interrupts = _crawl()
            if interrupts:
                return _interrupted(address, gracefully=interrupts == 1)
            if arguments.spoil:
                with next(STORE.rglob(arguments.spoil)).open("ab") as file:
                    file.write(b"!")
            return _report(time.monotonic() - began, resumed) or status
    finally:
        server.stop()


@contextmanager
def _site(scale: float, rate: float) -> Iterator[str]:
    """Start the local site and yield its address; end it whatever happens."""
    print("Starting the local site. The first time its sample files are made, about 470 MB.", flush=True)
    command = [sys.executable, HERE / "site_server.py", SITE_FOLDER, "--scale", str(scale), "--rate", str(rate)]
    # A session of its own: Ctrl-C at the terminal is for the demo, which the crawl still needs the site for.
    site = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )
    try:
        assert site.stdout is not None
        address = site.stdout.readline().strip()
        if not address:
            raise SystemExit("The local site did not start.")
        yield address
    finally:
        site.kill()
        site.communicate()


def _prepare(redis_url: str, address: str) -> bool:
    """Put the start URL where RedisSpider looks for it, all else cleared. True if files of an interrupted run stay."""
    if INTERRUPTED.exists() and INTERRUPTED.read_text() == address:
        INTERRUPTED.unlink()
        print("Going on where the interrupted run was.", flush=True)
        return True
    INTERRUPTED.unlink(missing_ok=True)
    ITEMS.unlink(missing_ok=True)
    if STORE.exists() and not any(STORE.rglob("*.part")):
        shutil.rmtree(STORE)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for key in client.scan_iter("*reports:*"):
            client.delete(key)
        client.rpush("reports:start_urls", json.dumps({"url": address}))
    return STORE.exists()


def _crawl() -> tuple[int, int]:
    """Run the crawl; return its exit status and how often it was interrupted."""
    print("scrapy crawl reports", flush=True)
    crawl = subprocess.Popen(
        [sys.executable, "-m", "scrapy", "crawl", "reports"],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        start_new_session=True,
    )
    interrupts = 0
    while True:
        try:
            return crawl.wait(), interrupts
        except KeyboardInterrupt:
            interrupts += 1
            if interrupts == 1:
                print("\nStopping. Running files get CHUNKDL_SHUTDOWN_GRACE to finish.", file=sys.stderr, flush=True)
            crawl.terminate()  # the first time it stops gracefully, the second at once


def _interrupted(address: str, *, gracefully: bool) -> int:
    """Say what comes next. After an unclean stop items.jsonl may lack lines: the crawl starts over, files go on."""
    if gracefully:
        INTERRUPTED.write_text(address)
    print("\nInterrupted. Run it again: it goes on where it was.", file=sys.stderr)
    return 130


def _report(elapsed: float, resumed: bool) -> int:
    """Print the table; return 0 if every file of the site's list is there and right."""
    lines = (SITE_FOLDER / "sha256sums.txt").read_text("utf-8").splitlines()
    missing = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    print(f"\n{'file':<34} {'size':>10} {'MB/s':>10} {'retries':>7}  sha256")
    total, retries = 0, 0
    for attachment in _attachments():
        name = unquote(urlsplit(attachment["ori_url"]).path).lstrip("/")
        outcome: dict[str, Any] = attachment["download"]
        path, size, seconds = attachment["path"], outcome["size"] or 0, outcome["elapsed"]
        total, retries = total + size, retries + (outcome["retries"] or 0)
        right = bool(path) and Path(path).exists() and _sha256(Path(path)) == missing.get(name)
        if right:
            del missing[name]
        rate = f"{size / seconds / 1e6:.2f}" if seconds and outcome["status"] == "downloaded" else outcome["status"]
        verdict = "right" if right else f"WRONG {outcome['error'] or ''}"
        print(f"{_padded(name, 34)} {_amount(size):>10} {rate:>10} {_count(outcome['retries']):>7}  {verdict}")
    print(f"\n{_amount(total)} and {retries} retries in {elapsed:.1f} s, the crawl's start and end included", end="")
    print(", on top of what the interrupted run had." if resumed else f": {total / elapsed / 1e6:.1f} MB/s.")
    print(f"The items, with the paths filled in: {_shown(ITEMS)}\nThe files: {_shown(STORE)}/")
    if missing:
        print(f"Missing or wrong: {', '.join(sorted(missing))}", file=sys.stderr)
        return 1
    print("Every file is right.")
    return 0


def _attachments() -> list[dict[str, Any]]:
    if not ITEMS.exists():
        return []
    items = [json.loads(line) for line in ITEMS.read_text("utf-8").splitlines()]
    found = [attachment for item in items for part in item["data"] for attachment in part["attachments"]]
    return sorted(found, key=lambda attachment: str(attachment["ori_url"]))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _amount(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _padded(text: str, width: int) -> str:
    """Pad to columns of a terminal, where Chinese characters take two."""
    taken = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return text + " " * max(0, width - taken)


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
