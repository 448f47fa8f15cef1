"""Real web servers for the tests, each in a throw-away folder with files to serve.

A server is a line of :data:`KINDS`: Debian's programs with a configuration, or an application of PyPI's, run by
web_applications.py. What is not installed is skipped, with a word on what to install. Ports are the kernel's choice. A
server is stopped at the end of its ``with``; where this process dies without, the kernel ends it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from servers import free_port, wait_for_port

SERVE = Path(__file__).with_name("web_applications.py")
STARTS = 5
"""How often a port that somebody else took in the meantime is chosen anew."""

A_YEAR_AGO = 1_730_000_000
"""Seconds since 1970: when the first version of each file was written."""


@dataclass(frozen=True)
class Kind:
    """A server and what it can do.

    ``command`` gets the folder (the files are in its ``www``) and a port, writes what the program reads, and returns
    how to start it; a port of 0 is the program's own to choose and print. ``resumes``: ranges with validators are
    known to it. ``validators``: it has some. ``is_late``: for a moment it goes on telling of a file what it was before.
    """

    name: str
    needs: tuple[str, ...]
    command: Callable[[Path, int], list[str]]
    prints_port: bool = False
    tls: bool = False
    resumes: bool = True
    validators: bool = True
    is_late: bool = False


class WebServer:
    """A running server of a kind; ``port`` is where it listens on loopback."""

    def __init__(self, kind: Kind, folder: Path, port: int) -> None:
        self.kind = kind
        self.port = port
        self.ca = folder / "ca.pem"
        self._root = folder / "www"

    def write(self, name: str, content: bytes, *, at: int = A_YEAR_AGO) -> None:
        """Put a file there, at once and whole, as a deployment does; ``at`` is the time it tells."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(".new")
        new.write_bytes(content)
        new.chmod(0o644)
        os.utime(new, (at, at))
        new.replace(path)


@contextmanager
def running(kind: Kind) -> Iterator[WebServer]:
    """Start a server of that kind, with no files yet; skip the test that asks where it is not installed."""
    for needed in kind.needs:
        if find(needed) is None:
            pytest.skip(f"{needed} is not installed")
    folder = Path(tempfile.mkdtemp(prefix="chunkdl-web-"))
    try:
        folder.chmod(0o755)  # where root runs the tests, workers are nobody
        (folder / "www").mkdir()
        if kind.tls:
            _issue_certificate(folder)
        process, port = _start(kind, folder)
        try:
            yield WebServer(kind, folder, port)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder)


def find(needed: str) -> str | None:
    """Return where a program is, or a module's name where it can be imported; None where there is none."""
    if needed.startswith("python:"):
        name = needed.removeprefix("python:")
        return name if importlib.util.find_spec(name) else None
    return shutil.which(needed, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _start(kind: Kind, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    for _ in range(STARTS):
        port = 0 if kind.prints_port else free_port()
        log = folder / "server.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [*_ended_with_us(), *kind.command(folder, port)],
                stdout=subprocess.PIPE if kind.prints_port else errors,
                stderr=errors,
                start_new_session=True,
            )
        try:
            if kind.prints_port:
                assert process.stdout is not None
                port = int(process.stdout.readline() or 0)
            wait_for_port(port, process)
            return process, port
        except AssertionError:
            _stop(process)
    raise AssertionError(f"{kind.name} does not start: {log.read_text(errors='replace')[-1000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _ended_with_us() -> list[str]:
    setpriv = find("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _issue_certificate(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = authority.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))


# --- Debian's


def nginx(*, http: str = "", server: str = "", tls: bool = False) -> Callable[[Path, int], list[str]]:
    """Return nginx' command, with more directives in its ``http`` and ``server``."""

    def command(folder: Path, port: int) -> list[str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        listen = f"{port} ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem"
        (folder / "nginx.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log stderr;\n"
            + ("user root;\n" if os.geteuid() == 0 else "")
            + f"worker_processes 2; events {{ }}\nhttp {{ access_log off; {temporary} sendfile on; {http}\n"
            f"server {{ listen 127.0.0.1:{listen if tls else port}; root {folder}/www; {server} }} }}\n"
        )
        return [str(find("nginx")), "-c", f"{folder}/nginx.conf", "-p", str(folder), "-e", "stderr"]

    return command


def apache(*directives: str) -> Callable[[Path, int], list[str]]:
    """Return Apache's command, with more directives."""

    def command(folder: Path, port: int) -> list[str]:
        modules = {"mpm_event": "mpm_event_module", "authz_core": "authz_core_module"}
        lines = [f"LoadModule {name} /usr/lib/apache2/modules/mod_{file}.so" for file, name in modules.items()]
        lines += [f"ServerRoot {folder}", "ServerName localhost", f"Listen 127.0.0.1:{port}", f"PidFile {folder}/pid"]
        lines += [f"ErrorLog {folder}/error.log", f"DefaultRuntimeDir {folder}", f"DocumentRoot {folder}/www"]
        lines += [f"<Directory {folder}/www>", "Require all granted", "</Directory>"]
        lines += ["User #65534", "Group #65534"] if os.geteuid() == 0 else []
        (folder / "apache.conf").write_text("\n".join([*lines, *directives, ""]))
        return [str(find("apache2")), "-DFOREGROUND", "-f", f"{folder}/apache.conf"]

    return command


def lighttpd(*lines: str) -> Callable[[Path, int], list[str]]:
    """Return lighttpd's command, with more lines."""

    def command(folder: Path, port: int) -> list[str]:
        own = [f'server.document-root = "{folder}/www"', 'server.bind = "127.0.0.1"', f"server.port = {port}"]
        (folder / "lighttpd.conf").write_text("\n".join([*own, *lines, ""]))
        return [str(find("lighttpd")), "-D", "-f", f"{folder}/lighttpd.conf"]

    return command


LIGHTTPD_TYPES = 'mimetype.assign = ("" => "application/octet-stream")'
"""Where it knows no type it sends no validators."""

LIGHTTPD_AT_ONCE = 'server.stat-cache-engine = "disable"'

# --- PyPI's


def application(name: str) -> Callable[[Path, int], list[str]]:
    """Return the command for one of web_applications.py's."""
    return lambda folder, _port: [sys.executable, str(SERVE), name, f"{folder}/www"]


def of_pypi(name: str, *modules: str, resumes: bool = True) -> Kind:
    needs = tuple(f"python:{module}" for module in modules)
    return Kind(name, needs, application(name), prints_port=True, resumes=resumes)


KINDS = [
    Kind("nginx", ("nginx",), nginx()),
    Kind("nginx, TLS", ("nginx",), nginx(tls=True), tls=True),
    Kind("nginx, no ETag", ("nginx",), nginx(server="etag off;")),
    Kind("apache", ("apache2",), apache()),
    Kind("apache, no ETag", ("apache2",), apache("FileETag None")),
    Kind("apache, ETag of the inode", ("apache2",), apache("FileETag INode MTime Size")),
    Kind("lighttpd", ("lighttpd",), lighttpd(LIGHTTPD_TYPES, LIGHTTPD_AT_ONCE)),
    Kind("lighttpd, cached", ("lighttpd",), lighttpd(LIGHTTPD_TYPES), is_late=True),
    Kind("lighttpd, no types", ("lighttpd",), lighttpd(LIGHTTPD_AT_ONCE), resumes=False, validators=False),
    of_pypi("tornado", "tornado"),
    of_pypi("aiohttp", "aiohttp"),
    of_pypi("starlette", "starlette", "uvicorn"),
    of_pypi("flask", "flask", "waitress"),
    of_pypi("http.server", resumes=False),
]
"""Another server is another line."""
