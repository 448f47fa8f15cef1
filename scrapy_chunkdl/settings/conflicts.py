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


_OF_ALL_PROCESSES = (
    "cluster_concurrent_chunks_per_host",
    "cluster_max_rate",
    "cluster_max_rate_per_host",
    "cluster_download_delay",
)


def _kept_in_redis(name: str) -> Conflict:
    return Conflict(
        lambda set_to: set_to["mode"] == "inline" and set_to[name] > 0,
        f"CHUNKDL_{name.upper()} = {{{name}}} is kept in Redis, which "
        'CHUNKDL_MODE = "inline" does without: set it to 0, or use CHUNKDL_MODE = "queue".',
    )


CONFLICTS = (
    Conflict(
        lambda set_to: set_to["failed_max"] not in (0, MOST_RECORDS) and set_to["on_failure"] == "hold",
        'CHUNKDL_FAILED_MAX = {failed_max} would drop items that CHUNKDL_ON_FAILURE = "hold" keeps: set it to 0.',
    ),
    *(_kept_in_redis(name) for name in _OF_ALL_PROCESSES),
    Conflict(
        lambda set_to: set_to["mode"] == "inline" and bool(set_to["dashboard"]),
        "CHUNKDL_DASHBOARD = {dashboard!r} shows what is in Redis, which "
        'CHUNKDL_MODE = "inline" does without: set it to False, or use CHUNKDL_MODE = "queue".',
    ),
    Conflict(
        lambda set_to: set_to["priority_field"] is not None and isinstance(set_to["items_key"], str),
        "CHUNKDL_PRIORITY_FIELD = {priority_field!r} chooses among the lists of CHUNKDL_ITEMS_KEY, which names one: "
        'name several, such as ["%(spider)s:urgent", "%(spider)s:items"], or remove it.',
    ),
    Conflict(
        lambda set_to: set_to["path_field"] in (set_to["url_field"], set_to["filename_field"]),
        "CHUNKDL_PATH_FIELD = {path_field!r} is the field of the URL or of the name, too, which the path would be "
        "written over: name another.",
    ),
    Conflict(
        lambda set_to: (
            set_to["result_field"] is not None
            and set_to["result_field"] in (set_to["url_field"], set_to["filename_field"], set_to["path_field"])
        ),
        "CHUNKDL_RESULT_FIELD = {result_field!r} is the field of the URL, the name or the path, too, which the result "
        "would be written over: name another.",
    ),
    Conflict(
        lambda set_to: set_to["files_field"] in {path.partition(".")[0] for path in set_to["attachments"]},
        "CHUNKDL_FILES_FIELD = {files_field!r} is where attachments stand (CHUNKDL_ATTACHMENTS), which the files would "
        "be written over: name another.",
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
