"""Few connections are borne, ranges are refused, the pace is too much: a file lives while anything of it is served."""

from __future__ import annotations

import asyncio

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin
from patience import HANG

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, Limits

PACED = "rate:4000000"


@pytest.mark.parametrize("surplus", ["rst", "close", "hang", "403", "404", "425", "429", "503", "509", "500"])
@pytest.mark.parametrize("most", [1, 3])
async def test_the_surplus_of_connections_is_refused_and_the_file_comes(
    client: Client, surplus: str, most: int
) -> None:
    size = 30 * CHUNK
    many = client.with_options(chunks_per_file=6, retry_times=50)  # of 10 ms, while the others wait for their turn
    await many.right(client.url(f"crowd:{most}:{surplus}@get;{PACED}", size=size), size=size)


@pytest.mark.parametrize(
    "refusal",
    [
        *("status:400", "status:403", "status:404", "status:416", "status:500", "status:501"),
        *("ranges:leads:self", "ranges:leads:/nowhere", "ranges:leads://", "ranges:leads:"),
    ],
)
@pytest.mark.parametrize("head", ["", "status:405@head", "ranges:silent@head"])
@pytest.mark.parametrize("probe", ["head", "range"])
async def test_ranges_refused_by_an_error_are_done_without(client: Client, refusal: str, head: str, probe: str) -> None:
    await client.with_options(probe=probe).right(client.url(f"{refusal}@range;{head}"))


@pytest.mark.parametrize("refusal", ["reset@range", "close@range", "hang@range"])
@pytest.mark.parametrize("probe", ["head", "range"])
async def test_ranges_refused_without_a_word_are_done_without(client: Client, refusal: str, probe: str) -> None:
    await client.with_options(probe=probe).right(client.url(refusal))


@pytest.mark.parametrize(
    "silence",
    [
        *("hang@range", "stall:0@range", "stall:100@range", "drip:0.05@range"),
        *("hang@range@2-", f"hang@over={SIZE - 1}@range", f"stall:0@over={5 * CHUNK}@range"),
        *("hang@over=0@range", f"hang@over=0@range;stall:0@over={5 * CHUNK}@range"),
    ],
)
@pytest.mark.parametrize("probe", ["head", "range"])
async def test_a_file_whose_ranges_fall_silent_is_fetched_as_a_whole_long_before_they_are_given_up(
    client: Client, silence: str, probe: str
) -> None:
    # The whole is asked for after a third of a stall, and no answer of a range is given up before the test is.
    slow = client.with_options(probe=probe, stall_timeout=3.0, first_byte_timeout=HANG)
    result = await slow.right(client.url(silence))

    assert sum(result.retries.values()) <= client.options.chunks_per_file


async def test_a_host_whose_ranges_fall_silent_is_asked_for_whole_files_from_then_on(
    client: Client, origin: Origin
) -> None:
    options = client.with_options(probe="head", stall_timeout=2.0, first_byte_timeout=HANG).options
    async with Downloader(options, Limits(options)) as downloader:
        for number in range(4):
            url = origin.url(f"n{number}", SIZE, "hang@range")
            await asyncio.wait_for(downloader.fetch(FileRequest(url, client.folder, f"n{number}")), HANG)

    ranged = [len(origin.stats(f"n{number}").headers("Range")) for number in range(4)]
    assert ranged[:2] == [4, 4]
    assert ranged[2:] == [0, 0]


@pytest.mark.parametrize("size", [1000, SIZE])
async def test_a_server_that_leaves_the_second_request_of_a_connection_unanswered_costs_one_stall_each(
    client: Client, size: int
) -> None:
    slow = client.with_options(stall_timeout=0.5, first_byte_timeout=HANG)
    await slow.right(client.url("hang@again", size=size), size=size)


@pytest.mark.parametrize("when", ["", "@head"])
async def test_a_head_that_never_comes_to_its_end_is_bounded(client: Client, when: str) -> None:
    slow = client.with_options(stall_timeout=0.5, first_byte_timeout=HANG, connect_timeout=HANG, retry_times=1)
    if when:
        await slow.right(client.url(f"drip:0.01{when}"))
    else:
        await slow.fails(client.url("drip:0.01"), "stalled")


@pytest.mark.parametrize("code", [400, 403, 404, 412, 500, 501])
async def test_if_range_refused_by_an_error_is_done_without(client: Client, code: int) -> None:
    await client.right(client.url(f"ifrange:{code}"))
    assert client.origin.stats("file.bin").statuses[206] > 0


async def test_ranges_ignored_after_some_were_served_keep_what_came(client: Client, origin: Origin) -> None:
    size = 40 * CHUNK
    result = await client.right(client.url("cut:70000@get@4;ranges:ignored@range@5-", size=size), size=size)
    kept = 4 * 70_000 - 4 * 4096
    assert result.fetched <= size + kept + CHUNK
    assert result.fetched >= size


@pytest.mark.parametrize("now", ["ranges:none", "ranges:ignored", "ranges:ignored@range@2", "ranges:silent@head"])
async def test_a_part_file_outlives_ranges_that_are_not_offered_today(client: Client, origin: Origin, now: str) -> None:
    url = client.url()
    origin.set_faults(client.key, f"status:500@over={SIZE - 10}")
    left = await client.fails(url)
    origin.set_faults(client.key, now)
    result = await client.right(url)
    assert result.resumed == left.bytes_done > 0


