"""The command among Scrapy's: it costs others nothing, and says where it belongs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANG
from project import Project
from scrapy.cmdline import execute
from scrapy.settings import Settings

LIST = """
import json, sys
from scrapy.cmdline import execute
try:
    execute(["scrapy", *sys.argv[1:]])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} | set(sys.modules))))
"""


def test_other_commands_import_neither_aiohttp_nor_redis_for_it(project: Project) -> None:
    project.settings |= {"ADDONS": {"scrapy_chunkdl.Addon": 100}}
    project.write()

    done = subprocess.run(
        [sys.executable, "-c", LIST, "list"], cwd=project.folder, capture_output=True, text=True, check=True
    )

    spiders, modules = done.stdout.splitlines()
    assert spiders == "files"
    assert "scrapy_chunkdl.commands.chunkdl" in json.loads(modules)
    assert not {"aiohttp", "redis", "scrapy_redis", "scrapy_chunkdl.queue"} & set(json.loads(modules))


def test_outside_a_project_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scrapy", "chunkdl", "status"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "this is no Scrapy project" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: worker|status|failed"),
        (["status", "--jsn"], "unrecognized arguments: --jsn"),
        (["failed", "files", "retry"], "retry needs --all, or --match TEXT"),
        (["failed", "files", "drop", "--dead"], "drop needs --all, or --match TEXT"),
        (["failed", "files", "drop", "--match", ""], "--match needs a text"),
        (["failed", "files", "--all"], "--all goes with retry or drop"),
        (["failed", "files", "drop", "--all", "--match", "x"], "not allowed with"),
        (["failed", "files", "empty", "--all"], "invalid choice"),
    ],
)
def test_a_command_line_that_makes_no_sense_does_nothing(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    project.write()
    monkeypatch.chdir(project.folder)

    with pytest.raises(SystemExit) as ended:
        execute(["scrapy", "chunkdl", *words], settings=Settings())

    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_gets_no_traceback(project: Project) -> None:
    project.write()
    command = f"{sys.executable} -m scrapy chunkdl status --watch | head -n 1"

    done = subprocess.run(command, shell=True, cwd=project.folder, capture_output=True, text=True, timeout=HANG)

    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
