"""Where a crawl keeps what is not for people: parts of files on their way to a store, the embedded server's data."""

from __future__ import annotations

from pathlib import Path

from scrapy.exceptions import NotConfigured
from scrapy.utils.project import data_path


def data_folder(name: str) -> Path:
    """Return the folder of that name under the project's .scrapy, or the working folder's where there is no project.

    Scrapy looks for scrapy.cfg, which scripts, Celery and scrapyd go without.
    """
    try:
        return Path(data_path(name)).absolute()
    except NotConfigured:
        return Path(".scrapy", name).absolute()
