"""TLS: who is trusted, what is shown, and sessions that are resumed. Knows ssl; nothing of HTTP."""

from __future__ import annotations

import ssl
from collections import OrderedDict

from scrapy_chunkdl.download.model import Options

_HOSTS_REMEMBERED = 128


def tls_context(options: Options) -> ssl.SSLContext:
    """Return how servers are trusted and what they are shown. Raises OSError for a file that is missing or no PEM."""
    context = ssl.create_default_context()
    context.__class__ = _ResumingContext  # made by hand it would have to follow each Python's idea of a safe default
    context.set_alpn_protocols(["http/1.1"])
    if options.ca_file:
        context.load_verify_locations(options.ca_file)
    if options.client_cert:
        context.load_cert_chain(*options.client_cert)
    if not options.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _ResumingContext(ssl.SSLContext):
    """Offers a host the session of the last connection to it: a shorter handshake (RFC 8446 §2.2).

    asyncio has no way to say so. A session can be had only from its connection, and under TLS 1.3 only once the
    server's ticket has come, so the last connection to each host is remembered, and looked at when the next is made.
    """

    _hosts: OrderedDict[str, tuple[ssl.SSLObject, ssl.SSLSession | None]]

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
        host = server_hostname or ""
        if host in self._hosts:
            last, session = self._hosts.pop(host)
            if last.version() is not None and last.session is not None and last.session.has_ticket:  # no handshake now
                session = last.session
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._hosts[host] = (made, session)
        if len(self._hosts) > _HOSTS_REMEMBERED:
            self._hosts.popitem(last=False)
        return made
