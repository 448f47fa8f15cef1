"""``scrapy chunkdl report``: what the last run of a spider on this machine did, as text or JSON."""

from __future__ import annotations

import json
import sys

from scrapy.settings import BaseSettings

from scrapy_chunkdl.commands.console import CommandError
from scrapy_chunkdl.crawl.folders import work_folder
from scrapy_chunkdl.crawl.report_files import FOLDER, reports_of
from scrapy_chunkdl.progress.report_shown import as_text
from scrapy_chunkdl.settings.config import Config, ConfigError


def run(settings: BaseSettings, spider: str, *, as_json: bool) -> int:
    """Print the last report; return the exit code. Raises :class:`CommandError` where there is none."""
    try:
        folder = work_folder(FOLDER, Config.read(settings).work_folder)
    except ConfigError as error:
        raise CommandError(str(error)) from error
    found = reports_of(folder, spider)
    if not found:
        raise CommandError(f"there is no report of {spider!r} in {folder}: none of its runs here had files.")
    text = found[0].read_text(encoding="utf-8")
    if as_json:
        sys.stdout.write(text)
        return 0
    print(as_text(json.loads(text)))
    print(f"\n{found[0].with_suffix('.html')}")
    return 0
