"""What an answer, or the lack of one, means for a file: one table, whose rows are read from above. Pure.

The same answer means one thing to a HEAD, another to the first range, to a later one, to a plain GET, and it depends on
what this file has seen. All that speak HTTP for a file ask :func:`verdict` and carry out its word; docs/failures.md has
the table, made from it (``docs/answers_table.py``). Knows statuses, what fields mean, and words; nothing of requests,
connections or disks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from typing import NamedTuple

from scrapy_chunkdl.download.known import Match


class Asked(Enum):
    """What a request was, by what the file had seen when it went out."""

    HEAD = "HEAD"
    FIRST = "first range, none served yet"
    LATER = "later range"
    PLAIN = "plain GET"


class Word(Enum):
    """What is to be done."""

    USE = "use the bytes"
    HINT = "believe it until somebody knows better"
    NO_HINT = "it tells nothing: ask by GET"
    LESS = "ask with less"
    CROWD = "fewer connections to the host, and retry"
    SLOWER = "a slower pace of requests to the host, and retry"
    WAIT_HOST = "leave the host alone as long as it asks, and retry"
    WAIT_FILE = "wait as long as it asks, and retry"
    RETRY = "retry"
    AFRESH = "begin again with what it says"
    END = "give up"


WORDS = {
    Word.LESS: (
        "without If-Range if that was sent and never answered by a 206, else without Range, each once; "
        "an error that HEAD was answered with, too, is the end, or SLOWER, instead"
    ),
    Word.RETRY: "after a pause that grows; counted until the file has moved on",
    Word.CROWD: "counted as a retry is",
    Word.SLOWER: "counted as a quarter of a retry; a host that says no to the slowest pace is believed",
    Word.WAIT_HOST: "counted as a retry; the pause is never shorter than a retry's",
    Word.WAIT_FILE: "counted as a tenth of a retry",
}
"""What more there is to say of a word, for the docs."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
DEAD_LINK = frozenset({401, 403, 404, 410})
"""What a signed URL answers once it has expired."""

TOO_MANY = frozenset({420, 425, 429, 503, 509, 529})
"""What servers answer that are asked for too much at once."""

SLOW_DOWN = frozenset({403, 420, 503, 509, 529})
"""What servers answer, some without Retry-After, that are asked too often."""

TOO_FAST = SLOW_DOWN | {429}
"""What the pace of requests may be the cause of."""

PASSING = frozenset({420, 421, 423, 425, 449, 499, 509, *range(520, 528), 529, 530, 598, 599})
"""Statuses that say by their meaning that it will pass: the wrong connection (421, RFC 9110 §15.5.20), a lock (423),
"retry with" (449), too early (425), too much at once (420 and 529 of APIs, 509 of hosters), a proxy that was left
(499), or whose origin is away (520 to 527 and 530 of Cloudflare, 598 and 599 of proxies). RFC 9110 §15 has a client
take those it does not know for a 400 or 500; whoever retries anything retries them."""

NOWHERE = frozenset({"redirect_loop", "too_many_redirects", "bad_url"})
"""Reasons of redirects that cannot be followed to an answer."""

_NO_REPRESENTATION = frozenset({202, 204, 205, 206, 207, 208})
_BEFORE_HEAD = frozenset({"connection_lost", "stalled", "connect_timeout", "first_byte"})


class Came(NamedTuple):
    """What came: an answer, by its ``status``, or an error, by its ``reason``; and what the file has seen by then.

    ``is_part`` says that the answer brings other bytes than the whole of the file, ``is_doubtful`` that a 200 may be
    only the part asked for, ``is_vouched`` that it has bytes and validators, ``is_other_size`` that a 416 told another
    size than is known. ``pause`` is a Retry-After in seconds. ``conditional`` is set where If-Range was sent and no 206
    has come to one yet. ``failures`` are those in a row of this connection. ``is_served`` says that another connection
    of this file is, ``is_suspect`` that the host has just served others and no longer does.
    """

    asked: Asked
    status: int = 0
    reason: str = ""
    match: Match = Match.UNTOLD
    pause: float | None = None
    is_part: bool = False
    is_doubtful: bool = False
    is_empty: bool = False
    is_other_size: bool = False
    is_vouched: bool = False
    conditional: bool = False
    failures: int = 0
    is_served: bool = False
    is_suspect: bool = False


class Row(NamedTuple):
    """One row: what it is for, the word for each way of asking, and whose rule it is."""

    what: str
    fits: Callable[[Came, Collection[int]], bool]
    head: Word
    first: Word
    later: Word
    plain: Word
    authority: str

    def word(self, asked: Asked) -> Word:
        """Return the word for what was asked."""
        if asked is Asked.PLAIN:
            return self.plain
        if asked is Asked.HEAD:
            return self.head
        return self.first if asked is Asked.FIRST else self.later


