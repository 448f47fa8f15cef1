"""The report of a run: what it counts, that it stays short, and that nothing from outside can script or forge it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from origin import Origin
from project import Project, attachment, item

from scrapy_chunkdl.crawl.report_files import KEPT, reports_of, write_report
from scrapy_chunkdl.progress.report_shown import as_page, as_text
from scrapy_chunkdl.progress.run_report import (
    MOST_EXAMPLES,
    MOST_GIVEN_UP,
    MOST_HOSTS,
    MOST_REASONS,
    WHAT_TO_DO,
    RunReport,
)
from scrapy_chunkdl.progress.totals import RunningFile, being_finished

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", ["queue", "inline"])
def test_a_run_leaves_a_report_that_the_command_shows(project: Project, origin: Origin, mode: str) -> None:
    project.settings |= {"CHUNKDL_MODE": mode}
    urls = [origin.url(f"{n}.bin", 1000 * (n + 1)) for n in range(3)]
    urls.append(origin.url("gone.bin", 10, "status:404"))
    project.items = [item(attachment(url)) for url in urls]

    done = project.crawl()

    [path] = (project.folder / ".scrapy" / "chunkdl-reports").glob("files.*.json")
    assert f"Report of this run: {path}" in done.log
    told = json.loads(path.read_text())
    assert told["files"] == {"downloaded": 3, "uptodate": 0, "failed": 1}
    assert (told["bytes"], told["spider"], told["finish_reason"]) == (6000, "files", "finished")
    [(host, group)] = told["by_host"].items()
    assert host.startswith("127.0.0.1")
    assert (group["files"], group["given_up"], group["size_bytes"]) == (3, 1, 6000)
    assert told["by_size"]["up_to_64KiB"]["files"] == 3
    assert told["by_reason"] == {"http_404": 1}
    assert [one["size_bytes"] for one in told["largest"]] == [3000, 2000, 1000]
    assert told["what_to_do"].keys() == {"http_404"}
    shown = project.command("chunkdl", "report", "files")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "3 files downloaded (6 kB), 0 up to date, 1 given up" in shown.stdout
    assert json.loads(project.command("chunkdl", "report", "files", "--json").stdout) == told
    assert "<h2>By host</h2>" in path.with_suffix(".html").read_text()


def test_a_run_without_files_leaves_none(project: Project) -> None:
    project.items = [{"title": "nothing"}]

    project.crawl()

    shown = project.command("chunkdl", "report", "files")
    assert shown.returncode == 1
    assert "there is no report of 'files'" in shown.stderr


def large() -> dict[str, Any]:
    report = RunReport(1000.0)
    for n in range(3000):
        report.finished(f"http://h{n}/{n}".__str__, f"h{n}", f"type/{n}", n, float(n % 7), "downloaded")
        report.given_up(f"http://h{n}/{n}", f"h{n}", f"reason_{n}", "x")
    return report.as_dict("s", 2000.0, "finished")


def test_it_stays_short_whatever_comes() -> None:
    told = large()

    assert len(told["by_host"]) == MOST_HOSTS + 1
    assert len(told["by_reason"]) == MOST_REASONS + 1
    assert len(told["given_up"]) == MOST_GIVEN_UP
    assert [one["size_bytes"] for one in told["largest"]] == list(range(2999, 2999 - MOST_EXAMPLES, -1))
    assert sum(group["files"] for group in told["by_host"].values()) == 3000
    assert len(json.dumps(told)) < 100_000
    assert max(map(len, as_text(told).splitlines())) < 200


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\x1b[2J\u202e", "{title}", "&lt;"]


@pytest.mark.parametrize("word", HOSTILE)
def test_what_comes_from_outside_is_text(word: str) -> None:
    report = RunReport(0.0)
    report.finished(word.__str__, word, word, 1, 1.0, "downloaded")
    report.given_up(word, word, word, word)
    told = report.as_dict(word, 1.0, word)

    page, text = as_page(told), as_text(told)

    assert not re.search(r"<(script|img)", page)
    assert "\x1b" not in page + text
    assert "\u202e" not in page + text
    assert "default-src 'none'" in page


def test_the_last_runs_are_kept(tmp_path: Path) -> None:
    for n in range(KEPT + 5):
        report = RunReport(1000.0 + n)
        report.given_up("u", "h", "r", "m")
        write_report(tmp_path, report.as_dict("s", 2000.0, "finished"))
        write_report(tmp_path, report.as_dict("s.more", 2000.0, "finished"))

    assert len(reports_of(tmp_path, "s")) == KEPT
    assert len(reports_of(tmp_path, "s.more")) == KEPT
    assert len(list(tmp_path.glob("s.1*.html"))) == KEPT
    assert "T001704Z" in reports_of(tmp_path, "s")[0].name


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")

    assert write_report(tmp_path / "file", RunReport(0.0).as_dict("s", 1.0, "finished")) is None

    assert "cannot be kept" in caplog.text


def test_what_helps_is_told_for_reasons_there_are() -> None:
    page = (ROOT / "docs" / "failures.md").read_text("utf-8")
    known = set(re.findall(r"`(\w+)`", page))

    assert {reason for reason in WHAT_TO_DO if reason not in known and not reason.startswith("http_")} == set()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], ""),
        ([("a", 50, 100)], "a (50 % of 100 B)"),
        ([("a", 5, None), ("b", 90, 100)], "b (90 % of 100 B), a (5 B)"),
        ([(name, 0, 100) for name in "abcde"], "a (0 % of 100 B), b (0 % of 100 B), c (0 % of 100 B) and 2 more"),
        ([("empty", 0, 0)], "empty (0 B)"),
    ],
)
def test_what_is_being_finished_is_named(files: list[tuple[str, int, int | None]], told: str) -> None:
    assert being_finished([RunningFile(n, *file) for n, file in enumerate(files)]) == told
