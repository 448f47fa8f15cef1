"""What an item may hold, as one table: the same value back, another one that is told, or a refusal by name.

A new member of the kind costs a line.
"""

from __future__ import annotations

import fractions
import ipaddress
import json
import logging
import numbers
import sys
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pydantic
import pytest
import scrapy
import yarl

from scrapy_chunkdl.items.types import ItemTypes, item_classes_in, plain_json
from scrapy_chunkdl.items.values import LONGEST_INT_BITS, TYPE_FIELD, Unwritable


class Colour(Enum):
    RED = "r"
    PAIR = (1, 2)
    ODD = object()


class Level(IntEnum):
    LOW = 1


class Text(str, Enum):
    A = "a"


class Right(Flag):
    READ = 1
    WRITE = 2


Point = namedtuple("Point", "x y")


class Sub(str):
    pass


class Moment(datetime):
    pass


class Summer(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def dst(self, when: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, when: datetime | None) -> str:
        return "SUMMER"


@dataclass(frozen=True)
class Page:
    number: int
    when: datetime | None = None


@attrs.frozen
class Author:
    name: str
    born: date


class Report(scrapy.Item):
    pages = scrapy.Field()


@numbers.Integral.register
class Whole:
    """An integer as numpy has them, which is none of Python's."""

    def __int__(self) -> int:
        return 7


class Percent(fractions.Fraction):
    pass


class Link:
    def __init__(self, url: str, text: str = "") -> None:
        self.url, self.text = url, text

    def __str__(self) -> str:
        return self.url


class Temperature:
    """A type of the project's that only pydantic can write and read."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Temperature) and other.degrees == self.degrees

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(float(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: str(value.degrees)),
        )


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    url: pydantic.HttpUrl = pydantic.Field(alias="Url")
    key: UUID
    when: datetime
    took: timedelta
    secret: pydantic.SecretStr
    raw: bytes
    colour: Colour
    path: Path
    size: pydantic.ByteSize
    address: pydantic.IPvAnyAddress
    outside: Temperature
    other: Any = None
    choice: str = pydantic.Field(default="", validation_alias=pydantic.AliasChoices("Choice", "c"))
    pages: set[int] = set()
    inner: list[Any] = []


MODEL = Model(
    Url="http://h/a",  # type: ignore[arg-type]
    key=UUID(int=7),
    when=datetime(2022, 10, 17, tzinfo=timezone.utc),
    took=timedelta(days=-1, microseconds=1),
    secret=pydantic.SecretStr("s3cr3t"),
    raw=b"\xff\x00",
    colour=Colour.RED,
    path=Path("/a/b"),
    size=pydantic.ByteSize(5),
    address="10.0.0.1",  # type: ignore[arg-type]
    outside=Temperature(21.5),
    other=Page(1, datetime(2022, 1, 1)),
    Choice="x",  # type: ignore[call-arg]
    pages={1, 2},
    inner=[Author("a", date(1900, 1, 1)), Report(pages=(1, 2))],
)

SAME: dict[str, Any] = {
    "None": None,
    "bool": True,
    "text": "ü\ud83d",
    "float": 0.1,
    "infinity": float("-inf"),
    "int": 12345678901234567890,
    "an int of many digits": -(1 << (LONGEST_INT_BITS + 10)),
    "datetime": datetime(2022, 10, 17, 12, 0, 0, 7),
    "datetime UTC": datetime(2022, 10, 17, tzinfo=timezone.utc),
    "datetime with an offset": datetime(2022, 10, 17, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    "datetime in a zone": datetime(2022, 10, 30, 2, 30, tzinfo=ZoneInfo("Europe/Prague"), fold=1),
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999999),
    "time with an offset": time(1, tzinfo=timezone.utc),
    "time in a zone": time(1, tzinfo=ZoneInfo("Asia/Shanghai")),
    "timedelta": timedelta(days=-3, seconds=5, microseconds=7),
    "Decimal": Decimal("1.10"),
    "Decimal infinity": Decimal("-Infinity"),
    "Fraction": fractions.Fraction(-1, 3),
    "complex": complex(-0.0, float("inf")),
    "UUID": UUID(int=5),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\xff"),
    "Enum": Colour.RED,
    "Enum of a tuple": Colour.PAIR,
    "Enum of anything": Colour.ODD,
    "IntEnum": Level.LOW,
    "Enum of text": Text.A,
    "Flag": Right.READ | Right.WRITE,
    "Path": Path("/ü/b"),
    "PurePosixPath": PurePosixPath("a"),
    "PureWindowsPath": PureWindowsPath("c:\\a"),
    "IPv4Address": ipaddress.ip_address("10.0.0.1"),
    "IPv6Network": ipaddress.ip_network("fe80::/64"),
    "tuple": (1, (2, "a")),
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({frozenset({1}), 2}),
    "deque": deque([1, 2], 3),
    "OrderedDict": OrderedDict([("b", 1), ("a", 2)]),
    "Counter": Counter("aab"),
    "range": range(1, 9, 2),
    "dict of numbers": {1: "a", None: "b", (1, 2): {"c": {3}}},
    "dict that looks like a mark": {TYPE_FIELD: "datetime", "value": "2022-10-17"},
    "dict that looks like an item": {"chunkdl_item_class": "os.system", "a": 1},
    "dataclass": Page(1, datetime(2022, 1, 1)),
    "attrs": Author("a", date(1900, 1, 1)),
    "Item": Report(pages=[Page(1), {"a": (1,)}]),
    "set of items": {Page(1), Page(2)},
    "pydantic": MODEL,
    "HttpUrl": pydantic.HttpUrl("http://u:p@h/ü?a=b"),
    "AnyUrl": pydantic.AnyUrl("ftp://h/a"),
    "PostgresDsn": pydantic.PostgresDsn("postgresql://a@h1,h2/x"),
    "SecretStr": pydantic.SecretStr("s"),
    "SecretBytes": pydantic.SecretBytes(b"\xff"),
    "ByteSize": pydantic.ByteSize(7),
    "Secret": pydantic.Secret(5),
    "Secret of a type": pydantic.Secret[date](date(2022, 1, 1)),
}

BECOMES: dict[str, tuple[Any, Any, str]] = {
    "a subclass of str": (Sub("a"), "a", "Sub come out of Redis as str"),
    "a subclass of datetime": (Moment(2022, 1, 1), datetime(2022, 1, 1), "Moment come out of Redis as datetime"),
    "a namedtuple": (Point(1, 2), (1, 2), "Point come out of Redis as tuple"),
    "a defaultdict": (defaultdict(list, a=[1]), {"a": [1]}, "defaultdict come out of Redis as dict"),
    "a URL of yarl's": (yarl.URL("http://h/ü?a=b"), "http://h/%C3%BC?a=b", "yarl.URL come out of Redis as str"),
    "an integer of another library's": (Whole(), 7, "Whole come out of Redis as int"),
    "a subclass of Fraction": (Percent(7, 2), fractions.Fraction(7, 2), "Percent come out of Redis as Fraction"),
    "a memoryview": (memoryview(b"a"), b"a", "memoryview come out of Redis as bytes"),
    "another time zone": (
        datetime(2022, 1, 1, tzinfo=Summer()),
        datetime(2022, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        "Summer come out of Redis as one with an offset",
    ),
    "a request": (scrapy.Request("http://h/"), "<Request GET http://h/>", "Request come out of Redis as text"),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "an object": (object(), "is object <object object"),
    "a function": (len, "is builtin_function_or_method <built-in function len>"),
    "a generator": ((x for x in "a"), "is generator"),
    "another mapping": (UserDict(a=1), "is UserDict"),
    "what is more than its text, a URL": (Link("http://h/a", "b"), "is Link"),
    "a class": (int, "is type <class 'int'>"),
    "a pattern": (__import__("re").compile("a"), "is Pattern"),
    "a type of the project's": (Temperature(1.0), "is Temperature"),
    "what has no repr": (type("NoRepr", (), {"__repr__": lambda self: 1 / 0})(), "<no repr: ZeroDivisionError>"),
}


def there_and_back(value: Any) -> Any:
    return ItemTypes(item_classes_in(globals())).read(ItemTypes().write({"field": value}))["field"]


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_a_value_comes_back_as_it_was_in_any_process(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    read = there_and_back(value)

    assert read == value
    assert type(read) is type(value)
    assert repr(read) == repr(value) or isinstance(value, (set, frozenset)) or value is MODEL
    assert caplog.messages == []


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_what_is_written_is_json_for_everybody(value: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(ItemTypes().write({"field": value}), parse_constant=refuse)
    json.loads(plain_json({"field": value if value is not Colour.ODD else None}))


@pytest.mark.parametrize(("value", "becomes", "told"), BECOMES.values(), ids=BECOMES)
def test_a_value_that_becomes_another_is_told_once_per_type(
    value: Any, becomes: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    types = ItemTypes()

    read = [types.read(types.write({"field": value}))["field"] for _ in range(3)]

    assert read == [becomes] * 3
    assert type(read[0]) is type(becomes)
    [message] = caplog.messages
    assert told in message


@pytest.mark.parametrize(("value", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written_is_refused_with_field_and_value_and_can_be_kept(value: Any, told: str) -> None:
    types = ItemTypes()
    item = {"title": "a", "data": [{"when": 1}, {"inner": {"x": value}}]}

    with pytest.raises(Unwritable) as refused:
        types.write(item)

    assert str(refused.value).startswith("data[1].inner.x is ")
    assert told in str(refused.value)
    assert len(str(refused.value)) < 300
    kept = json.loads(types.salvage(item))
    assert (kept["title"], kept["data"][1]["inner"]["x"][TYPE_FIELD]) == ("a", "repr")
    with pytest.raises(ValueError, match="only the repr of a value could be kept"):
        types.read(types.salvage(item))


@pytest.mark.parametrize("place", ["headers", "proxy", "cookiejar"])
def test_a_refusal_does_not_show_what_may_be_a_secret(place: str) -> None:
    value: Any = {"s3cr3t"}.__iter__()

    with pytest.raises(Unwritable, match=r"is set_iterator, which JSON has no word for$"):
        ItemTypes().write({"data": [{place: {"Authorization": value}}]})


def test_an_item_that_contains_itself_is_refused_and_kept() -> None:
    item: dict[str, Any] = {"title": "a"}
    item["self"] = item
    types = ItemTypes()

    with pytest.raises(ValueError, match="contains itself"):
        types.write(item)

    assert json.loads(types.salvage(item))["title"] == "a"


@pytest.mark.parametrize(
    "marked",
    [
        {"value": 1},
        {TYPE_FIELD: "os.system", "value": "true"},
        {TYPE_FIELD: ["x"], "value": "true"},
        {TYPE_FIELD: "datetime", "value": 7},
        {TYPE_FIELD: "datetime", "value": ["2022-01-01", "../../etc/passwd", 0]},
        {TYPE_FIELD: "datetime", "value": ["2022-01-01", "Not/There", 0]},
        {TYPE_FIELD: "bytes", "value": "not base64!"},
        {TYPE_FIELD: "decimal", "value": "x"},
        {TYPE_FIELD: "fraction", "value": "1/0"},
        {TYPE_FIELD: "fraction", "value": "1e99999999"},
        {TYPE_FIELD: "fraction", "value": 1},
        {TYPE_FIELD: "timedelta", "value": [10**12]},
        {TYPE_FIELD: "set", "value": [[]]},
        {TYPE_FIELD: "dict", "value": [1]},
        {TYPE_FIELD: "enum", "class": f"{__name__}.Colour", "name": "BLUE", "value": "b"},
        {TYPE_FIELD: "enum", "value": "b"},
        {TYPE_FIELD: "pydantic", "class": "subprocess.Popen", "value": "true"},
        {TYPE_FIELD: "pydantic", "class": "pydantic.networks.HttpUrl", "value": "no url"},
        {TYPE_FIELD: "pydantic", "class": "pydantic.types.ImportString", "value": "this"},
        {TYPE_FIELD: "pydantic", "class": "pydantic.types.Json", "value": "1"},
        {TYPE_FIELD: "pydantic", "class": "pydantic.type_adapter.TypeAdapter", "value": "this"},
    ],
    ids=str,
)
def test_a_mark_that_makes_no_sense_is_an_error_of_its_entry(marked: dict[str, Any]) -> None:
    types = ItemTypes(item_classes_in(globals()))
    payload = json.dumps({"field": {TYPE_FIELD: None, **marked}}).encode()

    with pytest.raises(ValueError):  # noqa: PT011 -- whatever it is, the entry is kept
        types.read(payload)
    assert "this" not in sys.modules


def test_an_enumeration_that_is_not_known_gives_its_value_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    payload = ItemTypes().write({"colour": Colour.PAIR})

    assert ItemTypes().read(payload) == {"colour": (1, 2)}
    assert "Colour come out of Redis as its value" in caplog.text


@dataclass
class Shouting:
    title: str
    pages: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.title += "!"


def test_a_class_that_changes_its_fields_when_it_is_made_is_told_at_the_first_item(
    caplog: pytest.LogCaptureFixture,
) -> None:
    types = ItemTypes()
    for _ in range(2):
        types.write(Shouting("a"))

    [message] = caplog.messages
    assert "Shouting come out of Redis otherwise than they went in: the class changes title" in message


def test_names_from_redis_are_told_in_one_line_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    names = ["x\n2026 INFO: Spider closed\x1b[2J", "y" * 10_000, *map(str, range(300))]
    types = ItemTypes()

    with caplog.at_level(logging.WARNING):
        for name in names:
            types.read(json.dumps({"chunkdl_item_class": name}).encode())

    assert len(caplog.messages) <= 51
    assert all(message.isprintable() and len(message) <= 300 for message in caplog.messages)


def test_classes_that_only_a_loader_of_the_project_knows_are_found(tmp_path: Any, monkeypatch: Any) -> None:
    from scrapy_chunkdl.items.types import item_classes_of

    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "items.py").write_text("import scrapy\nclass Rep(scrapy.Item):\n    a = scrapy.Field()\n")
    (package / "loaders.py").write_text("from shop import items\nclass L:\n    default_item_class = items.Rep\n")
    (package / "spider.py").write_text("import scrapy\nfrom shop.loaders import L\nclass S(scrapy.Spider): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    from shop.spider import S  # type: ignore[import-not-found]

    try:
        assert "shop.items.Rep" in {f"{cls.__module__}.{cls.__qualname__}" for cls in item_classes_of(S)}
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            del sys.modules[name]
