"""``ChunkDownloader``, the extension: opens and closes the bridge and, in queue mode, the consumer with the spider.

Knows Scrapy's signals and the order in which things start and stop. What happens to a claimed item is the
consumer's; what happens to its files is the bridge's.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider, NotConfigured
from scrapy.pipelines.files import FilesPipeline
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.misc import build_from_crawler, load_object
from scrapy_redis.pipelines import RedisPipeline
from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.crawl import refusal, scrapy_engine
from scrapy_chunkdl.crawl.consumer import Consumer
from scrapy_chunkdl.crawl.feeds import FeedAcks, FeedFiles, exporter_of, name_process
from scrapy_chunkdl.crawl.folders import answer_of, require_writable, work_folder
from scrapy_chunkdl.crawl.guard import Guard, Steps
from scrapy_chunkdl.crawl.hooks import Hooks
from scrapy_chunkdl.crawl.item_files import ItemDownload, Results
from scrapy_chunkdl.crawl.item_log import mask_items
from scrapy_chunkdl.crawl.passage import Admit, Admitted, Delivery
from scrapy_chunkdl.crawl.politeness import politeness
from scrapy_chunkdl.crawl.refusal import STORE_UNUSABLE, Unusable, refusing
from scrapy_chunkdl.crawl.requests import as_request, sent_headers
from scrapy_chunkdl.crawl.spider_identity import (
    as_the_spider,
    has_cookies,
    session_cookies,
    session_name,
    told_of_middlewares,
)
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.download import FileRequest, FileResult, Limits, Options, Renewed, Store
from scrapy_chunkdl.download.disk import tidy
from scrapy_chunkdl.download.disk.file_identity import FileIdentity
from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.items.attachments import Attachment
from scrapy_chunkdl.items.types import ItemTypes, item_classes_of
from scrapy_chunkdl.progress.printed import ProgressReport
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HostShares
from scrapy_chunkdl.queue.share_keeper import ShareKeeper
from scrapy_chunkdl.settings.config import Config, ConfigError, attributes_of
from scrapy_chunkdl.storage import MissingExtra, StoreUnusable, open_store, without_password
from scrapy_chunkdl.storage.content import ContentStore
from scrapy_chunkdl.text import naming
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

PARTS_FOLDER = "chunkdl-parts"
"""Folder under .scrapy where files wait and grow until they are in a store that is not a local folder."""

CHECK_KEY = "chunkdl-check"
"""Asked for once, to see that a store answers; there need not be such a file."""

_LONGEST_URL = 200

TICK = 0.25
"""Seconds between looks at the list and at whether the spider is closing."""


class ChunkDownloader:
    """Downloads for one crawl, from ``spider_opened`` to ``spider_closed``."""

    ends = True
    """Whether the process is to end by itself some time."""

    starts_again = False
    """Whether such a process is started again and again on one list, so that it must not overwrite its feeds."""

    def __init__(self, crawler: Crawler, config: Config, options: Options) -> None:
        assert crawler.stats is not None
        self.config = config
        self.hooks: Hooks | None = None
        self.admit: Admit | None = None
        """Queues a scraped item in front of all pipelines; None where our pipeline does it itself, or is not there."""
        self._crawler = crawler
        self._options = options
        self._stats = Stats(crawler.stats)
        self._item_types = _item_types(crawler, config)
        self._announce = scrapy_engine.Announcer(crawler)
        mask_items(crawler)
        self._inline: set[ItemDownload] = set()
        self._may_be_idle = False
        self._consumer: Consumer | None = None
        self._bridge: Bridge | None = None
        self._started = Steps()
        self._progress: ProgressReport | None = None
        self._guard = Guard("A look at the downloads")
        self._progress_guard = Guard("Showing how far the downloads are")
        self._hold: scrapy_engine.ClosingHold | None = None
        self._feeds_closed: Deferred[None] | None = None
        self._last_acks: Deferred[None] = Deferred()
        self._closing_since: float | None = None
        self._grace_is_over = False
        self._store = _open_store(crawler, config)
        self._root = _local_root(config, self._store)
        crawler.signals.connect(self.spider_opened, signals.spider_opened)
        crawler.signals.connect(self.spider_idle, signals.spider_idle)
        crawler.signals.connect(self.spider_closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> ChunkDownloader:
        """Read the settings. Raises ``NotConfigured`` when CHUNKDL_ENABLED is off, or in ``scrapy shell``.

        Where they cannot work, or ask for what is not there, that is told in a sentence, the crawl is closed before it
        begins, and ``ConfigError`` is raised.
        """
        if crawler.spider is None:
            raise NotConfigured
        with refusing(crawler):
            try:
                return cls._configured(crawler)
            except (ConfigError, NotConfigured):
                raise
            except Exception as error:
                logger.debug("The settings could not be read", exc_info=error)
                raise Unusable(refusal.sentence_of(error), refusal.CANNOT_START) from error

    @classmethod
    def _configured(cls, crawler: Crawler) -> ChunkDownloader:
        assert crawler.spider is not None
        config = Config.read(crawler.settings, attributes_of(crawler.spider))
        if not config.enabled:
            raise NotConfigured("CHUNKDL_ENABLED is off")
        if config.cookies and not crawler.settings.getbool("COOKIES_ENABLED"):
            raise ConfigError("CHUNKDL_COOKIES = True, but COOKIES_ENABLED is off: there are none. Change one of them.")
        if config.mode == "queue":
            _refuse_no_add_on(crawler, config)
            _refuse_endless_loop(crawler, config)
            _refuse_another_serializer(crawler, config)
            name_process(crawler.spider)
        if config.dashboard:
            _refuse_open_dashboard(config)
        return cls(crawler, config, _options(crawler, config))

    @classmethod
    def of(cls, crawler: Crawler) -> ChunkDownloader:
        """Return the crawl's extension, creating it when EXTENSIONS does not name it."""
        return crawler.get_extension(cls) or cls.from_crawler(crawler)

    @property
    def crawler(self) -> Crawler:
        """The crawl."""
        return self._crawler

    @property
    def is_trial(self) -> bool:
        """Whether ``scrapy parse`` or its like tries the spider out: nothing is queued, claimed or downloaded then."""
        return scrapy_engine.is_trial(self._crawler)

    def note_scraped(self, item: object, wants_files: bool) -> None:
        """Count an item that the spider yielded."""
        self._stats.inc_value("chunkdl/items/scraped")
        if wants_files:
            self._stats.inc_value("chunkdl/items/with_attachments")

    @property
    def spider(self) -> Spider:
        """The spider whose items these are."""
        assert self._crawler.spider is not None
        return self._crawler.spider

    @property
    def items_key(self) -> str:
        """The Redis list items wait in."""
        return _items_key(self._crawler, self.config)

    def others_may_have_work(self) -> bool:
        """Whether other processes held items of the list when it was looked at last."""
        return self._consumer is not None and self._consumer.others_may_have_work()

    def enqueue(self, item: object) -> Deferred[None]:
        """Append a scraped item to the Redis list. Fires when Redis has it, fails when it is no JSON."""
        if self._consumer is None:
            raise RuntimeError("Downloads could not start, see the error above: the item was not queued.")
        return self._consumer.enqueue(item)

    def arrival(self, item: object) -> Delivery | Admitted | None:
        """Return what is known of an item that reaches our pipeline, once. Raises why a scraped one is not queued."""
        return self._consumer.arrival(item) if self._consumer is not None else None

    def wanted(self, item: object) -> list[Attachment]:
        """Return the files to fetch for an item: its attachments, or what ``get_media_requests`` makes of them."""
        found = attachments.find(item, self.config)
        if self.hooks is None or not self.hooks.selects:
            return found
        return [*(entry for entry in found if entry.problem), *self.hooks.selected(item)]

    def problem_of_type(self, item: object) -> str | None:
        """Say why items of this class cannot take their files, if so."""
        fills_fields_itself = self.hooks is not None and self.hooks.fills_fields_itself
        return None if fills_fields_itself else attachments.problem_of_type(item, self.config)

    def new_download(
        self,
        item: object,
        *,
        on_done: Callable[[ItemDownload], None],
        may_publish: Callable[[], bool] | None = None,
    ) -> ItemDownload:
        """Plan the files of one item; its jobs are still to be submitted to the bridge. Raises what hooks raise."""
        return ItemDownload(
            self.wanted(item),
            self.config,
            self._stats,
            item=item,
            new_request=partial(self._new_request, item, may_publish),
            relative=self._relative,
            announce=self._announce,
            on_done=on_done,
        )

    def _new_request(self, item: object, may_publish: Callable[[], bool] | None, attachment: Attachment) -> FileRequest:
        """Say how a file is fetched and where it goes; without a name the server gives one. Raises ValueError."""
        request = FileRequest(
            url=attachment.url,
            folder=self._root,
            name=attachment.filename,
            headers=attachment.headers,
            checksum=attachment.checksum,
            mirrors=attachment.mirrors,
            may_publish=may_publish,
            cookies=session_cookies(self._crawler, attachment.cookiejar) if self.config.cookies else None,
            session=session_name(attachment.cookiejar) if self.config.cookies else None,
            proxy=attachment.proxy,
            accept=attachment.accept,
            renew=self._renewal(item, attachment),
        )
        if self.hooks is None or not self.hooks.names_files:
            return replace(request, folder=self._root / naming.folder_for(FileIdentity.of(request, self._options).seed))
        path = naming.inside(self._root, self.hooks.path_of(as_request(attachment), item))
        return replace(request, folder=path.parent, name=path.name)

    def _renewal(self, item: object, attachment: Attachment) -> Callable[[], Awaitable[str | Renewed | None]] | None:
        if self.hooks is None or not self.hooks.renews:
            return None
        hooks = self.hooks

        async def renew() -> str | Renewed | None:
            try:
                url = await hooks.renewed(as_request(attachment), item)
            except Exception as error:  # the project's: the file has to do without
                logger.error("renew_url failed for %s", printable(attachment.url)[:_LONGEST_URL], exc_info=error)
                return None
            self._stats.inc_value(f"chunkdl/links/{'renewed' if url else 'not_renewed'}")
            return Renewed(url.url, _new_headers(url, attachment)) if isinstance(url, Request) else url

        return scrapy_engine.from_other_threads(self._deliver, renew)

    def _relative(self, result: FileResult) -> str:
        if isinstance(self._store, ContentStore):
            return Path(result.uri or "").relative_to(self._store.folder).as_posix()
        return result.path.relative_to(self._root).as_posix()

    def download(self, item: object) -> Deferred[Results]:
        """Download the files of one item without Redis. Fires when each is written back or given up.

        Fails with ValueError when the item's type has no field for the results. Raises what hooks raise.
        """
        if self._bridge is None:
            raise RuntimeError("Downloads could not start, see the error above: the item goes no further.")
        if (problem := self.problem_of_type(item)) is not None:
            raise ValueError(problem)
        fired: Deferred[Results] = Deferred()

        def settle(download: ItemDownload) -> None:
            download.strip()
            if (problem := download.unwritable or download.failed) is not None:
                fired.errback(problem)
            else:
                fired.callback(download.results())

        def done(download: ItemDownload) -> None:
            self._inline.discard(download)
            self._may_be_idle = not self._inline
            download.give_up_cancelled()
            settle(download)

        download = self.new_download(item, on_done=done)
        if download.is_done:
            settle(download)
        else:
            self._inline.add(download)
            self._bridge.submit(download.jobs)
        return fired

    def spider_opened(self, spider: Spider) -> None:
        """Start the threads, and look for items. Whatever raises on the way closes the crawl."""
        if refusal.is_refused(self._crawler):
            return
        try:
            self._open()
        except Exception as error:
            logger.debug("Downloads could not start", exc_info=error)
            self._started.undo()
            self._consumer = self._bridge = None
            refusal.refuse(self._crawler, error)

    def _open(self) -> None:
        """Check what can be checked, then start one thing after the other; what lets items in and holds is last."""
        _refuse_rivals(self._crawler, self.config)
        _check_usable(self.config.store, self._root, self._store)
        asked_for = self._crawler.settings.get("CHUNKDL_COOKIES") or getattr(self.spider, "chunkdl_cookies", None)
        if self.config.cookies and asked_for and not has_cookies(self._crawler):
            logger.warning(
                "CHUNKDL_COOKIES is on, but DOWNLOADER_MIDDLEWARES has no CookiesMiddleware: no cookies are sent."
            )
        try:
            feeds = self._open_feeds()
        except ConfigError as error:
            raise Unusable(str(error), "chunkdl_feed_taken") from error
        self._deliver = deliver = scrapy_engine.thread_caller()
        options = replace(self._options, store=self._store, store_root=self._root)
        self._started.add("sweep", tidy.sweep_in_background(self._root).set)
        keeper = _share_keeper(self._crawler, self.config)
        limits = Limits(options, keeper)
        self._bridge = Bridge(
            options,
            limits,
            threads=self.config.threads,
            deliver=deliver,
            answered=self._stats.tally.answered,
        )
        if keeper is not None:
            keeper.serve(limits.uses, limits.settled)
            self._started.add("shares of hosts", keeper.stop)
            keeper.start()
        self._started.add("downloads", self._bridge.stop)
        self._bridge.start()
        hold = self._hold = scrapy_engine.ClosingHold(self._crawler)
        self._started.add("closing hold", hold.release)
        if self.config.mode == "queue" and not self.is_trial:
            self._open_dashboard()
            self._consumer = self._open_consumer(hold, self._bridge, limits, feeds)
        ask_queued = self._consumer.ask_queued if self._consumer is not None else None
        self._progress = ProgressReport(self._crawler, self.config, self._bridge, ask_queued)
        self._started.add("progress", self._progress.finish)
        ticker = scrapy_engine.every(TICK, lambda: self._guard(self._tick))
        self._started.add("ticker", ticker.stop)
        logger.debug("Downloads go to %s", without_password(self.config.store))

    def _open_consumer(
        self, hold: scrapy_engine.ClosingHold, bridge: Bridge, limits: Limits, feeds: FeedAcks | None
    ) -> Consumer:
        try:
            consumer = Consumer(
                self._crawler,
                self.config,
                self.items_key,
                bridge,
                limits,
                self._deliver,
                stats=self._stats,
                item_types=self._item_types,
                problem_of_type=self.problem_of_type,
                announce=self._announce,
                new_download=self.new_download,
                wake=hold.wake_idle_check,
                feeds=feeds,
                admit=self.admit,
                root=self._root,
            )
        except ValueError as error:  # of make_client and ItemQueue, which have sentences
            raise Unusable(str(error)) from error
        self._started.add("queue", consumer.close)
        consumer.open()
        return consumer

    def _open_feeds(self) -> FeedAcks | None:
        """Keep other processes from the files of our feeds. Raises ConfigError where another has them."""
        exporter = exporter_of(self._crawler)
        if exporter is None or self.config.mode == "inline" or self.is_trial:
            return None
        files = FeedFiles()
        files.claim(exporter, starts_again=self.starts_again)
        self._crawler.signals.connect(files.release, signals.engine_stopped, weak=False)
        if self.config.ack == "item":
            return None
        self._feeds_closed = Deferred()
        self._crawler.signals.connect(self._exporter_closed, signals.feed_exporter_closed)
        return FeedAcks(exporter)

    def _exporter_closed(self) -> None:
        if self._feeds_closed is not None and not self._feeds_closed.called:
            self._feeds_closed.callback(None)

    def _open_dashboard(self) -> None:
        """Serve the live page where that is asked for. Its questions to Redis go over a client of its own."""
        if not self.config.dashboard:
            return
        from scrapy_chunkdl.dashboard.board import Board  # a crawl without a page need not load a web server
        from scrapy_chunkdl.dashboard.server import new_app
        from scrapy_chunkdl.dashboard.serving import DashboardThread

        client = _client(self._crawler)
        self._started.add("client of the page", client.close)
        board = Board()
        board.add(self.spider.name, self.items_key, client, self.config)
        host, port = self.config.dashboard_address
        thread = DashboardThread(new_app(board, host, self.config.dashboard_token), host, port)
        thread.start()
        self._started.add("page", thread.stop)

    def spider_idle(self) -> None:
        """Keep the spider open while the list, the delayed items or this process hold work."""
        if self._consumer is not None and self.ends:
            self._consumer.end_outage()
        if self._inline or (self._consumer is not None and self._consumer.may_have_work()):
            raise DontCloseSpider

    async def spider_closed(self) -> None:
        """Stop everything that :meth:`spider_opened` started. What was claimed was finished or handed back before."""
        if self._feeds_closed is not None and self._consumer is not None:
            await maybe_deferred_to_future(self._feeds_closed)
            self._consumer.feeds_closed()
            await maybe_deferred_to_future(self._last_acks)
        self._started.undo()

    def _tick(self) -> None:
        assert self._hold is not None
        if self._hold.is_closing:
            self._close_gracefully()
            return
        if self._progress is not None:
            self._progress_guard(self._progress.tick)
        if self._may_be_idle:  # looked at a tick later, when the item has left the pipelines
            self._may_be_idle = False
            self._hold.wake_idle_check()
        if self._consumer is not None:
            self._consumer.tick()

    def _close_gracefully(self) -> None:
        """Give running files their grace, then hand back what is left, then let the spider close."""
        assert self._hold is not None
        assert self._bridge is not None
        if self._closing_since is None:
            self._closing_since = time.monotonic()
            self._say_what_is_finished(self._bridge.running())
            if self._consumer is not None:
                self._consumer.stop_claiming()
        elapsed = time.monotonic() - self._closing_since
        if elapsed >= self.config.shutdown_grace and not self._grace_is_over:
            self._grace_is_over = True
            if self._consumer is not None:
                self._consumer.hand_back()
        if self._grace_is_over:
            for download in list(self._inline):  # these items have nowhere to go back to: they go on without
                self._bridge.cancel(download.jobs)
        settled = self._consumer is None or self._consumer.is_settled(self._grace_is_over)
        is_over = settled and self._feeds_closed is not None and self._feeds_closed.called
        if is_over and not self._last_acks.called:
            self._last_acks.callback(None)
        settled = settled and (self._grace_is_over or not self._announce.pending)
        if settled and self._hold.is_scraper_idle:
            self._hold.release()

    def _say_what_is_finished(self, files: int) -> None:
        if not files:
            return
        held = len(self._inline) if self._consumer is None else self._consumer.downloading
        rest = (
            "their items go on without them" if self._consumer is None else f"their items go back to {self.items_key}"
        )
        logger.info(
            "%d files of %d items have %g s (CHUNKDL_SHUTDOWN_GRACE) to end, then %s. Ctrl-C again stops at once.",
            *(files, held, self.config.shutdown_grace, rest),
        )


