"""Signals of items: receivers of Scrapy's own are called at once, all others as Scrapy's manager does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from pydispatch.robustapply import robustApply
from scrapy.signalmanager import SignalManager

from scrapy_chunkdl.crawl.scrapy_engine import DirectSignals, fitting

pytestmark = pytest.mark.skipif(
    not hasattr(SignalManager, "send_catch_log_async"), reason="this Scrapy sends signals by Deferreds"
)

SIGNAL = object()


def of_scrapy(function: Callable[..., Any]) -> Callable[..., Any]:
    function.__module__ = "scrapy.extensions.corestats"
    return function


def taking(told: list[Any]) -> dict[str, Callable[..., Any]]:
    async def later(item: Any) -> str:
        await asyncio.sleep(0)
        told.append(("later", item))
        return "later"

    def plain(item: Any) -> str:
        told.append(("plain", item))
        return "plain"

    def failing(item: Any) -> None:
        raise RuntimeError("no")

    return {"later": later, "plain": plain, "failing": failing}


@pytest.mark.parametrize("is_scrapys", [True, False])
@pytest.mark.parametrize(
    ("names", "answers"),
    [
        (["plain"], ["plain"]),
        (["plain", "plain"], ["plain"]),
        (["plain", "later"], ["plain", "later"]),
        (["failing", "plain"], [RuntimeError, "plain"]),
        ([], []),
    ],
)
async def test_each_receiver_is_called_and_answers_as_from_scrapys_manager(
    names: list[str], answers: list[Any], is_scrapys: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    receivers = taking(told)
    manager = SignalManager(sender=object())
    for name in names:
        receiver = of_scrapy(receivers[name]) if is_scrapys else receivers[name]
        manager.connect(receiver, SIGNAL)

    with caplog.at_level(logging.ERROR):
        got = await DirectSignals(manager).send_catch_log_async(SIGNAL, item="x", spider=None)
    as_told = [record.getMessage().partition(":")[0] for record in caplog.records]

    assert [type(answer) if isinstance(answer, Exception) else answer for _, answer in got] == answers
    assert sorted(name for name, _ in told) == sorted(set(names) - {"failing"})
    assert as_told == ["Error caught on signal handler"] * ("failing" in names)


def test_all_else_is_the_managers() -> None:
    manager = SignalManager(sender=object())
    told: list[Any] = []
    receiver = taking(told)["plain"]

    direct = DirectSignals(manager)
    direct.connect(receiver, SIGNAL)
    manager.send_catch_log(SIGNAL, item=1)

    assert told == [("plain", 1)]


class Receivers:
    def none(self) -> str:
        return "none"

    def item(self, item: object) -> str:
        return f"item {item}"

    def default(self, item: object, other: object = "other") -> str:
        return f"{item} {other}"

    def all(self, **said: object) -> str:
        return f"all {sorted(said)}"

    def one_and_all(self, item: object, **said: object) -> str:
        return f"{item} {sorted(said)}"

    def reason(self, item: object, reason: object) -> str:
        return f"{item} {reason}"

    @staticmethod
    def static(item: object) -> str:
        return f"static {item}"

    def __call__(self, item: object, spider: object) -> str:
        return f"object {item} {spider}"


@pytest.mark.parametrize(
    "receiver",
    [
        *(getattr(Receivers(), name) for name in ("none", "item", "default", "all", "one_and_all", "static", "reason")),
        *(Receivers(), Receivers.item.__get__(Receivers()), lambda item, spider: (item, spider), lambda: "nothing"),
    ],
)
def test_a_receiver_gets_the_arguments_that_pydispatch_gives_it(receiver: Any) -> None:
    """Also one that wants what there is not: it raises."""

    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except TypeError:
            return TypeError

    said = {"signal": SIGNAL, "sender": None, "item": "x", "spider": "s", "response": None}

    assert outcome(lambda: fitting(receiver)(receiver, said)) == outcome(lambda: robustApply(receiver, **said))
