"""What a request asks for, read and checked: numbers, ids, texts, JSON. Knows HTTP's side of it alone."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from scrapy_chunkdl.dashboard.board import KINDS

LONGEST_WORD = 300
MOST_PLACES = 500


class BadRequest(ValueError):
    """The request makes no sense; the message says why."""


async def json_body(request: web.Request) -> dict[str, Any]:
    """Return the JSON object a request brings. Raises :class:`BadRequest` for anything else."""
    try:
        asked = await request.json()
    except (LookupError, RecursionError, ValueError) as error:  # no such charset, too deep, no JSON
        raise BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise BadRequest("the body should be a JSON object")
    return asked


def shown(value: object) -> str:
    """Return what was sent, short enough for a sentence."""
    return reprlib.repr(value)


def word(asked: dict[str, Any], name: str) -> str:
    """Return one word of what was asked, such as the id of a worker. Raises :class:`BadRequest`."""
    value = asked.get(name)
    if not (isinstance(value, str) and value.isprintable() and value.split() == [value] and len(value) <= LONGEST_WORD):
        raise BadRequest(f"{name} = {shown(value)}: should be the id of a {name}")
    return value


def places(asked: dict[str, Any]) -> list[tuple[str, int]]:
    """Return which waiting items are meant: id and place of each. Raises :class:`BadRequest`."""
    found = asked.get("items")
    if not (isinstance(found, list) and 0 < len(found) <= MOST_PLACES):
        raise BadRequest(f"items = {shown(found)}: should be a list of 1 to {MOST_PLACES} objects with id and at")
    read = []
    for one in found:
        at = one.get("at") if isinstance(one, dict) else None
        if not (isinstance(at, int) and not isinstance(at, bool) and at >= 0 and isinstance(one.get("id"), str)):
            raise BadRequest(f"items has {shown(one)}: should be an object with id and at")
        read.append((one["id"], at))
    return read


def kind(name: object) -> str:
    """Return the kind of items set aside that is meant. Raises :class:`BadRequest`."""
    if name not in KINDS:
        raise BadRequest(f"kind = {shown(name)}: should be one of {', '.join(KINDS)}")
    return str(name)


def number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a whole number of the query, 0 to ``most``. Raises :class:`BadRequest`."""
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise BadRequest(f"{name} = {shown(text)}: should be a whole number up to {most}")
    return int(text)
