"""Writes the table of settings into README.md, from ``scrapy_chunkdl/settings/config.py``. Run by ``make settings``."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

from scrapy_chunkdl.settings.config import Config, setting_name

README = Path(__file__).parent.parent / "README.md"
_PLACE = re.compile(r"(<!-- settings: [^>]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def table() -> str:
    """Return the table as Markdown."""
    rows = ["| setting | default | |", "| --- | --- | --- |"]
    for item in fields(Config):
        assert item.default is not MISSING
        default = f"`{_shown(item.default)}`"
        if inherits := item.metadata["inherits"]:
            default = f"`{inherits}`, else {default}"
        rows.append(f"| `{setting_name(item)}` | {default} | {item.metadata['meaning']} |")
    return "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return str(sorted(value))
    if isinstance(value, tuple):
        return _shown(value[0]) if len(value) == 1 else str(list(value))
    return f'"{value}"' if isinstance(value, str) else str(value)


def with_table(text: str) -> str:
    """Return a README with its table brought up to date."""
    return _PLACE.sub(lambda match: match[1] + table() + match[2], text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
