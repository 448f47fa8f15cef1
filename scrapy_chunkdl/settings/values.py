"""How the value of one setting is read: each reader takes what people write and returns what the code uses.

Knows values alone, not which setting they are of. A reader raises ValueError with what it wants instead, worded so that
``CHUNKDL_X = <value>: should be <that>.`` is a sentence. All take what ``-s`` and ``-a`` hand over, which is text.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit


def boolean(value: Any) -> bool:
    """Read a truth value as Scrapy's ``getbool`` does: -s and -a hand over strings."""
    if value in (True, 1, "1", "True", "true"):
        return True
    if value in (False, 0, "0", "False", "false", None, ""):
        return False
    raise ValueError("True or False")


def integer(minimum: int, maximum: int | None = None) -> Callable[[Any], int]:
    """Return a reader of whole numbers within bounds."""
    wanted = f"a whole number, at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")

    def parse(value: Any) -> int:
        try:
            number = int(value) if not isinstance(value, (bool, float)) else None
        except (TypeError, ValueError):
            number = None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise ValueError(wanted)
        return number

    return parse


_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_WITH_UNIT = re.compile(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*")


def size_bytes(minimum: int) -> Callable[[Any], int]:
    """Return a reader of sizes, which tells who writes "10MB" how many bytes that is."""
    parse = integer(minimum)

    def parse_bytes(value: Any) -> int:
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"{error}: it is in bytes{_in_unit(value, _BYTES, suffix='b')}") from None

    return parse_bytes


def _in_unit(value: Any, units: Mapping[str, int], suffix: str = "") -> str:
    """Return what a value with a unit such as "10MB" should have been, if it is one."""
    found = _WITH_UNIT.fullmatch(value) if isinstance(value, str) else None
    factor = units.get(found[2].lower().removesuffix(suffix)) if found is not None else None
    try:
        return f", {value} is {float(found[1]) * factor:.0f}" if found is not None and factor is not None else ""
    except ValueError:
        return ""


_LIMITS: Mapping[str, Callable[[Any], Any]] = {
    "connections": integer(1, 1024),
    "delay": lambda value: seconds_or_zero(value),
    "rate": size_bytes(0),
    "via": lambda value: _way(value),
}
"""What may be said of a host, and how it is read."""


def _way(value: Any) -> str:
    """Read by which way a host is asked. What is written may hold a password, so it is not repeated."""
    way = value.strip() if isinstance(value, str) else ""
    if way in ("scrapy", "direct"):
        return way
    scheme, _, rest = way.partition("://")
    if scheme not in ("http", "https", "socks5", "socks5h") or not rest or any(map(str.isspace, way)):
        raise ValueError('"scrapy", "direct", or a proxy such as "http://proxy.example:3128"')
    return way


def limits_of_hosts(value: Any) -> Mapping[str, Mapping[str, Any]]:
    """Read limits of single hosts, a dict of names or patterns; ``-s`` gives it as JSON."""
    example = 'a dict such as {"*.gov": {"connections": 2, "delay": 1.0, "rate": 1_000_000}}'
    return {host.strip().lower(): _limits_of(host, limits, example) for host, limits in by_host(value, example).items()}


def by_host(value: Any, example: str) -> Mapping[str, Any]:
    """Read a dict of hosts, which ``example`` shows; ``-s`` gives it as JSON."""
    told = from_json(value, example)
    if told is None:
        return {}
    if not isinstance(told, Mapping) or not all(isinstance(host, str) and host.strip() for host in told):
        raise ValueError(example)
    return told


