"""The short form of ``make chaos``: some seconds of a fixed seed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANG
from servers import any_binary

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).resolve().with_name("run.py")


def test_nothing_is_lost_or_wrong_after_some_seconds_of_chaos(tmp_path: Path) -> None:
    any_binary()
    command = [sys.executable, SCRIPT, "--seed", "10053", "--items", "40", "--keep", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * HANG)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^ *(\S.*?) {2,}(\d+)", done.stdout, re.MULTILINE))
    assert figures["items pushed"] == "40"
    assert int(figures["worker processes"]) > 3
    assert {"kill", "kill redis", "shut down redis", "pipelines away", "by its item"} <= figures.keys()
    assert figures["too large for the done list, in files"] == "1"
