"""Limits of single hosts: which rule is for which host, and that the limits keep to it."""

from __future__ import annotations

import asyncio

import pytest
from scrapy.settings import Settings

from scrapy_chunkdl.crawl.politeness import host_rules
from scrapy_chunkdl.download import Limits, Options
from scrapy_chunkdl.download.host_rules import HostRule, HostRules, NamedRule, fits
from scrapy_chunkdl.download.http.identity import host_of
from scrapy_chunkdl.settings.config import Config, ConfigError

RULES = HostRules(
    [
        NamedRule("files.gov", HostRule(connections=1)),
        NamedRule("*.gov", HostRule(connections=2, delay_s=1.0)),
        NamedRule("127.0.0.1:8080", HostRule(rate=1000.0)),
        NamedRule("free.org", HostRule(delay_s=0.0, rate=0.0)),
    ]
)


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("a.gov:443", HostRule(2, 1.0)),
        ("a.b.gov:80", HostRule(2, 1.0)),
        ("gov:80", HostRule()),
        ("files.gov:80", HostRule(1, 1.0)),
        ("127.0.0.1:8080", HostRule(None, None, 1000.0)),
        ("127.0.0.1:80", HostRule()),
        ("free.org:80", HostRule(None, 0.0, 0.0)),
        ("notgov.org:80", HostRule()),
    ],
)
def test_a_rule_is_for_a_name_or_a_pattern(host: str, rule: HostRule) -> None:
    assert (RULES.of(host), RULES.of(host)) == (rule, rule)


@pytest.mark.parametrize(
    ("pattern", "url", "is_for_it"),
    [
        ("*.GOV", "https://data.gov/x", True),
        ("*.gov", "https://DATA.GOV/x", True),
        ("data.*", "https://data.gov/x", True),
        ("data.*", "https://data/x", False),
        ("host.example.", "http://host.example/x", True),
        ("host.example", "http://host.example./x", True),
        ("host.example:443", "https://host.example/x", True),
        ("host.example:443", "http://host.example/x", False),
        ("HOST.example.:80", "http://host.example/x", True),
        ("*:8080", "http://host.example:8080/x", True),
        ("*:80*", "http://host.example:8080/x", True),
        ("bücher.example", "http://bücher.example/x", True),
        ("*.BÜCHER.example", "http://a.xn--bcher-kva.example/x", True),
        ("xn--bcher-kva.example:80", "http://BÜCHER.example/x", True),
        ("[::1]", "http://[::1]:8080/x", True),
        ("::1", "http://[::1]:8080/x", True),
        ("[::1]:8080", "http://[::1]:8080/x", True),
        ("[::1]:80", "http://[::1]:8080/x", False),
        ("[2001:DB8:0::1]", "https://[2001:db8::1]/x", True),
        ("[2001:db8:*]:443", "https://[2001:db8::1]/x", True),
        ("127.0.0.*", "http://127.0.0.1:81/x", True),
        ("[ab].gov", "http://b.gov/x", True),
        ("", "http://b.gov/x", False),
    ],
)
def test_hosts_are_named_as_in_urls(pattern: str, url: str, is_for_it: bool) -> None:
    assert fits(pattern, host_of(url)) is is_for_it
    assert fits(host_of(url), host_of(url))


def test_the_first_rule_that_says_something_of_a_limit_decides_on_it() -> None:
    rules = HostRules([NamedRule("a.gov", HostRule(connections=1)), NamedRule("*.gov", HostRule(4, 2.0))])

    assert rules.of("a.gov:80") == HostRule(1, 2.0)


async def test_connections_of_a_host_are_those_of_its_rule_and_others_keep_theirs() -> None:
    rules = HostRules([NamedRule("few", HostRule(connections=1)), NamedRule("many", HostRule(connections=40))])
    limits = Limits(Options(chunks_per_host=3, host_rules=rules))
    for host in ("few:80", "many:80", "other:80"):
        for _ in range(200):
            limits.answered(host)

    assert [limits.bears(host) for host in ("few:80", "many:80", "other:80")] == [1, 40, 3]
    async with limits.slot("few:80"):
        second = asyncio.ensure_future(limits.slot("few:80").__aenter__())
        await asyncio.sleep(0)
        assert not second.done()
    await second


def test_rates_hold_for_the_host_alone() -> None:
    limits = Limits(Options(max_rate_per_host=500, host_rules=RULES))

    assert limits.rates.is_limited
    assert [limits.pace(host).is_limited for host in ("127.0.0.1:8080", "free.org:80", "x:80")] == [True, False, True]


def test_rules_put_first_hold_at_once_also_for_what_runs_until_they_are_taken_back() -> None:
    limits = Limits(Options(chunks_per_host=8, host_rules=HostRules([NamedRule("*.org", HostRule(4, 0.0, 9_000.0))])))
    pace = limits.pace("a.org:80")
    other = limits.pace("b.com:80")
    assert (pace.is_limited, other.is_limited) == (True, False)

    limits.put_first([NamedRule("a.org:80", HostRule(1, rate=0.0)), NamedRule("b.com:80", HostRule(rate=1_000.0))])
    assert (pace.is_limited, other.is_limited, limits.rates.is_limited) == (False, True, True)
    assert (limits._most_of("a.org:80"), limits._delay_of("a.org:80")) == (1, 0.0)

    limits.put_first([])
    assert (pace.is_limited, other.is_limited) == (True, False)
    assert limits._most_of("a.org:80") == 4


def test_a_way_to_a_host_is_the_first_that_is_named() -> None:
    rules = HostRules([NamedRule("a.org", HostRule(1)), NamedRule("*.org", HostRule(via="scrapy"))])

    assert [rules.of(host).via for host in ("a.org:80", "b.com:80")] == ["scrapy", None]
    assert (rules.name_scrapy, HostRules().name_scrapy) == (True, False)


def test_download_slots_of_scrapy_hold_behind_ours() -> None:
    settings = Settings({"DOWNLOAD_SLOTS": {"a.gov": {"concurrency": 3, "delay": 5}, "b.org": {"delay": 2.5}}})
    config = Config.read({"CHUNKDL_HOSTS": {"A.gov": {"connections": 1}}})

    rules = host_rules(settings, config)

    assert (rules.of("a.gov:80"), rules.of("b.org:443")) == (HostRule(1, 5.0), HostRule(None, 2.5))


def test_slots_that_make_no_sense_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="DOWNLOAD_SLOTS: that of 'h'"):
        host_rules(Settings({"DOWNLOAD_SLOTS": {"h": 3}}), Config.read({}))
