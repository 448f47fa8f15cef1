"""Two servers behind one address, as behind HAProxy or a managed Redis: one is the primary, the other its replica.

Knows servers and the relay before them; nothing of items. What the primary wrote down is evidence (history.py): across
fail-overs it is what each wrote while it was the primary.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import redis
from history import read_log
from relay import Relay
from servers import KeysOfWork, Server, free_port, wait_for

if TYPE_CHECKING:
    from typing_extensions import Self


class Pair:
    """``url`` is the one address. Old connections stay where they are; what is written there is refused (READONLY)."""

    def __init__(self, binary: str, *arguments: str) -> None:
        self._ports = [free_port(), free_port()]
        self._servers = [Server(binary, "--port", str(port), *arguments) for port in self._ports]
        self._primary = 0
        self._relay = Relay(str(self._servers[0].socket))
        self._before = b""
        self._log_begins = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for server in self._servers:
            self._stack.enter_context(server)
        self._stack.enter_context(self._relay)
        with self._servers[1].client() as client:
            client.replicaof("127.0.0.1", str(self._ports[0]))  # type: ignore[no-untyped-call]
        wait_for(self.can_fail_over, "the replica gets no data")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return self._relay.url

    @property
    def folder(self) -> Path:
        """Where the primary keeps its data."""
        return self._servers[self._primary].folder

    def client(self) -> redis.Redis:
        """Return a client of whoever is the primary."""
        return KeysOfWork.from_url(self.url, protocol=2)

    def start(self) -> None:
        """Start the primary again, with its data."""
        self._servers[self._primary].start()

    def kill(self) -> None:
        """End the primary as a crash does."""
        self._servers[self._primary].kill()

    def shut_down(self) -> None:
        """End the primary in order."""
        with self._servers[self._primary].client() as client:
            client.shutdown()
        self.kill()

    def can_fail_over(self) -> bool:
        """Whether the replica has the data and has written it down."""
        with suppress(redis.RedisError), self._servers[1 - self._primary].client() as client:
            told = client.info()
            is_writing = told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"]
            return told.get("master_link_status") == "up" and not is_writing
        return False

    def fail_over(self) -> None:
        """Make the replica the primary, with all that the other was told, and then new connections lead to it."""
        old, new = self._servers[self._primary], self._servers[1 - self._primary]
        with old.client() as client, new.client() as other:
            client.execute_command("FAILOVER", "TO", "127.0.0.1", self._ports[1 - self._primary])
            wait_for(lambda: _is(other, "master"), "the replica does not take over")
            wait_for(lambda: _is(client, "slave"), "the primary does not step back")
        self._before += read_log(old.folder)[self._log_begins :]
        self._log_begins = len(read_log(new.folder))
        self._primary = 1 - self._primary
        self._relay.target = str(new.socket)

    def log(self) -> bytes:
        """Return what each wrote down while it was the primary, in order."""
        return self._before + read_log(self.folder)[self._log_begins :]


def _is(client: redis.Redis, role: str) -> bool:
    return bool(client.info("replication")["role"] == role)
