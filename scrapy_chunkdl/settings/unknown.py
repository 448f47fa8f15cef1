"""Names that look like settings of ours and are none: which one was meant, if that can be told.

Knows names, no values. A mistyped setting would otherwise be a setting that is silently not in force.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PREFIX = "CHUNKDL_"

_OF_OTHERS = frozenset({"FILES_STORE", "FILES_EXPIRES", "USER_AGENT", "ROBOTSTXT_OBEY", "DEFAULT_REQUEST_HEADERS"})
_OF_OTHERS |= {"REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PARAMS", "REDIS_ENCODING", "REDIS_ITEMS_KEY"}
"""Settings of Scrapy and scrapy-redis that hold for files, too."""


def why_unknown(name: str, known: Iterable[str]) -> str | None:
    """Return the sentence for a name with our prefix that is not among the known ones, None for any other name."""
    known = list(known)
    if not name.startswith(PREFIX) or name in known:
        return None
    if (theirs := name.removeprefix(PREFIX)) in _OF_OTHERS:
        return f"{name} is not a setting of scrapy-chunkdl: it is called {theirs}, and read as it is."
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else "See the settings page for those that exist."
    return f"{name} is not a setting of scrapy-chunkdl. {hint}"
