"""Values as plain JSON, and back as what they were: one mark per type.

A value that JSON has no word for waits as an object of two fields, :data:`TYPE_FIELD` with the name of its type and
``value``. All else is written as it stands, so what holds only JSON's own types looks as it ever did. A mark is looked
up in the table below and in nothing else: no name from Redis is imported. Knows values; nothing of item classes but
that somebody else writes them.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scrapy_chunkdl.items.as_text import is_all_of, short_repr, url_text

TYPE_FIELD = "chunkdl_type"
VALUE_FIELD = "value"
CLASS_FIELD = "chunkdl_item_class"
"""The field of an item's JSON that names its class; such a field of the item's own does not pass for it."""

UNWRITTEN = "repr"
"""The mark of what could not be written: only its repr was kept, and it is read as nothing."""

LONGEST_INT_BITS = 10_000
"""Longer ones are written in hexadecimal: Python reads no decimal of more than 4300 digits (CVE-2020-10735)."""

_AS_IT_IS = frozenset({str, int, bool, type(None)})
_LONGEST_KEPT = 4000
_REQUEST_ONLY = frozenset({"headers", "proxy", "cookiejar"})

Notice = Callable[[str, str], None]
"""Called with the name of a type, and with what its values become: they do not come back as they were."""


class Unwritable(TypeError):
    """A value that can wait nowhere. ``path`` leads to it from the item, such as ``data[0].when``."""

    def __init__(self, value: object, why: str = "") -> None:
        super().__init__()
        self.value = value
        self.why = why
        self._steps: list[object] = []

    def within(self, step: object) -> None:
        """Note that the value stands in this field or at this index of what is around it."""
        self._steps.append(step)

    @property
    def path(self) -> str:
        """Where it stands, as people write it; empty for the item itself."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in reversed(self._steps))
        return "".join(steps).lstrip(".")

    def __str__(self) -> str:
        kind = type(self.value).__qualname__
        secret = _REQUEST_ONLY.intersection(map(str, self._steps))
        shown = "" if secret else f" {short_repr(self.value)}"
        why = f" ({self.why})" if self.why else ""
        return f"{self.path or 'the item'} is {kind}{shown}, which JSON has no word for{why}"


