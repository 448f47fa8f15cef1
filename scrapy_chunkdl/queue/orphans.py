"""Leases of processes that are known to be dead: ended at once, where one would else wait for them to run out.

Knows the keys of leases; nothing of who knows that their holders are dead.
"""

from __future__ import annotations

from typing import Any

_LEASES = "*{*}*:leases"
"""What the keys of :class:`~scrapy_chunkdl.queue.item_queue.ItemQueue` match: they all have a hash tag."""


def end_all_leases(client: Any) -> int:
    """End every lease of every list, and return how many. Only for who knows that nobody holds any, and nobody claims.

    ``client`` is a redis-py client. The deliveries count, as they do where a lease ran out: a process died with each.
    """
    ended = 0
    for key in client.scan_iter(match=_LEASES, count=1000, _type="zset"):
        ids = client.zrange(key, 0, -1)
        if ids:
            client.zadd(key, dict.fromkeys(ids, 0), xx=True)
        ended += len(ids)
    return ended
