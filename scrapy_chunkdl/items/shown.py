"""What may be shown of an item that was set aside: of each file what is known, of what makes no sense its beginning.

Secrets in URLs are masked. Knows records and items; nothing of terminals, pages or Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from itemadapter import ItemAdapter

from scrapy_chunkdl.items import attachments
from scrapy_chunkdl.queue import untrusted
from scrapy_chunkdl.queue.dead_letters import DeadLetter
from scrapy_chunkdl.settings.config import Config
from scrapy_chunkdl.text.masking import masked, printable

_FIELDS = {
    **dict.fromkeys(("url", "filename", "reason", "message"), untrusted.text),
    **dict.fromkeys(("status", "attempts", "bytes_done"), untrusted.count),
    "resumable": untrusted.flag,
    "time": untrusted.text,
}
_TITLES = ("title", "name", "headline")
_FILES = ("ori_url", "file_urls", "path", "filename")
_DEEPEST = 4
_MOST_SHOWN = 20
_MOST_TEXTS = 200
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


def waiting_as_dict(payload: bytes, config: Config) -> dict[str, Any]:
    """Return what may be shown of a waiting item: ``title``, ``page``, its ``files``, and its beginning as ``text``."""
    try:
        item = untrusted.parsed(payload)
    except ValueError:
        item = None
    told = about(item if isinstance(item, dict) else None)
    files = [masked(url)[:_EXCERPT] for url in _urls(payload, config)[:_MOST_SHOWN]]
    return {**told, "files": files, "text": masked(payload[: 4 * _EXCERPT].decode(errors="replace"))[:_EXCERPT]}


def about(item: object) -> dict[str, str]:
    """Return what tells an item apart to a person: ``title``, and the ``page`` it comes from; "" where there is none.

    The first text in a field of that name, and the first URL, of the item itself or of what is in it, not too deep.
    """
    try:
        texts = list(_texts(item, 0))[:_MOST_TEXTS]
    except Exception:  # noqa: BLE001 -- of the item's class
        texts = []
    title = next((text for name, text in texts if name in _TITLES), "")
    page = next((text for name, text in texts if name not in _FILES and text.startswith(("http://", "https://"))), "")
    return {"title": printable(title)[:_EXCERPT], "page": masked(page)[:_EXCERPT]}


def _texts(value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Give the texts of an item with the names of their fields, those further up first."""
    below = []
    if isinstance(value, (list, tuple)):
        below = [("", one) for one in value[:_MOST_TEXTS]]
    elif depth == 0 or isinstance(value, Mapping):
        below = list(value.items() if isinstance(value, Mapping) else ItemAdapter(value).items())
    yield from ((str(name), found) for name, found in below if isinstance(found, str))
    if depth < _DEEPEST:
        for _, found in below:
            if isinstance(found, (list, tuple, Mapping)):
                yield from _texts(found, depth + 1)


def _urls(payload: bytes, config: Config) -> list[str]:
    try:
        item = untrusted.parsed(payload)
    except ValueError:
        return []
    return [found.url for found in attachments.find(item, config)] if isinstance(item, dict) else []


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: masked(value) if isinstance(value, str) else value for name, value in fields.items()}
