"""Items of one small file each, pushed into the list of a project, and how many of them are done."""

from __future__ import annotations

import json

import redis
from origin import Origin
from project import attachment, item

LIST = "files:items"
SIZE = 3000


def push(client: redis.Redis, origin: Origin, numbers: range, name: str, *, host: str = "127.0.0.1") -> None:
    """Push items, each called by ``name`` and its number, with a file of the origin under a name of this machine."""
    urls = {n: origin.url(f"{name}{n}.bin", SIZE, host=host) for n in numbers}
    client.rpush(LIST, *(json.dumps(item(attachment(urls[n], f"{name}{n}.bin"), n=f"{name}{n}")) for n in numbers))


def done(client: redis.Redis, name: str) -> int:
    """Return how many of those called by ``name`` are in the list ``done`` (CHUNKDL_DONE_KEY)."""
    return sum(json.loads(one)["n"].startswith(name) for one in client.lrange("done", 0, -1))
