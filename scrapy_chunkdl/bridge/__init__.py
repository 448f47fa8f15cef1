"""Where downloads run: threads with a loop each, and which file starts when and where.

Knows no items, no Redis, no Scrapy. Called by the crawl.
"""
