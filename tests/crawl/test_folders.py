"""Where a project keeps what is local, and what becomes of a crawl that cannot write there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from origin import Origin
from project import Project, attachment, item, paths
from scrapy.exceptions import NotConfigured

from scrapy_chunkdl.crawl import folders
from scrapy_chunkdl.settings.config import ConfigError

STORE = """
import shutil
from pathlib import Path


class Shelf:
    def __init__(self, uri):
        self.folder = Path("shelf").absolute()

    def find(self, key):
        return None

    def put(self, path, key, record, moved):
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    def uri(self, key):
        return str(self.folder / key)
"""

MOVES = """
import os

import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        os.makedirs("elsewhere", exist_ok=True)
        os.chdir("elsewhere")
        for item in ITEMS:
            yield item
"""


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders in which nothing can be made or written, also for root."""

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)


def test_the_setting_names_the_folder_and_without_one_it_is_that_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert folders.work_folder("parts", str(tmp_path / "work")) == tmp_path / "work" / "parts"
    assert folders.work_folder("parts", "work") == tmp_path / "work" / "parts"
    assert folders.work_folder("parts", None) == tmp_path / ".scrapy" / "parts"


def test_without_a_scrapy_cfg_it_is_in_the_folder_the_crawl_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_project(*args: object) -> str:
        raise NotConfigured("Unable to find scrapy.cfg file to infer project data dir")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "data_path", no_project)

    assert folders.work_folder("parts", None) == tmp_path / ".scrapy" / "parts"


@pytest.mark.parametrize("number", [13, 30, 1])
def test_a_data_folder_that_cannot_be_made_is_one_sentence_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*args: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folders, "data_path", fail)

    with pytest.raises(ConfigError, match=f"CHUNKDL_WORK_FOLDER: .*{os.strerror(number)}") as refusal:
        folders.work_folder("parts", None)

    assert len(str(refusal.value)) <= 300


def test_a_folder_that_is_there_and_cannot_be_written_is_told(tmp_path: Path, read_only: None) -> None:
    with pytest.raises(ConfigError, match=r"CHUNKDL_STORE = 'x': the folder .* cannot be written to"):
        folders.require_writable(tmp_path, "CHUNKDL_STORE = 'x'")

    assert list(tmp_path.iterdir()) == []


def test_a_store_folder_that_cannot_be_written_closes_the_crawl(project: Project, origin: Origin) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline", "CHUNKDL_STORE": "/proc"}
    project.items = [item(attachment(origin.url("a.bin", 10)))]

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_store_unusable"
    assert "CHUNKDL_STORE = '/proc': the folder /proc cannot be written to" in crawl.log
    assert origin.stats("a.bin").requests == 0


@pytest.mark.parametrize("naming", ["url", "content"])
def test_a_project_that_changes_its_folder_meanwhile_gets_its_files_all_the_same(
    project: Project, origin: Origin, naming: str
) -> None:
    project.settings |= {"CHUNKDL_MODE": "inline", "CHUNKDL_NAMING": naming, "CHUNKDL_FILES_FIELD": "files"}
    project.spider = MOVES
    project.items = [item(attachment(origin.url("a.bin", 10_000)))]

    crawl = project.crawl()

    assert crawl.stats["chunkdl/files/downloaded"] == 1, crawl.log
    assert [len(data) for name, data in project.files().items() if not name.startswith(".")] == [10_000]


def test_parts_wait_in_the_work_folder_and_leave_no_folders_behind(project: Project, origin: Origin) -> None:
    project.support = STORE
    project.settings |= {
        "CHUNKDL_MODE": "inline",
        "CHUNKDL_STORE": "shelf://top",
        "CHUNKDL_STORES": {"shelf": "probe.support.Shelf"},
        "CHUNKDL_WORK_FOLDER": str(project.folder / "work"),
    }
    project.items = [item(attachment(origin.url(f"{n}.bin", 10_000))) for n in range(20)]

    crawl = project.crawl()

    assert crawl.stats["chunkdl/files/downloaded"] == 20, crawl.log
    assert all(Path(path).stat().st_size == 10_000 for finished in project.scraped() for path in paths(finished))
    assert list((project.folder / "work" / "chunkdl-parts").iterdir()) == []
    assert not (project.folder / ".scrapy" / "chunkdl-parts").exists()


def test_a_locale_without_a_name_s_letters_gives_that_file_up_with_what_to_set(
    project: Project, origin: Origin
) -> None:
    project.settings["CHUNKDL_MODE"] = "inline"
    project.items = [item(attachment(origin.url("a", 10), "a.bin"), attachment(origin.url("b", 10), "文.bin"))]
    project.write()
    locale = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    done = subprocess.run(
        [sys.executable, "-m", "scrapy", "crawl", "files"],
        cwd=project.folder,
        env={**os.environ, **locale},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr.count("set PYTHONUTF8=1, or LC_ALL=C.UTF-8.") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert [len(path) > 0 for path in paths(project.scraped()[0])] == [True, False]
