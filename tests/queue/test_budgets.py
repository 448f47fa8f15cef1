"""What came is counted once over all processes, in hashes that are bounded and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from servers import Cluster

from scrapy_chunkdl.queue import budgets
from scrapy_chunkdl.queue.budgets import SharedBudgets
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue

GOV, ALL = ("day", "bytes files.gov:443"), ("hour", "files *")

NewQueue = Callable[..., ItemQueue]


@pytest.fixture
def of(new_queue: NewQueue) -> Callable[[str], SharedBudgets]:
    """The budgets of a process."""
    return lambda token: SharedBudgets(new_queue().client, token)


def test_processes_see_what_others_used(of: Callable[[str], SharedBudgets]) -> None:
    one, other = of("one"), of("other")
    one.tell(1, {GOV: 100, ALL: 2}, [])

    used = other.tell(1, {GOV: 11}, [GOV, ALL, ("day", "bytes *")])

    assert used.counts == {GOV: 111, ALL: 2, ("day", "bytes *"): 0}
    assert used.processes == 2


def test_a_part_that_is_told_again_as_its_reply_was_lost_counts_once(of: Callable[[str], SharedBudgets]) -> None:
    one = of("one")
    for part, told in ((1, 5), (1, 5), (2, 3), (2, 3), (1, 5)):
        used = one.tell(part, {GOV: told}, [GOV])

    assert used.counts == {GOV: 8}


def test_counts_end_and_are_bounded(
    of: Callable[[str], SharedBudgets], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "MOST_COUNTS", 10)

    of("one").tell(1, {("day", f"files {n}"): 1 for n in range(50)}, [])
    of("two").tell(1, {("day", f"files {n}"): 1 for n in range(50)}, [])

    [day] = client.keys("{chunkdl}:budget day *")
    assert client.hlen(day) == 10
    assert sum(map(int, client.hvals(day))) == 20
    assert all(0 < client.ttl(key) <= 2 * 86400 for key in client.keys("*"))


def test_a_process_that_is_gone_has_no_share(of: Callable[[str], SharedBudgets], client: redis.Redis) -> None:
    of("one").tell(1, {}, [])
    client.zadd("{chunkdl}:budget alive", {"one": 1, "long ago": 2})
    client.hset("{chunkdl}:budget told", "long ago", 7)

    used = of("other").tell(1, {}, [])

    assert used.processes == 1
    assert client.hkeys("{chunkdl}:budget told") == [b"other"]


def test_a_clock_of_this_machine_that_is_wrong_changes_nothing(
    of: Callable[[str], SharedBudgets], client: redis.Redis
) -> None:
    one = of("one")
    one._now -= 40 * 86400

    used = one.tell(1, {GOV: 4}, [GOV])

    assert used.counts == {GOV: 4}
    assert len(client.keys("{chunkdl}:budget day *")) == 1
    assert abs(used.now - client.time()[0]) < 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def test_budgets_work_on_a_cluster(cluster: Cluster) -> None:
    params = {"redis_cls": "redis.cluster.RedisCluster"}
    client = make_client({"REDIS_PARAMS": params, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": cluster.nodes[1].port})

    assert SharedBudgets(client, "x").tell(1, {GOV: 4}, [GOV]).counts == {GOV: 4}
    client.close()
