"""OpenSSH's sshd for the tests, on a port the kernel chose, with a key of its own and one that it lets in."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import free_port, wait_for_port


@dataclass(frozen=True)
class Ssh:
    """A running sshd. ``key`` is the private key of who is let in, ``known_hosts`` the file that knows the server's."""

    port: int
    key: Path
    known_hosts: Path
    user: str

    def url(self, path: Path | str, login: str | None = None) -> str:
        """Return the URL of a file, which ``user`` may read."""
        return f"sftp://{self.user if login is None else login}@127.0.0.1:{self.port}{path}"


@contextmanager
def sshd(place: Path, *settings: str) -> Iterator[Ssh]:
    """Run sshd, where one is installed; ``place`` is for its own files."""
    binary, keygen = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"), shutil.which("ssh-keygen")
    if binary is None or keygen is None:
        pytest.skip("openssh-server is not installed")
    if os.geteuid() == 0:  # root's sshd wants the folder that only its service makes
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host", "user", "stranger"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)], check=True)
    port = free_port()
    known = place / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(place / 'host.pub').read_text()}")
    options = [f"AuthorizedKeysFile={place}/user.pub", "StrictModes=no", "UsePAM=no", "PidFile=none"]
    options += ["ListenAddress=127.0.0.1", "Subsystem=sftp internal-sftp", "LogLevel=QUIET", *settings]
    command = [binary, "-D", "-f", "/dev/null", "-p", str(port), "-h", str(place / "host")]
    process = subprocess.Popen(
        [*command, *(f"-o{option}" for option in options)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, process)
        yield Ssh(port, place / "user", known, getpass.getuser())
    finally:
        process.kill()
        process.wait()
