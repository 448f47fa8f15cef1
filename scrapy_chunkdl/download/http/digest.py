"""Digest access authentication (RFC 7616, and RFC 2069 for servers without qop): what a 401 asks, and its answer. Pure.

A password never goes over the wire by it. ``auth-int`` is left out, as a GET has no body to protect.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_ITEM = re.compile(r"""([\w!#$%&'*+.^`|~-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|(?=\s|,|\Z))""")
_ALGORITHMS = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}
_QUOTED = re.compile(r'(["\\])')


@dataclass(slots=True)
class Challenge:
    """What a server asked for, and how often its nonce was used: each use is counted in what is sent."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    opaque: str | None = None
    has_qop: bool = False
    hashes_user: bool = False
    is_stale: bool = False
    uses: int = 0

    def answer(self, method: str, target: str, user: str, password: str) -> str:
        """Return the Authorization of a request for ``target``, its path and query as they are sent."""
        is_session = self.algorithm.lower().endswith("-sess")
        digest = _ALGORITHMS[self.algorithm.lower().removesuffix("-sess")]
        self.uses += 1
        count, cnonce = f"{self.uses:08x}", secrets.token_hex(16)
        secret = _hashed(digest, f"{user}:{self.realm}:{password}")
        if is_session:
            secret = _hashed(digest, f"{secret}:{self.nonce}:{cnonce}")
        asked = _hashed(digest, f"{method}:{target}")
        middle = f"{self.nonce}:{count}:{cnonce}:auth" if self.has_qop else self.nonce
        shown = _hashed(digest, f"{user}:{self.realm}") if self.hashes_user else user
        fields = [
            f'username="{_escaped(shown)}"',
            f'realm="{_escaped(self.realm)}"',
            f'nonce="{_escaped(self.nonce)}"',
            f'uri="{target}"',
            f'response="{_hashed(digest, f"{secret}:{middle}:{asked}")}"',
            f"algorithm={self.algorithm}",
        ]
        if self.opaque is not None:
            fields.append(f'opaque="{_escaped(self.opaque)}"')
        if self.has_qop:
            fields += ["qop=auth", f"nc={count}"]
        if self.has_qop or is_session:
            fields.append(f'cnonce="{cnonce}"')
        if self.hashes_user:
            fields.append("userhash=true")
        return "Digest " + ", ".join(fields)


def challenge_of(fields: Iterable[str]) -> Challenge | None:
    """Return the first challenge of WWW-Authenticate fields that can be answered (RFC 7616 §3.7), None for none."""
    for field in fields:
        for scheme, given in _challenges(field):
            if scheme == "digest" and (challenge := _challenge(given)) is not None:
                return challenge
    return None


def _challenge(given: Mapping[str, str]) -> Challenge | None:
    algorithm = given.get("algorithm") or "MD5"
    digest = _ALGORITHMS.get(algorithm.lower().removesuffix("-sess"))
    offered = {word.strip().lower() for word in given.get("qop", "").split(",")} - {""}
    if not given.get("nonce") or digest not in hashlib.algorithms_available or (offered and "auth" not in offered):
        return None
    return Challenge(
        realm=given.get("realm", ""),
        nonce=given["nonce"],
        algorithm=algorithm,
        opaque=given.get("opaque"),
        has_qop=bool(offered),
        hashes_user=given.get("userhash", "").lower() == "true",
        is_stale=given.get("stale", "").lower() == "true",
    )


def _challenges(field: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Split a field into its challenges: a name without a value begins the next one (RFC 9110 §11.6.1)."""
    scheme, given = "", dict[str, str]()
    for found in _ITEM.finditer(field):
        name, quoted, bare = found.groups()
        if quoted is None and bare is None:
            if scheme:
                yield scheme, given
            scheme, given = name.lower(), {}
        else:
            given.setdefault(name.lower(), bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    if scheme:
        yield scheme, given


def _hashed(digest: str, text: str) -> str:
    return hashlib.new(digest, text.encode(), usedforsecurity=False).hexdigest()


def _escaped(text: str) -> str:
    return _QUOTED.sub(r"\\\1", text)
