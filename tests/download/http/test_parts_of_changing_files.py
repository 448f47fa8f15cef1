"""The file changes, or its validators are weak, missing, or different on each backend: versions never mix."""

from __future__ import annotations

import asyncio

import pytest
from fetching import CHUNK, QUICK, SIZE, Client
from origin import Origin
from patience import HANG

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Progress

VALIDATORS = [
    "",
    "etag:none",
    "etag:weak",
    "date:none",
    "etag:weak;date:none",
    "etag:none;date:none",
    "etag:none;date:now",
]


@pytest.mark.parametrize("request_number", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("validators", ["", "etag:none", "date:none", "etag:weak"])
async def test_changed_during_the_download_is_fetched_afresh(
    client: Client, validators: str, request_number: int
) -> None:
    narrow = client.with_options(chunks_per_file=2)
    await narrow.right_or_fails(client.url(f"change@{request_number}-;{validators};cut:{CHUNK}@range"), versions=(1, 2))


async def test_change_is_noticed_and_the_new_version_delivered(client: Client) -> None:
    await client.right(client.url(f"change@4-;cut:{CHUNK}@range@3"), version=2)


@pytest.mark.parametrize("fault", ["change@50%", "change@2-2", "change@3-4"])
@pytest.mark.parametrize("validators", ["", "etag:none", "date:none"])
async def test_versions_alternate_by_request(client: Client, fault: str, validators: str) -> None:
    await client.right_or_fails(client.url(f"{fault};{validators}", seed=2), versions=(1, 2))


async def test_file_that_changes_with_every_request_is_given_up(client: Client) -> None:
    faults = ";".join(f"change@{n}-{n}" for n in range(2, 40, 2))
    await client.right_or_fails(client.url(faults + f";cut:{CHUNK}@range"), versions=(1, 2))
    assert client.origin.stats("file.bin").requests <= 100


@pytest.mark.parametrize("validators", VALIDATORS)
async def test_any_validators_and_a_steady_file(client: Client, validators: str) -> None:
    await client.right(client.url(validators))


@pytest.mark.parametrize(
    "validators", ["etag:backend", "etag:backend:3", "etag:per-request", "date:backend", "etag:per-request;date:none"]
)
async def test_validators_of_each_backend_its_own(client: Client, validators: str) -> None:
    result = await client.right_or_fails(client.url(validators))
    if "date" not in validators:
        assert not isinstance(result, Exception)


@pytest.mark.parametrize("kind", ["date", "never", "ignored"])
async def test_if_range_honoured_otherwise(client: Client, kind: str) -> None:
    await client.right(client.url(f"ifrange:{kind}"))
    # Each connection finds out for itself, at worst.
    assert client.origin.stats("file.bin").statuses[200] <= 1 + client.options.chunks_per_file


@pytest.mark.parametrize("kind", ["date", "never", "ignored"])
async def test_if_range_honoured_otherwise_and_the_file_changes(client: Client, kind: str) -> None:
    url = client.url(f"ifrange:{kind};change@4-;cut:{CHUNK}@range")
    await client.right_or_fails(url, versions=(1, 2))


async def _interrupt(client: Client, origin: Origin, url: str) -> None:
    """Download about half of a file, then be cancelled."""
    origin.set_faults("file.bin", _faults_of(url, "hold:gate:0.5@get"))
    options = QUICK
    async with Downloader(options, Limits(options)) as downloader:
        request = FileRequest(url, client.folder, client.target.name)
        running = asyncio.ensure_future(downloader.fetch(request, progress=Progress()))
        await origin.sent("file.bin", SIZE // 3)
        running.cancel()
        await asyncio.wait({running}, timeout=HANG)
    origin.set_faults("file.bin", _faults_of(url, ""))


def _faults_of(url: str, more: str) -> str:
    from urllib.parse import parse_qs, urlsplit

    return ";".join([*parse_qs(urlsplit(url).query).get("fault", []), more])


@pytest.mark.parametrize("validators", ["", "etag:none", "date:none", "etag:weak"])
async def test_unchanged_between_two_runs_is_resumed(client: Client, origin: Origin, validators: str) -> None:
    url = client.url(validators)
    await _interrupt(client, origin, url)
    result = await client.right(url)
    if validators != "date:none;etag:weak":
        assert result.resumed > 0
        assert result.fetched + result.resumed == SIZE


@pytest.mark.parametrize("validators", VALIDATORS)
async def test_changed_between_two_runs_starts_afresh(client: Client, origin: Origin, validators: str) -> None:
    url = client.url(validators)
    await _interrupt(client, origin, url)
    origin.set_version("file.bin", 2)
    result = await client.right(url, version=2)
    assert result.resumed == 0


async def test_without_any_validator_nothing_is_resumed(client: Client, origin: Origin) -> None:
    url = client.url("etag:none;date:none")
    await _interrupt(client, origin, url)
    assert (await client.right(url)).resumed == 0


async def test_smaller_version_leaves_nothing_of_the_larger_one(client: Client, origin: Origin) -> None:
    await _interrupt(client, origin, client.url())
    origin.set_faults("file.bin", "")
    smaller = 2 * CHUNK
    await client.right(client.url(size=smaller), size=smaller)


async def test_finished_file_is_not_fetched_again_while_unchanged(client: Client, origin: Origin) -> None:
    url = client.url()
    await client.right(url)
    sent = origin.stats("file.bin").sent
    again = await client.right(url)
    assert again.status == "uptodate"
    assert origin.stats("file.bin").sent == sent


async def test_finished_file_is_fetched_again_once_changed(client: Client, origin: Origin) -> None:
    url = client.url()
    await client.right(url)
    origin.set_version("file.bin", 2)
    again = await client.right(url, version=2)
    assert again.status == "downloaded"


async def test_body_spliced_of_two_versions_is_caught_by_a_checksum(client: Client) -> None:
    # Overwritten in place on the server, under unchanged validators: only a checksum can tell.
    await client.right(client.url(f"splice:{SIZE // 2}@get@3;digest:repr"))
    await client.fails(
        client.url(f"splice:{SIZE // 2}@get;digest:repr", name="always", key="always"), "checksum", name="o"
    )
