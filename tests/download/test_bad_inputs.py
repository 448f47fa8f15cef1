"""What can go wrong with a file has one word each, whatever kind of source it is; and what only seems wrong is right.

A kind of source is a class here, a case a row of a table.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fetching import SIZE, payload
from patience import HANG
from source_kinds import KINDS, PATIENT, Http, Kind, OfFtp, OfFtps, OfSftp, started

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options

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


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.scheme))
async def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    async with started(request.param, tmp_path, monkeypatch) as kind:
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


REFUSED = {
    "no path": ("", {"http": "http_404"}),
    "a folder by its slash": ("folder/", {"http": "http_404"}),
    "a file with a slash behind it": ("file.bin/", {"http": "http_404"}),
    "a NUL": ("a%00b.bin", {"http": "http_404"}),
    "a line break": ("a%0D%0ADELE%20file.bin", {"http": "http_404"}),
    "only dots": ("..", {"http": "http_404"}),
    "a folder above": ("no/../no.bin", {"http": "http_404", **dict.fromkeys(("ftp", "ftps", "sftp"), "not_found")}),
    "no UTF-8": ("no%FF.bin", {"http": "http_404", **dict.fromkeys(("ftp", "ftps", "sftp"), "not_found")}),
    "an empty part": ("no//no.bin", {"http": "http_404", **dict.fromkeys(("ftp", "ftps", "sftp"), "not_found")}),
    "a name that is too long": ("x" * 300, {}),
}
"""By what is odd, a path, and its reason where it is another one than ``bad_url``."""


@pytest.mark.parametrize("odd", REFUSED)
async def test_an_odd_path_brings_nothing_instead(kind: Kind, tmp_path: Path, odd: str) -> None:
    kind.put(b"folder/file.bin", b"1")
    path, otherwise = REFUSED[odd]

    reason = await fails(kind.url(path), tmp_path / "out", kind.options)

    assert reason == (otherwise.get(kind.scheme, "bad_url") if otherwise else kind.gone)


@pytest.mark.parametrize("kind", [Http, OfFtp, OfFtps, OfSftp], indirect=True, ids=lambda kind: str(kind.scheme))
@pytest.mark.parametrize("path", ["folder/../file.bin", "./file.bin", "folder/..//file.bin"])
async def test_a_path_with_dots_is_that_of_its_file(kind: Kind, tmp_path: Path, path: str) -> None:
    kind.put(b"folder/other.bin", b"1")

    result = await fetch(kind.url(path), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == payload()
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


@pytest.mark.parametrize("kind", [Http, OfFtp, OfFtps, OfSftp], indirect=True, ids=lambda kind: str(kind.scheme))
async def test_slashes_in_front_do_no_harm(kind: Kind, tmp_path: Path) -> None:
    result = await fetch(kind.url("/file.bin"), tmp_path / "out", kind.options)

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize("kind", [OfFtp, OfFtps], indirect=True, ids=lambda kind: str(kind.scheme))
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
