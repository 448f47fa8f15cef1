"""How full Redis' memory is, by its own word. Knows INFO; nothing of what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.cluster import RedisCluster

from scrapy_chunkdl.queue import untrusted


@dataclass(frozen=True, slots=True)
class Memory:
    """What Redis uses of what it may use, in bytes. ``most_bytes`` is 0 where it may use all there is."""

    used_bytes: int
    most_bytes: int
    evicts: bool = False

    @property
    def share(self) -> float:
        """The part of it that is in use; 0 where there is no limit, or where Redis makes room by itself."""
        return 0.0 if self.evicts or not self.most_bytes else self.used_bytes / self.most_bytes


def look_at_memory(client: Any, key: str) -> Memory:
    """Ask the server that has ``key``. Raises what :data:`scrapy_chunkdl.queue.errors.REDIS_ERRORS` names."""
    if isinstance(client, RedisCluster):
        told = client.info("memory", target_nodes=client.get_node_from_key(key))  # type: ignore[no-untyped-call]
    else:
        told = client.info("memory")
    fields: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    used, most = (untrusted.count(fields.get(name)) or 0 for name in ("used_memory", "maxmemory"))
    return Memory(used, most, evicts=fields.get("maxmemory_policy", "noeviction") != "noeviction")
