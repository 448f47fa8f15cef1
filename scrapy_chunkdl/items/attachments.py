"""Finds the attachments of an item, whatever its type and nesting, and writes results back into them.

Knows items (through itemadapter) and the names of their fields; nothing of downloads, Redis or crawls.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, MutableMapping, MutableSequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from itemadapter import ItemAdapter

from scrapy_chunkdl.items.as_text import short_repr, url_text
from scrapy_chunkdl.settings.config import Config

_LONGEST_NAMES = 120

_Fields = MutableMapping[str, Any]
_Place = tuple[Any, Any]
"""Where a bare URL stands: a list and an index, or the fields of an item and the name of one."""


@dataclass(slots=True)
class Attachment:
    """One file an item wants: what the item says of it, and the place its path is written to.

    ``problem`` is a sentence when the item's words make no sense; such an attachment cannot be fetched. ``shown`` is
    what the project's hooks have been shown of it.
    """

    url: str
    filename: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    checksum: str | None = None
    checksum_url: str | None = None
    metalink: str | None = None
    mirrors: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    proxy: str | None = None
    cookiejar: Hashable = None
    problem: str | None = None
    shown: Any = None
    _fields: _Fields | None = None
    _bare_url_at: _Place | None = None

    def write_back(self, config: Config, path: str, result: Mapping[str, Any]) -> None:
        """Fill in the path (empty for a file given up) and, where a field is set for it, the result.

        An attachment that is only a URL becomes a dict of URL and path, unless CHUNKDL_FILES_FIELD says where results
        go. Raises ValueError for an item whose type has no such field, or does not let it be set.
        """
        if self._bare_url_at is not None and config.files_field is None:
            place, index = self._bare_url_at
            fields = {config.url_field: place[index]}
            _set(place, index, fields, "the place of a URL")
            self._fields = fields
            self._bare_url_at = None
        if self._fields is None:
            return
        written = {config.path_field: path, **({config.result_field: dict(result)} if config.result_field else {})}
        for name, value in written.items():
            _set(self._fields, name, value)


def _set(place: Any, name: Any, value: object, what: str = "an attachment") -> None:
    try:
        place[name] = value
    except Exception as error:  # each item type has its own, and validators raise what they like
        kind = type(place.item if isinstance(place, ItemAdapter) else place).__qualname__
        raise ValueError(f"{name} cannot be written into {what} of type {kind}: {error}") from error


def is_item(item: object) -> bool:
    """Tell whether itemadapter knows this type: dict, Item, dataclass, attrs or pydantic."""
    return isinstance(item, dict) or ItemAdapter.is_item(item)


def _fields_of(item: Any) -> _Fields:
    """Return the fields of an item. A dict has them itself: an adapter first asks which of five types it is."""
    return item if isinstance(item, dict) else ItemAdapter(item)


def find(item: object, config: Config) -> list[Attachment]:
    """Return the attachments at the configured paths, in the order of the item; none where a path leads nowhere."""
    found: list[Attachment] = []
    for path in config.attachments:
        _walk(item, path.split("."), config, None, found)
    return found


def write_files(item: object, config: Config, files: list[dict[str, Any]]) -> None:
    """Fill CHUNKDL_FILES_FIELD of an item, as FilesPipeline also does where there are no files.

    Raises ValueError for an item whose type has no such field; not if there is nothing to be kept.
    """
    if config.files_field is not None:
        with suppress(*([] if files else [ValueError])):
            _set(_fields_of(item), config.files_field, files, "an item")


BESIDE = ("checksum_url", "metalink")
"""What an attachment has URLs of that say more of its file."""

REQUEST_ONLY = ("headers", "proxy", "cookiejar")
"""What an attachment says of its request, which nobody needs when the file is there."""


_MORE = frozenset(("checksum", "mirrors", "accept", *BESIDE, *REQUEST_ONLY))
"""What an attachment may say of itself, besides its URL and name."""


def says_of_request(attachment: Attachment) -> bool:
    """Whether there may be anything in an attachment that only its request needs."""
    return bool(attachment.headers or attachment.proxy or attachment.cookiejar or attachment.problem)


def strip(item: object, config: Config) -> None:
    """Take from the attachments of an item what only their requests needed. Raises ValueError where that is refused."""
    for found in find(item, config):
        fields = found._fields
        for name in REQUEST_ONLY if fields is not None else ():
            if fields is None or not fields.get(name):
                continue
            if isinstance(fields, dict):
                del fields[name]
            else:
                _set(fields, name, type(fields[name])() if isinstance(fields[name], (str, dict)) else None)


def problem_of_type(item: object, config: Config) -> str | None:
    """Say why no item of this one's class can take its files, if so: no later try would help."""
    name, cls = config.files_field, type(item)
    if name is None or issubclass(cls, dict) or not is_item(item):
        return None
    if name in set(ItemAdapter.get_field_names_from_class(cls) or ()) or _takes_any_field(cls):
        return None
    return (
        f"CHUNKDL_FILES_FIELD = {name!r}, but items of class {cls.__qualname__} have no such field: add it to the "
        "class, or name another"
    )


def _takes_any_field(cls: type) -> bool:
    return bool(getattr(cls, "model_config", {}).get("extra") == "allow")


