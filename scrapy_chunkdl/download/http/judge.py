"""What an answer means for its file and its host: the table of verdicts asked, and carried out.

Tells the host's limits. Knows answers and what is known of the file; nothing of how requests are sent.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone

import aiohttp

from scrapy_chunkdl.download.errors import (
    AskLess,
    Contradiction,
    DownloadError,
    Permanent,
    SourceChanged,
    Throttled,
    TooFast,
    Transient,
)
from scrapy_chunkdl.download.http.answers import covers_whole
from scrapy_chunkdl.download.http.headers import parse_retry_after
from scrapy_chunkdl.download.http.verdict import (
    DEAD_LINK,
    SLOW_DOWN,
    TOO_FAST,
    TOO_MANY,
    Asked,
    Came,
    Word,
    is_whole,
    verdict,
)
from scrapy_chunkdl.download.known import Match, compare
from scrapy_chunkdl.download.plan.retry import UNSAID_PAUSE, Backoff
from scrapy_chunkdl.download.remote import Remote
from scrapy_chunkdl.download.source import FileContext


class Judge:
    """Judges the answers of one file. ``refused_head`` is the error status that its last HEAD was answered with."""

    def __init__(self, context: FileContext) -> None:
        self._options = context.options
        self._limits = context.limits
        self._evidence = context.evidence
        self._backoff = Backoff(context.options.backoff_base, context.options.backoff_max)
        self.refused_head = 0
        self._was_hinted = False  # and no GET was fine since

    def refused(
        self,
        response: aiohttp.ClientResponse,
        host: str,
        asked: Asked,
        asked_at: float,
        *,
        remote: Remote | None = None,
        conditional: bool = False,
        failures: int = 0,
        is_served: bool = False,
    ) -> DownloadError | None:
        """Return what is wrong with an answer by the table of verdicts, or None for one whose bytes are to be used.

        AskLess, SourceChanged and Contradiction are among what is returned. ``asked_at`` is monotonic.
        """
        match, is_doubtful, is_vouched, known = Match.UNTOLD, False, False, self._evidence.known
        if remote is not None and is_whole(response.status):
            if known is not None:
                match = compare(known, remote.known)
            is_doubtful = asked is Asked.FIRST and self._is_doubtful(response, remote, match)
            is_vouched = remote.size != 0 and not remote.validator.is_empty
        came = self._came(
            response,
            asked,
            match=match,
            is_doubtful=is_doubtful,
            is_vouched=is_vouched,
            conditional=conditional,
            failures=failures,
            is_served=is_served,
        )
        if came.status in TOO_FAST and came.pause is None and not is_served:
            came = came._replace(is_suspect=self._too_fast(came, host, asked_at))
        word = verdict(came, self._options.retry_codes)
        if word is Word.USE:
            self._was_hinted = False
            return None
        if self._was_hinted and came.status in DEAD_LINK and not came.is_suspect:
            self._limits.habits.head_used_it_up(host)
        text = f"{response.url} answered {came.status} {response.reason or ''}".rstrip()
        if word is Word.CROWD:
            self._limits.refused(host, time.monotonic())
        if word is Word.AFRESH:
            return SourceChanged(f"{response.url} is another version now", status=came.status)
        if word is Word.LESS:
            refusal = self._refusal(text, came)
            if not came.status or came.status != self.refused_head:
                return AskLess(refusal)
            if not came.is_suspect:
                return refusal
            word = Word.SLOWER
        if word is Word.WAIT_HOST:
            self._cool_down(host, came.pause)
            return Throttled(text, status=came.status, delay=came.pause)
        if word is Word.WAIT_FILE:
            delay = min(came.pause or 0.0, self._options.retry_after_max)
            return Throttled(text, status=came.status, delay=delay, of_host=False)
        if word is Word.SLOWER:
            return TooFast(text, reason=f"http_{came.status}", status=came.status)
        if match is Match.CONTRADICTION:
            return Contradiction(f"{response.url} answered with something else than the file", status=came.status)
        if word is Word.END:
            return Permanent(text, reason=f"http_{came.status}", status=came.status)
        reason = "range_ignored" if is_whole(came.status) else f"http_{came.status}"
        return Transient(text, reason=reason, status=came.status)

    def is_hint(self, response: aiohttp.ClientResponse, host: str, asked_at: float) -> bool:
        """Tell whether the answer to a HEAD says anything of the file; the limits learn what it says of the host."""
        came = self._came(response, Asked.HEAD)
        if came.status < 400:
            self._limits.answered(host)
        elif came.status in TOO_MANY:
            self._limits.refused(host, asked_at)
        if came.status in TOO_FAST and came.pause is None:
            self._too_fast(came, host, asked_at)
        word = verdict(came, self._options.retry_codes)
        if word is Word.WAIT_HOST:
            self._cool_down(host, came.pause)
        self.refused_head = 0 if word is Word.HINT else response.status
        self._was_hinted = word is Word.HINT
        return word is Word.HINT

    def _too_fast(self, came: Came, host: str, asked_at: float) -> bool:
        is_suspect = self._limits.too_fast(host, asked_at, is_load=came.status in TOO_MANY)
        return is_suspect and came.status in SLOW_DOWN

    def _refusal(self, text: str, came: Came) -> DownloadError:
        kind = Transient if came.status in self._options.retry_codes else Permanent
        return kind(text, reason=f"http_{came.status}", status=came.status)

    def _came(self, response: aiohttp.ClientResponse, asked: Asked, **more: object) -> Came:
        pause = None
        if "Retry-After" in response.headers:
            pause = parse_retry_after(response.headers["Retry-After"], datetime.now(timezone.utc))
        is_part = response.status == 206 and asked is Asked.PLAIN and not covers_whole(response)
        return Came(asked, response.status, pause=pause, is_part=is_part, **more)  # type: ignore[arg-type]

    def _is_doubtful(self, response: aiohttp.ClientResponse, remote: Remote, match: Match) -> bool:
        """Whether a 200 to the first range may be that range only: it names it, or is just as long as it."""
        known = self._evidence.known
        if "Content-Range" in response.headers:
            return not covers_whole(response)
        if match is Match.OTHER and known is not None:
            return known.validator.same_version(remote.validator) is True
        is_known = known is not None and known.size is not None and match is Match.SAME
        return not is_known and remote.size == self._options.chunk_size

    def _cool_down(self, host: str, pause: float | None) -> None:
        delay = self._backoff.pause(UNSAID_PAUSE) if pause is None else pause
        self._limits.cool_down(host, min(delay, self._options.retry_after_max))
