"""Pipelines that hold an item until a test opens the gate, a FIFO named in GATE: a project's ``support``."""

from __future__ import annotations

GATED = """
import threading

from scrapy.utils.defer import maybe_deferred_to_future
from twisted.internet.defer import Deferred

from scrapy_chunkdl.crawl.scrapy_engine import thread_caller

class Gated:
    @classmethod
    def from_crawler(cls, crawler):
        self = cls()
        self.gate = crawler.settings["GATE"]
        return self

class Slow(Gated):
    '''Waits for the gate as a pipeline should: Scrapy goes on meanwhile.'''

    async def process_item(self, item, spider=None):
        print("IN THE PIPELINE", flush=True)
        fired = Deferred()
        call = thread_caller()

        def wait():
            open(self.gate).read()
            call(lambda: fired.callback(None))

        threading.Thread(target=wait, daemon=True).start()
        await maybe_deferred_to_future(fired)
        return item

class Blocking(Gated):
    '''Waits for the gate as a pipeline should not: nothing else happens on Scrapy's thread.'''

    def process_item(self, item, spider=None):
        print("IN THE PIPELINE", flush=True)
        open(self.gate).read()
        return item
"""
