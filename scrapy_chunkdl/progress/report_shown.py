"""A report of a run as text and as a page. Pure; what comes from outside is escaped, and the page runs no script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from scrapy_chunkdl.text.masking import printable
from scrapy_chunkdl.text.units import size_text

_SHOWN = 10
"""Lines of each part in a terminal."""

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif; }}
body {{ max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; margin-bottom: 2rem; }}
th, td {{ text-align: start; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def headline(report: Mapping[str, Any]) -> str:
    """Return the run in one line."""
    files = report["files"]
    return (
        f"{files['downloaded']} files downloaded ({size_text(report['bytes'])}), {files['uptodate']} up to date, "
        f"{files['failed']} given up in {report['seconds']:.0f} s, {_rate(report['bytes'], report['seconds'])}"
    )


def as_text(report: Mapping[str, Any]) -> str:
    """Return it for a terminal."""
    lines = [f"{report['spider']}, {_time(report['began_at'])}: {report['finish_reason']}", headline(report)]
    for title, heads, rows in _parts(report):
        some = list(rows)
        if not some:
            continue
        lines += ["", title]
        widths = [max(len(row[n]) for row in [heads, *some[:_SHOWN]]) for n in range(len(heads))]
        for row in [heads, *some[:_SHOWN]]:
            lines.append("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if len(some) > _SHOWN:
            lines.append(f"  … and {len(some) - _SHOWN} more")
    return "\n".join(printable(line) if line else line for line in lines)


def as_page(report: Mapping[str, Any]) -> str:
    """Return it as a page that stands alone."""
    parts = [f"<p>{html.escape(headline(report))}. Closed: {html.escape(printable(str(report['finish_reason'])))}.</p>"]
    for title, heads, rows in _parts(report):
        cells = "".join(_row("td", row) for row in rows)
        if cells:
            parts.append(f"<h2>{html.escape(title)}</h2>\n<table>{_row('th', heads)}{cells}</table>")
    title = html.escape(printable(f"{report['spider']}, {_time(report['began_at'])}"))
    return _PAGE.format(title=title, body="\n".join(parts))


def _parts(report: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]]:
    """Give title, heads and rows of each part, what needs a person first."""
    do = report["what_to_do"]
    yield (
        "Given up, by reason",
        ("files", "reason", "what to do"),
        ((str(count), reason, do.get(reason, "")) for reason, count in report["by_reason"].items()),
    )
    yield (
        "Given up",
        ("reason", "file", "message"),
        ((one["reason"], one["url"], one["message"]) for one in report["given_up"]),
    )
    for title, name in (("By host", "by_host"), ("By type", "by_type"), ("By size", "by_size")):
        yield (
            title,
            ("", "files", "bytes", "rate of a file", "given up"),
            (
                (
                    key,
                    str(one["files"]),
                    size_text(one["size_bytes"]),
                    _rate(one["size_bytes"], one["seconds"]),
                    str(one["given_up"]),
                )
                for key, one in report[name].items()
            ),
        )
    for title, name in (("Slowest", "slowest"), ("Largest", "largest")):
        yield (
            title,
            ("seconds", "size", "file"),
            ((f"{one['seconds']:.1f}", size_text(one["size_bytes"]), one["url"]) for one in report[name]),
        )


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(printable(cell))}</{tag}>" for cell in cells) + "</tr>"


def _rate(size: float, seconds: float) -> str:
    return f"{size_text(size / seconds)}/s" if seconds > 0 else "-"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
