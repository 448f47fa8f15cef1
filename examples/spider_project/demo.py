"""The demo: starts the local site, crawls it with ``scrapy crawl reports``, and checks every file against its list.

Exit status 0 only if every file is there and right. Interrupted and started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import redis

from scrapy_chunkdl.queue import embedded

HERE = Path(__file__).parent
SITE_FOLDER = HERE / ".cache" / "site"
STORE = HERE / "downloads"
ITEMS = HERE / "items.jsonl"


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="shrink every file by this factor")
    parser.add_argument("--spoil", help="damage this file after the download, to see the check notice")
    arguments = parser.parse_args()

    print("Starting the local site (the first time its sample files are made, about 470 MB) ...", flush=True)
    site = subprocess.Popen(
        [sys.executable, HERE / "site_server.py", SITE_FOLDER, "--scale", str(arguments.scale)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert site.stdout is not None
        address = site.stdout.readline().strip()
        if not address:
            print("The site did not start.", file=sys.stderr)
            return 1
        _clear_finished_run()
        began = time.monotonic()
        status = _crawl(address)
        elapsed = time.monotonic() - began
        if arguments.spoil:
            with next(STORE.rglob(arguments.spoil)).open("ab") as file:
                file.write(b"!")
        return _report(elapsed) or status
    finally:
        site.terminate()
        site.wait()


def _clear_finished_run() -> None:
    """Forget the files of a run that ended, so that there is something to see; keep those of an interrupted one."""
    ITEMS.unlink(missing_ok=True)
    if STORE.exists() and not any(STORE.rglob("*.part")):
        shutil.rmtree(STORE)


def _crawl(address: str) -> int:
    """Put the start URL where a RedisSpider looks for it, and run the crawl."""
    server = embedded.start(HERE / ".scrapy" / "chunkdl-redis")
    try:
        with redis.Redis.from_url(server.url, protocol=2) as client:
            client.delete("reports:dupefilter", "reports:start_urls")
            client.rpush("reports:start_urls", json.dumps({"url": address}))
        print(f"scrapy crawl reports   (the site is at {address})", flush=True)
        command = [sys.executable, "-m", "scrapy", "crawl", "reports"]
        return subprocess.run(command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}, check=False).returncode
    finally:
        server.close()


def _report(elapsed: float) -> int:
    """Print the table; return 0 if every file of the site's list is there and right."""
    expected = dict(
        reversed(line.split("  ", 1)) for line in (SITE_FOLDER / "sha256sums.txt").read_text("utf-8").splitlines()
    )
    print(f"\n{'file':<34} {'size':>10} {'MB/s':>7} {'retries':>7}  sha256")
    total = 0
    for attachment in _attachments():
        name = unquote(urlsplit(attachment["ori_url"]).path).lstrip("/")
        outcome = attachment["download"]
        size, seconds = outcome["size"] or 0, outcome["elapsed"] or 0
        total += size
        right = bool(attachment["path"]) and _sha256(Path(attachment["path"])) == expected.get(name)
        if right:
            del expected[name]
        rate = f"{size / seconds / 1e6:.1f}" if seconds and outcome["status"] == "downloaded" else outcome["status"]
        verdict = "right" if right else f"WRONG {outcome['error'] or ''}"
        print(f"{_padded(name, 34)} {_amount(size):>10} {rate:>7} {outcome['retries']:>7}  {verdict}")
    print(
        f"\n{_amount(total)} in {elapsed:.1f} s, {total / elapsed / 1e6:.1f} MB/s, the crawl's start and end included."
    )
    print(f"The items, with the paths filled in: {_shown(ITEMS)}\nThe files: {_shown(STORE)}/")
    if expected:
        print(f"Missing or wrong: {', '.join(sorted(expected))}", file=sys.stderr)
        return 1
    print("Every file is right.")
    return 0


def _attachments() -> list[dict]:
    if not ITEMS.exists():
        return []
    items = [json.loads(line) for line in ITEMS.read_text("utf-8").splitlines()]
    found = [attachment for item in items for part in item["data"] for attachment in part["attachments"]]
    return sorted(found, key=lambda attachment: attachment["ori_url"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _amount(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


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
        sys.exit("Interrupted. Run it again: it goes on where it was.")
