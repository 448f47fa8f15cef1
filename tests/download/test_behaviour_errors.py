"""What cannot succeed is given up at once, with its reason; limits of size and address hold everywhere."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote, unquote

import pytest
from fetching import CHUNK, SIZE, Client
from origin import Origin
from patience import HANG


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
async def test_permanent_error_is_not_retried(client: Client, status: int) -> None:
    error = await client.fails(client.url(f"status:{status}"), f"http_{status}")
    assert error.status == status
    assert error.bytes_done == 0
    assert client.origin.stats("file.bin").requests <= 2
    assert error.attempts == client.origin.stats("file.bin").requests


@pytest.mark.parametrize("status", [400, 402, 406, 411, 418, 505])
async def test_other_refusals_are_not_retried_either(client: Client, status: int) -> None:
    await client.fails(client.url(f"status:{status}@get"), f"http_{status}")
    # With If-Range, without, and without Range.
    assert client.origin.stats("file.bin").requests <= 2 + 4 * client.options.chunks_per_file


@pytest.mark.parametrize("status", [500, 502])
async def test_chunk_that_never_succeeds_cancels_the_others_at_once(
    client: Client, origin: Origin, status: int
) -> None:
    # The others are held, so they can only end by being cancelled.
    patient = client.with_options(stall_timeout=HANG)
    url = client.url(f"status:{status}@over={SIZE - 10};hold:never:0.5@get")
    error = await patient.fails(url, f"http_{status}", "server_error")
    assert error.status == status
    await asyncio.wait_for(asyncio.wrap_future(origin.when("file.bin", lambda stats: stats.running == 0)), HANG)
    stats = origin.stats("file.bin")
    assert stats.sent < SIZE
    assert stats.requests <= 2 + client.options.chunks_per_file + 2 * (client.options.retry_times + 1)


@pytest.mark.parametrize("status", [403, 404, 410, 418])
async def test_a_refused_range_ends_the_file_only_when_nothing_else_of_it_comes(client: Client, status: int) -> None:
    error = await client.fails(client.url(f"status:{status}@over={SIZE - 10}"), f"http_{status}")

    assert error.bytes_done >= SIZE - 4 * CHUNK
    assert client.origin.stats("file.bin").requests <= 2 + 4 * client.options.chunks_per_file


async def test_failure_says_what_is_kept_and_the_next_run_goes_on_from_it(client: Client, origin: Origin) -> None:
    url = client.url(f"status:500@over={SIZE - 10}")
    error = await client.fails(url)
    assert error.resumable
    assert 0 < error.bytes_done < SIZE
    origin.set_faults("file.bin", "")
    result = await client.right(url)
    assert result.resumed == error.bytes_done
    assert result.fetched == SIZE - error.bytes_done


async def test_other_files_go_on_when_one_fails(client: Client) -> None:
    from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, Limits

    options = client.options
    urls = [client.url("status:404@get" if n == 2 else "", name=f"n{n}") for n in range(5)]
    async with Downloader(options, Limits(options)) as downloader:
        fetches = [downloader.fetch(FileRequest(url, client.folder, f"n{n}")) for n, url in enumerate(urls)]
        results = await asyncio.wait_for(asyncio.gather(*fetches, return_exceptions=True), HANG)
    assert [isinstance(result, DownloadError) for result in results] == [False, False, True, False, False]


@pytest.mark.parametrize("faults", ["", "ranges:none", "length:none@head", "length:0@head", "length:10@head"])
async def test_file_too_large_by_its_headers(client: Client, faults: str) -> None:
    limited = client.with_options(max_file_size=SIZE - 1)
    await limited.fails(client.url(faults), "too_large")
    assert client.origin.stats("file.bin").requests <= 2


async def test_file_too_large_is_refused_before_a_byte_of_body(client: Client) -> None:
    await client.with_options(max_file_size=SIZE - 1).fails(client.url(), "too_large")
    assert client.origin.stats("file.bin").methods == {"HEAD": 1}


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_file_that_turns_out_too_large_is_stopped_while_it_streams(client: Client, framing: str) -> None:
    big = 400 * CHUNK
    limited = client.with_options(max_file_size=10 * CHUNK)
    await limited.fails(client.url(f"framing:{framing};ranges:none;length:none@head", size=big), "too_large")
    assert client.origin.stats("file.bin").sent < big


async def test_file_of_just_the_size_allowed(client: Client) -> None:
    await client.with_options(max_file_size=SIZE).right(client.url())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "gopher://127.0.0.1/x",
        "file:///etc/passwd",
        "http://",
        "http:?x",
        "http://" + "a" * 70_000,
        "data:application/pdf;base64,JVBERi0xLjQK",
        "http://[::1",
        "http://a:99999/x",
    ],
)
async def test_url_that_cannot_be_fetched(client: Client, url: str) -> None:
    await client.fails(url, "bad_url")


@pytest.mark.parametrize("headers", [{"X-A": "1\r\nX-B: 2"}, {"X-A": "1\n"}, {"X\r\nY": "1"}, {"X-A": "\0"}, {"": "1"}])
async def test_headers_cannot_inject_lines(client: Client, headers: dict[str, str]) -> None:
    await client.fails(client.url(), "bad_header", headers=headers)
    assert client.origin.stats("file.bin").requests == 0


@pytest.mark.parametrize("url_part", ["%0d%0aX-Injected:1", "a\r\nX-Injected: 1", "a b"])
async def test_urls_cannot_inject_lines(client: Client, origin: Origin, url_part: str) -> None:
    sent = re.sub(r"[\r\n]", "", url_part)  # as browsers do (URL Standard §4.4)
    await client.right_or_fails(f"{origin.base}/f/{url_part}?size=10", size=10, key=unquote(sent))
    for path in (f"/f/{unquote(sent)}", "/f/a", "/f/a b"):
        assert origin.stats(path).headers("X-Injected") == []


async def test_only_allowed_hosts(client: Client, origin: Origin) -> None:
    guarded = client.with_options(allowed_hosts=frozenset({"127.0.0.1"}))
    await guarded.right(client.url())
    await guarded.fails(client.url(host="localhost"), "host_not_allowed", name="x")
    await guarded.fails(origin.redirect("r", client.url(host="localhost")), "host_not_allowed", name="y")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"],
)
async def test_private_addresses_can_be_blocked(client: Client, origin: Origin, address: str) -> None:
    guarded = client.with_options(block_private_addresses=True, connect_timeout=1.0, retry_times=0)
    await guarded.fails(f"http://{address}:{origin.port}/f/file.bin?size=10", "private_address", "dns", "bad_url")
    assert origin.stats("file.bin").requests == 0


async def test_user_agent_and_headers_of_the_options_are_sent(client: Client) -> None:
    await client.with_options(user_agent="ua/1", headers={"X-All": "1"}).right(client.url(), headers={"X-One": "2"})
    stats = client.origin.stats("file.bin")
    for name, value in (("User-Agent", "ua/1"), ("X-All", "1"), ("X-One", "2")):
        assert stats.headers(name) == [value] * stats.requests


async def test_item_headers_cannot_change_range_or_encoding(client: Client) -> None:
    await client.right(client.url(), headers={"Range": "bytes=0-9", "Accept-Encoding": "gzip", "if-range": '"x"'})
    assert set(client.origin.stats("file.bin").headers("Accept-Encoding")) == {"identity"}


async def test_lost_lease_publishes_nothing(client: Client) -> None:
    error = await client.fails(client.url(), "lease_lost", may_publish=lambda: False)
    assert error.resumable
    result = await client.right(client.url(), may_publish=lambda: True)
    assert result.resumed == SIZE


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename=report.pdf", "report.pdf"),
        ('attachment; filename="a b.pdf"', "a b.pdf"),
        ("attachment; filename*=UTF-8''na%C3%AFve.txt; filename=naive.txt", "naïve.txt"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment", "file.bin"),
        ("inline; filename=", "file.bin"),
    ],
)
async def test_name_from_the_server(client: Client, disposition: str, name: str) -> None:
    url = client.url(f"header:Content-Disposition={quote(disposition, safe='')}")
    result = await client.right(url, name=None)
    assert result.path.name == name
    assert result.path.parent == client.folder


async def test_two_urls_never_overwrite_each_other_under_one_name(client: Client) -> None:
    one = await client.right(client.url(name="one"), key="one")
    two = await client.right(client.url(name="two"), key="two")
    assert one.path != two.path
    again = await client.right(client.url(name="one"), key="one")
    assert (again.path, again.status) == (one.path, "uptodate")


async def test_progress_tells_the_bytes_and_requests(client: Client) -> None:
    from scrapy_chunkdl.download import Progress

    progress = Progress()
    await client.right(client.url("cut:0.5@get@1"), progress=progress)
    assert (progress.size, progress.done) == (SIZE, SIZE)
    assert progress.requests == client.origin.stats("file.bin").requests
    assert sum(progress.retries.values()) == 1
