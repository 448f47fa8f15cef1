"""The table of docs/sources.md, cell by cell: what it says of a kind of source is what that kind does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fetching import SIZE, payload
from patience import HANG
from source_kinds import KINDS, Http, Kind, OfFtp, OfFtps, started

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options, Progress

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
COLUMNS = ("needs", "in parts", "resumed", "tells versions by", "checksums it tells", "proxies")
DIGEST = f"sha256:{hashlib.sha256(payload()).hexdigest()}"


def cells(scheme: str) -> dict[str, str]:
    """Return the row of a scheme."""
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| `{scheme}://`")]
    return dict(zip(COLUMNS, [cell.strip() for cell in line.split("|")[2:-1]], strict=True))


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.scheme))
async def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    async with started(request.param, tmp_path, monkeypatch) as kind:
        yield kind


async def fetch(kind: Kind, folder: Path, options: Options | None = None, **more: Any) -> FileResult:
    async with Downloader(options or kind.options) as downloader:
        request = FileRequest(kind.url("file.bin"), folder, **more)
        return await asyncio.wait_for(downloader.fetch(request), HANG)


async def test_it_comes_in_parts(kind: Kind, tmp_path: Path) -> None:
    result = await fetch(kind, tmp_path / "out")

    assert cells(kind.scheme)["in parts"] not in ("no", "")
    assert result.path.read_bytes() == payload()
    assert result.one_stream == ""
    assert result.requests >= 4


@pytest.mark.parametrize("kind", [OfFtp, OfFtps], indirect=True, ids=lambda kind: str(kind.scheme))
@pytest.mark.parametrize("missing", ["REST", "MDTM"])
async def test_without_what_parts_take_it_comes_in_one_stream(kind: Any, tmp_path: Path, missing: str) -> None:
    kind.server.replies[missing] = "502 Command not implemented."

    result = await fetch(kind, tmp_path / "out")

    assert missing in cells("ftp")["in parts"]
    assert cells("ftps")["in parts"] == "the same"
    assert result.path.read_bytes() == payload()
    assert result.one_stream in ("source", "no_validator")


async def test_a_later_run_goes_on_where_an_earlier_one_was_stopped(kind: Kind, tmp_path: Path) -> None:
    progress = Progress()
    async with Downloader(replace(kind.options, max_rate=2 * SIZE)) as downloader:
        request = FileRequest(kind.url("file.bin"), tmp_path / "out")
        fetching = asyncio.ensure_future(downloader.fetch(request, progress))
        while progress.done < SIZE // 3:  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.002)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    result = await fetch(kind, tmp_path / "out")

    assert cells(kind.scheme)["resumed"] not in ("no", "")
    assert result.resumed > 0
    assert result.fetched < SIZE
    assert result.path.read_bytes() == payload()


async def test_it_tells_one_version_from_the_next(kind: Kind, tmp_path: Path) -> None:
    await fetch(kind, tmp_path / "out")

    same = await fetch(kind, tmp_path / "out")
    kind.put(b"file.bin", payload(version=2))
    other = await fetch(kind, tmp_path / "out")

    assert cells(kind.scheme)["tells versions by"] not in ("no", "none", "")
    assert (same.status, same.fetched) == ("uptodate", 0)
    assert other.status == "downloaded"
    assert other.path.read_bytes() == payload(version=2)


async def test_who_tells_no_checksum_has_it_made_and_compared(kind: Kind, tmp_path: Path) -> None:
    untold = await fetch(kind, tmp_path / "untold")
    checked = await fetch(kind, tmp_path / "checked", checksum=DIGEST)

    assert (cells(kind.scheme)["checksums it tells"] == "none") is (kind.scheme != Http.scheme)
    assert untold.checksum is None
    assert checked.checksum == DIGEST


async def test_a_list_beside_it_checks_it(kind: Kind, tmp_path: Path) -> None:
    kind.put(b"SHA256SUMS", f"{DIGEST.partition(':')[2]}  file.bin\n".encode())
    kind.put(b"wrong.sha256", b"0" * 64)

    checked = await fetch(kind, tmp_path / "checked", checksum_url="SHA256SUMS")
    with pytest.raises(DownloadError) as caught:
        await fetch(kind, tmp_path / "wrong", checksum_url="wrong.sha256")

    assert checked.checksum == DIGEST
    assert caught.value.reason == "checksum"


async def test_it_may_be_a_mirror_in_a_metalink_which_may_lie_beside_it(kind: Kind, tmp_path: Path) -> None:
    document = (
        '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="file.bin">'
        f'<size>{SIZE}</size><hash type="sha-256">{DIGEST.partition(":")[2]}</hash>'
        f'<url priority="1">{kind.url("gone.bin")}</url><url priority="2">{kind.url("file.bin")}</url>'
        "</file></metalink>"
    )
    kind.put(b"file.bin.meta4", document.encode())
    async with Downloader(kind.options) as downloader:
        request = FileRequest(kind.url("first.bin"), tmp_path / "out", metalink="file.bin.meta4")
        result = await asyncio.wait_for(downloader.fetch(request), HANG)

    assert result.path.read_bytes() == payload()
    assert result.checksum == DIGEST


async def test_a_proxy_it_cannot_go_through_is_not_gone_around(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        await fetch(kind, tmp_path / "out", proxy="socks5://127.0.0.1:1")

    has_proxies = cells(kind.scheme)["proxies"] != "none"
    assert caught.value.reason == ("connect_failed" if has_proxies else "bad_proxy")
