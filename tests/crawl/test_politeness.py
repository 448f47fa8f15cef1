"""What a project asks of its spiders for pages holds for files, unless files have limits of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from origin import Origin
from project import Project, attachment, item
from scrapy.settings import Settings

from scrapy_chunkdl.crawl.politeness import Politeness, politeness
from scrapy_chunkdl.settings.config import Config


def polite(project: dict[str, Any], spider: dict[str, Any] | None = None, **defaults: Any) -> Politeness:
    settings = Settings()
    settings.setdict(defaults, priority="addon")
    settings.setdict(project, priority="project")
    attributes = spider or {}
    config = Config.read(settings, {k: v for k, v in attributes.items() if k.startswith("chunkdl_")})
    return politeness(settings, SimpleNamespace(**attributes), config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("project", "spider", "delay_s", "connections"),
    [
        ({}, {}, 0, 16),
        ({"DOWNLOAD_DELAY": 0, "CONCURRENT_REQUESTS_PER_DOMAIN": 32}, {}, 0, 16),
        ({"DOWNLOAD_DELAY": 1, "CONCURRENT_REQUESTS_PER_DOMAIN": 1}, {}, 1, 1),
        ({"DOWNLOAD_DELAY": "0.25"}, {}, 0.25, 16),
        ({"CONCURRENT_REQUESTS_PER_IP": 3}, {}, 0, 3),
        ({"CONCURRENT_REQUESTS_PER_IP": 0}, {}, 0, 16),
        ({"AUTOTHROTTLE_ENABLED": True}, {}, 0, 1),
        ({"AUTOTHROTTLE_ENABLED": True, "AUTOTHROTTLE_TARGET_CONCURRENCY": 4.4}, {}, 0, 4),
        ({"AUTOTHROTTLE_ENABLED": True, "AUTOTHROTTLE_TARGET_CONCURRENCY": 0.5, "DOWNLOAD_DELAY": 2}, {}, 2, 1),
        ({"AUTOTHROTTLE_ENABLED": False, "AUTOTHROTTLE_TARGET_CONCURRENCY": 1}, {}, 0, 16),
        ({}, {"download_delay": 3, "max_concurrent_requests": 2}, 3, 2),
        ({"DOWNLOAD_DELAY": 1}, {"download_delay": 0}, 0, 16),
        ({"DOWNLOAD_DELAY": 1, "CHUNKDL_DOWNLOAD_DELAY": 0}, {}, 0, 16),
        ({"DOWNLOAD_DELAY": 1}, {"chunkdl_download_delay": 0.5}, 0.5, 16),
        ({"CONCURRENT_REQUESTS_PER_DOMAIN": 1, "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": 16}, {}, 0, 16),
        ({"AUTOTHROTTLE_ENABLED": True, "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": 8, "DOWNLOAD_DELAY": 1}, {}, 1, 8),
    ],
)
@pytest.mark.filterwarnings("ignore:The CONCURRENT_REQUESTS_PER_IP")
def test_the_stricter_limit_of_the_project_holds_unless_files_have_their_own(
    project: dict[str, Any], spider: dict[str, Any], delay_s: float, connections: int
) -> None:
    found = polite(project, spider)

    assert (found.delay_s, found.chunks_per_host) == (delay_s, connections)
    assert bool(found.because) == ((delay_s, connections) != (spider.get("chunkdl_download_delay", 0), 16)) or (
        "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST" in project
    )
    assert len(found.sentence()) <= 300


def test_what_scrapy_or_an_add_on_sets_is_nobodys_wish() -> None:
    found = polite({}, CONCURRENT_REQUESTS_PER_DOMAIN=1, DOWNLOAD_DELAY=5)

    assert found.because == ()


@pytest.mark.parametrize("lifted", [False, True])
def test_a_project_as_startproject_makes_it_is_told_once_and_its_hosts_get_one_connection(
    project: Project, origin: Origin, lifted: bool
) -> None:
    project.settings |= {"DOWNLOAD_DELAY": 0.01, "CONCURRENT_REQUESTS_PER_DOMAIN": 1, "CHUNKDL_CHUNK_SIZE": 65536}
    if lifted:
        project.settings |= {"CHUNKDL_DOWNLOAD_DELAY": 0, "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": 16}
    project.items = [item(*(attachment(origin.url(f"f{number}", 300_000, "rate:3000000")) for number in range(6)))]

    crawl = project.crawl()

    assert crawl.log.count("Files are fetched as politely as pages (DOWNLOAD_DELAY = 0.01, ") == (not lifted)
    assert (origin.peak == 1) == (not lifted)
    assert crawl.stats["chunkdl/files/downloaded"] == 6
