"""The live page for operators: what the queues and their processes do, and what may be asked of them.

Knows HTTP, queues and who may do what; nothing of the crawl it may run beside. A crawl and the commands call it.
"""
