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
    *("awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "key-pair-id", "policy", "q-ak", "q-signature"),
    r"x-[a-z]+-(?:credential|security-token|signature)",
)
"""Query parameters whose values are secrets, in any case of letters: those of signed links of the big clouds and CDNs
(AWS SigV2 and SigV4, CloudFront, Google, Azure, Aliyun, Tencent, Akamai), of OAuth, and what people call theirs."""

_QUERY = re.compile(rf"(?<=[?&#;])((?:{'|'.join(SECRETS)})=)[^&#;\s\"'<>\\]+", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)([^/?#\s\"'<>\\@:]*)(:?)[^/?#\s\"'<>\\]*@")
_FORBIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def masked(text: str) -> str:
    """Return a text with the secrets of URLs in it replaced by ``***``: passwords and values of secret parameters.

    User information without a colon goes as a whole: it may be a token. RFC 3986 §3.2.1 wants neither shown.
    """
    text = _USER_INFO.sub(lambda found: f"{found[1] if found[2] else ''}{':' if found[2] else ''}{MASK}@", text)
    return _QUERY.sub(rf"\g<1>{MASK}", text)


def printable(text: str) -> str:
    """Return a text with secrets masked, in one line, and with control and invisible characters written as escapes.

    An error text of a hostile site could else move the cursor, or make a line read as another.
    """
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _FORBIDDEN else char
        for char in masked(text)
    )
