"""Which addresses may be connected to where CHUNKDL_BLOCK_PRIVATE_ADDRESSES is on. Knows addresses; nothing of HTTP.

The address that is connected to decides, whoever named it: an item, a redirect, a name server. A host that is an
address is looked at before, a name when it is resolved, and the other end of each connection once more when it is made,
for names are remembered. A proxy of the operator's may be inside, but only for the connection to that proxy.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection

from scrapy_chunkdl.download.errors import Permanent

_may_be_inside: ContextVar[bool] = ContextVar("may_be_inside", default=False)


@contextmanager
def connecting(*, may_be_inside: bool) -> Iterator[None]:
    """Say for the connection that is made meanwhile whether it may lead inside."""
    token = _may_be_inside.set(may_be_inside)
    try:
        yield
    finally:
        _may_be_inside.reset(token)


def refuse_private(address: str, host: str) -> None:
    """Raise Permanent, reason ``private_address``, for an address that is not for all the world.

    A name passes, as its addresses are looked at when it is resolved, but for those that are always this machine's
    (RFC 6761 §6.3): a proxy might resolve them.
    """
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        is_inside = f".{address.rstrip('.')}".endswith(".localhost")
    else:
        inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or _nat64(ip) or ip
        is_inside = not inner.is_global or inner.is_multicast
    if is_inside:
        raise Permanent(
            f"{host} is at the private address {address} (CHUNKDL_BLOCK_PRIVATE_ADDRESSES)", reason="private_address"
        )


def _nat64(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the address behind one of 64:ff9b::/96 (RFC 6052 §2.1)."""
    is_translated = ip.version == 6 and ip in ipaddress.IPv6Network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if is_translated else None


def check_peer(connection: Connection, host: str) -> None:
    """Close a connection that leads inside, before anything is sent. Raises Permanent, reason ``private_address``."""
    if _may_be_inside.get() or connection.transport is None:
        return
    peer = connection.transport.get_extra_info("peername")
    try:
        refuse_private(str(peer[0]) if peer else "", host)
    except Permanent:
        connection.close()
        raise


class GuardedResolver(AbstractResolver):
    """Refuses names that lead inside before they are connected to."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in () if _may_be_inside.get() else results:
            refuse_private(result["host"], host)
        return results

    async def close(self) -> None:
        await self._resolver.close()
