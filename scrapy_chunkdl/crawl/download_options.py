"""What the downloader is told for the whole of a crawl: our settings, those for pages, and who the spider is.

Knows settings; nothing of single files. Called once, by the lifecycle.
"""

from __future__ import annotations

import logging

from scrapy.crawler import Crawler

from scrapy_chunkdl.crawl.politeness import host_rules, politeness
from scrapy_chunkdl.crawl.spider_identity import as_the_spider, sentence_on_middlewares
from scrapy_chunkdl.download import Options
from scrapy_chunkdl.download.disk.room import Reserve
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.storage import object_openers

logger = logging.getLogger(__name__)


def options_of(crawler: Crawler, config: Config) -> Options:
    """Return the options of a crawl, and say what of them may surprise. Raises ConfigError."""
    polite = politeness(crawler.settings, crawler.spider, config)
    for line in (polite.sentence() if polite.because else None, _sentence_on_middlewares(crawler, config)):
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
        keep_free=Reserve.of_setting(config.min_free),
        max_rate=config.max_rate,
        max_rate_per_host=config.max_rate_per_host,
        host_rules=host_rules(crawler.settings, config),
        checksum=config.checksum,
        expires=config.expires * 86400,
        probe=config.probe,
        check_type=config.check_type,
        verify_tls=config.verify_tls,
        allowed_hosts=config.allowed_hosts,
        block_private_addresses=config.block_private_addresses,
        sftp_login=(config.sftp_user, config.sftp_password) if config.sftp_user else None,
        sftp_key=config.sftp_key,
        sftp_known_hosts=config.sftp_known_hosts,
        openers=object_openers(crawler.settings),
    )
    return as_the_spider(crawler, config, options)


def _sentence_on_middlewares(crawler: Crawler, config: Config) -> str | None:
    return None if "*" in config.via_scrapy else sentence_on_middlewares(crawler)
