"""What robots.txt allows, and how often, asked once per host for all download threads.

Knows RFC 9309, and Crawl-delay, which is no part of it and widely used; parsing is the caller's.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

HOSTS_REMEMBERED = 1024
BYTES_READ = 512 * 1024
"""RFC 9309 §2.5 wants at least 500 KiB to be read."""

_PORTS = {"http": 80, "https": 443}

LONGEST_DELAY_S = 60.0
"""Seconds between two requests that a Crawl-delay may ask for: a day, as some have it, would mean no files at all."""


class Rules(Protocol):
    """A parsed robots.txt, such as a parser of Scrapy's."""

    def allowed(self, url: str, user_agent: str) -> bool: ...


Parse = Callable[[bytes], Rules]
Fetch = Callable[[str], Awaitable[bytes]]


class Robots:
    """One for all threads of a process. As in Scrapy, a robots.txt that cannot be had allows everything.

    ``parse`` reads a robots.txt; ``user_agent`` is matched with its rules instead of the request's, if given.
    """

    def __init__(self, parse: Parse, user_agent: str | None = None) -> None:
        self._parse = parse
        self._user_agent = user_agent
        self._lock = threading.Lock()
        self._rules: OrderedDict[str, concurrent.futures.Future[Rules | None]] = OrderedDict()
        self._asking: set[asyncio.Task[None]] = set()
        self._delays: OrderedDict[str, float] = OrderedDict()

    def delay_of(self, host: str) -> float:
        """Return the seconds between two requests to ``host``, ``name:port``, that its robots.txt asks for."""
        return self._delays.get(host, 0.0) if self._delays else 0.0

    async def check(self, url: str, user_agent: str, fetch: Fetch) -> bool:
        """Raise Permanent, reason ``robots``, if ``url`` is refused. ``fetch`` gets a robots.txt by its URL.

        Return whether a delay is asked for that was not known before.
        """
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.netloc}/robots.txt"
        with self._lock:
            known = self._rules.get(where)
            if known is None:
                known = self._rules[where] = concurrent.futures.Future()
                known.set_running_or_notify_cancel()  # now no waiter that is cancelled cancels it for all
                asking = asyncio.ensure_future(self._ask(where, known, fetch))
                self._asking.add(asking)
                asking.add_done_callback(self._asking.discard)
            self._rules.move_to_end(where)
            while len(self._rules) > HOSTS_REMEMBERED:
                self._rules.popitem(last=False)
            is_news = not known.done()
        rules = await asyncio.wrap_future(known)
        if rules is None:
            return False
        with self._lock:  # no parser promises to be safe in several threads
            allowed = rules.allowed(url, self._user_agent or user_agent)
            delay_s = _delay_of(rules, self._user_agent or user_agent) if is_news else 0.0
            if delay_s:
                self._delays[f"{parts.hostname}:{parts.port or _PORTS.get(parts.scheme, 443)}"] = min(
                    delay_s, LONGEST_DELAY_S
                )
                if len(self._delays) > HOSTS_REMEMBERED:
                    self._delays.popitem(last=False)
        if not allowed:
            raise Permanent(f"{where} refuses {url} (ROBOTSTXT_OBEY)", reason="robots")
        return delay_s > 0

    async def _ask(self, where: str, known: concurrent.futures.Future[Rules | None], fetch: Fetch) -> None:
        try:
            body = await fetch(where)
            with self._lock:
                rules = self._parse(body)
        except DownloadError as error:
            logger.info("No robots.txt to go by: %s", printable(str(error)))
            known.set_result(None)
        except BaseException:  # this thread's loop ends, or the parser is broken: whoever waits asks again
            with self._lock:
                self._rules.pop(where, None)
            known.set_exception(Transient(f"{where} could not be read", reason="robots_unread"))
            raise
        else:
            known.set_result(rules)


def _delay_of(rules: Rules, user_agent: str) -> float:
    """Return the Crawl-delay in seconds, 0 for none: Scrapy's parsers tell it since 2.18, what they stand on before."""
    asked = getattr(rules, "crawl_delay", None) or getattr(getattr(rules, "rp", None), "crawl_delay", None)
    try:
        delay_s = float(asked(user_agent) or 0.0) if asked is not None else 0.0
    except (TypeError, ValueError):
        return 0.0
    return delay_s if 0 < delay_s < float("inf") else 0.0
