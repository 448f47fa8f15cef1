"""What is installed only where it is wanted: one sentence that says how, instead of a traceback."""

from __future__ import annotations

import importlib
from types import ModuleType

from scrapy_chunkdl.download.errors import Permanent


def needed(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an extra. Raises Permanent, reason ``missing_extra``, where that is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        text = f"{what} needs {error.name}: pip install 'scrapy-chunkdl[{extra}]'"
        raise Permanent(text, reason="missing_extra") from error
