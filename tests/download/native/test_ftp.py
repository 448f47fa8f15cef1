"""Files of FTP servers: pyftpdlib told to misbehave, vsftpd, and aioftp's own server for TLS from the first byte."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aioftp
import pytest
import trustme
from fetching import CHUNK, QUICK, SIZE, payload, sha256_of
from ftp_server import PASSWORD, USER, Ftp, age, vsftpd
from patience import HANG

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options, Progress
from scrapy_chunkdl.text.masking import printable

PATIENT = replace(QUICK, first_byte_timeout=5.0, stall_timeout=2.0)
LOGIN = f"{USER}:se%3Acr%40t"


@pytest.fixture(scope="module")
def _ftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ftp]:
    with Ftp(tmp_path_factory.mktemp("ftp")) as server:
        yield server


@pytest.fixture
def ftp(_ftp: Ftp) -> Ftp:
    """A server with one file of several chunks, an hour old, that does as it is told."""
    for entry in _ftp.folder.iterdir():
        entry.unlink()
    put(_ftp.folder)
    _ftp.replies.clear()
    _ftp.commands.clear()
    _ftp.cuts = _ftp.silences = _ftp.peak = 0
    _ftp.before = lambda command, argument: None
    _ftp.most = 512
    return _ftp


def put(folder: Path, name: str = "file.bin", version: int = 1, seconds: float = 3600.0) -> None:
    path = folder / name
    path.write_bytes(payload(version=version))
    age(path, seconds)


async def fetch(url: str, folder: Path, options: Options = PATIENT, **more: Any) -> FileResult:
    before = asyncio.all_tasks()
    async with Downloader(options) as downloader:
        result = await asyncio.wait_for(downloader.fetch(FileRequest(url, folder, **more)), HANG)
    assert asyncio.all_tasks() == before
    return result


async def right(url: str, folder: Path, options: Options = PATIENT, version: int = 1, **more: Any) -> FileResult:
    result = await fetch(url, folder, options, **more)
    assert result.path.read_bytes() == payload(version=version)
    return result


async def fails(url: str, folder: Path, reason: str, options: Options = PATIENT, **more: Any) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        await fetch(url, folder, options, **more)
    assert caught.value.reason == reason, caught.value
    assert len(str(caught.value)) <= 300
    assert not folder.exists() or not any(path.suffix == ".bin" for path in folder.iterdir())
    return caught.value


async def test_a_file_comes_in_parts_over_several_connections(ftp: Ftp, tmp_path: Path) -> None:
    result = await right(ftp.url(), tmp_path)

    assert ftp.count()["RETR"] >= 4
    assert ftp.peak >= 2
    assert result.size == SIZE
    assert result.path.name == "file.bin"


async def test_connections_are_used_again_for_the_next_file(ftp: Ftp, tmp_path: Path) -> None:
    put(ftp.folder, "other.bin")
    options = replace(PATIENT, chunks_per_file=1)
    async with Downloader(options) as downloader:
        for name in ("file.bin", "other.bin"):
            await downloader.fetch(FileRequest(ftp.url(name), tmp_path))

    assert ftp.count()["PASS"] == 1


async def test_an_unchanged_file_is_not_fetched_again(ftp: Ftp, tmp_path: Path) -> None:
    await right(ftp.url(), tmp_path)
    ftp.commands.clear()

    result = await right(ftp.url(), tmp_path)

    assert result.status == "uptodate"
    assert ftp.count()["RETR"] == 0


@pytest.mark.parametrize("seconds", [3600.0, 1800.0])
async def test_a_file_that_was_changed_is_fetched_again(ftp: Ftp, tmp_path: Path, seconds: float) -> None:
    await right(ftp.url(), tmp_path)
    put(ftp.folder, version=2, seconds=seconds / 2)

    result = await right(ftp.url(), tmp_path, version=2)

    assert result.status == "downloaded"


async def test_a_file_that_is_replaced_meanwhile_comes_whole_of_one_version(ftp: Ftp, tmp_path: Path) -> None:
    def replace_it(command: str, argument: str) -> None:
        if command == "RETR" and ftp.count()["RETR"] == 3:
            put(ftp.folder, version=2, seconds=600.0)

    ftp.before = replace_it

    await right(ftp.url(), tmp_path, version=2)


async def test_a_stopped_file_goes_on_where_it_was(ftp: Ftp, tmp_path: Path) -> None:
    progress = Progress()
    slow = replace(PATIENT, max_rate=SIZE // 2)
    async with Downloader(slow) as downloader:
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(ftp.url(), tmp_path), progress))
        while progress.done < SIZE // 3:  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.01)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    result = await right(ftp.url(), tmp_path)

    assert result.resumed > 0
    assert result.fetched < SIZE


@pytest.mark.parametrize("after", [0, CHUNK // 2, 2 * CHUNK])
async def test_a_transfer_that_breaks_goes_on_from_its_byte(ftp: Ftp, tmp_path: Path, after: int) -> None:
    ftp.cuts, ftp.cut_after = 3, after

    await right(ftp.url(), tmp_path)


async def test_a_connection_that_falls_silent_is_given_up_for_another(ftp: Ftp, tmp_path: Path) -> None:
    ftp.silences = 1

    await right(ftp.url(), tmp_path, replace(PATIENT, stall_timeout=0.4))


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_too_many_connections_lower_how_many_are_made(ftp: Ftp, tmp_path: Path, most: int) -> None:
    ftp.most = most + 1  # pyftpdlib counts its listening socket, too

    result = await right(ftp.url(), tmp_path)

    assert set(result.retries) <= {"too_many_connections"}


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param({"REST": "502 no"}, id="no REST"),
        pytest.param({"MDTM": "502 no"}, id="no date"),
        pytest.param({"SIZE": "502 no"}, id="no size"),
        pytest.param({"SIZE": "550 SIZE not allowed in ASCII mode", "MDTM": "550 no"}, id="neither, by 550"),
        pytest.param({"SIZE": "213 many", "MDTM": "213 yesterday"}, id="no numbers"),
        pytest.param({"MDTM": "213 99999999999999"}, id="no date of any year"),
        pytest.param({"EPSV": "500 no"}, id="no EPSV"),
        pytest.param({"EPSV": "522 network protocol not supported"}, id="EPSV refused otherwise"),
        pytest.param({"NOOP": "500 no"}, id="no NOOP"),
        pytest.param({"PWD": "500 no", "REST": "501 no"}, id="no PWD"),
        pytest.param({"OPTS": "500", "FEAT": "500", "SYST": "500"}, id="nothing else"),
    ],
)
async def test_what_a_server_lacks_is_done_without(ftp: Ftp, tmp_path: Path, refused: dict[str, str]) -> None:
    ftp.replies = refused

    await right(ftp.url(), tmp_path)


async def test_a_connection_that_still_speaks_of_the_last_transfer_is_not_used_again(ftp: Ftp, tmp_path: Path) -> None:
    ftp.replies["NOOP"] = "226 Transfer complete.\r\n200 OK"

    await right(ftp.url(), tmp_path)

    assert ftp.count()["PASS"] > 1


async def test_a_server_without_rest_is_asked_for_one_stream(ftp: Ftp, tmp_path: Path) -> None:
    ftp.replies["REST"] = "502 no"

    await right(ftp.url(), tmp_path)

    assert ftp.count()["RETR"] == 1


async def test_an_empty_file_is_a_file(ftp: Ftp, tmp_path: Path) -> None:
    (ftp.folder / "empty.bin").write_bytes(b"")

    result = await fetch(ftp.url("empty.bin"), tmp_path)

    assert result.path.read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "in_url"),
    [
        ("a b.bin", "a%20b.bin"),
        ("a b.bin", "a b.bin"),
        (" leading and trailing .bin", "%20leading%20and%20trailing%20.bin"),
        ("semi;colon.bin", "semi;colon.bin"),
        ("hash#mark.bin", "hash%23mark.bin"),
        ("what?.bin", "what?.bin"),
        ("100%.bin", "100%25.bin"),
        ('quo"te.bin', "quo%22te.bin"),
        ("ünïcödé-文件.bin", "%C3%BCn%C3%AFc%C3%B6d%C3%A9-%E6%96%87%E4%BB%B6.bin"),
        ("文件.bin", "文件.bin"),
        ("-rf.bin", "-rf.bin"),
        ("file.bin", "file.bin;type=i"),
        ("file.bin", "/file.bin"),
        ("file.bin", "%2Ffile.bin"),
    ],
)
async def test_odd_names_are_asked_for_as_they_are(ftp: Ftp, tmp_path: Path, name: str, in_url: str) -> None:
    put(ftp.folder, name)

    await right(ftp.url(in_url), tmp_path)


async def test_a_name_in_bytes_that_are_no_utf8_is_asked_for_as_these_bytes(tmp_path: Path) -> None:
    folder, place = tmp_path / "served", tmp_path / "own"
    folder.mkdir()
    place.mkdir()
    path = os.fsencode(folder) + b"/caf\xe9.bin"
    put(folder, os.fsdecode(path.rpartition(b"/")[2]))
    tmp_path.chmod(0o755)
    with vsftpd(folder, place) as address:
        await right(f"ftp://{address}/caf%E9.bin", tmp_path / "store")


async def test_a_login_is_taken_from_the_url_or_the_options(ftp: Ftp, tmp_path: Path) -> None:
    await right(ftp.url(login=LOGIN), tmp_path / "a")
    await right(ftp.url(), tmp_path / "b", replace(PATIENT, ftp_login=(USER, PASSWORD)))

    assert {argument for command, argument in ftp.commands if command == "USER"} == {USER}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param({"name": "nothing.bin"}, "not_found", id="no such file"),
        pytest.param({"name": "folder"}, "not_found", id="a folder"),
        pytest.param({"login": f"{USER}:wrong"}, "login_refused", id="login refused"),
        pytest.param({"name": "folder/"}, "bad_url", id="a folder by its slash"),
        pytest.param({"name": ""}, "bad_url", id="no path"),
        pytest.param({"name": "a%0d%0aDELE%20file.bin"}, "bad_url", id="a second command"),
        pytest.param({"name": "a%00.bin"}, "bad_url", id="a NUL"),
    ],
)
async def test_what_cannot_be_had_is_told_by_its_reason(
    ftp: Ftp, tmp_path: Path, bad: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (ftp.folder / "folder").mkdir(exist_ok=True)
    try:
        error = await fails(ftp.url(**bad), tmp_path, reason)
    finally:
        (ftp.folder / "folder").rmdir()

    assert "wrong" not in str(error) + caplog.text
    assert ftp.count()["DELE"] == 0


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"RETR": "550 Permission denied."}, "no_permission"),
        ({"RETR": "550 No such file."}, "not_found"),
        ({"RETR": "553 File name not allowed."}, "no_permission"),
        ({"RETR": "530 Not logged in."}, "no_permission"),
        ({"RETR": "450 File busy."}, "too_many_connections"),
        ({"RETR": "451 Local error."}, "ftp_451"),
        ({"RETR": "425 Cannot open data connection."}, "connection_lost"),
        ({"RETR": "500 what"}, "ftp_500"),
        ({"PASS": "530 Sorry, the maximum number of clients are already connected."}, "too_many_connections"),
        ({"PASS": "421 Service not available."}, "too_many_connections"),
        ({"USER": "530 This server is private"}, "login_refused"),
        ({"USER": ""}, "connection_lost"),
        ({"EPSV": "500 no", "PASV": "500 no"}, "ftp_500"),
        ({"EPSV": "229 no port here"}, "bad_response"),
        ({"TYPE": "421 Timeout."}, "too_many_connections"),
    ],
)
async def test_what_a_server_refuses_is_told_by_its_reason(
    ftp: Ftp, tmp_path: Path, replies: dict[str, str], reason: str
) -> None:
    ftp.replies = replies

    await fails(ftp.url(), tmp_path, reason)


async def test_a_file_that_vanishes_meanwhile_is_not_found(ftp: Ftp, tmp_path: Path) -> None:
    def vanish(command: str, argument: str) -> None:
        if command == "RETR":
            (ftp.folder / "file.bin").unlink(missing_ok=True)

    ftp.before = vanish

    await fails(ftp.url(), tmp_path, "not_found")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://no-such-host.invalid/file.bin", "dns"),
        ("ftp://127.0.0.1:1/file.bin", "connect_failed"),
        ("ftps://127.0.0.1:1/file.bin", "connect_failed"),
    ],
)
async def test_a_server_that_is_not_there_is_told_by_its_reason(tmp_path: Path, url: str, reason: str) -> None:
    await fails(url, tmp_path, reason)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"block_private_addresses": True}, "private_address"),
        ({"allowed_hosts": frozenset({"example.org"})}, "host_not_allowed"),
        ({"max_file_size": SIZE - 1}, "too_large"),
    ],
)
async def test_what_holds_for_http_holds_for_ftp(
    ftp: Ftp, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    await fails(ftp.url(), tmp_path, reason, replace(PATIENT, **options))


async def test_a_name_that_leads_inside_is_refused_before_it_is_connected_to(ftp: Ftp, tmp_path: Path) -> None:
    url = ftp.url().replace("127.0.0.1", socket.gethostname())

    await fails(url, tmp_path, "private_address", replace(PATIENT, block_private_addresses=True))

    assert ftp.commands == []


async def test_a_file_that_is_to_go_through_a_proxy_is_not_fetched_without_it(ftp: Ftp, tmp_path: Path) -> None:
    await fails(ftp.url(), tmp_path, "bad_proxy", proxy="socks5://127.0.0.1:1")

    assert ftp.commands == []


async def test_a_wrong_checksum_is_fetched_again_and_told(ftp: Ftp, tmp_path: Path) -> None:
    await fails(ftp.url(), tmp_path, "checksum", checksum=f"sha256:{'0' * 64}")


async def test_an_http_mirror_and_an_ftp_server_bring_one_file(ftp: Ftp, tmp_path: Path, origin: Any) -> None:
    path = ftp.folder / "file.bin"

    result = await right(
        ftp.url(), tmp_path, mirrors=(origin.url("file.bin", SIZE),), checksum=f"sha256:{sha256_of(path)}"
    )

    assert result.checksum == f"sha256:{sha256_of(path)}"
    assert origin.stats("file.bin").sent > 0
    assert ftp.count()["RETR"] > 0


async def test_a_limit_in_bytes_per_second_holds(ftp: Ftp, tmp_path: Path) -> None:
    began = asyncio.get_running_loop().time()

    await right(ftp.url(), tmp_path, replace(PATIENT, max_rate=SIZE))

    assert asyncio.get_running_loop().time() - began > 0.5  # never faster than the limit, whatever the machine does


async def test_without_the_library_the_extra_is_named(
    ftp: Ftp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aioftp", None)
    for name in [name for name in sys.modules if name.startswith("scrapy_chunkdl.download.native.ftp")]:
        monkeypatch.delitem(sys.modules, name)

    error = await fails(ftp.url(), tmp_path, "missing_extra")

    assert "pip install 'scrapy-chunkdl[ftp]'" in str(error)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path, Path]:
    """An authority, its certificate, and a file with the key and certificate of 127.0.0.1."""
    folder, authority = tmp_path_factory.mktemp("ca"), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return authority, folder / "ca.pem", folder / "server.pem"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio upgrades a stream to TLS from Python 3.11 on")
async def test_ftps_speaks_auth_tls_where_the_server_greets_in_plain_text(
    tmp_path: Path, authority: tuple[trustme.CA, Path, Path]
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    put(folder)
    options = replace(PATIENT, ca_file=str(authority[1]))
    with Ftp(folder, certificate=authority[2]) as server:
        await right(server.url(scheme="ftps", login=LOGIN), tmp_path / "store", options)

        assert server.count()["AUTH"] >= 1
        assert server.count()["PROT"] >= 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio upgrades a stream to TLS from Python 3.11 on")
async def test_ftps_never_logs_in_without_tls(ftp: Ftp, tmp_path: Path) -> None:
    await fails(ftp.url(scheme="ftps", login=LOGIN), tmp_path, "ftp_500")

    assert ftp.count()["USER"] == ftp.count()["PASS"] == 0


async def test_a_certificate_nobody_trusts_is_refused_before_the_login(
    tmp_path: Path, authority: tuple[trustme.CA, Path, Path]
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    put(folder)
    with Ftp(folder, certificate=authority[2]) as server:
        await fails(server.url(scheme="ftps", login=LOGIN), tmp_path / "store", "tls")

        assert server.count()["PASS"] == 0


async def test_ftps_speaks_tls_from_the_first_byte_where_the_server_does(
    tmp_path: Path, authority: tuple[trustme.CA, Path, Path]
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    put(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority[2])
    server = aioftp.Server([aioftp.User(base_path=folder)], ssl=context)
    await server.start("127.0.0.1", 0)
    try:
        options = replace(PATIENT, ca_file=str(authority[1]))
        async with Downloader(options) as downloader:
            url = f"ftps://127.0.0.1:{server.address[1]}/file.bin"
            result = await downloader.fetch(FileRequest(url, tmp_path / "store"))
        assert result.path.read_bytes() == payload()
    finally:
        await server.close()


@pytest.fixture
def served(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with the file that anybody may read, and one for a server's own files."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    folder, place = tmp_path / "served", tmp_path / "own"
    folder.mkdir()
    place.mkdir()
    put(folder)
    return folder, place


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="as it comes"),
        pytest.param({"max_clients": "2"}, id="two connections"),
        pytest.param({"max_per_ip": "1"}, id="one for an address"),
        pytest.param({"anon_max_rate": "2000000"}, id="slow"),
        pytest.param({"ascii_download_enable": "YES"}, id="ASCII mode"),
    ],
)
async def test_vsftpd_is_read_in_parts(served: tuple[Path, Path], tmp_path: Path, settings: dict[str, str]) -> None:
    with vsftpd(*served, **settings) as address:
        result = await right(f"ftp://{address}/file.bin", tmp_path / "store")

    assert set(result.retries) <= {"too_many_connections"}


async def test_vsftpd_tells_missing_files_and_those_that_may_not_be_read_by_one_reply(
    served: tuple[Path, Path], tmp_path: Path
) -> None:
    (served[0] / "secret.bin").write_bytes(b"x")
    (served[0] / "secret.bin").chmod(0o600)
    with vsftpd(*served) as address:
        await fails(f"ftp://{address}/secret.bin", tmp_path / "a", "not_found")
        await fails(f"ftp://{address}/nothing.bin", tmp_path / "b", "not_found")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio upgrades a stream to TLS from Python 3.11 on")
async def test_vsftpd_wants_data_connections_to_resume_the_session_of_the_login(
    served: tuple[Path, Path], tmp_path: Path, authority: tuple[trustme.CA, Path, Path]
) -> None:
    folder, place = served
    pem = str(authority[2])
    tls = {"ssl_enable": "YES", "allow_anon_ssl": "YES", "require_ssl_reuse": "YES", "rsa_cert_file": pem}
    tls |= {"rsa_private_key_file": pem, "force_anon_logins_ssl": "YES", "force_anon_data_ssl": "YES"}
    with vsftpd(folder, place, **tls) as address:
        await right(f"ftps://{address}/file.bin", tmp_path / "store", replace(PATIENT, ca_file=str(authority[1])))


def test_a_printed_login_shows_no_password() -> None:
    assert "secret" not in printable("ftp://me:secret@host/file")
