"""When a queue will be empty, and how sure that is. Pure arithmetic on throughputs.

seconds = items left / items per second, of each window of throughput. Where the windows agree the answer is good; where
they differ, the range between the fastest and the slowest is told. What is added meanwhile nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Sureness = Literal["good", "rough", "guess"]

_GOOD, _ROUGH = 1.5, 4.0
"""How often the quicker of two forecasts may fit into the slower."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until nothing is left: likely, at best and at worst, and how far these can be trusted."""

    seconds: float
    at_best: float
    at_worst: float
    sureness: Sureness


def forecast(left: int, rates: Iterable[float]) -> Forecast | None:
    """Say when ``left`` items are done at these rates per second, the newest first. None: nobody can tell.

    A window in which nothing was finished says nothing: an hour's file finishes once an hour.
    """
    if not left:
        return Forecast(0.0, 0.0, 0.0, "good")
    moving = [rate for rate in rates if rate > 0]
    if not moving:
        return None
    at_best, at_worst = left / max(moving), left / min(moving)
    likely = left / moving[len(moving) // 2]
    ratio = at_worst / at_best
    sureness: Sureness = "good" if ratio <= _GOOD else "rough" if ratio <= _ROUGH else "guess"
    return Forecast(likely, at_best, at_worst, sureness if len(moving) > 1 else "guess")
