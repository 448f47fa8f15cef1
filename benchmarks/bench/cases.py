"""What is measured: for each case its contestants, and the figures to reach. A run with wrong bytes does not count."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from random import Random
from typing import Any

from bench import projects, servers
from bench.distant import content
from bench.run import Run, Wrong, python, run
from bench.servers import Hit, Nginx, shaped

GIB, MIB, KIB = 1 << 30, 1 << 20, 1 << 10
FETCH = Path(__file__).parent / "fetch.py"


@dataclass(frozen=True)
class Goal:
    """``metric`` of ``contestant``, divided by that of ``peer`` (or by ``ideal``), is to be at most ``limit``.

    Where there is neither, the metric itself is. ``least``: at least.
    """

    contestant: str
    metric: str
    limit: float
    peer: str = ""
    ideal: float = 0.0
    least: bool = False


@dataclass
class Case:
    """Contestants by name, each called once for each pair, in turn. ``pairs`` 0: as many as asked for."""

    number: int
    title: str
    contestants: dict[str, Callable[[int], Run]]
    goals: list[Goal]
    pairs: int = 0
    needs: tuple[str, ...] = ()
    note: str = ""


@dataclass
class Place:
    """Where the runs happen: a folder in memory, one on disk, and the servers."""

    memory: Path
    disk: Path
    nginx: Nginx
    origin: str
    redis: str
    distant: str
    mixed: str
    before: Path | None = None
    small: list[str] = field(default_factory=list)

    def empty(self, name: str, *, on_disk: bool = False) -> Path:
        """Return an empty folder."""
        folder = (self.disk if on_disk else self.memory) / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def _same(path: Path, source: Path) -> None:
    if not path.exists() or not filecmp.cmp(path, source, shallow=False):
        raise Wrong(f"{path.name} is not what the server has")


def _of_size(size: int, outcome: tuple[Run, Path]) -> Run:
    done, path = outcome
    if path.stat().st_size != size:
        raise Wrong(f"{path.stat().st_size} bytes")
    return done


def _all_same(store: Path, sources: dict[str, Path]) -> None:
    found = {path.name: path for path in store.rglob("*") if path.is_file()}
    for name, source in sources.items():
        if name not in found:
            raise Wrong(f"{name} is missing")
        _same(found[name], source)


def _of_tree(tree: Path | None) -> dict[str, str]:
    """Return the environment in which the code of this folder runs; None: the present code."""
    return {} if tree is None else {"PYTHONPATH": str(tree)}


def _with_before(place: Place, make: Callable[[Path | None], Callable[[int], Run]]) -> dict[str, Callable[[int], Run]]:
    """Return the present code as a contestant, and that of an earlier commit where there is one."""
    trees = {"ours": None} | ({"before": place.before} if place.before is not None else {})
    return {name: make(tree) for name, tree in trees.items()}


def _fetch(place: Place, url: str, *more: str, tree: Path | None = None) -> tuple[Run, Path]:
    folder = place.empty("out")
    done = run(python(FETCH, "--url", url, "--folder", folder, *more), env=_of_tree(tree))
    done.more |= json.loads(done.output.splitlines()[-1])
    del done.more["cpu of fetch"]
    return done, folder / url.partition("?")[0].rpartition("/")[2]


def _aria2(place: Place, url: str, *more: str) -> tuple[Run, Path]:
    folder = place.empty("out")
    command = ["aria2c", "-q", "-x16", "-s16", "-k1M", *more, "-d", folder, "-o", "file", url]
    return run(command), folder / "file"


def _curl(place: Place, url: str, *more: str) -> tuple[Run, Path]:
    folder = place.empty("out")
    return run(["curl", "-s", *more, "-o", folder / "file", url]), folder / "file"


def one_big_file(place: Place, *, tls: bool, size: int) -> Case:
    """1 and 2."""
    source = place.nginx.root / "big.bin"
    if not source.exists():
        place.nginx.file("big.bin", size)
    url = place.nginx.url("big.bin", tls=tls)
    ca = str(place.nginx.ca)

    def checked(outcome: tuple[Run, Path]) -> Run:
        done, path = outcome
        _same(path, source)
        return done

    goals = [("wall", 1.0 if tls else 0.75), ("cpu", 1.2 if tls else 0.8)]
    return Case(
        2 if tls else 1,
        f"one file of {size / GIB:g} GiB {'over TLS ' if tls else ''}from nginx to memory, 16 connections",
        {
            **_with_before(
                place, lambda tree: lambda _: checked(_fetch(place, url, *(("--ca", ca) if tls else ()), tree=tree))
            ),
            "aria2": lambda _: checked(_aria2(place, url, *((f"--ca-certificate={ca}",) if tls else ()))),
            "curl (1 connection)": lambda _: checked(_curl(place, url, *(("--cacert", ca) if tls else ()))),
        },
        [Goal("ours", metric, limit, peer="aria2") for metric, limit in goals],
        needs=("nginx", "aria2c"),
    )


def memory(place: Place, *, big: int) -> Case:
    """3."""
    place.nginx.file("one.bin", GIB, random=False)
    place.nginx.file("more.bin", big, random=False)

    def crawl(name: str, contestant: Callable[[Path, list[object], Path], Run]) -> Run:
        store = place.empty("store", on_disk=True)
        done = contestant(place.empty("project"), [projects.item([place.nginx.url(name)])], store)
        sizes = [path.stat().st_size for path in store.rglob("*") if path.is_file()]
        if sizes != [(place.nginx.root / name).stat().st_size]:
            raise Wrong(f"files of {sizes} bytes")
        shutil.rmtree(store)
        return done

    def ours(project: Path, items: list[object], store: Path) -> Run:
        return projects.ours(project, place.redis, items, store)

    return Case(
        3,
        f"peak memory of a whole crawl, 1 GiB and {big / GIB:g} GiB",
        {
            "ours, 1 GiB": lambda _: crawl("one.bin", ours),
            "ours, more": lambda _: crawl("more.bin", ours),
            "FilesPipeline, 1 GiB": lambda _: crawl("one.bin", projects.files_pipeline),
        },
        [
            Goal("ours, 1 GiB", "memory", 150e6),
            Goal("ours, more", "memory", 150e6),
            Goal("ours, more", "memory", 1.1, peer="ours, 1 GiB"),
        ],
        pairs=1,
        needs=("nginx",),
    )


def _phase(hits: list[Hit]) -> float:
    """Seconds from the first request to the end of the last."""
    return max(hit.ended for hit in hits) - min(hit.began for hit in hits)


def small_files(place: Place, *, number: int) -> Case:
    """4."""
    sources = {f"s{n}.bin": place.nginx.file(f"small/s{n}.bin", 64 * KIB) for n in range(number)}
    urls = [place.nginx.url(f"small/{name}") for name in sources]
    items = [projects.item([url]) for url in urls]

    def measured(contestant: Callable[[Path, Path], Run], *, by_name: bool = True) -> Run:
        store = place.empty("store")
        place.nginx.hits()
        done = contestant(place.empty("project"), store)
        phase = _phase(place.nginx.hits())
        if by_name:
            _all_same(store, sources)
        elif sum(1 for path in store.rglob("*") if path.is_file()) != number:
            raise Wrong("files are missing")
        done.more |= {"phase": phase, "rate": number / phase, "cpu per file": done.cpu / number}
        return done

    def ours(tree: Path | None, **settings: object) -> Callable[[int], Run]:
        return lambda _: measured(
            lambda project, store: projects.ours(project, place.redis, items, store, tree=tree, **settings)
        )

    def aria2(project: Path, store: Path) -> Run:
        (project / "urls").write_text("\n".join(urls))
        return run(["aria2c", "-q", "-j32", "-i", project / "urls", "-d", store])

    return Case(
        4,
        f"{number} files of 64 KiB through the queue, a whole crawl",
        {
            **_with_before(place, ours),
            "ours, 32 to the host": ours(None, CHUNKDL_CONCURRENT_CHUNKS_PER_HOST=32),
            "FilesPipeline": lambda _: measured(
                lambda project, store: projects.files_pipeline(project, items, store), by_name=False
            ),
            "aria2": lambda _: measured(aria2),
        },
        [
            Goal("ours", "rate", 2, peer="FilesPipeline", least=True),
            Goal("ours", "cpu per file", 0.5, peer="FilesPipeline"),
            Goal("ours, 32 to the host", "rate", 2, peer="FilesPipeline", least=True),
            Goal("ours, 32 to the host", "cpu per file", 0.5, peer="FilesPipeline"),
            Goal("ours, 32 to the host", "phase", 2, peer="aria2"),
        ],
        needs=("nginx", "aria2c"),
        note="phase: seconds from the first request to the end of the last, rate: files per second in it",
    )


def downloader_alone(place: Place, number: int, *, files: int, tls: bool, on_disk: bool = False) -> Case:
    """11 to 13."""
    sources = {f"s{n}.bin": place.nginx.file(f"small/s{n}.bin", 64 * KIB) for n in range(files)}
    urls = [place.nginx.url(f"small/{name}", tls=tls) for name in sources]

    def measured(command: Callable[[Path, Path], Run]) -> Run:
        project, store = place.empty("project"), place.empty("store", on_disk=on_disk)
        (project / "urls").write_text("\n".join(urls))
        done = command(project / "urls", store)
        _all_same(store, sources)
        return done

    def ours(tree: Path | None) -> Callable[[int], Run]:
        more = ("--ca", str(place.nginx.ca)) if tls else ()

        def fetch(listed: Path, store: Path) -> Run:
            names = ("--urls", listed, "--folder", store, "--files", "32", "--probe", "auto")
            done = run(python(FETCH, *names, *more), env=_of_tree(tree))
            done.more |= json.loads(done.output.splitlines()[-1])
            done.more["cpu per file"] = done.more.pop("cpu of fetch") / files
            return done

        return lambda _: measured(fetch)

    def aria2(listed: Path, store: Path) -> Run:
        more = (f"--ca-certificate={place.nginx.ca}",) if tls else ()
        done = run(["aria2c", "-q", "-j32", "-x1", *more, "-i", listed, "-d", store])
        done.more |= {"fetch": done.wall, "cpu per file": done.cpu / files}
        return done

    contestants = _with_before(place, ours)
    goals = [Goal("ours", "cpu per file", 2, peer="aria2")]
    if place.before is not None:
        goals.append(Goal("ours", "cpu per file", 0.5 if tls else 0.4, peer="before"))
        if on_disk:
            goals = [Goal("ours", "fetch", 0.6, peer="before")]
    where = "a disk" if on_disk else "memory"
    return Case(
        number,
        f"the downloader alone, {files} files of 64 KiB {'over TLS ' if tls else ''}to {where}, 32 at once",
        {**contestants, "aria2": lambda _: measured(aria2)},
        goals,
        needs=("nginx", "aria2c"),
        note="fetch and cpu per file: without the start of the interpreter; before: the code of an earlier commit",
    )


def small_over_latency(place: Place, *, number: int) -> Case:
    """14."""
    connections, size = 16, 64 * KIB
    ideal = number / connections * 0.05

    def urls(seed: int) -> list[str]:
        return [f"{place.distant}/l{seed}-{n}.bin" for n in range(number)]

    def whole(store: Path) -> None:
        found = [path for path in store.rglob("*") if path.is_file()]
        if len(found) != number or any(path.stat().st_size != size for path in found):
            raise Wrong("files are missing, or not whole")

    def ours(seed: int) -> Run:
        project, store = place.empty("project"), place.empty("store")
        (project / "urls").write_text("\n".join(urls(seed)))
        names = ("--urls", project / "urls", "--folder", store, "--files", str(connections), "--probe", "auto")
        done = run(python(FETCH, *names))
        whole(store)
        done.more |= json.loads(done.output.splitlines()[-1])
        del done.more["cpu of fetch"]
        return done

    def aria2(seed: int) -> Run:
        project, store = place.empty("project"), place.empty("store")
        (project / "urls").write_text("\n".join(urls(seed)))
        done = run(["aria2c", "-q", f"-j{connections}", "-x1", "-i", project / "urls", "-d", store])
        whole(store)
        done.more["fetch"] = done.wall
        return done

    def files_pipeline(seed: int) -> Run:
        items, store = [projects.item([url]) for url in urls(seed)], place.empty("store")
        at_once = {"CONCURRENT_REQUESTS": connections, "CONCURRENT_REQUESTS_PER_DOMAIN": connections}
        done = projects.files_pipeline(place.empty("project"), items, store, **at_once)
        whole(store)
        done.more["fetch"] = done.wall
        return done

    return Case(
        14,
        f"{number} files of 64 KiB, 50 ms to the first byte, {connections} connections",
        {"ours": ours, "aria2": aria2, "FilesPipeline": files_pipeline},
        [Goal("ours", "fetch", 1.15, ideal=ideal)],
        needs=("aria2c",),
        note=f"ideal: {ideal:.2f} s, one request for each; fetch of the others: with the start of the program",
    )


def _sizes(number: int) -> list[int]:
    """Return sizes as attachments have them: log-normal, a median of 300 KiB, the largest of 200 MiB; always these."""
    drawn = Random(1)
    sizes = [min(200 * MIB, max(1, round(drawn.lognormvariate(log(300 * KIB), 1.5)))) for _ in range(number - 1)]
    return [*sizes, 200 * MIB * number // 2000]


def mixed_sizes(place: Place, *, number: int) -> Case:
    """16."""
    sizes, port = _sizes(number), place.mixed.rpartition(":")[2]

    def urls(seed: int) -> list[str]:
        return [f"http://127.0.0.{n % 8 + 2}:{port}/{size}/x{seed}-{n}.bin" for n, size in enumerate(sizes)]

    def whole(store: Path) -> None:
        found = sorted(path.stat().st_size for path in store.rglob("*") if path.is_file())
        if found != sorted(sizes):
            raise Wrong("files are missing, or not whole")
        for path in store.rglob("*.bin"):
            with path.open("rb") as file:
                at = 0
                while data := file.read(MIB):
                    if data != content(at, at + len(data)):
                        raise Wrong(f"{path.name} has other bytes")
                    at += len(data)
        shutil.rmtree(store)

    def alone(command: Callable[[Path, Path], Run], seed: int) -> Run:
        project, store = place.empty("project"), place.empty("store")
        (project / "urls").write_text("\n".join(urls(seed)))
        done = command(project / "urls", store)
        whole(store)
        return done

    def fetch(listed: Path, store: Path) -> Run:
        names = ("--urls", listed, "--folder", store, "--files", "32", "--probe", "auto", "--connections", "4")
        done = run(python(FETCH, *names))
        done.more |= json.loads(done.output.splitlines()[-1])
        del done.more["cpu of fetch"]
        return done

    def aria2(listed: Path, store: Path) -> Run:
        return run(["aria2c", "-q", "-j32", "-x4", "-s4", "-k1M", "-i", listed, "-d", store])

    def crawl(contestant: Callable[[Path, list[Any], Path], Run], seed: int) -> Run:
        store = place.empty("store")
        done = contestant(place.empty("project"), [projects.item([url]) for url in urls(seed)], store)
        whole(store)
        return done

    return Case(
        16,
        f"{number} files of {sum(sizes) / GIB:.1f} GiB, log-normal, median 300 KiB, up to 200 MiB, 8 hosts, 30 ms",
        {
            "ours": lambda seed: alone(fetch, seed),
            "aria2": lambda seed: alone(aria2, seed),
            "ours, a crawl": lambda seed: crawl(
                lambda project, items, store: projects.ours(project, place.redis, items, store), seed
            ),
            "FilesPipeline": lambda seed: crawl(projects.files_pipeline, seed),
        },
        [
            Goal("ours", "wall", 0.8, peer="aria2"),
            Goal("ours, a crawl", "wall", 0.6, peer="FilesPipeline"),
            Goal("ours", "memory", 150e6),
            Goal("ours, a crawl", "memory", 150e6),
        ],
        needs=("aria2c",),
        note="aria2 with -j32 -x4, ours with as many; the server takes a core, too",
    )


def processes(place: Place, *, number: int) -> Case:
    """17."""
    small = {f"s{n}.bin": place.nginx.file(f"small/s{n}.bin", 64 * KIB) for n in range(number)}
    medium = {f"m{n}.bin": place.nginx.file(f"medium/m{n}.bin", 64 * MIB) for n in range(16)}

    def work(at_once: int, folder: str, sources: dict[str, Path], *, tls: bool, **settings: Any) -> tuple[Run, float]:
        items = [projects.item([place.nginx.url(f"{folder}/{name}", tls=tls)]) for name in sources]
        store = place.empty("store")
        place.nginx.hits()
        done = projects.workers(place.empty("project"), place.redis, items, store, processes=at_once, **settings)
        phase = _phase(place.nginx.hits())
        _all_same(store, sources)
        shutil.rmtree(store)
        return done, phase

    def workers(at_once: int) -> Callable[[int], Run]:
        def measured(_: int) -> Run:
            done, phase = work(at_once, "small", small, tls=False)
            ca = {"CHUNKDL_CA_FILE": str(place.nginx.ca)}
            _, tls_phase = work(at_once, "medium", medium, tls=True, CHUNKDL_CONCURRENT_CHUNKS_PER_HOST=32, **ca)
            done.more |= {"rate": number / phase, "MB/s": sum(64 * MIB for _ in medium) / 1e6 / tls_phase}
            return done

        return measured

    return Case(
        17,
        f"scrapy chunkdl worker --processes: {number} files of 64 KiB, and 16 of 64 MiB over TLS",
        {"1 process": workers(1), "2 processes": workers(2)},
        [Goal("2 processes", metric, 1.7, peer="1 process", least=True) for metric in ("rate", "MB/s")],
        needs=("nginx",),
        note="rate: small files per second, MB/s: of the large ones, from the first request to the end of the last; "
        "two processes, nginx and Redis want more cores than two",
    )


def profiled_file(place: Place, profile: str) -> Case:
    """15: what has no case of its own."""
    size = 64 * MIB

    def url(seed: int) -> str:
        return shaped(place.origin, f"p{seed}.bin", size, servers.PROFILES[profile], seed)

    return Case(
        15,
        f"64 MiB over the network '{profile}'",
        {
            "ours": lambda seed: _of_size(size, _fetch(place, url(seed))),
            "aria2": lambda seed: _of_size(size, _aria2(place, url(seed))),
        },
        [Goal("ours", "wall", 1.0, peer="aria2")],
        needs=("aria2c",),
        note="networks: tests/helpers/network_profiles.py",
    )


def shaped_file(place: Place, number: int, title: str, faults: str, limit: float) -> Case:
    """5 and 6."""
    size, rate = 64 * MIB, 2_000_000
    ideal = size / 16 / rate

    def url(seed: int) -> str:
        return shaped(place.origin, f"{number}-{seed}.bin", size, faults, seed)

    return Case(
        number,
        title,
        {
            "ours": lambda seed: _of_size(size, _fetch(place, url(seed))),
            "aria2": lambda seed: _of_size(size, _aria2(place, url(seed))),
        },
        [Goal("ours", "fetch", limit, ideal=ideal), Goal("ours", "twice", 0.05)],
        needs=("aria2c",),
        note=f"ideal: {ideal:.2f} s; fetch: seconds without the start of the interpreter, HEAD included",
    )


def many_hosts(place: Place) -> Case:
    """7."""
    fast = [(f"127.0.0.{n}", k) for n in range(2, 47) for k in range(8)]
    slow = [(f"127.0.1.{n}", k) for n in range(2, 7) for k in range(8)]
    sources = [place.nginx.file(f"hosts/h{k}.bin", MIB) for k in range(8)]

    def crawl(hosts: list[tuple[str, int]]) -> Run:
        items = [projects.item([place.nginx.url(f"hosts/{sources[k].name}", host=host)]) for host, k in hosts]
        place.nginx.hits()
        done = projects.ours(place.empty("project"), place.redis, items, place.empty("store"))
        of_fast = [hit for hit in place.nginx.hits() if hit.host.startswith("127.0.0.")]
        done.more["fast hosts"] = _phase(of_fast)
        return done

    together = [entry for n in range(8) for entry in (*fast[n::8], *slow[n::8])]
    return Case(
        7,
        "50 hosts, 5 of them 100 times slower",
        {"with the slow ones": lambda _: crawl(together), "without": lambda _: crawl(fast)},
        [Goal("with the slow ones", "fast hosts", 1.1, peer="without")],
        needs=("nginx",),
        note="fast hosts: seconds from the first request to them to the end of the last",
    )


def connections(place: Place, *, number: int) -> Case:
    """8."""
    sources = {f"s{n}.bin": place.nginx.root / "small" / f"s{n}.bin" for n in range(number)}
    for name, path in sources.items():
        if not path.exists():
            place.nginx.file(f"small/{name}", 64 * KIB)

    def fetch(tls: bool) -> Run:
        project = place.empty("project")
        (project / "urls").write_text("\n".join(place.nginx.url(f"small/{name}", tls=tls) for name in sources))
        store = place.empty("store")
        place.nginx.hits()
        more = ("--ca", str(place.nginx.ca)) if tls else ()
        done = run(python(FETCH, "--urls", project / "urls", "--folder", store, "--files", "32", *more))
        hits = place.nginx.hits()
        _all_same(store, sources)
        opened = {hit.connection: hit.resumed for hit in reversed(hits)}
        done.more |= json.loads(done.output.splitlines()[-1])
        del done.more["cpu of fetch"]
        done.more["reused"] = 1 - len(opened) / len(hits)
        done.more["resumed"] = sum(opened.values()) / max(1, len(opened) - 1)
        return done

    return Case(
        8,
        f"connections, {number} files of 64 KiB",
        {"plain": lambda _: fetch(False), "TLS": lambda _: fetch(True)},
        [
            Goal("plain", "reused", 0.95, least=True),
            Goal("TLS", "reused", 0.95, least=True),
            Goal("TLS", "resolved", 1),
        ],
        pairs=1,
        needs=("nginx",),
        note="reused: share of requests on a connection that was open; resolved: questions for the host's address; "
        "resumed: share of TLS sessions resumed, of those after the first",
    )


def scheduling_delay(place: Place) -> Case:
    """9."""
    for n in range(16):
        place.nginx.file(f"medium/m{n}.bin", 64 * MIB)
    items = [projects.item([place.nginx.url(f"medium/m{n}.bin")]) for n in range(16)]
    late = {"EXTENSIONS": {"probe.delay.SchedulingDelay": 1}}

    def ours(tree: Path | None) -> Callable[[int], Run]:
        return lambda _: projects.ours(
            place.empty("project"), place.redis, items, place.empty("store"), tree=tree, **late
        )

    def inline(_: int) -> Run:
        project = place.empty("project")
        done = projects.in_the_reactors_loop(project, items, **late)
        shutil.rmtree(project / "store")
        return done

    return Case(
        9,
        "how late the reactor's loop comes while 1 GiB is downloaded, in ms",
        {**_with_before(place, ours), "in the reactor's loop": inline},
        [Goal("ours", "p99", 50)],
        needs=("nginx",),
        note="a timer every 10 ms; p50, p99 and longest delay in ms",
    )


def threads(place: Place) -> Case:
    """10."""
    for n in range(16):
        if not (place.nginx.root / f"medium/m{n}.bin").exists():
            place.nginx.file(f"medium/m{n}.bin", 64 * MIB)
    items = [projects.item([place.nginx.url(f"medium/m{n}.bin")]) for n in range(16)]

    def ours(number: int) -> Callable[[int], Run]:
        def crawl(_: int) -> Run:
            place.nginx.hits()
            settings = {"CHUNKDL_THREADS": number, "CHUNKDL_CONCURRENT_CHUNKS_PER_HOST": 32}
            done = projects.ours(place.empty("project"), place.redis, items, place.empty("store"), **settings)
            done.more["MB/s"] = GIB / 1e6 / _phase(place.nginx.hits())
            return done

        return crawl

    return Case(
        10,
        "CHUNKDL_THREADS, 16 files of 64 MiB",
        {f"{number} thread{'s' * (number > 1)}": ours(number) for number in (1, 2, 4)},
        [],
        needs=("nginx",),
    )


def all_cases(place: Place, *, quick: bool) -> Iterator[tuple[int, Callable[[], Case]]]:
    """Yield the number of each case and what makes it; making one makes its files."""
    small = 200 if quick else 2000
    big = GIB // 8 if quick else GIB
    yield 1, lambda: one_big_file(place, tls=False, size=big)
    yield 2, lambda: one_big_file(place, tls=True, size=big)
    yield 3, lambda: memory(place, big=(2 if quick else 10) * GIB)
    yield 4, lambda: small_files(place, number=small)
    steady, slow, stall = "delay:0.05;rate:2000000", servers.PROFILES["stragglers"], servers.PROFILES["stalls"]
    yield 5, lambda: shaped_file(place, 5, "64 MiB at 2 MB/s per connection, 50 ms to the first byte", steady, 1.08)
    yield 6, lambda: shaped_file(place, 6, "the same, 5 % of responses at 60 KB/s", slow, 1.3)
    yield 6, lambda: shaped_file(place, 6, "the same, 3 % of responses stall for ever", stall, 1.5)
    yield 7, lambda: many_hosts(place)
    yield 8, lambda: connections(place, number=small)
    yield 9, lambda: scheduling_delay(place)
    yield 10, lambda: threads(place)
    yield 11, lambda: downloader_alone(place, 11, files=small, tls=False)
    yield 12, lambda: downloader_alone(place, 12, files=small, tls=True)
    yield 13, lambda: downloader_alone(place, 13, files=small, tls=False, on_disk=True)
    yield 14, lambda: small_over_latency(place, number=small)
    yield 15, lambda: profiled_file(place, "mixed")
    yield 16, lambda: mixed_sizes(place, number=small)
    yield 17, lambda: processes(place, number=small)
