"""What a host that bans costs the others: so many of its items among those of others, beside the others alone.

``python benchmarks/ill_hosts.py [--banned N] [--others N] [--pairs N]``: real crawls of one process on a Redis, from
two origins of the tests, one of which serves a few files and then answers 503 to all. Timed is how long it takes until
all of the others are done, the start of the process left out. With it goes the CPU time of the crawl and of Redis
meanwhile, which tells more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from origin import Origin
from project import Project, attachment, item
from servers import Server, any_binary

SIZE = 20_000
SERVED = 20
LIST, DONE, FAILED, DEAD = "files:items", "done", "{files:items}:failed", "{files:items}:dead"


def cpu_s(process_id: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(folder: Path, others: int, banned: int) -> tuple[float, float, int, int, int]:
    """Return seconds, those of CPU, requests to the host that bans, files given up, and items that wait for it."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(any_binary()))
        client = stack.enter_context(server.client())
        good, bad = stack.enter_context(Origin()), stack.enter_context(Origin())
        bad.ban("status:503", after=SERVED)
        settings = {"REDIS_URL": server.url, "CHUNKDL_DONE_KEY": DONE, "LOG_LEVEL": "WARNING"}
        project = Project(folder, settings)
        every = banned // others if others else 0
        waiting = []
        for number in range(others):
            waiting += [item(attachment(bad.url(f"b{number}.{n}.bin", SIZE)), n="b") for n in range(every)]
            waiting.append(item(attachment(good.url(f"o{number}.bin", SIZE)), n="o"))
        for start in range(0, len(waiting), 1000):
            client.rpush(LIST, *map(json.dumps, waiting[start : start + 1000]))
        process = project.start()
        began: float | None = None
        redis_id, used = client.info("server")["process_id"], 0.0
        done = seen = 0
        while done < others:
            time.sleep(0.02)
            if began is None and good.requests + bad.requests:
                began = time.monotonic()
                used = -cpu_s(process.pid) - cpu_s(redis_id)
            for raw in client.lrange(DONE, seen, -1):
                seen += 1
                done += json.loads(raw)["n"] == "o"
        took = time.monotonic() - (began or 0.0)
        used += cpu_s(process.pid) + cpu_s(redis_id)
        asked, failed, parked = bad.requests, client.llen(FAILED), client.zcard("{files:items}:parked")
        failed += client.llen(DEAD)
        process.kill()
        process.communicate()
    return took, used, max(0, asked - SERVED), failed, parked


def main() -> None:
    """Print the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banned", type=int, default=10_000)
    parser.add_argument("--others", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    alone, among = [], []
    with tempfile.TemporaryDirectory(prefix="chunkdl-") as folder:
        for pair in range(options.pairs):
            for banned in (0, options.banned) if pair % 2 else (options.banned, 0):
                took, used, asked, failed, parked = run(Path(folder) / f"{pair}-{banned}", options.others, banned)
                (among if banned else alone).append((took, used))
                told = f", {asked} requests in vain, {failed} given up, {parked} wait" if banned else ""
                print(
                    f"{options.others} items, {banned} of the host that bans: {took:.1f} s, {used:.1f} s of CPU{told}",
                    flush=True,
                )
    for what, at in (("as long", 0), ("as much CPU", 1)):
        ratio = statistics.median(one[at] for one in among) / statistics.median(one[at] for one in alone)
        print(f"the others take {ratio:.2f} times {what}")


if __name__ == "__main__":
    main()