@pytest.mark.parametrize("code", ["403", "503", "429"])
async def test_a_rate_that_a_host_bears_is_found_and_no_file_is_lost(client: Client, origin: Origin, code: str) -> None:
    # 40 requests a second, 5 at once; 2 for each file.
    options = client.with_options(chunks_per_host=16, retry_times=5, backoff_base=0.1, backoff_max=2.0).options
    urls = [origin.url(f"n{number}", 1000, f"flood:40:5:{code}") for number in range(40)]
    async with Downloader(options, Limits(options)) as downloader:
        fetches = [downloader.fetch(FileRequest(url, client.folder, f"n{number}")) for number, url in enumerate(urls)]
        results = await asyncio.wait_for(asyncio.gather(*fetches, return_exceptions=True), HANG)

    assert [result for result in results if isinstance(result, BaseException)] == []


async def test_what_is_forbidden_among_what_is_not_is_given_up_and_slows_nobody_for_long(
    client: Client, origin: Origin
) -> None:
    options = client.options
    urls = [origin.url(f"n{number}", 1000, "status:403" if number % 2 else "") for number in range(30)]
    async with Downloader(options, Limits(options)) as downloader:
        fetches = [downloader.fetch(FileRequest(url, client.folder, f"n{number}")) for number, url in enumerate(urls)]
        results = await asyncio.wait_for(asyncio.gather(*fetches, return_exceptions=True), HANG)

    lost = {number for number, result in enumerate(results) if isinstance(result, BaseException)}
    assert lost == set(range(1, 30, 2))


@pytest.mark.parametrize("uses", [1, 2])
async def test_a_link_good_for_so_many_requests_is_not_shared(client: Client, origin: Origin, uses: int) -> None:
    size = 30 * CHUNK
    await client.right(origin.signed("s", client.url(PACED, size=size), uses=uses), size=size)
    assert origin.stats("file.bin").statuses[403] <= 2 * client.options.chunks_per_file


@pytest.mark.parametrize("parameter", ["token=abc", "X-Amz-Signature=0a", "Expires=1&sig=b%3D"])
@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize("is_known", [False, True])
async def test_a_link_that_looks_signed_and_is_good_for_one_request_brings_its_file(
    client: Client, origin: Origin, parameter: str, status: int, is_known: bool
) -> None:
    client.is_known = is_known
    patient = client.with_options(probe="auto", stall_timeout=HANG, first_byte_timeout=HANG)
    url = f"{client.url(f'status:{status}@2-;hold:gate:0.3@get')}&{parameter}"
    fetching = asyncio.ensure_future(patient.right(url))
    refused = origin.when(client.key, lambda stats: stats.statuses[status] > 0)
    await asyncio.wait_for(asyncio.wrap_future(refused), HANG)
    origin.release("gate")

    assert (await fetching).one_stream == "range_refused"
    assert origin.stats(client.key).methods == {"GET": 2}


async def test_a_link_that_looks_signed_comes_in_parts_where_ranges_are_served(client: Client, origin: Origin) -> None:
    patient = client.with_options(probe="auto", stall_timeout=HANG, first_byte_timeout=HANG)
    url = f"{client.url('hold:gate:0.3@plain;status:403@head')}&X-Amz-Signature=0a"
    fetching = asyncio.ensure_future(patient.right(url))
    served = origin.when(client.key, lambda stats: stats.statuses[206] >= 2)
    await asyncio.wait_for(asyncio.wrap_future(served), HANG)
    origin.release("gate")
    await fetching

    stats = origin.stats(client.key)
    assert stats.methods["HEAD"] == 0
    assert stats.statuses[206] >= 2


async def test_a_host_whose_links_a_head_uses_up_is_asked_by_one_get_from_then_on(
    client: Client, origin: Origin
) -> None:
    options = client.options
    async with Downloader(options, Limits(options)) as downloader:
        for number in range(3):
            url = origin.url(f"n{number}", SIZE, "status:404@2-")
            fetch = downloader.fetch(FileRequest(url, client.folder, f"n{number}"))
            if number:
                await asyncio.wait_for(fetch, HANG)
            else:
                with pytest.raises(DownloadError):
                    await asyncio.wait_for(fetch, HANG)

    assert [origin.stats(f"n{number}").methods for number in (1, 2)] == [{"GET": 1}] * 2


async def test_one_plain_get_and_no_more(client: Client, origin: Origin) -> None:
    await client.with_options(probe="get").right(client.url())
    stats = origin.stats("file.bin")
    assert (stats.methods, stats.headers("Range")) == ({"GET": 1}, [])


@pytest.mark.parametrize("fail", [True, False])
async def test_a_length_that_is_wrong_each_time_is_taken_only_where_asked_for(client: Client, fail: bool) -> None:
    url = client.url("length:+10;ranges:none")
    lax = client.with_options(fail_on_dataloss=fail)
    if fail:
        await lax.fails(url, "short_body")
    else:
        await lax.right(url)
