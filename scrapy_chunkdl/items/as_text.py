"""Values as text: the beginning of one, to be shown, and the URL that one is. Knows nothing of items or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_IS_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S")
_LONGEST_REPR = 80


def url_text(value: object) -> str | None:
    """Return a URL as text, be it a string or an object such as pydantic's HttpUrl or a yarl.URL; else None."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (bytes, int, float, Mapping, Iterable)):
        return None
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 -- a class of the project's may raise whatever it likes
        return None
    return text if _IS_URL.match(text) else None


def is_all_of(value: Any, text: str) -> bool:
    """Whether a text tells all of a value: its type makes an equal one of it."""
    try:
        return bool(type(value)(text) == value)
    except Exception:  # noqa: BLE001 -- a class of the project's may raise whatever it likes
        return False


def short_repr(value: object, longest: int = _LONGEST_REPR) -> str:
    """Return the beginning of a value's repr, in ASCII; a placeholder for a repr that raises."""
    try:
        text = ascii(value)
    except Exception as error:  # noqa: BLE001 -- a class of the project's may raise whatever it likes
        text = f"<no repr: {type(error).__name__}>"
    return text if len(text) <= longest else text[:longest] + "…"