class Writer:
    """Turns values into what ``json`` writes without further questions.

    ``write_item`` is asked for what is in no table: it returns JSON types, or ``NotImplemented``. Without ``marks``
    values are written for others to read, and do not tell their type.
    """

    def __init__(self, write_item: Callable[[Any], Any], *, marks: bool = True, told: Notice | None = None) -> None:
        self._write_item = write_item
        self.marks = marks
        self.told = told or (lambda name, becomes: None)

    def write(self, value: Any) -> Any:
        """Return ``value`` in JSON types. Raises :class:`Unwritable`, RecursionError for what contains itself."""
        kind = type(value)
        if kind in _AS_IT_IS:
            return value if kind is not int or value.bit_length() <= LONGEST_INT_BITS else self.mark("int", hex(value))
        if kind is dict:
            return self._write_dict(value)
        if kind is list:
            return self.write_all(value)
        if kind is float:
            return value if math.isfinite(value) else self.mark("float", repr(value))
        if (code := _CODES.get(kind)) is not None:
            return self.mark(code.mark, code.write(value, self))
        if isinstance(value, Enum):
            return self._write_enum(value)
        if (written := self._write_item(value)) is not NotImplemented:
            return written
        return self._write_as_another(value)

    def write_all(self, values: Iterable[Any]) -> list[Any]:
        """Return a list of values in JSON types. Raises as :meth:`write`."""
        written: list[Any] = []
        try:
            for value in values:
                written.append(self.write(value))
        except Unwritable as problem:
            problem.within(len(written))
            raise
        return written

    def write_fields(self, fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Return the fields of an object in JSON types. Raises as :meth:`write`."""
        written, name = {}, ""
        try:
            for name, value in fields:
                written[name] = value if type(value) is str else self.write(value)
        except Unwritable as problem:
            problem.within(name)
            raise
        return written

    def mark(self, name: str, value: Any) -> Any:
        """Return ``value`` with the mark of its type, where marks are wanted."""
        return {TYPE_FIELD: name, VALUE_FIELD: value} if self.marks else value

    def _write_dict(self, value: dict[Any, Any]) -> Any:
        if not self.marks:
            return self.write_fields((_plain_key(key), inner) for key, inner in value.items())
        if all(type(key) is str for key in value) and TYPE_FIELD not in value and CLASS_FIELD not in value:
            return self.write_fields(value.items())
        return self.mark("dict", self.write_pairs(value))

    def write_pairs(self, value: dict[Any, Any]) -> Any:
        """Return a dict as pairs of key and value, in JSON types; without marks as an object."""
        if not self.marks:
            return self._write_dict(value)
        pairs, key = [], None
        try:
            for key, inner in value.items():
                pairs.append([self.write(key), self.write(inner)])
        except Unwritable as problem:
            problem.within(key)
            raise
        return pairs

    def _write_enum(self, value: Enum) -> Any:
        if not self.marks:
            return self.write(value.value)
        try:
            inner = self.write(value.value)
        except Unwritable:  # the name says which one it is
            inner = None
        return {TYPE_FIELD: "enum", "class": class_name(type(value)), "name": value.name, VALUE_FIELD: inner}

    def _write_as_another(self, value: Any) -> Any:
        """Write a subclass as what it is made from, and an object of pydantic's by pydantic. Raises Unwritable."""
        kind = type(value)
        if kind.__module__.split(".")[0] in ("pydantic", "pydantic_core"):
            return self._write_pydantic(value)
        for base in _BASES:
            if isinstance(value, base):
                self.told(class_name(kind), base.__name__)
                return self.write(_as_base(base, value))
        if isinstance(value, memoryview):
            self.told(class_name(kind), "bytes")
            return self.write(bytes(value))
        for abstract, base in _NUMBERS:
            if isinstance(value, abstract):  # numpy's, say
                self.told(class_name(kind), base.__name__)
                return self.write(base(value))
        if (url := url_text(value)) is not None and is_all_of(value, url):
            self.told(class_name(kind), "str")
            return url
        raise Unwritable(value)

    def _write_pydantic(self, value: Any) -> Any:
        from pydantic import TypeAdapter

        if isinstance(value, _secrets()):
            plain = self.write(value.get_secret_value())  # else the item would come back with asterisks
            if type(value) not in _pydantic_types().values():  # Secret[int]
                return {TYPE_FIELD: "secret", VALUE_FIELD: plain} if self.marks else plain
        elif class_name(type(value)) in _pydantic_types():
            plain = TypeAdapter(type(value)).dump_python(value, mode="json")
        else:
            raise Unwritable(value)
        if not self.marks:
            return plain
        return {TYPE_FIELD: "pydantic", "class": class_name(type(value)), VALUE_FIELD: plain}


class Reader:
    """Turns marked values back. ``known`` has the enumerations of this process by name."""

    def __init__(self, enums: Callable[[str], type[Enum] | None], told: Notice) -> None:
        self._enums = enums
        self.told = told

    def read(self, marked: dict[str, Any]) -> Any:
        """Return what a marked value was, with all that is inside it read already. Raises ValueError for nonsense."""
        mark, value = marked[TYPE_FIELD], marked.get(VALUE_FIELD)
        if mark == UNWRITTEN:
            raise ValueError(f"only the repr of a value could be kept: {short_repr(value)}")
        try:
            if mark == "enum":
                return self._read_enum(str(marked["class"]), marked["name"], value)
            if mark == "pydantic":
                return self._read_pydantic(str(marked["class"]), value)
            return _READERS[mark](value)
        except ZoneInfoNotFoundError as error:
            raise ValueError(f"this machine does not know the time zone of {short_repr(value)}") from error
        except Exception as error:
            raise ValueError(f"{TYPE_FIELD} {short_repr(mark)} cannot be made of {short_repr(value)}") from error

    def _read_enum(self, name: str, member: Any, value: Any) -> Any:
        cls = self._enums(name)
        if cls is None:
            self.told(name, "its value")
            return value
        return cls[member] if isinstance(member, str) and member in cls.__members__ else cls(value)

    def _read_pydantic(self, name: str, value: Any) -> Any:
        try:
            from pydantic import TypeAdapter
        except ImportError:
            self.told(name, "text")
            return value
        return TypeAdapter(_pydantic_types()[name]).validate_python(value)


class Salvager(Writer):
    """Writes an item that cannot wait, for a person to look at: what JSON has no word for as its repr."""

    def write(self, value: Any) -> Any:
        """Return ``value`` in JSON types, whatever it holds."""
        try:
            return super().write(value)
        except (Unwritable, RecursionError):
            return {TYPE_FIELD: UNWRITTEN, VALUE_FIELD: short_repr(value, longest=_LONGEST_KEPT)}


def class_name(cls: type) -> str:
    """Return what a class is called in marks."""
    return f"{cls.__module__}.{cls.__qualname__}"


@lru_cache(maxsize=1)
def _pydantic_types() -> dict[str, Any]:
    """Return the types of pydantic's own whose values may stand in an item that is no model.

    None but those that are values themselves: pydantic's ImportString, say, imports what it is given the name of.
    """
    import pydantic
    import pydantic_core
    from pydantic import networks

    urls = tuple(getattr(networks, name) for name in ("_BaseUrl", "_BaseMultiHostUrl") if hasattr(networks, name))
    found = [cls for cls in vars(networks).values() if isinstance(cls, type) and issubclass(cls, urls)]
    found += [pydantic_core.Url, pydantic_core.MultiHostUrl, pydantic.SecretStr, pydantic.SecretBytes]
    found += [pydantic.ByteSize, pydantic.NameEmail]
    return {class_name(cls): cls for cls in found}


@lru_cache(maxsize=1)
def _secrets() -> tuple[Any, ...]:
    import pydantic

    return tuple(getattr(pydantic, name) for name in ("SecretStr", "SecretBytes", "Secret") if hasattr(pydantic, name))


def _read_secret(value: Any) -> Any:
    from pydantic import Secret

    return Secret(value)


_DIGITS = re.compile(r"-?[0-9]+(/[0-9]+)?")


def _read_fraction(value: str) -> Fraction:
    """Read a fraction as it is written here: ``Fraction("1e99999999")`` would take hours and gigabytes."""
    if not _DIGITS.fullmatch(value):
        raise ValueError("no fraction")
    return Fraction(value)


def _plain_key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]  # as json.dumps writes them
    return str(key.value if isinstance(key, Enum) else key)


