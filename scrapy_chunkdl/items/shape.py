"""What an item looks like to someone who searches its attachments: where a path leads, and which fields hold URLs.

Knows items through itemadapter; nothing of settings but the paths it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from itemadapter import ItemAdapter

_URL = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^\s/]")
_MOST_FIELDS = 6
_DEEPEST = 5
_MOST_LOOKED_AT = 3
"""Entries of a list that are looked at: they are alike."""


def leads_nowhere(item: Any, path: list[str]) -> bool:
    """Tell whether a dotted path names a field that is not there. A field without anything in it is there."""
    if not path or item is None:
        return False
    if isinstance(item, (list, tuple)):
        return bool(item) and all(leads_nowhere(child, path) for child in item)
    fields = _fields_of(item)
    if fields is None or path[0] not in fields:
        return True
    return leads_nowhere(fields[path[0]], path[1:])


def fields_like_urls(item: Any) -> list[str]:
    """Return the dotted paths of fields that hold URLs, a few of them."""
    return list(dict.fromkeys(islice(_urls_in(item, "", _DEEPEST), 4 * _MOST_FIELDS)))[:_MOST_FIELDS]


def _urls_in(node: Any, path: str, deepest: int) -> Iterator[str]:
    if isinstance(node, (list, tuple)):
        for child in node[:_MOST_LOOKED_AT]:
            yield from _urls_in(child, path, deepest)
    elif deepest and (fields := _fields_of(node)) is not None:
        for name, value in fields.items():
            yield from _urls_in(value, f"{path}.{name}".lstrip("."), deepest - 1)
    elif path and not isinstance(node, (bytes, int, float)) and node is not None and _URL.match(str(node)):
        yield path


def _fields_of(node: Any) -> Mapping[str, Any] | None:
    if isinstance(node, Mapping):
        return node
    return ItemAdapter(node) if ItemAdapter.is_item(node) else None
