"""Bodies cut, reset, stalled or trickling; overloaded, throttling and absent servers: retried, bounded, never wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fetching import CHUNK, LOOK_BACK, QUICK, SIZE, Client
from origin import Origin
from patience import HANG

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Progress


@pytest.mark.parametrize("kind", ["cut", "rst", "stall"])
@pytest.mark.parametrize("where", ["0", "1", "0.5", str(CHUNK)])
async def test_interrupted_bodies_are_resumed(client: Client, kind: str, where: str) -> None:
    result = await client.right(client.url(f"{kind}:{where}@get@3"))
    assert result.fetched < 1.5 * SIZE


@pytest.mark.parametrize("kind", ["cut", "rst"])
async def test_every_body_is_interrupted_but_there_is_progress(client: Client, kind: str) -> None:
    result = await client.right(client.url(f"{kind}:{CHUNK}@get"))
    assert result.fetched < 1.5 * SIZE


async def test_cut_body_goes_on_from_the_byte_it_reached(client: Client) -> None:
    alone = client.with_options(chunks_per_file=1)
    result = await alone.right(client.url("cut:100000@get@1"))
    assert result.fetched == SIZE
    assert client.origin.stats("file.bin").sent == SIZE + LOOK_BACK
    assert client.origin.stats("file.bin").headers("range") == [f"bytes={100000 - LOOK_BACK}-{SIZE - 1}"]


@pytest.mark.parametrize("kind", ["cut", "rst", "stall"])
async def test_interrupted_stream_without_ranges_starts_over(client: Client, kind: str) -> None:
    await client.right(client.url(f"ranges:none;{kind}:0.7@get@2"))


async def test_trickle_that_never_ends_a_chunk_is_bounded(client: Client) -> None:
    # One byte a request: progress of a kind, and still not for ever.
    error = await client.fails(client.url("cut:1@get"))
    assert error.attempts <= 2 + 4 * client.options.chunks_per_file * (client.options.retry_times + 1)


async def test_slow_but_steady_body_is_left_alone(client: Client) -> None:
    await client.right(client.url("rate:60000:600", size=CHUNK), size=CHUNK)


async def test_stall_for_ever_is_a_failure(client: Client) -> None:
    error = await client.fails(client.url("stall:0@get"), "stalled")
    assert error.attempts <= 2 + 2 * client.options.chunks_per_file * (client.options.retry_times + 1)


async def test_server_that_never_answers_is_a_failure(client: Client) -> None:
    await client.fails(client.url("hang"), "stalled")


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 522, 524])
async def test_passing_errors_are_retried(client: Client, status: int) -> None:
    result = await client.right(client.url(f"status:{status}@get@3"))
    assert sum(result.retries.values()) >= 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_lasting_errors_are_given_up_within_the_budget(client: Client, status: int) -> None:
    error = await client.fails(client.url(f"status:{status}"))
    assert error.status == status
    assert client.origin.stats("file.bin").requests <= 2 + client.options.chunks_per_file * (
        client.options.retry_times + 1
    )


async def test_code_that_is_not_to_be_retried_is_not(client: Client) -> None:
    strict = client.with_options(retry_codes=frozenset({503}), chunks_per_file=1)
    await strict.fails(client.url("status:500@get"))
    # With If-Range, without, and without Range.
    assert client.origin.stats("file.bin").methods["GET"] <= 3


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["1", "date+2"])
async def test_retry_after_is_honoured(client: Client, status: int, after: str) -> None:
    alone = client.with_options(chunks_per_file=1)
    await alone.right(client.url(f"status:{status}:{after}@get@1"))
    refused, again = [seen for seen in client.origin.stats("file.bin").seen if seen.method == "GET"]
    assert refused.status == status
    assert again.at - refused.at >= 0.9


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_retry_after_is_honoured_in_any_error(client: Client, status: int) -> None:
    alone = client.with_options(chunks_per_file=1)
    await alone.right(client.url(f"status:{status}:1@get@1"))
    refused, again = [seen for seen in client.origin.stats("file.bin").seen if seen.method == "GET"]
    assert again.at - refused.at >= 0.9


async def test_retry_after_of_a_head_holds_the_get_back(client: Client) -> None:
    await client.right(client.url("status:429:1@head"))
    head, get = client.origin.stats("file.bin").seen[:2]
    assert (head.method, get.method) == ("HEAD", "GET")
    assert get.at - head.at >= 0.9


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 2015 00:00:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
async def test_no_pause_asked_for_means_the_usual_one(client: Client, status: int, after: str) -> None:
    told = []
    patient = client.with_options(backoff_base=0.4, backoff_max=0.4, chunks_per_file=1, retry_times=8)
    progress = Progress()
    await patient.right(client.url(f"status:{status}:{after.replace(':', '%3A')}@get@4"), progress=progress)
    told = [seen.at for seen in client.origin.stats("file.bin").seen if seen.method == "GET"]
    assert told[-1] - told[0] > 0.05, "four pauses of up to 0.4 s, at random"


@pytest.mark.parametrize("times", [1, 12])
async def test_a_file_that_is_still_being_made_is_waited_for(client: Client, times: int) -> None:
    await client.right(client.url(f"status:202:0@get@{times}"))


@pytest.mark.parametrize("code", [201, 203, 218, 226, 299])
@pytest.mark.parametrize("when", ["", "@get", "@head"])
async def test_any_2xx_that_has_the_file_will_do(client: Client, code: int, when: str) -> None:
    await client.right(client.url(f"code:{code}{when};ranges:none"))


@pytest.mark.parametrize("code", [202, 205, 206, 207, 208])
async def test_a_2xx_that_has_something_else_will_not(client: Client, code: int) -> None:
    await client.fails(client.url(f"code:{code}@get;ranges:none"), f"http_{code}")


@pytest.mark.parametrize("faults", ["", "etag:none;date:none", "etag:weak"])
@pytest.mark.parametrize("probe", ["head", "range"])
async def test_a_206_with_all_of_the_file_is_the_file(client: Client, faults: str, probe: str) -> None:
    await client.with_options(probe=probe).right(client.url(f"ranges:whole;{faults}"))


async def test_retry_after_is_capped(client: Client) -> None:
    await client.with_options(retry_after_max=0.05).right(client.url("status:429:86400@get@3"))


async def test_retry_after_cools_down_the_whole_host(client: Client, origin: Origin) -> None:
    options = replace(QUICK, retry_after_max=1.0)
    async with Downloader(options, Limits(options)) as downloader:
        refused = FileRequest(origin.url("refused", SIZE, "status:429:1@get@1"), client.folder, "refused")
        first = asyncio.ensure_future(downloader.fetch(refused))
        await asyncio.wait_for(asyncio.wrap_future(origin.when("refused", lambda stats: stats.statuses[429] > 0)), HANG)
        at = next(seen.at for seen in origin.stats("refused").seen if seen.status == 429)
        # The answer is on its way: let it arrive before the next file asks.
        await asyncio.sleep(0.2)
        await asyncio.wait_for(downloader.fetch(FileRequest(origin.url("other", SIZE), client.folder, "other")), HANG)
        await asyncio.wait_for(first, HANG)
    others = [seen.at for seen in origin.stats("other").seen if seen.method == "GET"]
    assert min(others) - at >= 0.9


async def test_throttled_for_ever_is_given_up(client: Client) -> None:
    error = await client.with_options(retry_after_max=0.02).fails(client.url("status:429:1@get"), "throttled")
    assert error.status == 429
    assert client.origin.stats("file.bin").requests <= 2 + client.options.chunks_per_file * (
        client.options.retry_times + 1
    )


async def test_connection_refused_for_a_while(client: Client, origin: Origin) -> None:
    patient = client.with_options(retry_times=40, backoff_base=0.02, backoff_max=0.1)
    url = client.url()
    origin.reopen_after(0.3)
    await patient.right(url)


async def test_server_goes_away_in_the_middle_and_comes_back(client: Client, origin: Origin) -> None:
    patient = client.with_options(retry_times=60, backoff_base=0.02, backoff_max=0.1, stall_timeout=5.0)
    running = asyncio.ensure_future(patient.right(client.url("hold:middle:0.5@get@2")))
    await origin.sent("file.bin", SIZE // 4)
    origin.reopen_after(0.3)
    origin.release("middle")
    await running


async def test_connection_refused_for_good(client: Client, origin: Origin) -> None:
    url = client.url()
    origin.close_listener()
    error = await client.fails(url, "connect_failed")
    assert error.attempts <= 2 * (client.options.retry_times + 1)


async def test_dns_failure_is_told_as_such(client: Client) -> None:
    error = await client.with_options(retry_times=1).fails("http://no-such-host.invalid/file", "dns")
    assert error.status is None


async def test_untrusted_certificate_is_refused_at_once_and_clearly(client: Client, tls_origin: Origin) -> None:
    tls_origin.reset()
    error = await client.fails(tls_origin.url("file.bin", SIZE), "tls")
    assert "CHUNKDL_VERIFY_TLS" in str(error)
    assert tls_origin.stats("file.bin").requests == 0


async def test_certificates_need_not_be_verified(client: Client, tls_origin: Origin) -> None:
    tls_origin.reset()
    await client.with_options(verify_tls=False).right(tls_origin.url("file.bin", SIZE))


async def test_tls_to_a_server_that_speaks_none(client: Client, origin: Origin) -> None:
    url = client.url().replace("http://", "https://")
    await client.fails(url, "tls", "connect_failed", "connection_lost")


async def test_answer_that_is_not_http(client: Client) -> None:
    await client.fails(client.url("garbage"))
    await client.right(client.url("garbage@get@1", name="file.bin"))


async def test_header_of_monstrous_size_is_an_error_not_memory(client: Client) -> None:
    await client.fails(client.url("bighead:1000000"))


async def test_cancelled_fetch_keeps_its_bytes_and_leaves_nothing_running(client: Client, origin: Origin) -> None:
    # As many connections as chunks in flight, each stopped behind its first chunk.
    options = replace(QUICK, stall_timeout=HANG)
    before = asyncio.all_tasks()
    async with Downloader(options, Limits(options)) as downloader:
        request = FileRequest(client.url("hold:gate:0.9@get"), client.folder, client.target.name)
        running = asyncio.ensure_future(downloader.fetch(request, progress=Progress()))
        await origin.sent("file.bin", SIZE // 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.all_tasks() == before
    assert not client.target.exists()
    assert list(client.folder.glob("out.bin*.part")) != []  # with more in its name where there are no locks
    origin.set_faults("file.bin", "")
    result = await client.right(client.url("hold:gate:0.9@get"))
    assert result.resumed > 0
    assert result.resumed + result.fetched == SIZE
