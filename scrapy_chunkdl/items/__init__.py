"""What an item may hold, and how it waits as JSON.

Knows values, item types and attachments; nothing of crawls or of files. The crawl calls it, and whatever shows items.
"""
