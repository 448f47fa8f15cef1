"""How urgent an item says that it is. Knows items through itemadapter; nothing of lists."""

from __future__ import annotations

from typing import Any

from itemadapter import ItemAdapter

from scrapy_chunkdl.items.as_text import short_repr
from scrapy_chunkdl.items.attachments import is_item


def priority_of(item: object, path: str) -> int:
    """Return the whole number at a dotted path, 0 where nothing is there. Raises ValueError for what is none."""
    node: Any = item
    for name in path.split("."):
        if node is None:
            return 0
        if not is_item(node):
            raise ValueError(f"{path} leads into {type(node).__name__}, not into an object")
        node = (node if isinstance(node, dict) else ItemAdapter(node)).get(name)
    if node is None or node == "":
        return 0
    try:
        number = int(node)
        if not isinstance(node, bool) and (isinstance(node, str) or number == node):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{path} is {short_repr(node)}, not a whole number")
