"""What one run did, for people who look in the morning: by host, type, size and reason, and what to do about it.

Collects on Scrapy's thread, bounded whatever comes: a run of ten million files has a report as long as one of ten
thousand. Pure; knows neither files on disk nor how it is shown.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from scrapy_chunkdl.queue.metrics_table import OTHER, size_class

MOST_HOSTS = 200
MOST_TYPES = 50
MOST_REASONS = 50
MOST_EXAMPLES = 20
MOST_GIVEN_UP = 100

WHAT_TO_DO: Mapping[str, str] = {
    "http_401": "The server wants a login: see the page on requests.",
    "http_403": "The server refuses: it may want a Referer or cookies, or have banned this address.",
    "http_404": "The files are not there (any more): look at how the spider finds their links.",
    "http_410": "The files were taken away for good: drop them.",
    "http_429": "The server wants fewer requests: lower CHUNKDL_CONCURRENT_CHUNKS_PER_HOST, put them back.",
    "http_503": "The server was overloaded: put them back later.",
    "dns": "The names do not resolve: look at the links, or at the resolver of this machine.",
    "connect_failed": "The servers could not be reached: put them back later.",
    "tls": "The certificates are not trusted: set the authority, or CHUNKDL_VERIFY_TLS = False if you know why.",
    "stalled": "The servers stopped sending: put them back, what came is kept and resumed.",
    "wrong_type": "Pages came in place of files: a login, a challenge or an error page; see CHUNKDL_CHECK_TYPE.",
    "checksum": "The files are not what the items say: look at where the checksums come from.",
    "too_large": "They are larger than CHUNKDL_MAX_FILE_SIZE.",
    "disk_full": "The disk was full: make room, then put them back.",
    "store_keys_expired": "The store's keys had run out: renew them, then put the items back.",
    "login_refused": "The login was refused: look at the credentials of the item or the spider.",
    "host_not_allowed": "CHUNKDL_ALLOWED_HOSTS does not name these hosts.",
    "robots": "robots.txt forbids them.",
    "bad_url": "The links are no URLs: look at how the spider makes them.",
    "bad_attachment": "The items say of these files what makes no sense.",
    "stopped": "Somebody gave them up on the page.",
    "shutdown": "The crawl was stopped before they were finished: run it again.",
}
"""What helps, by reason; where nothing stands here the message of the failure says most."""


@dataclass(slots=True)
class Group:
    """What came of the files of one host, type or size class."""

    files: int = 0
    given_up: int = 0
    size_bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class RunReport:
    """Made when the run begins; times are seconds since 1970."""

    began_at: float
    _hosts: dict[str, Group] = field(default_factory=dict)
    _types: dict[str, Group] = field(default_factory=dict)
    _sizes: dict[str, Group] = field(default_factory=dict)
    _reasons: Counter[str] = field(default_factory=Counter)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _slowest: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _largest: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _given_up: list[dict[str, Any]] = field(default_factory=list)
    _bytes: int = 0
    _number: int = 0

    def finished(
        self, shown: Callable[[], str], host: str, content_type: str, size: int, elapsed_s: float, status: str
    ) -> None:
        """Note a file that is there; ``shown`` returns its URL as it may be shown: few are."""
        self._outcomes[status] += 1
        self._number += 1
        new = size if status == "downloaded" else 0
        self._bytes += new
        kind = content_type.partition(";")[0].strip().lower() or "unknown"
        groups = (
            _group(self._hosts, host, MOST_HOSTS),
            _group(self._types, kind, MOST_TYPES),
            _group(self._sizes, size_class(size), MOST_TYPES),
        )
        for group in groups:
            group.files += 1
            group.size_bytes += new
            group.seconds += elapsed_s
        for most, value in ((self._slowest, elapsed_s), (self._largest, float(size))):
            is_room = len(most) < MOST_EXAMPLES
            if is_room or value > most[0][0]:
                told = {"url": shown(), "size_bytes": size, "seconds": round(elapsed_s, 3)}
                (heapq.heappush if is_room else heapq.heapreplace)(most, (value, self._number, told))

    def given_up(self, url: str, host: str, reason: str, message: str) -> None:
        """Note a file that could not be had."""
        self._outcomes["failed"] += 1
        _group(self._hosts, host, MOST_HOSTS).given_up += 1
        self._reasons[reason if reason in self._reasons or len(self._reasons) < MOST_REASONS else OTHER] += 1
        if len(self._given_up) < MOST_GIVEN_UP:
            self._given_up.append({"url": url, "reason": reason, "message": message})

    @property
    def is_empty(self) -> bool:
        """Whether the run had to do with no file."""
        return not self._outcomes

    def as_dict(self, spider: str, now: float, reason: str) -> dict[str, Any]:
        """Return it as JSON types; ``reason`` is why the spider closed."""
        return {
            "spider": spider,
            "began_at": round(self.began_at, 3),
            "ended_at": round(now, 3),
            "seconds": round(now - self.began_at, 3),
            "finish_reason": reason,
            "files": {name: self._outcomes[name] for name in ("downloaded", "uptodate", "failed")},
            "bytes": self._bytes,
            "by_host": _told(self._hosts),
            "by_type": _told(self._types),
            "by_size": _told(self._sizes),
            "by_reason": dict(self._reasons.most_common()),
            "slowest": [told for *_, told in sorted(self._slowest, reverse=True)],
            "largest": [told for *_, told in sorted(self._largest, reverse=True)],
            "given_up": self._given_up,
            "what_to_do": {
                reason: WHAT_TO_DO[reason] for reason, _ in self._reasons.most_common() if reason in WHAT_TO_DO
            },
        }


def _group(groups: dict[str, Group], name: str, most: int) -> Group:
    if name not in groups and len(groups) >= most:
        name = OTHER
    return groups.setdefault(name, Group())


def _told(groups: Mapping[str, Group]) -> dict[str, dict[str, Any]]:
    busiest = sorted(groups.items(), key=lambda one: (-one[1].given_up, -one[1].size_bytes, -one[1].files))
    return {name: {**asdict(group), "seconds": round(group.seconds, 3)} for name, group in busiest}
