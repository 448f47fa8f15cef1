"""What the lifecycle and the intake ask of either mode, inline or queue; by itself, the mode in which nothing opened.

Knows nothing but the verbs. All are called on Scrapy's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred

from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.crawl.item_files import Results
from scrapy_chunkdl.crawl.passage import Admitted, Delivery


class Mode:
    """Downloads that could not start. The modes override what they have to do."""

    fate = ""
    """What becomes of items that the closing spider stops, as the end of a sentence."""

    ask_queued: Callable[[Callable[[int], None]], None] | None = None
    """Calls its argument with the number of items that wait in a list, soon; None where there is no list."""

    def arrival(self, item: object) -> Delivery | Admitted | None:
        """Return what is known of an item that reaches our pipeline, once. Raises why a scraped one is not queued."""
        return None

    def enqueue(self, item: object) -> Deferred[None]:
        """Append a scraped item to the list. Fires when Redis has it, fails with ValueError when it is no JSON."""
        raise RuntimeError("Downloads could not start, see the error above: the item was not queued.")

    def download(self, item: object) -> Deferred[Results]:
        """Download the files of one item. Fires when each is written back or given up."""
        raise RuntimeError("Downloads could not start, see the error above: the item goes no further.")

    @property
    def downloading(self) -> int:
        """How many items have files that are not done."""
        return 0

    def items(self) -> Mapping[Job, object]:
        """Return which item each file belongs to that runs, or is about to."""
        return {}

    def tick(self) -> None:
        """Do what is due; called a few times a second while the spider is open."""

    def may_have_work(self) -> bool:
        """Whether there are items, or may be: the spider stays open for them."""
        return False

    def others_may_have_work(self) -> bool:
        """Whether another process held items when the list was looked at last: they may come back."""
        return False

    def rest(self, *, ends: bool) -> None:
        """See what is left when the spider has nothing to do; close one that ``ends`` and would wait in vain."""

    def stop_claiming(self) -> None:
        """Take no more items, and give back those none of whose files has begun: the spider closes."""

    def hand_back(self) -> None:
        """Stop the files that still run, as their grace is over."""

    def is_settled(self, grace_is_over: bool) -> bool:
        """Whether the spider may close, for all that is held here."""
        return True

    def feeds_closed(self) -> None:
        """Give up what no feed has, now that there will be no more."""

    def close(self) -> None:
        """Stop whatever was started."""
