"""Limits and pauses per host hold over all processes on one Redis, without a call to Redis for each request."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis
from servers import Server

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HOSTS_AT_ONCE, PREFIX, Demand, HostShares

HOST = "files.example:443"

NewShares = Callable[..., HostShares]


@pytest.fixture
def new_shares(server: Server, client: redis.Redis) -> Iterator[NewShares]:
    """Make the shares of separate processes, of a limit of 8 if none is given."""
    clients = []

    def make(*, limit: int = 8, lease: float = 60.0, token: str | None = None) -> HostShares:
        clients.append(make_client({"REDIS_URL": server.url}))
        return HostShares(clients[-1], limit=limit, lease=lease, token=token)

    yield make
    for each in clients:
        each.close()


def want(shares: HostShares, wanted: int, in_use: int = 0) -> int:
    return shares.settle({HOST: Demand(in_use, wanted)})[HOST].slots


def let_leases_run_out(client: redis.Redis, token: str, host: str = HOST) -> None:
    """As if the time of that process had passed."""
    held, wants, since, _ = client.hget(PREFIX + host, token).split()
    client.hset(PREFIX + host, token, b" ".join([held, wants, since, b"1"]))


def let_a_turn_pass(client: redis.Redis) -> None:
    for token, value in client.hgetall(PREFIX + HOST).items():
        if token:
            held, wants, since, end = value.split()
            client.hset(PREFIX + HOST, token, b" ".join([held, wants, str(int(since) - 60_000).encode(), end]))


def test_one_process_gets_what_it_wants_up_to_the_limit(new_shares: NewShares) -> None:
    shares = new_shares()

    assert [want(shares, 3), want(shares, 20), want(shares, 5)] == [3, 8, 5]
    assert shares.slots(HOST) == 5


def test_nothing_may_be_begun_before_it_is_settled_or_after_the_lease(
    new_shares: NewShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = new_shares(lease=60)
    assert shares.slots(HOST) == 0
    want(shares, 3)
    assert shares.slots(HOST) == 3

    from scrapy_chunkdl.queue import hosts

    now = hosts.time.monotonic()
    monkeypatch.setattr(hosts.time, "monotonic", lambda: now + 61)

    assert shares.slots(HOST) == 0


def test_until_an_answer_comes_no_more_may_be_used_than_redis_was_told_of(new_shares: NewShares) -> None:
    first, second = new_shares(), new_shares()
    want(first, 8)

    first.tell({HOST: Demand(in_use=2, wanted=2)})

    assert first.slots(HOST) == 2, "Redis may have it already, and give the other six away"
    first.settle({})
    assert want(second, 8) == 6
    assert first.slots(HOST) == 2


def test_what_one_holds_another_does_not_get_until_it_lets_go(new_shares: NewShares) -> None:
    first, second = new_shares(), new_shares()
    want(first, 8)

    assert want(second, 8) == 0
    assert want(first, 8, in_use=8) == 4, "an equal share, now that another wants"
    assert want(second, 8) == 0, "the first still uses its eight"
    assert want(first, 8, in_use=5) == 4
    assert want(second, 8) == 3
    assert want(first, 8, in_use=4) == 4
    assert want(second, 8, in_use=3) == 4


def test_who_wants_less_than_its_share_leaves_the_rest_to_the_others(new_shares: NewShares) -> None:
    modest, eager = new_shares(), new_shares()
    want(modest, 2)

    assert want(eager, 20) == 6
    assert want(modest, 2, in_use=2) == 2


def test_slots_of_a_dead_process_are_free_after_its_lease(new_shares: NewShares, client: redis.Redis) -> None:
    dead, alive = new_shares(), new_shares()
    want(dead, 8)
    assert want(alive, 8) == 0

    let_leases_run_out(client, dead.token)

    assert want(alive, 8) == 8


def test_settling_nothing_new_renews_the_leases_of_all_hosts(new_shares: NewShares, client: redis.Redis) -> None:
    shares = new_shares()
    hosts = [f"h{n}" for n in range(2 * HOSTS_AT_ONCE + 1)]
    shares.settle({host: Demand(0, 1) for host in hosts})
    before = {host: client.hget(PREFIX + host, shares.token).split()[3] for host in hosts}
    for host in hosts:
        client.hset(PREFIX + host, shares.token, b"1 0 1 " + str(client.time()[0] * 1000 + 5000).encode())

    settled = shares.settle({})

    assert {host: share.slots for host, share in settled.items()} == dict.fromkeys(hosts, 1)
    assert all(client.hget(PREFIX + host, shares.token).split()[3] >= before[host] for host in hosts)


def test_with_more_processes_than_slots_all_take_turns(new_shares: NewShares, client: redis.Redis) -> None:
    processes = [new_shares(limit=2) for _ in range(5)]
    served: dict[int, int] = dict.fromkeys(range(5), 0)

    for _ in range(20):
        # who ends its turn asks again at once, and still comes after those that wait
        running = [[want(process, 4) for _ in range(2)][-1] for process in processes]
        assert sum(process.slots(HOST) for process in processes) <= 2
        for number, slots in enumerate(running):
            served[number] += slots
        let_a_turn_pass(client)

    assert min(served.values()) > 0
    assert max(served.values()) <= 2 * min(served.values()) + 2


def test_a_pause_one_process_was_asked_for_stops_all(new_shares: NewShares) -> None:
    asked, *others = (new_shares() for _ in range(4))
    for shares in (asked, *others):
        want(shares, 2)

    asked.cool_down(HOST, 30)
    assert asked.slots(HOST) == 0, "at once, before Redis knows"
    asked.settle({})
    for shares in others:
        shares.settle({})

    assert [shares.slots(HOST) for shares in (asked, *others)] == [0, 0, 0, 0]
    assert all(25 < shares.cooling(HOST) <= 30 for shares in (asked, *others))
    assert asked.cooling("other.example:80") == 0


def test_the_longer_pause_stands(new_shares: NewShares) -> None:
    first, second = new_shares(), new_shares()
    first.cool_down(HOST, 300)
    first.cool_down(HOST, 3)
    first.settle({})
    second.cool_down(HOST, 30)
    second.settle({})

    assert 290 < second.cooling(HOST) <= 300


def test_a_pause_told_to_a_redis_that_is_away_is_told_later(server: Server, new_shares: NewShares) -> None:
    first, second = new_shares(), new_shares()
    want(first, 1)
    first.cool_down(HOST, 600)
    server.kill()
    try:
        with pytest.raises(redis.ConnectionError):
            first.settle({})
        assert first.cooling(HOST) > 0
    finally:
        server.start()

    first.settle({})
    second.settle({HOST: Demand(0, 1)})

    assert second.cooling(HOST) > 500


def test_nothing_is_left_when_all_have_let_go(new_shares: NewShares, client: redis.Redis) -> None:
    first, second = new_shares(), new_shares()
    for shares in (first, second):
        shares.settle({HOST: Demand(0, 3), "other": Demand(0, 1)})
    assert client.pttl(PREFIX + HOST) > 0, "what a killed process leaves goes by itself"

    first.settle({HOST: Demand(0, 0)})
    first.close()
    second.close()

    assert client.keys("*") == []


def test_one_call_settles_many_hosts(new_shares: NewShares, client: redis.Redis) -> None:
    shares = new_shares()
    want(shares, 1)
    client.config_resetstat()

    shares.settle({f"h{n}": Demand(0, 2) for n in range(HOSTS_AT_ONCE - 1)})

    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


@dataclass
class _Process:
    """A process that follows the rule: no request is begun while ``slots`` or more run."""

    shares: HostShares
    in_use: int = 0
    wanted: int = 0


@pytest.mark.parametrize("seed", range(8))
def test_the_limit_holds_whatever_happens(new_shares: NewShares, client: redis.Redis, seed: int) -> None:
    rng = random.Random(seed)
    limit = rng.choice([1, 3, 8])
    processes = [_Process(new_shares(limit=limit, token=f"p{n}")) for n in range(5)]

    for step in range(400):
        number = rng.randrange(len(processes))
        process = processes[number]
        what = rng.random()
        if what < 0.3:
            process.wanted = max(process.in_use, rng.choice([0, 1, 2, 10]))
            process.shares.settle({HOST: Demand(process.in_use, process.wanted)})
        elif what < 0.6:
            process.in_use += process.in_use < process.shares.slots(HOST)
        elif what < 0.9:
            process.in_use -= process.in_use > 0
        elif what < 0.95:
            let_a_turn_pass(client)
        elif client.hexists(PREFIX + HOST, process.shares.token):
            let_leases_run_out(client, process.shares.token)
            processes[number] = _Process(new_shares(limit=limit, token=f"p{5 + step}"))
        assert sum(process.in_use for process in processes) <= limit
