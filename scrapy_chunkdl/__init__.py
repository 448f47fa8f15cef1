"""scrapy-chunkdl: chunked, resumable downloads for the attachments of Scrapy items."""

from typing import Any

__all__ = ["Addon"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``Addon`` when it is asked for: ``scrapy_chunkdl.download`` must stay usable without Scrapy."""
    if name == "Addon":
        from scrapy_chunkdl.addon import Addon

        return Addon
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
