"""Settings: what is read from where, and what a wrong one says."""

from __future__ import annotations

import pytest
from scrapy.settings import Settings

from scrapy_chunkdl.download.disk.checksum import ALGORITHMS
from scrapy_chunkdl.settings import values
from scrapy_chunkdl.settings.config import Config, ConfigError


def read(settings: dict[str, object], **attributes: object) -> Config:
    return Config.read(Settings(settings), attributes)


def test_defaults_are_those_of_the_documentation() -> None:
    config = read({})

    assert (config.mode, config.batch_size, config.threads, config.chunk_size) == ("queue", 32, 2, 1048576)
    assert (config.items_key, config.store) == ("%(spider)s:items", "downloads")


def test_a_spider_attribute_beats_the_setting() -> None:
    assert read({"CHUNKDL_THREADS": 3}, chunkdl_threads="4").threads == 4


def test_settings_of_scrapy_and_scrapy_redis_are_the_fallback() -> None:
    settings = {"FILES_STORE": "files", "REDIS_ITEMS_KEY": "shared:items", "RETRY_HTTP_CODES": [500]}

    config = read(settings)

    assert (config.store, config.items_key, config.retry_http_codes) == ("files", "shared:items", frozenset({500}))
    assert read(settings | {"CHUNKDL_STORE": "mine"}).store == "mine"


def test_text_from_the_command_line_is_understood() -> None:
    config = read({"CHUNKDL_VERIFY_TLS": "False", "CHUNKDL_LEASE": "2.5", "CHUNKDL_RETRY_HTTP_CODES": "500, 503"})

    assert (config.verify_tls, config.lease, config.retry_http_codes) == (False, 2.5, frozenset({500, 503}))


def test_none_means_not_set() -> None:
    assert read({"CHUNKDL_STORE": None, "CHUNKDL_DONE_KEY": None}).store == "downloads"


