"""What robots.txt allows, asked once per host for all download threads. Knows RFC 9309; parsing is the caller's."""

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

    async def check(self, url: str, user_agent: str, fetch: Fetch) -> None:
        """Raise Permanent, reason ``robots``, if ``url`` is refused. ``fetch`` gets a robots.txt by its URL."""
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
        rules = await asyncio.wrap_future(known)
        if rules is None:
            return
        with self._lock:  # no parser promises to be safe in several threads
            allowed = rules.allowed(url, self._user_agent or user_agent)
        if not allowed:
            raise Permanent(f"{where} refuses {url} (ROBOTSTXT_OBEY)", reason="robots")

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
