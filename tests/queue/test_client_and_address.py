"""The queue's client is made from scrapy-redis' settings, and what Redis refuses is explained to a person."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from servers import Server, binary_of, free_port, wait_for

from scrapy_chunkdl.queue.client import check_policy, describe, make_client
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, explain


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that a test may set up as it likes."""
    with Server(binary_of(getattr(request, "param", "valkey"))) as server:
        yield server


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(REDIS_ERRORS) as raised:
        call()
    return explain(raised.value)


@pytest.mark.parametrize(
    "options", ["", "?decode_responses=True", "?encoding=latin-1&db=1&decode_responses=1&protocol=3"]
)
def test_bytes_come_back_whatever_the_settings_for_scrapy_redis_say(server: Server, options: str) -> None:
    settings = {
        "REDIS_URL": server.url + options,
        "REDIS_ENCODING": "latin-1",
        "REDIS_DECODE_RESPONSES": True,
        "REDIS_PARAMS": {"decode_responses": True, "encoding": "latin-1", "protocol": 3},
    }
    with make_client(settings) as client:
        client.set("k", b"\xff")
        assert client.get("k") == b"\xff"
        assert client.connection_pool.connection_kwargs.get("db", 0) == int("db=1" in options)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, ("localhost", 6379, 0)),
        ({"REDIS_HOST": "h", "REDIS_PORT": 1, "REDIS_DB": 2}, ("h", 1, 2)),
        ({"REDIS_URL": "redis://h:1/2", "REDIS_HOST": "other"}, ("h", 1, 2)),
        ({"REDIS_PARAMS": {"url": "redis://h:1/2"}}, ("h", 1, 2)),
        ({"REDIS_PARAMS": {"host": "h", "port": 1, "db": 2}}, ("h", 1, 2)),
    ],
)
def test_the_server_is_found_as_scrapy_redis_finds_it(settings: dict[str, Any], where: tuple[str, int, int]) -> None:
    options = make_client(settings).connection_pool.connection_kwargs

    assert (options.get("host", "localhost"), options.get("port", 6379), options.get("db", 0)) == where


def test_timeouts_of_redis_params_stand_and_ours_fill_the_rest() -> None:
    options = make_client({"REDIS_PARAMS": {"socket_timeout": 3}}).connection_pool.connection_kwargs

    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (3, 5.0)


def test_a_password_is_not_told() -> None:
    assert describe(make_client({"REDIS_URL": "redis://user:secret@h:1/2"})) == "h:1"
    assert describe(make_client({"REDIS_URL": "unix://:secret@/run/s"})) == "unix:///run/s"


@pytest.mark.parametrize("path", ["no.such.module", "redis.NoSuchClass", "Redis"])
def test_a_redis_cls_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="redis_cls"):
        make_client({"REDIS_PARAMS": {"redis_cls": path}})


def test_no_server_there_is_explained() -> None:
    port = free_port()

    text = refusal(lambda: make_client({"REDIS_PORT": port}).ping())

    assert f"localhost:{port}" in text
    assert "is REDIS_URL right?" in text


def test_a_name_that_does_not_resolve_is_explained() -> None:
    text = refusal(lambda: make_client({"REDIS_URL": "redis://nowhere.invalid"}).ping())

    assert "nowhere.invalid" in text


@pytest.mark.skipif(redis.VERSION < (5, 0, 8), reason="this redis-py forgets socket_timeout on unix sockets")
def test_no_answer_in_time_is_explained(server: Server) -> None:
    client = make_client({"REDIS_URL": server.url, "REDIS_PARAMS": {"socket_timeout": 0.01}})

    assert "does not answer in time" in refusal(lambda: client.blpop("nothing", 60))


@pytest.mark.parametrize("own_server", ["valkey", "redis7", "redis5"], indirect=True)
def test_passwords_are_explained(own_server: Server) -> None:
    with own_server.client() as client:
        client.config_set("requirepass", "right")

    assert "wants a password" in refusal(lambda: make_client({"REDIS_URL": own_server.url}).ping())
    wrong = make_client({"REDIS_URL": own_server.url, "REDIS_PARAMS": {"password": "wrong"}})
    assert "refuses the user name or password" in refusal(wrong.ping)
    assert make_client({"REDIS_URL": own_server.url, "REDIS_PARAMS": {"password": "right"}}).ping()


@pytest.mark.parametrize("own_server", ["valkey", "redis7"], indirect=True)
def test_missing_rights_are_explained_inside_scripts_too(own_server: Server) -> None:
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~s:items", "+@all", "-lpush")
    client = make_client({"REDIS_URL": own_server.url, "REDIS_PARAMS": {"username": "u", "password": "p"}})

    for call in (
        lambda: client.rpush("other", "a"),
        lambda: client.lpush("s:items", "a"),
        lambda: client.eval("return redis.call('RPUSH', KEYS[1], 'a')", 1, "other"),
        lambda: client.eval("return redis.call('LPUSH', KEYS[1], 'a')", 1, "s:items"),
    ):
        assert "its ACL needs" in refusal(call)


@pytest.mark.parametrize("own_server", ["valkey", "redis7", "redis5"], indirect=True)
def test_replicas_and_full_memory_are_explained_inside_scripts_too(own_server: Server) -> None:
    client = make_client({"REDIS_URL": own_server.url})

    def both() -> set[str]:
        script = "return redis.call('SET', KEYS[1], 'v')"
        return {refusal(lambda: client.set("k", "v")), refusal(lambda: client.eval(script, 1, "k"))}

    client.config_set("maxmemory", "1")
    [full] = both()
    client.config_set("maxmemory", "0")
    client.replicaof("127.0.0.1", str(free_port()))
    [replica] = both()

    assert "out of memory" in full
    assert "read-only replica" in replica


@pytest.mark.parametrize("own_server", ["redis5"], indirect=True)
def test_a_server_too_old_for_protocol_3_is_explained(own_server: Server) -> None:
    client = redis.Redis.from_url(own_server.url, protocol=3)

    assert "set protocol 2" in refusal(client.ping)


@pytest.mark.parametrize("kind", ["valkey", "redis7"])
def test_a_server_that_still_loads_is_explained(kind: str) -> None:
    slow = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    with Server(binary_of(kind), *slow) as server:
        with server.client() as client:
            for n in range(50):
                client.set(str(n), os.urandom(2048))
            client.bgrewriteaof()
            wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the rewrite does not end")
        server.kill()
        starting = threading.Thread(target=server.start)
        starting.start()
        said = set()
        while "Redis is still loading its data." not in said:
            assert starting.is_alive(), said
            try:
                with make_client({"REDIS_URL": server.url}) as client:
                    client.ping()
            except REDIS_ERRORS as error:
                said.add(explain(error))
        starting.join()


def test_a_policy_that_may_drop_items_is_told(own_server: Server) -> None:
    client = make_client({"REDIS_URL": own_server.url})
    assert check_policy(client) is None

    client.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in str(check_policy(client))

    client.execute_command("ACL", "SETUSER", "default", "-config")
    assert check_policy(client) is None
