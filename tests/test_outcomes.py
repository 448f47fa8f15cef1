"""The script that compares outcomes runs, and says so when this downloader is not as it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANG

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "outcomes.py"


def test_outcomes_are_printed_for_the_behaviours_asked_for() -> None:
    command = [sys.executable, SCRIPT, "--tools", "chunkdl", "--only", "redirect"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert "redirect loop                             failed" in done.stdout
    assert "as it should be, of 3                     3" in done.stdout
