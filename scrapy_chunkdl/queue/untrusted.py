"""One door for what anybody may have written into Redis and people are shown: read by type, field by field.

What is of another type than it should be becomes nothing, alone; no number is one that JSON cannot hold (RFC 8259 §6
has no NaN, and a browser no whole numbers above 2^53). Pure; knows nothing of what is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 4000
"""Characters kept of a text."""

_LARGEST = 2.0**53


def text(value: object) -> str | None:
    """Return a text, cut; what is none is shown as JSON, so that somebody sees it. None stays None."""
    if value is None:
        return None
    try:
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        return "?"
    return shown[:LONGEST]


def number(value: object) -> float | None:
    """Return a number, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) and abs(value) <= _LARGEST else None


def rate(raw: bytes | None) -> float | None:
    """Return a limit in bytes per second, 0 or more, None where it is none."""
    try:
        found = number(float(raw or b""))
    except ValueError:
        return None
    return found if found is not None and found >= 0 else None


def count(value: object) -> int | None:
    """Return a whole number of 0 or more, None where it is none."""
    found = number(value)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def flag(value: object) -> bool | None:
    """Return a truth value, None where it is none."""
    return value if isinstance(value, bool) else None


def fields(value: object, shape: Mapping[str, Callable[[object], Any]]) -> dict[str, Any]:
    """Return the fields of a JSON object, each read as ``shape`` says; those that are not there are None.

    Raises ValueError for what is no object.
    """
    if not isinstance(value, dict):
        raise ValueError(f"no object: {type(value).__name__}")
    return {name: read(value.get(name)) for name, read in shape.items()}


def parsed(raw: bytes) -> Any:
    """Return what JSON says. Raises ValueError for what is none, or too deep to read."""
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deeply") from None
