"""Running a contestant as a process of its own and measuring all of it. Knows processes; nothing of what they do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class Wrong(Exception):
    """A run failed or brought wrong bytes: it counts for nothing."""


@dataclass
class Run:
    """What one process took: seconds from its start to its end, CPU seconds of it and its children, bytes of memory."""

    wall: float
    cpu: float
    memory: int
    output: str
    more: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        return {"wall": self.wall, "cpu": self.cpu, "memory": self.memory, **self.more}


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Run:
    """Run ``command`` to its end. Raises Wrong when it fails."""
    began = time.monotonic()
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Wrong(f"{command[0]} ended with {process.returncode}: {output[-2500:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def python(*arguments: str | Path) -> list[str | Path]:
    """Return the command that runs this Python with these arguments."""
    return [sys.executable, *arguments]
