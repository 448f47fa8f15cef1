"""What may be shown of an item that was set aside: of each file what is known, of what makes no sense its beginning.

Secrets in URLs are masked. Knows records and items; nothing of terminals, pages or Redis.
"""

from __future__ import annotations

from typing import Any

from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.dead_letters import DeadLetter
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import masked

_FIELDS = {
    **dict.fromkeys(("url", "filename", "reason", "message"), untrusted.text),
    **dict.fromkeys(("status", "attempts", "bytes_done"), untrusted.count),
    "resumable": untrusted.flag,
    "time": untrusted.text,
}
_EXCERPT = 200
"""Characters shown of an item in which no attachment can be found."""


def as_dict(item: DeadLetter, config: Config) -> dict[str, Any]:
    """Return ``files``, whether the item is ``dead``, and ``text`` where there are no files to tell of: JSON types."""
    if item.records:
        files = [_masked(untrusted.fields(record, _FIELDS)) for record in item.records]
        return {"files": files, "dead": item.payload is None}
    payload = item.payload if item.payload is not None else item.entries[0]
    urls = _urls(payload, config)
    told: dict[str, Any] = {"files": [_masked({"url": url}) for url in urls], "dead": True}
    if not urls:
        told["text"] = masked(payload[: 4 * _EXCERPT].decode(errors="replace"))[:_EXCERPT]
    return told


def _urls(payload: bytes, config: Config) -> list[str]:
    try:
        item = untrusted.parsed(payload)
    except ValueError:
        return []
    return [found.url for found in attachments.find(item, config)] if isinstance(item, dict) else []


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: masked(value) if isinstance(value, str) else value for name, value in fields.items()}
