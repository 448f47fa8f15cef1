"""The queue's own Redis client, made from scrapy-redis' settings.

Not scrapy-redis' client: payloads are bytes, and its ``decode_responses`` would break them. Knows settings as a
mapping, never Scrapy.

One server: ``REDIS_URL``, or ``REDIS_HOST``, ``REDIS_PORT``, ``REDIS_DB``. A cluster: ``REDIS_PARAMS = {"redis_cls":
"redis.cluster.RedisCluster"}`` with one of its nodes in ``REDIS_URL`` or ``REDIS_HOST``. A primary watched by
Sentinel: ``REDIS_PARAMS = {"redis_cls": "scrapy_chunkdl.queue.client.sentinel_primary", "sentinels": [(host, port),
...], "service_name": name}`` and no ``REDIS_URL``. scrapy-redis reads the same settings in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from scrapy_chunkdl.queue.errors import REDIS_ERRORS, drop_connections, judge

CLIENT_DEFAULTS: Mapping[str, Any] = {
    "protocol": 2,  # redis-py 8 opens with RESP3's HELLO, which Redis 5 does not know
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
}

_OURS = {"decode_responses", "encoding", "encoding_errors", "redis_cls", "protocol", "url"}


def make_client(settings: Mapping[Any, Any]) -> Any:
    """Return a client for the server that ``REDIS_URL`` or ``REDIS_HOST``/``REDIS_PORT``/``REDIS_DB`` name.

    ``REDIS_PARAMS`` go to the client as scrapy-redis passes them, ``redis_cls`` (a class, or its path) included, but
    for those that change what bytes come back. A command whose connection broke is sent once more over a new one: a
    server closes idle ones (redis-py does so by itself for some clients and not for others). Does not connect, but
    for a cluster's client, which asks for its nodes at once. Raises ValueError for a URL or ``redis_cls`` that is none.
    """
    given = dict(settings.get("REDIS_PARAMS") or {})
    params = {**CLIENT_DEFAULTS, **{name: value for name, value in given.items() if name not in _OURS}}
    cls = _class(given.get("redis_cls", redis.Redis))
    if not (isinstance(cls, type) and issubclass(cls, RedisCluster)):  # which has its own way to wait for a failover
        params.setdefault("retry", Retry(NoBackoff(), 1))
        params.setdefault("retry_on_error", [exceptions.ConnectionError, exceptions.TimeoutError])  # redis-py 5 asks
    if url := settings.get("REDIS_URL") or given.get("url"):
        return _made_anew(cls.from_url(url, **params))
    for name in ("host", "port", "db"):
        if (value := settings.get(f"REDIS_{name.upper()}")) is not None:
            params[name] = value
    return _made_anew(cls(**params))


def _made_anew(client: Any) -> Any:
    """Have a client make new connections after an error that says it talks to the wrong server.

    Behind one address (a proxy, a service of Kubernetes, managed Redis) a failover leaves old connections at the former
    primary, which answers READONLY for ever.
    """
    execute = client.execute_command

    def execute_command(*arguments: Any, **options: Any) -> Any:
        try:
            return execute(*arguments, **options)
        except REDIS_ERRORS as error:
            if judge(error).is_stale:
                drop_connections(client)
            raise

    client.execute_command = execute_command
    return client


def sentinel_primary(
    sentinels: Sequence[tuple[str, int]],
    service_name: str = "mymaster",
    sentinel_kwargs: Mapping[str, Any] | None = None,
    **params: Any,
) -> Any:
    """Return a client that follows the primary the sentinels name, for ``redis_cls`` in ``REDIS_PARAMS``.

    ``params`` are for the primary. ``sentinel_kwargs``, such as a password, are for the sentinels.
    """
    shared = ("protocol", "socket_timeout", "socket_connect_timeout")
    to_sentinels = {name: value for name, value in params.items() if name in shared} | dict(sentinel_kwargs or {})
    addresses = [(host, int(port)) for host, port in sentinels]
    sentinel_cls: Any = Sentinel  # untyped in redis-py
    return sentinel_cls(addresses, sentinel_kwargs=to_sentinels).master_for(service_name, **params)


def describe(client: Any) -> str:
    """Return where a client connects to, without its password."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in options:
        return f"unix://{options['path']}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


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
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"redis_cls = {path!r} in REDIS_PARAMS cannot be found: {error}") from error
