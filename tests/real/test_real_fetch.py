"""Real servers: files come right, what is unchanged costs no body, and a killed download goes on where it was."""

from __future__ import annotations

import gzip
from urllib.parse import quote

import pytest
from origin_content import content
from real_client import Client
from real_fetch import CHUNK

SIZE = 48 * CHUNK + 77
NAMES = {
    "plain.bin": SIZE,
    "empty.txt": 0,
    "one byte.txt": 1,
    "sub folder/a chunk.pdf": CHUNK,
    "über 年报 #1 100%.bin": 3 * CHUNK + 1,
    "packed.csv.gz": 5 * CHUNK,
}


@pytest.mark.parametrize("name", NAMES)
async def test_the_file_is_the_servers(client: Client, name: str) -> None:
    body = content(name, NAMES[name])
    body = gzip.compress(body) if name.endswith(".gz") else body
    client.server.write(name, body)

    result = await client.fetch(quote(name))

    assert (result.status, result.size) == ("downloaded", len(body))
    assert client.target.read_bytes() == body


async def test_an_unchanged_file_costs_no_body(client: Client) -> None:
    if not client.server.kind.validators:
        pytest.skip("nothing that this server tells shows that a file is unchanged")
    client.server.write(client.name, content(client.name, SIZE))
    await client.fetch()
    client.relay.sent = 0

    again = await client.fetch()

    assert (again.status, again.fetched) == ("uptodate", 0)
    assert client.relay.sent < CHUNK
    assert client.target.read_bytes() == content(client.name, SIZE)


async def test_a_killed_download_goes_on_where_it_was(client: Client) -> None:
    client.server.write(client.name, content(client.name, SIZE))
    client.killed_in_the_middle(SIZE // 2)

    result = await client.fetch()

    assert client.target.read_bytes() == content(client.name, SIZE)
    if client.server.kind.resumes:
        assert result.resumed >= CHUNK
        assert result.fetched < SIZE
