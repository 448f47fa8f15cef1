"""One crawl, on Scrapy's thread: what opens and closes when, and what becomes of an item.

Knows Scrapy and items; downloads go through the bridge, Redis through ``queue/``. The faces at the root and the
commands call it.
"""
