"""Files of SSH servers, by OpenSSH's sshd."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from fetching import QUICK, SIZE, payload
from ftp_server import age
from patience import HANG
from ssh_server import Ssh, sshd

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options, Progress

PATIENT = replace(QUICK, first_byte_timeout=20.0, stall_timeout=5.0, connect_timeout=10.0)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with one file of several chunks, an hour old."""
    folder = tmp_path / "served"
    folder.mkdir()
    put(folder)
    return folder


def put(folder: Path, name: str = "file.bin", version: int = 1, seconds: float = 3600.0) -> None:
    (folder / name).write_bytes(payload(version=version))
    age(folder / name, seconds)


def options_for(ssh: Ssh, **more: Any) -> Options:
    return replace(PATIENT, **{"sftp_key": str(ssh.key), "sftp_known_hosts": str(ssh.known_hosts), **more})


async def fetch(url: str, folder: Path, options: Options, **more: Any) -> FileResult:
    async with Downloader(options) as downloader:
        return await asyncio.wait_for(downloader.fetch(FileRequest(url, folder, **more)), HANG)


async def fails(url: str, folder: Path, reason: str, options: Options) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        await fetch(url, folder, options)
    assert caught.value.reason == reason, caught.value
    assert len(str(caught.value)) <= 300
    return caught.value


async def test_a_file_comes_in_parts(ssh: Ssh, served: Path, tmp_path: Path) -> None:
    result = await fetch(ssh.url(served / "file.bin"), tmp_path / "store", options_for(ssh))

    assert result.path.read_bytes() == payload()
    assert result.requests > 4


async def test_an_unchanged_file_is_not_fetched_again_and_a_changed_one_is(
    ssh: Ssh, served: Path, tmp_path: Path
) -> None:
    url, options = ssh.url(served / "file.bin"), options_for(ssh)
    await fetch(url, tmp_path / "store", options)

    same = await fetch(url, tmp_path / "store", options)
    put(served, version=2, seconds=600.0)
    other = await fetch(url, tmp_path / "store", options)

    assert (same.status, same.fetched) == ("uptodate", 0)
    assert other.status == "downloaded"
    assert other.path.read_bytes() == payload(version=2)


async def test_a_stopped_file_goes_on_where_it_was(ssh: Ssh, served: Path, tmp_path: Path) -> None:
    url, progress = ssh.url(served / "file.bin"), Progress()
    async with Downloader(options_for(ssh, max_rate=SIZE // 2)) as downloader:
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, tmp_path / "store"), progress))
        while progress.done < SIZE // 3:  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.01)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    result = await fetch(url, tmp_path / "store", options_for(ssh))

    assert result.path.read_bytes() == payload()
    assert result.resumed > 0


@pytest.mark.parametrize("setting", ["MaxStartups=1:100:1", "MaxSessions=1"])
async def test_a_server_that_bears_few_connections_gets_fewer(tmp_path: Path, served: Path, setting: str) -> None:
    with sshd(tmp_path, setting) as ssh:
        options = options_for(ssh, retry_times=8, backoff_base=0.05, backoff_max=0.5)
        result = await fetch(ssh.url(served / "file.bin"), tmp_path / "store", options)

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize("name", ["a b.bin", "文件.bin", "semi;colon.bin", "100%.bin", "hash#.bin", " lead.bin"])
async def test_odd_names_are_asked_for_as_they_are(ssh: Ssh, served: Path, tmp_path: Path, name: str) -> None:
    put(served, name)

    url = ssh.url((served / name).as_uri().removeprefix("file://"))
    result = await fetch(url, tmp_path / "store", options_for(ssh))

    assert result.path.read_bytes() == payload()


async def test_a_name_in_bytes_that_are_no_utf8_is_asked_for_as_these_bytes(
    ssh: Ssh, served: Path, tmp_path: Path
) -> None:
    put(served, os.fsdecode(b"caf\xe9.bin"))

    result = await fetch(ssh.url(f"{served}/caf%E9.bin"), tmp_path / "store", options_for(ssh))

    assert result.path.read_bytes() == payload()


