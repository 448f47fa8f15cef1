"""The table of ``CHUNKDL_*`` settings: name, default, reader and meaning of each, read once into one frozen object.

Knows the settings and nothing else: no Redis, no downloads, no crawler. The settings page and the README table are
made from :class:`Config`, so a setting that is not here does not exist, and :meth:`Config.read` says so. A new one is a
line here, with a reader of ``values.py``; what it cannot be set together with is a row of ``conflicts.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from scrapy_chunkdl.settings import values
from scrapy_chunkdl.settings.budget import Limit
from scrapy_chunkdl.settings.budget import budget as read_budget
from scrapy_chunkdl.settings.conflicts import MOST_RECORDS, conflict
from scrapy_chunkdl.settings.schedule import Window
from scrapy_chunkdl.settings.schedule import schedule as read_schedule
from scrapy_chunkdl.settings.unknown import PREFIX, why_unknown
from scrapy_chunkdl.text.masking import cut

_LONGEST_SHOWN = 100
"""Characters of a wrong value that are shown."""


class ConfigError(ValueError):
    """A setting that cannot work. The message names it, its value, and what to write instead."""


def _setting(default: Any, parse: Callable[[Any], Any], meaning: str, *, inherits: str | None = None) -> Any:
    """Declare one setting. ``inherits`` names the setting of Scrapy or scrapy-redis used when ours is not set."""
    return field(default=default, metadata={"parse": parse, "meaning": meaning, "inherits": inherits})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one crawl. Sizes are in bytes, times in seconds.

    The setting of a field is ``CHUNKDL_`` and the field's name in capitals.
    """

    enabled: bool = _setting(True, values.boolean, "Switches the whole plugin off without touching `ITEM_PIPELINES`.")
    mode: str = _setting(
        "queue",
        values.one_of("queue", "inline"),
        'Where items wait: `"queue"` in Redis, `"inline"` in the pipeline itself, without Redis.',
    )
    store: str = _setting(
        "downloads",
        values.store,
        "Where finished files end up: a folder, or a URI such as `s3://bucket/folder`.",
        inherits="FILES_STORE",
    )
    work_folder: str | None = _setting(
        None,
        values.folder,
        "Folder for local state: files on their way to a store, the embedded server's data, what Redis refuses. "
        "`None`: the project's `.scrapy`.",
    )
    stores: Mapping[str, Any] | None = _setting(
        None, values.stores, "Stores of your own: a dict of URI schemes and classes, or their dotted paths."
    )
    items_key: str | tuple[str, ...] = _setting(
        "%(spider)s:items",
        values.items_key,
        "The Redis list that is popped; `%(spider)s` is the name. Several, the first one first: the last names the "
        "queue, and takes the items of the spider.",
        inherits="REDIS_ITEMS_KEY",
    )
    priority_field: str | None = _setting(
        None,
        values.optional_text,
        "If set, a field of items with a whole number: so many lists before the last of `CHUNKDL_ITEMS_KEY` they wait.",
    )
    done_key: str | None = _setting(
        None,
        values.optional_text,
        "A Redis list that finished items are pushed to as JSON, in the same script as the ack.",
    )
    batch_size: int = _setting(
        32, values.integer(1, 100), "Items per claim. More than 100 would block Redis for too long."
    )
    threads: int = _setting(2, values.integer(1, 64), "Download threads, each with its own event loop and connections.")
    chunk_size: int = _setting(
        1 << 20, values.size_bytes(1 << 12), "Bytes per chunk, the unit of accounting, retry and resume. At least 4096."
    )
    concurrent_files: int = _setting(32, values.integer(1), "Files downloaded at once by this process.")
    concurrent_chunks_per_file: int = _setting(8, values.integer(1), "Connections one file may use at once.")
    concurrent_chunks_per_host: int = _setting(16, values.integer(1), "Connections one host gets, over all threads.")
    cluster_concurrent_chunks_per_host: int = _setting(
        0,
        values.integer(0),
        "Connections one host gets, over all processes on one Redis, which share it. 0: no such limit.",
    )
    cluster_max_rate: int = _setting(
        0,
        values.size_bytes(0),
        "Bytes per second all processes on one Redis download at most, together. 0: no such limit.",
    )
    cluster_max_rate_per_host: int = _setting(
        0, values.size_bytes(0), "Bytes per second from one host at most, over all processes. 0: no such limit."
    )
    cluster_download_delay: float = _setting(
        0.0,
        values.seconds_or_zero,
        "Seconds between the starts of two requests to one host, over all processes. 0: no such delay.",
    )
    max_rate: int = _setting(
        0, values.size_bytes(0), "Bytes per second this process downloads at most. 0: as fast as it goes."
    )
    max_rate_per_host: int = _setting(
        0, values.size_bytes(0), "Bytes per second from one host at most. 0: as fast as it goes."
    )
    download_delay: float = _setting(
        0.0, values.seconds_or_zero, "Seconds between the starts of two requests of this process to one host."
    )
    hosts: Mapping[str, Mapping[str, Any]] | None = _setting(
        None,
        values.limits_of_hosts,
        "Limits of single hosts, by name or pattern: `connections`, `delay` in seconds, `rate` in bytes per second; "
        '`via` a proxy, or `"scrapy"`. '
        "`DOWNLOAD_SLOTS` holds for what is not said.",
    )
    schedule: tuple[Window, ...] | None = _setting(
        None,
        read_schedule,
        "Windows of the day with a `rate` in bytes per second for each process, or a `pause`: a list of dicts of "
        "`from`, `to`, `days`, `zone`.",
    )
    budget: Mapping[str, tuple[Limit, ...]] | None = _setting(
        None,
        read_budget,
        "What may come in a day or an hour from single hosts, by name or pattern, and from all (`*`): `bytes_per_day`, "
        "`files_per_day`, `bytes_per_hour`, `files_per_hour`. What is over it waits.",
    )
    retry_times: int = _setting(5, values.integer(0), "Retries per chunk before its file is given up.")
    retry_http_codes: frozenset[int] = _setting(
        frozenset({500, 502, 503, 504, 522, 524, 408, 429}),
        values.status_codes,
        "HTTP statuses worth a retry.",
        inherits="RETRY_HTTP_CODES",
    )
    connect_timeout: float = _setting(15.0, values.seconds, "Seconds to wait for a connection.")
    stall_timeout: float = _setting(30.0, values.seconds, "Seconds without a byte before a chunk is retried.")
    max_file_size: int = _setting(0, values.size_bytes(0), "Bytes; larger files are given up. 0: no limit.")
    min_free: float | None = _setting(
        None,
        values.min_free,
        'What is left free of the disk, in bytes or as `"5%"`: claiming pauses before, until there is room. '
        "`None`: the larger of 1 GiB and 2 %, at most a tenth of the disk.",
    )
    checksum: str | None = _setting(
        None, values.checksum, 'Checksum to compute and report, such as `"sha256"`. Expected ones are always verified.'
    )
    probe: str = _setting(
        "auto",
        values.one_of("auto", "head", "range", "get"),
        'How a file is sized up: `"head"` asks first, `"range"` lets the first chunk answer, `"auto"` asks first while '
        "nothing is known of a host, and not where files were small, HEAD was of no use, or the link looks signed. "
        '`"get"` sends one plain GET '
        "and no more, for links that are good for one request.",
    )
    check_type: bool = _setting(
        True,
        values.boolean,
        "Refuse a page (HTML, an error as JSON, an empty body) in place of a file of another type.",
    )
    verify_tls: bool = _setting(True, values.boolean, "Refuse servers whose certificate does not verify.")
    ca_file: str | None = _setting(
        None, values.optional_text, "PEM file of certificate authorities to trust besides the system's."
    )
    client_cert: tuple[str, ...] = _setting(
        (), values.certificate, "PEM file of a client certificate and its key, or the two files."
    )
    sftp_user: str | None = _setting(None, values.optional_text, "User of `sftp://` URLs that name none.")
    sftp_password: str = _setting("", values.any_text, "The password of `CHUNKDL_SFTP_USER`.")
    sftp_key: str | None = _setting(
        None, values.optional_text, "File of a private key for `sftp://`; without one, the agent's and `~/.ssh/id_*`."
    )
    sftp_known_hosts: str | None = _setting(
        None, values.optional_text, "File of the keys of SSH servers; without one, `~/.ssh/known_hosts`."
    )
    bind_address: str | None = _setting(
        None, values.ip_address, "Address of this machine to connect from.", inherits="DOWNLOAD_BIND_ADDRESS"
    )
    cookies: bool = _setting(
        True,
        values.boolean,
        "Send the cookies of the spider's session, where their domains match.",
        inherits="COOKIES_ENABLED",
    )
    allowed_hosts: frozenset[str] = _setting(
        frozenset(),
        values.hosts,
        "If set, files are fetched from these hosts and their subdomains only, redirects included.",
    )
    block_private_addresses: bool = _setting(
        False, values.boolean, "Refuse hosts that resolve to private, loopback or link-local addresses."
    )
    via_scrapy: tuple[str, ...] = _setting(
        (),
        values.host_patterns,
        'Files of these hosts (`"*.example.org"`, `"*"` for all) and schemes (`"file:"`) are fetched by Scrapy\'s own '
        "downloader, through the project's middlewares.",
    )
    host_patience: float = _setting(
        43200.0,
        values.seconds_or_zero,
        "Seconds that items wait for a host which fails for all of them; then their files are given up. 0: at once.",
    )
    on_failure: str = _setting(
        "continue",
        values.one_of("continue", "hold"),
        'When a file is given up: `"continue"` lets the item go on without it, `"hold"` keeps it in `:failed`.',
    )
    attachments: tuple[str, ...] = _setting(
        ("data.attachments",),
        values.dotted_paths,
        "Where the attachments are in an item: a dotted path, or several; lists on the way are walked.",
    )
    url_field: str = _setting("ori_url", values.text, "Field of an attachment that holds its URL.")
    path_field: str = _setting("path", values.text, "Field that is filled with the path of the finished file.")
    filename_field: str = _setting("filename", values.text, "Field that holds the name the file should get.")
    result_field: str | None = _setting(
        None, values.optional_text, "If set, a field for a dict of status, size, checksum, etag, elapsed and error."
    )
    files_field: str | None = _setting(
        None, values.optional_text, "If set, a field of the item for what FilesPipeline puts into `files`."
    )
    strip_requests: bool = _setting(
        False,
        values.boolean,
        "Take `headers`, `proxy` and `cookiejar` from attachments before the item goes on to pipelines and feeds.",
    )
    item_classes: tuple[Any, ...] = _setting(
        (), values.classes, "Item classes that come out of Redis as such, besides those the spider's module imports."
    )
    naming: str = _setting(
        "url",
        values.one_of("url", "content"),
        'What names files in a local folder: their `"url"`, or their `"content"`, so that equal ones are stored once.',
    )
    expires: float = _setting(
        0.0,
        values.days,
        "Days for which a file in a local folder is taken as it is; 0: its server is always asked whether it changed.",
        inherits="FILES_EXPIRES",
    )
    ack: str = _setting(
        "item",
        values.one_of("item", "feed"),
        'When Redis forgets an item: `"item"` when it came out, `"feed"` when all `FEEDS` have it safely.',
    )
    lease: float = _setting(
        60.0, values.seconds, "Seconds until a claimed item of a silent process is claimed by another."
    )
    max_deliveries: int = _setting(
        5,
        values.integer(1),
        "Processes that die of an item, or errors of pipelines with it alone, until it goes to `:dead`.",
    )
    failed_max: int = _setting(
        MOST_RECORDS,
        values.integer(0),
        "Records kept in `:failed`, the newest ones, in 64 MiB at most; those items are held in stay. 0: all.",
    )
    retry_delay: float = _setting(
        30.0,
        values.seconds_or_zero,
        "Seconds until an item that failed in a later pipeline comes back; doubled each time.",
    )
    shutdown_grace: float = _setting(
        10.0, values.seconds_or_zero, "Seconds running files get when the crawl is stopped; then items are handed back."
    )
    redis_wait: float = _setting(
        30.0, values.seconds_or_zero, "Seconds to wait for Redis at start before the crawl is closed."
    )
    embedded_redis: bool | str = _setting(
        False,
        values.embedded_redis,
        "Where no `REDIS_URL` is set, the add-on starts a server for it: `True`, or its data folder.",
    )
    progress: str = _setting(
        "auto",
        values.one_of("auto", "line", "off"),
        "`auto` shows bars on a terminal (extra `progress`), else `line`: one each `LOGSTATS_INTERVAL`; or `off`.",
    )

    dashboard: str = _setting(
        "",
        values.host_and_port("127.0.0.1:6024"),
        "The crawl serves the live page of its spider: `True` (at `127.0.0.1:6024`), or `host:port`.",
    )
    dashboard_token: str | None = _setting(
        None, values.secret, "Secret that lets people see the page; a must on addresses that other machines can reach."
    )

    health: str = _setting(
        "",
        values.host_and_port("127.0.0.1:6025"),
        "Crawls and workers answer `/healthz` and `/readyz`: `True` (at `127.0.0.1:6025`), or `host:port`.",
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
        _refuse_unknown((name.upper() for name in attributes if name.startswith(PREFIX.lower())), known)
        if attributes.get("chunkdl_embedded_redis") is not None:
            raise ConfigError(
                "spider attribute chunkdl_embedded_redis: the server is started before there is a spider. Set "
                "CHUNKDL_EMBEDDED_REDIS in settings.py, or with -s."
            )
        read = {}
        for name, item in known.items():
            place, value = _where_it_is_set(name, item, settings, attributes)
            if value is None:
                continue
            try:
                read[item.name] = item.metadata["parse"](value)
            except ValueError as error:
                raise ConfigError(f"{place} = {cut(repr(value), _LONGEST_SHOWN)}: should be {error}.") from None
        config = cls(**read)
        if sentence := conflict({item.name: getattr(config, item.name) for item in known.values()}):
            raise ConfigError(sentence)
        return config

    def lists_of(self, spider: str) -> tuple[str, ...]:
        """Return the Redis lists of a spider's queue, the first to be claimed first; the last is its own."""
        keys = (self.items_key,) if isinstance(self.items_key, str) else self.items_key
        return tuple(key % {"spider": spider} for key in keys)

    @property
    def dashboard_address(self) -> tuple[str, int]:
        """Host and port of the live page, where CHUNKDL_DASHBOARD is set."""
        return values.address_of(self.dashboard)


def attributes_of(spider: object) -> dict[str, Any]:
    """Return what a spider, or its class, sets of ours in attributes such as ``chunkdl_threads``."""
    return {name: getattr(spider, name) for name in dir(spider) if name.startswith(PREFIX.lower())}


def setting_name(item: Field[Any]) -> str:
    """Return the public name of a :class:`Config` field, such as ``CHUNKDL_LEASE``."""
    return PREFIX + item.name.upper()


def _refuse_unknown(names: Iterable[str], known: Mapping[str, object]) -> None:
    for name in names:
        if sentence := why_unknown(name, known):
            raise ConfigError(sentence)


def _where_it_is_set(
    name: str, item: Field[Any], settings: Mapping[Any, Any], attributes: Mapping[str, Any]
) -> tuple[str, Any]:
    """Return the place that decides and the value there, None where it is set nowhere."""
    places = [
        (f"spider attribute {name.lower()}", attributes.get(name.lower())),
        (name, settings.get(name)),
    ]
    if inherits := item.metadata["inherits"]:
        places.append((inherits, settings.get(inherits)))
    return next((found for found in places if found[1] is not None), (name, None))
