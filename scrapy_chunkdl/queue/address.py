"""What REDIS_* settings say, checked before a client is made of them: a wrong one has a sentence, without its password.

redis-py takes some of these for something else (the part of a password before a ``/`` for a port, a host behind it for
a database that it then ignores) and names the rest in texts that hold parts of the password. Knows settings as a
mapping; never connects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_SCHEMES = ("redis", "rediss", "unix")
_HOW = 'it should be a URL such as "redis://:password@host:6379/0"'
_ENCODE = "in a password, write / as %2F, # as %23, ? as %3F, [ as %5B, ] as %5D, @ as %40, : as %3A"
_INTEGERS = {"port": "a port number", "db": "a number"}
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_NUMBERS = ("socket_timeout", "socket_connect_timeout", "health_check_interval", "max_connections")


def redis_params(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Return REDIS_PARAMS, which ``-s`` and scrapyd give as JSON. Raises ValueError for what is no dict of names."""
    given = settings.get("REDIS_PARAMS") or {}
    if isinstance(given, (str, bytes)):
        try:
            given = json.loads(given)
        except ValueError:
            raise ValueError("REDIS_PARAMS is a text that is no JSON: write it as '{\"db\": 1}'.") from None
    try:
        params = dict(given)
    except (TypeError, ValueError):
        params = {None: None}
    if not all(isinstance(name, str) for name in params):
        kind = type(given).__name__
        raise ValueError(f'REDIS_PARAMS is {kind}, not a dict of names and values such as {{"db": 1}}.')
    return params


def check(settings: Mapping[Any, Any]) -> None:
    """Raise ValueError with a sentence for the first REDIS_* setting that names no place."""
    params = redis_params(settings)
    url, where = settings.get("REDIS_URL"), "REDIS_URL"
    if not url:
        url, where = params.get("url"), "url in REDIS_PARAMS"
    if url:
        _check_url(url, where)
    for name, meaning in _INTEGERS.items():
        for value, place in (
            (settings.get(f"REDIS_{name.upper()}"), f"REDIS_{name.upper()}"),
            (params.get(name), name),
        ):
            if not url and value is not None and not _is_whole(value, 65535 if name == "port" else None):
                raise ValueError(f"{_place(place)} = {value!r}: it should be {meaning}.")
    host = settings.get("REDIS_HOST") or params.get("host")
    if not url and host is not None and (not isinstance(host, str) or "/" in host or "@" in host):
        raise ValueError(f"REDIS_HOST is no host name: a URL goes into REDIS_URL, {_HOW}.")
    for name in _NUMBERS:
        if params.get(name) is not None and not _is_number(params[name]):
            raise ValueError(f"{_place(name)} = {params[name]!r}: it should be a number.")
        if name in _TIMEOUTS and params.get(name) == 0:
            raise ValueError(f"{_place(name)} = 0 would wait for no answer: give seconds above 0, or None.")


def _place(name: str) -> str:
    return name if name.startswith("REDIS_") else f"{name} in REDIS_PARAMS"


def _check_url(url: object, where: str) -> None:
    if not isinstance(url, str):
        raise ValueError(f"{where} is {type(url).__name__}, not a text: {_HOW}.")
    scheme, has_scheme, _ = url.partition("://")
    if not has_scheme or scheme not in _SCHEMES:
        hidden = "" if "@" in url else f" = {url!r}"
        raise ValueError(f"{where}{hidden} does not begin with redis://, rediss:// or unix://: {_HOW}.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # urlsplit's text quotes what stands there: part of a password, as a rule
        raise ValueError(f"{where} cannot be read, its port or host is none: {_ENCODE}.") from None
    astray = [part for part in parts.query.split("&") if "=" not in part or (not parts.hostname and scheme != "unix")]
    if parts.fragment or "@" in "".join(astray) or (scheme != "unix" and "@" in parts.path):
        raise ValueError(f"{where} cannot be read, its host ends before the last @: {_ENCODE}.")
    if port == 0:
        raise ValueError(f"{where} has port 0: {_HOW}.")
    if scheme == "unix":
        if not parts.path:
            raise ValueError(f'{where} names no socket: it should be such as "unix:///run/redis.sock".')
    else:
        _check_database(parts, where)


def _check_database(parts: SplitResult, where: str) -> None:
    database = unquote(parts.path).replace("/", "") or (parse_qs(parts.query).get("db") or ["0"])[0]
    if not database.isdecimal():
        raise ValueError(f"{where} names a database that is no number behind its last /: {_HOW}.")


def _is_whole(value: Any, most: int | None) -> bool:
    try:
        number = int(value) if not isinstance(value, (bool, float)) else -1
    except (TypeError, ValueError):
        return False
    return number >= 0 and (most is None or 0 < number <= most)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
