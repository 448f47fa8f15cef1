"""The figures in the documentation are those that were measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = """
import json, sys
from bench import report
sys.stdout.write(report.with_figures(report.PAGE.read_text("utf-8"), json.loads(report.RESULTS.read_text("utf-8"))))
"""


def test_the_page_shows_the_figures_that_were_kept() -> None:
    command = [sys.executable, "-c", CODE]
    made = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True).stdout

    assert made == (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert json.loads((ROOT / "docs" / "performance.json").read_text("utf-8"))["cases"]
