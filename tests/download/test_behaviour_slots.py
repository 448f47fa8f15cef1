"""Who holds one of a host's connections lets go, or works: nothing waits for a slot while it holds another unused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fetching import CHUNK, QUICK, SIZE, Client
from origin import Origin
from patience import HANG

from scrapy_chunkdl.download import Downloader, FileRequest, Limits


@pytest.mark.parametrize("probe", ["range", "head"])
@pytest.mark.parametrize("faults", ["", "ranges:silent@head", "status:405@head", "hang@head", "length:none@head"])
async def test_files_whose_beginning_is_on_disk_share_one_connection(
    client: Client, origin: Origin, probe: str, faults: str
) -> None:
    options = replace(QUICK, chunks_per_host=1, chunks_per_file=2, probe=probe)
    names = [f"n{number}" for number in range(3)]
    urls = [origin.url(name, SIZE, faults) for name in names]
    for name in names:
        origin.set_faults(name, f"{faults};hold:gate:0.5@get")
    async with Downloader(options, Limits(replace(options, chunks_per_host=8))) as downloader:
        fetches = [
            asyncio.ensure_future(downloader.fetch(FileRequest(url, client.folder / name, name)))
            for name, url in zip(names, urls, strict=True)
        ]
        for name in names:
            await origin.sent(name, 2 * CHUNK)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.wait(fetches)
    origin.release("gate")
    for name in names:
        origin.set_faults(name, faults)

    async with Downloader(options, Limits(options)) as downloader:
        again = [
            downloader.fetch(FileRequest(url, client.folder / name, name))
            for name, url in zip(names, urls, strict=True)
        ]
        results = await asyncio.wait_for(asyncio.gather(*again), HANG)

    assert [result.size for result in results] == [SIZE] * 3


@pytest.mark.parametrize("fault", ["hang@head", "status:405@head", "close@head"])
async def test_a_host_where_head_is_of_no_use_is_asked_no_more_of_them(
    client: Client, origin: Origin, fault: str
) -> None:
    options = replace(QUICK, stall_timeout=0.2, probe="head")
    async with Downloader(options, Limits(options)) as downloader:
        for number in range(5):
            url = origin.url(f"n{number}", 1000, fault)
            await asyncio.wait_for(downloader.fetch(FileRequest(url, client.folder, f"n{number}")), HANG)

    # Twice, and aiohttp itself sends a second one where a connection that was kept is closed.
    assert sum(origin.stats(f"n{number}").methods["HEAD"] for number in range(5)) in (2, 3, 4)


async def test_a_connection_that_falls_silent_is_hedged_after_an_opening_too(client: Client) -> None:
    # Two chunks: the opening brings one, and the other one's connection says nothing until long after.
    patient = client.with_options(probe="range", stall_timeout=HANG, chunks_per_file=2)
    await patient.right(client.url(f"hold:never:100@over={CHUNK + 5}@1", size=2 * CHUNK), size=2 * CHUNK)
