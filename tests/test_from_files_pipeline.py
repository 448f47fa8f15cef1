"""Each row of the tables in docs/from_files_pipeline.md is run: here, or by the tests named here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings

from scrapy_chunkdl.crawl.hooks import UNUSED
from scrapy_chunkdl.crawl.politeness import politeness
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline
from scrapy_chunkdl.settings.config import Config, ConfigError

ROOT = Path(__file__).parent.parent
HOOKS = "tests/crawl/test_hook_requests.py"
REQUESTS = "tests/crawl/test_spider_identity.py"

Check = Callable[[], bool] | str
"""Whether the row is true, or the test that says so."""


def config(**settings: Any) -> Config:
    return Config.read(Settings(settings))


def polite(**settings: Any) -> tuple[float, int]:
    project = Settings()
    project.setdict(settings, priority="project")
    found = politeness(project, None, Config.read(project))
    return found.delay_s, found.chunks_per_host


def refused(name: str) -> bool:
    try:
        config(**{name: "1"})
    except ConfigError:
        return True
    return False


SETTINGS: dict[str, Check] = {
    "`FILES_STORE`": lambda: (
        (config(FILES_STORE="a").store, config(FILES_STORE="a", CHUNKDL_STORE="b").store) == ("a", "b")
    ),
    "`FILES_EXPIRES`": lambda: (
        (config(FILES_EXPIRES=3).expires, config(FILES_EXPIRES=3, CHUNKDL_EXPIRES=1).expires, config().expires)
        == (3, 1, 0)
    ),
    "`FILES_URLS_FIELD`, `FILES_RESULT_FIELD`": (
        "tests/crawl/test_producer_of_all_types.py::test_the_fields_of_filespipeline_work_with_two_settings"
    ),
    "`MEDIA_ALLOW_REDIRECTS`": "tests/download/http/test_client_requests_and_redirects.py::test_redirect_is_followed",
    "`DOWNLOAD_TIMEOUT`": lambda: config(CHUNKDL_STALL_TIMEOUT=7).stall_timeout == 7,
    "`DOWNLOAD_MAXSIZE`, `DOWNLOAD_WARNSIZE`": lambda: config(CHUNKDL_MAX_FILE_SIZE=7).max_file_size == 7,
    "`CONCURRENT_REQUESTS`": lambda: config(CHUNKDL_CONCURRENT_FILES=7).concurrent_files == 7,
    "`CONCURRENT_REQUESTS_PER_DOMAIN`, `DOWNLOAD_DELAY`, `AUTOTHROTTLE_ENABLED`": lambda: (
        polite(CONCURRENT_REQUESTS_PER_DOMAIN=2, DOWNLOAD_DELAY=1) == (1, 2)
        and polite(AUTOTHROTTLE_ENABLED=True) == (0, 1)
        and polite(CONCURRENT_REQUESTS_PER_DOMAIN=2, CHUNKDL_CONCURRENT_CHUNKS_PER_HOST=8) == (0, 8)
        and polite(DOWNLOAD_DELAY=1, CHUNKDL_DOWNLOAD_DELAY=0) == (0, 16)
    ),
    "`RETRY_TIMES`, `RETRY_ENABLED`": lambda: config(CHUNKDL_RETRY_TIMES=0).retry_times == 0,
    "`RETRY_HTTP_CODES`": lambda: (
        config(RETRY_HTTP_CODES=[500]).retry_http_codes == {500}
        and config(RETRY_HTTP_CODES=[500], CHUNKDL_RETRY_HTTP_CODES=[404]).retry_http_codes == {404}
    ),
    "`COOKIES_ENABLED`": f"{REQUESTS}::test_the_sessions_cookies_are_sent_where_filespipeline_would_send_them",
    "`USER_AGENT`, `DEFAULT_REQUEST_HEADERS`": f"{REQUESTS}::test_headers_cookies_and_login_are_the_spiders",
    "`HTTPPROXY_ENABLED`, `ROBOTSTXT_OBEY`": f"{REQUESTS}::test_a_file_that_robots_txt_refuses_is_given_up",
    "certificates are not verified": lambda: config().verify_tls and not config(CHUNKDL_VERIFY_TLS=False).verify_tls,
    "`AWS_…`, `GCS_PROJECT_ID`, `FTP_…`": "tests/storage/test_s3_settings.py::",
}

METHODS: dict[str, Check] = {
    "`file_path(request, response, info, *, item)`": f"{HOOKS}::test_later_hooks_see_the_very_request_that_was_made",
    "`super().file_path()`": f"{HOOKS}::test_the_hooks_that_are_there_are_not_told",
    "`get_media_requests(item, info)`": (
        "tests/crawl/test_hooks.py::test_attachments_are_left_out_changed_and_added_and_the_item_is_told_of_all"
    ),
    "`FormRequest`, `JsonRequest` and others with a method or body": (
        "tests/crawl/test_via_scrapy.py::test_forms_to_one_url_are_files_of_their_own_and_each_is_sent_once"
    ),
    "`item_completed(results, item, info)`": f"{HOOKS}::test_what_a_hook_gives_wrongly_is_told_by_its_name",
    "`process_item(item)`": f"{HOOKS}::test_an_overridden_process_item_is_told_to_run_twice_with_the_queue",
    "pipelines before FilesPipeline": (
        f"{HOOKS}::test_before_queueing_filters_and_completes_items_once_before_any_file_is_fetched"
    ),
    "`open_spider`, `close_spider`": f"{HOOKS}::test_names_that_a_subclass_of_filespipeline_uses_are_there",
    "`media_to_download`": lambda: "get_media_requests" in UNUSED["media_to_download"],
    "`media_downloaded`, `media_failed`, `file_downloaded`": lambda: all(
        "signals" in UNUSED[name] for name in ("media_downloaded", "media_failed", "file_downloaded")
    ),
    "`self.store`": f"{HOOKS}::test_names_that_a_subclass_of_filespipeline_uses_are_there",
    "`self.crawler`, `self.spiderinfo`, `self.files_urls_field`, `self.files_result_field`, `self.expires`": (
        f"{HOOKS}::test_names_that_a_subclass_of_filespipeline_uses_are_there"
    ),
    "`self.inc_stats(status)`": lambda: inspect.isfunction(ChunkDownloadPipeline.inc_stats),
}


def rows(title: str) -> list[str]:
    page = (ROOT / "docs" / "from_files_pipeline.md").read_text("utf-8")
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (?!FilesPipeline \||---)(.*?) \|", section, re.MULTILINE)


@pytest.mark.parametrize(("title", "checks"), [("Settings", SETTINGS), ("Methods", METHODS)])
def test_every_row_of_the_page_has_its_check_and_every_check_its_row(title: str, checks: dict[str, Check]) -> None:
    assert rows(title) == list(checks)


@pytest.mark.parametrize("check", [*SETTINGS.values(), *METHODS.values()], ids=[*SETTINGS, *METHODS])
def test_the_row_is_true(check: Check) -> None:
    if not isinstance(check, str):
        assert check()
        return
    path, _, name = check.partition("::")
    assert f"def {name or 'test_'}" in (ROOT / path).read_text("utf-8")
