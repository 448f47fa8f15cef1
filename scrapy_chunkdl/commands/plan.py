"""``scrapy chunkdl plan``: what would be fetched: files, bytes, what is there or refused, and how long it takes.

Asks servers by HEAD alone, within the limits that downloads would keep.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from scrapy.crawler import Crawler
from scrapy.settings import BaseSettings
from scrapy.utils.misc import load_object

from scrapy_chunkdl.commands.console import CommandError
from scrapy_chunkdl.commands.queues import opened
from scrapy_chunkdl.crawl.checks import pipelines_of
from scrapy_chunkdl.crawl.hooks import Hooks
from scrapy_chunkdl.crawl.planning import Planned, ask_servers, planned
from scrapy_chunkdl.pipelines import ChunkDownloadPipeline
from scrapy_chunkdl.queue.totals import Totals
from scrapy_chunkdl.queue.waiting import PAGE, Waiting
from scrapy_chunkdl.settings.config import ConfigError
from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.units import size_text, time_left

if TYPE_CHECKING:
    from scrapy_chunkdl.download.survey import Told

RATE_OF_DAYS = 7
"""Days whose busy hours tell how fast it goes."""

_HOUR = 3600


def run(settings: BaseSettings, spider: str, most: int, *, as_json: bool) -> int:
    """Ask, and print; return the exit code. Raises :class:`CommandError` where that cannot be done."""
    if most < 1:
        raise CommandError(f"--items {most}: it takes the number of items to look at, 1 or more.")
    with opened(settings, spider) as [queue]:
        waiting = Waiting(queue.client, queue.key, queue.above)
        total = len(waiting)
        payloads: list[bytes] = []
        while len(payloads) < min(most, total):
            page, _ = waiting.page(len(payloads), min(PAGE, most - len(payloads)))
            if not page:
                break
            payloads += [item.payload for item in page]
        hours = [hour.counts.get("received", 0) for hour in Totals(queue.client, queue.key).history(RATE_OF_DAYS)]
        spidercls = load_object(settings["SPIDER_LOADER_CLASS"]).from_settings(settings.frozencopy()).load(spider)

        async def read() -> Planned:
            return planned(spidercls, settings, queue.config, payloads, _hooks_of)

        try:
            found = asyncio.run(read())  # what goes through Scrapy is bound to the loop of a crawl
        except ConfigError as error:
            raise CommandError(str(error)) from error
    answers: list[Told] = []

    def told(one: Told) -> None:
        answers.append(one)
        if sys.stderr.isatty():
            print(f"\r{len(answers)} of {len(found.to_ask)} asked", end="", file=sys.stderr, flush=True)

    ask_servers(found, told)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    plan = _plan(spider, total, len(payloads), found.there, found.refused, answers, _rate(hours))
    print(json.dumps(plan) if as_json else _text(plan))
    return 0


def _hooks_of(crawler: Crawler) -> Hooks:
    """Return the hooks of the pipeline that a crawl would have: what is derived from ours, if the project has it."""
    ours = [cls for cls in pipelines_of(crawler) if issubclass(cls, ChunkDownloadPipeline)]
    last = [cls for cls in ours if not any(other is not cls and issubclass(other, cls) for other in ours)]
    if not last:
        return Hooks()
    pipeline = last[0].from_crawler(crawler)
    return Hooks(pipeline, ChunkDownloadPipeline, pipeline.spiderinfo)


def _rate(hours: list[int]) -> float | None:
    busy = [received for received in hours if received]
    return sum(busy) / (len(busy) * _HOUR) if busy else None


def _plan(
    spider: str,
    total: int,
    looked_at: int,
    there: int,
    refused: dict[str, int],
    answers: list[Told],
    rate: float | None,
) -> dict[str, Any]:
    reasons = Counter(refused) + Counter(one.refused for one in answers if one.refused)
    size = sum(one.size_bytes or 0 for one in answers)
    coming = [one for one in answers if one.refused is None]
    return {
        "spider": spider,
        "items_waiting": total,
        "items_looked_at": looked_at,
        "files": len(coming),
        "bytes": size,
        "files_of_unknown_size": sum(one.size_bytes is None for one in coming),
        "there_already": there,
        "refused": dict(reasons.most_common()),
        "bytes_per_second": rate and round(rate),
        "seconds": rate and round(size / rate),
    }


def _text(plan: dict[str, Any]) -> str:
    if not plan["items_waiting"]:
        return printable(f"{plan['spider']}: no item waits, so nothing would be fetched")
    lines = [
        printable(f"{plan['spider']}: {plan['items_looked_at']} of {plan['items_waiting']} waiting items looked at"),
        f"  {plan['files']} files to fetch, {size_text(plan['bytes'])}"
        + (f", {plan['files_of_unknown_size']} of them of unknown size" if plan["files_of_unknown_size"] else ""),
        *(
            [f"  {plan['there_already']} are there already: their servers are asked whether they have changed"]
            if plan["there_already"]
            else []
        ),
        *(f"  {count} refused: {printable(reason)}" for reason, count in plan["refused"].items()),
    ]
    if plan["bytes_per_second"]:
        left = time_left(plan["bytes"], plan["bytes_per_second"])
        lines.append(f"  {left} at {size_text(plan['bytes_per_second'])}/s, as in the busy hours of the last week")
    else:
        lines.append("  nobody can tell how long it takes: nothing was fetched in the last week")
    return "\n".join(lines)
