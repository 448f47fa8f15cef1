"""Items as JSON and back, of the type they were.

An item that is no dict waits in the list with one more field, :data:`CLASS_FIELD`, which names its class; so do the
items inside it. That name is looked up among the classes this process knows and never imported: whoever can write into
the list chooses among the project's item classes and cannot have other code loaded. Knows JSON and item types; nothing
of Redis or attachments.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from itemadapter import ItemAdapter
from scrapy.utils.serialize import ScrapyJSONEncoder

logger = logging.getLogger(__name__)

CLASS_FIELD = "chunkdl_item_class"

LONE_SURROGATES = "backslashreplace"
"""Pages have halves of emojis. UTF-8 has no word for them, JSON has, \\ud83d, and that is how Python escapes them."""

_ENCODED_CLASS_FIELD = CLASS_FIELD.encode()


def item_classes_in(namespace: Mapping[str, object]) -> list[type]:
    """Return the item classes that a module, given by its ``vars``, defines or imports by name. Dicts need none."""
    return [value for value in namespace.values() if isinstance(value, type) and _is_item_class(value)]


def plain_json(item: object) -> bytes:
    """Write an item as JSON without telling its type. Raises TypeError or ValueError for what JSON does not know."""
    return _plain(item).encode(errors=LONE_SURROGATES)


class ItemTypes:
    """The item classes one process knows: those it was given, and those of the items it has written itself."""

    def __init__(self, classes: Iterable[type] = ()) -> None:
        self._known = {_name(cls): cls for cls in classes}
        self._warned: set[str] = set()
        self._encode = _TypedEncoder(self._learn, ensure_ascii=False).encode

    def write(self, item: object) -> bytes:
        """Write an item as JSON. Raises TypeError or ValueError for what JSON does not know."""
        return self._encode(item).encode(errors=LONE_SURROGATES)

    def read(self, payload: bytes) -> Any:
        """Read an item. What cannot be of its type again is a dict with all its fields, and said so once per class.

        Raises ValueError for what is no JSON.
        """
        revive = self._revive if _ENCODED_CLASS_FIELD in payload else None
        try:
            return json.loads(payload, object_hook=revive)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    def _learn(self, cls: type) -> str:
        name = _name(cls)
        self._known[name] = cls
        return name

    def _revive(self, read: dict[str, Any]) -> Any:
        if CLASS_FIELD not in read:
            return read
        name = read.pop(CLASS_FIELD)
        cls = self._known.get(name) if isinstance(name, str) else None
        if cls is None:
            self._warn(str(name), "this process does not know that class: name it in CHUNKDL_ITEM_CLASSES")
            return read
        try:
            return _make(cls, read)
        except Exception as error:  # noqa: BLE001 -- a class of the project's may raise whatever it likes
            self._warn(str(name), f"the class does not take its fields ({type(error).__name__}: {error})")
            return read

    def _warn(self, name: str, reason: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            logger.warning("Items of class %s come out of Redis as dicts, with all fields: %s.", name, reason)


class _TypedEncoder(ScrapyJSONEncoder):
    def __init__(self, name_of: Callable[[type], str], **options: Any) -> None:
        super().__init__(**options)
        self._name_of = name_of

    def default(self, o: Any) -> Any:
        if not ItemAdapter.is_item(o):
            return super().default(o)
        more = getattr(o, "__pydantic_extra__", None) or {}  # which itemadapter leaves out
        return {CLASS_FIELD: self._name_of(type(o)), **ItemAdapter(o), **more}


_plain = ScrapyJSONEncoder(ensure_ascii=False).encode


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_item_class(cls: type) -> bool:
    return ItemAdapter.is_item_class(cls) and not issubclass(cls, dict)


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
    return alias if isinstance(alias, str) else name
