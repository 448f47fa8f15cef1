"""Makes docs/dashboard-*.png, the pictures in docs/dashboard.md: looks at a real run, in a real browser.

``python docs/dashboard_pictures.py [--minutes N]``. A local site serves files of 20 to 90 MB, slowly and not always
well; three workers fetch them, and one of them is killed. Takes what the extras ``test`` and ``dashboard`` bring,
Chromium, and pngquant if it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from chromium import chromium  # noqa: E402
from origin import Origin  # noqa: E402
from playwright.sync_api import Browser, Page  # noqa: E402
from project import Project, attachment, item  # noqa: E402
from servers import Server, any_binary, free_port, wait_for_port  # noqa: E402

FILES = 900
SLOW = "rate:90000@90%;rate:9000"
"""Bytes per second of one response: most come at the first rate, some so slowly that others take over from them."""

PICTURES = (
    (1280, "light", "spiders"),
    (1280, "dark", "files"),
    (360, "light", "spiders"),
    (360, "dark", "files"),
)
"""Width, theme, and the section that is at the top."""

MACHINES = """
import os
import socket

socket.gethostname = lambda: os.environ.get("MACHINE", "dashboard")  # all of them run on one machine here
"""


def items(origin: Origin) -> list[dict[str, Any]]:
    """Return items whose files are fetched, and a few that cannot be had."""
    made = []
    for n in range(FILES):
        year, name = 1990 + n % 36, f"observations-{n:04}.nc"
        fault = SLOW
        if n % 40 == 3:
            fault, name = "status:404", f"withdrawn-{n:04}.pdf"
        elif n % 40 == 17:
            fault, name = "status:403", f"members-only-{n:04}.zip"
        elif n % 40 == 29:
            fault += ";cut:200000@30%"
        host = "localhost" if n % 3 else "127.0.0.1"
        url = origin.url(f"archive/{year}/{name}", 20_000_000 + n * 7_919_317 % 70_000_000, fault, host=host)
        made.append(item(attachment(url, name)))
    return made


def settings(redis_url: str) -> dict[str, Any]:
    """Return the project's: few files at once, each over many connections."""
    return {
        "REDIS_URL": redis_url,
        "CHUNKDL_BATCH_SIZE": 8,
        "CHUNKDL_THREADS": 1,
        "CHUNKDL_CONCURRENT_FILES": 6,
        "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": 30,
        "CHUNKDL_RETRY_TIMES": 3,
        "CHUNKDL_SHUTDOWN_GRACE": 0.0,
    }


def main() -> None:
    """Run all of it; leave the pictures, and nothing else."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=4.0, help="how long it runs before the pictures are taken")
    minutes = options.parse_args().minutes
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        origin = closing.enter_context(Origin())
        redis = closing.enter_context(Server(any_binary()))
        project = Project(folder, settings(redis.url))
        project.write()
        (folder / "probe" / "__init__.py").write_text(MACHINES)
        with redis.client() as client:
            client.rpush("files:items", *map(json.dumps, items(origin)))
        workers = [_start(closing, folder, f"worker-{n}", "worker", "files") for n in (1, 2, 3)]
        port = free_port()
        page = _start(closing, folder, "dashboard", "dashboard", "--port", str(port))
        wait_for_port(port, page)
        time.sleep(60 * minutes)
        workers[2].kill()
        time.sleep(20)  # after 15 s it counts as silent
        browser = closing.enter_context(chromium())
        for width, theme, section in PICTURES:
            _take(browser, f"http://127.0.0.1:{port}/", width, theme, section)


def _start(closing: ExitStack, folder: Path, machine: str, *words: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "scrapy", "chunkdl", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "MACHINE": machine},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()

    closing.callback(end)
    return process


def _take(browser: Browser, url: str, width: int, theme: str, section: str) -> None:
    phone = width < 600
    context = browser.new_context(
        viewport={"width": width, "height": 760 if phone else 1100},
        color_scheme="dark" if theme == "dark" else "light",
        locale="en-US",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    for table in ("given-up", "files"):
        page.locator(f"#{table}-table tbody tr").first.wait_for(state="attached")
    page.wait_for_timeout(5000)  # until events have come twice
    page.evaluate("(id) => document.getElementById(id).scrollIntoView()", section)
    page.wait_for_timeout(500)  # until maps that were out of sight are drawn
    _save(page, ROOT / "docs" / f"dashboard-{'phone' if phone else 'wide'}-{theme}.png")
    context.close()


def _save(page: Page, path: Path) -> None:
    page.screenshot(path=path)
    smaller = shutil.which("pngquant")
    if smaller:
        subprocess.run([smaller, "--force", "--skip-if-larger", "--output", str(path), "64", str(path)], check=False)


if __name__ == "__main__":
    main()
