"""Makes docs/dashboard-*.png, the pictures in docs/dashboard.md: looks at a real run, in a real browser.

``python docs/dashboard_pictures.py [--minutes N] [--into FOLDER]``. A local site serves files of 20 to 90 MB, slowly
and not always well, and a second one bans; three workers fetch them, and one of them is killed. Takes what the extras
``test`` and ``dashboard`` bring, and Chromium. Machines and hosts have made-up names; no picture has more than 300 kB.
"""

from __future__ import annotations

import argparse
import io
import json
import os
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
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, Page  # noqa: E402
from project import Project, attachment, item  # noqa: E402
from servers import Server, any_binary, free_port, wait_for_port  # noqa: E402

from scrapy_chunkdl.queue.totals import Totals  # noqa: E402

FILES = 900
SLOW = "rate:90000@90%;rate:9000"
"""Bytes per second of one response: most come at the first rate, some so slowly that others take over from them."""

PICTURES = (
    (1440, "light", "en-US", "spiders"),
    (1440, "dark", "en-US", "files"),
    (360, "light", "en-US", "spiders"),
    (360, "dark", "en-US", "files"),
)
"""Width, theme, language, and the section that is at the top: those of the page."""

OTHERS = tuple(
    (width, theme, language, section)
    for width in (1440, 360)
    for theme, language in (("light", "en-US"), ("dark", "zh-CN"))
    for section in ("spiders", "detail", "workers", "given-up", "waiting")
)
"""More to look at, with ``--into``: what is ugly is found so, what is cut off, too."""

MOST_BYTES = 300_000
COLOURS = 256

IDLE = {"catalogue": 0, "gazette": 0, "minutes-of-meetings": 0, "press": 2_400, "standards": 310}
"""Other spiders of the project, and how many items of theirs wait while nobody works."""

SPIDERS = """
import scrapy

for name in ["observations", *IDLE]:
    globals()[name.replace("-", "_")] = type(name, (scrapy.Spider,), {"name": name, "__module__": __name__})
"""

MACHINES = """
import os
import socket

socket.gethostname = lambda: os.environ.get("MACHINE", "dashboard")  # all of them run on one machine here
_addresses = socket.getaddrinfo


def _here(host, *words, **named):
    return _addresses("127.0.0.1" if str(host).endswith(".example") else host, *words, **named)


socket.getaddrinfo = _here
"""


def items(origin: Origin, banning: Origin) -> list[dict[str, Any]]:
    """Return items whose files are fetched, and a few that cannot be had, or not yet."""
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
        host = "archive.example" if n % 3 else "data.example"
        size = 300_000 if n % 5 == 0 else 20_000_000 + n * 7_919_317 % 70_000_000
        url = origin.url(f"{year}/{name}", size, host=host)
        origin.set_faults(f"{year}/{name}", "" if n % 5 == 0 else fault)
        if n % 12 == 1:
            url = banning.url(f"{year}/{name}", size, host="closed.example")
        page = f"https://archive.example/{year}/{n:04}"
        title = f"Observations of {year}, part {n % 12 + 1}"
        made.append({**item(), "data": [{"title": title, "page": page, "attachments": [attachment(url, name)]}]})
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
    options.add_argument("--into", type=Path, help="take pictures of all sections, in both languages, into this folder")
    chosen = options.parse_args()
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        origin, banning = closing.enter_context(Origin()), closing.enter_context(Origin())
        banning.ban("status:503")
        redis = closing.enter_context(Server(any_binary()))
        project = Project(folder, settings(redis.url), spider=f"IDLE = {[*IDLE]!r}\n" + SPIDERS)
        project.write()
        (folder / "probe" / "__init__.py").write_text(MACHINES)
        with redis.client() as client:
            client.rpush("observations:items", *map(json.dumps, items(origin, banning)))
            for name, number in IDLE.items():
                if number:
                    client.rpush(f"{name}:items", *(json.dumps({"title": f"{name} {n}"}) for n in range(number)))
            _remember(client)
        workers = [_start(closing, folder, f"worker-{n}", "worker", "observations") for n in (1, 2, 3)]
        port = free_port()
        page = _start(closing, folder, "dashboard", "dashboard", "--port", str(port))
        wait_for_port(port, page)
        time.sleep(60 * chosen.minutes)
        workers[2].kill()
        time.sleep(20)  # after 15 s it counts as silent
        browser = closing.enter_context(chromium())
        url = f"http://127.0.0.1:{port}/?spider=observations"
        for width, theme, language, section in PICTURES:
            name = f"dashboard-{'phone' if width < 600 else 'wide'}-{theme}.png"
            _take(browser, url, width, theme, language, section, ROOT / "docs" / name)
        for width, theme, language, section in OTHERS if chosen.into else ():
            _take(
                browser, url, width, theme, language, section, chosen.into / f"{width}-{theme}-{language}-{section}.png"
            )


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


def _remember(client: Any) -> None:
    """Have the spider be at it for a week."""
    totals, today = Totals(client, "observations:items", "before"), int(time.time()) // 86400
    for day in range(today - 6, today):
        counts = {f"{hour:02}{letter}": 40 + 7 * hour % 13 for hour in range(24) for letter in "id"}
        sizes = {f"{hour:02}b": 2_000_000_000 + 300_000_000 * (hour * day % 7) for hour in range(24)}
        client.hset(totals.history_key(day), mapping=counts | sizes)


def _take(browser: Browser, url: str, width: int, theme: str, language: str, section: str, path: Path) -> None:
    phone = width < 600
    context = browser.new_context(
        viewport={"width": width, "height": 760 if phone else 1100},
        color_scheme="dark" if theme == "dark" else "light",
        locale=language,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    for table in ("given-up", "files"):
        page.locator(f"#{table}-table tbody tr").first.wait_for(state="attached")
    if section == "waiting":
        page.locator("#waiting summary").click()
    page.wait_for_timeout(5000)  # until it has asked twice
    page.evaluate("(id) => document.getElementById(id).scrollIntoView()", section)
    page.wait_for_timeout(500)  # until maps that were out of sight are drawn
    _save(page, path)
    context.close()


def _save(page: Page, path: Path) -> None:
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path.name} has {path.stat().st_size} bytes, more than {MOST_BYTES}.")


if __name__ == "__main__":
    main()
