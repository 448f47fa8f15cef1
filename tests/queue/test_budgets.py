"""What came is counted once over all processes, and set aside before, in hashes that are bounded and end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from servers import Cluster

from scrapy_chunkdl.queue import budgets
from scrapy_chunkdl.queue.budgets import Asked, SharedBudgets
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.item_queue import ItemQueue

GOV, ALL = ("day", "bytes files.gov:443"), ("hour", "files *")
FILES = "day", "files *"

NewQueue = Callable[..., ItemQueue]


@pytest.fixture
def of(new_queue: NewQueue) -> Callable[[str], SharedBudgets]:
    """The budgets of a process."""
    return lambda token: SharedBudgets(new_queue().client, token)


def test_processes_see_what_others_used(of: Callable[[str], SharedBudgets]) -> None:
    one, other = of("one"), of("other")
    one.tell(1, {GOV: 100, ALL: 2}, [])

    used = other.tell(1, {GOV: 11}, [Asked(GOV, 999), Asked(ALL, 9), Asked(("day", "bytes *"), 9)])

    assert {of: stands.used for of, stands in used.counts.items()} == {GOV: 111, ALL: 2, ("day", "bytes *"): 0}


def test_processes_get_no_more_together_than_is_left_and_one_that_is_gone_or_leaves_gives_it_back(
    of: Callable[[str], SharedBudgets], client: redis.Redis
) -> None:
    one, two, three = of("one"), of("two"), of("three")

    def granted(process: SharedBudgets, wanted: int, needed: int = 0, part: int = 1) -> int:
        return process.tell(part, {}, [Asked(FILES, 10, needed, wanted, 1)]).counts[FILES].granted

    assert [granted(one, 6), granted(two, 6), granted(three, 6)] == [6, 4, 0]
    assert granted(one, 6) == 6, "the same again"
    assert granted(one, 2, 2) == 2, "what it does not need any more is given back"
    assert granted(three, 6) == 4
    client.zadd("{chunkdl}:budget alive", {"two": 1}, xx=True)
    assert granted(three, 9) == 8, "a process died"
    one.leave([(2, {FILES: 2})])
    assert three.tell(2, {FILES: 8}, [Asked(FILES, 10, 0, 5, 1)]).counts[FILES] == (10, 0, 0)
    assert client.hkeys("{chunkdl}:budget aside") == [b""]


@pytest.mark.parametrize(
    ("what", "budget", "first", "others", "gets"),
    [
        ("bytes", 100, 70, 0, 100),
        ("bytes", 60, 70, 0, 70),
        ("bytes", 60, 70, 10, 50),
        ("files", 5, 2, 0, 5),
        ("files", 2, 3, 0, 3),
        ("files", 2, 3, 1, 1),
    ],
)
def test_a_file_larger_than_what_is_left_may_begin_where_nothing_else_is_under_way(
    of: Callable[[str], SharedBudgets], what: str, budget: int, first: int, others: int, gets: int
) -> None:
    count = "day", f"{what} *"
    of("other").tell(1, {}, [Asked(count, budget, others, others)])

    assert of("one").tell(1, {}, [Asked(count, budget, 0, 500, first)]).counts[count].granted == gets


def test_the_largest_file_is_known_to_all(of: Callable[[str], SharedBudgets]) -> None:
    of("one").tell(1, {}, [], largest=2**40)

    assert of("other").tell(1, {}, [], largest=7).largest == 2**40


def test_a_part_that_is_told_again_as_its_reply_was_lost_counts_once(of: Callable[[str], SharedBudgets]) -> None:
    one = of("one")
    for part, told in ((1, 5), (1, 5), (2, 3), (2, 3), (1, 5)):
        used = one.tell(part, {GOV: told}, [Asked(GOV, 99)])

    assert used.counts[GOV].used == 8


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

    of("other").tell(1, {}, [])

    assert client.zrange("{chunkdl}:budget alive", 0, -1) == [b"other"]
    assert client.hkeys("{chunkdl}:budget told") == [b"other"]


def test_a_clock_of_this_machine_that_is_wrong_changes_nothing(
    of: Callable[[str], SharedBudgets], client: redis.Redis
) -> None:
    one = of("one")
    one._now -= 40 * 86400

    used = one.tell(1, {GOV: 4}, [Asked(GOV, 99)])

    assert used.counts[GOV].used == 4
    assert len(client.keys("{chunkdl}:budget day *")) == 1
    assert abs(used.now - client.time()[0]) < 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def test_budgets_work_on_a_cluster(cluster: Cluster) -> None:
    params = {"redis_cls": "redis.cluster.RedisCluster"}
    client = make_client({"REDIS_PARAMS": params, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": cluster.nodes[1].port})

    assert SharedBudgets(client, "x").tell(1, {GOV: 4}, [Asked(GOV, 99)]).counts[GOV].used == 4
    client.close()
