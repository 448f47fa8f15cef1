"""Real servers: a file that is replaced between two runs or during one comes as one version, never as a mixed file.

What is promised after a complete run: what is replaced comes again where its size or its date is another, or where the
server tells neither date nor ETag. What cannot be: a file of the same size and the same date. Most ETags are made of
these two (nginx, Apache, Flask) or stay for the life of a process (Tornado). Those made of the inode (lighttpd) differ
between the backends of a balancer, too, where the file is the same, so beside an equal date they do not count. The file
of the first run stays. For the seconds in which a server tells what it has cached nothing is promised.
After a kill, and while the file comes, the bytes in place are compared as well: the new version comes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from origin_content import content
from real_client import Client
from real_fetch import CHUNK
from web_servers import A_YEAR_AGO

SIZE = 48 * CHUNK + 77


@dataclass(frozen=True)
class Replaced:
    """How the second version differs besides its bytes, which differ everywhere."""

    title: str
    size: int = SIZE
    at: int = A_YEAR_AGO

    @property
    def by_size_or_time(self) -> bool:
        return (self.size, self.at) != (SIZE, A_YEAR_AGO)


AT_FIRST = Replaced("at first")
WAYS = [
    Replaced("longer", SIZE + 4321, A_YEAR_AGO + 1_000_000),
    Replaced("shorter, same time", SIZE - 4321),
    Replaced("same size", at=A_YEAR_AGO + 1_000_000),
    Replaced("same size, older", at=A_YEAR_AGO - 1_000_000),
    Replaced("same size, same time"),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.title)
def way(request: pytest.FixtureRequest) -> Replaced:
    way: Replaced = request.param
    return way


def write(client: Client, version: int, way: Replaced) -> None:
    client.server.write(client.name, content(client.name, way.size, version), at=way.at)


def what_came(client: Client, way: Replaced) -> str:
    """Return which version lies under the final name."""
    versions = {"old": content(client.name, SIZE, 1), "new": content(client.name, way.size, 2)}
    body = client.target.read_bytes()
    return next((name for name, version in versions.items() if body == version), "MIXED")


def may_come(client: Client) -> set[str]:
    """Return which versions may come when the new one is there: a server that caches shows the old for a while."""
    return {"old", "new"} if client.server.kind.is_late else {"new"}


async def test_replaced_after_a_run_the_new_file_comes_where_the_server_shows_it(client: Client, way: Replaced) -> None:
    write(client, 1, AT_FIRST)
    await client.fetch()
    write(client, 2, way)

    await client.fetch()

    kind = client.server.kind
    is_shown = way.by_size_or_time or not kind.validators
    assert what_came(client, way) in (may_come(client) if is_shown else {"old"})


async def test_replaced_after_a_run_that_was_killed_one_version_comes_whole(client: Client, way: Replaced) -> None:
    write(client, 1, AT_FIRST)
    client.killed_in_the_middle(SIZE // 2)
    write(client, 2, way)

    await client.fetch()

    assert what_came(client, way) in may_come(client)


async def test_replaced_while_it_comes_and_all_connections_cut_one_version_comes_whole(
    client: Client, way: Replaced
) -> None:
    write(client, 1, AT_FIRST)
    client.relay.cut_after(SIZE // 2, lambda: write(client, 2, way))

    await client.fetch()

    assert what_came(client, way) in may_come(client)