def _new_headers(renewed: Request, attachment: Attachment) -> dict[str, str]:
    """Return the headers of a renewed link that its attachment has not, or has with another value."""
    return {name: value for name, value in sent_headers(renewed).items() if attachment.headers.get(name) != value}


def _item_types(crawler: Crawler, config: Config) -> ItemTypes:
    """Know the item classes of the spider's project and those the settings name. Raises ConfigError."""
    named = []
    for entry in config.item_classes:
        try:
            cls = load_object(entry)
        except (ImportError, NameError, ValueError) as error:
            raise ConfigError(f"CHUNKDL_ITEM_CLASSES has {entry!r}, which cannot be imported: {error}") from error
        named.append(cls)
    return ItemTypes([*item_classes_of(type(crawler.spider)), *named])


def _items_key(crawler: Crawler, config: Config) -> str:
    assert crawler.spider is not None
    return config.items_key % {"spider": crawler.spider.name}


def _share_keeper(crawler: Crawler, config: Config) -> ShareKeeper | None:
    """Return what keeps the limits per host over all processes, where that is asked for."""
    limit = config.cluster_concurrent_chunks_per_host
    if not limit:
        return None
    return ShareKeeper(HostShares(_client(crawler), limit=limit, lease=config.lease))


def _client(crawler: Crawler) -> Any:
    try:
        return make_client(crawler.settings)
    except ValueError as error:
        raise Unusable(str(error)) from error


