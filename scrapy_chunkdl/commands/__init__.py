"""``scrapy chunkdl``: workers that only download, the state of the queues, and what was given up.

Knows the command line and a project's settings; the numbers are those of ``queue/``, the work is the extension's.
Scrapy calls it: for each of its commands, ``scrapy list`` included, it
imports :mod:`scrapy_chunkdl.commands.chunkdl`, alone.
"""
