"""A file that came lately is up to date without a question; an older one is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fetching import Client
from origin import Origin

from scrapy_chunkdl.download import DownloadError

DAY = 86400.0


@pytest.mark.parametrize("name", ["out.bin", None])
async def test_a_young_file_costs_no_request(client: Client, origin: Origin, name: str | None) -> None:
    keeping = client.with_options(expires=DAY)
    url = client.url("header:Content-Disposition=attachment%3Bfilename=told.bin")
    first = await keeping.right(url, name=name)
    before = origin.stats("file.bin").requests

    again = await keeping.right(url, name=name)

    assert (again.status, again.path, again.fetched, again.requests) == ("uptodate", first.path, 0, 0)
    assert origin.stats("file.bin").requests == before


async def test_an_old_file_is_asked_for(client: Client, origin: Origin) -> None:
    await client.right(client.url())
    before = origin.stats("file.bin").requests

    again = await client.with_options(expires=1e-9).right(client.url())

    assert again.status == "uptodate"
    assert origin.stats("file.bin").methods["HEAD"] == 2
    assert origin.stats("file.bin").requests == before + 1


async def test_a_young_file_of_another_url_or_with_another_checksum_is_none(client: Client, origin: Origin) -> None:
    keeping = client.with_options(expires=DAY)
    mine = await keeping.right(client.url())

    other = await keeping.right(client.url(seed=2))
    assert (other.status, other.path == mine.path) == ("downloaded", False)
    await keeping.fetch(client.url(seed=2))
    with pytest.raises(DownloadError, match="wrong checksum"):
        await keeping.fetch(client.url(), checksum="md5:" + "0" * 32)


async def test_a_part_file_and_one_of_unknown_origin_are_not_taken_for_it(client: Client, origin: Origin) -> None:
    keeping = client.with_options(expires=DAY)
    result = await keeping.right(client.url(), name=None)
    os.rename(result.path, Path(f"{result.path}.part"))
    (result.path.parent / "stray.txt").write_text("x")

    again = await keeping.fetch(client.url(), name=None)

    assert again.status == "downloaded"
