"""Where this project keeps what is local: parts of files on their way to a store, the embedded server's data.

One setting, CHUNKDL_WORK_FOLDER; without it the project's data folder (``.scrapy``, or what scrapy.cfg says), without a
scrapy.cfg ``./.scrapy``. Every path is absolute from here on: a project may change its working directory later. Called
by whoever needs a folder while a crawl is set up.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from scrapy.exceptions import NotConfigured
from scrapy.utils.project import data_path

from scrapy_chunkdl.settings.config import ConfigError

T = TypeVar("T")

ANSWER_WITHIN_S = 60.0
"""Seconds a store may take for the first answer."""


def work_folder(name: str, configured: str | None) -> Path:
    """Return the folder ``name`` for local state; ``configured`` is CHUNKDL_WORK_FOLDER. Raises ConfigError."""
    if configured:
        return Path(configured, name).absolute()
    try:
        return Path(data_path(name)).absolute()
    except NotConfigured:  # no scrapy.cfg, though a settings module is named
        return Path(".scrapy", name).absolute()
    except OSError as error:
        raise ConfigError(_unusable(Path(".scrapy").absolute(), "made", error, "CHUNKDL_WORK_FOLDER")) from error


def require_writable(folder: Path, setting: str) -> None:
    """Write a file into a folder and remove it. Raises ConfigError: one sentence that names ``setting``."""
    from scrapy_chunkdl.download.disk.room import FULL  # the whole downloader comes with it, too much for `scrapy list`

    probe = folder / f".chunkdl-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(_unusable(folder, "made", error, setting)) from error
    try:
        probe.write_bytes(b"?")
    except OSError as error:
        if error.errno not in FULL:  # a full one is waited for: see disk_gate.py
            raise ConfigError(_unusable(folder, "written to", error, setting)) from error
    finally:
        with suppress(OSError):
            os.unlink(probe)


def answer_of(ask: Callable[[], T]) -> T:
    """Return what ``ask`` does, in a thread, for it may hang. Raises what it does, or TimeoutError."""
    answers: list[T] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 -- it is raised where the answer is waited for
            problems.append(error)

    thread = threading.Thread(target=run, name="chunkdl-store", daemon=True)
    thread.start()
    thread.join(ANSWER_WITHIN_S)
    if problems:
        raise problems[0]
    if not answers:
        raise TimeoutError(f"no answer within {ANSWER_WITHIN_S:g} s")
    return answers[0]


def _unusable(folder: Path, what: str, error: OSError, setting: str) -> str:
    shown = str(folder) if len(str(folder)) <= 120 else f"…{str(folder)[-120:]}"
    said = error.strerror or type(error).__name__
    return f"{setting}: the folder {shown} cannot be {what} ({said}). Name one that can."