def _open_store(crawler: Crawler, config: Config) -> Store | None:
    """Return the store CHUNKDL_STORE names, None for a local folder. Raises ConfigError."""
    scheme, is_uri, _ = config.store.partition("://")
    if not is_uri:
        return ContentStore(Path(config.store)) if config.naming == "content" else None
    if (own := (config.stores or {}).get(scheme.lower())) is not None:
        try:
            store: Store = build_from_crawler(load_object(own), crawler, config.store)
        except Exception as error:
            kind = type(error).__name__
            raise Unusable(
                f"CHUNKDL_STORES: the store of {scheme}:// cannot be made ({kind}: {error}).", STORE_UNUSABLE
            ) from error
        return store
    try:
        return open_store(config.store, crawler.settings)
    except MissingExtra as error:
        raise Unusable(f"CHUNKDL_STORE: {error}", STORE_UNUSABLE) from error
    except StoreUnusable as error:
        raise Unusable(f"CHUNKDL_STORE: {error}.", STORE_UNUSABLE) from error


def _local_root(config: Config, store: Store | None) -> Path:
    """Return the folder in which files are while they are incomplete; in a plain local store they stay there."""
    if store is None:
        return Path(config.store).absolute()
    return store.parts if isinstance(store, ContentStore) else work_folder(PARTS_FOLDER, config.work_folder)