def from_json(value: Any, example: str) -> Any:
    """Return what a text says as JSON, None for an empty one, anything else as it is; ``example`` is a right one."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError:
        raise ValueError(f"{example}, as JSON on the command line") from None


def _limits_of(host: str, limits: Any, example: str) -> Mapping[str, Any]:
    if "/" in host or "@" in host:
        raise ValueError(f"{example}: {host[:60]!r} is no host's name")
    if not isinstance(limits, Mapping):
        raise ValueError(f"{example}: that of {host[:60]!r} is no dict")
    read = {}
    for name, limit in limits.items():
        if name not in _LIMITS:
            raise ValueError(f"{example}: {host[:60]!r} has {str(name)[:40]!r}, which is none of {', '.join(_LIMITS)}")
        try:
            read[name] = _LIMITS[name](limit)
        except ValueError as error:
            raise ValueError(f"with {name} of {host[:60]!r} {error}") from None
    return read


def min_free(value: Any) -> float | None:
    """Read what is to be left free of a disk: whole numbers are bytes, a percentage becomes a share below 1."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            share = float(value.strip()[:-1]) / 100
        except ValueError:
            share = -1.0
        if 0 <= share < 1:
            return share
    else:
        try:
            return size_bytes(0)(value)
        except ValueError as error:
            raise ValueError(f'{error}, or a percentage such as "5%"') from None
    raise ValueError('bytes, or a percentage below 100 such as "5%"')


def seconds(value: Any) -> float:
    """Read a time above 0, and tell who writes "5min" how many seconds that is."""
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf"):
        raise ValueError(f"a number of seconds above 0{_in_unit(value, _SECONDS)}")
    return number


def seconds_or_zero(value: Any) -> float:
    """Read a time that may be 0."""
    return 0.0 if value in (0, "0", 0.0) and not isinstance(value, bool) else seconds(value)


def days(value: Any) -> float:
    """Read a number of days that may be 0."""
    try:
        return seconds_or_zero(value)
    except ValueError:
        raise ValueError("a number of days, or 0") from None


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return a reader of one of a few words."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return parse


def text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string")
    return value


def optional_text(value: Any) -> str | None:
    """Read a text; an empty one counts as none."""
    return None if value is None or value == "" else text(value)


def any_text(value: Any) -> str:
    """Read text, which may be empty. Its value is not shown: it is a password."""
    if not isinstance(value, (str, int)):
        raise ValueError("text")
    return str(value)


def folder(value: Any) -> str | None:
    """Read a folder, also one of :mod:`pathlib`; an empty one counts as none."""
    return optional_text(str(value)) if isinstance(value, PurePath) else optional_text(value)


MOST_LISTS = 16
"""Lists of one queue: each claim looks at all."""


def items_key(value: Any) -> str | tuple[str, ...]:
    """Read a Redis key, in which the spider's name may be filled in and nothing else; or several, as any list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('a key, or several such as "urgent,items", the first to be claimed first') from None
    is_one = isinstance(value, str) and "," not in value
    keys = tuple(text(key) for key in ([value] if is_one else _list(value))) or (text(""),)
    for key in keys:
        try:
            key % {"spider": ""}
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                'a key such as "%(spider)s:items": nothing else is filled in, and a percent sign is %%'
            ) from None
    if len(set(keys)) < len(keys) or len(keys) > MOST_LISTS:
        raise ValueError(f"a key, or up to {MOST_LISTS} that differ, the first to be claimed first")
    return keys if len(keys) > 1 else keys[0]


def store(value: Any) -> str:
    """Read a local folder, also as ``file://``, or the URI of a store."""
    named = text(str(value))
    if named.startswith("file://"):
        place = urlsplit(named)
        if place.netloc not in ("", "localhost"):
            raise ValueError('"file:///srv/files", with three slashes, or a folder without file://')
        named = unquote(place.path)
    if "://" in named and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://.+", named):
        raise ValueError('a local folder, or a URI such as "s3://bucket/folder"')
    return text(named)


def stores(value: Any) -> Mapping[str, Any]:
    """Read the project's own stores, by their schemes in lower case."""
    if not isinstance(value, Mapping) or not all(isinstance(scheme, str) for scheme in value):
        raise ValueError('a dict such as {"scheme": "project.stores.MyStore"}')
    return {scheme.lower(): place for scheme, place in value.items() if place is not None}


CHECKSUMS = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")) | {
    *("crc32", "crc32c", "crc64ecma", "crc64nvme"),
}
"""What the downloader can compute."""


