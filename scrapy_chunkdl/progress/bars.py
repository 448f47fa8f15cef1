"""Bars on a terminal, drawn with rich: all downloads in one line, and one line for each file that runs.

Log lines go above the bars. Knows rich and the logging module; nothing of Scrapy, items or threads.
"""

from __future__ import annotations

import atexit
import io
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scrapy_chunkdl.progress.totals import Rate, RunningFile, Totals
from scrapy_chunkdl.text.units import size_text, time_left

_ROWS_LEFT_FREE = 6
_MOST_ROWS = 12
_BETWEEN = " · "
_NARROW = 72
"""Columns below which names need the room of the bars."""


class Bars:
    """The bars, from :meth:`start` to :meth:`stop`. One at a time in a process: see :func:`can_be_shown`."""

    ends_within_s = 1.0

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what is printed into a file or a pipe stays there
            redirect_stderr=True,
        )
        self._handlers: list[tuple[logging.StreamHandler[Any], TextIO]] = []
        self._rates: dict[int, Rate] = {}
        self._is_stopped = False

    def start(self) -> None:
        """Show them, and have log lines and prints go above them."""
        if self._is_stopped:
            return
        stream = _Above(self._console)
        for handler in logging.root.handlers:
            if type(handler) is logging.StreamHandler and handler.stream in (sys.stderr, sys.__stderr__):
                self._handlers.append((handler, handler.stream))
        self._live.start()
        for handler, _ in self._handlers:
            handler.setStream(stream)
        atexit.register(self.stop)  # an unclean end must not leave a terminal without a cursor

    def show(self, totals: Totals, rows: Sequence[RunningFile]) -> None:
        """Draw them anew."""
        now = time.monotonic()
        running = {row.key for row in rows} | {0}
        self._rates = {key: rate for key, rate in self._rates.items() if key in running}
        rate = self._rates.setdefault(0, Rate()).note(totals.fetched, now)
        room = max(1, min(_MOST_ROWS, self._console.height - _ROWS_LEFT_FREE))
        table = Table.grid(padding=(0, 1), expand=True)
        has_bars = self._console.width >= _NARROW
        for justify, ratio in (("left", 3), *([("left", 2)] * has_bars), *([("right", None)] * 3)):
            table.add_column(justify=justify, ratio=ratio, no_wrap=True)  # type: ignore[arg-type]
        known = unknown = 0
        for row in rows:
            speed = self._rates.setdefault(row.key, Rate()).note(row.done, now)
            missing = row.size - row.done if row.size is not None else None
            known += missing or 0
            unknown += missing is None
            if table.row_count < room:
                table.add_row(
                    _Named(row.name, row.item),
                    *([ProgressBar(total=row.size or None, completed=row.done, pulse=row.size is None)] * has_bars),
                    f"{size_text(row.done)} of {size_text(row.size) if row.size is not None else '?'}",
                    f"{size_text(speed)}/s",
                    time_left(missing, speed),
                )
        hidden = len(rows) - table.row_count
        lines = [table, Text(f"… and {hidden} more files")] if hidden > 0 else [table]
        waiting = unknown + totals.left - len(rows) + (totals.queued or 0) * totals.files_per_item
        missing_in_all = _missing(known, waiting, totals)
        self._live.update(Group(*lines, _overall(totals, rate, time_left(missing_in_all, rate))), refresh=True)

    def stop(self) -> None:
        """Take them away and give the log its stream back. May be called more than once."""
        self._is_stopped = True
        atexit.unregister(self.stop)
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()
        self._live.stop()


def can_be_shown() -> bool:
    """Whether there is a terminal, and no other crawl of this process has bars on it."""
    return sys.stderr.isatty() and not isinstance(sys.stderr, FileProxy)


def _missing(known: int, waiting: float, totals: Totals) -> int | None:
    """Estimate the bytes still to come: files that wait have told nobody their size, and count as those that are done.

    None where nothing is done yet to go by.
    """
    if waiting <= 0:
        return known
    return round(known + waiting * totals.fetched / totals.done) if totals.done else None


def _overall(totals: Totals, rate: float, left: str) -> Text:
    """Say it all in a line, what matters most first: a narrow terminal cuts the end."""
    parts = [
        f"{left} left",
        f"{totals.done} files done",
        f"{totals.left} to do",
        *([f"{totals.queued} items queued"] if totals.queued is not None else []),
        f"{size_text(totals.fetched)} at {size_text(rate)}/s",
        f"{totals.failed} given up",
        f"{totals.retries} retries",
    ]
    return Text(", ".join(parts), style="bold", overflow="ellipsis", no_wrap=True)


class _Named:
    """A file and the item it is of, in as many columns as there are: each keeps its half of them if it needs that."""

    def __init__(self, name: str, item: str) -> None:
        self._name = name
        self._item = item

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - cell_len(_BETWEEN)
        name, item = Text(self._name), Text(self._item)
        if self._item:
            name.truncate(max(room - item.cell_len, room // 2), overflow="ellipsis")
            item.truncate(max(room - name.cell_len, 0), overflow="ellipsis")
            name = Text.assemble(name, _BETWEEN, item)
        name.truncate(options.max_width, overflow="ellipsis")
        yield name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


class _Above(io.TextIOBase):
    """A stream whose lines are printed above the bars, whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(Text.from_ansi(line), soft_wrap=True)
        return len(text)

    def isatty(self) -> bool:
        return True
