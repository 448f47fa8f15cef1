"""Where reports of runs are kept: a JSON file and a page for each run, the last ones of each spider.

Knows folders and names; what stands in a report is :mod:`scrapy_chunkdl.progress.run_report`'s.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scrapy_chunkdl.progress.report_shown import as_page
from scrapy_chunkdl.text.naming import safe_name

logger = logging.getLogger(__name__)

FOLDER = "chunkdl-reports"
KEPT = 20
"""Runs of each spider."""


def write_report(folder: Path, report: dict[str, Any]) -> Path | None:
    """Keep a report, and let go of the oldest of its spider. Return the JSON file; None, and a warning, if it fails."""
    spider = safe_name(str(report["spider"])) or "spider"
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(report["began_at"]))
    path = folder / f"{spider}.{stamp}.{os.getpid()}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        path.with_suffix(".html").write_text(as_page(report), encoding="utf-8")
    except OSError as error:
        logger.warning("The report of this run cannot be kept in %s: %s.", folder, error.strerror)
        return None
    for old in reports_of(folder, str(report["spider"]))[KEPT:]:
        for one in (old, old.with_suffix(".html")):
            with suppress(OSError):
                one.unlink()
    return path


def reports_of(folder: Path, spider: str) -> list[Path]:
    """Return the JSON files of a spider, the newest first."""
    pattern = re.compile(re.escape(safe_name(spider) or "spider") + r"\.(\d{8}T\d{6}Z)\.\d+\.json\Z")
    try:
        found = [path for path in folder.iterdir() if pattern.match(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: path.name, reverse=True)