async def test_what_would_be_a_type_in_ftp_is_part_of_the_name(ssh: Ssh, served: Path, tmp_path: Path) -> None:
    put(served, "file.bin;type=i", version=2)

    result = await fetch(ssh.url(f"{served}/file.bin;type=i"), tmp_path / "store", options_for(ssh))

    assert result.path.read_bytes() == payload(version=2)


async def test_an_empty_file_is_a_file(ssh: Ssh, served: Path, tmp_path: Path) -> None:
    (served / "empty.bin").write_bytes(b"")

    result = await fetch(ssh.url(served / "empty.bin"), tmp_path / "store", options_for(ssh))

    assert result.size == 0


@pytest.mark.parametrize(
    ("path", "more", "reason"),
    [
        pytest.param("gone.bin", {}, "not_found", id="no such file"),
        pytest.param("folder", {}, "not_found", id="a folder"),
        pytest.param("file.bin", {"sftp_known_hosts": "/dev/null"}, "host_key", id="a host nobody knows"),
        pytest.param("file.bin", {"sftp_key": "stranger"}, "login_refused", id="a key that is not let in"),
        pytest.param("file.bin", {"sftp_key": "missing"}, "login_refused", id="a key that is not there"),
        pytest.param("file.bin", {"sftp_key": "known_hosts"}, "login_refused", id="a key that is none"),
        pytest.param("file.bin", {"block_private_addresses": True}, "private_address", id="inside"),
        pytest.param("file.bin", {"max_file_size": 10}, "too_large", id="too large"),
    ],
)
async def test_what_cannot_be_had_is_told_by_its_reason(
    ssh: Ssh, served: Path, tmp_path: Path, path: str, more: dict[str, Any], reason: str
) -> None:
    (served / "folder").mkdir()
    if "sftp_key" in more:
        more = {"sftp_key": str(ssh.key.parent / more["sftp_key"])}

    await fails(ssh.url(served / path), tmp_path / "store", reason, options_for(ssh, **more))


async def test_a_password_that_is_refused_is_not_shown(
    ssh: Ssh, served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = ssh.url(served / "file.bin", login=f"{ssh.user}:wr0ng")

    error = await fails(url, tmp_path / "store", "login_refused", options_for(ssh, sftp_key=None))

    assert "wr0ng" not in str(error) + caplog.text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sftp://127.0.0.1:1/a", "connect_failed"),
        ("sftp://no-such-host.invalid/a", "dns"),
        ("sftp://127.0.0.1/folder/", "bad_url"),
    ],
)
async def test_a_server_that_is_not_there_is_told_by_its_reason(tmp_path: Path, url: str, reason: str) -> None:
    await fails(url, tmp_path / "store", reason, PATIENT)


async def test_without_the_library_the_extra_is_named(
    ssh: Ssh, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    monkeypatch.delitem(sys.modules, "scrapy_chunkdl.download.native.sftp", raising=False)

    error = await fails(ssh.url(served / "file.bin"), tmp_path / "store", "missing_extra", options_for(ssh))

    assert "pip install 'scrapy-chunkdl[sftp]'" in str(error)


class Short(asyncssh.SFTPServer):
    """A server that brings less than it is asked for, as the protocol lets it (draft-ietf-secsh-filexfer-02 §6.4)."""

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        data = super().read(file_obj, offset, min(size, 5000))
        assert isinstance(data, bytes)
        return data


@pytest.mark.parametrize("connections", [1, 4])
async def test_a_server_that_brings_less_than_asked_is_asked_for_the_rest(
    served: Path, tmp_path: Path, connections: int
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "key").write_bytes(key.export_private_key())
    (tmp_path / "authorized").write_bytes(key.export_public_key())
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        authorized_client_keys=str(tmp_path / "authorized"),
        sftp_factory=Short,
    )
    port = server.get_port()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
    options = replace(PATIENT, sftp_key=str(tmp_path / "key"), sftp_known_hosts=str(tmp_path / "known"))

    async with server:
        url = f"sftp://me@127.0.0.1:{port}{served}/file.bin"
        result = await fetch(url, tmp_path / "store", replace(options, chunks_per_file=connections))

    assert result.path.read_bytes() == payload()
    assert result.retries == {}
