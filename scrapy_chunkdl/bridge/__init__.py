"""Where downloads run: threads with a loop each, and which file starts when and where.

Knows the downloader; nothing of items, Redis or Scrapy. The crawl calls it; what is told of running files reads it.
"""
