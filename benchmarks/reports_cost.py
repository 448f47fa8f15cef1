"""What reports and metrics cost a process that has 200 slow files running, in CPU: looked at, unlooked at, and without.

Two workers at the same time, each with a Redis of its own: one as it is, the other without reports (it counts, and
tells nobody). First nobody looks; then a page asks every 2 seconds and Prometheus every 15.
CPU of the processes, not time by the clock.
``.venv/bin/python benchmarks/reports_cost.py [--seconds N]``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from origin import Origin  # noqa: E402
from project import Project, attachment, item  # noqa: E402
from served import Dashboard  # noqa: E402
from servers import Server, any_binary, free_port, wait_for_port  # noqa: E402

FILES = 200
WITHOUT = """
from scrapy_chunkdl.queue.heartbeat import Heartbeat

_as_it_is = Heartbeat.__init__


def _without_reports(self, queue, lease, moving, renewed, report, **named):
    _as_it_is(self, queue, lease, moving, renewed, None, **named)


Heartbeat.__init__ = _without_reports
"""


def cpu_s(process: subprocess.Popen[str]) -> float:
    """Return the seconds of CPU that a process has taken so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def worker(folder: Path, origin: Origin, *, reports: bool) -> Iterator[tuple[subprocess.Popen[str], Project]]:
    """Give a worker whose 200 files run, and its project."""
    settings = {
        "CHUNKDL_BATCH_SIZE": FILES // 2,
        "CHUNKDL_THREADS": 1,
        "CHUNKDL_CONCURRENT_FILES": 2 * FILES,  # one host gets three quarters of them
        "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": FILES,
        "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 1,
        "CHUNKDL_SHUTDOWN_GRACE": 0.0,
        "CHUNKDL_MIN_FREE": 0,
        "EXTENSIONS": {},
    }
    with Server(any_binary()) as server, server.client() as client:
        project = Project(folder, {"REDIS_URL": server.url, **settings}, support="" if reports else WITHOUT)
        files = [
            attachment(origin.url(f"{folder.name}-{n}.nc", 8 << 20, "rate:20000:4000"), f"{n}.nc") for n in range(FILES)
        ]
        pairs = zip(files[::2], files[1::2], strict=True)  # a claim takes at most 100 items
        client.rpush("files:items", *(json.dumps(item(*pair)) for pair in pairs))
        process = project.begin("chunkdl", "worker", "files")
        try:
            while process.poll() is None and len(list(folder.rglob("*.part"))) < FILES:
                time.sleep(0.5)
            assert process.poll() is None, process.communicate()[0]
            yield process, project
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def look(page: Dashboard, seconds: float) -> int:
    """Look at the page as a browser and Prometheus do; return the files it told of last."""
    told, scraped_at, end = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        page.get("/api/status")
        told = page.get("/api/spiders/files/details").json["files"]["total"]
        if time.monotonic() - scraped_at >= 15:
            scraped_at = time.monotonic()
            page.get("/metrics")
        time.sleep(2)
    return told


def main() -> None:
    """Measure, and print shares of a core."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=90.0, help="for each half")
    seconds = options.parse_args().seconds
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        origin = closing.enter_context(Origin())
        bare, _ = closing.enter_context(worker(folder / "without", origin, reports=False))
        full, project = closing.enter_context(worker(folder / "with", origin, reports=True))
        port = free_port()
        served = project.begin("chunkdl", "dashboard", "--port", str(port))
        closing.callback(served.communicate)
        closing.callback(served.kill)
        wait_for_port(port, served)
        processes = {"without reports": bare, "with reports": full, "the page's server": served}
        for name in ("nobody looks", "a page and Prometheus look"):
            before = {who: cpu_s(process) for who, process in processes.items()}
            began = time.monotonic()
            found = time.sleep(seconds) if name == "nobody looks" else look(Dashboard(port), seconds)
            elapsed = time.monotonic() - began
            shares = {who: 100 * (cpu_s(process) - before[who]) / elapsed for who, process in processes.items()}
            more = shares["with reports"] - shares["without reports"]
            print(f"{name}: {', '.join(f'{who} {share:.2f} %' for who, share in shares.items())} of a core", end="")
            print(f"; reports cost {more:+.2f} %" + (f", {found} files told of" if found else ""))


if __name__ == "__main__":
    main()
