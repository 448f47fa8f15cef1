"""What a person sees of a running crawl: bars on a terminal, lines elsewhere, and a summary at the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import IO

import pytest
import redis
from origin import Origin
from patience import HANG
from project import Project, attachment, item
from rich.cells import cell_len

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

CHATTY = """
import asyncio

import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        for item in ITEMS:
            yield item
        for number in range(100):
            self.logger.info("chatter %03d, %s its end", number, "x" * (2 * number))
            await asyncio.sleep(0.01)
"""


class Terminal:
    """A crawl, or a program, that has a terminal of its own for its output; ``stdout`` may go elsewhere."""

    def __init__(
        self, project: Project, *, stdout: IO[str] | None = None, program: str | None = None, columns: int = 100
    ) -> None:
        project.settings["LOG_COLOR"] = False  # Scrapy's own colours, where colorlog is installed
        project.write()
        surroundings = {name: told for name, told in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", program] if program else ["-m", "scrapy", "crawl", "files"])],
            cwd=project.folder,
            env={**surroundings, "PYTHONPATH": str(project.folder), "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
        )
        os.close(theirs)
        self.raw = ""

    @property
    def text(self) -> str:
        """What was printed, without what moves the cursor or changes colours."""
        return ESCAPES.sub("", self.raw)

    def read_until(self, seen: Callable[[str], bool]) -> None:
        """Read until ``seen`` holds of the text; fails where the crawl ends before."""
        while not seen(self.text):
            assert self._read(), f"the crawl ended before:\n{self.text}"

    def read_to_its_end(self) -> None:
        while self._read():
            pass
        os.close(self._ours)
        assert self.process.wait(HANG) == 0, self.text

    def hang_up(self) -> None:
        """Close the terminal, as the end of an ssh connection does; the crawl goes on, as with nohup."""
        os.close(self._ours)

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # how Linux tells that nobody has the other end open
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)


def test_a_terminal_shows_each_file_and_all_of_them_and_is_left_as_it_was(project: Project, origin: Origin) -> None:
    url = origin.url("big", 3_000_000, "hold:gate:1000000@get")
    project.items = [item(attachment(url, "report \x1b[31m.pdf")), item(attachment(origin.url("b", 10), "b.pdf"))]

    terminal = Terminal(project)
    terminal.read_until(lambda text: re.search(r"of 3 MB", text) is not None and "1 files done, 1 to do" in text)
    shown = terminal.raw
    origin.release("gate")
    terminal.read_to_its_end()

    assert "report" in terminal.text
    assert "\x1b[31m.pdf" not in terminal.raw
    assert "items queued" in terminal.text
    assert re.search(r"[\d.]+ [kM]?B/s", terminal.text)
    assert "\x1b[?25l" in shown
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")  # the cursor is back
    assert "Downloads: 2 files done, 0 given up, 3 MB fetched" in terminal.text


NAMED = [
    ("observations-of-the-year-1999-final-version.nc", "Observations of all stations, 1999 to 2026"),
    ("short.nc", "Observations of all stations, 1999 to 2026, with corrections"),
    ("measurements-of-the-year-1999-final-version.nc", "Short"),
    ("\u89c2\u6d4b\u6570\u636e" * 9 + ".nc", "\u4e00\u4efd\u62a5\u544a" * 9),  # each of these takes two columns
]
"""Names of files, and titles of their items."""

ROW = re.compile(
    r"^(\S.*?) \u00b7 (\S.*?) +(?:[\u2501\u2578\u257a]+ +)?\S+ \S?B of 600 kB +\S+ \S?B/s +\d+:\d\d$", re.MULTILINE
)
ALL = re.compile(r"^\d+:\d\d left, 1 files done, 4 to do, ", re.MULTILINE)


@pytest.mark.parametrize("columns", [80, 60])
def test_a_narrow_terminal_has_the_time_that_is_left_each_file_and_its_item_on_whole_lines(
    project: Project, origin: Origin, columns: int
) -> None:
    slow = [attachment(origin.url(f"{n}", 600_000, "rate:100000@get"), name) for n, (name, _) in enumerate(NAMED)]
    project.items = [item(attachment(origin.url("a", 1000)))]
    project.items += [
        {**item(), "data": [{"title": title, "attachments": [file]}]}
        for file, (_, title) in zip(slow, NAMED, strict=True)
    ]

    terminal = Terminal(project, columns=columns)
    terminal.read_to_its_end()

    lines = "\n".join(part.rstrip() for part in re.split(r"[\r\n]+", terminal.text))
    rows = [[told.removesuffix("\u2026") for told in found] for found in ROW.findall(lines)]
    for name, title in NAMED:
        assert any(len(a) > 3 < len(b) and name.startswith(a) and title.startswith(b) for a, b in rows), (name, rows)
    assert ALL.search(lines)
    drawn = [line for line in lines.splitlines() if " of 600 kB" in line or " to do" in line]
    assert max(map(cell_len, drawn)) <= columns


def test_ctrl_c_says_at_once_what_is_finished_what_goes_back_and_for_how_long(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    held = [origin.url(f"held{n}", 3_000_000, "hold:gate:1000000@get") for n in range(3)]
    project.items = [item(attachment(url, f"{n}.pdf")) for n, url in enumerate(held)]
    project.settings |= {"CHUNKDL_CONCURRENT_FILES": 1, "CHUNKDL_THREADS": 1, "CHUNKDL_SHUTDOWN_GRACE": 250}

    terminal = Terminal(project)
    terminal.read_until(lambda text: "of 3 MB" in text and "3 to do" in text)
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until(lambda text: "Ctrl-C again stops at once" in text)
    said = re.sub(r"\s+", " ", terminal.text)
    origin.release("gate")
    terminal.read_to_its_end()

    assert re.search(r"2 files that have not begun are left: their items go back to files:items", said)
    assert re.search(r"Being finished: 0\.pdf \(\d+ % of 3 MB\)", said)
    assert re.search(r"1 files of \d items have 250 s \(CHUNKDL_SHUTDOWN_GRACE\) to end", said)
    assert client.llen("files:items") + client.zcard("{files:items}:delayed") == 2
    assert len(project.files()) >= 1


def test_log_lines_and_bars_do_not_tear_each_other(project: Project, origin: Origin) -> None:
    project.spider = CHATTY
    project.items = [item(attachment(origin.url("big", 3_000_000, "rate:2000000@get"), "big.pdf"))]

    terminal = Terminal(project)
    terminal.read_to_its_end()

    assert "3 MB of 3 MB" in terminal.text or "of 3 MB" in terminal.text
    lines = [line.rpartition("\r")[2] for line in terminal.text.replace("\r\n", "\n").split("\n")]
    chatter = [line.partition("INFO: ")[2] for line in lines if "chatter" in line]
    assert chatter == [f"chatter {number:03}, {'x' * (2 * number)} its end" for number in range(100)]


def test_what_is_printed_goes_where_stdout_goes(project: Project, origin: Origin) -> None:
    project.spider = """
    import asyncio

    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            for item in ITEMS:
                yield item
            while not self.crawler.stats.get_value("chunkdl/items/claimed"):
                await asyncio.sleep(0.01)
            print("for a file")
    """
    project.items = [item(attachment(origin.url("big", 3_000_000, "hold:gate:1000000@get")))]
    project.folder.mkdir()

    with (project.folder / "printed.txt").open("w+") as printed:
        terminal = Terminal(project, stdout=printed)
        terminal.read_until(lambda text: "of 3 MB" in text)
        origin.release("gate")
        terminal.read_to_its_end()
        printed.seek(0)
        assert printed.read() == "for a file\n"

    assert "for a file" not in terminal.text


def test_one_crawl_of_a_process_has_the_bars(project: Project, origin: Origin) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline", "LOG_FILE": "log.txt"}  # the log is not what holds the terminal
    project.items = [item(attachment(origin.url(name, 3_000_000, "hold:gate:10@get"), name)) for name in ("a", "b")]
    program = """
