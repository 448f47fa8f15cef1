"""A client of a real server, that comes to it through a relay, and can be killed in the middle."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar

import real_fetch
from cutting_relay import Relay
from patience import HANG
from servers import wait_for
from web_servers import WebServer

from scrapy_chunkdl.download import FileResult
from scrapy_chunkdl.download.disk import journal


@dataclass
class Client:
    """Fetches a file of its own, ``name``, from a server by way of ``relay`` into ``folder``."""

    numbers: ClassVar[Iterator[int]] = count()

    server: WebServer
    relay: Relay
    folder: Path
    name: str = field(default_factory=lambda: f"file-{next(Client.numbers)}.bin")

    def url(self, path: str = "") -> str:
        scheme = "https" if self.server.kind.tls else "http"
        return f"{scheme}://127.0.0.1:{self.relay.port}/{path or self.name}"

    @property
    def ca(self) -> Path | None:
        return self.server.ca if self.server.kind.tls else None

    @property
    def target(self) -> Path:
        return self.folder / real_fetch.NAME

    async def fetch(self, path: str = "") -> FileResult:
        return await real_fetch.fetch(self.url(path), self.folder, self.ca)

    def killed_in_the_middle(self, after: int) -> None:
        """Have another process fetch, and kill it when ``after`` bytes have come and what can be noted of them is."""
        self.relay.hold_after(after)
        ca = [str(self.ca)] if self.ca else []
        command = [sys.executable, real_fetch.__file__, self.url(), str(self.folder), *ca]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert self.relay.held.wait(HANG), "the server sends nothing"
            if self.server.kind.resumes:
                wait_for(self._is_noted, "nothing is noted")
        finally:
            process.kill()
            errors = process.communicate()[1]
        assert not self.target.exists(), errors
        self.relay.let_pass()

    def _is_noted(self) -> bool:
        with suppress(journal.JournalError):
            _, done = journal.read(self.target.with_name(f"{self.target.name}.part.journal"))
            return done.total > 0
        return False
