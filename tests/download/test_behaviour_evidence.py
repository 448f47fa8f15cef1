"""One answer alone decides nothing: what contradicts is asked again and refused, what changed in silence is found."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest
from fetching import CHUNK, QUICK, SIZE, Client, payload
from origin import Origin
from origin_content import expected_sha256
from patience import HANG

from scrapy_chunkdl.download import Downloader, FileRequest, FileResult, Limits, Options

LIARS = {
    "an ETag for the life of the process": "etag:fixed",
    "a date that a build sets": "date:fixed",
    "both": "etag:fixed;date:fixed",
    "no ETag, and a date that a build sets": "etag:none;date:fixed",
    "an ETag alone, for life": "etag:fixed;date:none",
    "an ETag without quotes, and a date that a build sets": "etag:bare;date:fixed",
}


async def _fetch_patiently(client: Client, url: str, options: Options = QUICK) -> FileResult:
    async with Downloader(options, Limits(options)) as downloader:
        return await downloader.fetch(FileRequest(url, client.folder, client.target.name))


@pytest.fixture
def liar(client: Client, origin: Origin) -> Callable[[str], str]:
    def url(faults: str, more: str = "") -> str:
        origin.set_faults(client.key, ";".join(filter(None, (faults, more))))
        return client.url()

    return url


@pytest.mark.parametrize("faults", LIARS.values(), ids=LIARS)
async def test_a_file_replaced_under_validators_that_stay_is_not_mixed_when_it_is_resumed(
    client: Client, origin: Origin, liar: Callable[[str, str], str], faults: str
) -> None:
    url = liar(faults, "hold:gate:0.5@get")
    begun = asyncio.ensure_future(_fetch_patiently(client, url))
    await origin.sent(client.key, SIZE // 3)
    begun.cancel()
    await asyncio.wait({begun}, timeout=HANG)
    origin.set_version(client.key, 2)
    liar(faults, "")

    await client.right(url, version=2)


@pytest.mark.parametrize("on_disk", [SIZE // 2, 5 * SIZE // 8], ids=str)
@pytest.mark.parametrize("faults", LIARS.values(), ids=LIARS)
async def test_what_is_on_disk_is_compared_though_the_beginning_has_to_be_fetched(
    client: Client, origin: Origin, liar: Callable[[str, str], str], faults: str, on_disk: int
) -> None:
    url = liar(faults, "hold:gate@over=0@get")
    options = replace(QUICK, stall_timeout=HANG, first_byte_timeout=HANG)
    begun = asyncio.ensure_future(_fetch_patiently(client, url, options))
    await origin.sent(client.key, on_disk)
    begun.cancel()
    await asyncio.wait({begun}, timeout=HANG)
    origin.set_version(client.key, 2)
    liar(faults, "")

    await client.right(url, version=2)


@pytest.mark.parametrize("faults", LIARS.values(), ids=LIARS)
async def test_a_file_replaced_while_all_connections_are_cut_is_not_mixed(
    client: Client, origin: Origin, liar: Callable[[str, str], str], faults: str
) -> None:
    url = liar(faults, "hold:gate:0.5@get")
    running = asyncio.ensure_future(client.with_options(stall_timeout=HANG).fetch(url))
    await origin.sent(client.key, SIZE // 3)
    origin.set_version(client.key, 2)
    liar(faults, "")
    origin.drop_connections()
    result = await running

    assert result.path.read_bytes() in (payload(), payload(version=2))


@pytest.mark.parametrize("cut", ["close", "reset"])
@pytest.mark.parametrize("which", ["5-5", "6-6", "5-6"])
@pytest.mark.parametrize("faults", ["etag:fixed", "etag:fixed;date:fixed"])
async def test_a_file_replaced_when_a_connection_ends_between_two_answers_is_not_mixed(
    client: Client, liar: Callable[[str, str], str], faults: str, which: str, cut: str
) -> None:
    # Three answers come whole; the fourth is silent and has to be taken over, over connections that end.
    silent = f"hold:never:0.3@over={8 * CHUNK}@range@1-1"
    change = f"change@range@{which.partition('-')[0]}-"

    # aiohttp asks again by itself, over a new connection: no request fails.
    result = await client.fetch(liar(faults, f"{silent};{change};{cut}@range@{which}"))

    assert result.path.read_bytes() in (payload(), payload(version=2))


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ("etag:fixed", "downloaded"),
        ("etag:empty", "downloaded"),
        ("etag:none", "downloaded"),
        ("date:epoch", "downloaded"),
        ("date:none;etag:bare", "downloaded"),
        ("etag:backend", "downloaded"),
    ],
)
async def test_a_finished_file_is_fetched_again_where_any_validator_changed(
    client: Client, origin: Origin, faults: str, status: str
) -> None:
    url = client.url(faults)
    await client.right(url)
    origin.set_version(client.key, 2)

    assert (await client.right(url, version=2)).status == status


@pytest.mark.parametrize("faults", ["", "etag:bare", "etag:bare;date:none", "etag:backend", "clock:none;etag:none"])
async def test_a_finished_file_is_up_to_date_where_those_that_count_are_the_same(client: Client, faults: str) -> None:
    url = client.url(faults)
    await client.right(url)

    assert (await client.right(url)).status == "uptodate"


@pytest.mark.parametrize("faults", ["etag:none", "etag:none;ranges:silent", "etag:none;status:405@head"])
@pytest.mark.parametrize("probe", ["head", "range", "get"])
async def test_an_older_version_that_has_come_back_is_fetched(
    client: Client, origin: Origin, faults: str, probe: str
) -> None:
    asking = client.with_options(probe=probe)
    origin.set_version(client.key, 5)
    await asking.right(client.url(faults), version=5)
    origin.set_version(client.key, 2)

    await asking.right(client.url(faults), version=2)


@pytest.mark.parametrize("imposter", ["page", "page:2868", "void", "page:700000"])
@pytest.mark.parametrize("when", ["get@2-2", "get@3-4", "get@50%"])
async def test_something_else_in_place_of_the_file_now_and_then_is_asked_again(
    client: Client, imposter: str, when: str
) -> None:
    await client.with_options(retry_times=20).right(client.url(f"{imposter}@{when}", seed=7))


@pytest.mark.parametrize("imposter", ["page", "page:2868", "void", "page:700000"])
@pytest.mark.parametrize("size", [1000, SIZE])
@pytest.mark.parametrize("ranges", ["", "ranges:none@head", "ranges:silent@head"])
async def test_something_else_each_time_is_refused_and_an_earlier_copy_stays(
    client: Client, origin: Origin, imposter: str, size: int, ranges: str
) -> None:
    url = client.url(size=size)
    await client.right(url, size=size)
    origin.set_version(client.key, 2)
    origin.set_faults(client.key, f"{imposter}@get;{ranges}")

    with pytest.raises(Exception, match=r".") as caught:
        await client.fetch(url)

    assert caught.value.reason == "contradiction"  # type: ignore[attr-defined]
    assert client.target.read_bytes() == payload(size)


async def test_part_of_a_file_stays_when_something_else_comes(client: Client, origin: Origin) -> None:
    url = client.url()
    origin.set_faults(client.key, f"cut:{2 * CHUNK}@range@4;page@range@5-;page@plain")
    error = await client.fails(url)
    origin.set_faults(client.key, "")
    result = await client.right(url)

    assert 0 < error.bytes_done == result.resumed
    assert result.fetched == SIZE - result.resumed


@pytest.mark.parametrize("ranges", ["ranges:as200", "ranges:as200:bare"])
@pytest.mark.parametrize("head", ["", "status:405@head", "length:none@head"])
@pytest.mark.parametrize("probe", ["head", "range"])
async def test_a_part_under_200_is_not_the_file(client: Client, ranges: str, head: str, probe: str) -> None:
    await client.with_options(probe=probe).right(client.url(f"{ranges};{head}"))


@pytest.mark.parametrize("when", ["@range", "@range@2", "@range@50%"])
async def test_a_content_range_shorter_than_its_body_never_puts_bytes_where_they_do_not_belong(
    client: Client, when: str
) -> None:
    await client.with_options(retry_times=20).right(client.url(f"ranges:mislabelled:1000{when}", seed=3))


@pytest.mark.parametrize(
    "ranges",
    [
        "ranges:rewound",
        "ranges:rewound@range@4-4",
        *("ranges:rewound:all;framing:chunked@range", "ranges:rewound:all;framing:close@range"),
        *("ranges:multipart", "ranges:multipart:labelled", "ranges:multipart:labelled;framing:chunked@range"),
    ],
)
@pytest.mark.parametrize("head", ["", "status:405@head"])
@pytest.mark.parametrize("probe", ["head", "range"])
async def test_a_206_whose_body_is_not_the_range_it_names_is_not_believed(
    client: Client, ranges: str, head: str, probe: str
) -> None:
    await client.with_options(probe=probe).right(client.url(f"{ranges};{head}"))


async def test_a_file_that_repeats_its_beginning_costs_one_request_more(client: Client, origin: Origin) -> None:
    origin.set_faults(client.key, f"body:{quote(base64.b64encode(bytes(SIZE)).decode())}")
    result = await client.fetch(client.url())

    assert result.path.read_bytes() == bytes(SIZE)
    assert origin.stats(client.key).methods["GET"] == client.options.chunks_per_file + 1


async def test_a_page_under_206_is_asked_for_again_whatever_its_validators(client: Client) -> None:
    # The third range is of the type of pages, and not the file's.
    await client.right(client.url(f"header:Content-Type=text/html@range@3-3;corrupt:{5 * CHUNK}@range@3-3"))


async def test_a_body_that_ends_properly_before_what_head_told_of_this_version_is_asked_for_again(
    client: Client, origin: Origin
) -> None:
    half = quote(base64.b64encode(payload(SIZE // 2)).decode())
    origin.set_faults(client.key, f"ranges:none;body:{half}@get@1;framing:chunked@get")
    await client.right(client.url())


@pytest.mark.parametrize("now", [SIZE // 3, 2 * SIZE])
@pytest.mark.parametrize("probe", ["get", "head", "range", "auto"])
async def test_a_finished_file_of_another_size_under_the_same_validators_is_fetched(
    client: Client, now: int, probe: str
) -> None:
    asking = client.with_options(probe=probe)
    await asking.right(client.url("etag:fixed;date:fixed"))

    await asking.right(client.url("etag:fixed;date:fixed", size=now), size=now)


@pytest.mark.parametrize("end", ["rst:0.5", "cut:0.5"])
@pytest.mark.parametrize("head", ["length:none@head", "status:405@head"])
async def test_a_body_without_length_that_ends_by_a_reset_is_not_whole(client: Client, end: str, head: str) -> None:
    faults = f"framing:close@get;ranges:none;{head};{end}@get@1"
    if end.startswith("rst"):
        await client.right(client.url(faults))
    else:
        await client.fetch(client.url(faults))  # nothing tells


@pytest.mark.parametrize(
    ("fault", "version"), [("page", 1), ("void", 1), ("etag:none;date:none", 1), ("", 2), ("etag:none", 2)]
)
async def test_a_mirror_that_has_something_else_is_left_out_in_one_stream_too(
    client: Client, fault: str, version: int
) -> None:
    main = client.url("ranges:none;cut:50000@get")
    mirror = client.url(fault, name="m", key=client.key, version=version)

    await client.fails(main, "short_body", "other_version", "other_size", "contradiction", mirrors=(mirror,))


async def test_a_mirror_of_the_very_file_is_taken_in_one_stream(client: Client) -> None:
    main = client.url("ranges:none;cut:50000@get")
    mirror = client.url("ranges:none", name="m", key=client.key)

    await client.right(main, mirrors=(mirror,))


@pytest.mark.parametrize("mirror", ["etag:none", "etag:fixed;date:none"])
@pytest.mark.parametrize("main", ["ranges:ignored", "change@3-"])
async def test_what_main_does_is_not_decided_by_a_mirror_that_cannot_be_compared(
    client: Client, main: str, mirror: str
) -> None:
    result = await client.right_or_fails(
        client.url(main), versions=(1, 2), mirrors=(client.url(mirror, name="m", key=client.key),)
    )

    assert isinstance(result, FileResult)


# --- HEAD is a hint


@pytest.mark.parametrize(
    "there",
    ["", "page", "status:500", "status:404", "change", "hang", "reset", "void"],
)
async def test_a_head_that_leads_elsewhere_decides_nothing(client: Client, origin: Origin, there: str) -> None:
    elsewhere = origin.url("elsewhere", 5000 if not there else SIZE, there)
    url = client.url(f"lead:{elsewhere.replace(':', '%3A').replace('@', '%40').replace(';', '%3B')}@head")

    await client.right(url)


async def test_a_head_that_leads_to_itself_for_ever_decides_nothing(client: Client, origin: Origin) -> None:
    loop = origin.redirect("loop", None)

    await client.right(client.url(f"lead:{loop.replace(':', '%3A')}@head"))


async def test_a_checksum_decides_where_nothing_else_can(client: Client, origin: Origin) -> None:
    url = client.url("etag:none;date:none")
    await client.right(url, checksum=f"sha256:{expected_sha256(client.key, SIZE)}")
