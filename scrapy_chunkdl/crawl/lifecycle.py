"""What opens and closes when, in one crawl: from reading the settings to the last ack.

Knows Scrapy's signals and the order in which things start and stop, undoing what was started when a later step fails.
What happens to a claimed item is the consumer's, what happens to its files is the bridge's. Called by the faces: the
extension, for Scrapy's signals, and the pipeline, which brings the project's hooks; all on Scrapy's thread.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import DontCloseSpider, NotConfigured
from scrapy.utils.defer import maybe_deferred_to_future
from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.crawl import checks, refusal, scrapy_engine
from scrapy_chunkdl.crawl.budget import Budget
from scrapy_chunkdl.crawl.disk_gate import DiskGate
from scrapy_chunkdl.crawl.download_options import options_of
from scrapy_chunkdl.crawl.feeds import FeedAcks, FeedFiles, exporter_of, name_process, watch_refusals
from scrapy_chunkdl.crawl.file_requests import FileRequests
from scrapy_chunkdl.crawl.folders import work_folder
from scrapy_chunkdl.crawl.guard import Guard, Steps
from scrapy_chunkdl.crawl.health import Health
from scrapy_chunkdl.crawl.hooks import Hooks
from scrapy_chunkdl.crawl.inline import InlineMode
from scrapy_chunkdl.crawl.intake import Intake
from scrapy_chunkdl.crawl.item_files import ItemFiles
from scrapy_chunkdl.crawl.item_log import mask_items
from scrapy_chunkdl.crawl.local_watch import LocalWatch
from scrapy_chunkdl.crawl.mode import Mode
from scrapy_chunkdl.crawl.queue_mode import QueueMode
from scrapy_chunkdl.crawl.refusal import Unusable, refusing
from scrapy_chunkdl.crawl.report_files import FOLDER, write_report
from scrapy_chunkdl.crawl.schedule import ScheduleGate
from scrapy_chunkdl.crawl.served import serve_health, serve_page
from scrapy_chunkdl.crawl.stats import Stats
from scrapy_chunkdl.crawl.stores import Place
from scrapy_chunkdl.crawl.traced import tracing
from scrapy_chunkdl.download import Limits, Options
from scrapy_chunkdl.download.disk import tidy
from scrapy_chunkdl.download.limits.shares import SharedLimits
from scrapy_chunkdl.items.types import ItemTypes, known_types
from scrapy_chunkdl.progress.printed import ProgressReport
from scrapy_chunkdl.progress.totals import RunningFile, being_finished
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.hosts import HostShares
from scrapy_chunkdl.queue.rate_shares import RateShares
from scrapy_chunkdl.queue.share_keeper import ShareKeeper
from scrapy_chunkdl.queue.start_shares import StartShares
from scrapy_chunkdl.settings.config import Config, ConfigError, attributes_of
from scrapy_chunkdl.storage import without_password

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""Seconds between looks at the list and at whether the spider is closing."""


