"""``scrapy chunkdl``: workers that only download, the state of the queues, and what was given up.

Knows the command line and a project's settings; the numbers are those of ``queue/``, the work is the extension's. What
is imported for each Scrapy command, ``scrapy list`` included, is :mod:`scrapy_chunkdl.commands.chunkdl` alone.
"""
