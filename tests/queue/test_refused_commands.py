"""A Redis that refuses a command, by an ACL or another type of a key: told at the start, and nothing is lost by it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from importlib import resources

import pytest
import redis
from servers import Server, binary_of

from scrapy_chunkdl.queue.asked import Asked, AskedOfProcesses
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.errors import explain, judge
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.recent import Recent

LIST, PAYLOAD, DEAD = "s:items", "{s:items}:payload", "{s:items}:dead"
FOR_PEOPLE = {"take_out", "take_waiting", "check"}
"""Scripts that no crawl or worker runs."""

ITEMS = [b'{"ori_url": "http://h/%d"}' % n for n in range(4)]


def commands_of_crawls() -> list[str]:
    scripts = (resources.files("scrapy_chunkdl.queue") / "lua").iterdir()
    sources = [script.read_text("utf-8") for script in scripts if script.name.partition(".")[0] not in FOR_PEOPLE]
    return sorted({name for source in sources for name in re.findall(r"redis\.call\('([A-Z]+)'", source)})


COMMANDS = commands_of_crawls()


@pytest.fixture(scope="module", params=["valkey", "redis7"])
def strict(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of a kind that knows users."""
    with Server(binary_of(request.param)) as server:
        yield server


@pytest.fixture
def strict_client(strict: Server) -> Iterator[redis.Redis]:
    with strict.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def limited(strict: Server, strict_client: redis.Redis) -> Iterator[ItemQueue]:
    """A queue of a user who may do all; what is taken from it is taken later."""
    strict_client.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", "~*", "+@all")
    queue = ItemQueue(
        make_client({"REDIS_URL": strict.url, "REDIS_PARAMS": {"username": "u", "password": "p"}}),
        LIST,
        url_fields=["ori_url"],
    )
    yield queue
    queue.close()


def take_away(client: redis.Redis, command: str) -> None:
    client.execute_command("ACL", "SETUSER", "u", f"-{command.lower()}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_a_user_may_not_give_is_named_at_the_start_and_leaves_nothing(
    strict_client: redis.Redis, limited: ItemQueue, command: str
) -> None:
    take_away(strict_client, command)

    with pytest.raises(redis.RedisError) as refused:
        limited.check()

    assert f"{command}: " in explain(refused.value)
    assert not judge(refused.value).waiting_helps
    assert len(explain(refused.value)) <= 300
    if command != "DEL":
        assert strict_client.keys("*") == []


def test_a_user_with_what_the_sentence_names_may_do_all(strict_client: redis.Redis, limited: ItemQueue) -> None:
    rights = (
        "resetkeys",
        "~*:items*",
        "~{chunkdl}:*",
        "-@all",
        "+@read",
        "+@write",
        "+@scripting",
        "+time",
        "+@connection",
    )
    strict_client.execute_command("ACL", "SETUSER", "u", *rights)

    limited.check()
    recent, asked = Recent(limited.client, "s:items"), AskedOfProcesses(limited.client, "s:items")
    recent.add([{"url": "u"}])
    asked.ask("w", Asked("retry", "f"))
    assert [found.file for found in asked.take("w") + asked.take("w")] == ["f"]

    assert strict_client.keys("*") == []


@pytest.mark.parametrize("keys", ["~*:items*", "~{chunkdl}:*", "~{chunkdl}:host:*"])
def test_keys_that_a_user_may_not_touch_are_told_at_the_start(
    strict_client: redis.Redis, limited: ItemQueue, keys: str
) -> None:
    strict_client.execute_command("ACL", "SETUSER", "u", "resetkeys", keys)

    with pytest.raises(redis.RedisError) as refused:
        limited.check()

    assert "~*:items* and ~{chunkdl}:*" in explain(refused.value)


@pytest.mark.parametrize("command", ["HSET", "ZADD", "TIME", "LPOP"])
def test_a_command_that_was_renamed_is_named_at_the_start(command: str) -> None:
    with Server(binary_of("redis7"), "--rename-command", command, "") as server:
        queue = ItemQueue(make_client({"REDIS_URL": server.url}), LIST)
        with pytest.raises(redis.RedisError) as refused:
            queue.check()
        queue.close()

    assert "does not know a command" in explain(refused.value)


KEYS = {
    "leases": "zset",
    "delayed": "zset",
    "parked": "zset",
    "parked_hosts": "zset",
    "payload": "hash",
    "tries": "hash",
    "owner": "hash",
    "calls": "hash",
    "workers": "hash",
    "control": "hash",
    "past": "hash",
    "totals": "hash",
    "dead": "list",
    "failed": "list",
}


@pytest.mark.parametrize(("name", "wanted"), KEYS.items(), ids=list(KEYS))
def test_a_key_of_another_type_is_named_at_the_start(
    strict_client: redis.Redis, limited: ItemQueue, name: str, wanted: str
) -> None:
    key = f"{{s:items}}:{name}"
    strict_client.set(key, "x")

    with pytest.raises(redis.RedisError, match=f"{name}' is a string in Redis, not a {wanted}"):
        limited.check()

    strict_client.delete(key)
    limited.check()


