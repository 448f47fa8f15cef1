"""What a project asks of its spiders for pages, DOWNLOAD_DELAY and its like, and what that means for files.

Knows Scrapy's settings; nothing of downloads. Limits of our own that are set win: CHUNKDL_DOWNLOAD_DELAY and
CHUNKDL_CONCURRENT_CHUNKS_PER_HOST. Called once, for the options of the downloader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scrapy import Spider
from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings

from scrapy_chunkdl.download.host_rules import HostRule, HostRules, NamedRule
from scrapy_chunkdl.settings.config import Config, ConfigError


@dataclass(frozen=True, slots=True)
class Politeness:
    """Limits for files. ``because`` are the settings of Scrapy they come from, as people write them."""

    delay_s: float
    chunks_per_host: int
    because: tuple[str, ...]

    def sentence(self) -> str:
        """Return the line that says so."""
        held = (
            f"at most {self.chunks_per_host} connections to a host"
            if self.chunks_per_host > 1
            else ("one connection to a host")
        )
        return (
            f"Files are fetched as politely as pages ({', '.join(self.because)}): {held}, {self.delay_s:g} s between "
            "requests. CHUNKDL_CONCURRENT_CHUNKS_PER_HOST and CHUNKDL_DOWNLOAD_DELAY set other limits for files."
        )


def politeness(settings: BaseSettings, spider: Spider | None, config: Config) -> Politeness:
    """Return the limits for files: ours where they are set, else those the project sets for pages, if stricter.

    AutoThrottle keeps AUTOTHROTTLE_TARGET_CONCURRENCY requests to a host on their way on average, by delays of latency
    divided by it. As many connections, each of which begins when another has ended, are the same.
    """
    delay_s, connections, because = config.download_delay, config.concurrent_chunks_per_host, []
    if not _is_set(settings, spider, "CHUNKDL_DOWNLOAD_DELAY"):
        for name, value in _of_the_project(settings, spider, "DOWNLOAD_DELAY", "download_delay"):
            if value > delay_s:
                delay_s = value
                because.append(f"{name} = {value:g}")
    if not _is_set(settings, spider, "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST"):
        for name, value in _connections(settings, spider):
            if 0 < value < connections:
                connections = max(1, round(value))
                because.append(f"{name} = {value:g}")
    return Politeness(delay_s, connections, tuple(because))


def host_rules(settings: BaseSettings, config: Config) -> HostRules:
    """Return the limits of single hosts: ours first, then those of Scrapy's DOWNLOAD_SLOTS. Raises ConfigError."""
    rules = [
        NamedRule(host, HostRule(_whole(limits.get("connections")), *map(limits.get, ("delay", "rate", "via"))))
        for host, limits in (config.hosts or {}).items()
    ]
    slots = settings.getdict("DOWNLOAD_SLOTS") if settings.get("DOWNLOAD_SLOTS") else {}
    for host, slot in slots.items():
        try:
            rule = HostRule(
                _whole(slot.get("concurrency")), None if slot.get("delay") is None else float(slot["delay"])
            )
        except (AttributeError, TypeError, ValueError):
            text = f"DOWNLOAD_SLOTS: that of {host!r} should be a dict such as {{'concurrency': 1, 'delay': 2.0}}."
            raise ConfigError(text) from None
        rules.append(NamedRule(str(host).lower(), rule))
    return HostRules(rules)


def _whole(value: float | None) -> int | None:
    return None if value is None else max(1, int(value))


def _connections(settings: BaseSettings, spider: Spider | None) -> Iterator[tuple[str, float]]:
    yield from _of_the_project(settings, spider, "CONCURRENT_REQUESTS_PER_DOMAIN", "max_concurrent_requests")
    yield from _of_the_project(settings, spider, "CONCURRENT_REQUESTS_PER_IP")
    if settings.getbool("AUTOTHROTTLE_ENABLED"):
        yield "AUTOTHROTTLE_TARGET_CONCURRENCY", settings.getfloat("AUTOTHROTTLE_TARGET_CONCURRENCY", 1.0)


def _of_the_project(
    settings: BaseSettings, spider: Spider | None, name: str, attribute: str | None = None
) -> Iterator[tuple[str, float]]:
    """Yield what the project sets itself, in settings or as the spider's attribute, which Scrapy prefers."""
    value: Any = getattr(spider, attribute, None) if attribute is not None else None
    if value is not None:
        yield f"the spider's {attribute}", float(value)
    elif (settings.getpriority(name) or 0) >= SETTINGS_PRIORITIES["project"] and settings.get(name) is not None:
        yield name, settings.getfloat(name)


def _is_set(settings: BaseSettings, spider: Spider | None, name: str) -> bool:
    return settings.get(name) is not None or getattr(spider, name.lower(), None) is not None
