"""How many examples the tests draw that draw some: few and the same ones each time, unless CHUNKDL_EXAMPLES says more.

``CHUNKDL_EXAMPLES=5000`` draws that many, other ones each time: ``make soak``.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

_WANTED = os.environ.get("CHUNKDL_EXAMPLES")


def examples(number: int, **more: Any) -> settings:
    """Return settings that draw ``number`` examples in an everyday run; no example is too slow."""
    return settings(max_examples=int(_WANTED or number), derandomize=_WANTED is None, deadline=None, **more)
