"""Items as JSON and back, of the type they were.

An item that is no dict waits in the list with one more field, :data:`CLASS_FIELD`, which names its class; so do the
items inside it. That name is looked up among the classes this process knows and never imported: whoever can write into
the list chooses among the project's item classes and cannot have other code loaded. Knows JSON and item types; nothing
of Redis or attachments.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from itemadapter import ItemAdapter
from scrapy.http import Request, Response
from scrapy.utils.misc import load_object
from scrapy.utils.serialize import ScrapyJSONEncoder
from twisted.internet.defer import Deferred

from scrapy_chunkdl.items import trace_field
from scrapy_chunkdl.items.values import CLASS_FIELD, TYPE_FIELD, Reader, Salvager, Unwritable, Writer, class_name
from scrapy_chunkdl.settings.config import ConfigError
from scrapy_chunkdl.text.masking import printable

logger = logging.getLogger(__name__)

LONE_SURROGATES = "backslashreplace"
"""Pages have halves of emojis. UTF-8 has no word for them, JSON has, \\ud83d, and that is how Python escapes them."""

MOST_TOLD = 50
"""Types that are told of in one process: names from Redis may be without end."""

_MASKED = "**********"
_LONGEST_NAME = 100
_LONGEST_REASON = 160
_MARK_OF_CLASS, _MARK_OF_TYPE = CLASS_FIELD.encode(), TYPE_FIELD.encode()


def item_classes_in(namespace: Mapping[str, object]) -> list[type]:
    """Return the item classes and enumerations a module, given by its ``vars``, defines or imports by name."""
    return [value for value in namespace.values() if isinstance(value, type) and _is_known_by_name(value)]


def item_classes_of(cls: type) -> list[type]:
    """Return the item classes and enumerations in the modules of a class and of its bases.

    Also those in all modules of its package that are imported by now: a loader or a page object may know a class that
    the spider's module does not name.
    """
    modules = {base.__module__ for base in cls.__mro__} - {"builtins", "scrapy"}
    packages = {name.partition(".")[0] for name in modules} - {"scrapy", "scrapy_redis", "scrapy_chunkdl"}
    names = [name for name in list(sys.modules) if name in modules or name.partition(".")[0] in packages]
    found = [cls for name in names for cls in item_classes_in(getattr(sys.modules.get(name), "__dict__", {}))]
    return list(dict.fromkeys(found))


def known_types(spider: type, named: Iterable[Any]) -> ItemTypes:
    """Know the item classes of a spider's project, and those named by their paths. Raises ConfigError."""
    classes = []
    for entry in named:
        try:
            cls = load_object(entry)
        except (ImportError, NameError, ValueError) as error:
            raise ConfigError(f"CHUNKDL_ITEM_CLASSES has {entry!r}, which cannot be imported: {error}") from error
        classes.append(cls)
    return ItemTypes([*item_classes_of(spider), *classes])


def plain_json(item: object) -> bytes:
    """Write an item as JSON without telling its type. Raises TypeError or ValueError for what JSON does not know."""
    return _encode(_plain, item)


class ItemTypes:
    """The item classes one process knows: those it was given, and those of the items it has written itself."""

    def __init__(self, classes: Iterable[type] = ()) -> None:
        self._known = {class_name(cls): cls for cls in classes}
        self._warned: set[str] = set()
        self._checked: set[type] = set()
        self._writer = Writer(self._write_item, told=self._tell_of_values)
        self._reader = Reader(self._enum, self._tell_of_values)

    def write(self, item: object) -> bytes:
        """Write an item as JSON. Raises :class:`Unwritable` (a TypeError) or ValueError for what cannot be read back.

        The first item of each class is read back for comparison: what does not come back as it was is told then.
        """
        payload = _encode(self._writer, item)
        if type(item) not in self._checked and type(item) is not dict:
            self._checked.add(type(item))
            self._compare(type(item), payload)
        return payload

    def salvage(self, item: object) -> bytes:
        """Write what :meth:`write` refused as JSON that a person can read: :meth:`read` will refuse it, too."""
        return _encode(Salvager(self._write_item), item)

    def read(self, payload: bytes) -> Any:
        """Read an item. What cannot be of its type again is a dict with all its fields, and said so once per class.

        Raises ValueError for what is no JSON, and for a marked value that makes no sense.
        """
        payload, _ = trace_field.split(payload)
        is_marked = _MARK_OF_CLASS in payload or _MARK_OF_TYPE in payload
        revive = self._revive if is_marked else None
        try:
            return json.loads(payload, object_hook=revive)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    def _compare(self, cls: type, payload: bytes) -> None:
        try:
            again = _encode(self._writer, self.read(payload))
        except (TypeError, ValueError) as error:
            self._warn(class_name(cls), "do not come back", str(error))
            return
        if again != payload and _shown(class_name(cls)) not in self._warned:
            before, after = json.loads(payload), json.loads(again)
            changed = [name for name in before if name not in after or before[name] != after[name]]
            where = ", ".join(changed) or "its fields"
            self._warn(class_name(cls), "come out of Redis otherwise than they went in", f"the class changes {where}")

    def _write_item(self, item: Any) -> Any:
        if isinstance(item, dict) or not ItemAdapter.is_item(item):
            return self._write_what_exporters_do(item)
        name = class_name(type(item))
        self._known[name] = type(item)
        return {CLASS_FIELD: name, **_write_fields(self._writer, item)}

    def _write_what_exporters_do(self, value: Any) -> Any:
        if not isinstance(value, (Request, Response, Deferred)):
            return NotImplemented
        self._tell_of_values(class_name(type(value)), "text")
        return ScrapyJSONEncoder().default(value)

    def _enum(self, name: str) -> type[Enum] | None:
        cls = self._known.get(name)
        return cls if cls is not None and issubclass(cls, Enum) else None

    def _revive(self, read: dict[str, Any]) -> Any:
        if TYPE_FIELD in read:
            return self._reader.read(read)
        if CLASS_FIELD not in read:
            return read
        name = read.pop(CLASS_FIELD)
        cls = self._known.get(name) if isinstance(name, str) else None
        if cls is None or not _is_item_class(cls):
            self._warn_of_dicts(str(name), "this process does not know that class: name it in CHUNKDL_ITEM_CLASSES")
            return read
        try:
            return _make(cls, read)
        except Exception as error:  # noqa: BLE001 -- a class of the project's may raise whatever it likes
            reason = f"the class does not take its fields ({type(error).__name__}: {' '.join(str(error).split())})"
            self._warn_of_dicts(str(name), reason)
            return read

    def _warn_of_dicts(self, name: str, reason: str) -> None:
        self._warn(name, "come out of Redis as dicts, with all fields", reason)

    def _warn(self, name: str, fate: str, reason: str) -> None:
        if self._is_news(name):
            logger.warning("Items of class %s %s: %s.", _shown(name), fate, printable(reason)[:_LONGEST_REASON])

    def _tell_of_values(self, name: str, becomes: str) -> None:
        if self._is_news(name):
            logger.warning("Values of type %s come out of Redis as %s.", _shown(name), becomes)

    def _is_news(self, name: str) -> bool:
        name = _shown(name)
        if name in self._warned or len(self._warned) >= MOST_TOLD:
            return False
        self._warned.add(name)
        if len(self._warned) == MOST_TOLD:
            logger.warning("The next is the last type that is told of: there are %d already.", MOST_TOLD - 1)
        return True


