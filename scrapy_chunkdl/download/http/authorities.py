"""Contexts of TLS that read the system's authorities when they are first needed, and aiohttp, imported with such.

aiohttp makes two contexts as it is imported, with all authorities in each, for whoever gives it none; here every
session has one of its own. On a system with 140 authorities they took 0.11 of 0.5 s of CPU that a program with the
downloader takes to start. Knows ssl; nothing of what a context is for.
"""

from __future__ import annotations

import importlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

_patching = threading.Lock()


class LateContext(ssl.SSLContext):
    """Reads the system's authorities for its first handshake: many processes have none.

    ``read_authorities`` is what is left to be called for that.
    """

    read_authorities: Callable[[], object] | None = None

    def have_authorities(self) -> None:
        """Read them, if that is still to be done."""
        if self.read_authorities is not None:
            self.read_authorities()  # two threads may both do it: the second adds nothing
            self.read_authorities = None

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        if self.verify_mode is not ssl.CERT_NONE:
            self.have_authorities()
        return super().wrap_bio(*arguments, **more)

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        if self.verify_mode is not ssl.CERT_NONE:
            self.have_authorities()
        return super().wrap_socket(*arguments, **more)

    def cert_store_stats(self) -> dict[str, int]:
        self.have_authorities()
        return super().cert_store_stats()

    def get_ca_certs(self, *arguments: Any, **more: Any) -> Any:
        self.have_authorities()
        return super().get_ca_certs(*arguments, **more)


@contextmanager
def read_late() -> Iterator[None]:
    """Have contexts that are made within, as anybody makes them, read the system's authorities when they need them.

    Where another library has put its own class in the place of Python's (truststore, gevent) nothing is changed.
    """
    if ssl.SSLContext is not LateContext.__base__ or ssl.SSLContext.__module__ != "ssl":
        yield
        return
    with _patching, ExitStack() as restored:
        for name in ("load_default_certs", "set_default_verify_paths"):
            if name in vars(ssl.SSLContext):
                restored.callback(setattr, ssl.SSLContext, name, getattr(ssl.SSLContext, name))
            else:
                restored.callback(delattr, ssl.SSLContext, name)
            setattr(ssl.SSLContext, name, _putting_off(getattr(ssl.SSLContext, name)))
        yield


def _putting_off(read: Callable[..., None]) -> Callable[..., None]:
    def put_off(context: ssl.SSLContext, *arguments: Any) -> None:
        if type(context) is not ssl.SSLContext:
            read(context, *arguments)
            return
        context.__class__ = LateContext  # made by hand it would have to follow each Python's idea of a safe default
        assert isinstance(context, LateContext)
        context.read_authorities = partial(read, context, *arguments)

    return put_off


def import_aiohttp() -> None:
    """Import aiohttp so that its own contexts read no authorities before they are used."""
    with read_late():
        importlib.import_module("aiohttp")