def _walk(node: Any, path: list[str], config: Config, place: _Place | None, found: list[Attachment]) -> None:
    kind = type(node)  # of most it says all: each isinstance with an ABC takes as long as the rest of a step
    if kind is list or (kind is not dict and kind is not str and _is_sequence(node)):
        for index, child in enumerate(node):
            _walk(child, path, config, (node, index), found)
    elif path:
        if kind is dict or is_item(node):
            fields = _fields_of(node)
            _walk(fields.get(path[0]), path[1:], config, (fields, path[0]), found)
    elif isinstance(node, str) and place is not None:
        found.append(_checked(Attachment(url=node, _bare_url_at=place), config))
    elif kind is dict or is_item(node):
        found.append(_read_plain(node, config) or _read(_fields_of(node), config))
    elif place is not None and (url := url_text(node)) is not None:
        found.append(_checked(Attachment(url=url, _bare_url_at=place), config))
    elif node is not None:
        problem = f"an attachment is {type(node).__name__}, not an object or a URL"
        found.append(Attachment(url="", problem=problem))


def _is_sequence(node: Any) -> bool:
    return isinstance(node, (list, tuple)) or (not isinstance(node, (dict, str)) and isinstance(node, MutableSequence))


def _read_plain(node: Any, config: Config) -> Attachment | None:
    """Read one of which nothing is said but its URL and name, as of most: 12 calls instead of 40. None for others."""
    if type(node) is not dict or not _MORE.isdisjoint(node):
        return None
    url, filename = node.get(config.url_field), node.get(config.filename_field)
    if type(url) is not str or not (url := url.strip()) or not (filename is None or type(filename) is str):
        return None
    return Attachment(url=url, filename=filename or None, _fields=node)


def _read(fields: _Fields, config: Config) -> Attachment:
    url, filename = fields.get(config.url_field), fields.get(config.filename_field)
    headers, checksum, mirrors = (fields.get(name) or None for name in ("headers", "checksum", "mirrors"))
    proxy, cookiejar = fields.get("proxy") or None, fields.get("cookiejar")
    accept, beside = accepted(fields.get("accept")), {name: fields.get(name) or None for name in BESIDE}
    attachment = Attachment(url=url_text(url) or "", _fields=fields)
    if filename is not None and not isinstance(filename, str):
        attachment.problem = f"{config.filename_field} is {short_repr(filename)}, not a string"
    elif headers is not None and (problem := _problem_of_headers(headers)):
        attachment.problem = problem
    elif checksum is not None and not isinstance(checksum, str):
        attachment.problem = f'checksum is {short_repr(checksum)}, not a string such as "sha256:…"'
    elif mirrors is not None and not (isinstance(mirrors, (list, tuple)) and all(map(url_text, mirrors))):
        attachment.problem = f"mirrors is {short_repr(mirrors)}, not a list of URLs"
    elif odd := [name for name, url in beside.items() if url is not None and url_text(url) is None]:
        attachment.problem = f"{odd[0]} is {short_repr(beside[odd[0]])}, not a URL"
    elif accept is None:
        text = short_repr(fields.get("accept"))
        attachment.problem = f'accept is {text}, not types or extensions such as "image/*" or ".pdf"'
    elif proxy is not None and url_text(proxy) is None:
        attachment.problem = 'proxy is not a string such as "http://host:3128" or "direct"'
    elif not isinstance(cookiejar, Hashable):
        attachment.problem = f"cookiejar is {type(cookiejar).__qualname__}, not the name of one"
    else:
        attachment.filename = filename or None
        attachment.headers = dict(headers or {})
        attachment.checksum = checksum
        attachment.checksum_url = url_text(beside["checksum_url"])
        attachment.metalink = url_text(beside["metalink"])
        attachment.mirrors = tuple(url_text(mirror) or "" for mirror in mirrors or ())
        attachment.accept = accept
        attachment.proxy = url_text(proxy)
        attachment.cookiejar = cookiejar
    return _checked(attachment, config, url)


def _checked(attachment: Attachment, config: Config, url: object = None) -> Attachment:
    attachment.url = attachment.url.strip()  # HTML lets links have space around them, and pages do
    if not attachment.url and attachment.problem is None:
        if url:
            attachment.problem = f"{config.url_field} is {short_repr(url)}, not a URL"
        else:
            has = ", ".join(map(str, attachment._fields or ()))[:_LONGEST_NAMES] or "none"
            attachment.problem = f"it has no {config.url_field} (CHUNKDL_URL_FIELD), its fields are: {has}"
    return attachment


def _problem_of_headers(headers: object) -> str | None:
    """Say what is wrong with headers, without their values: there are passwords and tokens among them."""
    if not isinstance(headers, Mapping):
        return f"headers is {type(headers).__qualname__}, not an object of strings"
    for name, value in headers.items():
        if not isinstance(name, str):
            return f"the name of a header is {type(name).__qualname__}, not a string"
        if not isinstance(value, str):
            return f"the header {short_repr(name)} is {type(value).__qualname__}, not a string"
    return None


def accepted(value: object) -> tuple[str, ...] | None:
    """Read what an attachment may be: a type, an extension with its dot, or several; None for what is neither."""
    patterns = value.split(",") if isinstance(value, str) else value or ()
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        return None
    patterns = tuple(pattern.strip() for pattern in patterns if pattern.strip())
    return patterns if all("/" in pattern or pattern.startswith(".") for pattern in patterns) else None
