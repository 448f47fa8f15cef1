"""The inline mode: an item waits in our pipeline until its files are there; nothing of it is in Redis.

Knows the files of items and the bridge; nothing of queues or of Scrapy's inside. The counterpart of the queue mode,
with the same verbs for the lifecycle and the intake, which call it on Scrapy's thread.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.crawl.item_files import ItemFiles, NewItemFiles, Results
from scrapy_chunkdl.crawl.mode import Mode


class InlineMode(Mode):
    """The items whose pipelines wait for files."""

    fate = "their items go on without them"

    def __init__(
        self,
        bridge: Bridge,
        new_files: NewItemFiles,
        problem_of_type: Callable[[object], str | None],
        wake: Callable[[], None],
    ) -> None:
        self._bridge = bridge
        self._new_files = new_files
        self._problem_of_type = problem_of_type
        self._wake = wake
        self._items: set[ItemFiles] = set()
        self._may_be_idle = False

    def download(self, item: object) -> Deferred[Results]:
        """Download the files of one item. Fires when each is written back or given up.

        Raises ValueError when the item's type has no field for the results, and what hooks raise.
        """
        if (problem := self._problem_of_type(item)) is not None:
            raise ValueError(problem)
        fired: Deferred[Results] = Deferred()

        def settle(files: ItemFiles) -> None:
            files.strip()
            if (problem := files.unwritable or files.failed) is not None:
                fired.errback(problem)
            else:
                fired.callback(files.results())

        def done(files: ItemFiles) -> None:
            self._items.discard(files)
            self._may_be_idle = not self._items
            files.give_up_cancelled()
            settle(files)

        files = self._new_files(item, on_done=done)
        if files.is_done:
            settle(files)
        else:
            self._items.add(files)
            self._bridge.submit(files.jobs)
        return fired

    def tick(self) -> None:
        """Have the engine look whether the spider is idle, a tick after an item is done: it has left the pipelines."""
        if self._may_be_idle:
            self._may_be_idle = False
            self._wake()

    def may_have_work(self) -> bool:
        """Whether items wait for their files."""
        return bool(self._items)

    @property
    def downloading(self) -> int:
        """How many items have files that are not done."""
        return len(self._items)

    def hand_back(self) -> None:
        """Stop the files that still run: their items have nowhere to go back to, they go on without."""
        for files in list(self._items):
            self._bridge.cancel(files.jobs)
