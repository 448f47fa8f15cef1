"""How far the downloads are: printed on a terminal and in the log, or told to a supervisor through a pipe.

Knows stats and the bridge, which it reads; changes nothing. The crawl and the commands call it.
"""
