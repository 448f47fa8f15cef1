"""The command line: run the cases, print the table, write JSON and the plot."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import cases, servers
from bench.cases import Case, Goal, Place
from bench.run import Run, Wrong

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "performance.json"

SHOWN = {"wall": "{:.2f} s", "cpu": "{:.2f} s", "memory": "{:.1f} MB", "fetch": "{:.2f} s", "phase": "{:.2f} s"}
SHOWN |= {"fast hosts": "{:.2f} s", "rate": "{:.0f} /s", "cpu per file": "{:.2f} ms", "twice": "{:.2f} %"}
SHOWN |= {"reused": "{:.1f} %", "resumed": "{:.1f} %", "resolved": "{:.0f}", "requests": "{:.0f}"}
SHOWN |= {"p50": "{:.1f} ms", "p99": "{:.1f} ms", "longest": "{:.0f} ms", "MB/s": "{:.0f}"}
SCALE = {"memory": 1e-6, "cpu per file": 1e3, "twice": 100, "reused": 100, "resumed": 100}


def shown(metric: str, value: float) -> str:
    """Return a figure with its unit."""
    return SHOWN[metric].format(value * SCALE.get(metric, 1))


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Run the contestants in turn; a contestant that was wrong once has no figures."""
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
                print(f"    {name}: WRONG: {problem}", file=sys.stderr)
    figures = {
        name: {metric: [run.figures()[metric] for run in of_one] for metric in of_one[0].figures()}
        for name, of_one in runs.items()
        if of_one and name not in wrong
    }
    medians = {
        name: {metric: statistics.median(values) for metric, values in metrics.items()}
        for name, metrics in figures.items()
    }
    goals = [judged for goal in case.goals if (judged := judge(goal, medians)) is not None]
    return {
        "number": case.number,
        "title": case.title,
        "note": case.note,
        "runs": figures,
        "medians": medians,
        "wrong": wrong,
        "goals": goals,
    }


def judge(goal: Goal, medians: dict[str, dict[str, float]]) -> dict[str, Any] | None:
    """Compare; None where a run that was wrong leaves nothing to compare."""
    if goal.contestant not in medians or (goal.peer and goal.peer not in medians):
        return None
    value = medians[goal.contestant][goal.metric]
    against = medians[goal.peer][goal.metric] if goal.peer else goal.ideal
    found = value / against if against else value
    reached = found >= goal.limit if goal.least else found <= goal.limit
    of = goal.peer or ("the ideal" if goal.ideal else "")
    if of:
        told = f"{goal.metric} of {goal.contestant} is {found:.2f} of {of}"
        wanted = f"{goal.limit:g}"
    else:
        told, wanted = (
            f"{goal.metric} of {goal.contestant} is {shown(goal.metric, value)}",
            shown(goal.metric, goal.limit),
        )
    return {
        "told": told,
        "wanted": ("at least " if goal.least else "at most ") + wanted,
        "found": found,
        "reached": reached,
    }


def show(result: dict[str, Any]) -> None:
    """Print one case."""
    print(f"\n{result['number']}. {result['title']}")
    if result["note"]:
        print(f"   ({result['note']})")
    for name, metrics in result["medians"].items():
        pairs = len(next(iter(result["runs"][name].values())))
        figures = ", ".join(f"{metric} {shown(metric, value)}" for metric, value in metrics.items())
        print(f"   {name:24} {figures}  (median of {pairs})")
    for name, problem in result["wrong"].items():
        print(f"   {name:24} WRONG, no ratio: {problem[:200]}")
    for goal in result["goals"]:
        print(f"   {'reached' if goal['reached'] else 'MISSED ':8} {goal['told']}, wanted {goal['wanted']}")


def versions() -> dict[str, str]:
    """Return which tools ran."""
    found = {name: metadata.version(name) for name in ("scrapy", "aiohttp", "twisted", "redis", "scrapy-chunkdl")}
    found |= {"python": platform.python_version(), "system": f"{platform.system()} {platform.release()}"}
    for command, line in (("aria2c --version", 0), ("curl --version", 0), ("nginx -v", 0)):
        if shutil.which(command.split()[0]):
            told = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            found[command.split()[0]] = (told.stdout or told.stderr).splitlines()[line].strip()
    return found


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw the medians of the cases that have a peer, ours as a share of it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [
        (
            f"{result['number']}  {goal['told'].partition(' is ')[0]} / {goal['told'].rpartition(' of ')[2]}",
            goal["found"],
        )
        for result in results
        for goal in result["goals"]
        if " of " in goal["told"].partition(" is ")[2]
    ]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(bars) + 1))
    axes.barh([name for name, _ in bars], [found for _, found in bars], color="#3b6ea5")
    axes.axvline(1, color="#999999", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("ours / theirs")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", help="numbers of cases, such as 1,4")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smaller files; the ratios mean little")
    parser.add_argument("--keep", action="store_true", help="write docs/performance.json and the plot")
    options = parser.parse_args()
    wanted = {int(number) for number in options.only.split(",")} if options.only else None
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
        redis_url = stack.enter_context(servers.redis_server(quick))
        place = Place(quick, disk, nginx, base, redis_url)
        for number, make in cases.all_cases(place, quick=options.quick):
            if wanted is not None and number not in wanted:
                continue
            case = make()
            if missing := [program for program in case.needs if not shutil.which(program)]:
                print(f"\n{case.number}. {case.title}: left out, {', '.join(missing)} is not installed")
                continue
            results.append(measure(case, options.pairs))
            show(results[-1])
    told = {"versions": versions(), "quick": options.quick, "cases": results}
    print("\n" + "\n".join(f"{name}: {version}" for name, version in told["versions"].items()))
    if options.keep:
        RESULTS.write_text(json.dumps(told, indent=1) + "\n")
        plot(results, DOCS / "performance.png")


if __name__ == "__main__":
    main()
