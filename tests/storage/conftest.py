"""Real FTP and SSH servers for the stores that are reached through them."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from servers import free_port, wait_for

FTP_SERVER = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_user("me", "secret", sys.argv[1], perm="elradfmwMT")
FTPHandler.authorizer.add_user("reader", "secret", sys.argv[1], perm="elr")
server = FTPServer(("127.0.0.1", 0), FTPHandler)
print(server.address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="session")
def ftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("ftp")
    process = subprocess.Popen(
        [sys.executable, "-c", FTP_SERVER, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield f"127.0.0.1:{int(process.stdout.readline())}", folder
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real sshd, where one is installed; fsspec is told the key as a user tells it: in its own configuration."""
    pytest.importorskip("paramiko")
    sshd, keygen = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"), shutil.which("ssh-keygen")
    if sshd is None or keygen is None:
        pytest.skip("openssh-server is not installed")
    if os.geteuid() == 0:  # root's sshd wants the folder that only its service makes
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path_factory.mktemp("sftp")
    for key in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    port = free_port()
    options = [f"AuthorizedKeysFile={folder}/user.pub", "StrictModes=no", "UsePAM=no", "PidFile=none"]
    options += ["ListenAddress=127.0.0.1", "Subsystem=sftp internal-sftp"]
    command = [sshd, "-D", "-f", "/dev/null", "-p", str(port), "-h", str(folder / "host")]
    process = subprocess.Popen(
        [*command, *(f"-o{option}" for option in options)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: process.poll() is not None or _listens(port), "sshd does not listen")
    if process.poll() is not None:
        pytest.skip("sshd does not run here")
    fsspec.config.conf["sftp"] = {"key_filename": str(folder / "user")}
    yield f"{getpass.getuser()}@127.0.0.1:{port}{folder}", folder
    del fsspec.config.conf["sftp"]
    process.kill()
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
