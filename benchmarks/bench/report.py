"""What came out: medians, judged against the goals, as text, as a page of the documentation and as a plot."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

from bench.cases import Case, Goal
from bench.run import Run

DOCS = Path(__file__).parents[2] / "docs"
RESULTS, PAGE, PLOT = DOCS / "performance.json", DOCS / "performance.md", DOCS / "performance.png"

_SHOWN = {"wall": "{:.2f} s", "cpu": "{:.2f} s", "memory": "{:.0f} MB", "fetch": "{:.2f} s", "phase": "{:.2f} s"}
_SHOWN |= {"fast hosts": "{:.2f} s", "rate": "{:.0f} /s", "cpu per file": "{:.2f} ms", "twice": "{:.2f} %"}
_SHOWN |= {"reused": "{:.1f} %", "resumed": "{:.1f} %", "resolved": "{:.0f}", "requests": "{:.0f}"}
_SHOWN |= {"p50": "{:.1f} ms", "p99": "{:.1f} ms", "longest": "{:.0f} ms", "MB/s": "{:.0f}"}
_SCALE = {"memory": 1e-6, "cpu per file": 1e3, "twice": 100, "reused": 100, "resumed": 100}
_PLACE = re.compile(r"(<!-- figures: [^>]*-->\n).*?(<!-- /figures -->)", re.DOTALL)


def judge(case: Case, runs: dict[str, list[Run]], wrong: dict[str, str]) -> dict[str, Any]:
    """Return the figures of a case as JSON types. A contestant that was wrong once has none."""
    figures = {
        name: {metric: [run.figures()[metric] for run in of_one] for metric in of_one[0].figures()}
        for name, of_one in runs.items()
        if of_one and name not in wrong
    }
    medians = {
        name: {metric: statistics.median(values) for metric, values in of_one.items()}
        for name, of_one in figures.items()
    }
    goals = [_judged(goal, medians) for goal in case.goals]
    return {
        "number": case.number,
        "title": case.title,
        "note": case.note,
        "runs": figures,
        "medians": medians,
        "wrong": wrong,
        "goals": [goal for goal in goals if goal is not None],
    }


def _judged(goal: Goal, medians: dict[str, dict[str, float]]) -> dict[str, Any] | None:
    """Compare; None where a run that was wrong leaves nothing to compare."""
    if goal.contestant not in medians or (goal.peer and goal.peer not in medians):
        return None
    value = medians[goal.contestant][goal.metric]
    against = medians[goal.peer][goal.metric] if goal.peer else goal.ideal
    found = value / against if against else value
    of = goal.peer or ("the ideal" if goal.ideal else "")
    return {
        "what": f"{goal.metric} of {goal.contestant}" + (f" / {of}" if of else ""),
        "found": f"{found:.2f}" if of else _figure(goal.metric, value),
        "wanted": ("≥ " if goal.least else "≤ ") + (f"{goal.limit:g}" if of else _figure(goal.metric, goal.limit)),
        "reached": found >= goal.limit if goal.least else found <= goal.limit,
        "ratio": found if of else None,
    }


def _figure(metric: str, value: float) -> str:
    return _SHOWN[metric].format(value * _SCALE.get(metric, 1))


def text(result: dict[str, Any]) -> str:
    """Return one case for the terminal."""
    lines = [f"\n{result['number']}. {result['title']}"]
    lines += [f"   ({result['note']})"] if result["note"] else []
    for name, metrics in result["medians"].items():
        pairs = len(next(iter(result["runs"][name].values())))
        figures = ", ".join(f"{metric} {_figure(metric, value)}" for metric, value in metrics.items())
        lines.append(f"   {name:24} {figures}  (median of {pairs})")
    lines += [f"   {name:24} WRONG, no ratio: {problem[-300:]}" for name, problem in result["wrong"].items()]
    for goal in result["goals"]:
        reached = "reached" if goal["reached"] else "MISSED"
        lines.append(f"   {reached:8} {goal['what']}: {goal['found']}, wanted {goal['wanted']}")
    return "\n".join(lines)


def tables(told: dict[str, Any]) -> str:
    """Return all figures as Markdown."""
    lines = ["| case | figure | found | wanted | |", "| --- | --- | --- | --- | --- |"]
    for result in told["cases"]:
        for goal in result["goals"]:
            mark = "reached" if goal["reached"] else "**missed**"
            lines.append(f"| {result['number']} | {goal['what']} | {goal['found']} | {goal['wanted']} | {mark} |")
    for result in told["cases"]:
        metrics = list(dict.fromkeys(metric for of_one in result["medians"].values() for metric in of_one))
        lines += ["", f"**{result['number']}. {result['title']}**" + (f" ({result['note']})" if result["note"] else "")]
        lines += ["", "| median | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
        for name, of_one in result["medians"].items():
            cells = [_figure(metric, of_one[metric]) if metric in of_one else "" for metric in metrics]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Measured with " + ", ".join(f"{name} {version}" for name, version in told["versions"].items()) + "."]
    return "\n".join(lines) + "\n"


def with_figures(page: str, told: dict[str, Any]) -> str:
    """Return the page of the documentation with its figures brought up to date."""
    return _PLACE.sub(lambda match: match[1] + tables(told) + match[2], page)


def keep(told: dict[str, Any]) -> None:
    """Write the figures, the page and the plot."""
    RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    PAGE.write_text(with_figures(PAGE.read_text("utf-8"), told), "utf-8")
    _plot(told, PLOT)


def _plot(told: dict[str, Any], path: Path) -> None:
    """Draw how much of its peer's each figure of ours is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [
        (f"{result['number']}.  {goal['what']}", goal["ratio"], goal["reached"])
        for result in told["cases"]
        for goal in result["goals"]
        if goal["ratio"] is not None
    ]
    figure, axes = pyplot.subplots(figsize=(9, 0.4 * len(bars) + 1))
    colours = ["#3b6ea5" if reached else "#c0504d" for _, _, reached in bars]
    axes.barh(range(len(bars)), [ratio for _, ratio, _ in bars], color=colours)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.axvline(1, color="#999999", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("ours / theirs (red: goal missed)")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
