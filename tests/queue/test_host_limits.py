"""Limits that people set for hosts while processes run, as they are in Redis."""

from __future__ import annotations

import pytest
import redis

from scrapy_chunkdl.queue import host_limits
from scrapy_chunkdl.queue.host_limits import KEY, AskedLimits, HostLimits


def test_what_is_none_of_ours_is_left_out(client: redis.Redis) -> None:
    limits = HostLimits(client)
    limits.ask("a:80", AskedLimits(2, 0.5, 0.0))
    odd = {"b": "{", "c": "[]", "d": '{"connections": 0}', "e": '{"speed": 1}', "f": "[" * 5000, "g": b"\xff"}
    client.hset(KEY, mapping=odd)
    client.hset(KEY, b"\xff", "{}")

    assert limits.look() == {"a:80": AskedLimits(2, 0.5, 0.0)}
    limits.take_back("a:80")
    assert limits.look() == {}


def test_there_is_room_for_so_many_hosts(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_limits, "MOST_HOSTS", 2)
    limits = HostLimits(client)
    limits.ask("a:80", AskedLimits(1))
    limits.ask("b:80", AskedLimits(1))

    limits.ask("b:80", AskedLimits(2))
    with pytest.raises(ValueError, match="take some back"):
        limits.ask("c:80", AskedLimits(1))

    assert limits.look() == {"a:80": AskedLimits(1), "b:80": AskedLimits(2)}
