"""Why a store cannot be used at all. What fails for one file is the downloader's errors."""

from __future__ import annotations


class StoreUnusable(ValueError):
    """A URI or a setting that cannot work; the message says what to change."""


class MissingExtra(ImportError):
    """A library is not installed; the message has the ``pip install`` line."""