from scrapy.crawler import CrawlerProcess
from scrapy.utils.project import get_project_settings

process = CrawlerProcess(get_project_settings())
for index in (0, 1):
    process.crawl("files", only=index)
process.start()
"""
    project.spider = """
    import scrapy

    class FilesSpider(scrapy.Spider):
        name = "files"

        async def start(self):
            yield ITEMS[self.only]
    """
    begun = [origin.when(name, lambda stats: stats.sent >= 10) for name in ("a", "b")]

    terminal = Terminal(project, program=program)
    for each in begun:
        each.result(60)
    terminal.read_until(lambda text: "1 to do" in text)
    origin.release("gate")
    terminal.read_to_its_end()

    assert terminal.raw.count("\x1b[?25l") == terminal.raw.count("\x1b[?25h") == 1


def test_without_a_terminal_there_is_a_line_now_and_then(project: Project, origin: Origin) -> None:
    project.settings["LOGSTATS_INTERVAL"] = 0.3
    project.items = [item(attachment(origin.url("big", 3_000_000, "hold:gate:1000000@get")))]

    process = project.start()
    assert process.stdout is not None
    assert any(re.search(r"0 files done, 0 given up, .* fetched; 1 running, ", line) for line in process.stdout)
    origin.release("gate")
    crawl = project.finish(process)

    assert "\x1b[" not in crawl.log
    assert "Downloads: 1 files done, 0 given up, 3 MB fetched" in crawl.log


@pytest.mark.parametrize("choice", ["line", "off"])
def test_bars_can_be_switched_off(project: Project, origin: Origin, choice: str) -> None:
    project.settings["CHUNKDL_PROGRESS"] = choice
    project.items = [item(attachment(origin.url("a", 10)))]

    terminal = Terminal(project)
    terminal.read_to_its_end()

    assert "\x1b[" not in terminal.raw
    assert ("Downloads: 1 files done" in terminal.text) is (choice == "line")


def test_without_rich_there_is_the_line(project: Project, origin: Origin) -> None:
    project.items = [item(attachment(origin.url("a", 10)))]
    (project.folder / "rich").mkdir(parents=True)
    (project.folder / "rich" / "__init__.py").write_text("raise ModuleNotFoundError('rich')")

    terminal = Terminal(project)
    terminal.read_to_its_end()

    assert "\x1b[" not in terminal.raw
    assert "Downloads: 1 files done" in terminal.text


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["to its end", "stopped"])
def test_a_crawl_whose_terminal_has_gone_ends_as_any_other(
    project: Project, origin: Origin, client: redis.Redis, ctrl_c: bool
) -> None:
    project.settings |= {"CHUNKDL_SHUTDOWN_GRACE": 0, "LOG_FILE": "log.txt"}
    project.items = [item(attachment(origin.url(name, 3_000_000, "hold:gate:1000000@get"), name)) for name in "ab"]

    terminal = Terminal(project)
    terminal.read_until(lambda text: "of 3 MB" in text)
    terminal.hang_up()
    if ctrl_c:
        terminal.process.send_signal(signal.SIGINT)
    else:
        origin.release("gate")
    terminal.process.wait(HANG)

    log = (project.folder / "log.txt").read_text()
    assert len(project.scraped()) == (0 if ctrl_c else 2), log
    assert f"Spider closed ({'shutdown' if ctrl_c else 'finished'})" in log
    assert client.exists("{files:items}:workers", "{files:items}:leases") == 0
    assert client.zcard("{files:items}:delayed") == (2 if ctrl_c else 0)  # handed back
