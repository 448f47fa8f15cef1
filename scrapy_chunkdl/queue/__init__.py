"""The leased queue: Redis only. Knows lists, leases and payloads as bytes; nothing of Scrapy, items or downloads."""
