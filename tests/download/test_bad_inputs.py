"""What can go wrong with a file has one word each, whatever kind of source it is; and what only seems wrong is right.

A kind of source is a class here, a case a row of a table.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from aiohttp import web
from blob_server import Blobs
from fetching import QUICK, SIZE, payload
from ftp_server import Ftp, age
from patience import HANG
from ssh_server import sshd

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options

PATIENT = replace(QUICK, first_byte_timeout=20.0, stall_timeout=5.0, connect_timeout=10.0, retry_times=1)
NAMES = [
    *(
        "a b.bin",
        "100%.bin",
        "%41.bin",
        "\u6587\u4ef6.bin",
        "caf\u00e9.bin",
        "semi;colon.bin",
        "hash#.bin",
        "quest?.bin",
    ),
    *("plus+.bin", "quote'.bin", "a&b=c.bin", "~.bin", "[1].bin", "sub folder/b c.bin", "-dash.bin", ".hidden"),
]


class Kind:
    """A kind of source, with a server that has what is put into it."""

    scheme: str
    gone: str
    denied: str
    login: str
    folder: str

    def __init__(self, place: Path) -> None:
        self.place = place
        self.options = PATIENT
        self.stack = AsyncExitStack()

    @abstractmethod
    async def start(self) -> None:
        """Start the server."""

    @abstractmethod
    def put(self, name: bytes, data: bytes) -> None:
        """Have the server have a file."""

    @abstractmethod
    def url(self, path: str) -> str:
        """Return the URL of a path that is written as it goes into URLs."""

    def elsewhere(self, host: str) -> tuple[str, Options]:
        """Return the URL of a file of another host, and the options it is asked with."""
        return f"{self.scheme}://{host}/file.bin", self.options

    def deny(self) -> None:
        """Have the server not let anybody read."""
        raise NotImplementedError

    def with_wrong_login(self) -> tuple[str, Options]:
        """Return the URL of a file, with a login that is not taken."""
        raise NotImplementedError


class Http(Kind):
    scheme, gone, denied, login, folder = "http", "http_404", "http_403", "http_401", "http_404"

    async def start(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self.is_denied = False
        application = web.Application()
        application.router.add_get("/{name:.*}", self._answer)
        runner = web.AppRunner(application)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization"):
            return web.Response(status=401)
        if self.is_denied:
            return web.Response(status=403)
        data = self.files.get(unquote_to_bytes(request.raw_path).lstrip(b"/"))
        return web.Response(body=data, headers={"ETag": '"1"'}) if data is not None else web.Response(status=404)

    def put(self, name: bytes, data: bytes) -> None:
        self.files[name] = data

    def url(self, path: str) -> str:
        return f"http://{self.address}/{path}"

    def deny(self) -> None:
        self.is_denied = True

    def with_wrong_login(self) -> tuple[str, Options]:
        return self.url("file.bin").replace("://", "://me:wrong@"), self.options


class OnDisk(Kind):
    gone, denied, login, folder = "not_found", "no_permission", "login_refused", "not_found"

    def put(self, name: bytes, data: bytes) -> None:
        path = self.place / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        age(path)


class OfFtp(OnDisk):
    scheme = "ftp"

    async def start(self) -> None:
        self.server = self.stack.enter_context(Ftp(self.place))

    def url(self, path: str) -> str:
        return f"ftp://{self.server.address}/{path}"

    def deny(self) -> None:
        self.server.replies["RETR"] = "550 Permission denied."

    def with_wrong_login(self) -> tuple[str, Options]:
        return self.server.url(login="me:wrong"), self.options


class OfSftp(OnDisk):
    scheme = "sftp"

    async def start(self) -> None:
        self.keys = self.place.parent / "keys"
        self.keys.mkdir()
        self.server = self.stack.enter_context(sshd(self.keys))
        self.options = replace(PATIENT, sftp_key=str(self.server.key), sftp_known_hosts=str(self.server.known_hosts))

    def url(self, path: str) -> str:
        return self.server.url(f"{self.place}/{path}")

    def deny(self) -> None:
        if os.geteuid() == 0:
            pytest.skip("nobody denies root a file")
        (self.place / "file.bin").chmod(0)

    def with_wrong_login(self) -> tuple[str, Options]:
        return self.url("file.bin"), replace(self.options, sftp_key=str(self.keys / "stranger"))


class OfObjects(Kind):
    gone, denied, login, folder = "not_found", "no_permission", "no_permission", "not_found"

    async def start(self) -> None:
        if importlib.util.find_spec("obstore") is None:
            pytest.skip("obstore is not installed")
        self.server = await self.stack.enter_async_context(Blobs())
        self.options = self.options_for(self.server.url)

    def options_for(self, url: str) -> Options:
        from scrapy_chunkdl.storage import object_openers

        os.environ["AZURE_STORAGE_ENDPOINT"] = url
        settings = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        return replace(PATIENT, openers=object_openers(settings))

    def put(self, name: bytes, data: bytes) -> None:
        self.server.blobs[f"bucket/{name.decode()}"] = data

    def url(self, path: str) -> str:
        return f"{self.scheme}://bucket/{path}"

    def elsewhere(self, host: str) -> tuple[str, Options]:
        return self.url("file.bin"), self.options_for(f"http://{host}")

    def deny(self) -> None:
        self.server.replies["bucket/file.bin"] = [403] * 9

    def with_wrong_login(self) -> tuple[str, Options]:
        self.server.replies["bucket/file.bin"] = [401] * 9
        return self.url("file.bin"), self.options


class OfS3(OfObjects):
    scheme = "s3"


class OfAzure(OfObjects):
    scheme = "az"


@pytest.fixture(params=[Http, OfFtp, OfSftp, OfS3, OfAzure], ids=lambda kind: str(kind.scheme))
async def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.setenv(name, "account")
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    (tmp_path / "served").mkdir()
    kind = request.param(tmp_path / "served")
    async with kind.stack:
        await kind.start()
        kind.put(b"file.bin", payload())
        yield kind


async def fetch(url: str, folder: Path, options: Options, **more: Any) -> FileResult:
    async with Downloader(options) as downloader:
        return await asyncio.wait_for(downloader.fetch(FileRequest(url, folder, **more)), HANG)


async def fails(url: str, folder: Path, options: Options, **more: Any) -> str:
    """Fetch, which must not work; return the reason."""
    with pytest.raises(DownloadError) as caught:
        await fetch(url, folder, options, **more)
    assert 0 < len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    return caught.value.reason


@pytest.mark.parametrize(("host", "reason"), [("no-such-host.invalid", "dns"), ("127.0.0.1:1", "connect_failed")])
async def test_a_host_that_is_not_there(kind: Kind, tmp_path: Path, host: str, reason: str) -> None:
    url, options = kind.elsewhere(host)

    assert await fails(url, tmp_path / "out", options) == reason


async def test_a_file_that_is_not_there(kind: Kind, tmp_path: Path) -> None:
    assert await fails(kind.url("gone.bin"), tmp_path / "out", kind.options) == kind.gone


async def test_a_file_in_a_folder_that_is_not_there(kind: Kind, tmp_path: Path) -> None:
    assert await fails(kind.url("no/such/folder/gone.bin"), tmp_path / "out", kind.options) == kind.gone


async def test_a_folder_in_place_of_a_file(kind: Any, tmp_path: Path) -> None:
    kind.put(b"folder/file.bin", b"1")

    assert await fails(kind.url("folder"), tmp_path / "out", kind.options) == kind.folder


async def test_a_file_that_may_not_be_read(kind: Kind, tmp_path: Path) -> None:
    kind.deny()

    assert await fails(kind.url("file.bin"), tmp_path / "out", kind.options) == kind.denied


async def test_a_login_that_is_refused_and_not_shown(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, options = kind.with_wrong_login()

    assert await fails(url, tmp_path / "out", options) == kind.login
    assert "wrong" not in caplog.text


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"max_file_size": SIZE - 1}, "too_large"),
        ({"allowed_hosts": frozenset({"example.org"})}, "host_not_allowed"),
    ],
)
async def test_what_settings_do_not_allow(kind: Kind, tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    assert await fails(kind.url("file.bin"), tmp_path / "out", replace(kind.options, **more)) == reason


async def test_a_checksum_that_is_wrong(kind: Kind, tmp_path: Path) -> None:
    reason = await fails(kind.url("file.bin"), tmp_path / "out", kind.options, checksum="crc32c:00000000")

    assert reason == "checksum"


@pytest.mark.parametrize("name", NAMES)
async def test_an_odd_name_is_that_of_its_file(kind: Kind, tmp_path: Path, name: str) -> None:
    data = payload(1000, key=name)
    kind.put(name.encode(), data)

    result = await fetch(kind.url(quote(name)), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == data
    assert result.path.parent == tmp_path / "out"


@pytest.mark.parametrize("size", [0, 1, SIZE])
async def test_a_file_of_any_size(kind: Kind, tmp_path: Path, size: int) -> None:
    kind.put(b"sized.bin", payload(size))

    result = await fetch(kind.url("sized.bin"), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == payload(size)


@pytest.mark.parametrize("kind", [OfSftp], indirect=True, ids=lambda kind: str(kind.scheme))
async def test_a_name_in_latin_1_is_sent_as_its_bytes(kind: Kind, tmp_path: Path) -> None:
    kind.put(b"caf\xe9.bin", payload(1000))

    result = await fetch(kind.url("caf%E9.bin"), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == payload(1000)


@pytest.mark.parametrize("kind", [Http, OfFtp, OfSftp], indirect=True, ids=lambda kind: str(kind.scheme))
async def test_slashes_in_front_do_no_harm(kind: Kind, tmp_path: Path) -> None:
    result = await fetch(kind.url("/file.bin"), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize("kind", [OfFtp], indirect=True, ids=lambda kind: str(kind.scheme))
@pytest.mark.parametrize("missing", [["REST"], ["SIZE"], ["MDTM"], ["SIZE", "MDTM", "REST"], ["EPSV"]])
async def test_a_server_that_lacks_a_command_gives_the_file(kind: Any, tmp_path: Path, missing: list[str]) -> None:
    kind.server.replies |= dict.fromkeys(missing, "502 Command not implemented.")

    result = await fetch(kind.url("file.bin"), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == payload()


# --- without what an extra brings

EXTRAS = [
    ("ftp", "aioftp", "ftp"),
    ("ftps", "aioftp", "ftp"),
    ("sftp", "asyncssh", "sftp"),
    ("s3", "obstore", "s3"),
    ("gs", "obstore", "cloud"),
    ("az", "obstore", "cloud"),
]


@pytest.mark.parametrize(("scheme", "library", "extra"), EXTRAS)
async def test_without_its_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, library: str, extra: str
) -> None:
    taken_away(monkeypatch, library)

    with pytest.raises(DownloadError) as caught:
        await fetch(f"{scheme}://host.invalid/file.bin", tmp_path / "out", PATIENT)

    assert caught.value.reason == "missing_extra"
    assert library in str(caught.value)
    assert f"scrapy-chunkdl[{extra}]" in str(caught.value)


@pytest.mark.parametrize(("scheme", "library", "extra"), EXTRAS)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_url_that_lacks_its_library_leaves_the_file_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, library: str, extra: str, is_first: bool
) -> None:
    taken_away(monkeypatch, library)
    kind = Http(tmp_path / "served")
    async with kind.stack:
        await kind.start()
        kind.put(b"file.bin", payload())
        urls = [f"{scheme}://host.invalid/file.bin", kind.url("file.bin")]
        url, mirror = urls if is_first else reversed(urls)

        result = await fetch(url, tmp_path / "out", PATIENT, mirrors=(mirror,))

    assert result.path.read_bytes() == payload()


def taken_away(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for module in [name for name in sys.modules if name.startswith("scrapy_chunkdl.download.native.")]:
        if module.rpartition(".")[2].startswith(("ftp", "sftp")):
            monkeypatch.delitem(sys.modules, module)
