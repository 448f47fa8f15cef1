"""Which files an item wants, and how each of them is asked for: an attachment becomes a ``FileRequest``.

The one place where it is decided how a file is fetched and where it goes. Knows attachments, the project's hooks and
the spider's cookies; nothing of queues, threads or of what comes of a request. Called on Scrapy's thread by the intake,
to see whether an item wants files, and by ``ItemFiles``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scrapy import Request
from scrapy.crawler import Crawler

from scrapy_chunkdl.crawl import scrapy_engine
from scrapy_chunkdl.crawl.hook_requests import as_request, sent_headers
from scrapy_chunkdl.crawl.hooks import Hooks
from scrapy_chunkdl.crawl.spider_identity import jars_of, session_cookies, session_name
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.stores import Place
from scrapy_chunkdl.crawl.via_scrapy import WEB, ViaScrapy, asked_of
from scrapy_chunkdl.download import FileRequest, FileResult, Options, Renewed
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.items.attachments import Attachment
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text import naming
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

_LONGEST_URL = 200

MayPublish = Callable[[], bool]


class FileRequests:
    """Those of one crawl."""

    def __init__(
        self, crawler: Crawler, config: Config, options: Options, place: Place, hooks: Hooks, stats: Stats
    ) -> None:
        self._crawler = crawler
        self._config = config
        self._options = options
        self._place = place
        self._hooks = hooks
        self._stats = stats
        self._via_scrapy = ViaScrapy(crawler, config.via_scrapy, options.openers, options.host_rules)

    @property
    def url_fields(self) -> tuple[str, ...]:
        """The fields of items whose URLs are asked for, by their names alone; none where the project says what is."""
        if self._hooks.selects:
            return ()
        lists_of_urls = (path.rpartition(".")[2] for path in self._config.attachments)
        return tuple(dict.fromkeys((self._config.url_field, *lists_of_urls)))

    @property
    def selects(self) -> bool:
        """Whether the project says what is fetched: an item may have attachments besides."""
        return self._hooks.selects

    @cached_property
    def _jars(self) -> Mapping[Any, Any]:
        """The spider's, looked for once: there is an engine by the time that files are asked for."""
        return jars_of(self._crawler)

    def wanted(self, item: object) -> list[Attachment]:
        """Return the files to fetch for an item: its attachments, or what ``get_media_requests`` makes of them."""
        found = attachments.find(item, self._config)
        if not self._hooks.selects:
            return found
        return [*(entry for entry in found if entry.problem), *self._hooks.selected(item)]

    def problem_of_type(self, item: object) -> str | None:
        """Say why items of this class cannot take their files, if so."""
        return None if self._hooks.fills_fields_itself else attachments.problem_of_type(item, self._config)

    def build(self, item: object, attachment: Attachment, may_publish: MayPublish | None) -> FileRequest:
        """Say how a file is fetched and where it goes; without a name the server gives one. Raises ValueError."""
        keeps_cookies = self._config.cookies
        folder, name = self._folder_and_name(item, attachment)
        request = FileRequest(
            url=attachment.url,
            folder=folder,
            name=name,
            headers=attachment.headers,
            checksum=attachment.checksum,
            checksum_url=attachment.checksum_url,
            metalink=attachment.metalink,
            mirrors=attachment.mirrors,
            may_publish=may_publish,
            cookies=session_cookies(self._jars, attachment.cookiejar) if keeps_cookies else None,
            session=session_name(attachment.cookiejar) if keeps_cookies else None,
            proxy=attachment.proxy,
            accept=attachment.accept,
            renew=self._renewal(item, attachment) if self._hooks.renews else None,
        )
        if (shown := self._perhaps_for_scrapy(attachment)) is not None:
            request = self._with_sources(request, shown)
        if self._hooks.names_files or (seed := FileIdentity.of(request, self._options).seed) == request.url:
            return request  # most are: a copy with another folder costs as much as two of these
        return replace(request, folder=self._place.root / naming.folder_for(seed))

    def _with_sources(self, request: FileRequest, shown: Request) -> FileRequest:
        """Return the request of a file with what Scrapy's downloader is to fetch of it: itself, what belongs to it."""
        if self._via_scrapy.takes(shown):
            request = replace(request, source=self._via_scrapy.source(shown), asked=asked_of(shown))
        elif not self._via_scrapy.is_used:
            return request
        return replace(request, source_of=self._via_scrapy.source_of(shown))

    def _perhaps_for_scrapy(self, attachment: Attachment) -> Request | None:
        """Return the request that Scrapy's downloader may be to fetch; of most files, of http, none is made."""
        scheme, _, rest = attachment.url.partition(":")
        is_usual = scheme in WEB and attachment.shown is None and not self._via_scrapy.is_used
        if is_usual or not rest:
            return None
        try:
            return as_request(attachment)
        except ValueError:  # no URL for Scrapy: the downloader says what is wrong with it
            return None

    def _folder_and_name(self, item: object, attachment: Attachment) -> tuple[Path, str | None]:
        """Return where the project wants a file, else where the file goes that its URL gives to anybody."""
        if not self._hooks.names_files:
            return self._place.root / naming.folder_for(attachment.url), attachment.filename
        path = naming.inside(self._place.root, self._hooks.path_of(as_request(attachment), item))
        return path.parent, path.name

    def relative(self, result: FileResult) -> str:
        """Return where in the store a file is."""
        return self._place.relative(result)

    def _renewal(self, item: object, attachment: Attachment) -> Callable[[], Awaitable[str | Renewed | None]]:
        async def renew() -> str | Renewed | None:
            try:
                url = await self._hooks.renewed(as_request(attachment), item)
            except Exception as error:  # the project's: the file has to do without
                logger.error("renew_url failed for %s", printable(attachment.url)[:_LONGEST_URL], exc_info=error)
                return None
            self._stats.inc_value(f"chunkdl/links/{'renewed' if url else 'not_renewed'}")
            return Renewed(url.url, _new_headers(url, attachment)) if isinstance(url, Request) else url

        return scrapy_engine.from_other_threads(scrapy_engine.thread_caller(), renew)


def _new_headers(renewed: Request, attachment: Attachment) -> dict[str, str]:
    """Return the headers of a renewed link that its attachment has not, or has with another value."""
    return {name: value for name, value in sent_headers(renewed).items() if attachment.headers.get(name) != value}
