"""The tests on every Python and on the oldest and the newest libraries. ``make test-oldest``, ``make test-all``."""

from __future__ import annotations

import configparser
from pathlib import Path

import nox

PYTEST = ("python", "-m", "pytest", "-n", "3", "--dist", "worksteal", "--ignore=tests/real", "-m", "not long")
MEETS_LIBRARIES = [
    f"tests/{room}" for room in ("bridge", "commands", "crawl", "dashboard", "download", "items", "queue", "storage")
]
MEETS_LIBRARIES.append("--ignore=tests/download/test_behaviour_random_faults.py")
"""What depends on the version of Scrapy, aiohttp or redis-py; text, settings, docs and rules of the code do not, and
what is drawn at random meets nothing there that has no test of its own."""

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True


def oldest() -> list[str]:
    """Return setup.cfg's requirements, each at the oldest version it allows."""
    config = configparser.ConfigParser()
    config.read(Path(__file__).parent / "setup.cfg")
    lines = config["options"]["install_requires"].strip().splitlines()
    return [line.replace(">=", "==", 1) for line in lines]


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest libraries; arguments go to pytest."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--editable", ".[embedded,progress,test]")
    session.run(*PYTEST, *session.posargs)


@nox.session(python=PYTHONS[0])
def oldest_supported(session: nox.Session) -> None:
    """The oldest Python and libraries, and what meets them.

    aiohttp before 3.12 leaves TLS connections for the collector to close.
    """
    session.install("--editable", ".[test]", *oldest())
    session.run(*PYTEST, "-W", "ignore::pytest.PytestUnraisableExceptionWarning", *(session.posargs or MEETS_LIBRARIES))