def claimed(queue: ItemQueue) -> list[str]:
    batch, _ = queue.claim(4, "before")
    return [item.id for item in batch]


def push(queue: ItemQueue) -> Callable[[], object]:
    return lambda: queue.push(ITEMS, 1)


def claim(queue: ItemQueue) -> Callable[[], object]:
    queue.push(ITEMS, 1)
    return lambda: queue.claim(4, "p")


def claim_what_is_due(queue: ItemQueue) -> Callable[[], object]:
    queue.push(ITEMS, 1)
    queue.release(claimed(queue))
    return lambda: queue.claim(4, "p")


def claim_what_was_parked(queue: ItemQueue) -> Callable[[], object]:
    queue.push(ITEMS, 1)
    queue.park("h", 0, claimed(queue))
    queue.let_out("h")
    return lambda: queue.claim(4, "p")


def claim_past_a_parked_host(queue: ItemQueue) -> Callable[[], object]:
    queue.push(ITEMS[:1], 1)
    queue.park("h:80", 0, claimed(queue))
    queue.client.zadd("{s:items}:parked_hosts", {"h:80": 1e15})
    queue.push(ITEMS[1:], 2)
    return lambda: queue.claim(4, "p")


def claim_the_dead(queue: ItemQueue) -> Callable[[], object]:
    queue.push(ITEMS, 1)
    ids = claimed(queue)
    for item_id in ids:
        queue.client.hset("{s:items}:tries", item_id, 99)
        queue.client.zadd("{s:items}:leases", {item_id: 1})
    return lambda: queue.claim(4, "p")


def after_a_claim(verb: str, *arguments: object) -> Callable[[ItemQueue], Callable[[], object]]:
    def prepared(queue: ItemQueue) -> Callable[[], object]:
        queue.push(ITEMS, 1)
        ids = claimed(queue)
        if verb in ("retry", "bury", "hold"):
            return lambda: getattr(queue, verb)(ids[0], *arguments)
        return lambda: getattr(queue, verb)(*arguments, ids)

    return prepared


VERBS: dict[str, Callable[[ItemQueue], Callable[[], object]]] = {
    "push": push,
    "claim": claim,
    "claim what is due": claim_what_is_due,
    "claim what was parked": claim_what_was_parked,
    "claim past a parked host": claim_past_a_parked_host,
    "claim the dead": claim_the_dead,
    "retry": after_a_claim("retry", 0.0),
    "release": after_a_claim("release"),
    "put back": after_a_claim("put_back"),
    "park": after_a_claim("park", "h", 0.0),
    "bury": after_a_claim("bury", {"reason": "x"}),
}
WRITES = [
    name for name in COMMANDS if name in {"HSET", "HDEL", "HINCRBY", "ZADD", "ZREM", "RPUSH", "LPOP", "LTRIM", "EXPIRE"}
]


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("verb", VERBS)
def test_a_call_that_is_refused_in_its_midst_loses_no_item_and_does_not_multiply_them(
    strict: Server, strict_client: redis.Redis, limited: ItemQueue, verb: str, command: str
) -> None:
    call = VERBS[verb](limited)
    take_away(strict_client, command)
    for _ in range(5):  # as the courier does
        try:
            call()
        except redis.RedisError:
            continue
        break
    strict_client.execute_command("ACL", "SETUSER", "u", "+@all")

    call()

    assert {*everywhere(strict_client)} == {*ITEMS}
    assert len(everywhere(strict_client)) <= 3 * len(ITEMS)
    assert {*come_out(strict, strict_client)} == {*ITEMS}


def everywhere(client: redis.Redis) -> list[bytes]:
    return [*client.lrange(LIST, 0, -1), *client.hvals(PAYLOAD), *client.lrange(DEAD, 0, -1)]


def come_out(server: Server, client: redis.Redis) -> list[bytes]:
    """Claim all there is, as another process would do when all leases and delays are over."""
    queue = ItemQueue(make_client({"REDIS_URL": server.url}), LIST)
    found: list[bytes] = client.lrange(DEAD, 0, -1)
    for host in ("h", "h:80"):
        queue.let_out(host)
    for _ in range(20):
        for due in ("leases", "delayed"):
            for item_id in client.zrange(f"{{s:items}}:{due}", 0, -1):
                client.zadd(f"{{s:items}}:{due}", {item_id: 1})
        batch, dead = queue.claim(4, uuid.uuid4().hex)
        found += [item.payload for item in batch]
        queue.ack([(item.id, None) for item in batch])
        if not batch and not dead:
            break
    found += client.lrange(DEAD, 0, -1)
    queue.close()
    return found
