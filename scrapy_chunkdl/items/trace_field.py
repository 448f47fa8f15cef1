"""Where an item in Redis says which trace it belongs to: one more field at its end, which is taken off again by bytes.

Knows JSON text; nothing of traces, but what a ``traceparent`` looks like (W3C Trace Context §3.2).
"""

from __future__ import annotations

import re

FIELD = "chunkdl_traceparent"

_FORM = r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
TRACEPARENT = re.compile(_FORM)
_AT_THE_END = re.compile(rf', ?"{FIELD}": ?"({_FORM})"\}}\Z'.encode())
_ENOUGH = 100
"""Bytes at the end of an item that have the field, if it has one."""


def with_traceparent(payload: bytes, traceparent: str) -> bytes:
    """Return an item that carries a trace. What is no JSON object with fields, or carries one, is returned as it is."""
    has_fields = payload.startswith(b"{") and payload.endswith(b"}") and not payload.endswith(b"{}")
    if not has_fields or split(payload)[1] is not None:
        return payload
    return payload[:-1] + f',"{FIELD}":"{traceparent}"}}'.encode()


def split(payload: bytes) -> tuple[bytes, str | None]:
    """Return the item as it was, byte for byte, and the trace that it carries, if any."""
    found = _AT_THE_END.search(payload, max(0, len(payload) - _ENOUGH))
    if found is None:
        return payload, None
    return payload[: found.start()] + b"}", found[1].decode()
