"""Why a download failed, as a small tree whose classes say what the caller may do next.

Every error carries a ``reason``: the one word used in stats, failure records and log lines.
This module knows nothing of HTTP clients, files or queues.
"""

from __future__ import annotations

from scrapy_chunkdl.text.masking import sentence

LONGEST_MESSAGE = 300
"""Characters: messages go into log lines, items, feeds and records."""


class DownloadError(Exception):
    """A file, or one request for a part of it, did not work out.

    ``message`` is one sentence: secrets in it are masked, long URLs lose their middle, and it is cut to
    :data:`LONGEST_MESSAGE`. ``reason`` is a short snake_case word.
    ``status`` is the last HTTP status seen, if any.
    The fields below ``status`` are filled in for the file as a whole when it is given up:
    ``attempts`` counts HTTP requests sent, ``bytes_done`` the bytes kept on disk, and
    ``resumable`` says whether a later run continues from them.
    """

    def __init__(self, message: str, *, reason: str, status: int | None = None) -> None:
        super().__init__(sentence(message, LONGEST_MESSAGE))
        self.reason = reason
        self.status = status
        self.attempts = 0
        self.bytes_done = 0
        self.resumable = False


class Transient(DownloadError):
    """Worth another try: connection lost, time-out, 408 or 5xx, a body cut short.

    ``weight`` is how much it counts among the failures after which a file is given up.
    """

    weight = 1.0


class Throttled(Transient):
    """A pause was asked for (429, or an error with Retry-After): the host cools down, the file does not fail.

    ``delay`` is in seconds, or ``None`` when the server named none. ``of_host`` is False where the file alone has to
    wait, since it is still being made.
    """

    def __init__(self, message: str, *, status: int, delay: float | None, of_host: bool = True) -> None:
        super().__init__(message, reason="throttled" if of_host else "not_ready", status=status)
        self.delay = delay
        self.of_host = of_host
        if not of_host:
            self.weight = 0.1


class TooFast(Transient):
    """The host says no to some requests and serves others: it is asked more slowly from now on."""

    weight = 0.25


class Contradiction(Transient):
    """An answer that cannot be of this file, by what others told of it: neither used nor believed."""

    def __init__(self, message: str, *, status: int = 200) -> None:
        super().__init__(message, reason="contradiction", status=status)


class AskLess(DownloadError):
    """An error that may be about Range or If-Range: ask with less. ``refusal`` is what it is if that does not help."""

    def __init__(self, refusal: DownloadError) -> None:
        super().__init__(str(refusal), reason=refusal.reason, status=refusal.status)
        self.refusal = refusal


class RangeMismatch(Transient):
    """A 206 whose bounds were not asked for: different backends behind one address (RFC 9110 §15.3.7)."""

    def __init__(self, message: str, *, status: int = 206) -> None:
        super().__init__(message, reason="range_mismatch", status=status)


class RangeIgnored(DownloadError):
    """A 200 to a range request. Deterministic: go on with one stream, do not retry (RFC 9110 §14.2)."""

    def __init__(self, message: str, *, status: int = 200) -> None:
        super().__init__(message, reason="range_ignored", status=status)


class SourceChanged(DownloadError):
    """The file is not the version the transfer began with: start afresh, once."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, reason="source_changed", status=status)


class Remeasured(DownloadError):
    """The file has another size than the first answer said, before a byte of it was used: plan again with ``total``."""

    def __init__(self, message: str, *, total: int, status: int) -> None:
        super().__init__(message, reason="remeasured", status=status)
        self.total = total


class Permanent(DownloadError):
    """No retry will help: 404, refused address, wrong checksum, file too large."""


class Postponed(Permanent):
    """Nothing is wrong with the file: it waits for something that others wait for, too. Asking again now is no use."""


class NoRoom(Postponed):
    """No space, or none within a quota, on the disk or in the store. ``needs_bytes``: what was asked for, if known.

    ``until`` says what is waited for.
    """

    until = "there is room"

    def __init__(self, message: str, *, needs_bytes: int = 0, reason: str = "disk_full") -> None:
        super().__init__(message, reason=reason)
        self.needs_bytes = needs_bytes


class KeysExpired(NoRoom):
    """The store takes nothing from anybody whose keys have run out: the same for all files, until they are renewed."""

    until = "its keys are renewed"

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="store_keys_expired")


class LeadsToMetalink(DownloadError):
    """The URL led to a document that says where the file is, before anything was written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="bad_metalink")


class HostIll(Postponed):
    """The host fails, whatever it is asked for: it is left alone until somebody finds that it serves again."""

    def __init__(self, message: str, *, host: str) -> None:
        super().__init__(message, reason="host_ill")
        self.host = host
