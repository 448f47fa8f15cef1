"""How long the page keeps a browser from answering a person: CPU of its longest tasks, at the size of real projects.

Headless Chromium, 300 spiders, 60 workers, a million waiting items, 100,000 failed records and 200 running files; each
of the things that a person does is done once it is loaded. CPU time of the renderer's main thread, as Chromium's own
trace tells it, so that a machine that is busy with other work does not count.
``.venv/bin/python benchmarks/page_tasks.py [--width 1440 360] [--parts]``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

from chromium import chromium
from large_queues import fill, large_board
from playwright.sync_api import Browser, Page
from served import served
from servers import Server, any_binary

CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "v8"]
LONG_MS = 50.0
"""What a person notices: https://w3c.github.io/longtasks/."""

ACTIONS: dict[str, str] = {
    "looks twice": "",
    "names a spider": "const one = at('#spiders-text'); one.value = 'spider0'; one.dispatchEvent(new Event('input'))",
    "shows more": "at('#spiders-more').click()",
    "all spiders": "const one = at('#spiders-text'); one.value = ''; one.dispatchEvent(new Event('input'))",
    "another spider": "document.querySelector('#spiders-table a[href*=spider000]').click()",
    "all workers": "at('#workers-all').click()",
    "the last 100": "at('#finished-all').click()",
    "90 days": "const one = at('#history-span'); one.value = '90'; one.dispatchEvent(new Event('change'))",
    "opens what waits": "at('#waiting summary').click()",
    "in Chinese": "const one = at('#language'); one.value = 'zh'; one.dispatchEvent(new Event('change'))",
    "dark": "const one = at('#theme'); one.value = 'dark'; one.dispatchEvent(new Event('change'))",
    "the failed": "document.querySelector('#spiders-table a[href*=spider121]').click()",
    "next page": "at('#given-up-after').click()",
    "by reason": "const one = at('#text-filter'); one.value = '/777'; one.dispatchEvent(new Event('input'))",
}


class Task(NamedTuple):
    """One task of the renderer's main thread. ``parts`` are what it did, the longest first."""

    during: str
    cpu_ms: float
    parts: tuple[tuple[str, float], ...]


def tasks_of(trace: dict[str, Any], during: str) -> Iterator[Task]:
    """Give the tasks of the page's main thread."""
    events = trace["traceEvents"]
    threads = {(one["pid"], one["tid"]): one["args"]["name"] for one in events if one["name"] == "thread_name"}
    mains = {place for place, name in threads.items() if name == "CrRendererMain"}
    timed = [one for one in events if one.get("ph") == "X" and "tdur" in one and (one["pid"], one["tid"]) in mains]
    for task in timed:
        if task["name"] != "RunTask" or task["tdur"] < 5000:
            continue
        inside = [
            one
            for one in timed
            if one is not task
            and (one["pid"], one["tid"]) == (task["pid"], task["tid"])
            and task["ts"] <= one["ts"] <= task["ts"] + task["dur"]
            and one["tdur"] > 2000
            and not one["name"].startswith("ThreadController")
        ]
        parts = sorted(((_told(one), one["tdur"] / 1000) for one in inside), key=lambda part: -part[1])
        yield Task(during, task["tdur"] / 1000, tuple(parts[:8]))


def _told(event: dict[str, Any]) -> str:
    data = event.get("args", {}).get("data") or event.get("args", {}).get("beginData") or {}
    place = f"{str(data.get('url', '')).rpartition('/')[2]}:{data.get('lineNumber', '')}" if "url" in data else ""
    count = event.get("args", {}).get("elementCount", "")
    return " ".join(str(word) for word in (event["name"], data.get("functionName", ""), place, count) if word)


def looked_again(page: Page, times: int = 2) -> None:
    """Return when the page has asked for its numbers so many times more, and drawn them."""
    asked = "performance.getEntriesByName(new URL('api/status', location).href).length"
    page.evaluate("() => performance.clearResourceTimings()")  # it keeps 250
    page.wait_for_function(f"(n) => {asked} > n", arg=times, polling=200)
    page.wait_for_timeout(300)


def measured(browser: Browser, url: str, width: int) -> list[Task]:
    """Do all a person does at one width; return the tasks that took 5 ms or more."""
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="en-US")
    page = context.new_page()
    page.goto(url)
    page.locator("#spiders-table tbody tr").nth(10).wait_for()
    page.locator("#given-up-table tbody tr").nth(10).wait_for(state="attached")
    looked_again(page)
    page.evaluate("() => { window.at = (name) => document.querySelector(name); }")
    found: list[Task] = []
    for name, script in ACTIONS.items():
        browser.start_tracing(page=page, categories=CATEGORIES)
        page.evaluate(f"() => {{ setTimeout(() => {{ {script} }}); }}")
        looked_again(page)
        found += tasks_of(json.loads(browser.stop_tracing()), name)
    context.close()
    return found


def main() -> None:
    """Measure, and print the longest tasks."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--width", type=int, nargs="+", default=[1440, 360])
    options.add_argument("--times", type=int, default=1)
    options.add_argument("--parts", action="store_true", help="tell what the longest tasks did")
    chosen = options.parse_args()
    with Server(any_binary()) as server, chromium() as browser, large_board(server.url) as board, served(board) as page:
        with server.client() as client:
            fill(client)
        for width in chosen.width:
            for _ in range(chosen.times):
                tasks = measured(browser, f"http://127.0.0.1:{page.port}/?spider=spider121", width)
                longest: dict[str, Task] = {}
                for task in tasks:
                    if task.during not in longest or task.cpu_ms > longest[task.during].cpu_ms:
                        longest[task.during] = task
                most = max(task.cpu_ms for task in tasks)
                over = sum(task.cpu_ms > LONG_MS for task in tasks)
                print(f"{width} px: longest {most:.0f} ms of CPU, {over} over {LONG_MS:.0f} ms")
                for name, task in longest.items():
                    print(f"  {task.cpu_ms:5.1f} ms  {name}")
                    if chosen.parts:
                        for part, cpu_ms in task.parts:
                            print(f"             {cpu_ms:5.1f} {part}")


if __name__ == "__main__":
    main()
