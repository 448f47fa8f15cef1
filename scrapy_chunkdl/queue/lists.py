"""The lists of one queue: its own, which names all its keys, and those that are claimed before it, first one first.

A claim takes from the first list that has items, but every tenth item from one of those behind it, in turn, so that
none starves (``lua/claim.lua``). An item goes back into the list it came from. Knows names of lists; nothing of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.cluster import RedisCluster
from redis.crc import key_slot


def check_lists(client: Any, key: str, above: Sequence[str], done_key: str | None = None) -> None:
    """Raise ValueError for lists that are the same, or that no script can reach together, as a Cluster has them apart.

    ``done_key`` is the list of what is done: among those that are claimed from, its items would go round for ever.

    All keys that a script touches have to hash to one slot (Redis Cluster specification, hash tags).
    """
    lists = [*above, key]
    if len(set(lists)) < len(lists):
        raise ValueError(f"The lists {', '.join(lists)} are to differ: name each once, the first to be claimed first.")
    if done_key in lists:
        raise ValueError(
            f"CHUNKDL_DONE_KEY = {done_key!r} is a list that items are claimed from, and would go round for ever in: "
            "name another."
        )
    if not isinstance(client, RedisCluster):
        return
    slot = key_slot(key.encode())
    if apart := [name for name in above if key_slot(name.encode()) != slot]:
        raise ValueError(
            f"The list {apart[0]!r} is in another slot of the Redis Cluster than {key!r}: all lists of one queue need "
            "the same hash tag, such as '{reports}:urgent' and '{reports}:items'."
        )


def above_of(above: Sequence[str], priority: int) -> str | None:
    """Return the list for items of a priority: so many before the queue's own, the first at most; None: its own."""
    return above[max(0, len(above) - priority)] if above and priority > 0 else None
