"""A file that another takes the place of while it comes is that of one moment, or none, whatever kind its source is.

What happens in the middle is a row of a table, and so is what becomes of a login.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from fetching import CHUNK, SIZE, payload
from ftp_server import Ftp
from patience import HANG
from source_kinds import KINDS, PATIENT, Http, Kind, OnDisk, started

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, Options, Progress

NATIVE = [kind for kind in KINDS if kind is not Http]
NAME = b"file.bin"
NEW, LARGER, SMALLER = payload(version=2), payload(SIZE + CHUNK, version=2), payload(SIZE - CHUNK, version=2)

CHANGES: dict[str, tuple[Callable[[Kind], None], bytes | None]] = {
    "vanishes": (lambda kind: kind.remove(NAME), None),
    "is replaced by one of its size": (lambda kind: kind.put(NAME, NEW), NEW),
    "is replaced by a larger one": (lambda kind: kind.put(NAME, LARGER), LARGER),
    "is replaced by a smaller one": (lambda kind: kind.put(NAME, SMALLER), SMALLER),
    "is written to": (lambda kind: kind.put_in_place(NAME, NEW), NEW),
    "is written to and grows": (lambda kind: kind.put_in_place(NAME, LARGER), LARGER),
    "is cut": (lambda kind: kind.put_in_place(NAME, SMALLER), SMALLER),
    "becomes empty": (lambda kind: kind.put_in_place(NAME, b""), b""),
}
"""What happens, and what is there then."""


@pytest.fixture(params=NATIVE, ids=lambda kind: str(kind.scheme))
async def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    async with started(request.param, tmp_path, monkeypatch) as kind:
        yield kind


async def fetch_and(happens: Callable[[], None], url: str, folder: Path, options: Options) -> bytes | str:
    """Fetch a file; have something happen once a third of it has come. Return its bytes, or why there is none."""
    progress = Progress()
    async with Downloader(replace(options, max_rate=2 * SIZE, retry_times=3)) as downloader:
        fetching = asyncio.ensure_future(downloader.fetch(FileRequest(url, folder), progress))
        while progress.done < SIZE // 3 and not fetching.done():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.002)
        happens()
        try:
            return (await asyncio.wait_for(fetching, HANG)).path.read_bytes()
        except DownloadError as error:
            return error.reason


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_is_that_of_one_moment_whatever_happens_to_it(
    kind: Kind, tmp_path: Path, change: str, connections: int
) -> None:
    happens, there = CHANGES[change]
    options = replace(kind.options, chunks_per_file=connections)

    got = await fetch_and(lambda: happens(kind), kind.url("file.bin"), tmp_path / "out", options)

    assert got in (payload(), kind.gone if there is None else there)


# --- a login that is taken at first


class WithLogin(OnDisk):
    """A kind whose server takes a password until it is told not to. ``tries`` counts how often one was given."""

    tries = 0

    @abstractmethod
    def refuse(self, says: str = "Login incorrect.") -> None:
        """Take the password no more."""

    @abstractmethod
    def cut(self) -> None:
        """Break the connections that are there."""


class FtpWithLogin(WithLogin):
    scheme = "ftp"

    async def start(self) -> None:
        self.options = PATIENT
        self.server = self.stack.enter_context(Ftp(self.place))
        self.server.before = self._count

    def _count(self, command: str, argument: str) -> None:
        self.tries += command == "PASS"

    def url(self, path: str) -> str:
        return self.server.url(path, login="me:se%3Acr%40t")

    def refuse(self, says: str = "Login incorrect.") -> None:
        self.server.replies["PASS"] = f"530 {says}"

    def cut(self) -> None:
        self.server.drop_connections()


class SftpWithLogin(WithLogin):
    scheme = "sftp"
    is_refused = False

    async def start(self) -> None:
        told = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                told.connections.append(conn)

            def begin_auth(self, username: str) -> bool:
                return True

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                told.tries += 1
                return not told.is_refused

        self.connections: list[asyncssh.SSHServerConnection] = []
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=Server, sftp_factory=True)
        await self.stack.enter_async_context(server)
        self.port = server.get_port()
        known = self.place.parent / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {key.export_public_key().decode()}")
        self.options = replace(PATIENT, sftp_known_hosts=str(known))

    def url(self, path: str) -> str:
        return f"sftp://me:se%3Acr%40t@127.0.0.1:{self.port}{self.place}/{path}"

    def refuse(self, says: str = "Login incorrect.") -> None:
        self.is_refused = True

    def cut(self) -> None:
        for connection in self.connections:
            connection.abort()


@pytest.fixture(params=[FtpWithLogin, SftpWithLogin], ids=lambda kind: str(kind.scheme))
async def login(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    async with started(request.param, tmp_path, monkeypatch) as kind:
        yield kind


async def test_a_password_that_is_changed_while_a_file_comes_is_a_refused_login(
    login: WithLogin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login.put(NAME, payload(16 * SIZE))  # more than comes ahead of a reader

    def change() -> None:
        login.tries = 0
        login.refuse()
        login.cut()

    got = await fetch_and(change, login.url("file.bin"), tmp_path / "out", login.options)

    assert got == "login_refused"
    assert 0 < login.tries <= 2 * 4  # what was asked by four connections at once, and no more for ever
    assert "cr@t" not in caplog.text
    assert "cr%40t" not in caplog.text


async def test_a_password_that_is_changed_does_not_end_what_is_logged_in(login: WithLogin, tmp_path: Path) -> None:
    got = await fetch_and(login.refuse, login.url("file.bin"), tmp_path / "out", login.options)

    assert got == payload()


async def test_one_login_too_many_is_no_wrong_one_though_the_server_says_so(login: WithLogin, tmp_path: Path) -> None:
    async with Downloader(replace(login.options, retry_times=3)) as downloader:
        await downloader.fetch(FileRequest(login.url("file.bin"), tmp_path / "one"))
        login.refuse()

        result = await downloader.fetch(FileRequest(login.url("file.bin"), tmp_path / "two"))

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("Login incorrect.", "login_refused"),
        ("Login incorrect, try again later.", "login_refused"),
        ("Sorry, the maximum number of clients (4) for this user are already connected.", "too_many_connections"),
        ("Too many connections from your address", "too_many_connections"),
    ],
)
@pytest.mark.parametrize("login", [FtpWithLogin], indirect=True, ids=lambda kind: str(kind.scheme))
async def test_the_words_of_a_refusal_tell_a_wrong_login_from_one_too_many(
    login: WithLogin, tmp_path: Path, says: str, reason: str
) -> None:
    login.refuse(says)

    got = await fetch_and(lambda: None, login.url("file.bin"), tmp_path / "out", login.options)

    assert got == reason
