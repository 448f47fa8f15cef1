"""A host that fails is left alone by all processes, and tried by one of them at a time, at growing intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from servers import Server

from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.host_health import (
    FIRST_PAUSE_S,
    KEPT_S,
    KEY,
    LONGEST_ASKED_S,
    LONGEST_PAUSE_S,
    MOST_HOSTS,
    HostHealth,
)

HOST = "files.example:443"

NewHealth = Callable[[], HostHealth]


@pytest.fixture
def new_health(server: Server, client: redis.Redis) -> Iterator[NewHealth]:
    """Make the access of separate processes."""
    clients = []

    def make() -> HostHealth:
        clients.append(make_client({"REDIS_URL": server.url}))
        return HostHealth(clients[-1], f"machine:{len(clients)}:x")

    yield make
    for each in clients:
        each.close()


def let_time_pass(client: redis.Redis, seconds: float, host: str = HOST) -> None:
    """Move what is noted of a host into the past."""
    state, *fields = client.hget(KEY, host).split(b" ", 7)
    for n in (0, 1, 3):
        fields[n] = b"%d" % max(0, int(fields[n]) - round(seconds * 1000))
    client.hset(KEY, host, b" ".join([state, *fields]))


def try_in_vain(health: HostHealth, client: redis.Redis, host: str = HOST) -> float:
    """Let the pause pass, try, fail; return the next pause in seconds."""
    let_time_pass(client, health.look()[host].next_in_s + 1, host)
    assert health.may_try(host)[0] == "try"
    return health.fell(host, "http_503").next_in_s


def test_what_one_process_finds_out_all_know(new_health: NewHealth) -> None:
    first, second = new_health(), new_health()
    told = first.fell(HOST, "connect_failed")

    found = second.look()

    assert list(found) == [HOST]
    assert (found[HOST].reason, found[HOST].tries) == ("connect_failed", 0)
    assert abs(found[HOST].next_in_s - told.next_in_s) < 5
    assert second.may_try(HOST)[0] == "wait"


def test_the_sentence_says_since_when_why_and_when_it_is_tried_next(new_health: NewHealth, client: redis.Redis) -> None:
    health = new_health()
    health.fell(HOST, "answered 503")
    let_time_pass(client, 600)

    sentence = health.look()[HOST].sentence()

    assert sentence.startswith("files.example:443 is left alone for 10 min now (answered 503)")
    assert sentence.endswith("it is tried next now")


def test_a_host_that_is_being_tried_is_told_as_that(new_health: NewHealth, client: redis.Redis) -> None:
    health = new_health()
    health.fell(HOST, "http_503")
    let_time_pass(client, FIRST_PAUSE_S * 2)
    assert not health.look()[HOST].is_tried

    assert health.may_try(HOST)[0] == "try"

    assert health.look()[HOST].is_tried
    assert health.look()[HOST].sentence().endswith("; it is being tried")
    let_time_pass(client, 3600)
    assert not health.look()[HOST].is_tried


def test_pauses_grow_with_jitter_and_are_bounded(new_health: NewHealth, client: redis.Redis) -> None:
    health = new_health()
    pauses = [health.fell(HOST, "dns").next_in_s]
    pauses += [try_in_vain(health, client) for _ in range(12)]

    assert FIRST_PAUSE_S <= pauses[0] <= 1.25 * FIRST_PAUSE_S
    assert pauses[:6] == sorted(pauses[:6])
    assert all(LONGEST_PAUSE_S <= pause <= 1.25 * LONGEST_PAUSE_S for pause in pauses[-4:])
    assert len({round(pause, 1) for pause in pauses[-4:]}) > 1


def test_a_night_costs_a_host_fewer_than_25_tries(new_health: NewHealth, client: redis.Redis) -> None:
    health = new_health()
    passed_s, tries = health.fell(HOST, "http_403").next_in_s, 0
    while passed_s < 8 * 3600:
        passed_s += try_in_vain(health, client)
        tries += 1

    assert tries < 25


@pytest.mark.parametrize(
    ("asked_s", "obeyed_s"),
    [
        (0, FIRST_PAUSE_S),
        (-5, FIRST_PAUSE_S),
        (0.5, FIRST_PAUSE_S),
        (3600, 3600),
        (365 * 86400, LONGEST_ASKED_S),
        (float("inf"), LONGEST_ASKED_S),
        (float("nan"), FIRST_PAUSE_S),
    ],
)
def test_a_pause_that_the_host_asks_for_is_kept_within_bounds(
    new_health: NewHealth, asked_s: float, obeyed_s: float
) -> None:
    assert obeyed_s <= new_health().fell(HOST, "http_429", asked_s).next_in_s <= 1.25 * obeyed_s


def test_one_process_at_a_time_tries_and_one_that_dies_is_waited_for_no_longer_than_a_try(
    new_health: NewHealth, client: redis.Redis
) -> None:
    dies, waits = new_health(), new_health()
    dies.fell(HOST, "tls")
    let_time_pass(client, 60)

    assert dies.may_try(HOST)[0] == "try"
    assert dies.may_try(HOST)[0] == "try", "its reply was lost"
    assert waits.may_try(HOST)[0] == "wait"
    let_time_pass(client, 120)
    assert waits.may_try(HOST)[0] == "try"


def test_failures_of_what_was_under_way_do_not_make_the_pause_longer(new_health: NewHealth) -> None:
    first, second = new_health(), new_health()
    pause = first.fell(HOST, "connect_failed").next_in_s

    for _ in range(20):
        assert second.fell(HOST, "connect_failed").next_in_s <= pause

    assert second.look()[HOST].tries == 0


def test_a_host_that_serves_is_well_for_all(new_health: NewHealth) -> None:
    first, second = new_health(), new_health()
    first.fell(HOST, "http_503")

    assert first.recovered(HOST) is not None
    assert (second.look(), second.may_try(HOST)) == ({}, ("well", 0.0))
    assert second.recovered(HOST) is None


def test_a_host_that_falls_again_soon_begins_with_half_of_its_last_pause(
    new_health: NewHealth, client: redis.Redis
) -> None:
    health = new_health()
    health.fell(HOST, "http_503")
    for _ in range(4):
        last = try_in_vain(health, client)
    health.recovered(HOST)

    again = health.fell(HOST, "http_503")

    assert 0.35 * last <= again.next_in_s <= 0.65 * last
    assert again.since_s < 5


def test_what_is_kept_is_bounded_and_ends_by_itself(new_health: NewHealth, client: redis.Redis) -> None:
    health = new_health()
    record = b"ill 1 1 15000 0 0 - dns"
    client.hset(KEY, mapping={f"h{n}": record for n in range(MOST_HOSTS)})

    health.fell(HOST, "dns")
    assert client.hlen(KEY) == 1, "those nobody has tried for a day make room"
    assert 0 < client.pttl(KEY) <= (KEPT_S + 2 * FIRST_PAUSE_S) * 1000

    now = 1 << 50
    client.hset(KEY, mapping={f"h{n}": b"ill %d %d 15000 0 0 - dns" % (now, now) for n in range(MOST_HOSTS)})
    told = health.fell("one-more.example:80", "dns")
    assert client.hlen(KEY) <= MOST_HOSTS + 1
    assert told.next_in_s >= FIRST_PAUSE_S


@pytest.mark.parametrize("odd", [b"", b"x", b"ill", b"ill a b c d e f g", b"ill 1 2 3 4 5", b"\xff\xfe"])
def test_what_somebody_else_wrote_there_harms_nobody(new_health: NewHealth, client: redis.Redis, odd: bytes) -> None:
    client.hset(KEY, "odd:80", odd)
    health = new_health()

    assert "odd:80" not in health.look()
    assert health.fell("odd:80", "dns").next_in_s >= FIRST_PAUSE_S
    assert "odd:80" in health.look()
