"""What the bridge knows of a file: the steps of the table, and none besides; and the table is the one in the docs."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path

import pytest

from scrapy_chunkdl.bridge.run import Job, Run
from scrapy_chunkdl.bridge.states import ROWS, Event, Row, State, after, may
from scrapy_chunkdl.download import FileRequest

DOCS = Path(__file__).parents[2] / "docs"
STEPS = {(row.state, row.event) for row in ROWS}


def new_job() -> Job:
    return Job(FileRequest("http://a/b", Path()), lambda job: None)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.state.name}-{row.event.name}")
def test_a_step_of_the_table_is_taken(row: Row) -> None:
    run = Run(new_job(), "key")
    run.state = row.state

    run.step(row.event)

    assert run.state is row.next


@pytest.mark.parametrize("step", sorted(set(product(State, Event)) - STEPS, key=str), ids=lambda step: str(step))
def test_a_step_that_is_not_in_the_table_is_refused(step: tuple[State, Event]) -> None:
    assert not may(*step)
    with pytest.raises(KeyError):
        after(*step)


def test_every_state_but_the_last_is_left_and_every_one_is_reached_from_the_first() -> None:
    reached = {State.WAITING}
    for _ in State:
        reached |= {row.next for row in ROWS if row.state in reached}

    assert reached == set(State)
    assert {row.state for row in ROWS} == set(State) - {State.DONE}


def test_no_two_rows_are_of_one_step() -> None:
    assert len(STEPS) == len(ROWS)


def test_what_is_being_stopped_takes_no_further_job() -> None:
    run = Run(new_job(), "key")
    run.step(Event.BEGUN)
    run.step(Event.CANCELLED)

    with pytest.raises(KeyError):
        run.join(new_job())


def test_the_docs_have_the_table_the_code_goes_by() -> None:
    spec = importlib.util.spec_from_file_location("state_tables", DOCS / "state_tables.py")
    assert spec is not None
    assert spec.loader is not None
    state_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(state_tables)

    page = state_tables.PAGE.read_text("utf-8")

    assert page == state_tables.with_tables(page), "run 'make settings'"
