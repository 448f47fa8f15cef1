"""Kinds of sources, each with a server of its own that has what is put into it, for tests that go through all of them.

A kind is a class; its words are the reasons of what cannot be had there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
import trustme
from aiohttp import web
from blob_server import Blobs
from fetching import QUICK, payload
from ftp_server import Ftp, age
from ssh_server import sshd

from scrapy_chunkdl.download import Options

PATIENT = replace(QUICK, first_byte_timeout=20.0, stall_timeout=5.0, connect_timeout=10.0, retry_times=1)


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

    def put_in_place(self, name: bytes, data: bytes) -> None:
        """Write into a file that is there, where that is another thing than to put a new one there."""
        self.put(name, data)

    @abstractmethod
    def remove(self, name: bytes) -> None:
        """Have the server have it no more."""

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
        if data is None:
            return web.Response(status=404)
        headers, asked = {"ETag": f'"{zlib.crc32(data)}"', "Accept-Ranges": "bytes"}, request.http_range
        start, stop = asked.start or 0, min(asked.stop or len(data), len(data))
        if request.headers.get("If-Range", headers["ETag"]) != headers["ETag"] or not request.headers.get("Range"):
            return web.Response(body=data, headers=headers)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return web.Response(status=206, body=data[start:stop], headers=headers)

    def put(self, name: bytes, data: bytes) -> None:
        self.files[name] = data

    def remove(self, name: bytes) -> None:
        del self.files[name]

    def url(self, path: str) -> str:
        return f"http://{self.address}/{path}"

    def deny(self) -> None:
        self.is_denied = True

    def with_wrong_login(self) -> tuple[str, Options]:
        return self.url("file.bin").replace("://", "://me:wrong@"), self.options


class OnDisk(Kind):
    gone, denied, login, folder = "not_found", "no_permission", "login_refused", "not_found"
    age_s = 3600.0

    def put(self, name: bytes, data: bytes) -> None:
        path, new = self.place / os.fsdecode(name), self.place.parent / "new"
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        self._age(new)
        new.rename(path)

    def put_in_place(self, name: bytes, data: bytes) -> None:
        path = self.place / os.fsdecode(name)
        path.write_bytes(data)
        self._age(path)

    def remove(self, name: bytes) -> None:
        (self.place / os.fsdecode(name)).unlink()

    def _age(self, path: Path) -> None:
        self.age_s -= 60.0
        age(path, self.age_s)


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


class OfFtps(OfFtp):
    """By AUTH TLS, as most servers have it."""

    scheme = "ftps"

    async def start(self) -> None:
        if sys.version_info < (3, 11):
            pytest.skip("asyncio upgrades a stream to TLS from Python 3.11 on")
        authority, keys = trustme.CA(), self.place.parent
        authority.cert_pem.write_to_path(keys / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(keys / "server.pem")
        self.options = replace(PATIENT, ca_file=str(keys / "ca.pem"))
        self.server = self.stack.enter_context(Ftp(self.place, certificate=keys / "server.pem"))

    def url(self, path: str) -> str:
        return f"ftps://{self.server.address}/{path}"

    def with_wrong_login(self) -> tuple[str, Options]:
        return self.server.url(login="me:wrong", scheme="ftps"), self.options


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

        os.environ |= {"AZURE_STORAGE_ENDPOINT": url, "GOOGLE_BASE_URL": url}
        settings = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        return replace(PATIENT, openers=object_openers(settings))

    def put(self, name: bytes, data: bytes) -> None:
        self.server.blobs[f"bucket/{name.decode()}"] = data

    def remove(self, name: bytes) -> None:
        del self.server.blobs[f"bucket/{name.decode()}"]

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


class OfGoogle(OfObjects):
    scheme = "gs"


@asynccontextmanager
async def started(kind: type[Kind], folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kind]:
    """Run the server of a kind, with one file of several chunks."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL"):
        monkeypatch.setenv(name, "account")  # put back at the end, whatever a kind sets
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    (folder / "served").mkdir()
    running = kind(folder / "served")
    async with running.stack:
        await running.start()
        running.put(b"file.bin", payload())
        yield running


KINDS = [Http, OfFtp, OfFtps, OfSftp, OfS3, OfGoogle, OfAzure]
