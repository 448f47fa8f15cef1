"""The queue's own Redis client, made from scrapy-redis' settings, and what Redis' errors mean for a person.

Not scrapy-redis' client: payloads are bytes, and its ``decode_responses`` would break them. Knows settings as a
mapping, never Scrapy.

One server: ``REDIS_URL``, or ``REDIS_HOST``, ``REDIS_PORT``, ``REDIS_DB``. A cluster: ``REDIS_PARAMS = {"redis_cls":
"redis.cluster.RedisCluster"}`` with one of its nodes in ``REDIS_URL`` or ``REDIS_HOST``. A primary watched by
Sentinel: ``REDIS_PARAMS = {"redis_cls": "scrapy_chunkdl.queue.client.sentinel_primary", "sentinels": [(host, port),
...], "service_name": name}`` and no ``REDIS_URL``. scrapy-redis reads the same settings in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

CLIENT_DEFAULTS: Mapping[str, Any] = {
    "protocol": 2,  # redis-py 8 opens with RESP3's HELLO, which Redis 5 does not know
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
}

REDIS_ERRORS: tuple[type[Exception], ...] = (exceptions.RedisError, exceptions.RedisClusterException)
"""What a call to Redis raises. A cluster without any node that answers raises no RedisError in redis-py."""

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
        return cls.from_url(url, **params)
    for name in ("host", "port", "db"):
        if (value := settings.get(f"REDIS_{name.upper()}")) is not None:
            params[name] = value
    return cls(**params)


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


def explain(error: Exception) -> str:
    """Return one sentence a person can act on, for any of :data:`REDIS_ERRORS`."""
    text = str(error).rstrip(".")
    if "same key slot" in text:  # redis-py finds it out itself, and raises the error of a cluster that is not there
        return _CROSS_SLOT
    for kind, sentence in _BY_KIND.items():  # redis-py takes the first word, such as READONLY, off these
        if isinstance(error, kind):
            return sentence.format(text=text)
    if isinstance(error, exceptions.AuthenticationError):
        return _NO_PASSWORD if "required" in text else _WRONG_PASSWORD
    if isinstance(error, exceptions.ConnectionError):
        return f"Redis cannot be reached ({text}): is it running, and is REDIS_URL right?"
    for pattern, sentence in _BY_TEXT.items():
        if re.search(rf"\b{pattern}\b", text):
            return sentence.format(text=text)
    return f"Redis refuses: {text}."


_NO_PASSWORD = "Redis wants a password: put it into REDIS_URL (redis://:password@host:port) or REDIS_PARAMS."
_WRONG_PASSWORD = "Redis refuses the user name or password of REDIS_URL or REDIS_PARAMS."
_NOT_ALLOWED = (
    "The Redis user may not do this ({text}): its ACL needs the queue's keys, such as ~*:items* and "
    "~{{chunkdl}}:host:*, EVALSHA, EVAL, SCRIPT LOAD, TIME, and the list, hash and sorted set commands."
)
_READ_ONLY = "This Redis is a read-only replica: point REDIS_URL at the primary, or wait for the failover."
_OUT_OF_MEMORY = "Redis is out of memory (maxmemory): make room or raise it; the policy should be noeviction."
_CROSS_SLOT = "The keys are in different cluster slots: CHUNKDL_DONE_KEY needs the hash tag of the items key."
_CLUSTER_DOWN = "The Redis cluster is down: some of its slots have no node."

_BY_KIND: Mapping[type[Exception], str] = {
    exceptions.ReadOnlyError: _READ_ONLY,
    exceptions.OutOfMemoryError: _OUT_OF_MEMORY,
    exceptions.NoPermissionError: _NOT_ALLOWED,
    exceptions.BusyLoadingError: "Redis is still loading its data.",
    exceptions.ClusterCrossSlotError: _CROSS_SLOT,
    exceptions.ClusterDownError: _CLUSTER_DOWN,
    exceptions.MasterDownError: "The Redis replica has lost its primary.",
    MasterNotFoundError: "The sentinels know no primary that is up ({text}): is service_name right?",
    exceptions.TimeoutError: "Redis does not answer in time: is it overloaded, or a firewall in between?",
    exceptions.RedisClusterException: "The Redis cluster cannot be reached ({text}): are its nodes running?",
}

_BY_TEXT: Mapping[str, str] = {
    "NOAUTH|unauthenticated (multi)?bulk length": _NO_PASSWORD,  # the latter where the first command is a long one
    "WRONGPASS": _WRONG_PASSWORD,
    "READONLY": _READ_ONLY,
    "OOM": _OUT_OF_MEMORY,
    "NOPERM|ACL failure|user executing the script": _NOT_ALLOWED,
    "MISCONF": "Redis cannot write its data to disk and refuses changes: look at its log and disk space.",
    "NOREPLICAS": "Redis refuses changes while it has too few replicas (min-replicas-to-write): start them.",
    "CROSSSLOT": _CROSS_SLOT,
    "CLUSTERDOWN": _CLUSTER_DOWN,
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
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"redis_cls = {path!r} in REDIS_PARAMS cannot be found: {error}") from error
