"""Which settings cannot be set together, as a table: when, and the sentence for it.

Knows the values of all settings by their names in :class:`~scrapy_chunkdl.settings.config.Config`; where they come from
it does not. A new conflict is a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MOST_RECORDS = 100_000
"""Records of files given up that are kept where nothing is set: Redis has no memory without end."""

_Values = Mapping[str, Any]


class Conflict(NamedTuple):
    """What cannot work, and what to write instead; in the sentence, ``{name}`` stands for the value of a setting."""

    is_met: Callable[[_Values], bool]
    sentence: str


CONFLICTS = (
    Conflict(
        lambda set_to: set_to["failed_max"] not in (0, MOST_RECORDS) and set_to["on_failure"] == "hold",
        'CHUNKDL_FAILED_MAX = {failed_max} would drop items that CHUNKDL_ON_FAILURE = "hold" keeps: set it to 0.',
    ),
    Conflict(
        lambda set_to: set_to["mode"] == "inline" and set_to["cluster_concurrent_chunks_per_host"] > 0,
        "CHUNKDL_CLUSTER_CONCURRENT_CHUNKS_PER_HOST = {cluster_concurrent_chunks_per_host} is kept in Redis, which "
        'CHUNKDL_MODE = "inline" does without: set it to 0, or use CHUNKDL_MODE = "queue".',
    ),
    Conflict(
        lambda set_to: set_to["mode"] == "inline" and bool(set_to["dashboard"]),
        "CHUNKDL_DASHBOARD = {dashboard!r} shows what is in Redis, which "
        'CHUNKDL_MODE = "inline" does without: set it to False, or use CHUNKDL_MODE = "queue".',
    ),
    Conflict(
        lambda set_to: set_to["naming"] == "content" and "://" in set_to["store"],
        'CHUNKDL_NAMING = "content" needs a local folder, and CHUNKDL_STORE is {scheme}://…: use '
        'CHUNKDL_NAMING = "url", or a folder.',
    ),
    Conflict(
        lambda set_to: set_to["mode"] == "inline" and set_to["ack"] == "feed",
        'CHUNKDL_ACK = "feed" keeps items in Redis until a feed has them, which CHUNKDL_MODE = "inline" does without: '
        'use CHUNKDL_MODE = "queue", or CHUNKDL_ACK = "item".',
    ),
    Conflict(
        lambda set_to: set_to["mode"] == "inline" and set_to["on_failure"] == "hold",
        'CHUNKDL_ON_FAILURE = "hold" keeps items in Redis, which CHUNKDL_MODE = "inline" does without: '
        'use CHUNKDL_MODE = "queue", or CHUNKDL_ON_FAILURE = "continue".',
    ),
)


def conflict(values: Mapping[str, Any]) -> str | None:
    """Return the sentence of the first conflict that these values meet, None if they go together."""
    shown = {**values, "scheme": values["store"].partition("://")[0]}  # the rest of a URI may hold a password
    return next((row.sentence.format_map(shown) for row in CONFLICTS if row.is_met(values)), None)
