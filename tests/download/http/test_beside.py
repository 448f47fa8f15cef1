"""Files whose checksum lies in a list beside them, or that a metalink says more of."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from fetching import CHUNK, QUICK, SIZE, payload
from ftp_server import Ftp, age

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options
from scrapy_chunkdl.download.http.beside import beside_url

RIGHT = hashlib.sha256(payload()).hexdigest()


class Lists:
    """A server of files that are all the same, and of lists; ``asked`` counts requests by path."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.spoiled: dict[str, int] = {}
        self.sent: Counter[str] = Counter()
        self.failures = 0
        self.gone: set[str] = set()
        self.asked: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked[name] += 1
        if name in self.gone:
            return web.Response(status=404)
        if name not in self.texts:
            return self._file(name, request)
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        return web.Response(text=self.texts[name], content_type=self.types.get(name, "text/plain"))

    def _file(self, name: str, request: web.Request) -> web.Response:
        """Answer with the file or a part of it; the first of those over a byte that is to be spoiled has it wrong."""
        start, stop = 0, SIZE
        if request.headers.get("Range"):
            start, stop = request.http_range.start, request.http_range.stop or SIZE
        body = bytearray(payload()[start:stop])
        at = self.spoiled.get(name, -1)
        if request.method == "GET" and start <= at < stop:
            body[self.spoiled.pop(name) - start] ^= 1
        if request.method == "GET":
            self.sent[name] += len(body)
        headers = {"ETag": '"v1"', "Accept-Ranges": "bytes"}
        if "Range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{SIZE}"
        return web.Response(status=206 if "Range" in request.headers else 200, body=bytes(body), headers=headers)


