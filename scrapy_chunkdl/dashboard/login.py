"""The door: whom a request's token lets in, and the form that asks for it, in the reader's language.

Knows HTTP and the form; whose token is right, the guard knows.
"""

from __future__ import annotations

import html

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from scrapy_chunkdl.dashboard import health
from scrapy_chunkdl.dashboard.guard import GUARD, refused
from scrapy_chunkdl.dashboard.parameters import BadRequest
from scrapy_chunkdl.dashboard.static_files import TO_THE_FOLDER

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


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in whom the guard lets in; the others get the form, or 401."""
    guard = request.app[GUARD]
    guard.check_name(request)
    path = request.path.lstrip("/")
    if path in ("login", "static/style.css") or path in health.PATHS:
        return await handler(request)
    if not guard.lets_in(request):
        if path == "":
            return _form(request)
        raise refused(web.HTTPUnauthorized, "the token is missing or wrong: send 'Authorization: Bearer TOKEN'")
    if request.method == "POST":
        await guard.check_change(request)
    return await handler(request)


def _form(request: web.Request, *, refused: bool = False) -> web.Response:
    script = "" if refused else TO_THE_FOLDER  # the answer to "login" is no folder, and is in the right one
    text = form(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), script, refused=refused)
    return web.Response(text=text, content_type="text/html", status=401)


async def ask(request: web.Request) -> web.StreamResponse:
    """Lead an address that is left from a wrong token to the page, which asks again."""
    raise web.HTTPSeeOther("./")


async def sign_in(request: web.Request) -> web.StreamResponse:
    """Take the form: the right token gives a cookie in its place."""
    guard = request.app[GUARD]
    try:
        given = (await request.post()).get("token")
    except (AssertionError, LookupError, ValueError) as error:  # a charset, or a multipart body, that nobody can read
        raise BadRequest("the form cannot be read") from error
    if not isinstance(given, str) or not guard.is_token(request, given):
        return _form(request, refused=True)
    to_the_page = web.HTTPSeeOther("./")
    guard.give_cookie(request, to_the_page)
    raise to_the_page
