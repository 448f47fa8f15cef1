"""What an answer says of its host, whoever sent the request. Knows headers and circuits; nothing of files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from scrapy_chunkdl.download.http.headers import is_challenge, pause_of
from scrapy_chunkdl.download.limits.circuits import Circuits
from scrapy_chunkdl.download.progress import Progress


def note_answer(
    circuits: Circuits,
    progress: Progress,
    host: str,
    method: str,
    status: int,
    headers: Mapping[str, str],
    asked_at: float,
) -> None:
    """Tell a host's circuit of an answer, and the file whether it speaks against the host."""
    is_bad = circuits.answered(
        host,
        id(progress),
        status,
        asked_at,
        method=method,
        is_challenge=is_challenge(headers),
        pause_s=pause_of(status, headers, datetime.now(timezone.utc)),
    )
    progress.blames = host if is_bad else None
