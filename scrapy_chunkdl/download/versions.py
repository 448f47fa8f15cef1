"""Whether a part is of the version, or file, that a transfer began with: the rule for all kinds of sources. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from scrapy_chunkdl.download.errors import Permanent, RangeIgnored, SourceChanged
from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.known import By, Known, Match, compare
from scrapy_chunkdl.download.source import Seen


def refuse_other_version(
    seen: Seen, validator: Validator, digests: Mapping[str, str], *, is_main: bool, url: str, status: int | None = None
) -> None:
    """Raise unless a part that came from ``url`` is sure to be of the version, or file, that the transfer began with.

    It has to show its validators (RFC 9110 §15.3.7). Only where a digest of the whole decides at the end need it not.
    ``digests`` are those its source tells; ``is_main`` is the source that the others have to agree with.
    """
    remote = seen.remote
    is_checked = seen.is_checked or bool(remote.digests)
    match = compare(Known(By.PARTS, seen.size, remote.validator), Known(By.PARTS, seen.size, validator))
    if is_main:
        if match is Match.OTHER:
            raise SourceChanged(f"{url} is another version now", status=status)
        if match is not Match.SAME and not is_checked:
            raise RangeIgnored(f"{url} does not say of which version its part is", status=status or 206)
        return
    if any(digests.get(name, digest) != digest for name, digest in remote.digests.items()):
        raise Permanent(f"{url} is another file by its digest", reason="other_digest", status=status)
    if not is_checked and match is not Match.SAME:
        text = f"{url} cannot be told to be the same file: no checksum, other validators"
        raise Permanent(text, reason="other_version", status=status)