def is_whole(status: int) -> bool:
    """Whether a status promises the representation: 200, 201, 203, and those nobody has registered (RFC 9110 §15).

    226 is among these: nobody has asked for instance manipulations (RFC 3229 §10.4.1), so it can be no more than a 200.
    """
    return 200 <= status < 300 and status not in _NO_REPRESENTATION


def _passes(status: int, codes: Collection[int]) -> bool:
    """Whether a status is worth a retry: one of those that are set, or, where any are, one that says so itself."""
    return status in codes or (bool(codes) and status in PASSING)


_MOST_RANGES_REFUSED = 2
"""Failures in a row after which a first range is asked for without Range."""

ROWS = (
    Row(
        "a 2xx with bytes and validators that contradicts what is known of the file, again and again",
        lambda came, codes: (
            is_whole(came.status)
            and came.match is Match.CONTRADICTION
            and came.is_vouched
            and came.failures >= _MOST_RANGES_REFUSED
        ),
        Word.NO_HINT,
        Word.LESS,
        Word.RETRY,
        Word.USE,
        "RFC 9110 §8.8.1: there are servers that keep an ETag",
    ),
    Row(
        "a 2xx that contradicts what is known of the file, again",
        lambda came, codes: (
            is_whole(came.status) and came.match is Match.CONTRADICTION and came.failures >= _MOST_RANGES_REFUSED
        ),
        Word.NO_HINT,
        Word.LESS,
        Word.RETRY,
        Word.RETRY,
        "RFC 9110 §14.2: it may be what a server makes of ranges",
    ),
    Row(
        "a 2xx that contradicts what is known of the file",
        lambda came, codes: is_whole(came.status) and came.match is Match.CONTRADICTION,
        Word.NO_HINT,
        Word.RETRY,
        Word.RETRY,
        Word.RETRY,
        "RFC 9110 §8.8: who has validators is believed",
    ),
    Row(
        "a 2xx that may be a part: it has a Content-Range, is as long as what was asked for, or HEAD told more",
        lambda came, codes: is_whole(came.status) and came.is_doubtful,
        Word.HINT,
        Word.LESS,
        Word.RETRY,
        Word.RETRY,
        "RFC 9110 §14.4: on a 200 it means nothing",
    ),
    Row(
        "a 2xx of another version, or of another size than HEAD told",
        lambda came, codes: is_whole(came.status) and came.match is Match.OTHER and came.asked is not Asked.HEAD,
        Word.HINT,
        Word.AFRESH,
        Word.AFRESH,
        Word.USE,
        "RFC 9110 §13.1.5",
    ),
    Row(
        "200, 201, 203, or a 2xx that is not registered",
        lambda came, codes: is_whole(came.status),
        Word.HINT,
        Word.USE,
        Word.RETRY,
        Word.USE,
        "RFC 9110 §15.3, §14.2: a range may be ignored this time",
    ),
    Row(
        "206 with all of the file",
        lambda came, codes: came.status == 206 and not came.is_part,
        Word.NO_HINT,
        Word.USE,
        Word.USE,
        Word.USE,
        "RFC 9110 §15.3.7",
    ),
    Row(
        "206 with a part of it",
        lambda came, codes: came.status == 206,
        Word.NO_HINT,
        Word.USE,
        Word.USE,
        Word.END,
        "RFC 9110 §15.3.7",
    ),
    Row(
        "202 with Retry-After",
        lambda came, codes: came.status == 202 and came.pause is not None,
        Word.NO_HINT,
        Word.WAIT_FILE,
        Word.WAIT_FILE,
        Word.WAIT_FILE,
        "RFC 9110 §15.3.3, §10.2.3",
    ),
    Row(
        "204 where HEAD told 0 bytes",
        lambda came, codes: came.status == 204 and came.is_empty,
        Word.NO_HINT,
        Word.USE,
        Word.END,
        Word.USE,
        "RFC 9110 §15.3.5",
    ),
    Row(
        "any other 1xx, 2xx or 3xx to If-Range, while no 206 has come to one",
        lambda came, codes: 0 < came.status < 400 and came.conditional,
        Word.NO_HINT,
        Word.LESS,
        Word.LESS,
        Word.END,
        "RFC 9110 §13.1.5: what does not hold means that Range is ignored",
    ),
    Row(
        "any other 1xx, 2xx or 3xx",
        lambda came, codes: 0 < came.status < 400,
        Word.NO_HINT,
        Word.LESS,
        Word.RETRY,
        Word.END,
        "RFC 9110 §15.3: no representation of the file",
    ),
    Row(
        "429 without Retry-After while another connection of the file is served",
        lambda came, codes: came.status == 429 and not came.pause and came.is_served,
        Word.NO_HINT,
        Word.CROWD,
        Word.CROWD,
        Word.CROWD,
        "RFC 6585 §4; one connection is borne",
    ),
    Row(
        "429, or any error with Retry-After",
        lambda came, codes: (
            came.status >= 400 and ((came.status == 429 and came.status in codes) or came.pause is not None)
        ),
        Word.WAIT_HOST,
        Word.WAIT_HOST,
        Word.WAIT_HOST,
        Word.WAIT_HOST,
        "RFC 9110 §10.2.3, RFC 6585 §4",
    ),
    Row(
        "416 that tells another size",
        lambda came, codes: came.status == 416 and came.is_other_size,
        Word.NO_HINT,
        Word.AFRESH,
        Word.AFRESH,
        Word.END,
        "RFC 9110 §15.5.17",
    ),
    Row(
        "416",
        lambda came, codes: came.status == 416,
        Word.NO_HINT,
        Word.LESS,
        Word.RETRY,
        Word.END,
        "RFC 9110 §14.2: ranges are optional",
    ),
    Row(
        "420, 503, 509 or 529 from a host that has just served others",
        lambda came, codes: came.status in SLOW_DOWN and came.status != 403 and came.is_suspect and not came.is_served,
        Word.NO_HINT,
        Word.SLOWER,
        Word.SLOWER,
        Word.SLOWER,
        "nginx limit_req; RFC 6585 §4 without its status",
    ),
    Row(
        "403 from a host that has just served others",
        lambda came, codes: came.status == 403 and came.is_suspect and not came.is_served,
        Word.NO_HINT,
        Word.LESS,
        Word.SLOWER,
        Word.SLOWER,
        "the same, as servers of the field say it",
    ),
    Row(
        "a code of CHUNKDL_RETRY_HTTP_CODES, or one that passes by its meaning (421, 425, 509, 52x …), again",
        lambda came, codes: _passes(came.status, codes) and came.failures >= _MOST_RANGES_REFUSED,
        Word.NO_HINT,
        Word.LESS,
        Word.RETRY,
        Word.RETRY,
        "RFC 9110 §14.2: ranges are optional",
    ),
    Row(
        "a code of CHUNKDL_RETRY_HTTP_CODES, or one that passes by its meaning (421, 425, 509, 52x …)",
        lambda came, codes: _passes(came.status, codes),
        Word.NO_HINT,
        Word.RETRY,
        Word.RETRY,
        Word.RETRY,
        "RFC 9110 §15.6",
    ),
    Row(
        "any other 4xx or 5xx to If-Range, while no 206 has come to one",
        lambda came, codes: came.status >= 400 and came.conditional,
        Word.NO_HINT,
        Word.LESS,
        Word.LESS,
        Word.END,
        "RFC 9110 §13.1.5: it is never an error",
    ),
    Row(
        "any other 4xx or 5xx while another connection of the file is served",
        lambda came, codes: came.status >= 400 and came.is_served,
        Word.NO_HINT,
        Word.CROWD,
        Word.CROWD,
        Word.CROWD,
        "the file lives while it moves",
    ),
    Row(
        "any other 4xx or 5xx",
        lambda came, codes: came.status >= 400,
        Word.NO_HINT,
        Word.LESS,
        Word.CROWD,
        Word.END,
        "RFC 9110 §15.5, §14.2; what served a range may do so again",
    ),
    Row(
        "redirects that lead nowhere",
        lambda came, codes: came.reason in NOWHERE,
        Word.NO_HINT,
        Word.LESS,
        Word.END,
        Word.END,
        "RFC 9110 §15.4, §14.2: it may be what a server makes of ranges",
    ),
    Row(
        "no connection, or no address",
        lambda came, codes: came.reason in ("connect_failed", "dns"),
        Word.NO_HINT,
        Word.RETRY,
        Word.CROWD,
        Word.RETRY,
        "RFC 9110 §9.2.2",
    ),
    Row(
        "reset, closed or silent before the head, again",
        lambda came, codes: came.reason in _BEFORE_HEAD and came.failures >= _MOST_RANGES_REFUSED,
        Word.NO_HINT,
        Word.LESS,
        Word.CROWD,
        Word.RETRY,
        "RFC 9110 §9.2.2, §14.2",
    ),
    Row(
        "reset, closed or silent before the head",
        lambda came, codes: came.reason in _BEFORE_HEAD,
        Word.NO_HINT,
        Word.RETRY,
        Word.CROWD,
        Word.RETRY,
        "RFC 9110 §9.2.2",
    ),
    Row(
        "a body cut short, reset or silent; any other failure of the network",
        lambda came, codes: True,
        Word.NO_HINT,
        Word.RETRY,
        Word.RETRY,
        Word.RETRY,
        "RFC 9112 §8",
    ),
)


def verdict(came: Came, retry_codes: Collection[int]) -> Word:
    """Return the word for what came: that of the first row that fits. ``retry_codes`` are CHUNKDL_RETRY_HTTP_CODES."""
    return row_of(came, retry_codes).word(came.asked)


def row_of(came: Came, retry_codes: Collection[int]) -> Row:
    """Return the first row that fits."""
    for row in ROWS:
        if row.fits(came, retry_codes):
            return row
    raise AssertionError("the last row fits all")
