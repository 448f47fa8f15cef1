"""Files whose checksum lies in a list beside them, or that a metalink says more of."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from fetching import QUICK, payload

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult

RIGHT = hashlib.sha256(payload()).hexdigest()


class Lists:
    """A server of files that are all the same, and of lists; ``asked`` counts requests by path."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.failures = 0
        self.gone: set[str] = set()
        self.asked: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked[name] += 1
        if name in self.gone:
            return web.Response(status=404)
        if name not in self.texts:
            return web.Response(body=payload(), headers={"ETag": '"v1"'})
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        return web.Response(text=self.texts[name])


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
