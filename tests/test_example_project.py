"""The example project: its site is an honest server, and the demo's exit status tells the truth."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from patience import HANG

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parent.parent / "examples" / "spider_project"
"""Seconds after which a demo counts as hung."""

needs_bundled_server = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the bundled server needs Python 3.11 or later"
)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


site_server = _load("site_server")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[TestServer]:
    site_server.make_files(tmp_path, scale=0.01)
    async with TestServer(site_server.Site(tmp_path, rate=1e9).app) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example project that closes sooner."""
    folder = tmp_path / "spider_project"
    unwanted = shutil.ignore_patterns(".cache", ".scrapy", "downloads", "items.jsonl", "__pycache__")
    shutil.copytree(EXAMPLE, folder, ignore=unwanted)
    with (folder / "reports_project" / "settings.py").open("a") as settings:
        settings.write("MAX_IDLE_TIME_BEFORE_CLOSE = 1\nCHUNKDL_SHUTDOWN_GRACE = 0\n")
    return folder


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "demo.py", "--scale", "0.02", *arguments]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(project: Path, *arguments: str) -> tuple[int, str]:
    with start(project, *arguments) as demo:
        output, _ = demo.communicate(timeout=HANG)
        return demo.returncode, output


def items(project: Path) -> list[dict]:
    return [json.loads(line) for line in (project / "items.jsonl").read_text("utf-8").splitlines()]


async def test_the_site_serves_the_very_bytes_of_a_range(site: TestServer, tmp_path: Path) -> None:
    path = "plain/2022/5/film.mp4"
    whole = (tmp_path / path).read_bytes()
    async with aiohttp.ClientSession() as session:
        for asked, start, stop in (("0-0", 0, 1), ("100000-299999", 100_000, 300_000), ("-5", len(whole) - 5, None)):
            async with session.get(site.make_url("/" + path), headers={"Range": f"bytes={asked}"}) as response:
                assert response.status == 206
                assert response.headers["Content-Range"].startswith(f"bytes {start}-")
                assert await response.read() == whole[start:stop]


async def test_the_site_serves_the_whole_file_when_if_range_names_another_version(site: TestServer) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Range": "bytes=0-9", "If-Range": '"another"'}
        async with session.get(site.make_url("/plain/2023/6/licence.txt"), headers=headers) as response:
            assert response.status == 200


async def test_the_site_refuses_a_range_behind_the_end(site: TestServer, tmp_path: Path) -> None:
    path = "plain/2021/0/survey.pdf"
    size = (tmp_path / path).stat().st_size
    async with (
        aiohttp.ClientSession() as session,
        session.get(site.make_url("/" + path), headers={"Range": f"bytes={size}-"}) as response,
    ):
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{size}"


async def test_the_site_lists_the_checksum_of_every_file(site: TestServer, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session, session.get(site.make_url("/sha256sums.txt")) as response:
        lines = (await response.text()).splitlines()
    assert len(lines) == 28
    for line in lines:
        digest, path = line.split("  ", 1)
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == digest


@needs_bundled_server
def test_the_demo_ends_with_every_file_right_and_does_so_again(project: Path) -> None:
    for _ in range(2):
        status, output = run(project, "--rate", "1e8")

        assert status == 0, output
        assert "Every file is right." in output
        assert output.count("  right\n") == 28
        attachments = [a for item in items(project) for part in item["data"] for a in part["attachments"]]
        assert len(attachments) == 28
        assert all(Path(attachment["path"]).is_file() for attachment in attachments)


@needs_bundled_server
def test_the_demo_fails_and_names_the_file_when_one_is_damaged(project: Path) -> None:
    status, output = run(project, "--rate", "1e8", "--spoil", "trees.csv")

    assert status == 1, output
    assert "Missing or wrong: plain/2023/8/trees.csv" in output


@needs_bundled_server
def test_an_interrupted_demo_goes_on_where_it_was(project: Path) -> None:
    with start(project, "--rate", "2e5") as demo:
        deadline = time.monotonic() + HANG
        while not any((project / "downloads").rglob("film.mp4.part")):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        demo.send_signal(signal.SIGTERM)
        output, _ = demo.communicate(timeout=HANG)
    assert demo.returncode == 130, output
    assert "Interrupted" in output
    assert any((project / "downloads").rglob("*.part"))

    status, output = run(project, "--rate", "1e8")

    assert status == 0, output
    assert "Going on where the interrupted run was." in output
    assert len(items(project)) == 9
    assert not any((project / "downloads").rglob("*.part*"))


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="Python 3.11 and later have the bundled server")
def test_without_a_bundled_server_the_demo_says_what_it_needs(project: Path) -> None:
    status, output = run(project)

    assert status == 1
    assert output.startswith("CHUNKDL_EMBEDDED_REDIS needs Python 3.11 or later")
    assert "Traceback" not in output
