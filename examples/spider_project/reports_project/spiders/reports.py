"""Crawls a small archive of public reports: index, one page a year, and the files those link to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from scrapy.http import Response, TextResponse
from scrapy_redis.spiders import RedisSpider


class ReportsSpider(RedisSpider):
    """Waits for start URLs in the Redis list ``reports:start_urls``.

    It has neither ``start_urls`` nor ``start()``: RedisSpider takes the URLs from Redis whenever the spider is idle, as
    JSON objects such as ``{"url": "https://example.com/"}``.
    """

    name = "reports"

    def parse(self, response: Response) -> Iterator[Any]:
        """Follow the index to the years."""
        assert isinstance(response, TextResponse)
        for link in response.css("a.year::attr(href)").getall():
            yield response.follow(link, self.parse_year)

    def parse_year(self, response: Response) -> Iterator[dict[str, Any]]:
        """Make one item of each report, with its attachments; their files come later and elsewhere."""
        assert isinstance(response, TextResponse)
        now = datetime.now(timezone.utc).strftime("%Y%m%d %H:%M:%S")
        for report in response.css("li.report"):
            yield {
                "crawl_time": now,
                "version": response.css("h1::attr(data-version)").get(),
                "data": [
                    {
                        "title": report.css("h2::text").get(),
                        "attachments": [
                            {
                                "ori_url": response.urljoin(link.attrib["href"]),
                                "path": "",
                                "filename": link.css("::text").get(),
                            }
                            for link in report.css("a.file")
                        ],
                    }
                ],
            }
