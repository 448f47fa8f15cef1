"""``ItemQueue``: the user's Redis list with leases on top, one method per script in ``lua/``.

Knows Redis and bytes. Must not know what an item is, nor Scrapy. Safe to use from several threads.

States of an item: waiting (in the list) -> leased -> acked, delayed (-> leased again), held in ``:failed`` or dead.
Runs on Redis 5.0 and later, Valkey, and Redis Cluster: all keys of one queue hash to one slot.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

MOST_PER_CLAIM = 100
"""A claim of 100 keeps Redis busy for about 3 ms, one of 1000 blocks it for 23 ms (measured)."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased item. ``id`` is of this delivery alone; ``deliveries`` counts this one."""

    id: str
    payload: bytes
    deliveries: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many items are in each state; ``failed`` counts records, one per file given up."""

    waiting: int
    leased: int
    delayed: int
    dead: int
    failed: int


def key_prefix(key: str) -> str:
    """Return what the names of derived keys begin with, so that they hash to the slot of ``key`` (cluster spec).

    Raises ValueError for a key with braces that are no hash tag: no derived key could hash to its slot.
    """
    opening = key.find("{")
    if opening >= 0 and key.find("}", opening) > opening + 1:
        return key
    if "{" in key or "}" in key:
        raise ValueError(f"The key {key!r} has braces that are no hash tag: use a key without them, or {{tag}}.")
    return "{" + key + "}"


class ItemQueue:
    """One process's access to the queue on ``key``.

    ``client`` is a redis-py client that returns bytes. ``lease`` is in seconds. ``done_key`` is a list for finished
    items, ``failed_max`` how many records ``:failed`` keeps (0: all). Every method may raise ``redis.RedisError``.
    """

    def __init__(
        self,
        client: Any,
        key: str,
        *,
        lease: float = 60.0,
        max_deliveries: int = 5,
        done_key: str | None = None,
        failed_max: int = 0,
        token: str | None = None,
    ) -> None:
        prefix = key_prefix(key)
        self.key = key
        self.token = token or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.leases_key = f"{prefix}:leases"
        self.payload_key = f"{prefix}:payload"
        self.tries_key = f"{prefix}:tries"
        self.owner_key = f"{prefix}:owner"
        self.delayed_key = f"{prefix}:delayed"
        self.dead_key = f"{prefix}:dead"
        self.failed_key = f"{prefix}:failed"
        self.pushes_key = f"{prefix}:pushes"
        self._client = client
        self._lease_ms = max(1, round(lease * 1000))
        self._max_deliveries = max_deliveries
        self._done_key = done_key
        self._failed_max = failed_max
        self._claim, self._renew, self._ack, self._retry, self._fail, self._push = (
            self._script(name) for name in ("claim", "renew", "ack", "retry", "fail", "push")
        )

    def push(self, payloads: Sequence[bytes], number: int) -> None:
        """Append items. A second push with the ``number`` of the last one does nothing."""
        self._push(keys=[self.key, self.pushes_key], args=[self.token, number, *payloads])

    def claim(self, n: int, id_prefix: str) -> list[Claimed]:
        """Lease up to ``n`` items, 100 at most; the same ``id_prefix`` again gives the same batch.

        Items over the delivery limit go to ``:dead`` on the way, so fewer than ``n`` may come though more wait.
        """
        keys = [self.key, self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.delayed_key]
        arguments = [min(n, MOST_PER_CLAIM), self._lease_ms, self.token, id_prefix, self._max_deliveries]
        _, *flat = self._claim(keys=[*keys, self.dead_key], args=arguments)
        return [
            Claimed(item_id.decode(), payload, int(deliveries))
            for item_id, deliveries, payload in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]

    def renew(self, ids: Iterable[str]) -> list[str]:
        """Make leases last from now again; return the ids that are lost."""
        lost = self._renew(keys=[self.leases_key, self.owner_key], args=[self.token, self._lease_ms, *ids])
        return [item_id.decode() for item_id in lost]

    def ack(self, finished: Iterable[tuple[str, bytes | None]]) -> list[str]:
        """Forget items that are done; push what is given with them to the done list. Return the ids that were ours."""
        arguments: list[str | bytes | int] = [self.token]
        for item_id, payload in finished:
            arguments += [item_id, 0 if payload is None else 1, payload or b""]
        keys = [self.leases_key, self.payload_key, self.tries_key, self.owner_key, self._done_key or self.owner_key]
        return [item_id.decode() for item_id in self._ack(keys=keys, args=arguments)]

    def retry(self, item_id: str, delay: float) -> bool:
        """Give an item back, to be claimed after ``delay`` seconds. False if it was not ours any more."""
        return bool(self._give_back([item_id], delay, refund=False))

    def release(self, ids: Sequence[str]) -> list[str]:
        """Give items back at once, their delivery not counted. Return the ids that were ours."""
        return self._give_back(ids, 0.0, refund=True)

    def fail(self, item_id: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Record files given up of an item that goes on. False if it was not ours any more."""
        return self._record(item_id, "keep", records)

    def hold(self, item_id: str, records: Sequence[Mapping[str, Any]]) -> bool:
        """Record files given up and end the lease: the item waits in its records. False if it was not ours."""
        return self._record(item_id, "hold", records)

    def bury(self, item_id: str, record: Mapping[str, Any]) -> bool:
        """Move an item that cannot be understood to ``:dead``, byte for byte, and record why. False if not ours."""
        return self._record(item_id, "bury", [record])

    def counts(self) -> Counts:
        """Count the items in each state, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        pipe.llen(self.key).zcard(self.leases_key).zcard(self.delayed_key).llen(self.dead_key).llen(self.failed_key)
        return Counts(*pipe.execute())

    def has_work(self) -> bool:
        """Whether an item waits, now or delayed. What others have leased does not count."""
        counts = self.counts()
        return bool(counts.waiting or counts.delayed)

    def forget(self) -> None:
        """Remove what the queue remembers of this process. Called when it pushes no more."""
        self._client.hdel(self.pushes_key, self.token)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _give_back(self, ids: Sequence[str], delay: float, *, refund: bool) -> list[str]:
        back = self._retry(
            keys=[self.leases_key, self.tries_key, self.owner_key, self.delayed_key],
            args=[self.token, round(delay * 1000), int(refund), *ids],
        )
        return [item_id.decode() for item_id in back]

    def _record(self, item_id: str, then: str, records: Sequence[Mapping[str, Any]]) -> bool:
        keys = [self.leases_key, self.payload_key, self.tries_key, self.owner_key, self.failed_key, self.dead_key]
        texts = [json.dumps(record, ensure_ascii=False).encode() for record in records]
        return bool(self._fail(keys=keys, args=[self.token, item_id, then, self._failed_max, *texts]))

    def _script(self, name: str) -> Callable[..., Any]:
        source = resources.files("scrapy_chunkdl.queue").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
        script: Callable[..., Any] = self._client.register_script(source)
        return script
