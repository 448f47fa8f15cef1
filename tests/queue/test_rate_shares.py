"""Rates and delays over all processes: what is settled never passes the limit, and who needs less leaves more.

Processes are simulated: by a clock of the test's, with Redis' own for leases, so nothing here takes real time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
import redis
from servers import Server

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HOSTS_AT_ONCE, HostShares
from scrapy_chunkdl.queue.rate_shares import PREFIX, RateShares
from scrapy_chunkdl.queue.start_shares import PREFIX as STARTS
from scrapy_chunkdl.queue.start_shares import StartShares

LIMIT = 1_000_000
TICK = 0.25
ALL, HOST = "", "files.example:443"


@dataclass
class Process:
    """Uses what it may of what it needs, in bytes per second; all need: infinity."""

    shares: HostShares
    needs: float
    host: str = ALL
    now: float = 100.0
    may_use: float = 0.0

    def settle(self) -> float:
        """Tell what was used since the last time, and take the share."""
        self.now += TICK
        used = min(self.needs, self.may_use) * TICK
        wants = {self.host: (round(used), self.needs > self.may_use)} if self.needs else {}
        self.shares.rates.tell(wants, self.now)
        self.shares.settle({})
        self.may_use = self.shares.given_rates.get(self.host, 0.0)
        return self.may_use


NewProcess = Callable[..., Process]


@pytest.fixture
def new_process(server: Server, client: redis.Redis) -> Iterator[NewProcess]:
    clients = []

    def make(needs: float, host: str = ALL, limit: int = LIMIT) -> Process:
        clients.append(make_client({"REDIS_URL": server.url}))
        rates = RateShares(limit, limit)
        return Process(HostShares(clients[-1], limit=0, lease=60, rates=rates), needs, host)

    yield make
    for each in clients:
        each.close()


def rounds(processes: list[Process], number: int = 12) -> None:
    for _ in range(number):
        for process in processes:
            process.settle()
            assert sum(each.may_use for each in processes) <= LIMIT


@pytest.mark.parametrize("host", [ALL, HOST])
@pytest.mark.parametrize(
    ("needs", "get"),
    [
        ((9e9,), (1.0,)),
        ((9e9,) * 5, (0.2,) * 5),
        ((9e9, 50_000, 50_000, 50_000, 50_000), (0.77, 0.057, 0.057, 0.057, 0.057)),
        ((9e9, 9e9, 100_000), (0.445, 0.445, 0.11)),
        ((9e9, 9e9, 0), (0.5, 0.5, 0.0)),
        ((300_000, 400_000), (0.45, 0.55)),
    ],
)
def test_all_of_a_limit_is_shared_by_what_each_needs(
    new_process: NewProcess, needs: tuple[float, ...], get: tuple[float, ...], host: str
) -> None:
    processes = [new_process(each, host) for each in needs]

    rounds(processes)

    assert [each.may_use / LIMIT for each in processes] == pytest.approx(list(get), abs=0.01)
    assert all(each.may_use >= each.needs for each in processes if each.needs < LIMIT / 5)


def test_who_begins_to_need_more_gets_its_part_within_two_settlings(new_process: NewProcess) -> None:
    modest, eager = new_process(10_000), new_process(9e9)
    rounds([modest, eager])
    assert eager.may_use > 0.97 * LIMIT

    modest.needs = 9e9
    rounds([modest, eager], 2)
    modest.settle()

    assert modest.may_use == pytest.approx(LIMIT / 2, rel=0.01)


def test_who_ends_gives_all_back_at_once(new_process: NewProcess, client: redis.Redis) -> None:
    ends, stays = new_process(9e9), new_process(9e9)
    rounds([ends, stays])

    ends.needs = 0.0
    ends.settle()

    assert stays.settle() == LIMIT
    assert list(client.hgetall(PREFIX)) == [stays.shares.token.encode()]


def test_the_share_of_a_process_that_died_is_the_others_after_its_lease(
    new_process: NewProcess, client: redis.Redis
) -> None:
    dead, alive = new_process(9e9), new_process(9e9)
    rounds([dead, alive])
    assert alive.settle() == LIMIT / 2

    may_use, wants, _ = client.hget(PREFIX, dead.shares.token).split()
    client.hset(PREFIX, dead.shares.token, b" ".join([may_use, wants, b"1"]))  # its time has passed

    assert alive.settle() == LIMIT


def test_a_redis_that_forgot_is_told_what_each_has_before_anybody_gets_more(
    new_process: NewProcess, client: redis.Redis
) -> None:
    processes = [new_process(9e9) for _ in range(5)]
    rounds(processes)
    client.flushall()

    rounds(processes, 1)
    assert [each.may_use for each in processes] == [LIMIT / 5] * 5


def test_without_redis_each_keeps_its_last_share(server: Server, new_process: NewProcess) -> None:
    processes = [new_process(9e9) for _ in range(4)]
    rounds(processes)
    server.kill()
    try:
        for process in processes:
            with pytest.raises(redis.ConnectionError):
                process.settle()
            assert process.may_use == LIMIT / 4
    finally:
        server.start()


@pytest.mark.parametrize("seed", range(6))
def test_the_limit_holds_whatever_happens(new_process: NewProcess, client: redis.Redis, seed: int) -> None:
    rng = random.Random(seed)
    processes = [new_process(9e9) for _ in range(5)]

    for _ in range(300):
        process = rng.choice(processes)
        what = rng.random()
        if what < 0.2:
            process.needs = rng.choice([0.0, 10_000, 200_000, 9e9])
        elif what < 0.23:
            processes.remove(process)
            fields = client.hget(PREFIX, process.shares.token)
            if fields is not None:
                client.hset(PREFIX, process.shares.token, b" ".join([*fields.split()[:2], b"1"]))
            processes.append(new_process(9e9))
        else:
            process.settle()
        assert sum(each.may_use for each in processes) <= LIMIT


def test_one_call_settles_connections_rates_and_moments_of_many_hosts(server: Server, client: redis.Redis) -> None:
    rates, starts = RateShares(LIMIT, LIMIT), StartShares(0.1)
    shares = HostShares(make_client({"REDIS_URL": server.url}), limit=0, lease=60, rates=rates, starts=starts)
    hosts = [f"h{n}" for n in range((HOSTS_AT_ONCE - 1) // 2)]
    shares.settle({})
    client.config_resetstat()

    rates.tell(dict.fromkeys([ALL, *hosts], (100, True)), 1.0)
    starts.tell(dict.fromkeys(hosts, (0, 2)))
    shares.settle({})

    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    assert set(shares.given_rates) == {ALL, *hosts}
    assert set(shares.given_moments) == set(hosts)


# --- moments to begin requests


@pytest.fixture
def new_starts(server: Server, client: redis.Redis) -> Iterator[Callable[[float], HostShares]]:
    clients = []

    def make(delay_s: float) -> HostShares:
        clients.append(make_client({"REDIS_URL": server.url}))
        return HostShares(clients[-1], limit=0, lease=60, starts=StartShares(delay_s))

    yield make
    for each in clients:
        each.close()


def moments(shares: HostShares, to_come: int, wanted: int) -> int:
    shares.starts.tell({HOST: (to_come, wanted)})
    shares.settle({})
    given, _ = shares.given_moments[HOST]
    return len(given)


@pytest.mark.parametrize("delay_s", [0.02, 0.1, 1.0, 30.0])
def test_no_two_moments_are_closer_than_the_delay_and_each_process_gets_some(
    new_starts: Callable[[float], HostShares], client: redis.Redis, delay_s: float
) -> None:
    processes = [new_starts(delay_s) for _ in range(5)]
    given: list[list[float]] = []

    for shares in processes:
        before = float(client.hget(STARTS + HOST, "") or 0)
        shares.starts.tell({HOST: (0, 10)})
        shares.settle({})
        [(new, _)] = [shares.given_moments[HOST]]
        after = float(client.hget(STARTS + HOST, ""))
        given.append(new)
        assert after - len(new) * delay_s * 1e6 >= before, "moments are given once"
        assert [round(b - a, 6) for a, b in pairwise(new)] == [delay_s] * (len(new) - 1)

    assert all(given)


def test_who_wants_few_moments_leaves_more_to_the_others(new_starts: Callable[[float], HostShares]) -> None:
    modest, eager = new_starts(0.02), new_starts(0.02)

    assert moments(modest, 0, 1) == 1
    assert moments(eager, 0, 100) == 29, "thirty are handed out ahead, 0.6 s"
    assert moments(eager, 29, 71) == 0, "before it used some of these"
    assert moments(modest, 1, 99) == 14


def test_a_next_moment_far_ahead_is_none(new_starts: Callable[[float], HostShares], client: redis.Redis) -> None:
    shares = new_starts(1.0)
    moments(shares, 0, 1)
    client.hset(STARTS + HOST, "", str((int(client.time()[0]) + 86400) * 1_000_000))  # its clock was set back

    shares.starts.tell({HOST: (0, 1)})
    shares.settle({})

    [[first], _] = shares.given_moments[HOST]
    assert first - time.monotonic() <= 20.0
