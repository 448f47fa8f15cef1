"""TLS: who is trusted, what is shown, and sessions that are resumed. Knows ssl; nothing of HTTP."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import NamedTuple

from scrapy_chunkdl.download.model import Options

_HOSTS_REMEMBERED = 128

_NOTHING_IN_COMMON = frozenset(
    {"NO_PROTOCOLS_AVAILABLE", "UNSUPPORTED_PROTOCOL", "NO_CIPHERS_AVAILABLE", "NO_SHARED_CIPHER", "HTTP_REQUEST"}
    | {"UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED", "DH_KEY_TOO_SMALL"}
    | {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL", "WRONG_SIGNATURE_TYPE", "UNKNOWN_PROTOCOL"}
    | {"TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "SSLV3_ALERT_HANDSHAKE_FAILURE"}
    | {
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_UNRECOGNIZED_NAME",
        "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
    }
)
"""OpenSSL's words for faults that are the same the next time, besides those with CERTIFICATE in them."""

_AT_THE_FIRST_BYTE = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""What a server without TLS at that port looks like; in the middle of a body it is a record that was damaged."""


class Problem(NamedTuple):
    """A fault of TLS in words, and whether it is the same the next time."""

    text: str
    is_permanent: bool


def explain(error: BaseException, *, offered: bool = False) -> Problem | None:
    """Return what a fault of TLS means; None for any other error.

    A certificate that does not verify and peers with nothing in common stay so. An alert, or a record that cannot be
    read, ends one connection (RFC 8446 §6.2): the next handshake, a full one, may do. Where a session was ``offered``
    to the host there had been a handshake before: whatever it refuses now may have been that session.
    """
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(inner, ssl.SSLCertVerificationError):
        why = getattr(inner, "verify_message", "") or str(inner)
        return Problem(f"its certificate does not verify, {why} (CHUNKDL_VERIFY_TLS, CHUNKDL_CA_FILE)", True)
    if not isinstance(inner, ssl.SSLError):
        return None
    word = inner.reason or type(inner).__name__
    at_once = inner is not error  # told by who connects
    is_in_vain = word in _NOTHING_IN_COMMON or (at_once and word in _AT_THE_FIRST_BYTE)
    is_permanent = "CERTIFICATE" in word or (is_in_vain and not offered)
    return Problem(word.lower().replace("_", " "), is_permanent)


def tls_context(options: Options) -> ssl.SSLContext:
    """Return how servers are trusted and what they are shown. Raises OSError for a file that is missing or no PEM."""
    folder = ssl.get_default_verify_paths().capath  # where OpenSSL looks for one authority at a time
    context = _context(options, capath=folder)
    context.__class__ = _ResumingContext  # made by hand it would have to follow each Python's idea of a safe default
    assert isinstance(context, _ResumingContext)
    context.has_authorities = folder is None
    context.set_alpn_protocols(["http/1.1"])
    return context


def plain_context(options: Options) -> ssl.SSLContext:
    """Return the same for another protocol than HTTP. Raises OSError for a file that is missing or no PEM."""
    return _context(options)


def _context(options: Options, capath: str | None = None) -> ssl.SSLContext:
    """Make a context, with the system's authorities unless there is a folder of some: 30 ms for 140 of them."""
    context = ssl.create_default_context(capath=capath)
    if options.ca_file:
        context.load_verify_locations(options.ca_file)
    if options.client_cert:
        context.load_cert_chain(*options.client_cert)
    if not options.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def forget_session(connection: ssl.SSLObject | None) -> None:
    """Have the next handshake with the host of a connection be a full one, which is always possible (RFC 8446 §2.2)."""
    if connection is not None and isinstance(connection.context, _ResumingContext):
        connection.context.forget(connection.server_hostname or "")


def forget_session_with(context: object, host: str) -> bool:
    """Tell whether a session was ever offered to a host whose handshake failed. It is offered none from now on."""
    return isinstance(context, _ResumingContext) and context.forget(host, is_refused=True)


class _Host(NamedTuple):
    """The last connection to a host, the session it was offered, whether any ever was, and may have been refused."""

    last: ssl.SSLObject | None = None
    session: ssl.SSLSession | None = None
    offered: bool = False
    refuses: bool = False


class _ResumingContext(ssl.SSLContext):
    """Offers a host the session of the last connection to it: a shorter handshake (RFC 8446 §2.2).

    asyncio has no way to say so. A session can be had only from its connection, and under TLS 1.3 only once the
    server's ticket has come, so the last connection to each host is remembered, and looked at when the next is made.
    """

    _hosts: OrderedDict[str, _Host]
    has_authorities: bool
    """Whether the system's are loaded. If not, they are for the first handshake: many crawls have none."""

    def forget(self, host: str, *, is_refused: bool = False) -> bool:
        """Offer a host no session next time, nor later if it may have refused one; tell whether one ever was."""
        if not hasattr(self, "_hosts") or host not in self._hosts:
            return False
        known = self._hosts[host]
        refuses = known.refuses or (is_refused and known.offered)
        self._hosts[host] = _Host(offered=known.offered, refuses=refuses)
        return known.offered

    def wrap_bio(  # type: ignore[override]
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if not hasattr(self, "_hosts"):
            self._hosts = OrderedDict()
        if not self.has_authorities and self.verify_mode is not ssl.CERT_NONE:
            self.has_authorities = True
            self.load_default_certs()
        host = server_hostname or ""
        last, session, offered, refuses = self._hosts.pop(host, _Host())
        if last is not None and last.version() is not None and last.session is not None and last.session.has_ticket:
            session = last.session  # no handshake is under way on it
        if refuses:
            session = None
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._hosts[host] = _Host(made, session, offered or session is not None, refuses)
        if len(self._hosts) > _HOSTS_REMEMBERED:
            self._hosts.popitem(last=False)
        return made
