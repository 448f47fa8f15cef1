"""A page in place of the file is not published; what an earlier run stored of it does not stay "up to date"."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from fetching import Client, payload

HTML = b"<!DOCTYPE html><html><body>please log in" + b" " * 2000 + b"</body></html>"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + payload(9_000)


def body(content: bytes, when: str = "") -> str:
    return f"body:{quote(base64.b64encode(content).decode())}{when}"


def as_type(kind: str, when: str = "") -> str:
    return f"header:Content-Type={quote(kind, safe='/')}{when}"


@pytest.mark.parametrize("more", ["", ";ranges:none", ";etag:none;date:none", ";framing:chunked;ranges:none"])
async def test_a_page_under_200_is_refused_and_told(client: Client, more: str) -> None:
    error = await client.fails(client.url(f"{body(HTML)};{as_type('text/html')}{more}", name="a.pdf"), "wrong_type")

    assert "an HTML page instead of application/pdf" in str(error)
    assert "please log in" in str(error)
    assert len(str(error)) <= 300


@pytest.mark.parametrize("more", ["", ";ranges:none"])
async def test_a_page_that_goes_away_does_not_cost_the_file(client: Client, more: str) -> None:
    faults = f"{body(HTML, '@get@1')};{as_type('text/html', '@get@1')};etag:none@get@1;date:none@get@1{more}"

    await client.right(client.url(faults, name="a.pdf"), key="a.pdf")


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream", "text/plain"])
async def test_a_real_pdf_is_taken_whatever_it_is_called(client: Client, kind: str) -> None:
    result = await client.fetch(client.url(f"{body(PDF)};{as_type(kind)}", name="a.pdf"))

    assert result.path.read_bytes() == PDF
    assert result.content_type == kind


async def test_an_empty_answer_for_what_head_called_larger_is_not_stored(client: Client) -> None:
    await client.fails(
        client.url(f"{body(b'', '@get')};ranges:none;etag:none", name="a.dat"), "wrong_type", "contradiction"
    )


async def test_the_name_in_the_url_counts_where_the_files_own_says_nothing(client: Client) -> None:
    await client.fails(client.url(f"{body(HTML)}", name="a.pdf"), "wrong_type")


async def test_a_page_that_an_earlier_run_stored_is_not_up_to_date(client: Client) -> None:
    url = client.url(f"{body(HTML)};{as_type('text/html')}", name="a.pdf")
    unchecked = client.with_options(check_type=False)
    assert (await unchecked.fetch(url)).status == "downloaded"
    assert (await unchecked.fetch(url)).status == "uptodate"

    client.origin.set_faults("a.pdf", body(PDF))
    assert (await client.fetch(url)).status == "downloaded"
    assert client.target.read_bytes() == PDF


async def test_the_check_can_be_switched_off_and_what_is_accepted_still_counts(client: Client) -> None:
    url = client.url(f"{body(HTML)};{as_type('text/html')}", name="a.pdf")

    await client.fails(url, "wrong_type", options=client.with_options(check_type=False).options, accept=(".pdf",))
    await client.fetch(url, accept=("text/html",))

    assert client.target.read_bytes() == HTML


async def test_a_checksum_of_the_item_decides_alone(client: Client) -> None:
    import hashlib

    checksum = "sha256:" + hashlib.sha256(HTML).hexdigest()

    await client.fetch(client.url(f"{body(HTML)};{as_type('text/html')}", name="a.pdf"), checksum=checksum)

    assert client.target.read_bytes() == HTML


async def test_a_mirror_is_asked_where_the_first_brings_pages(client: Client) -> None:
    page = client.url(f"{body(HTML)};{as_type('text/html')}", name="a.pdf")

    await client.right(page, mirrors=(client.url(name="b.pdf"),), key="b.pdf")
