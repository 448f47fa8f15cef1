"""scrapy-chunkdl: chunked, resumable downloads for the attachments of Scrapy items."""

__version__ = "0.1.0"