def _never(value: Any) -> Any:
    if isinstance(value, dict) or not ItemAdapter.is_item(value):
        return (
            ScrapyJSONEncoder().default(value) if isinstance(value, (Request, Response, Deferred)) else NotImplemented
        )
    return _write_fields(_plain, value)


_plain = Writer(_never, marks=False)
_dumps = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def _encode(writer: Writer, item: object) -> bytes:
    try:
        return _dumps(writer.write(item)).encode(errors=LONE_SURROGATES)
    except RecursionError as error:
        raise ValueError("it is nested too deeply, or contains itself") from error


def _write_fields(writer: Writer, item: Any) -> dict[str, Any]:
    """Return the fields of an item in JSON types; what of a pydantic object only pydantic can write, it writes."""
    more = getattr(item, "__pydantic_extra__", None) or {}  # which itemadapter leaves out
    values = {**ItemAdapter(item), **more}
    if not hasattr(item, "model_dump"):
        return writer.write_fields(values.items())
    written = {}
    for name, value in values.items():
        try:
            written.update(writer.write_fields([(name, value)]))
        except Unwritable as problem:
            written[name] = _written_by_pydantic(item, name, problem)
    return written


def _written_by_pydantic(item: Any, name: str, problem: Unwritable) -> Any:
    try:
        written = item.model_dump(mode="json", include={name}, round_trip=True)[name]
    except Exception:  # noqa: BLE001 -- a serializer of the project's may raise whatever it likes
        raise problem from None
    if _MASKED in _dumps(written):  # a secret beside it would come back as asterisks
        raise problem
    return written


def _shown(name: str) -> str:
    return printable(name[:_LONGEST_NAME])[:_LONGEST_NAME]


def _is_item_class(cls: type) -> bool:
    return ItemAdapter.is_item_class(cls) and not issubclass(cls, dict)


def _is_known_by_name(cls: type) -> bool:
    return _is_item_class(cls) or issubclass(cls, Enum)


def _make(cls: type, values: dict[str, Any]) -> Any:
    """Make an item by its constructor, so that defaults, converters and checks apply. Raises what it raises."""
    known = set(ItemAdapter.get_field_names_from_class(cls) or ())
    unknown = values.keys() - known
    if unknown and getattr(cls, "model_config", {}).get("extra") != "allow":
        raise ValueError(f"it has no field {', '.join(sorted(unknown))}")
    if is_dataclass(cls):
        arguments = {field.name: field.name for field in fields(cls) if field.init}
    elif hasattr(cls, "__attrs_attrs__"):
        arguments = {field.name: field.alias for field in cls.__attrs_attrs__ if field.init}
    elif (model := getattr(cls, "model_fields", None) or getattr(cls, "__fields__", None)) is not None:
        arguments = {name: name for name in values} | {name: _argument(name, field) for name, field in model.items()}
    else:  # scrapy.Item
        return cls(values)
    item = cls(**{arguments[name]: value for name, value in values.items() if name in arguments})
    for name in values.keys() - arguments.keys():
        object.__setattr__(item, name, values[name])  # it may be frozen
    return item


def _argument(name: str, field: Any) -> str:
    """Return what pydantic wants a field to be called when the object is made."""
    alias = getattr(field, "validation_alias", None) or getattr(field, "alias", None)
    alias = next(iter(getattr(alias, "choices", ())), alias)  # AliasChoices: any of them does
    return alias if isinstance(alias, str) else name
