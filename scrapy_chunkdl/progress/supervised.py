"""One worker process's side of its supervisor: what it tells through a pipe, and that it ends when the other is gone.

Knows pipes and JSON; nothing of items, downloads or of who starts processes (``commands/supervisor.py``).

Messages are JSON, one a line: ``{"opened": true}`` once, when the spider is open and nothing kept it from starting;
then ``{"totals": {...}, "rows": [[key, name, done, size], ...]}``, the last of which stands for what the process did.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from typing import Any

from scrapy_chunkdl.progress.totals import RunningFile, Totals

VARIABLE = "CHUNKDL_SUPERVISED"
"""Environment variable of a supervised process: its number, the descriptor it writes to, the one it watches."""

MOST_ROWS = 20
"""Running files told at once: no terminal shows more."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a process told last."""

    totals: Totals
    rows: Sequence[RunningFile]


def encode(snapshot: Snapshot) -> bytes:
    """Return the line that tells it."""
    rows = [astuple(row) for row in snapshot.rows[:MOST_ROWS]]
    return json.dumps({"totals": asdict(snapshot.totals), "rows": rows}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Snapshot | None:
    """Read a line; None says that the process has opened. Raises ValueError for anything else."""
    message: Any = json.loads(line)
    try:
        if "opened" in message:
            return None
        return Snapshot(Totals(**message["totals"]), [RunningFile(*row) for row in message["rows"]])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a message of a worker: {error}") from error


class Supervised:
    """The process's end of both pipes. Its methods are called on one thread."""

    def __init__(self, number: int, tells: int, watches: int) -> None:
        self.number = number
        self._tells = tells
        self._watches = watches
        os.set_blocking(tells, False)
        for descriptor in (tells, watches):
            os.set_inheritable(descriptor, False)

    def begin(self) -> None:
        """Say that the spider is open, and end this process in order, as by SIGTERM, once the supervisor is gone."""
        self._write(b'{"opened":true}\n')
        threading.Thread(target=self._watch, name="chunkdl-supervised", daemon=True).start()

    def tell(self, snapshot: Snapshot) -> None:
        """Tell it. What the pipe has no room for is told next time."""
        self._write(encode(snapshot))

    def _write(self, line: bytes) -> None:
        # A full pipe may take a part only: the reader passes over a line it cannot read.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._tells, line)

    def _watch(self) -> None:
        while os.read(self._watches, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)


_supervised: Supervised | None = None


def supervised() -> Supervised | None:
    """Return this process's side, None in one that nobody supervises. Always the same object."""
    global _supervised
    if _supervised is None and (told := os.environ.get(VARIABLE)):
        number, tells, watches = map(int, told.split(","))
        _supervised = Supervised(number, tells, watches)
    return _supervised
