"""The page of a real project in a real browser: its server, a process at work, and what is read off the page."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chromium  # noqa: F401  skips where there is no playwright
from patience import HANG
from playwright.sync_api import Locator, Page, expect
from project import SPIDER, Project
from servers import Server, any_binary, free_port, wait_for_port

WAITING, FAILED, DEAD, LEASES = "files:items", "{files:items}:failed", "{files:items}:dead", "{files:items}:leases"

expect.set_options(timeout=HANG * 1000)

OpenPage = Callable[..., Page]


class Dashboard:
    """``scrapy chunkdl dashboard`` of a project, on a port of its own. It can be killed and started again."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Dashboard:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = self._project.begin("chunkdl", "dashboard", "--port", str(self.port))
        try:
            wait_for_port(self.port, self._process)
        except AssertionError as error:
            self._process.kill()
            raise AssertionError(f"{error}: {self._process.communicate()[0]}") from None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


@dataclass
class Site:
    """A Redis of its own, the page, and one process at work."""

    server: Server
    project: Project
    dashboard: Dashboard
    process: subprocess.Popen[str]


@contextmanager
def site(folder: Path, *words: str, items: Sequence[Any] = (), spider: str = SPIDER, **settings: Any) -> Iterator[Site]:
    """Start it; the process is ``scrapy`` with these words, and is stopped at the end if it still runs."""
    settings = {
        "CHUNKDL_SHUTDOWN_GRACE": 0.0,
        "CHUNKDL_RETRY_TIMES": 0,
        "CHUNKDL_THREADS": 1,
        "CHUNKDL_STALL_TIMEOUT": HANG,
        **settings,
    }
    with Server(any_binary()) as server:
        project = Project(folder, {"REDIS_URL": server.url, **settings}, [*items], spider)
        process = project.begin(*words)
        try:
            with Dashboard(project) as dashboard:
                yield Site(server, project, dashboard, process)
        finally:
            process.send_signal(signal.SIGTERM)
            project.finish(process)


def cell(page: Page, table: str, head: str, row: int = 0) -> Locator:
    """Return the cell of a table's row below that head."""
    return page.locator(f"#{table}-table tbody tr").nth(row).locator(f"td[data-label='{head}']")


def record(n: int, **fields: Any) -> bytes:
    """Return a record as fail.lua writes it, whose item is ``{"n": n}``."""
    told = {"url": f"http://h/{n}", "filename": f"{n}.bin", "reason": "http_404", "message": "404 Not Found"}
    told |= {"time": "2026-01-01T00:00:00+00:00", "status": 404, "attempts": 1, "bytes_done": 0}
    head = json.dumps({**told, "delivery": f"d:{n}", **fields})
    return f'{head[:-1]}, "item": {{"n": {n}}}}}'.encode()


def stored(site: Site, name: str) -> list[bytes]:
    """Return what finished files of that name hold."""
    return [data for path, data in site.project.files().items() if Path(path).name == name]