def _check_usable(name: str, root: Path, store: Store | None) -> None:
    """Find out before the first item whether files can be kept, or all of them would be given up one by one."""
    setting = "CHUNKDL_WORK_FOLDER" if "://" in name else f"CHUNKDL_STORE = {name!r}"
    try:
        require_writable(root, setting)
    except ConfigError as error:
        raise Unusable(str(error), STORE_UNUSABLE) from error
    if store is not None:
        try:
            answer_of(lambda: store.find(CHECK_KEY))
        except Exception as error:
            raise Unusable(
                f"CHUNKDL_STORE = {without_password(name)!r} cannot be used: {error}.", STORE_UNUSABLE
            ) from error


def _refuse_rivals(crawler: Crawler, config: Config) -> None:
    """A FilesPipeline or ImagesPipeline on our fields would meet our results in place of URLs, or write over them."""
    assert crawler.engine is not None
    for pipeline in getattr(crawler.engine.scraper.itemproc, "middlewares", ()):
        if not isinstance(pipeline, FilesPipeline):
            continue
        for kind in ("files", "images"):
            name = type(pipeline).__qualname__
            if getattr(pipeline, f"{kind}_urls_field", None) in config.attachments:
                field = getattr(pipeline, f"{kind}_urls_field")
                raise Unusable(
                    f"ITEM_PIPELINES has {name}, which takes the URLs of the field {field!r}, as CHUNKDL_ATTACHMENTS "
                    "does: remove it, or give one of them another field."
                )
            if config.files_field is not None and getattr(pipeline, f"{kind}_result_field", None) == config.files_field:
                raise Unusable(
                    f"ITEM_PIPELINES has {name}, which writes its results into the field {config.files_field!r}, as "
                    f"CHUNKDL_FILES_FIELD says: remove it, or give one of them another field."
                )


