"""What of a text may be shown: no passwords or tokens of URLs, and nothing that a terminal would obey. Pure text.

Records and items stay exact, so that they can be tried again; what is printed or logged of them goes through here.
"""

from __future__ import annotations

import re
import unicodedata

MASK = "***"

SECRETS = (
    *("access_?key", "access_?token", "api_?key", "api_?token", "auth", "authorization", "auth_?key", "auth_?token"),
    *("bearer", "client_?secret", "credential", "hdnea", "hdnts", "hmac", "id_?token", "jwt", "key", "pass", "passwd"),
    *("password", "private_?token", "pwd", "refresh_?token", "secret", "session", "session_?id", "sid", "sig", "sign"),
    *("signature", "ticket", "token", "txsecret", "verify", "wssecret", "x-api-key"),
    *("md5", "st", "e", "hash", "hdntl", "__token__", "x-auth-token"),
    *("awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "key-pair-id", "policy", "q-ak", "q-signature"),
    r"x-[a-z]+-(?:credential|security-token|signature)",
)
"""Query parameters whose values are secrets, in any case of letters: those of signed links of the big clouds and CDNs
(AWS SigV2 and SigV4, CloudFront, Google, Azure, Aliyun, Tencent, Akamai), of nginx's secure_link, of OAuth, and what
people call theirs."""

_QUERY = re.compile(rf"(?<=[?&#;])((?:{'|'.join(SECRETS)})=)[^&#;\s\"'<>\\]+", re.IGNORECASE)
_IN_TEXT = re.compile(
    rf"(?<![\w-])((?:{'|'.join(SECRETS)}|(?:set-)?cookie)[\"']?\s*[:=]\s*[\"']?)(?:(?:bearer|basic|digest)\s+)?"
    rf"[^&;,\s\"'<>\\]{{4,}}",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s\"'<>\\]*@")
_FORBIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")

LONGEST = 10_000
"""Characters of a text that are looked at and shown: a ``data:`` URL may have millions."""

_LONGEST_URL = 140
_LONG_URL = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,20}}:[^\s'\"<>]{{{_LONGEST_URL},}}")


def cut(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, with its beginning, and an ellipsis for what is left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def masked(text: str) -> str:
    """Return a text with the secrets of URLs in it replaced by ``***``: passwords and values of secret parameters.

    User information without a colon goes as a whole: it may be a token. RFC 3986 §3.2.1 wants neither shown. What is
    longer than :data:`LONGEST` is cut.
    """
    text = cut(text, LONGEST)
    if "@" in text:
        text = _USER_INFO.sub(_without_password, text)
    return _QUERY.sub(rf"\g<1>{MASK}", text) if "=" in text else text


def masked_quote(text: str) -> str:
    """Return what a server sent, to be quoted in a sentence, without what it calls a secret: of JSON, fields, forms."""
    return _IN_TEXT.sub(rf"\g<1>{MASK}", masked(text))


def _without_password(found: re.Match[str]) -> str:
    user, colon, _ = found[0].partition(":")
    return f"{user}:{MASK}@" if colon else f"{MASK}@"


def printable(text: str, most: int = LONGEST) -> str:
    """Return a text with secrets masked, in one line, and with control and invisible characters written as escapes.

    An error text of a hostile site could else move the cursor, or make a line read as another. ``most`` is in
    characters.
    """
    text = masked(text)
    if not text.isprintable():
        text = "".join(
            char.encode("unicode_escape").decode() if unicodedata.category(char) in _FORBIDDEN else char
            for char in cut(text, most)
        )
    return cut(text, most)


def shown_url(url: str) -> str:
    """Return a URL as it is named in a sentence: printable, and where it is long without its middle."""
    return _without_middle(printable(url, LONGEST))


def sentence(text: str, most: int) -> str:
    """Return a text as :func:`printable` does, in which long URLs are as :func:`shown_url` has them."""
    return printable(_LONG_URL.sub(lambda found: _without_middle(found[0]), masked(text)), most)


def _without_middle(url: str) -> str:
    return url if len(url) <= _LONGEST_URL else f"{url[: _LONGEST_URL - 41]}…{url[-40:]}"
