"""What a project may decide by overriding."""

from __future__ import annotations

from pathlib import Path

from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

NAMED_BY_TITLE = """
from pathlib import PurePosixPath

from scrapy_chunkdl.pipelines import ChunkDownloadPipeline

class ByTitle(ChunkDownloadPipeline):
    def file_path(self, request, response=None, info=None, *, item=None):
        if "refuse" in request.url:
            raise ValueError("not this one")
        if "escape" in request.url:
            return "../outside.bin"
        return f"{item['data'][0]['title']}/{request.meta['filename']}"
"""


def test_file_path_decides_where_files_go_and_none_overwrites_another(project: Project, origin: Origin) -> None:
    project.settings["ITEM_PIPELINES"] = {"probe.support.ByTitle": 1}
    project.support = NAMED_BY_TITLE
    names = {"one": 1000, "two": 2000}
    project.items = [item(attachment(origin.url(name, size), "same.bin")) for name, size in names.items()]

    project.crawl()

    written = sorted(Path(paths(found)[0]) for found in project.scraped())
    assert {path.parent for path in written} == {project.folder / "downloads" / "a report"}
    assert {path.read_bytes() for path in written} == {content(name, size) for name, size in names.items()}
    assert any(path.name == "same.bin" for path in written)


def test_a_path_that_is_refused_or_leaves_the_store_gives_the_file_up(project: Project, origin: Origin) -> None:
    project.settings["ITEM_PIPELINES"] = {"probe.support.ByTitle": 1}
    project.support = NAMED_BY_TITLE
    project.items = [item(attachment(origin.url("refuse", 10), "a"), attachment(origin.url("escape", 10), "b"))]

    crawl = project.crawl()

    assert paths(project.scraped()[0]) == ["", ""]
    assert crawl.stats["chunkdl/failures/bad_path"] == 2
    assert not (project.folder / "outside.bin").exists()
    assert "not this one" in crawl.log