@pytest.fixture
async def lists() -> AsyncIterator[tuple[Lists, str]]:
    server = Lists()
    application = web.Application()
    application.router.add_get("/{name}", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def fetch(url: str, folder: Path, checksum_url: str, **more: str) -> FileResult:
    async with Downloader(QUICK) as downloader:
        return await downloader.fetch(FileRequest(url, folder, checksum_url=checksum_url, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["SHA256SUMS", "{base}/SHA256SUMS"])
async def test_a_file_is_checked_by_its_line_in_a_list(lists: tuple[Lists, str], tmp_path: Path, place: str) -> None:
    server, base = lists
    server.texts["SHA256SUMS"] = f"{RIGHT}  a.bin\n{'0' * 64}  b.bin\n"

    result = await fetch(f"{base}/a.bin", tmp_path, place.format(base=base))

    assert result.checksum == f"sha256:{RIGHT}"


async def test_a_file_that_is_another_is_refused(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    server.texts["a.bin.sha256"] = "0" * 64

    with pytest.raises(DownloadError) as caught:
        await fetch(f"{base}/a.bin", tmp_path, "a.bin.sha256")

    assert caught.value.reason == "checksum"


async def test_a_file_that_no_line_names_is_not_taken_unchecked(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    server.texts["SHA256SUMS"] = f"{RIGHT}  b.bin\n{RIGHT}  c.bin\n"

    with pytest.raises(DownloadError) as caught:
        await fetch(f"{base}/a.bin", tmp_path, "SHA256SUMS")

    assert caught.value.reason == "no_checksum"
    assert server.asked["a.bin"] == 0


async def test_a_list_that_fails_is_asked_for_again(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    server.texts["SHA256SUMS"], server.failures = f"{RIGHT}  a.bin", 2

    result = await fetch(f"{base}/a.bin", tmp_path, "SHA256SUMS")

    assert result.checksum == f"sha256:{RIGHT}"


async def test_a_list_that_lies_beside_a_file_of_an_ftp_server_is_had_from_there(tmp_path: Path) -> None:
    served = tmp_path / "ftp"
    served.mkdir()
    for name, data in (("a b.bin", payload()), ("SHA256SUMS", f"{RIGHT}  a b.bin\n{'0' * 64}  b.bin\n".encode())):
        (served / name).write_bytes(data)
        age(served / name, 3600.0)
    with Ftp(served) as ftp:
        result = await fetch(ftp.url("a%20b.bin"), tmp_path / "out", "SHA256SUMS")

        with pytest.raises(DownloadError) as caught:
            await fetch(ftp.url("a%20b.bin"), tmp_path / "other", "MD5SUMS")

    assert result.checksum == f"sha256:{RIGHT}"
    assert caught.value.reason == "not_found"


@pytest.mark.parametrize(
    ("url", "reference", "found"),
    [
        ("https://h/pub/a.iso", "SUMS", "https://h/pub/SUMS"),
        ("s3://bucket/pub/a.iso", "SUMS", "s3://bucket/pub/SUMS"),
        ("az://bucket/pub/a.iso", "../SUMS", "az://bucket/SUMS"),
        ("sftp://h:22/~/a.iso", "a.iso.md5", "sftp://h:22/~/a.iso.md5"),
        ("ftp://h/a.iso", "https://other/SUMS", "https://other/SUMS"),
        ("https://h/a.iso?key=1", "?sum", "https://h/a.iso?sum"),
    ],
)
def test_what_lies_beside_a_file_is_of_its_scheme(url: str, reference: str, found: str) -> None:
    assert beside_url(url, reference) == found


async def test_many_files_of_one_list_ask_for_it_once(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    names = [f"{number}.bin" for number in range(5)]
    server.texts["SHA256SUMS"] = "".join(f"{RIGHT}  {name}\n" for name in names)

    async with Downloader(QUICK) as downloader:
        asked = [FileRequest(f"{base}/{name}", tmp_path / name, checksum_url="SHA256SUMS") for name in names]
        results = await asyncio.gather(*map(downloader.fetch, asked))

    assert server.asked["SHA256SUMS"] == 1
    assert {result.checksum for result in results} == {f"sha256:{RIGHT}"}


def metalink(base: str, names: list[str], digest: str = RIGHT) -> str:
    urls = "".join(f"<url>{base}/{name}</url>" for name in names)
    file = f'<file name="a.bin"><hash type="sha-256">{digest}</hash>{urls}</file>'
    return f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">{file}</metalink>'


async def fetch_by_metalink(url: str, folder: Path) -> FileResult:
    async with Downloader(QUICK) as downloader:
        return await downloader.fetch(FileRequest(url, folder, metalink="a.meta4"))


async def test_a_metalink_has_mirrors_and_the_checksum(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    server.texts |= {"a.meta4": metalink(base, ["gone.bin", "mirror.bin"])}
    server.gone |= {"a.bin", "gone.bin"}

    result = await fetch_by_metalink(f"{base}/a.bin", tmp_path)

    assert result.path.name == "a.bin"
    assert result.checksum == f"sha256:{RIGHT}"
    assert server.asked["mirror.bin"] >= 1


async def test_a_file_that_is_not_the_metalinks_is_refused(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    server.texts |= {"a.meta4": metalink(base, [], "0" * 64)}

    with pytest.raises(DownloadError) as caught:
        await fetch_by_metalink(f"{base}/a.bin", tmp_path)

    assert caught.value.reason == "checksum"


@pytest.mark.parametrize("text", ["<html></html>", "no xml"])
async def test_a_metalink_that_is_none_gives_the_file_up(lists: tuple[Lists, str], tmp_path: Path, text: str) -> None:
    server, base = lists
    server.texts |= {"a.meta4": text}

    with pytest.raises(DownloadError) as caught:
        await fetch_by_metalink(f"{base}/a.bin", tmp_path)

    assert caught.value.reason == "bad_metalink"
    assert server.asked["a.bin"] == 0


# --- a URL that leads to a metalink

META4 = "application/metalink4+xml"


def document(
    urls: list[str], *, name: str = "a.bin", digest: str | None = RIGHT, length: int = 0, size: int = SIZE
) -> str:
    hashed = f'<hash type="sha-256">{digest}</hash>' if digest else ""
    parts = [payload()[at : at + length] for at in range(0, SIZE, length)] if length else []
    pieces = "".join(f"<hash>{hashlib.sha1(part).hexdigest()}</hash>" for part in parts)
    if pieces:
        hashed += f'<pieces length="{length}" type="sha-1">{pieces}</pieces>'
    places = "".join(f"<url priority='{number}'>{url}</url>" for number, url in enumerate(urls, 1))
    file = f'<file name="{name}"><size>{size}</size>{hashed}{places}</file>'
    return f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">{file}</metalink>'


def serve(server: Lists, text: str, name: str = "a.meta4") -> None:
    server.texts[name], server.types[name] = text, META4


async def follow(url: str, folder: Path, options: Options = QUICK, **more: str) -> FileResult:
    async with Downloader(options) as downloader:
        return await downloader.fetch(FileRequest(url, folder, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, "mine.bin"])
@pytest.mark.parametrize("document_name", ["a.bin", "../../etc/a.bin", "folder/a.bin", "C:\\a.bin"])
@pytest.mark.parametrize("at", ["a.meta4", "latest"])
async def test_a_url_that_leads_to_a_metalink_brings_its_file(
    lists: tuple[Lists, str], tmp_path: Path, at: str, document_name: str, given: str | None
) -> None:
    server, base = lists
    serve(server, document(["gone.bin", f"{base}/m.bin"], name=document_name), at)
    server.gone.add("gone.bin")

    result = await follow(f"{base}/{at}", tmp_path, **({"name": given} if given else {}))

    assert result.path == tmp_path / (given or "a.bin")
    assert result.path.read_bytes() == payload()
    assert result.checksum == f"sha256:{RIGHT}"
    assert result.url == f"{base}/{at}"


async def test_the_document_itself_is_had_by_a_name_that_says_so(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    serve(server, document(["m.bin"]))

    result = await follow(f"{base}/a.meta4", tmp_path, name="a.meta4")

    assert result.path.read_text() == server.texts["a.meta4"]
    assert server.asked["m.bin"] == 0


async def test_a_file_of_a_metalink_is_up_to_date_in_the_next_run(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    serve(server, document(["m.bin"]))
    await follow(f"{base}/a.meta4", tmp_path)

    again = await follow(f"{base}/a.meta4", tmp_path)

    assert again.status == "uptodate"
    assert server.sent["m.bin"] == SIZE


async def test_an_ftp_server_may_be_a_mirror(lists: tuple[Lists, str], tmp_path: Path) -> None:
    server, base = lists
    (tmp_path / "ftp").mkdir()
    (tmp_path / "ftp" / "m.bin").write_bytes(payload())
    age(tmp_path / "ftp" / "m.bin", 3600.0)
    with Ftp(tmp_path / "ftp") as ftp:
        serve(server, document([f"ftp://{ftp.address}/m.bin"]))

        result = await follow(f"{base}/a.meta4", tmp_path / "out")

    assert result.path.read_bytes() == payload()
    assert result.final_url == f"ftp://{ftp.address}/m.bin"


@pytest.mark.parametrize("digest", [RIGHT, None])
async def test_a_wrong_piece_is_fetched_again_alone_from_another_mirror(
    lists: tuple[Lists, str], tmp_path: Path, digest: str | None
) -> None:
    server, base = lists
    serve(server, document(["m1.bin", "m2.bin"], digest=digest, length=CHUNK))
    server.spoiled |= {"m1.bin": 5 * CHUNK, "m2.bin": 5 * CHUNK}

    result = await follow(f"{base}/a.meta4", tmp_path, replace(QUICK, chunks_per_file=1))

    assert result.path.read_bytes() == payload()
    assert sorted(server.sent.values()) in ([CHUNK, SIZE], [CHUNK, SIZE + CHUNK])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (document([]), "bad_metalink"),
        (document(["rsync://h/m.bin"]), "bad_metalink"),
        (document(["m.bin"])[:-20], "bad_metalink"),
        (document(["m.bin"], digest="12"), "bad_metalink"),
        ("<!DOCTYPE a>" + document(["m.bin"]), "bad_metalink"),
        (document(["m.bin"], digest="0" * 64), "checksum"),
        (document(["m.bin"], size=SIZE + 1), "other_size"),
        (document(["gone.bin"]), "http_404"),
        (document(["a.meta4"]), "other_size"),
    ],
)
async def test_a_bad_metalink_has_one_reason(lists: tuple[Lists, str], tmp_path: Path, text: str, reason: str) -> None:
    server, base = lists
    serve(server, text)
    server.gone.add("gone.bin")

    with pytest.raises(DownloadError) as caught:
        await follow(f"{base}/a.meta4", tmp_path)

    assert caught.value.reason == reason
    assert list(tmp_path.glob("*")) == []


async def test_logins_in_a_metalink_are_shown_nowhere(
    lists: tuple[Lists, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, base = lists
    serve(server, document([f"{base}/gone.bin".replace("://", "://me:secret@"), "m.bin"]))
    server.gone.add("gone.bin")

    result = await follow(f"{base}/a.meta4", tmp_path)

    assert "secret" not in caplog.text + repr(result)
    assert "gone.bin" in caplog.text
