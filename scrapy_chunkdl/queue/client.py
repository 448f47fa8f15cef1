"""The queue's own Redis client, made from scrapy-redis' settings, and what Redis' errors mean for a person.

Not scrapy-redis' client: payloads are bytes, and its ``decode_responses`` would break them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from redis import exceptions

CLIENT_DEFAULTS: Mapping[str, Any] = {
    "protocol": 2,  # redis-py 8 opens with RESP3's HELLO, which Redis 5 does not know
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    "health_check_interval": 30,
}

_OURS = {"decode_responses", "encoding", "encoding_errors", "redis_cls", "protocol", "url"}


def make_client(settings: Mapping[Any, Any]) -> Any:
    """Return a client for the server that ``REDIS_URL`` or ``REDIS_HOST``/``REDIS_PORT``/``REDIS_DB`` name.

    ``REDIS_PARAMS`` go to the client as scrapy-redis passes them, ``redis_cls`` (a class, or its path) included, but
    for those that change what bytes come back. Does not connect. Raises ValueError for a URL that is none.
    """
    given = dict(settings.get("REDIS_PARAMS") or {})
    params = {**CLIENT_DEFAULTS, **{name: value for name, value in given.items() if name not in _OURS}}
    cls = _class(given.get("redis_cls", redis.Redis))
    if url := settings.get("REDIS_URL") or given.get("url"):
        return cls.from_url(url, **params)
    for name in ("host", "port", "db"):
        if (value := settings.get(f"REDIS_{name.upper()}")) is not None:
            params[name] = value
    return cls(**params)


def describe(client: Any) -> str:
    """Return where a client connects to, without its password."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in options:
        return f"unix://{options['path']}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def explain(error: exceptions.RedisError) -> str:
    """Return one sentence a person can act on."""
    text = str(error)
    for word, sentence in _SENTENCES.items():
        if word in text:
            return sentence
    if isinstance(error, exceptions.AuthenticationError):
        return _SENTENCES["NOAUTH"]
    if isinstance(error, exceptions.TimeoutError):
        return "Redis does not answer in time: is it overloaded, or a firewall in between?"
    if isinstance(error, exceptions.ConnectionError):
        return f"Redis cannot be reached ({text.rstrip('.')}): is it running, and is REDIS_URL right?"
    return f"Redis refuses: {text.rstrip('.')}."


_SENTENCES = {
    "NOAUTH": "Redis wants a password: put it into REDIS_URL (redis://:password@host:port) or REDIS_PARAMS.",
    "WRONGPASS": "Redis refuses the user name or password of REDIS_URL or REDIS_PARAMS.",
    "NOPERM": "The Redis user may not do this: its ACL needs the keys of the queue (~*items*) and +@all on them.",
    "READONLY": "This Redis is a read-only replica: point REDIS_URL at the primary, or wait for the failover.",
    "OOM": "Redis is out of memory (maxmemory): make room or raise it; the policy should be noeviction.",
    "LOADING": "Redis is still loading its data.",
    "MISCONF": "Redis cannot write its snapshot to disk and refuses changes: look at its log and disk space.",
    "CROSSSLOT": "The keys are in different cluster slots: CHUNKDL_DONE_KEY needs the hash tag of the items key.",
    "CLUSTERDOWN": "The Redis cluster is down: some of its slots have no node.",
    "MASTERDOWN": "The Redis replica has lost its primary.",
    "HELLO": "This Redis is older than 6 and knows no HELLO: set protocol 2 in REDIS_PARAMS.",
}


def check_policy(client: Any) -> str | None:
    """Return a warning if Redis may evict keys under memory pressure, which would lose items silently."""
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
    except exceptions.ResponseError:  # managed Redis and ACLs often refuse CONFIG
        return None
    if policy in (None, "noeviction", b"noeviction"):
        return None
    name = policy.decode() if isinstance(policy, bytes) else policy
    return f"Redis' maxmemory-policy is {name}: under memory pressure it drops items. Set it to noeviction."


def _class(path: Any) -> Any:
    if not isinstance(path, str):
        return path
    from importlib import import_module

    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