def _options(crawler: Crawler, config: Config) -> Options:
    polite = politeness(crawler.settings, crawler.spider, config)
    for line in (polite.told() if polite.because else None, told_of_middlewares(crawler)):
        if line is not None:
            logger.info("%s", line)
    options = Options(
        chunk_size=config.chunk_size,
        files=config.concurrent_files,
        chunks_per_file=config.concurrent_chunks_per_file,
        chunks_per_host=polite.chunks_per_host,
        delay=polite.delay_s,
        retry_times=config.retry_times,
        retry_codes=config.retry_http_codes,
        connect_timeout=config.connect_timeout,
        stall_timeout=config.stall_timeout,
        max_file_size=config.max_file_size,
        max_rate=config.max_rate,
        max_rate_per_host=config.max_rate_per_host,
        checksum=config.checksum,
        expires=config.expires * 86400,
        probe=config.probe,
        check_type=config.check_type,
        verify_tls=config.verify_tls,
        allowed_hosts=config.allowed_hosts,
        block_private_addresses=config.block_private_addresses,
    )
    return as_the_spider(crawler, config, options)


def _refuse_no_add_on(crawler: Crawler, config: Config) -> None:
    """It is the add-on that starts the embedded server and sets REDIS_URL."""
    if config.embedded_redis and not crawler.settings.get("REDIS_URL") and not crawler.settings.get("REDIS_HOST"):
        raise ConfigError(
            f"CHUNKDL_EMBEDDED_REDIS = {config.embedded_redis!r}, but what starts it is the add-on: set "
            'ADDONS = {"scrapy_chunkdl.Addon": 100}.'
        )


