"""FTP servers for the tests: pyftpdlib, which can be told to answer as servers of the field do, and vsftpd.

pyftpdlib runs in a thread of its own. Each command is noted. What it refuses, drops or holds back is set between two
files and holds for those that follow.
"""

from __future__ import annotations

import io
import logging
import os
import pwd
import shutil
import subprocess
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from patience import HANG
from servers import free_port, wait_for_port

with warnings.catch_warnings():  # asyncore is, up to Python 3.11, the standard library's
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.filesystems import AbstractedFS
    from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

USER, PASSWORD = "me", "se:cr@t"


class Ftp:
    """A running pyftpdlib that serves ``folder`` to ``me`` and to anybody; ``certificate`` has it speak AUTH TLS.

    ``replies`` has by command what is answered instead of doing it, ``most`` how many connections are borne. The first
    ``cuts`` transfers break after ``cut_after`` bytes, the first ``silences`` send a little and then nothing.
    ``before`` is called with each command and its argument, before it is carried out.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.folder = folder
        self.replies: dict[str, str] = {}
        self.commands: list[tuple[str, str]] = []
        self.cuts = self.silences = self.cut_after = 0
        self.before: Callable[[str, str], None] = lambda command, argument: None
        self.peak = 0
        self._certificate = certificate
        self._drops = False

    def __enter__(self) -> Ftp:
        logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
        self._loop = IOLoop()
        self._server = FTPServer(("127.0.0.1", 0), _handler(self), ioloop=self._loop)
        self.port = self._server.address[1]
        self.address = f"127.0.0.1:{self.port}"
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join(HANG)

    @property
    def most(self) -> int:
        """How many connections are borne."""
        return int(self._server.max_cons)

    @most.setter
    def most(self, connections: int) -> None:
        self._server.max_cons = connections

    def url(self, name: str = "file.bin", *, login: str = "", scheme: str = "ftp") -> str:
        """Return the URL of a file."""
        return f"{scheme}://{f'{login}@' if login else ''}{self.address}/{name}"

    def drop_connections(self) -> None:
        """Break all that are there, in the server's own time."""
        self._drops = True

    def count(self) -> Counter[str]:
        """Return how often each command came."""
        return Counter(command for command, _ in self.commands)

    def _run(self) -> None:
        while not self._over:
            self._loop.loop(timeout=0.02, blocking=False)
            if self._drops:
                self._drops = False
                for one in [one for one in self._loop.socket_map.values() if one is not self._server]:
                    one.close()
        self._server.close_all()


def _handler(told: Ftp) -> type[FTPHandler]:
    base: type[FTPHandler] = TLS_FTPHandler if told._certificate is not None else FTPHandler

    class Files(AbstractedFS):  # type: ignore[misc]
        def open(self, filename: str, mode: str) -> Any:
            file = super().open(filename, mode)
            if told.cuts > 0:
                told.cuts -= 1
                return _Broken(file, told.cut_after)
            return file

    class Data(ThrottledDTPHandler):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            if told.silences > 0:
                told.silences -= 1
                self.write_limit, self.auto_sized_buffers = 1, False
            super().__init__(*arguments)

    class Handler(base):  # type: ignore[misc, valid-type]
        authorizer = DummyAuthorizer()
        abstracted_fs = Files
        use_sendfile = False
        encoding = "utf8"
        if told._certificate is None:
            dtp_handler = Data
        else:
            certfile = str(told._certificate)
            tls_control_required = tls_data_required = True

        def on_connect(self) -> None:
            told.peak = max(told.peak, sum(isinstance(one, Handler) for one in told._loop.socket_map.values()))

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            told.commands.append((cmd, arg))
            told.before(cmd, arg)
            if (reply := told.replies.get(cmd)) is not None:
                if reply:
                    self.respond(reply)
                else:
                    self.close()
                return
            super().pre_process_command(line, cmd, arg)

    Handler.authorizer.add_user(USER, PASSWORD, str(told.folder))
    Handler.authorizer.add_anonymous(str(told.folder))
    return Handler


class _Broken(io.RawIOBase):
    """A file whose disk fails after a number of bytes."""

    def __init__(self, file: Any, good: int) -> None:
        self._file = file
        self._good = good
        self.name = file.name

    def read(self, size: int = -1) -> Any:
        if self._good <= 0:
            raise OSError("the disk broke")
        data = self._file.read(min(size, self._good) if size >= 0 else self._good)
        self._good -= len(data)
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        return int(self._file.seek(position, whence))

    def fileno(self) -> int:
        return int(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@contextmanager
def vsftpd(folder: Path, place: Path, **settings: str) -> Iterator[str]:
    """Run vsftpd, where one is installed, with anonymous access to ``folder``; yields ``host:port``.

    ``place`` is for its own files.
    """
    binary = shutil.which("vsftpd", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None or os.geteuid() != 0:
        pytest.skip("vsftpd is not installed, or this is not root")
    if "ftp" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("there is no user ftp, whom vsftpd takes for anybody")
    empty = place / "empty"
    empty.mkdir()
    port = free_port()
    lines = {
        "listen": "YES",
        "listen_ipv6": "NO",
        "listen_address": "127.0.0.1",
        "listen_port": str(port),
        "background": "NO",
        "anonymous_enable": "YES",
        "anon_root": str(folder),
        "no_anon_password": "YES",
        "nopriv_user": "nobody",
        "secure_chroot_dir": str(empty),
        "seccomp_sandbox": "NO",
        "isolate": "NO",
        "isolate_network": "NO",
        "xferlog_enable": "NO",
        **settings,
    }
    configuration = place / "vsftpd.conf"
    configuration.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    process = subprocess.Popen([binary, str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def age(path: Path, seconds: float = 3600.0) -> None:
    """Have a file look as if it had been changed some time ago."""
    at = time.time() - seconds
    os.utime(path, (at, at))
