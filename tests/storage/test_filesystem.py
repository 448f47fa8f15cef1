"""What fsspec knows: tested with its file system in memory, and with real FTP and SSH servers."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import fsspec
import pytest
from origin_content import content
from servers import free_port, wait_for

from scrapy_chunkdl.download import Published, Store
from scrapy_chunkdl.storage import MissingExtra, StoreUnusable, open_store

SIZE = 3_000_000
RECORD = Published("https://example.org/a", SIZE)

FTP_SERVER = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_user("me", "secret", sys.argv[1], perm="elradfmwMT")
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


@pytest.fixture(params=["memory", "ftp", "sftp"])
def place(request: pytest.FixtureRequest) -> tuple[Store, Path | None]:
    """A store, and its folder on disk if it has one."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return open_store("memory://folder", {}), None
    address, folder = request.getfixturevalue(request.param)
    login = "me:secret@" if request.param == "ftp" else ""
    return open_store(f"{request.param}://{login}{address}/folder", {}), folder / "folder"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content("a", SIZE))
    return path


def ignore(count: int) -> None:
    pass


def read(place: tuple[Store, Path | None], key: str) -> bytes:
    folder = place[1]
    return (folder / key).read_bytes() if folder else bytes(fsspec.filesystem("memory").cat(f"/folder/{key}"))


def names(place: tuple[Store, Path | None]) -> set[str]:
    folder = place[1]
    if folder is None:
        return {Path(path).name for path in fsspec.filesystem("memory").find("/folder")}
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_stored_whole_and_its_time_and_size_are_found(place: tuple[Store, Path | None], file: Path) -> None:
    store, moved = place[0], list[int]()

    store.put(file, "new/folder/a b.bin", RECORD, moved.append)

    found = store.find("new/folder/a b.bin")
    assert found is not None
    assert (found.url, found.size) == (None, SIZE)
    assert found.stored_at is not None
    assert parsedate_to_datetime(found.stored_at).year >= 2024
    assert read(place, "new/folder/a b.bin") == content("a", SIZE)
    assert sum(moved) == SIZE


def test_nothing_there_is_none(place: tuple[Store, Path | None]) -> None:
    assert place[0].find("no/such/file") is None
    assert place[0].find("nothing") is None


def test_an_older_file_is_replaced(place: tuple[Store, Path | None], file: Path, tmp_path: Path) -> None:
    (tmp_path / "older").write_bytes(b"older")
    place[0].put(tmp_path / "older", "replaced/a.bin", Published("https://example.org/a", 5), ignore)

    place[0].put(file, "replaced/a.bin", RECORD, ignore)

    assert read(place, "replaced/a.bin") == content("a", SIZE)


def test_an_upload_that_is_stopped_leaves_nothing(place: tuple[Store, Path | None], file: Path) -> None:
    class Stopped(Exception):
        pass

    def moved(count: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        place[0].put(file, "stopped/never.bin", RECORD, moved)

    assert not [name for name in names(place) if name.startswith("never.bin")]
    place[0].put(file, "stopped/after.bin", RECORD, ignore)
    assert "after.bin" in names(place)


def test_a_file_that_does_not_arrive_whole_gets_no_name(place: tuple[Store, Path | None], file: Path) -> None:
    with pytest.raises(OSError, match=f"{SIZE} bytes of {SIZE + 1} arrived"):
        place[0].put(file, "cut/short.bin", Published("https://example.org/a", SIZE + 1), ignore)

    assert not [name for name in names(place) if name.startswith("short.bin")]


def test_two_writers_of_one_file_at_once_leave_one_of_them_whole(
    place: tuple[Store, Path | None], file: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(content("b", SIZE))
    rivals = [tmp_path / "other"]

    def be_overtaken(count: int) -> None:  # in the middle of the first, the second comes and is done
        if rivals:
            place[0].put(rivals.pop(), "both/a.bin", Published("https://example.org/b", SIZE), ignore)

    place[0].put(file, "both/a.bin", RECORD, be_overtaken)

    assert read(place, "both/a.bin") in (content("a", SIZE), content("b", SIZE))
    assert not [name for name in names(place) if name.startswith("a.bin.")]


def test_the_password_is_not_written_into_items(ftp: tuple[str, Path]) -> None:
    address, _ = ftp

    assert open_store(f"ftp://me:secret@{address}/x", {}).uri("a.bin") == f"ftp://me@{address}/x/a.bin"


def test_user_and_password_may_stand_in_scrapys_settings(ftp: tuple[str, Path], file: Path) -> None:
    address, folder = ftp
    store = open_store(f"ftp://{address}/named", {"FTP_USER": "me", "FTP_PASSWORD": "secret"})

    store.put(file, "a.bin", RECORD, ignore)

    assert (folder / "named" / "a.bin").stat().st_size == SIZE
    assert store.uri("a.bin") == f"ftp://{address}/named/a.bin"


def test_active_ftp_is_refused() -> None:
    with pytest.raises(StoreUnusable, match="FEED_STORAGE_FTP_ACTIVE"):
        open_store("ftp://host/x", {"FEED_STORAGE_FTP_ACTIVE": True})


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbprotocol", None)
    monkeypatch.setitem(sys.modules, "smbclient", None)

    with pytest.raises(MissingExtra, match="smbprotocol"):
        open_store("smb://host/x", {})