def checksum(value: Any) -> str | None:
    """Read the name of a checksum: a hash that every Python has, or a CRC."""
    if value is None or value == "":
        return None
    if value not in CHECKSUMS:
        raise ValueError("None or one of " + ", ".join(sorted(CHECKSUMS)))
    return str(value)


def host_and_port(default: str) -> Callable[[Any], str]:
    """Return a reader of where to serve: nowhere (empty), at ``default`` (``True``), or at a ``host:port``."""

    def read(value: Any) -> str:
        if value in (True, 1, "1", "True", "true"):
            return default
        if value in (False, 0, "0", "False", "false", ""):
            return ""
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f'True, False, or an address such as "{default}"')
        return str(value)

    return read


def address_of(host_and_port: str) -> tuple[str, int]:
    """Return host and port of what such a reader read."""
    host, _, port = host_and_port.rpartition(":")
    return host.strip("[]"), int(port)


def secret(value: Any) -> str | None:
    """Read a secret that is long enough not to be guessed."""
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) < 8:
        raise ValueError("a secret of 8 characters at least")
    return value


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return list(value)
    raise ValueError("a list")


def status_codes(value: Any) -> frozenset[int]:
    """Read HTTP statuses: a list, or text with commas."""
    try:
        codes = frozenset(int(code) for code in _list(value))
    except (TypeError, ValueError):
        codes = frozenset({0})
    if not all(100 <= code <= 599 for code in codes):
        raise ValueError("a list of HTTP status codes")
    return codes


def hosts(value: Any) -> frozenset[str]:
    """Read host names: a list, or text with commas."""
    hosts = _list(value or [])
    if not all(isinstance(host, str) for host in hosts):
        raise ValueError("a list of host names")
    return frozenset(host.lower() for host in hosts)


_HOST_PATTERN = re.compile(r"[^/@:\s]+|[a-z][a-z0-9+.-]*:")


def host_patterns(value: Any) -> tuple[str, ...]:
    """Read patterns of host names (``*.example.org``) and schemes with their colon (``file:``): one, or a list."""
    patterns = _list(value or [])
    if not all(isinstance(pattern, str) and _HOST_PATTERN.fullmatch(pattern.lower()) for pattern in patterns):
        raise ValueError('host names such as "*.example.org", schemes such as "file:", or "*" for all')
    return tuple(pattern.lower() for pattern in patterns)


def dotted_paths(value: Any) -> tuple[str, ...]:
    """Read one or several paths into an item."""
    paths = _list(value)
    if not paths or not all(isinstance(path, str) and all(path.split(".")) for path in paths):
        raise ValueError('a dotted path such as "data.attachments", or a list of them')
    return tuple(paths)


def classes(value: Any) -> tuple[Any, ...]:
    """Read classes, or where they are; they are imported later."""
    classes = _list(value or [])
    if not all(isinstance(entry, (type, str)) for entry in classes):
        raise ValueError('a list of classes, or of their dotted paths such as "project.items.Report"')
    return tuple(classes)


def certificate(value: Any) -> tuple[str, ...]:
    """Read the file of a client certificate, or two: it and its key."""
    paths = _list(value or [])
    if len(paths) > 2 or not all(isinstance(path, str) for path in paths):
        raise ValueError("a PEM file, or two: certificate and key")
    return tuple(paths)


def ip_address(value: Any) -> str | None:
    """Read an address as DOWNLOAD_BIND_ADDRESS has it: alone, or with a port, which would be too few here."""
    if value is None or value == "":
        return None
    try:
        return str(ipaddress.ip_address(value[0] if isinstance(value, (tuple, list)) else value))
    except (ValueError, IndexError):
        raise ValueError("an IP address of this machine") from None


def embedded_redis(value: Any) -> bool | str:
    """Read whether the embedded server is wanted, or the folder of its data."""
    try:
        return boolean(value)
    except ValueError:
        pass
    try:
        return text(value)
    except ValueError:
        raise ValueError("True, False or a folder") from None
