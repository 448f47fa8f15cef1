"""Which hosts may be asked, whatever they speak: CHUNKDL_ALLOWED_HOSTS, CHUNKDL_BLOCK_PRIVATE_ADDRESSES. Pure."""

from __future__ import annotations

from functools import lru_cache

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.addresses import refuse_private
from scrapy_chunkdl.download.http.urls import NoUrl, host_name, wire_url
from scrapy_chunkdl.download.model import Options


def refuse_host(host: str, options: Options) -> None:
    """Raise Permanent, reason ``host_not_allowed`` or ``private_address``, for a host that is not to be asked.

    A name is looked at once more when it is resolved.
    """
    allowed = options.allowed_hosts
    if allowed and not any(host == name or host.endswith("." + name) for name in map(_ascii_host, allowed)):
        raise Permanent(f"{host} is not in CHUNKDL_ALLOWED_HOSTS", reason="host_not_allowed")
    if options.block_private_addresses:
        refuse_private(host, host)


@lru_cache(maxsize=256)
def _ascii_host(name: str) -> str:
    """Return a host of CHUNKDL_ALLOWED_HOSTS as URLs have it."""
    try:
        return host_name(wire_url(f"http://{name}"))
    except NoUrl:
        return name
