"""A project that has none of the extras: what needs one says which, and all else works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

SIZE = 200_000

WITHOUT = """
import sys

class Without:
    # Takes the libraries away before anything asks for them.
    def __init__(self):
        names = ("aioftp", "asyncssh", "obstore", "botocore", "boto3", "python_socks", "fsspec")
        taken = [name for name in sys.modules if name.partition(".")[0] in names]
        sys.modules.update(dict.fromkeys([*names, *taken]))
"""

LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "ftps": ({"ori_url": "ftps://127.0.0.1:1/a.bin"}, "[ftp]"),
    "sftp": ({"ori_url": "sftp://127.0.0.1:1/a.bin"}, "[sftp]"),
    "s3": ({"ori_url": "s3://bucket/a.bin"}, "[s3]"),
    "gs": ({"ori_url": "gs://bucket/a.bin"}, "[cloud]"),
    "az": ({"ori_url": "az://bucket/a.bin"}, "[cloud]"),
    "socks": ({"ori_url": "http://127.0.0.1:1/a.bin", "proxy": "socks5h://127.0.0.1:1"}, "[socks]"),
}
"""By what is wanted, an attachment, and the extra that its message names."""


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    settings = {"CHUNKDL_MODE": "inline", "REDIS_URL": "redis://127.0.0.1:1", "CHUNKDL_RETRY_TIMES": 1}
    project = Project(tmp_path / "project", settings)
    project.support = WITHOUT
    project.settings["ADDONS"] = {"probe.support.Without": 1}
    return project


def test_without_any_extra_what_needs_one_names_it_and_all_else_comes(bare: Project, origin: Origin) -> None:
    bare.items = [item(given, row=row) for row, (given, _) in LACKING.items()]
    bare.items += [
        item(attachment(origin.url("a.bin", SIZE)), row="http"),
        item(attachment("data:,abc"), row="data"),
        item({"ori_url": "ftps://127.0.0.1:1/b.bin", "mirrors": [origin.url("b.bin", SIZE)]}, row="mirror"),
    ]

    crawl = bare.crawl()

    got = {one["row"]: paths(one)[0] for one in bare.scraped()}
    told = [line for line in crawl.log.splitlines() if "Gave up" in line]
    assert crawl.stats["chunkdl/failures/missing_extra"] == len(LACKING)
    for row, (given, extra) in LACKING.items():
        assert not got[row]
        assert [line for line in told if given["ori_url"] in line and f"scrapy-chunkdl{extra}" in line], row
    assert Path(got["http"]).read_bytes() == content("a.bin", SIZE)
    assert Path(got["mirror"]).read_bytes() == content("b.bin", SIZE)
    assert Path(got["data"]).read_bytes() == b"abc"
    assert "Traceback" not in crawl.log
