"""Several lists of one queue: the first is claimed first, none starves, and items go back where they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import redis

from scrapy_chunkdl.queue.dead_letters import DeadLetters
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.lists import above_of
from scrapy_chunkdl.queue.status import look
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.queue.waiting import Waiting, id_of

OWN, URGENT, SOON = "s:items", "s:urgent", "s:soon"
ABOVE = (URGENT, SOON)

NewQueue = Callable[..., ItemQueue]


def fill(client: redis.Redis, **numbers: int) -> None:
    for name, number in numbers.items():
        client.rpush(f"s:{name}", *(f"{name} {n}" for n in range(number)))


def claimed_of(queue: ItemQueue, batch: int, claims: int) -> list[str]:
    """The lists that items came from, in their order."""
    found = []
    for n in range(claims):
        items, _ = queue.claim(batch, f"p{n}")
        found += [item.payload.decode().split()[0] for item in items]
        queue.ack([(item.id, None) for item in items])
    return found


@pytest.mark.parametrize("batch", [1, 7, 32, 100])
def test_every_tenth_item_comes_from_the_lists_behind_the_first_in_turn(
    new_queue: NewQueue, client: redis.Redis, batch: int
) -> None:
    fill(client, urgent=400, soon=400, items=400)

    came = claimed_of(new_queue(above=ABOVE), batch, 300 // batch + 1)[:200]

    assert Counter(came) == {"urgent": 180, "soon": 10, "items": 10}
    assert {Counter(came[n : n + 10])["urgent"] for n in range(0, 200, 10)} == {9}


@pytest.mark.parametrize(
    ("lengths", "came"),
    [
        ({"urgent": 3, "items": 5}, ["urgent"] * 3 + ["items"] * 5),
        ({"soon": 2, "items": 2}, ["soon"] * 2 + ["items"] * 2),
        ({"items": 4}, ["items"] * 4),
        ({"urgent": 12, "items": 1}, ["urgent"] * 9 + ["items"] + ["urgent"] * 3),
    ],
)
def test_a_list_that_is_empty_gives_its_turn_to_the_next(
    new_queue: NewQueue, client: redis.Redis, lengths: dict[str, int], came: list[str]
) -> None:
    fill(client, **lengths)

    assert claimed_of(new_queue(above=ABOVE), 100, 1) == came


@pytest.mark.parametrize(
    "give_back",
    [
        lambda queue, item_id: queue.release([item_id]),
        lambda queue, item_id: queue.retry(item_id, 0.0, is_error=False),
        lambda queue, item_id: (queue.park("h:80", 0.0, [item_id]), queue.let_out("h:80")),
        lambda queue, item_id: queue.put_back([item_id]),
    ],
    ids=["released", "retried", "parked", "put back"],
)
def test_an_item_that_came_back_is_still_of_its_list(
    new_queue: NewQueue, client: redis.Redis, give_back: Callable[[ItemQueue, str], object]
) -> None:
    fill(client, urgent=1, items=1)
    queue = new_queue(above=ABOVE)
    for n in range(3):
        [item], _ = queue.claim(1, f"p{n}")
        give_back(queue, item.id)
    [item], _ = queue.claim(1, "q")

    assert queue.put_back([item.id]) == [item.id]

    assert client.lrange(URGENT, 0, -1) == [b"urgent 0"]


def test_files_given_up_of_an_item_go_back_into_its_list(new_queue: NewQueue, client: redis.Redis) -> None:
    fill(client, urgent=1, soon=1, items=1)
    queue = new_queue(above=ABOVE)
    for item in queue.claim(3, "p")[0]:
        queue.hold(item.id, [{"url": "u", "reason": "http_404"}])
    failed = DeadLetters.failed(client, OWN, ABOVE)
    told = [item.list for item in failed]

    assert failed.put_back() == 3

    assert told == [URGENT, SOON, None]
    assert [client.lrange(key, 0, -1) for key in (URGENT, SOON, OWN)] == [[b"urgent 0"], [b"soon 0"], [b"items 0"]]


def test_an_item_of_a_list_that_is_no_more_goes_back_into_the_queues_own(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    fill(client, urgent=2)
    before = new_queue(above=ABOVE)
    first, second = before.claim(2, "p")[0]
    before.hold(second.id, [{"url": "u"}])
    now = new_queue(above=[SOON], token=before.token)

    assert now.put_back([first.id]) == [first.id]
    assert DeadLetters.failed(client, OWN, [SOON]).put_back() == 1

    assert client.lrange(OWN, 0, -1) == [b"urgent 0", b"urgent 1"]


def test_all_lists_are_counted_shown_and_searched(new_queue: NewQueue, client: redis.Redis) -> None:
    fill(client, urgent=150, soon=2, items=130)
    queue, page = new_queue(above=ABOVE), Waiting(client, OWN, ABOVE)

    items, end = page.page(100, 120)
    found, _ = page.page(0, 10, "soon")
    status = look(queue)

    assert (queue.counts().waiting, len(page), status.backlog) == (282, 282, 282)
    assert status.as_dict()["lists"] == {URGENT: 150, SOON: 2, OWN: 130}
    assert [item.at for item in items] == list(range(100, end))
    assert [item.payload.decode() for item in items][48:54] == [
        *("urgent 148", "urgent 149", "soon 0", "soon 1", "items 0", "items 1")
    ]
    assert [(item.at, item.key) for item in found] == [(150, SOON), (151, SOON)]


def test_what_a_person_moves_to_the_front_is_the_first_lists_first(new_queue: NewQueue, client: redis.Redis) -> None:
    fill(client, urgent=1, items=300)
    page = Waiting(client, OWN, ABOVE)
    client.rpush(URGENT, *(f"urgent {n}" for n in range(1, 200)))  # while the person looks

    assert page.move_to_front([(id_of(b"items 250"), 251), (id_of(b"urgent 0"), 0)]) == 2
    assert page.take_out([(id_of(b"items 7"), 8)]) == 1

    came = [item.payload for item in new_queue(above=ABOVE).claim(3, "p")[0]]
    assert came == [b"items 250", b"urgent 0", b"urgent 1"]
    assert client.lrange("{s:items}:dead", 0, -1) == [b"items 7"]


def test_the_oldest_of_all_lists_is_told(new_queue: NewQueue, client: redis.Redis) -> None:
    fill(client, urgent=30, items=1)
    totals = Totals(client, OWN, above=ABOVE)
    totals.mark()
    client.lset(totals.marks_key, 0, b"%d 1" % 1000)  # the one of the last list waits since 1970

    new_queue(above=ABOVE).claim(9, "p")
    waited = totals.read().oldest_waits
    new_queue(above=ABOVE).claim(1, "q")

    assert (waited or 0) > 86400 * 365
    assert (totals.read().oldest_waits or 0) < 86400
    assert client.llen(OWN) == 0


@pytest.mark.parametrize("priority", [-3, 0, 1, 2, 3, 99])
def test_a_priority_is_so_many_lists_before_the_last(new_queue: NewQueue, client: redis.Redis, priority: int) -> None:
    new_queue(above=ABOVE).push([b"x"], 1, priority)

    assert client.llen((OWN, SOON, URGENT)[min(2, max(0, priority))]) == 1
    assert above_of((), priority) is None


def test_lists_that_are_the_same_are_refused(new_queue: NewQueue) -> None:
    with pytest.raises(ValueError, match="to differ"):
        new_queue(above=[OWN])