_BASES: tuple[type, ...] = (str, bool, int, float, bytes, datetime, date, time, timedelta, Decimal, UUID)
_BASES += (dict, list, tuple, set, frozenset, deque, bytearray, complex, Fraction)
_NUMBERS: tuple[tuple[type, type], ...] = ((Integral, int), (Real, float))


def _as_base(base: type, value: Any) -> Any:
    if base is str:
        return str.__str__(value)
    if base is datetime:
        parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
        return datetime(*parts, tzinfo=value.tzinfo, fold=value.fold)
    if base is date:
        return date(value.year, value.month, value.day)
    if base is time:
        return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)
    if base is timedelta:
        return timedelta(value.days, value.seconds, value.microseconds)
    return base(str(value) if base is UUID else value)


class _Code(NamedTuple):
    mark: str
    write: Callable[[Any, Writer], Any]
    read: Callable[[Any], Any]


def _zone(value: datetime | time, writer: Writer) -> str | None:
    """Return the key of a time zone that comes back as such; a fixed offset is in the text already."""
    zone: tzinfo | None = value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    offset = zone.utcoffset(None) if isinstance(zone, timezone) else None
    if zone is not None and (offset is None or zone != timezone(offset) or zone.tzname(None) != _offset_name(offset)):
        writer.told(
            f"{class_name(type(value))} with a time zone of type {class_name(type(zone))}", "one with an offset"
        )
    return None


