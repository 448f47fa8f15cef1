"""The queue's own Redis client, made from scrapy-redis' settings.

Not scrapy-redis' client: payloads are bytes, and its ``decode_responses`` would break them. Knows settings as a
mapping, never Scrapy.

One server: ``REDIS_URL``, or ``REDIS_HOST``, ``REDIS_PORT``, ``REDIS_DB``. A cluster: ``REDIS_PARAMS = {"redis_cls":
"redis.cluster.RedisCluster"}`` with one of its nodes in ``REDIS_URL`` or ``REDIS_HOST``. A primary watched by
Sentinel: ``REDIS_PARAMS = {"redis_cls": "scrapy_chunkdl.queue.client.sentinel_primary", "sentinels": [(host, port),
...], "service_name": name}`` and no ``REDIS_URL``. scrapy-redis reads the same settings in the same way.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.commands.core import Script
from redis.retry import Retry
from redis.sentinel import Sentinel

from scrapy_chunkdl.queue.address import check, redis_params
from scrapy_chunkdl.queue.errors import REDIS_ERRORS, TlsTimeout, drop_connections, judge

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
    server closes idle ones (redis-py does so by itself for some clients and not for others). Does not connect: a
    cluster's client asks for its nodes when it is made, so where none answers it is made at the first call.
    Raises ValueError, with a sentence that holds no password, for settings that name no client.
    """
    check(settings)
    given = redis_params(settings)
    params = {**CLIENT_DEFAULTS, **{name: value for name, value in given.items() if name not in _OURS}}
    cls = _class(given.get("redis_cls", redis.Redis))
    if not (isinstance(cls, type) and issubclass(cls, RedisCluster)):  # which has its own way to wait for a failover
        params.setdefault("retry", Retry(NoBackoff(), 1))
        params.setdefault("retry_on_error", [exceptions.ConnectionError, exceptions.TimeoutError])  # redis-py 5 asks
    url = _without_ours(settings.get("REDIS_URL") or given.get("url") or "")
    for name in ("host", "port", "db"):
        if not url and (value := settings.get(f"REDIS_{name.upper()}")) is not None:
            params[name] = value
    make = partial(cls.from_url, url, **params) if url else partial(cls, **params)

    def make_anew() -> Any:
        client = _made_anew(make())
        _bound_handshakes(client)
        return client

    try:
        client = make_anew()
        _try_options(client)
    except REDIS_ERRORS:
        return _MadeLater(make_anew)
    except (TypeError, ValueError, AttributeError) as error:
        unknown = re.search(r"argument '(\w+)'|Invalid value for '?(\w+)", str(error))
        name = f" {unknown[1] or unknown[2]!r}" if unknown else ""
        raise ValueError(f"Redis' client takes REDIS_PARAMS or REDIS_URL not as they are: see{name} there.") from None
    return client


def _without_ours(url: str) -> str:
    """Take from a URL the options that REDIS_PARAMS may not set either: redis-py has those of a URL win."""
    place, _, query = url.partition("?")
    options = [option for option in query.split("&") if option and option.partition("=")[0] not in _OURS]
    return f"{place}?{'&'.join(options)}" if options else place


class _MadeLater:
    """A client that cannot be made yet, as none of its cluster's nodes answers. Each call tries to make it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._client: Any = None
        self._lock = threading.Lock()

    def register_script(self, source: str) -> Script:
        """As a client's own, which does not connect either."""
        return Script(self, source.encode())  # type: ignore[arg-type]

    def close(self) -> None:
        """Close what was made."""
        if self._client is not None:
            self._client.close()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
        return getattr(self._client, name)


def _try_options(client: Any) -> None:
    """Make a connection's object, without connecting: what it does not take would else be found at the first call."""
    if (pool := getattr(client, "connection_pool", None)) is not None:
        pool.connection_class(**pool.connection_kwargs)


class _BoundHandshake:
    """For a class of TLS connections: the handshake is part of connecting, has its timeout, and is not tried twice.

    redis-py (5 to 8) gives it the timeout of replies, and tries it again.
    """

    socket_timeout: float | None
    socket_connect_timeout: float | None

    def _connect(self) -> Any:
        for_replies, self.socket_timeout = self.socket_timeout, self.socket_connect_timeout
        try:
            sock = super()._connect()  # type: ignore[misc]
        except (TimeoutError, exceptions.TimeoutError) as error:
            raise TlsTimeout("Timeout connecting to server") from error
        finally:
            self.socket_timeout = for_replies
        sock.settimeout(for_replies)
        return sock


def _bound_handshakes(client: Any) -> None:
    pool = getattr(client, "connection_pool", None)
    if pool is not None and issubclass(pool.connection_class, redis.SSLConnection):
        pool.connection_class = type("BoundTls", (_BoundHandshake, pool.connection_class), {})


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
