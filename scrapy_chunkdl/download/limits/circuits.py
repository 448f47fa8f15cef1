"""Hosts that fail again and again: when one counts as ill, and what becomes of requests to it then.

A failure speaks of the host where it is of a kind that no file has by itself (no connection, no address, TLS, a reset
or silence before the head, 429, 502 to 504 and their like), or that the host begins with after it has served others
(403, 500, challenge pages). What follows each other counts, not what comes at once: a server that refuses what is too
much at one moment is asked more slowly by :mod:`.hosts`, and only one that goes on refusing is ill. One file that fails
alone is no sign, whatever it fails with.

Thread-safe; nothing waits. Knows hosts, statuses and words; nothing of Redis, nor of who tries an ill host, and when.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scrapy_chunkdl.download.errors import DownloadError, HostIll, Permanent, Postponed
from scrapy_chunkdl.download.limits.remembered import Remembered

ROUNDS = 4
"""Failures that follow each other, without an answer between, after which a host is ill."""

DOUBTED, FEW, FILES_OF_DOUBT = 2, 1, 3
"""Failures in a row after which no more than so many requests run at a host; so do failures of so many files, however
close they are."""

FILES = 5
FILES_IF_IT_SERVED = 2
"""Different files that have to be among those that failed: fewer at a host that has served."""

FILES_OF_THEIR_OWN = 10
"""The same for statuses that files have by themselves, too (403, 500): a few private files in a row are no ban."""

PAGES = 5
"""Different files in place of which a host sends pages, one after the other, after which it is ill."""

LONG_PAUSE_S = 60.0
"""Seconds of a Retry-After from which on the host is left alone at once, where it serves nobody at the moment."""

SERVES_S = 5.0

SENT_AGAIN_EVERY_S = 1.0
"""Seconds between two requests to a host that are sent a second time by themselves."""

_LATELY_S = 10.0
_FILES_REMEMBERED = 256
_ANY = 1 << 30

_REASONS = frozenset({"dns", "connect_failed", "connect_timeout", "tls", "connection_lost", "stalled"})
_STATUSES = frozenset({420, 429, 502, 503, 504, 509, *range(520, 528), 529, 530})
_AFTER_SUCCESSES = frozenset({403, 500})
_OF_FILES_TOO = frozenset(f"http_{status}" for status in _AFTER_SUCCESSES)


class Fall(NamedTuple):
    """What made a host count as ill. ``pause_s`` is the Retry-After it sent, 0 for none."""

    host: str
    reason: str
    pause_s: float = 0.0


class Told(NamedTuple):
    """What is known of an ill host from others. ``next_at`` is monotonic; ``is_hopeless`` says that it is waited for
    no longer: its files fail with ``reason``."""

    sentence: str
    reason: str
    next_at: float
    is_hopeless: bool = False


@dataclass(slots=True)
class _Row:
    """Failures of a host since it last served: how many followed each other, of which files, and whether any was of a
    kind that no file has by itself."""

    rounds: int = 0
    counted_at: float = float("-inf")
    files: set[int] = field(default_factory=set)
    is_the_hosts: bool = False
    put_back: OrderedDict[str, None] = field(default_factory=OrderedDict)
    pages: set[int] = field(default_factory=set)
    served_at: float = float("-inf")
    sent_again_at: float = float("-inf")

    @property
    def has_served(self) -> bool:
        return self.served_at > float("-inf")

    def forgive(self) -> None:
        self.rounds, self.counted_at = 0, float("-inf")
        self.files.clear()
        self.is_the_hosts = False

    def is_ill(self) -> bool:
        if not self.is_the_hosts:
            return len(self.files) >= FILES_OF_THEIR_OWN
        return self.rounds >= ROUNDS and len(self.files) >= (FILES_IF_IT_SERVED if self.has_served else FILES)


class Circuits:
    """The hosts of one process. ``changed`` is called, on any thread, with a Fall, or with a host that serves again.

    ``begins_anew`` is called with a host that is tried, and with one that serves again: how it was asked before it was
    left alone was for naught. Off until :meth:`switch_on`: nothing is ill then.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, begins_anew: Callable[[str], object] = lambda host: None
    ) -> None:
        self._clock = clock
        self._begins_anew = begins_anew
        self._lock = threading.Lock()
        self._rows = Remembered(_Row)
        self._ill: dict[str, Told] = {}
        self._trials: dict[str, bool] = {}
        self._changed: Callable[[Fall | str], object] | None = None
        self._failed_at = float("-inf")

    @property
    def have_failed_lately(self) -> bool:
        """Whether any host failed in the last seconds, so that it is worth to hear at once what others find out."""
        return self._clock() - self._failed_at < _LATELY_S

    def switch_on(self, changed: Callable[[Fall | str], object]) -> None:
        """Begin to take hosts for ill."""
        self._changed = changed

    # --- requests

    def check(self, host: str) -> None:
        """Raise HostIll for a host that is left alone, or what its files fail with where it is waited for no longer."""
        if not self._ill:
            return
        told = self._ill.get(host)
        if told is None or self._trials.get(host) is False:
            return
        if told.is_hopeless:
            raise Permanent(f"{told.sentence}; it is waited for no longer (CHUNKDL_HOST_PATIENCE)", reason=told.reason)
        raise HostIll(told.sentence, host=host)

    def ask(self, host: str) -> None:
        """Take note that a request goes out. Raises as :meth:`check` does; of a try one is sent at a time."""
        if self._ill:
            self.check(host)
            with self._lock:
                if host in self._trials:
                    self._trials[host] = True

    def may_send_again(self, host: str) -> bool:
        """Whether a request may be sent a second time, unasked, since it met a connection that was closed meanwhile.

        Of those that are lost together one tells as much as all: a host that resets each is not asked twice as often.
        """
        if self._changed is None:
            return True
        now = self._clock()
        with self._lock:
            row = self._rows.of(host)
            if row.rounds or host in self._ill or now < row.sent_again_at + SENT_AGAIN_EVERY_S:
                return False
            row.sent_again_at = now
            return True

    def is_doubtful(self, host: str) -> bool:
        """Whether a host failed last: each request counts then, and HEADs are not worth theirs."""
        row = self._rows.get(host)
        return host in self._ill or (row is not None and row.rounds > 0)

    def answered(
        self,
        host: str,
        file: int,
        status: int,
        asked_at: float,
        *,
        method: str = "GET",
        is_challenge: bool = False,
        pause_s: float = 0.0,
    ) -> bool:
        """Take note of an answer; return whether it speaks against the host. ``file`` tells files apart."""
        if self._changed is None:
            return False
        row = self._rows.get(host)
        is_failure = (
            is_challenge
            or status in _STATUSES
            or (status in _AFTER_SUCCESSES and row is not None and (row.has_served or host in self._ill))
        )
        if method == "HEAD" and status >= 400:
            with self._lock:
                if host in self._trials:
                    self._trials[host] = False  # only a GET tells
            return False
        if is_failure:
            self._failed(host, file, "challenge" if is_challenge else f"http_{status}", asked_at, pause_s)
        else:
            self._served(host, brings=status < 400)
        return is_failure

    def unanswered(self, host: str, file: int, reason: str, asked_at: float) -> bool:
        """Take note of a request without an answer; return whether it speaks against the host."""
        if self._changed is None or reason not in _REASONS:
            return False
        self._failed(host, file, reason, asked_at, 0.0)
        return True

    def most(self, host: str) -> int:
        """Return how many requests may run at a host: few while it fails, so that it is not asked often in vain."""
        row = self._rows.get(host)
        is_doubted = row is not None and (row.rounds >= DOUBTED or len(row.files) >= FILES_OF_DOUBT)
        return FEW if is_doubted else _ANY

    def brought(self, host: str) -> None:
        """Take note of a file that came whole, and is no page."""
        row = self._rows.get(host)
        if row is None or not (row.pages or self._ill):
            return
        with self._lock:
            row.pages.clear()
            was_ill = self._ill.pop(host, None) is not None
            self._trials.pop(host, None)
        if was_ill and self._changed is not None:
            self._begins_anew(host)
            self._changed(host)

    def instead_of(self, error: DownloadError, host: str | None, url: str) -> DownloadError:
        """Return what a file fails with whose last failure spoke against ``host``, if any: HostIll where it is ill.

        So it is where the host has served before, and nobody since the file failed: the file comes back once, and
        fails by itself if it is alone with that.
        """
        if host is None or isinstance(error, Postponed) or self._changed is None:
            return error
        with self._lock:
            told, row = self._ill.get(host), self._rows.get(host)
            if told is not None and not told.is_hopeless:
                return HostIll(told.sentence, host=host)
            if row is None or not row.has_served or not (row.rounds or row.pages) or url in row.put_back:
                return error
            row.put_back[url] = None
            if len(row.put_back) > _FILES_REMEMBERED:
                row.put_back.popitem(last=False)
            return HostIll(f"{host} has just served others, and now: {error}", host=host)

    def page(self, host: str, file: int) -> None:
        """Take note that a page came in place of a file."""
        if self._changed is None:
            return
        with self._lock:
            row = self._rows.of(host)
            if not row.has_served and host not in self._ill:
                return
            row.pages.add(file)
            is_tried = self._trials.pop(host, None) is not None
            opens = len(row.pages) >= PAGES and host not in self._ill
            if opens:
                self._open(Fall(host, "wrong_type"))
        if opens or is_tried:
            self._changed(Fall(host, "wrong_type"))

    def _failed(self, host: str, file: int, reason: str, asked_at: float, pause_s: float) -> None:
        assert self._changed is not None
        self._failed_at = now = self._clock()
        fall = Fall(host, reason, pause_s)
        with self._lock:
            row = self._rows.of(host)
            if asked_at >= row.counted_at:
                row.rounds += 1
                row.counted_at = now
            row.is_the_hosts = row.is_the_hosts or reason not in _OF_FILES_TOO
            if len(row.files) < _FILES_REMEMBERED:
                row.files.add(file)
            if host in self._ill:
                if self._trials.pop(host, None) is None:
                    return
            elif row.is_ill() or (pause_s >= LONG_PAUSE_S and now - row.served_at > SERVES_S):
                self._open(fall)
            else:
                return
        self._changed(fall)

    def _served(self, host: str, *, brings: bool) -> None:
        assert self._changed is not None
        with self._lock:
            row = self._rows.of(host)
            row.forgive()
            if brings:
                row.served_at = self._clock()
            if brings and host in self._ill and self._ill[host].reason == "wrong_type":
                if host in self._trials:
                    self._trials[host] = False  # what came may be one more page: the whole file tells
                return
            was_ill = self._ill.pop(host, None) is not None
            self._trials.pop(host, None)
        if was_ill:
            self._begins_anew(host)
            self._changed(host)

    def _open(self, fall: Fall) -> None:
        self._ill[fall.host] = Told(f"{fall.host} fails ({fall.reason})", fall.reason, float("inf"))

    # --- what others know, and tries

    def heard(self, told: Mapping[str, Told], untold: set[str]) -> None:
        """Take over which hosts are ill; those of ``untold`` this process knows of alone, and they stay."""
        with self._lock:
            well = [host for host in self._ill if host not in told and host not in untold]
            for host in well:
                del self._ill[host]
                self._trials.pop(host, None)
                self._rows.of(host).forgive()
            self._ill.update(told)
        for host in well:
            self._begins_anew(host)

    def ill(self, host: str) -> Told | None:
        """Return what is known of a host that is ill."""
        return self._ill.get(host)

    def hosts(self) -> list[str]:
        """Return the hosts that are ill."""
        return list(self._ill)

    def may_try(self, host: str) -> None:
        """Let one request go to a host that is ill; what comes of it decides."""
        with self._lock:
            if host not in self._ill:
                return
            self._trials[host] = False
        self._begins_anew(host)
