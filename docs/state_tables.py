"""Writes the tables of states into docs/architecture.md, from those the code goes by. Run by ``make settings``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from scrapy_chunkdl.bridge import states as of_a_file
from scrapy_chunkdl.crawl import claimed as of_an_item

PAGE = Path(__file__).parent / "architecture.md"

TABLES: dict[str, Iterable[tuple[str, str, str, str]]] = {
    "of a file": [(row.state.value, row.event.value, row.next.value, row.done) for row in of_a_file.ROWS],
    "of a claimed item": [
        (row.state.shown, row.event.value, row.to.shown, of_an_item.done(row)) for row in of_an_item.ROWS
    ],
}
"""By name: state, event, next state, and what is done. The page has ``<!-- states NAME: -->`` where one belongs."""


def table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Return a table as Markdown."""
    lines = ["| it | when | then it | and |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def with_tables(text: str) -> str:
    """Return the page with its tables brought up to date."""
    for name, rows in TABLES.items():
        place = re.compile(rf"(<!-- states {name}:[^>]*-->\n).*?(<!-- /states -->)", re.DOTALL)
        drawn = table(rows)
        text, found = place.subn(lambda match, drawn=drawn: match[1] + drawn + match[2], text)
        if not found:
            raise SystemExit(f"{PAGE.name} has no place for the states {name}")
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
