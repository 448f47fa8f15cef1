"""One process, very many items: does it grow? ``python benchmarks/soak.py [--items 400000] [--size 4096]``.

A crawl in queue mode fetches small files from a server on the loopback that answers at once, into memory; a pipeline
behind removes each file, as a disk would be full else. Prints every 20 s the resident memory of the process, its open
descriptors and threads, and how many items are done. It fails when not all items came out, or when memory or
descriptors grew between the end of the first tenth and the last look: by more than 10 MB, or 16 descriptors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis
from bench import projects, servers

EVERY_S = 20.0
MOST_IN_THE_LIST = 20_000
MOST_GROWTH_BYTES = 10 << 20
MOST_GROWTH_DESCRIPTORS = 16

REMOVES = """
from pathlib import Path


class Removes:
    '''Removes the files of an item, and their folders.'''

    def process_item(self, item, spider=None):
        for part in item["data"]:
            for attachment in part["attachments"]:
                path = Path(attachment["path"])
                path.unlink()
                path.parent.rmdir()
        return item
"""


def looked_at(pid: int) -> tuple[int, int, int]:
    """Return the resident bytes, descriptors and threads of a process. Raises OSError once it has ended."""
    process = Path("/proc", str(pid))
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    resident = int(status["VmRSS"].split()[0]) * 1024
    return resident, sum(1 for _ in (process / "fd").iterdir()), int(status["Threads"])


def crawl(folder: Path, base: str, url: str, items: int) -> int:
    """Crawl, and print; return the exit status."""
    settings = projects.settings_of(url, folder / "store")
    settings["ITEM_PIPELINES"]["probe.removes.Removes"] = 300
    projects.write(folder / "project", settings | {"FEEDS": {}, "CHUNKDL_DONE_KEY": "soak:done"}, [])
    (folder / "project" / "probe" / "removes.py").write_text(REMOVES)
    client = redis.Redis.from_url(url, protocol=2)
    pushed = done = 0
    seen: list[tuple[float, int, int]] = []

    def feed() -> None:
        nonlocal pushed, done
        while pushed < items and client.llen(projects.KEY) < MOST_IN_THE_LIST:
            batch = range(pushed, min(pushed + 1000, items))
            client.rpush(projects.KEY, *(json.dumps(projects.item([f"{base}/{n}.bin"])) for n in batch))
            pushed = batch.stop
        count = client.llen("soak:done")
        client.ltrim("soak:done", count, -1)
        done += count

    feed()
    command = [sys.executable, "-m", "scrapy", "crawl", "files"]
    began = told_at = time.monotonic()
    with subprocess.Popen(command, cwd=folder / "project") as process:
        while process.poll() is None:
            time.sleep(0.5)
            feed()
            if time.monotonic() - told_at >= EVERY_S and done < items:  # then it closes what it has
                told_at = time.monotonic()
                _tell(process.pid, began, done, seen)
    feed()
    return _judged(done, items, seen, process.returncode)


def _tell(pid: int, began: float, done: int, seen: list[tuple[float, int, int]]) -> None:
    try:
        resident, descriptors, threads = looked_at(pid)
    except (OSError, KeyError):  # it has just ended
        return
    seen.append((done, resident, descriptors))
    took_s = time.monotonic() - began
    memory = f"{resident / 1e6:7.1f} MB"
    print(f"{took_s:6.0f} s {done:8} items {memory} {descriptors:4} descriptors {threads:3} threads", flush=True)


def _judged(done: int, items: int, seen: list[tuple[float, int, int]], status: int) -> int:
    if status or done != items:
        print(f"{done} items of {items} came out, exit status {status}")
        return 1
    if not seen:
        print(f"too few items to tell: all were done within {EVERY_S:g} s")
        return 0
    warm = next((one for one in seen if one[0] >= items / 10), seen[-1])
    grown = [last - first for first, last in zip(warm[1:], seen[-1][1:], strict=True)]
    print(f"grown since the first tenth: {grown[0] / 1e6:.1f} MB, {grown[1]} descriptors")
    return int(grown[0] > MOST_GROWTH_BYTES or grown[1] > MOST_GROWTH_DESCRIPTORS)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=400_000)
    parser.add_argument("--size", type=int, default=4096, help="bytes of each file")
    options = parser.parse_args()
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="chunkdl-soak-", dir=memory))
    try:
        with servers.distant("--size", str(options.size), "--delay", "0") as base, servers.redis_server(folder) as url:
            sys.exit(crawl(folder, base, url, options.items))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
