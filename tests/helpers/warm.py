"""``scrapy`` commands that start at once: forked from a process that has imported what they all import.

Two thirds of what a crawl in a test costs are imports (1.9 of 2.7 s of CPU, measured with Scrapy 2.19). So one process
per process of pytest imports Scrapy and scrapy_chunkdl, no reactor, nothing of a project, starts no thread, and is
forked for each command: what runs then is ``python -m scrapy`` in a process, a session, a folder and an environment of
its own. ``CHUNKDL_TEST_COLD=1`` starts each from the beginning, as do commands whose environment configures Python in
another way, coverage, and systems other than Linux.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

IMPORTED = {
    "scrapy": "cmdline contracts crawler dupefilters exporters logformatter pqueues resolver shell spiderloader squeues"
    " statscollectors",
    "scrapy.commands": "bench check crawl edit fetch genspider list parse runspider settings shell startproject version"
    " view",
    "scrapy.core": "downloader.contextfactory engine scheduler scraper spidermw",
    "scrapy.core.downloader.handlers": "datauri file ftp http11 s3",
    "scrapy.downloadermiddlewares": "cookies defaultheaders downloadtimeout httpauth httpcache httpcompression"
    " httpproxy offsite redirect retry robotstxt stats useragent",
    "scrapy.extensions": "closespider corestats feedexport logcount logstats memdebug memusage remote_control"
    " spiderstate telnet throttle",
    "scrapy.pipelines": "files",
    "scrapy.spidermiddlewares": "depth httperror metacopy referer start urllength",
    "scrapy.utils": "engine",
    "twisted": "internet.asyncioreactor internet.selectreactor web.client",
    "aiohttp": "web",
    "redis": "asyncio",
    "pydantic": "main",
    "scrapy_chunkdl": "addon commands.chunkdl commands.worker extension pipelines",
}
"""What exists of these is imported; versions of Scrapy differ."""


class Forked(subprocess.Popen[str]):
    """A :class:`subprocess.Popen` whose process another one has forked, and waits for."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        _, _, _, _, cwd, env, _, _, _, *pipes = rest
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = pipes[:6]
        self._told, theirs = socket.socketpair()
        wanted = json.dumps([args, str(cwd), env]).encode()
        null = os.open(os.devnull, os.O_RDWR)
        ends = [p2cread if p2cread != -1 else null, c2pwrite, errwrite if errwrite != -1 else c2pwrite]
        with theirs:
            _nursery().ask(wanted, [theirs.fileno(), *ends])
        os.close(null)
        self.pid = int.from_bytes(self._told.recv(8), "big")
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            self._told.setblocking(not wait_flags & os.WNOHANG)
            told = self._told.recv(8)
        except BlockingIOError:
            return 0, 0
        except OSError:  # the collector was there before: nobody waited for this one
            told = b""
        self._told.close()
        return self.pid, int.from_bytes(told, "big") if told else signal.SIGKILL

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def popen(words: list[str], cwd: Path, env: dict[str, str], **streams: Any) -> subprocess.Popen[str]:
    """Start ``python -m scrapy`` with these words, in a session of its own; streams as with Popen."""
    if not _is_usable(env):
        command = [sys.executable, "-m", "scrapy", *words]
        return subprocess.Popen(command, cwd=cwd, env=env, text=True, start_new_session=True, **streams)
    return Forked(words, cwd=cwd, env=env, text=True, **streams)


def _is_usable(env: dict[str, str]) -> bool:
    def configures(name: str) -> bool:
        return name.startswith(("PYTHON", "LC_", "LANG", "LD_", "COVERAGE")) and name != "PYTHONPATH"

    if sys.platform != "linux" or "coverage" in sys.modules or os.environ.get("CHUNKDL_TEST_COLD"):
        return False
    return all(env.get(name) == os.environ.get(name) for name in {*env, *os.environ} if configures(name))


class _Nursery:
    """The process that is forked. It ends when this one's end of the socket is closed."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

        atexit.register(self._end)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()

    def ask(self, wanted: bytes, fds: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._socket, [wanted], fds)


_made: list[_Nursery] = []
_making = threading.Lock()


def _nursery() -> _Nursery:
    with _making:
        if not _made:
            _made.append(_Nursery())
        return _made[0]


def _serve(asked: socket.socket) -> tuple[list[str], str, dict[str, str]] | None:
    """Fork for whoever asks. Returns in each child, with what it is to run, and None when nobody will ask again."""
    running: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    ready = selectors.DefaultSelector()
    for end in (asked, woken):
        ready.register(end, selectors.EVENT_READ)
    while True:
        events = [key.fileobj for key, _ in ready.select()]
        if woken in events:
            with contextlib.suppress(BlockingIOError):
                woken.recv(1 << 12)
            _tell_of_ended(running)
        if asked not in events:
            continue
        wanted, fds, _, _ = socket.recv_fds(asked, 1 << 20, 4)
        if not wanted:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for end in (asked, woken, waker, *running.values()):
                end.close()
            ready.close()
            told, *streams = fds
            os.close(told)
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
            for fd in set(streams):
                os.close(fd)
            words, cwd, env = json.loads(wanted)
            return words, cwd, env
        told, *streams = fds
        running[pid] = socket.socket(fileno=told)
        running[pid].sendall(pid.to_bytes(8, "big"))
        for fd in streams:
            os.close(fd)


def _tell_of_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as told, contextlib.suppress(OSError):
            told.sendall(status.to_bytes(8, "big"))


def _become(words: list[str], cwd: str, env: dict[str, str], path: list[str]) -> None:
    """Be what ``python -m scrapy`` is at its start."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.path[:] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *path]
    sys.argv[:] = ["scrapy", *words]


def _end_as(status: int) -> None:
    """End as an interpreter does, but for freeing all that it has imported: that is a third of a small crawl's CPU."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _without(path: list[str]) -> list[str]:
    named = {str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    return [entry for entry in path if entry not in named]


if __name__ == "__main__":
    base = _without(sys.path)
    sys.path[:] = base
    sys.modules["twisted.internet.reactor"] = None  # type: ignore[assignment]  # what installs one is left out
    for package, names in IMPORTED.items():
        for name in names.split():
            with contextlib.suppress(ImportError):
                importlib.import_module(f"{package}.{name}")
    del sys.modules["twisted.internet.reactor"]
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()
    work = _serve(socket.socket(fileno=int(sys.argv[1])))
    if work is not None:
        _become(*work, base)
        try:
            runpy.run_module("scrapy", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            if isinstance(ended.code, int):
                _end_as(ended.code)
            raise
