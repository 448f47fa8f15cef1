"""Every ``CHUNKDL_*`` setting: its name, default, check and meaning, read once into one frozen object.

Knows the settings and nothing else: no Redis, no downloads, no crawler. The settings page and the README table are
made from :class:`Config`, so a setting that is not here does not exist, and :meth:`Config.read` says so.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

PREFIX = "CHUNKDL_"

MOST_RECORDS = 100_000
"""Records of files given up that are kept where nothing is set: Redis has no memory without end."""


_OF_OTHERS = frozenset({"FILES_STORE", "FILES_EXPIRES", "USER_AGENT", "ROBOTSTXT_OBEY", "DEFAULT_REQUEST_HEADERS"})
_OF_OTHERS |= {"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PARAMS", "REDIS_ENCODING", "REDIS_ITEMS_KEY"}
"""Settings of Scrapy and scrapy-redis that hold for files, too."""


class ConfigError(ValueError):
    """A setting that cannot work. The message names it, its value, and what to write instead."""


def _boolean(value: Any) -> bool:
    """Read a truth value as Scrapy's ``getbool`` does: -s and -a hand over strings."""
    if value in (True, 1, "1", "True", "true"):
        return True
    if value in (False, 0, "0", "False", "false", None, ""):
        return False
    raise ValueError("True or False")


def _integer(minimum: int, maximum: int | None = None) -> Callable[[Any], int]:
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


def _bytes(minimum: int) -> Callable[[Any], int]:
    parse = _integer(minimum)

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


def _seconds(value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf"):
        raise ValueError(f"a number of seconds above 0{_in_unit(value, _SECONDS)}")
    return number


def _seconds_or_zero(value: Any) -> float:
    return 0.0 if value in (0, "0", 0.0) and not isinstance(value, bool) else _seconds(value)


def _days(value: Any) -> float:
    try:
        return _seconds_or_zero(value)
    except ValueError:
        raise ValueError("a number of days, or 0") from None


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return parse


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a non-empty string")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None or value == "" else _text(value)


def _folder(value: Any) -> str | None:
    return _optional_text(str(value)) if isinstance(value, PurePath) else _optional_text(value)


def _key(value: Any) -> str:
    text = _text(value)
    try:
        text % {"spider": ""}
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            'a key such as "%(spider)s:items": nothing else is filled in, and a percent sign is %%'
        ) from None
    return text


def _store(value: Any) -> str:
    text = _text(str(value))
    if text.startswith("file://"):
        place = urlsplit(text)
        if place.netloc not in ("", "localhost"):
            raise ValueError('"file:///srv/files", with three slashes, or a folder without file://')
        text = unquote(place.path)
    if "://" in text and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://.+", text):
        raise ValueError('a local folder, or a URI such as "s3://bucket/folder"')
    return _text(text)


def _stores(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(scheme, str) for scheme in value):
        raise ValueError('a dict such as {"scheme": "project.stores.MyStore"}')
    return {scheme.lower(): place for scheme, place in value.items() if place is not None}


def _checksum(value: Any) -> str | None:
    if value is None or value == "":
        return None
    known = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))
    if value not in known:
        raise ValueError("None or one of " + ", ".join(known))
    return str(value)


def _host_and_port(value: Any) -> str:
    """Read where to serve: nowhere (empty), or ``host:port``."""
    if value in (True, 1, "1", "True", "true"):
        return "127.0.0.1:6024"
    if value in (False, 0, "0", "False", "false", ""):
        return ""
    host, _, port = str(value).rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError('True, False, or an address such as "127.0.0.1:6024"')
    return str(value)


def _secret(value: Any) -> str | None:
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


def _status_codes(value: Any) -> frozenset[int]:
    try:
        codes = frozenset(int(code) for code in _list(value))
    except (TypeError, ValueError):
        codes = frozenset({0})
    if not all(100 <= code <= 599 for code in codes):
        raise ValueError("a list of HTTP status codes")
    return codes


def _hosts(value: Any) -> frozenset[str]:
    hosts = _list(value or [])
    if not all(isinstance(host, str) for host in hosts):
        raise ValueError("a list of host names")
    return frozenset(host.lower() for host in hosts)


def _paths(value: Any) -> tuple[str, ...]:
    paths = _list(value)
    if not paths or not all(isinstance(path, str) and all(path.split(".")) for path in paths):
        raise ValueError('a dotted path such as "data.attachments", or a list of them')
    return tuple(paths)


def _classes(value: Any) -> tuple[Any, ...]:
    classes = _list(value or [])
    if not all(isinstance(entry, (type, str)) for entry in classes):
        raise ValueError('a list of classes, or of their dotted paths such as "project.items.Report"')
    return tuple(classes)


