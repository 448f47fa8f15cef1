"""What is known of a remote file, who said it, and whether one more answer agrees. Pure.

Each answer agrees, adds, or contradicts. A contradiction never replaces what is known: it is asked again, and refused
at the end (RFC 9110 §8.8, §15.3.7). Knows validators, sizes and types; nothing of requests, files or retries.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

from scrapy_chunkdl.download.http.headers import Validator

_PAGES = frozenset({"text/html", "application/xhtml+xml"})
"""What error, login and challenge pages are, whatever was asked for."""


class By(IntEnum):
    """Who said it, from the least trusted on."""

    BARE_GET = 1
    """A GET without a validator: a page that stands in for the file looks like that."""

    HEAD = 2
    """A hint: it may be about a redirect page, a gzip form, another backend (RFC 9110 §9.3.2)."""

    GET = 3
    PARTS = 4
    """Ranges that agreed with each other."""

    FINISHED = 5
    """A file that came whole, or a journal of what did."""


class Match(Enum):
    """What an answer is to what is known."""

    SAME = "the same version"
    OTHER = "another version"
    CONTRADICTION = "not to be believed"
    UNTOLD = "nothing tells"


class Known(NamedTuple):
    """A file as one answer, or several that agree, or a record of an earlier run describes it.

    ``size`` is in bytes, None where it was not said. ``content_type`` is the field as it was sent.
    """

    by: By
    size: int | None
    validator: Validator = Validator()
    content_type: str | None = None

    @property
    def is_page(self) -> bool:
        """Whether its type is that of a page people read."""
        return self.content_type is not None and self.content_type.partition(";")[0].strip().lower() in _PAGES


def compare(known: Known, answer: Known) -> Match:
    """Say what ``answer`` is to what is known of the file.

    Validators decide where both have them. An answer without any never overrules one that has them: if its size or kind
    is another, it is something else than the file. Another size under an equal ETag is a HEAD that lied, or an answer
    that is only a part. Under an equal date alone it is a version that was put there with its time (``cp -p``).
    """
    same = known.validator.same_version(answer.validator)
    if same is False:
        return Match.OTHER
    resized = known.size is not None and answer.size is not None and known.size != answer.size
    if same is True and not resized:
        return Match.SAME
    emptied = resized and answer.size == 0
    turned = known.content_type is not None and answer.is_page and not known.is_page
    if same is True:
        before, now = known.validator.strong_etag, answer.validator.strong_etag
        if before is not None and now is not None and before != now:
            return Match.OTHER
        is_dated = before is None or now is None
        may_be_other = known.by <= By.HEAD or (is_dated and not turned)
        return Match.OTHER if may_be_other and not emptied else Match.CONTRADICTION
    if answer.validator.is_empty:
        if known.validator.is_empty:
            if known.by >= By.HEAD and (emptied or (resized and turned)):
                return Match.CONTRADICTION
        elif resized or turned:
            return Match.CONTRADICTION
    return Match.OTHER if resized else Match.UNTOLD
