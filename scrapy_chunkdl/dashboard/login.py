"""The form that asks for the token, in the reader's language. Pure text; whom a token lets in, the server knows."""

from __future__ import annotations

import html

TEXTS = {
    "en": ("Token (CHUNKDL_DASHBOARD_TOKEN)", "Sign in", "This is not the token."),
    "zh": ("令牌（CHUNKDL_DASHBOARD_TOKEN）", "登录", "令牌不正确。"),
}

_PAGE = """<!doctype html>
<html lang="{lang}"><meta charset="utf-8">{script}
<meta name="viewport" content="width=device-width"><title>scrapy-chunkdl</title>
<link rel="stylesheet" href="static/style.css">
<form class="login" method="post" action="login"><label>{label}
<input type="password" name="token" autocomplete="current-password" autofocus required></label>
{problem}<button class="main">{button}</button></form>
</html>
"""


def form(accept_language: str, script: str, *, refused: bool = False) -> str:
    """Return the page with the form, and with ``script`` in its head. ``refused`` tells of a wrong token."""
    language = preferred(accept_language)
    label, button, wrong = map(html.escape, TEXTS[language])
    lang = "zh-CN" if language == "zh" else language
    problem = f'<p class="bad" role="alert">{wrong}</p>\n' if refused else ""
    return _PAGE.format(lang=lang, script=script, label=label, problem=problem, button=button)


def preferred(accept_language: str) -> str:
    """Return which of our languages an Accept-Language prefers (RFC 9110 §12.5.4); English where it names none."""
    best, weight = "en", 0.0
    for entry in accept_language.split(","):
        tag, _, q = entry.partition(";")
        language = tag.strip().partition("-")[0].lower()
        try:
            wanted = float(q.strip().removeprefix("q=")) if q.strip() else 1.0
        except ValueError:
            continue
        if language in TEXTS and wanted > weight:
            best, weight = language, wanted
    return best
