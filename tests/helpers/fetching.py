"""What the behaviour tests share: quick options, and a fetch that holds the downloader to its promises each time."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from origin import Origin
from origin_content import content, expected_sha256
from patience import HANG

from scrapy_chunkdl.download import (
    Downloader,
    DownloadError,
    FileRequest,
    FileResult,
    Limits,
    Options,
    Progress,
    host_of,
)
from scrapy_chunkdl.download.disk import platform

CHUNK = 64 * 1024
SIZE = 10 * CHUNK + 123
LOOK_BACK = 4096
"""Bytes in place that a request after a failure asks for once more, to compare them."""

QUICK = Options(
    chunk_size=CHUNK,
    chunks_per_file=4,
    chunks_per_host=8,
    retry_times=3,
    connect_timeout=2.0,
    stall_timeout=0.3,
    first_byte_timeout=0.3,
    backoff_base=0.002,
    backoff_max=0.01,
    retry_after_max=2.0,
)


WAITS = re.compile(r"\b(hang|drip|stall|hold|delay|pause|rate|line|length|crowd)\b")
"""Faults by which the downloader comes to wait, and whose tests last as long as its patience."""


def patient(options: Options) -> Options:
    """Return options under which a busy machine is not taken for a slow server."""
    hasty = {name for name in ("stall_timeout", "first_byte_timeout") if getattr(options, name) == getattr(QUICK, name)}
    return replace(options, connect_timeout=20.0, **dict.fromkeys(hasty, 5.0))


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, without the records that stand beside files where these cannot have attributes."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(platform.RECORD))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Client:
    """Fetches into a folder of its own. After each fetch nothing it started is left running."""

    folder: Path
    origin: Origin
    options: Options = QUICK
    key: str = "file.bin"
    size: int = SIZE
    requests: dict[str, Any] = field(default_factory=dict)
    is_known: bool = False
    """Whether the origin's files are known to be small: then the way of a small file is tried."""

    def url(self, faults: str = "", **more: Any) -> str:
        return self.origin.url(more.pop("name", self.key), more.pop("size", self.size), faults, **more)

    @property
    def target(self) -> Path:
        return self.folder / "out.bin"

    async def fetch(
        self, url: str, *, progress: Progress | None = None, options: Options | None = None, **request: Any
    ) -> FileResult:
        before = asyncio.all_tasks()
        options = options or self.options
        if not WAITS.search(unquote(url)):
            options = patient(options)
        wanted = FileRequest(url, self.folder, **{"name": self.target.name, **request})
        limits = Limits(options)
        if self.is_known:
            limits.habits.brought(host_of(url), small=True)
        async with Downloader(options, limits) as downloader:
            fetching = asyncio.ensure_future(downloader.fetch(wanted, progress=progress or Progress()))
            done, _ = await asyncio.wait({fetching}, timeout=HANG)
            if not done:
                stacks = [task.get_stack() for task in asyncio.all_tasks() - before]
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)
                raise AssertionError(f"hung: {stacks}")
            left = asyncio.all_tasks() - before - {fetching}
            assert not left, f"left running: {left}"
        return fetching.result()

    async def right(
        self, url: str, *, key: str | None = None, size: int | None = None, version: int = 1, **more: Any
    ) -> FileResult:
        """Fetch; the file must be the right one, whole, with nothing beside it."""
        size = self.size if size is None else size
        result = await self.fetch(url, **more)
        assert result.size == size == result.path.stat().st_size
        assert sha256_of(result.path) == expected_sha256(key or self.key, size, version)
        beside = [path.name for path in result.path.parent.iterdir() if path.name.startswith(result.path.name + ".")]
        assert beside == []
        return result

    async def fails(self, url: str, *reasons: str, **more: Any) -> DownloadError:
        """Fetch; it must fail with one of these reasons (any when none is given) and nothing under the final name."""
        with pytest.raises(DownloadError) as caught:
            await self.fetch(url, **more)
        assert not (self.folder / (more.get("name") or self.target.name)).exists()
        assert not reasons or caught.value.reason in reasons, f"{caught.value.reason}: {caught.value}"
        return caught.value

    async def right_or_fails(
        self,
        url: str,
        *,
        versions: Collection[int] = (1,),
        key: str | None = None,
        size: int | None = None,
        **more: Any,
    ) -> FileResult | DownloadError:
        """Fetch; the file must be one whole version, or there must be none and a DownloadError."""
        size = self.size if size is None else size
        try:
            result = await self.fetch(url, **more)
        except DownloadError as error:
            assert not self.target.exists()
            return error
        hashes = {expected_sha256(key or self.key, size, version) for version in versions}
        assert sha256_of(result.path) in hashes
        return result

    def with_options(self, **changes: Any) -> Client:
        return replace(self, options=replace(self.options, **changes))


def payload(size: int = SIZE, version: int = 1, key: str = "file.bin") -> bytes:
    return content(key, size, version)
