"""Which bytes of a file are asked for by which request.

Knows the ways a file comes: ranges, one stream, one small answer. Called by the transfer.
"""
