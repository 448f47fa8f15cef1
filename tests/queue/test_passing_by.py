"""A waiting item that plainly needs a host for which others are parked is parked with them, without being claimed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from scrapy_chunkdl.queue import item_queue
from scrapy_chunkdl.queue.item_queue import ItemQueue

LIST, PARKED, HOSTS = "s:items", "{s:items}:parked", "{s:items}:parked_hosts"
ILL, FIELDS = "ill.example:80", ("ori_url", "file_urls")
NEVER, NOW = 9_000_000_000_000_000, 1

NewQueue = Callable[..., ItemQueue]


def with_url(url: str, **more: Any) -> str:
    return json.dumps({"page": "http://ill.example/page", "data": [{"attachments": [{"ori_url": url}]}], **more})


def leave_alone(client: redis.Redis, name: str = ILL, until_ms: int = NEVER) -> None:
    client.zadd(HOSTS, {name: until_ms})


PASSED = {
    "as json.dumps writes it": with_url("http://ill.example/a"),
    "without spaces": '{"ori_url":"http://ill.example/a"}',
    "with more of them": '{"ori_url" \t:\n "http://ill.example/a"}',
    "its port is told": with_url("http://ill.example:80/a"),
    "no path": with_url("http://ill.example?q=1"),
    "nothing behind": with_url("http://ill.example"),
    "in capitals": with_url("http://ILL.Example/a"),
    "with a name and password": with_url("http://me:secret@ill.example/a"),
    "a list of URLs": json.dumps({"file_urls": ["http://ill.example/a"]}),
    "a URL alone": json.dumps({"file_urls": "http://ill.example/a"}),
    "the second of two": '{"ori_url": "http://well.example/a", "x": {"ori_url": "http://ill.example/a"}}',
}
COMES = {
    "another host": with_url("http://well.example/a"),
    "another port": with_url("http://ill.example:8080/a"),
    "another scheme": with_url("https://ill.example/a"),
    "a longer name": with_url("http://ill.example.org/a"),
    "a name before it": with_url("http://ill.example@well.example/a"),
    "mirrors": with_url("http://ill.example/a", mirrors=["http://well.example/a"]),
    "in a text": json.dumps({"text": '"ori_url": "http://ill.example/a"'}),
    "in another field": json.dumps({"page": "http://ill.example/a"}),
    "cannot be read": "ill.example",
    "too large to be looked into": with_url("http://ill.example/a", text="x" * 20_000),
    "written otherwise": r'{"ori_url": "http:\/\/ill.example\/a"}',
}


@pytest.mark.parametrize("payload", PASSED.values(), ids=PASSED)
def test_an_item_that_plainly_needs_the_host_is_parked_on_the_way(
    new_queue: NewQueue, client: redis.Redis, payload: str
) -> None:
    leave_alone(client)
    client.rpush(LIST, payload, with_url("http://well.example/b"))
    queue = new_queue(url_fields=FIELDS)

    batch, dead = queue.claim(10, "p")

    assert ([claimed.payload for claimed in batch], dead) == ([with_url("http://well.example/b").encode()], 0)
    assert (queue.passed_by, client.zcard(PARKED), client.llen(LIST)) == (1, 1, 0)
    assert queue.counts().parked == 1
    queue.let_out(ILL)
    [back] = queue.claim(10, "q")[0]
    assert (back.payload, back.deliveries, back.errors) == (payload.encode(), 1, 0)


@pytest.mark.parametrize("payload", COMES.values(), ids=COMES)
def test_an_item_of_which_a_look_does_not_tell_comes(new_queue: NewQueue, client: redis.Redis, payload: str) -> None:
    leave_alone(client)
    client.rpush(LIST, payload)

    [claimed] = new_queue(url_fields=FIELDS).claim(10, "p")[0]

    assert claimed.payload == payload.encode()
    assert client.exists(PARKED) == 0


@pytest.mark.parametrize(
    ("name", "until_ms", "fields", "url", "parked"),
    [
        (ILL + "@budget", NEVER, FIELDS, "http://ill.example/a", True),
        ("::1:8080", NEVER, FIELDS, "http://[::1]:8080/a", True),
        ("::1:80", NEVER, FIELDS, "http://[::1]/a", True),
        (ILL, 0, FIELDS, "http://ill.example/a", False),
        (ILL, NOW, FIELDS, "http://ill.example/a", True),
        (ILL, NEVER, (), "http://ill.example/a", False),
        (ILL, NEVER, ("url.*", "%a+"), "http://ill.example/a", False),
    ],
    ids=["over its budget", "IPv6", "IPv6 without a port", "let out", "tried now", "hooks choose", "odd names"],
)
def test_what_is_left_alone_is_what_items_are_parked_for_and_not_let_out(
    new_queue: NewQueue, client: redis.Redis, name: str, until_ms: int, fields: tuple[str, ...], url: str, parked: bool
) -> None:
    client.hset("{s:items}:payload", "before", with_url(url))
    client.zadd(PARKED, {f"{name} 0000000000001 00001 before": 0})
    leave_alone(client, name, until_ms)
    client.rpush(LIST, with_url(url, n=1))

    new_queue(url_fields=fields).claim(10, "p")

    assert (client.zcard(PARKED) - (until_ms > NOW)) == parked


def test_so_many_are_passed_by_in_one_claim_and_nothing_is_taken_twice(
    new_queue: NewQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_queue, "MOST_PASSED_BY", 70)
    leave_alone(client)
    payloads = [with_url(f"http://{'well' if n % 40 == 39 else 'ill'}.example/{n}") for n in range(120)]
    client.rpush(LIST, *payloads)
    queue = new_queue(url_fields=FIELDS)

    found: list[list[bytes]] = []
    while client.llen(LIST):
        found.append([claimed.payload for claimed in queue.claim(10, f"p{len(found)}")[0]])

    assert [len(batch) for batch in found] == [1, 2]
    assert [one.decode() for batch in found for one in batch] == payloads[39::40]
    assert (queue.passed_by, client.zcard(PARKED)) == (117, 117)
    queue.let_out(ILL)
    back = [claimed.payload.decode() for n in range(12) for claimed in queue.claim(10, f"q{n}")[0]]
    assert back == [payload for payload in payloads if "well" not in payload], "in their order"


def test_an_item_that_was_passed_by_goes_back_into_the_list_it_came_from(
    new_queue: NewQueue, client: redis.Redis
) -> None:
    leave_alone(client)
    client.rpush("s:urgent", with_url("http://ill.example/a"))
    client.rpush(LIST, with_url("http://ill.example/b"), with_url("http://well.example/c"))
    queue = new_queue(above=["s:urgent"], url_fields=FIELDS)
    queue.claim(10, "p")
    queue.let_out(ILL)

    back = queue.claim(10, "q")[0]
    queue.put_back([claimed.id for claimed in back])

    assert (client.llen("s:urgent"), client.llen(LIST)) == (1, 1)


def test_who_parks_late_does_not_put_off_a_try_that_is_sooner(
    new_queue: Callable[..., ItemQueue], client: redis.Redis
) -> None:
    queue = new_queue()
    client.rpush(LIST, b"{}", b"{}")
    first, second = queue.claim(2, "p")[0]
    queue.park("h:80", 90.0, [first.id])
    queue.try_parked("h:80", 5.0)

    queue.park("h:80", 90.0, [second.id])

    seconds, _ = client.time()
    assert (client.zscore(HOSTS, "h:80") or 0) <= (seconds + 6) * 1000