class Lifecycle:
    """Downloads for one crawl, from ``spider_opened`` to ``spider_closed``.

    ``ends``: whether the process is to end by itself some time. ``starts_again``: whether such a process is started
    again and again on one list, so that it must not overwrite its feeds.
    """

    def __init__(
        self, crawler: Crawler, config: Config, options: Options, *, ends: bool = True, starts_again: bool = False
    ) -> None:
        assert crawler.stats is not None
        self.crawler = crawler
        self.config = config
        self.items_key = checks.lists_of(crawler, config)[-1]
        self._ends = ends
        self._starts_again = starts_again
        self._options = options
        self._stats = Stats(crawler.stats)
        self._item_types: ItemTypes = known_types(type(crawler.spider), config.item_classes)
        self._announce = scrapy_engine.Announcer(crawler)
        mask_items(crawler)
        self._place = Place(crawler, config)
        self._mode = Mode()
        self.take(Hooks())
        self._started = Steps()
        self._tick_guard = Guard("A look at the downloads")
        self._progress_guard = Guard("Showing how far the downloads are")
        self._feeds_closed: Deferred[None] | None = None
        self._last_acks: Deferred[None] = Deferred()
        self._closing_since: float | None = None
        self._grace_is_over = False
        self._ticked_at = time.monotonic()
        self._close_reason = ""

    @classmethod
    def configured(cls, crawler: Crawler, *, ends: bool, starts_again: bool) -> Lifecycle:
        """Read the settings. Raises ``NotConfigured`` when CHUNKDL_ENABLED is off, or in ``scrapy shell``.

        Where they cannot work, or ask for what is not there, that is told in a sentence, the crawl is closed before it
        begins, and ``ConfigError`` is raised.
        """
        if crawler.spider is None:
            raise NotConfigured
        with refusing(crawler):
            try:
                config = Config.read(crawler.settings, attributes_of(crawler.spider))
                if not config.enabled:
                    raise NotConfigured("CHUNKDL_ENABLED is off")
                checks.refuse_bad_settings(crawler, config)
                if config.mode == "queue":
                    name_process(crawler.spider)
                options = options_of(crawler, config)
                return cls(crawler, config, options, ends=ends, starts_again=starts_again)
            except (ConfigError, NotConfigured):
                raise
            except Exception as error:
                logger.debug("The settings could not be read", exc_info=error)
                raise Unusable(refusal.sentence_of(error), refusal.CANNOT_START) from error

    def take(self, hooks: Hooks) -> Intake:
        """Take what the project overrides, before the spider opens. Return what the items of its pipeline go to."""
        self._requests = FileRequests(self.crawler, self.config, self._options, self._place, hooks, self._stats)
        self._intake = Intake(
            lambda: self._mode,
            hooks,
            self._requests,
            self.config,
            self._stats,
            items_key=self.items_key,
            is_trial=scrapy_engine.is_trial(self.crawler),
        )
        return self._intake

    def others_may_have_work(self) -> bool:
        """Whether other processes held items of the list when it was looked at last."""
        return self._mode.others_may_have_work()

    # --- opening

    def open(self) -> None:
        """Start the threads, and look for items. Whatever raises on the way closes the crawl."""
        if refusal.is_refused(self.crawler):
            return
        try:
            self._open()
        except Exception as error:
            logger.debug("Downloads could not start", exc_info=error)
            self._started.undo()
            self._mode = Mode()
            self._feeds_closed = None  # nothing was acknowledged that a feed could lose
            refusal.refuse(self.crawler, error)
            return
        _leave_to_the_end()

    def _open(self) -> None:
        """Check what can be checked, then start one thing after the other; what lets items in and holds is last."""
        checks.refuse_rivals(self.crawler, self.config)
        checks.refuse_unusable_store(self.config, self._place.root, self._place.store)
        checks.warn_of_no_cookies(self.crawler, self.config)
        feeds = self._open_feeds()
        options = replace(self._options, store=self._place.store, store_root=self._place.root)
        sweep = tidy.Sweep(self._place.root)
        self._started.add("report of the run", self._keep_report)
        self._started.add("sweep", sweep.stop)
        sweep.start()
        keeper = self._share_keeper()
        limits = Limits(options, keeper, self._shared_limits())
        bridge = Bridge(
            options,
            limits,
            threads=self.config.threads,
            deliver=scrapy_engine.thread_caller(),
            answered=self._stats.tally.answered,
        )
        if keeper is not None:
            keeper.serve(limits.uses, limits.settled, limits.paces)
            self._started.add("shares of hosts", keeper.stop)
            keeper.start()
        self._started.add("downloads", bridge.stop)
        bridge.start()
        hold = scrapy_engine.ClosingHold(self.crawler)
        self._started.add("closing hold", hold.release)
        self._open_mode(hold, bridge, limits, feeds)
        progress = ProgressReport(self.crawler, self.config, bridge, self._mode.ask_queued, self._mode.items)
        self._started.add("progress", progress.finish)
        ticker = scrapy_engine.every(TICK_S, lambda: self._tick_guard(self._tick, hold, bridge, progress))
        self._started.add("ticker", ticker.stop)
        logger.debug("Downloads go to %s", without_password(self.config.store))

    def _open_mode(
        self, hold: scrapy_engine.ClosingHold, bridge: Bridge, limits: Limits, feeds: FeedAcks | None
    ) -> None:
        new_files = partial(
            ItemFiles, requests=self._requests, config=self.config, stats=self._stats, announce=self._announce
        )
        spider, problem_of_type = self.crawler.spider, self._requests.problem_of_type
        assert spider is not None
        disk = DiskGate(self._place.root, self._options.keep_free)
        if self.config.mode == "inline" or scrapy_engine.is_trial(self.crawler):
            hosts = LocalWatch(limits.circuits, scrapy_engine.thread_caller(), self.config.host_patience)
            schedule = ScheduleGate(self.config.schedule or (), self.config.max_rate, limits.rates.change)
            budget = Budget(self.config.budget or {})
            self._mode = InlineMode(
                *(bridge, new_files, problem_of_type, hold.wake_idle_check, disk, hosts, schedule, budget),
                tracing=tracing(spider.name, None),
            )
            if not scrapy_engine.is_trial(self.crawler):
                self._serve(hold, bridge, None)
            return
        try:
            mode = QueueMode(
                self.crawler,
                self.config,
                self.items_key,
                bridge,
                limits,
                scrapy_engine.thread_caller(),
                stats=self._stats,
                item_types=self._item_types,
                problem_of_type=problem_of_type,
                announce=self._announce,
                new_files=new_files,
                tracing=tracing(spider.name, self.items_key),
                wake=hold.wake_idle_check,
                feeds=feeds,
                admit=self._intake.admit,
                disk=disk,
                url_fields=self._requests.url_fields,
            )
        except ValueError as error:  # of make_client and ItemQueue, which have sentences
            raise Unusable(str(error)) from error
        self._started.add("queue", mode.close)
        self._mode = mode
        if (exporter := exporter_of(self.crawler)) is not None:
            watch_refusals(self.crawler, exporter, mode.refused_by_a_feed)
        self._serve(hold, bridge, mode.redis_heard_at)
        mode.open()

    def _open_feeds(self) -> FeedAcks | None:
        """Keep other processes from the files of our feeds. Raises Unusable where another has them."""
        exporter = exporter_of(self.crawler)
        if exporter is None or self.config.mode == "inline" or scrapy_engine.is_trial(self.crawler):
            return None
        files = FeedFiles()
        files.claim(exporter, starts_again=self._starts_again)
        self.crawler.signals.connect(files.release, signals.engine_stopped, weak=False)
        if self.config.ack == "item":
            return None
        self._feeds_closed = Deferred()
        self.crawler.signals.connect(self._exporter_closed, signals.feed_exporter_closed)
        return FeedAcks(exporter)

    def _exporter_closed(self) -> None:
        if self._feeds_closed is not None and not self._feeds_closed.called:
            self._feeds_closed.callback(None)

    def _shared_limits(self) -> SharedLimits:
        config = self.config
        return SharedLimits(config.cluster_max_rate, config.cluster_max_rate_per_host, config.cluster_download_delay)

    def _share_keeper(self) -> ShareKeeper | None:
        """Return what keeps the limits over all processes, where any is asked for."""
        limit, shared = self.config.cluster_concurrent_chunks_per_host, self._shared_limits()
        if not (limit or any(shared)):
            return None
        rates, starts = RateShares(shared.rate, shared.rate_per_host), StartShares(shared.delay_s)
        shares = HostShares(self._client(), limit=limit, lease=self.config.lease, rates=rates, starts=starts)
        return ShareKeeper(shares)

    def _serve(self, hold: scrapy_engine.ClosingHold, bridge: Bridge, redis_heard: Callable[[], float] | None) -> None:
        """Serve the page and the probes where they are asked for."""
        health = Health(
            lambda: self._ticked_at, bridge.loops_turned, redis_heard, lambda: hold.is_closing, self.config.lease
        )
        serve_health(self.config, health, self._started)
        if redis_heard is not None:
            assert self.crawler.spider is not None
            spider = self.crawler.spider.name
            serve_page(self.config, spider, self.items_key, self._client, health, self._started)

    def _keep_report(self) -> None:
        """Write what this run did, where it had files, and say where that is."""
        report = self._stats.report
        if report.is_empty:
            return
        assert self.crawler.spider is not None
        told = report.as_dict(self.crawler.spider.name, time.time(), self._close_reason)
        path = write_report(work_folder(FOLDER, self.config.work_folder), told)
        if path is not None:
            logger.info("Report of this run: %s (and as a page, .html)", path)

    def _client(self) -> Any:
        try:
            return make_client(self.crawler.settings)
        except ValueError as error:
            raise Unusable(str(error)) from error

    # --- while the spider is open, and closing

    def idle(self) -> None:
        """Keep the spider open while the list, the delayed items or this process hold work: raise DontCloseSpider."""
        self._mode.rest(ends=self._ends)
        self._stats.hand_over()
        if self._mode.may_have_work():
            raise DontCloseSpider

    async def close(self, reason: str) -> None:
        """Stop everything that :meth:`open` started. What was claimed was finished or handed back before."""
        self._close_reason = reason
        if self._feeds_closed is not None:
            await maybe_deferred_to_future(self._feeds_closed)
            self._mode.feeds_closed()
            await maybe_deferred_to_future(self._last_acks)
        self._stats.hand_over()  # before Redis is told for the last time
        self._started.undo()
        self._stats.hand_over()  # what stopping counted

    def _tick(self, hold: scrapy_engine.ClosingHold, bridge: Bridge, progress: ProgressReport) -> None:
        self._ticked_at = time.monotonic()
        self._stats.hand_over()
        self._progress_guard(lambda: progress.tick(is_closing=hold.is_closing))
        if hold.is_closing:
            self._close_gracefully(hold, bridge, progress)
        else:
            self._mode.tick()

    def _close_gracefully(self, hold: scrapy_engine.ClosingHold, bridge: Bridge, progress: ProgressReport) -> None:
        """Give running files their grace, then hand back what is left, then let the spider close."""
        if self._closing_since is None:
            self._closing_since = time.monotonic()
            self._say_what_is_finished(bridge, progress.running_files())
            self._mode.stop_claiming()
        self._grace_is_over |= time.monotonic() - self._closing_since >= self.config.shutdown_grace
        if self._grace_is_over:
            self._mode.hand_back()
        settled = self._mode.is_settled(self._grace_is_over)
        if settled and self._feeds_closed is not None and self._feeds_closed.called and not self._last_acks.called:
            self._last_acks.callback(None)
        if settled and (self._grace_is_over or not self._announce.pending) and hold.is_scraper_idle:
            self._stats.hand_over()
            hold.release()

    def _say_what_is_finished(self, bridge: Bridge, running: Sequence[RunningFile]) -> None:
        """Say at once, after Ctrl-C, what is being finished, for how long at most, and what goes back."""
        files, waiting = bridge.running(), bridge.waiting()
        if waiting:
            logger.info("%d files that have not begun are left: %s.", waiting, self._mode.fate)
        if files:
            logger.info("Being finished: %s.", being_finished(running))
            logger.info(
                "%d files of %d items have %g s (CHUNKDL_SHUTDOWN_GRACE) to end, then %s. Ctrl-C again stops at once.",
                *(files, self._mode.downloading, self.config.shutdown_grace, self._mode.fate),
            )


@lru_cache(maxsize=1)
def _leave_to_the_end() -> None:
    """Keep what was imported and set up by now out of the garbage collector's rounds: 100,000 objects that stay.

    Each full round took 0.1 s, and came every 1,000 items; other threads wait meanwhile. Once in a process: what an
    earlier crawl of it left must not stay for ever.
    """
    gc.freeze()
