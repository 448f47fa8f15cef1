"""The command line: run the cases, print what came out, and keep it for the documentation."""

from __future__ import annotations

import argparse
import compileall
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import cases, report, servers
from bench.cases import Case, Place
from bench.run import Run, Wrong


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Run the contestants in turn, each time another one first."""
    runs: dict[str, list[Run]] = {name: [] for name in case.contestants}
    wrong: dict[str, str] = {}
    for turn in range(case.pairs or pairs):
        names = list(case.contestants)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in wrong:
                continue
            try:
                runs[name].append(case.contestants[name](turn))
            except Wrong as problem:
                wrong[name] = str(problem)
    return report.judge(case, runs, wrong)


@contextmanager
def worktree(commit: str) -> Iterator[Path | None]:
    """Have the code of a commit in a folder of its own; yields None where this clone does not have it."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="chunkdl-before-") as folder:
        command = ["git", "-C", root, "worktree", "add", "--quiet", "--detach", f"{folder}/tree", commit]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            print(f"{commit} is not in this clone: nothing is measured beside the present code")
            yield None
            return
        try:
            yield Path(folder, "tree")
        finally:
            command = ["git", "-C", root, "worktree", "remove", "--force", f"{folder}/tree"]
            subprocess.run(command, check=True)


def versions() -> dict[str, str]:
    """Return which tools ran."""
    found = {name: metadata.version(name) for name in ("scrapy-chunkdl", "scrapy", "aiohttp", "twisted")}
    found |= {"Python": platform.python_version(), platform.system(): platform.release()}
    for command in ("aria2c --version", "curl --version", "nginx -v"):
        if shutil.which(command.split()[0]):
            told = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            words = (told.stdout or told.stderr).splitlines()[0].replace("/", " ").split()
            found[command.split()[0]] = next(word for word in words if word[0].isdigit())
    return found


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", help="numbers of cases, such as 1,4")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smaller files; the ratios mean little")
    parser.add_argument("--before", default="3192cd5", help="the commit whose code is measured beside the present one")
    parser.add_argument("--keep", action="store_true", help="write the figures, the page and the plot in docs/")
    options = parser.parse_args()
    wanted = {int(number) for number in options.only.split(",")} if options.only else None
    if options.keep and (wanted or options.quick):
        parser.error("what is kept is all of it, at full size")
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    results = []
    with ExitStack() as stack:
        quick = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chunkdl-", dir=memory)))
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chunkdl-")))
        quick.chmod(0o755)  # nginx reads as a user of its own
        nginx = servers.Nginx(quick)
        if shutil.which("nginx"):
            stack.enter_context(nginx.running())
        base = stack.enter_context(servers.origin())
        distant = stack.enter_context(servers.distant())
        mixed = stack.enter_context(servers.distant("--delay", "0.03"))
        before = stack.enter_context(worktree(options.before))
        for tree in (Path(__file__).parents[2], before):
            if tree is not None:  # as pip leaves it: else each start compiles all of it, where bytecode is not kept
                compileall.compile_dir(tree / "scrapy_chunkdl", quiet=1)
        redis = stack.enter_context(servers.redis_server(quick))
        place = Place(quick, disk, nginx, base, redis, distant, mixed, before)
        for number, make in cases.all_cases(place, quick=options.quick):
            if wanted is not None and number not in wanted:
                continue
            case = make()
            if missing := [program for program in case.needs if not shutil.which(program)]:
                print(f"\n{case.number}. {case.title}: left out, {', '.join(missing)} is not installed")
                continue
            results.append(measure(case, options.pairs))
            print(report.text(results[-1]), flush=True)
    told = {"versions": versions(), "cases": results}
    print("\n" + ", ".join(f"{name} {version}" for name, version in told["versions"].items()))
    if options.keep:
        report.keep(told)
    sys.exit(any(result["wrong"] for result in results))


if __name__ == "__main__":
    main()