def _refuse_open_dashboard(config: Config) -> None:
    from scrapy_chunkdl.dashboard.guard import Unusable, check

    try:
        check(config.dashboard_address[0], config.dashboard_token)
    except Unusable as error:
        raise ConfigError(f"CHUNKDL_DASHBOARD = {config.dashboard!r}: {error}.") from error


def _refuse_another_serializer(crawler: Crawler, config: Config) -> None:
    """What scrapy-redis' RedisPipeline would write into the list has to be JSON: else all of it would be unreadable."""
    name, key = crawler.settings.get("REDIS_ITEMS_SERIALIZER"), _items_key(crawler, config)
    if not name or key != _redis_items_key(crawler):
        return
    try:
        is_json = json.loads(load_object(name)({"a": [1]})) == {"a": [1]}
    except Exception:  # noqa: BLE001 -- the project's: whatever it raises, it is no JSON
        is_json = False
    if not is_json:
        raise ConfigError(
            f"REDIS_ITEMS_SERIALIZER = {name!r} does not write JSON, and items wait in {key} as JSON: remove it, or "
            "set CHUNKDL_ITEMS_KEY to a list of its own."
        )


def _redis_items_key(crawler: Crawler) -> str:
    assert crawler.spider is not None
    key: str = crawler.settings.get("REDIS_ITEMS_KEY", "%(spider)s:items") % {"spider": crawler.spider.name}
    return key


def _refuse_endless_loop(crawler: Crawler, config: Config) -> None:
    """scrapy-redis' RedisPipeline behind us would push each finished item to the list it was claimed from."""
    items_key = _items_key(crawler, config)
    for path, order in crawler.settings.getwithbase("ITEM_PIPELINES").items():
        if order is None or not issubclass(load_object(path), RedisPipeline):
            continue
        if _redis_items_key(crawler) == items_key:
            raise ConfigError(
                f"ITEM_PIPELINES has {path}, which pushes finished items to {items_key}, the list they are claimed "
                "from: they would go round for ever. Remove it (ChunkDownloadPipeline queues items itself), or set "
                "CHUNKDL_DONE_KEY to collect finished items, or CHUNKDL_ITEMS_KEY to another list."
            )
