"""What a host that is ill for a night is asked by several processes: few requests, whatever its illness is.

Counted are those that are made after it fell ill: what was under way then, by each process as many as it has
connections to the host, cannot be taken back.

The night is as long as it is: real processes, the pauses of the product. It passes quickly as whatever Redis keeps of a
host is moved into the past whenever all that goes on is the wait for its next try.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from origin import Origin
from project import Project
from queued_files import LIST, done, push
from servers import wait_for

from scrapy_chunkdl.queue.host_health import KEY

NIGHT_S = 8 * 3600.0
MOST = 50
SERVED, BANNED, OTHERS = 60, 240, 20
HOST = "localhost"

PARKED, PARKED_HOSTS = f"{{{LIST}}}:parked", f"{{{LIST}}}:parked_hosts"
FAILED, DEAD = f"{{{LIST}}}:failed", f"{{{LIST}}}:dead"

SUPPORT = f"""
from scrapy_chunkdl.download.limits.circuits import Circuits

ask, may_send_again = Circuits.ask, Circuits.may_send_again


def note():
    with open("asked", "ab") as file:
        file.write(b".")


def noted_ask(self, host):
    ask(self, host)
    if host.startswith("{HOST}"):
        note()


def noted_second(self, host):
    may = may_send_again(self, host)
    if may and host.startswith("{HOST}"):
        note()
    return may


Circuits.ask, Circuits.may_send_again = noted_ask, noted_second
"""
"""Counts the requests to the host that are about to be made, also those that never reach it."""


ANSWERS = ["status:503", "status:429", "reset"]


@contextmanager
def ill_with(illness: str, origin: Origin) -> Iterator[None]:
    """Have a host be ill in the meantime."""
    origin.ban(illness)
    yield
    origin.ban("")


def let_the_wait_pass(client: redis.Redis, host: str) -> float:
    """Move the next try of a host to now, if all that is done is to wait for it; return by how many seconds."""
    state, *fields = (client.hget(KEY, host) or b"- 0 0 0 0").split(b" ", 7)
    seconds, micros = client.time()
    now = seconds * 1000 + micros // 1000
    left, is_tried = int(fields[1]) - now, int(fields[3]) > now
    if state != b"ill" or is_tried:
        return 0.0
    if left > 0:
        for n in (0, 1):
            fields[n] = b"%d" % (int(fields[n]) - left)
        client.hset(KEY, host, b" ".join([state, *fields]))
    if (client.zscore(PARKED_HOSTS, host) or 0) > now:
        client.zadd(PARKED_HOSTS, {host: now}, xx=True)
    return max(0, left) / 1000


@pytest.mark.long
@pytest.mark.parametrize("processes", [3])
@pytest.mark.parametrize("illness", ANSWERS)
def test_a_host_that_is_ill_for_a_night_is_asked_fewer_than_50_times_by_all_processes_together(
    project: Project, origin: Origin, client: redis.Redis, illness: str, processes: int
) -> None:
    project.support = SUPPORT
    project.settings |= {"CHUNKDL_MAX_DELIVERIES": 1, "CHUNKDL_DONE_KEY": "done", "CHUNKDL_ON_FAILURE": "hold"}
    project.settings |= {"CHUNKDL_STALL_TIMEOUT": 1, "CHUNKDL_CONNECT_TIMEOUT": 1, "CHUNKDL_HOST_PATIENCE": 5 * 86400}
    with Origin() as ill:
        push(client, ill, range(SERVED + BANNED), "b", host=HOST)
        push(client, origin, range(OTHERS), "o")
        workers = [project.begin("chunkdl", "worker", "files") for _ in range(processes)]
        wait_for(lambda: done(client, "b") >= SERVED, "the host did not serve")
        asked = project.folder / "asked"
        with ill_with(illness, ill):
            before, requests_before = asked.stat().st_size, ill.requests
            wait_for(lambda: done(client, "o") == OTHERS and client.llen(LIST) == 0, "the others did not come")
            wait_for(lambda: client.hlen(KEY) == 1, "the host is not ill")
            served = done(client, "b")
            opening = asked.stat().st_size - before
            place, passed_s = f"{HOST}:{ill.port}", 0.0

            def night_is_over() -> bool:
                nonlocal passed_s
                passed_s += let_the_wait_pass(client, place)
                return passed_s >= NIGHT_S

            wait_for(night_is_over, "the host is not tried again")
            in_all, came = asked.stat().st_size - before, ill.requests - requests_before
            tries = client.hget(KEY, place).split()[5].decode()
            waiting = client.zcard(PARKED)
        client.delete(KEY)
        wait_for(lambda: done(client, "b") == SERVED + BANNED, "they do not come when it is well")
        for worker in workers:
            worker.terminate()
        crawls = [project.finish(worker) for worker in workers]

    print(f"{illness}: {opening} requests, {in_all} with {tries} tries, {came} came, {served} served; {waiting} wait")
    assert in_all < MOST
    assert client.llen(FAILED) == client.llen(DEAD) == 0
    assert all("chunkdl/items/dead" not in crawl.stats for crawl in crawls)