def _offset_name(offset: timedelta) -> str:
    return str(timezone(offset).tzname(None))


def _write_time(value: datetime | time, writer: Writer) -> Any:
    if not writer.marks:
        return value.isoformat()
    zone = _zone(value, writer)
    text = (value.replace(tzinfo=None) if zone else value).isoformat()
    return [text, zone, value.fold] if zone or value.fold else text


def _read_time(kind: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        text, zone, fold = value if isinstance(value, list) else (value, None, 0)
        made = kind.fromisoformat(text)
        return made.replace(fold=fold, **({"tzinfo": ZoneInfo(zone)} if zone else {})) if zone or fold else made

    return read


def _base64(value: bytes | bytearray, writer: Writer) -> str:
    return base64.b64encode(value).decode("ascii")


def _unbase64(value: Any) -> bytes:
    return base64.b64decode(value, validate=True)


def _text(value: Any, writer: Writer) -> str:
    return str(value)


def _all(value: Iterable[Any], writer: Writer) -> list[Any]:
    return writer.write_all(value)


def _sorted(value: Iterable[Any], writer: Writer) -> list[Any]:
    return sorted(writer.write_all(value), key=repr)  # equal sets are written alike


def _write_delta(value: timedelta, writer: Writer) -> Any:
    return [value.days, value.seconds, value.microseconds] if writer.marks else value.total_seconds()


def _write_deque(value: deque[Any], writer: Writer) -> Any:
    return [writer.write_all(value), value.maxlen] if writer.marks else writer.write_all(value)


def _pairs(value: dict[Any, Any], writer: Writer) -> Any:
    return writer.write_pairs(value)


def _from_pairs(value: Any) -> dict[Any, Any]:
    return dict(map(tuple, value))


_CODES: dict[type, _Code] = {
    datetime: _Code("datetime", _write_time, _read_time(datetime)),
    date: _Code("date", lambda value, writer: value.isoformat(), date.fromisoformat),
    time: _Code("time", _write_time, _read_time(time)),
    timedelta: _Code("timedelta", _write_delta, lambda value: timedelta(*value)),
    Decimal: _Code("decimal", _text, Decimal),
    Fraction: _Code("fraction", _text, _read_fraction),
    complex: _Code("complex", _text, complex),
    UUID: _Code("uuid", _text, UUID),
    bytes: _Code("bytes", _base64, _unbase64),
    bytearray: _Code("bytearray", _base64, lambda value: bytearray(_unbase64(value))),
    tuple: _Code("tuple", _all, tuple),
    set: _Code("set", _sorted, set),
    frozenset: _Code("frozenset", _sorted, frozenset),
    deque: _Code("deque", _write_deque, lambda value: deque(value[0], value[1])),
    OrderedDict: _Code("ordered_dict", _pairs, lambda value: OrderedDict(map(tuple, value))),
    Counter: _Code("counter", _pairs, lambda value: Counter(_from_pairs(value))),
    range: _Code("range", lambda value, writer: [value.start, value.stop, value.step], lambda value: range(*value)),
    PosixPath: _Code("path", _text, Path),
    WindowsPath: _Code("path", _text, Path),
    PurePosixPath: _Code("pure_posix_path", _text, PurePosixPath),
    PureWindowsPath: _Code("pure_windows_path", _text, PureWindowsPath),
    **{
        kind: _Code(kind.__name__.lower(), _text, kind)
        for kind in (
            *(ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network),
            *(ipaddress.IPv4Interface, ipaddress.IPv6Interface),
        )
    },
}

_READERS: dict[str, Callable[[Any], Any]] = {
    **{code.mark: code.read for code in _CODES.values()},
    "dict": _from_pairs,
    "int": lambda value: int(value, 16),
    "float": float,
    "secret": _read_secret,
}
