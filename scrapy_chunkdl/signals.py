"""Signals of scrapy-chunkdl, sent on Scrapy's thread like Scrapy's own. Receivers may be coroutines.

Connect them with ``crawler.signals.connect(receiver, signals.attachment_downloaded)``. What each of them carries is in
docs/hooks.md. Nothing here but their names.
"""

from __future__ import annotations

attachment_downloaded = object()
attachment_failed = object()
item_claimed = object()
item_finished = object()