def _certificate(value: Any) -> tuple[str, ...]:
    paths = _list(value or [])
    if len(paths) > 2 or not all(isinstance(path, str) for path in paths):
        raise ValueError("a PEM file, or two: certificate and key")
    return tuple(paths)


def _address(value: Any) -> str | None:
    """Read an address as DOWNLOAD_BIND_ADDRESS has it: alone, or with a port, which would be too few here."""
    if value is None or value == "":
        return None
    try:
        return str(ipaddress.ip_address(value[0] if isinstance(value, (tuple, list)) else value))
    except (ValueError, IndexError):
        raise ValueError("an IP address of this machine") from None


def _embedded(value: Any) -> bool | str:
    try:
        return _boolean(value)
    except ValueError:
        pass
    try:
        return _text(value)
    except ValueError:
        raise ValueError("True, False or a folder") from None


def _setting(default: Any, parse: Callable[[Any], Any], meaning: str, *, inherits: str | None = None) -> Any:
    """Declare one setting. ``inherits`` names the setting of Scrapy or scrapy-redis used when ours is not set."""
    return field(default=default, metadata={"parse": parse, "meaning": meaning, "inherits": inherits})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one crawl. Sizes are in bytes, times in seconds.

    The setting of a field is ``CHUNKDL_`` and the field's name in capitals.
    """

    enabled: bool = _setting(True, _boolean, "Switches the whole plugin off without touching `ITEM_PIPELINES`.")
    mode: str = _setting(
        "queue",
        _one_of("queue", "inline"),
        'Where items wait: `"queue"` in Redis, `"inline"` in the pipeline itself, without Redis.',
    )
    store: str = _setting(
        "downloads",
        _store,
        "Where finished files end up: a folder, or a URI such as `s3://bucket/folder`.",
        inherits="FILES_STORE",
    )
    work_folder: str | None = _setting(
        None,
        _folder,
        "Folder for local state: files on their way to a store, the embedded server's data, what Redis refuses. "
        "`None`: the project's `.scrapy`.",
    )
    stores: Mapping[str, Any] | None = _setting(
        None, _stores, "Stores of your own: a dict of URI schemes and classes, or their dotted paths."
    )
    items_key: str = _setting(
        "%(spider)s:items",
        _key,
        "The Redis list that is popped; `%(spider)s` is the name.",
        inherits="REDIS_ITEMS_KEY",
    )
    done_key: str | None = _setting(
        None, _optional_text, "A Redis list that finished items are pushed to as JSON, in the same script as the ack."
    )
    batch_size: int = _setting(32, _integer(1, 100), "Items per claim. More than 100 would block Redis for too long.")
    threads: int = _setting(2, _integer(1, 64), "Download threads, each with its own event loop and connections.")
    chunk_size: int = _setting(
        1 << 20, _bytes(1 << 12), "Bytes per chunk, the unit of accounting, retry and resume. At least 4096."
    )
    concurrent_files: int = _setting(32, _integer(1), "Files downloaded at once by this process.")
    concurrent_chunks_per_file: int = _setting(8, _integer(1), "Connections one file may use at once.")
    concurrent_chunks_per_host: int = _setting(16, _integer(1), "Connections one host gets, over all threads.")
    cluster_concurrent_chunks_per_host: int = _setting(
        0, _integer(0), "Connections one host gets, over all processes on one Redis, which share it. 0: no such limit."
    )
    max_rate: int = _setting(0, _bytes(0), "Bytes per second this process downloads at most. 0: as fast as it goes.")
    max_rate_per_host: int = _setting(0, _bytes(0), "Bytes per second from one host at most. 0: as fast as it goes.")
    download_delay: float = _setting(
        0.0, _seconds_or_zero, "Seconds between the starts of two requests of this process to one host."
    )
    retry_times: int = _setting(5, _integer(0), "Retries per chunk before its file is given up.")
    retry_http_codes: frozenset[int] = _setting(
        frozenset({500, 502, 503, 504, 522, 524, 408, 429}),
        _status_codes,
        "HTTP statuses worth a retry.",
        inherits="RETRY_HTTP_CODES",
    )
    connect_timeout: float = _setting(15.0, _seconds, "Seconds to wait for a connection.")
    stall_timeout: float = _setting(30.0, _seconds, "Seconds without a byte before a chunk is retried.")
    max_file_size: int = _setting(0, _bytes(0), "Bytes; larger files are given up. 0: no limit.")
    checksum: str | None = _setting(
        None, _checksum, 'Checksum to compute and report, such as `"sha256"`. Expected ones are always verified.'
    )
    probe: str = _setting(
        "auto",
        _one_of("auto", "head", "range", "get"),
        'How a file is sized up: `"head"` asks first, `"range"` lets the first chunk answer, `"auto"` asks first while '
        'nothing is known of a host, and not where files were small or HEAD was of no use. `"get"` sends one plain GET '
        "and no more, for links that are good for one request.",
    )
    check_type: bool = _setting(
        True, _boolean, "Refuse a page (HTML, an error as JSON, an empty body) in place of a file of another type."
    )
    verify_tls: bool = _setting(True, _boolean, "Refuse servers whose certificate does not verify.")
    ca_file: str | None = _setting(
        None, _optional_text, "PEM file of certificate authorities to trust besides the system's."
    )
    client_cert: tuple[str, ...] = _setting(
        (), _certificate, "PEM file of a client certificate and its key, or the two files."
    )
    bind_address: str | None = _setting(
        None, _address, "Address of this machine to connect from.", inherits="DOWNLOAD_BIND_ADDRESS"
    )
    cookies: bool = _setting(
        True,
        _boolean,
        "Send the cookies of the spider's session, where their domains match.",
        inherits="COOKIES_ENABLED",
    )
    allowed_hosts: frozenset[str] = _setting(
        frozenset(), _hosts, "If set, files are fetched from these hosts and their subdomains only, redirects included."
    )
    block_private_addresses: bool = _setting(
        False, _boolean, "Refuse hosts that resolve to private, loopback or link-local addresses."
    )
    on_failure: str = _setting(
        "continue",
        _one_of("continue", "hold"),
        'When a file is given up: `"continue"` lets the item go on without it, `"hold"` keeps it in `:failed`.',
    )
    attachments: tuple[str, ...] = _setting(
        ("data.attachments",),
        _paths,
        "Where the attachments are in an item: a dotted path, or several; lists on the way are walked.",
    )
    url_field: str = _setting("ori_url", _text, "Field of an attachment that holds its URL.")
    path_field: str = _setting("path", _text, "Field that is filled with the path of the finished file.")
    filename_field: str = _setting("filename", _text, "Field that holds the name the file should get.")
    result_field: str | None = _setting(
        None, _optional_text, "If set, a field for a dict of status, size, checksum, etag, elapsed and error."
    )
    files_field: str | None = _setting(
        None, _optional_text, "If set, a field of the item for what FilesPipeline puts into `files`."
    )
    strip_requests: bool = _setting(
        False,
        _boolean,
        "Take `headers`, `proxy` and `cookiejar` from attachments before the item goes on to pipelines and feeds.",
    )
    item_classes: tuple[Any, ...] = _setting(
        (), _classes, "Item classes that come out of Redis as such, besides those the spider's module imports."
    )
    naming: str = _setting(
        "url",
        _one_of("url", "content"),
        'What names files in a local folder: their `"url"`, or their `"content"`, so that equal ones are stored once.',
    )
    expires: float = _setting(
        0.0,
        _days,
        "Days for which a file in a local folder is taken as it is; 0: its server is always asked whether it changed.",
        inherits="FILES_EXPIRES",
    )
    ack: str = _setting(
        "item",
        _one_of("item", "feed"),
        'When Redis forgets an item: `"item"` when it came out, `"feed"` when all `FEEDS` have it safely.',
    )
    lease: float = _setting(60.0, _seconds, "Seconds until a claimed item of a silent process is claimed by another.")
    max_deliveries: int = _setting(
        5, _integer(1), "Processes that die of an item, or errors of pipelines with it alone, until it goes to `:dead`."
    )
    failed_max: int = _setting(
        MOST_RECORDS,
        _integer(0),
        "Records kept in `:failed`, the newest ones, in 64 MiB at most; those items are held in stay. 0: all.",
    )
    retry_delay: float = _setting(
        30.0, _seconds_or_zero, "Seconds until an item that failed in a later pipeline comes back; doubled each time."
    )
    shutdown_grace: float = _setting(
        10.0, _seconds_or_zero, "Seconds running files get when the crawl is stopped; then items are handed back."
    )
    redis_wait: float = _setting(
        30.0, _seconds_or_zero, "Seconds to wait for Redis at start before the crawl is closed."
    )
    embedded_redis: bool | str = _setting(
        False, _embedded, "Where no `REDIS_URL` is set, the add-on starts a server for it: `True`, or its data folder."
    )
    progress: str = _setting(
        "auto",
        _one_of("auto", "line", "off"),
        "`auto` shows bars on a terminal (extra `progress`), else `line`: one each `LOGSTATS_INTERVAL`; or `off`.",
    )

    dashboard: str = _setting(
        "",
        _host_and_port,
        "The crawl serves the live page of its spider: `True` (at `127.0.0.1:6024`), or `host:port`.",
    )
    dashboard_token: str | None = _setting(
        None, _secret, "Secret that lets people see the page; a must on addresses that other machines can reach."
    )

    @classmethod
    def read(cls, settings: Mapping[Any, Any], attributes: Mapping[str, Any] | None = None) -> Config:
        """Read and check all settings; one that is ``None`` counts as not set.

        ``attributes`` are the spider's: ``chunkdl_threads``, also given with ``-a``, beats ``CHUNKDL_THREADS``.
        Raises :class:`ConfigError` naming the first wrong or unknown setting, its value, and what to do.
        """
        attributes = attributes or {}
        known = {setting_name(item): item for item in fields(cls)}
        _refuse_unknown((name for name in settings if isinstance(name, str)), known)
        _refuse_unknown((name.upper() for name in attributes if name.startswith("chunkdl_")), known)
        if attributes.get("chunkdl_embedded_redis") is not None:
            raise ConfigError(
                "spider attribute chunkdl_embedded_redis: the server is started before there is a spider. Set "
                "CHUNKDL_EMBEDDED_REDIS in settings.py, or with -s."
            )
        values = {}
        for name, item in known.items():
            places = [
                (f"spider attribute {name.lower()}", attributes.get(name.lower())),
                (name, settings.get(name)),
                (inherits := item.metadata["inherits"], settings.get(inherits) if inherits else None),
            ]
            place, value = next((found for found in places if found[1] is not None), (None, None))
            if place is None:
                continue
            try:
                values[item.name] = item.metadata["parse"](value)
            except ValueError as error:
                raise ConfigError(f"{place} = {value!r}: should be {error}.") from None
        config = cls(**values)
        config._check_together()
        return config

    @property
    def dashboard_address(self) -> tuple[str, int]:
        """Host and port of the live page, where CHUNKDL_DASHBOARD is set."""
        host, _, port = self.dashboard.rpartition(":")
        return host.strip("[]"), int(port)

    def _check_together(self) -> None:
        if self.failed_max not in (0, MOST_RECORDS) and self.on_failure == "hold":
            raise ConfigError(
                f'CHUNKDL_FAILED_MAX = {self.failed_max} would drop items that CHUNKDL_ON_FAILURE = "hold" keeps: '
                "set it to 0."
            )
        if self.mode == "inline" and self.cluster_concurrent_chunks_per_host:
            raise ConfigError(
                f"CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST = {self.cluster_concurrent_chunks_per_host} is kept in "
                'Redis, which CHUNKDL_MODE = "inline" does without: set it to 0, or use CHUNKDL_MODE = "queue".'
            )
        if self.mode == "inline" and self.dashboard:
            raise ConfigError(
                f"CHUNKDL_DASHBOARD = {self.dashboard!r} shows what is in Redis, which "
                'CHUNKDL_MODE = "inline" does without: set it to False, or use CHUNKDL_MODE = "queue".'
            )
        if self.naming == "content" and "://" in self.store:
            raise ConfigError(
                f'CHUNKDL_NAMING = "content" needs a local folder, and CHUNKDL_STORE is {self.store.partition("://")[0]}'
                '://…: use CHUNKDL_NAMING = "url", or a folder.'
            )
        if self.mode == "inline" and self.ack == "feed":
            raise ConfigError(
                'CHUNKDL_ACK = "feed" keeps items in Redis until a feed has them, which CHUNKDL_MODE = "inline" does '
                'without: use CHUNKDL_MODE = "queue", or CHUNKDL_ACK = "item".'
            )
        if self.mode == "inline" and self.on_failure == "hold":
            raise ConfigError(
                'CHUNKDL_ON_FAILURE = "hold" keeps items in Redis, which CHUNKDL_MODE = "inline" does without: '
                'use CHUNKDL_MODE = "queue", or CHUNKDL_ON_FAILURE = "continue".'
            )


def attributes_of(spider: object) -> dict[str, Any]:
    """Return what a spider, or its class, sets of ours in attributes such as ``chunkdl_threads``."""
    return {name: getattr(spider, name) for name in dir(spider) if name.startswith(PREFIX.lower())}


def setting_name(item: Field[Any]) -> str:
    """Return the public name of a :class:`Config` field, such as ``CHUNKDL_LEASE``."""
    return PREFIX + item.name.upper()


def _refuse_unknown(names: Iterable[str], known: Mapping[str, object]) -> None:
    for name in names:
        if name.startswith(PREFIX) and name not in known:
            if (theirs := name.removeprefix(PREFIX)) in _OF_OTHERS:
                raise ConfigError(
                    f"{name} is not a setting of scrapy-chunkdl: it is called {theirs}, and read as it is."
                )
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]}?" if near else "See the settings page for those that exist."
            raise ConfigError(f"{name} is not a setting of scrapy-chunkdl. {hint}")