@pytest.mark.parametrize(
    ("name", "near"), [("CHUNKDL_TREADS", "CHUNKDL_THREADS"), ("CHUNKDL_CHUNKSIZE", "CHUNKDL_CHUNK_SIZE")]
)
def test_an_unknown_setting_is_refused_and_the_nearest_named(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not a setting.*Did you mean {near}"):
        read({name: 1})


def test_an_unknown_spider_attribute_is_refused_too() -> None:
    with pytest.raises(ConfigError, match=r"CHUNKDL_LEESE.*CHUNKDL_LEASE"):
        read({}, chunkdl_leese=1)


def test_a_spider_attribute_that_comes_too_late_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"chunkdl_embedded_redis: .* Set CHUNKDL_EMBEDDED_REDIS in settings.py"):
        read({}, chunkdl_embedded_redis="1")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("CHUNKDL_THREADS", "many", "a whole number, at least 1 and at most 64"),
        ("CHUNKDL_THREADS", 0, "a whole number, at least 1"),
        ("CHUNKDL_THREADS", 2.0, "a whole number"),
        ("CHUNKDL_BATCH_SIZE", 101, "at most 100"),
        ("CHUNKDL_LEASE", True, "a number of seconds above 0"),
        ("CHUNKDL_LEASE", "soon", "a number of seconds above 0"),
        ("CHUNKDL_LEASE", float("nan"), "a number of seconds above 0"),
        ("CHUNKDL_SHUTDOWN_GRACE", -1, "a number of seconds"),
        ("CHUNKDL_MAX_RATE", -1, "a whole number, at least 0"),
        ("CHUNKDL_MAX_RATE", "2 MB", "a whole number, at least 0"),
        ("CHUNKDL_MAX_RATE", float("inf"), "a whole number, at least 0"),
        ("CHUNKDL_MAX_RATE_PER_HOST", -1, "a whole number, at least 0"),
        ("CHUNKDL_MAX_RATE_PER_HOST", True, "a whole number, at least 0"),
        ("CHUNKDL_ENABLED", "maybe", "True or False"),
        ("CHUNKDL_MODE", "turbo", 'one of "queue", "inline"'),
        ("CHUNKDL_STORE", "://bucket", "a local folder, or a URI"),
        ("CHUNKDL_STORE", "file://srv/files", 'file:///srv/files", with three slashes'),
        ("CHUNKDL_STORES", ["project.MyStore"], "a dict such as"),
        ("CHUNKDL_ITEMS_KEY", "  ", "a non-empty string"),
        ("CHUNKDL_ITEMS_KEY", "%(name)s:items", 'a key such as "%(spider)s:items"'),
        ("CHUNKDL_ITEMS_KEY", "50%:items", "a percent sign is %%"),
        ("CHUNKDL_ITEMS_KEY", ["a", "50%:items"], "a percent sign is %%"),
        ("CHUNKDL_ITEMS_KEY", ["a", "b", "a"], "up to 16 that differ"),
        ("CHUNKDL_ITEMS_KEY", [], "a non-empty string"),
        ("CHUNKDL_ITEMS_KEY", ["a", 3], "a non-empty string"),
        ("CHUNKDL_ITEMS_KEY", '["a", "b"', 'several such as "urgent,items"'),
        ("CHUNKDL_ITEMS_KEY", [str(n) for n in range(17)], "up to 16 that differ"),
        ("CHUNKDL_CHECKSUM", "crc", "None or one of"),
        ("CHUNKDL_RETRY_HTTP_CODES", "5xx", "a list of HTTP status codes"),
        ("CHUNKDL_RETRY_HTTP_CODES", 500, "a list of HTTP status codes"),
        ("CHUNKDL_ALLOWED_HOSTS", [1], "a list of host names"),
        ("CHUNKDL_ATTACHMENTS", "data..files", "a dotted path"),
        ("CHUNKDL_EMBEDDED_REDIS", 3.5, "True, False or a folder"),
        ("CHUNKDL_DASHBOARD", "6024", 'an address such as "127.0.0.1:6024"'),
        ("CHUNKDL_DASHBOARD", ":6024", 'an address such as "127.0.0.1:6024"'),
        ("CHUNKDL_DASHBOARD", "localhost:99999", 'an address such as "127.0.0.1:6024"'),
        ("CHUNKDL_DASHBOARD_TOKEN", "short", "a secret of 8 characters at least"),
        ("CHUNKDL_EXPIRES", "never", "a number of days, or 0"),
        ("CHUNKDL_ITEM_CLASSES", [3], "a list of classes"),
        ("CHUNKDL_CLIENT_CERT", ["a", "b", "c"], "a PEM file, or two"),
        ("CHUNKDL_BIND_ADDRESS", "eth0", "an IP address of this machine"),
        ("CHUNKDL_ATTACHMENTS", 5, "a list"),
        ("CHUNKDL_MIN_FREE", "120%", "a percentage below 100"),
        ("CHUNKDL_MIN_FREE", "1GB", 'or a percentage such as "5%"'),
        ("CHUNKDL_MIN_FREE", -1, "a whole number, at least 0"),
        ("CHUNKDL_HOST_PATIENCE", "a night", "a number of seconds"),
        ("CHUNKDL_SCHEDULE", "[", "as JSON on the command line"),
        ("CHUNKDL_SCHEDULE", {"rate": 1}, "a list of windows such as"),
        ("CHUNKDL_SCHEDULE", ["08:00"], "a list of windows such as"),
        ("CHUNKDL_SCHEDULE", [{"form": "08:00"}], "window 1 has 'form', which is none of from, to, days, zone"),
        (
            "CHUNKDL_SCHEDULE",
            [{"rate": 1}, {}],
            'either a "rate" or "pause": True in each window, and window 2 has not',
        ),
        ("CHUNKDL_SCHEDULE", [{"rate": 1, "pause": True}], 'either a "rate" or "pause": True'),
        ("CHUNKDL_SCHEDULE", [{"pause": "maybe"}], '"pause": True or none, in window 1'),
        ("CHUNKDL_SCHEDULE", [{"from": "25:00", "rate": 1}], 'from of window 1 a time of day such as "08:00"'),
        ("CHUNKDL_SCHEDULE", [{"to": 8, "rate": 1}], 'to of window 1 a time of day such as "08:00"'),
        ("CHUNKDL_SCHEDULE", [{"from": "08:00", "to": "08:00", "rate": 1}], "in which no window is empty"),
        ("CHUNKDL_SCHEDULE", [{"from": "24:00", "to": "08:00", "rate": 1}], "in which no window is empty"),
        ("CHUNKDL_SCHEDULE", [{"rate": "1MB"}], "with rate of window 1 a whole number, at least 0: it is in bytes"),
        ("CHUNKDL_SCHEDULE", [{"days": "mon-fry", "rate": 1}], 'days of window 1 such as "mon-fri"'),
        ("CHUNKDL_SCHEDULE", [{"days": [0], "rate": 1}], 'days of window 1 such as "mon-fri"'),
        ("CHUNKDL_SCHEDULE", [{"zone": "Mars/Base", "rate": 1}], "zone of window 1 one that this machine knows"),
        ("CHUNKDL_SCHEDULE", [{"zone": "../etc", "rate": 1}], "zone of window 1 one that this machine knows"),
        ("CHUNKDL_SCHEDULE", [{"zone": "Europe", "rate": 1}], "zone of window 1 one that this machine knows"),
        ("CHUNKDL_SCHEDULE", [{"zone": 2, "rate": 1}], "zone of window 1 one that this machine knows"),
        ("CHUNKDL_SCHEDULE", [{"rate": 1}] * 101, "at most 100 windows"),
        ("CHUNKDL_BUDGET", ["*"], "a dict such as"),
        ("CHUNKDL_BUDGET", "{", "as JSON on the command line"),
        ("CHUNKDL_BUDGET", {"http://h/": {"files_per_day": 1}}, "is no host's name"),
        ("CHUNKDL_BUDGET", {"h": 2}, "is no dict of limits"),
        ("CHUNKDL_BUDGET", {"h": {}}, "is no dict of limits"),
        ("CHUNKDL_BUDGET", {"h" * 300: {"files": 1}}, "a budget in bytes_per_day, files_per_day, bytes_per_hour"),
        ("CHUNKDL_BUDGET", {"h": {"files_per_day": 0}}, "with files_per_day of 'h' a whole number, at least 1"),
        ("CHUNKDL_BUDGET", {"*": {"bytes_per_day": "50GB"}}, "it is in bytes, 50GB is 50000000000"),
        ("CHUNKDL_HOSTS", ["*.gov"], "a dict such as"),
        ("CHUNKDL_HOSTS", "{", "as JSON on the command line"),
        ("CHUNKDL_HOSTS", {"http://h/": {}}, "is no host's name"),
        ("CHUNKDL_HOSTS", {"h": 2}, "is no dict"),
        ("CHUNKDL_HOSTS", {"h": {"speed": 1}}, "none of connections, delay, rate"),
        ("CHUNKDL_HOSTS", {"h": {"via": "ftp://u:p@proxy"}}, 'with via of \'h\' "scrapy", "direct", or a proxy'),
        ("CHUNKDL_HOSTS", {"h": {"via": 3}}, "or a proxy such as"),
        ("CHUNKDL_HOSTS", {"h": {"connections": 0}}, "with connections of 'h' a whole number, at least 1"),
        ("CHUNKDL_HOSTS", {"h": {"delay": -1}}, "with delay of 'h' a number of seconds"),
    ],
)
def test_a_wrong_value_is_refused_with_name_value_and_what_it_should_be(name: str, value: object, wanted: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read({name: value})

    assert name in str(refusal.value)
    assert repr(value)[:99] in str(refusal.value)
    assert wanted in str(refusal.value)
    assert len(str(refusal.value)) <= 300


@pytest.mark.parametrize(
    ("value", "lists"),
    [
        ("%(spider)s:items", ("x:items",)),
        ("a:items", ("a:items",)),
        ("%(spider)s:urgent, %(spider)s:items", ("x:urgent", "x:items")),
        (["a", "b,c"], ("a", "b,c")),
        (("a",), ("a",)),
        ('["a", "b"]', ("a", "b")),
    ],
)
def test_the_lists_of_a_queue_may_be_one_or_several(value: object, lists: tuple[str, ...]) -> None:
    assert read({"CHUNKDL_ITEMS_KEY": value}).lists_of("x") == lists


@pytest.mark.parametrize(
    ("value", "address"),
    [(True, ("127.0.0.1", 6024)), ("1", ("127.0.0.1", 6024)), ("[::1]:80", ("::1", 80)), ("host:0", ("host", 0))],
)
def test_the_page_is_served_where_it_says(value: object, address: tuple[str, int]) -> None:
    assert read({"CHUNKDL_DASHBOARD": value}).dashboard_address == address
    assert not read({"CHUNKDL_DASHBOARD": False}).dashboard


@pytest.mark.parametrize(
    "settings",
    [
        {"CHUNKDL_MODE": "inline", "CHUNKDL_DASHBOARD": True},
        {"CHUNKDL_MODE": "inline", "CHUNKDL_ON_FAILURE": "hold"},
        {"CHUNKDL_MODE": "inline", "CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST": 5},
        {"CHUNKDL_MODE": "inline", "CHUNKDL_CLUSTER_MAX_RATE": 5},
        {"CHUNKDL_MODE": "inline", "CHUNKDL_CLUSTER_MAX_RATE_PER_HOST": 5},
        {"CHUNKDL_MODE": "inline", "CHUNKDL_CLUSTER_DOWNLOAD_DELAY": 0.5},
        {"CHUNKDL_NAMING": "content", "CHUNKDL_STORE": "s3://bucket"},
        {"CHUNKDL_FAILED_MAX": 5, "CHUNKDL_ON_FAILURE": "hold"},
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_their_names(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(settings)

    assert all(name in str(refusal.value) for name in settings)


def test_a_wrong_value_of_a_fallback_names_the_fallback() -> None:
    with pytest.raises(ConfigError, match="FILES_STORE = '://bucket'"):
        read({"FILES_STORE": "://bucket"})


def test_a_store_may_be_a_folder_or_a_uri() -> None:
    stores = ["down loads", "s3://bucket/folder", "sftp://me@host/srv", "file:///srv/some%20files"]

    assert [read({"CHUNKDL_STORE": store}).store for store in stores] == [*stores[:3], "/srv/some files"]


def test_holding_items_needs_the_queue() -> None:
    with pytest.raises(ConfigError, match="CHUNKDL_ON_FAILURE"):
        read({"CHUNKDL_MODE": "inline", "CHUNKDL_ON_FAILURE": "hold"})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CHUNKDL_MAX_FILE_SIZE", "10MB", "it is in bytes, 10MB is 10000000"),
        ("CHUNKDL_MAX_RATE", "1.5 GiB", "it is in bytes, 1.5 GiB is 1610612736"),
        ("CHUNKDL_MAX_RATE_PER_HOST", "500k", "it is in bytes, 500k is 500000"),
        ("CHUNKDL_CHUNK_SIZE", "1M", "it is in bytes, 1M is 1000000"),
        ("CHUNKDL_CHUNK_SIZE", "big", "it is in bytes."),
        ("CHUNKDL_LEASE", "5m", "a number of seconds above 0, 5m is 300"),
        ("CHUNKDL_STALL_TIMEOUT", "30s", "a number of seconds above 0, 30s is 30"),
        ("CHUNKDL_LEASE", "1.2.3s", "a number of seconds above 0."),
    ],
)
def test_a_value_with_a_unit_is_refused_with_what_it_should_be(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read({name: value})

    assert told in str(refused.value)


@pytest.mark.parametrize("name", ["REDIS_URL", "REDIS_PARAMS", "REDIS_ITEMS_KEY", "FILES_STORE", "USER_AGENT"])
def test_a_setting_of_others_with_our_prefix_is_told_its_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"CHUNKDL_{name} is not a setting of scrapy-chunkdl: it is called {name}"):
        read({f"CHUNKDL_{name}": "x"})


def test_a_setting_of_ours_that_looks_like_one_of_scrapy_redis_is_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean CHUNKDL_REDIS_WAIT"):
        read({"CHUNKDL_REDIS_WAT": 1})


def test_the_checksums_that_may_be_asked_for_are_those_that_can_be_computed() -> None:
    assert values.CHECKSUMS == ALGORITHMS
