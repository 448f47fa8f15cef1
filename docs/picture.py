"""Draws docs/run.svg, the picture in README.md: runs the demo on a terminal of its own, and keeps a screen of it.

Run by ``make picture``. Takes what the extra ``docs`` brings.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, LINES = 120, 24
WANTED_ROWS = 6
"""Files that run at once on the screen that is kept."""


def record() -> pyte.Screen:
    """Run the demo to its end; return the first screen on which enough is going on."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    kept: pyte.Screen | None = None
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(ROOT / "examples" / "spider_project" / "demo.py")])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:
            break
        stream.feed(data)
        if kept is None and is_worth_keeping(screen.display):
            kept = screen
            screen = pyte.Screen(COLUMNS, LINES)
            stream = pyte.ByteStream(screen)
    os.waitpid(pid, 0)
    if kept is None:
        raise SystemExit("No screen of the run had bars of enough files; is it a machine that is busy?")
    return kept


def is_worth_keeping(lines: list[str]) -> bool:
    """Whether the bars are drawn whole, with rates, and some files are done."""
    rows = [line for line in lines if re.search(r"B of \d.*[1-9].*B/s +\d+:\d\d", line)]
    return len(rows) >= WANTED_ROWS and any(re.search(r"\d left, [1-9]\d* files done", line) for line in lines)


def as_svg(screen: pyte.Screen) -> str:
    """Return the screen as SVG, without the web fonts that a viewer would have to fetch."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    last = max(number for number, line in enumerate(screen.display) if line.strip())
    for number in range(last + 1):
        line = Text()
        chars = [screen.buffer[number][column] for column in range(COLUMNS)]
        for (colour, bold), alike in groupby(chars, key=lambda char: (char.fg, char.bold)):
            text = "".join(char.data for char in alike)
            line.append(text, Style(color=_colour(colour), bold=bold) if text.strip() else None)
        line.rstrip()
        console.print(line, no_wrap=True, crop=True)
    svg = console.export_svg(title="scrapy crawl reports")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch(r"[0-9a-f]{6}", name) else {"brown": "yellow"}.get(name, name)


if __name__ == "__main__":
    (ROOT / "docs" / "run.svg").write_text(as_svg(record()), "utf-8")
