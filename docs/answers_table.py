"""Writes the table of answers into docs/failures.md, from the one the downloader goes by. Run by ``make settings``."""

from __future__ import annotations

import re
from pathlib import Path

from scrapy_chunkdl.download.http.verdict import ROWS, WORDS, Asked, Word

FAILURES = Path(__file__).parent / "failures.md"
_PLACE = re.compile(r"(<!-- answers: [^>]*-->\n).*?(<!-- /answers -->)", re.DOTALL)


def table() -> str:
    """Return the rows and the words as Markdown."""
    kinds = [Asked.HEAD, Asked.FIRST, Asked.LATER, Asked.PLAIN]
    lines = [f"| what came | to {' | '.join(kind.value for kind in kinds)} | by |", "| --- " * 6 + "|"]
    for row in ROWS:
        words = " | ".join(_name(row.word(kind)) for kind in kinds)
        lines.append(f"| {row.what} | {words} | {row.authority} |")
    lines += ["", "| word | what is done |", "| --- | --- |"]
    used = {row.word(kind) for row in ROWS for kind in kinds}
    for word in Word:
        if word in used:
            more = f": {WORDS[word]}" if word in WORDS else ""
            lines.append(f"| {_name(word)} | {word.value}{more} |")
    return "\n".join(lines) + "\n"


def _name(word: Word) -> str:
    return word.name.replace("_", " ")


def with_table(text: str) -> str:
    """Return the page with its table brought up to date."""
    return _PLACE.sub(lambda match: match[1] + table() + match[2], text)


if __name__ == "__main__":
    FAILURES.write_text(with_table(FAILURES.read_text("utf-8")), "utf-8")
