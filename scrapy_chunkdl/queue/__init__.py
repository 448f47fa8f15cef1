"""The leased queue: claims, leases, acks and dead letters, and what processes tell of themselves.

Knows Redis, and payloads as bytes; nothing of Scrapy, items or downloads. The crawl, the page and the commands call it.
"""
