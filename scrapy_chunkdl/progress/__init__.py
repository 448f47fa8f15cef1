"""How far the downloads are, told on a terminal, in the log or through a pipe.

Reads; changes nothing. Called by the crawl and the commands.
"""
