"""Whether a queue's data are still those that were there: FLUSHALL, or a Redis that starts without them, takes all.

A mark among the queue's totals tells. Where it is another, nothing that Redis says of leases is true: "another process
has it" would be said of each item in hand. What this process holds is leased anew, in its name, and goes on as if
nothing had happened; what waited is gone. Knows Redis, deliveries and bytes; nothing of what is done with items.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A leased item. ``id`` is of this delivery alone.

    ``deliveries`` counts this claim and those that came to nothing: no bytes came, and nobody gave the item back.
    ``errors`` counts how often the project's code failed with it.
    """

    id: str
    payload: bytes
    deliveries: int
    errors: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether a process died of it, or with it."""
        return self.deliveries > 1


class Life:
    """The life of one queue's data, and what this process has leased of them. Safe to use from several threads.

    ``script`` is ``life.lua``; ``keys`` are what it asks for. ``in_groups`` splits what goes into one request.
    Every method may raise what :data:`.errors.REDIS_ERRORS` names.
    """

    def __init__(
        self,
        script: Callable[..., Any],
        keys: Sequence[str],
        token: str,
        lease_ms: int,
        in_groups: Callable[[Iterable[Claimed]], Iterable[list[Claimed]]],
    ) -> None:
        self._script = script
        self._keys = list(keys)
        self._token = token
        self._lease_ms = lease_ms
        self._in_groups = in_groups
        self._known: bytes | None = None
        self._lock = threading.Lock()
        self._leased: dict[str, Claimed] = {}
        self.on_loss: Callable[[int], object] = lambda _: None
        """Called when the data are found to be gone, with the number of items that were in hand and are there again."""

    def begin(self) -> None:
        """Learn which life it is. Before that no loss is seen."""
        if self._known is None:
            self._known = self._ask([])

    def leased(self, batch: Iterable[Claimed]) -> None:
        """Note what was claimed."""
        self._leased.update((one.id, one) for one in batch)

    def ended(self, ids: Iterable[str]) -> None:
        """Note what this process holds no more."""
        for item_id in ids:
            self._leased.pop(item_id, None)

    def sure(self, call: Callable[[], T], is_whole: Callable[[T], bool]) -> T:
        """Return what a call answers that tells of leases; where it is not whole, and the data were lost, ask again."""
        known = self._known
        answer = call()
        if known is None or is_whole(answer) or not self._restored_since(known):
            return answer
        return call()

    def look(self, life: bytes | None) -> None:
        """Compare the mark that was read along with other things."""
        known = self._known
        if known is not None and life != known:
            self._restored_since(known)

    def _restored_since(self, known: bytes) -> bool:
        with self._lock:
            if self._known != known:
                return True  # by the other thread
            life = self._ask([])
            if life == known:
                return False
            held = list(self._leased.values())
            for group in self._in_groups(held):
                self._ask(group)
            self._known = life
        self.on_loss(len(held))
        return True

    def _ask(self, items: Sequence[Claimed]) -> bytes:
        arguments: list[Any] = [self._token, self._lease_ms, f"begun by {self._token} {uuid.uuid4().hex[:8]}"]
        for item in items:
            arguments += [item.id, item.deliveries, item.errors, item.payload]
        life: bytes = self._script(keys=self._keys, args=arguments)
        return life
