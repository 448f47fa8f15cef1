"""``scrapy chunkdl failed``: lists items that were set aside, puts them back, or drops them.

Knows how a record is shown; what is done with it is :mod:`scrapy_chunkdl.queue.dead_letters`. Reads page by page: there
may be a hundred thousand.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from scrapy.settings import BaseSettings

from scrapy_chunkdl.commands.queues import SpiderQueue, opened
from scrapy_chunkdl.items.shown import as_dict
from scrapy_chunkdl.queue.dead_letters import DeadLetter, DeadLetters, everything
from scrapy_chunkdl.text.masking import printable, shown_url

MOST_GROUPS = 40
"""Reasons and hosts told at the end: as many as a terminal shows."""


def run(settings: BaseSettings, opts: argparse.Namespace) -> int:
    """Do what the options say, and return the exit code."""
    with opened(settings, opts.spider) as [queue]:
        if opts.dead:
            items = DeadLetters.dead(queue.client, queue.key)
        else:
            items = DeadLetters.failed(queue.client, queue.key, queue.above)
        wanted = _wanted(opts)
        if opts.action == "retry":
            _say(items.put_back(wanted), f"put back into {queue.key}", as_json=opts.json)
        elif opts.action == "drop":
            _say(items.drop(wanted), "dropped", as_json=opts.json)
        else:
            _list((item for item in items if wanted(item)), queue, as_json=opts.json)
    return 0


def _wanted(opts: argparse.Namespace) -> Callable[[DeadLetter], bool]:
    checks: list[Callable[[DeadLetter], bool]] = []
    if opts.match:
        checks.append(lambda item: item.mentions(opts.match))
    if opts.reason:
        checks.append(lambda item: opts.reason in item.reasons)
    if opts.host:
        host = opts.host.lower()
        checks.append(lambda item: any(name == host or name.endswith(f".{host}") for name in item.hosts))
    return (lambda item: all(check(item) for check in checks)) if checks else everything


def _say(count: int, done: str, *, as_json: bool) -> None:
    print(json.dumps({"items": count}) if as_json else f"{_counted(count, 'item')} {done}.")


def _list(items: Iterator[DeadLetter], queue: SpiderQueue, *, as_json: bool) -> None:
    shown = files = 0
    groups: Counter[tuple[str, str]] = Counter()
    for item in items:
        told = as_dict(item, queue.config)
        print(json.dumps(told) if as_json else "\n".join(_lines(told)))
        shown += 1
        files += len(told["files"])
        groups.update((str(file["reason"]), _host(file.get("url"))) for file in told["files"] if file.get("reason"))
    if not as_json:
        for (reason, host), count in groups.most_common(MOST_GROUPS):
            print(printable(f"{count:6} {reason} {host}".rstrip()))
        if len(groups) > MOST_GROUPS:
            print(f"       … and {len(groups) - MOST_GROUPS} more reasons and hosts")
        print(f"{_counted(shown, 'item')}, {_counted(files, 'file')}.")


def _host(url: object) -> str:
    """Return where a file was to come from, "" where that makes no sense."""
    with suppress(ValueError):
        return urlsplit(str(url or "")).hostname or ""
    return ""


def _lines(told: dict[str, Any]) -> Iterator[str]:
    for number, file in enumerate(told["files"]):
        words = [file.get("time"), file.get("reason"), file.get("url") or file.get("filename")]
        yield ("  " if number else "- ") + printable("  ".join(str(word) for word in words if word))
        if file.get("message"):
            url = shown_url(str(file.get("url") or "\n"))
            yield "      " + printable(str(file["message"])).replace(url, "it", 1)
    if told["files"] and told["dead"] and "reason" in told["files"][0]:
        yield "      The item is in :dead, see --dead."
    if "text" in told:
        yield "- " + printable(told["text"])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
