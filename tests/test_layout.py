"""Tests lie where the modules lie that they test, and are named after them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "scrapy_chunkdl"
SHORT = 80
"""Lines up to which a module needs no file of tests of its own."""

ELSEWHERE = {
    "crawl/budget_watch.py": "crawl/test_schedules_and_budgets.py",
    "crawl/orders.py": "crawl/test_reports_and_controls.py",
    "crawl/planning.py": "commands/test_plan.py",
    "crawl/postponing.py": "crawl/test_schedules_and_budgets.py",
    "commands/queues.py": "commands/test_status.py",
    "crawl/host_watch.py": "crawl/test_ill_hosts.py",
    "crawl/local_watch.py": "crawl/test_ill_hosts.py",
    "dashboard/merged.py": "dashboard/test_odd_records.py",
    "download/downloader.py": "download/test_source.py",
    "download/disk/file_identity.py": "download/disk/test_partfile_and_part_lock.py",
    "download/disk/record.py": "download/disk/test_partfile_and_part_lock.py",
    "download/http/answer.py": "download/http/test_verdict_and_judge.py",
    "download/http/fetched.py": "crawl/test_via_scrapy.py",
    "download/http/paced.py": "download/limits/test_rate.py",
    "download/http/plain_answer.py": "download/plan/test_small.py",
    "download/http/plain_get.py": "download/plan/test_small.py",
    "download/http/source.py": "download/test_source.py",
    "download/model.py": "settings/test_config_and_values.py",
    "download/native/ftp_control.py": "download/native/test_ftp.py",
    "download/native/ftp_data.py": "download/native/test_ftp.py",
    "download/native/ftp_replies.py": "download/native/test_ftp.py",
    "download/native/kept.py": "download/native/test_ftp.py",
    "download/plan/plain.py": "download/test_behaviour_crowds.py",
    "download/native/place.py": "download/native/test_ftp.py",
    "download/native/source.py": "download/native/test_ftp.py",
    "download/native/told.py": "download/test_changing_sources.py",
    "download/remote.py": "download/test_source.py",
    "download/schemes.py": "download/test_source.py",
    "download/storing.py": "download/disk/test_delivery.py",
    "pipelines.py": "crawl/test_hooks.py",
    "progress/supervised.py": "commands/test_supervisor.py",
    "settings/conflicts.py": "crawl/test_lifecycle_and_checks.py",
    "settings/schedule.py": "settings/test_config_and_values.py",
    "queue/metrics_table.py": "dashboard/test_metrics.py",
    "queue/snapshot.py": "queue/test_status.py",
}
"""Modules whose tests have the name of what they serve, and where these are."""


@cache
def modules() -> list[Path]:
    long = [path for path in sorted(PACKAGE.rglob("*.py")) if len(path.read_text().splitlines()) > SHORT]
    return [path.relative_to(PACKAGE) for path in long]


def named_after(module: Path) -> list[Path]:
    """Return the files in the same room whose names have that of the module in them, as words."""
    found = (TESTS / module.parent).glob("test_*.py")
    return [path for path in found if f"_{module.stem}_" in f"{path.stem}_"]


def test_the_tests_of_a_module_are_found_by_its_name() -> None:
    """Of ``crawl/x.py`` they are in ``tests/crawl/test_x.py``, or ``test_x_and_y.py``."""
    told = {module: TESTS / ELSEWHERE.get(str(module), "nowhere") for module in modules()}

    assert [str(module) for module, elsewhere in told.items() if not (named_after(module) or elsewhere.exists())] == []


def test_what_has_its_tests_elsewhere_is_said_only_of_modules_that_are_there_and_need_it() -> None:
    assert [name for name in ELSEWHERE if Path(name) not in modules() or named_after(Path(name))] == []


def test_every_helper_is_on_the_page_of_helpers() -> None:
    page = (TESTS / "helpers" / "README.md").read_text()
    helpers = sorted((TESTS / "helpers").glob("*.py"))

    assert [path.name for path in helpers if f"`{path.name}`" not in page and not path.name.startswith("test_")] == []


def test_every_folder_of_tests_is_that_of_a_room_or_said_to_be_something_else() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}

    assert folders - rooms == {"chaos", "helpers", "real"}
