"""Digest authentication: the vectors of RFC 7616, and a server whose answers are checked by Twisted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from fetching import QUICK, SIZE, payload, sha256_of
from twisted.cred.credentials import DigestCredentialFactory
from twisted.cred.error import LoginFailed

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, Options
from scrapy_chunkdl.download.http import digest
from scrapy_chunkdl.download.http.digest import Challenge, challenge_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guarded:
    """A server of one file that lets ``user`` in with ``pa:ss``, by digest alone. ``forget`` makes all nonces stale."""

    def __init__(self, file: Path, algorithm: bytes = b"md5") -> None:
        self._file = file
        self._algorithm = algorithm
        self._logins = DigestCredentialFactory(algorithm, b"the realm")
        self.statuses: list[int] = []
        self.counts: list[tuple[str, str]] = []
        self.sent: list[str] = []
        self.stale_after = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        self.sent.append(given)
        stale = False
        if given.startswith("Digest "):
            try:
                login = self._logins.decode(
                    given.removeprefix("Digest ").encode(), request.method.encode(), b"127.0.0.1"
                )
                if login.checkPassword(b"pa:ss"):
                    found = dict(re.findall(r'\b(nonce|nc|uri)="?([^",]+)', given))
                    assert found["uri"] == request.path_qs
                    self.counts.append((found["nonce"], found["nc"]))
                    if self.stale_after and len(self.counts) % self.stale_after == 0:
                        stale = True
                    else:
                        self.statuses.append(200)
                        return web.FileResponse(self._file)
            except LoginFailed:
                pass
        self.statuses.append(401)
        asked = self._logins.getChallenge(b"127.0.0.1")
        told = ", ".join(f'{name}="{value.decode()}"' for name, value in asked.items() if name != "algorithm")
        told += f", algorithm={self._algorithm.decode()}, qop=auth"
        return web.Response(status=401, headers={"WWW-Authenticate": f"Digest {told}{', stale=true' if stale else ''}"})


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Guarded, str]]:
    (tmp_path / "secret.bin").write_bytes(payload())
    server = Guarded(tmp_path / "secret.bin")
    application = web.Application()
    application.router.add_get("/{name}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server, f"127.0.0.1:{runner.addresses[0][1]}/secret.bin?a=1&b=%20"
    await runner.cleanup()


async def fetched(url: str, folder: Path, options: Options = QUICK, **more: object) -> Path:
    async with Downloader(options) as downloader:
        return (await downloader.fetch(FileRequest(url, folder, **more))).path  # type: ignore[arg-type]


async def test_a_file_behind_digest_comes_in_parts_with_one_nonce_counted_up(
    guarded: tuple[Guarded, str], tmp_path: Path
) -> None:
    server, place = guarded

    path = await fetched(f"http://user:pa%3Ass@{place}", tmp_path / "store")

    assert path.stat().st_size == SIZE
    assert sha256_of(path) == sha256_of(tmp_path / "secret.bin")
    assert server.statuses.count(401) == 1
    assert sorted(server.counts) == [(server.counts[0][0], f"{n:08x}") for n in range(1, len(server.counts) + 1)]


async def test_a_nonce_that_became_stale_is_replaced(guarded: tuple[Guarded, str], tmp_path: Path) -> None:
    server, place = guarded
    server.stale_after = 2

    path = await fetched(f"http://user:pa%3Ass@{place}", tmp_path / "store")

    assert sha256_of(path) == sha256_of(tmp_path / "secret.bin")


async def test_a_wrong_password_is_told_once_and_not_shown(guarded: tuple[Guarded, str], tmp_path: Path) -> None:
    server, place = guarded

    with pytest.raises(DownloadError) as caught:
        await fetched(f"http://user:wr0ng@{place}", tmp_path / "store")

    assert caught.value.reason == "http_401"
    assert "wr0ng" not in str(caught.value)
    assert server.counts == []


async def test_without_a_login_a_challenge_is_not_answered(guarded: tuple[Guarded, str], tmp_path: Path) -> None:
    server, place = guarded

    with pytest.raises(DownloadError) as caught:
        await fetched(f"http://{place}", tmp_path / "store")

    assert caught.value.reason == "http_401"
    assert set(server.sent) == {""}


async def test_the_login_of_a_spider_answers_challenges_too(guarded: tuple[Guarded, str], tmp_path: Path) -> None:
    _, place = guarded
    options = Options(chunk_size=QUICK.chunk_size, authorization="Basic dXNlcjpwYTpzcw==")

    path = await fetched(f"http://{place}", tmp_path / "store", options)

    assert sha256_of(path) == sha256_of(tmp_path / "secret.bin")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(['Digest realm="r", nonce="n"'], ("MD5", False), id="RFC 2069"),
        pytest.param(['Digest realm="r", nonce="n", qop="auth,auth-int"'], ("MD5", True), id="qop list"),
        pytest.param(['Digest realm="r",nonce="n",qop=auth,algorithm=SHA-256'], ("SHA-256", True), id="no spaces"),
        pytest.param(['Basic realm="a", Digest realm="b", nonce="n"'], ("MD5", False), id="behind Basic in one field"),
        pytest.param(["Negotiate", 'DIGEST REALM="r", NONCE="n"'], ("MD5", False), id="any case, second field"),
        pytest.param(
            ['Digest realm="r", nonce="n", algorithm=X-9', 'Digest realm="r", nonce="n", algorithm=MD5'],
            ("MD5", False),
            id="the first that is known",
        ),
        pytest.param(['Digest realm="a \\"b\\", nonce=x", nonce="n"'], ("MD5", False), id="quotes in quotes"),
        pytest.param(['Digest realm="r", nonce="n", qop="auth-int"'], None, id="a body's hash alone"),
        pytest.param(['Digest realm="r"'], None, id="no nonce"),
        pytest.param(['Basic realm="Digest nonce"'], None, id="a realm called so"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_a_challenge_is_read_as_rfc_9110_has_it(fields: list[str], expected: tuple[str, bool] | None) -> None:
    found = challenge_of(fields)

    assert (found and (found.algorithm, found.has_qop)) == expected


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_an_answer_is_that_of_rfc_7616_section_3_9_1(
    algorithm: str, response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest.secrets, "token_hex", lambda size: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    nonce, opaque = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
    challenge = Challenge("http-auth@example.org", nonce, algorithm, opaque, has_qop=True)

    answer = challenge.answer("GET", "/dir/index.html", "Mufasa", "Circle of Life")

    assert f'response="{response}"' in answer
    assert "nc=00000001" in answer


HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def right_response(given: dict[str, str], algorithm: str) -> str:
    """Return what a client that knows the password answers, as RFC 7616 §3.4.1 to §3.4.3 have it."""

    def hashed(*words: str) -> str:
        return hashlib.new(HASHES[algorithm.removesuffix("-sess")], ":".join(words).encode()).hexdigest()

    secret = hashed("user", "r", "pa:ss")
    if algorithm.endswith("-sess"):
        secret = hashed(secret, given["nonce"], given["cnonce"])
    asked = hashed("GET", given["uri"])
    if "qop" not in given:
        return hashed(secret, given["nonce"], asked)
    return hashed(secret, given["nonce"], given["nc"], given["cnonce"], given["qop"], asked)


@pytest.mark.parametrize("qop", ["auth", "auth,auth-int", "auth-int, auth", ""])
@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256"])
async def test_each_algorithm_and_protection_is_answered(tmp_path: Path, algorithm: str, qop: str) -> None:
    refused = []

    async def answer(request: web.Request) -> web.Response:
        field = request.headers.get("Authorization", "")
        given = {name: quoted or bare for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', field)}
        if field.startswith("Digest ") and given["response"] == right_response(given, algorithm):
            return web.Response(body=payload())
        refused.append(field)
        asked = f'Digest realm="r", nonce="n", algorithm={algorithm}' + (f', qop="{qop}"' if qop else "")
        return web.Response(status=401, headers={"WWW-Authenticate": asked})

    application = web.Application()
    application.router.add_get("/{name}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://user:pa%3Ass@127.0.0.1:{runner.addresses[0][1]}/a.bin"
        path = await fetched(url, tmp_path, replace(QUICK, probe="get"))
    finally:
        await runner.cleanup()

    assert path.read_bytes() == payload()
    assert len(refused) == 1
