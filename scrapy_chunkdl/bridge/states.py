"""What the bridge knows of a file: its states, and what brings it from one to the next. One table, read by all.

The bridge takes its steps by :func:`after`; docs/architecture.md has the table, made from it
(``docs/state_tables.py``); a test takes every step that is in it, and none that is not. Pure: knows words only.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(Enum):
    """Where a file is. The value is what people read."""

    WAITING = "waits for its turn"
    RUNNING = "is with a download thread"
    STOPPING = "is with a download thread that is to end it"
    DONE = "has its outcome"


class Event(Enum):
    """What happens to a file."""

    JOINED = "another job wants the same"
    LEFT = "one of several jobs is cancelled"
    BEGUN = "its turn has come"
    CANCELLED = "the last job is cancelled"
    ENDED = "the download thread is done with it"


class Row(NamedTuple):
    """One step: from a state, by an event, to a state; and what is done besides."""

    state: State
    event: Event
    next: State
    done: str


ROWS = (
    Row(State.WAITING, Event.JOINED, State.WAITING, "the jobs share what comes of it"),
    Row(State.WAITING, Event.LEFT, State.WAITING, "that job is told; it goes on for the others"),
    Row(State.WAITING, Event.BEGUN, State.RUNNING, "a thread is chosen, and gets it"),
    Row(State.WAITING, Event.CANCELLED, State.DONE, "it is taken out of its host's queue; the job is told"),
    Row(State.RUNNING, Event.JOINED, State.RUNNING, "the jobs share what comes of it"),
    Row(State.RUNNING, Event.LEFT, State.RUNNING, "that job is told; it goes on for the others"),
    Row(State.RUNNING, Event.CANCELLED, State.STOPPING, "its task is cancelled; what it has on disk stays"),
    Row(State.RUNNING, Event.ENDED, State.DONE, "the jobs are told; the next file has its turn"),
    Row(State.STOPPING, Event.ENDED, State.DONE, "the job is told how it ended; it may have been whole by then"),
)
"""A job that wants what is being stopped has a file of its own, which waits."""

_NEXT = {(row.state, row.event): row.next for row in ROWS}


def may(state: State, event: Event) -> bool:
    """Tell whether there is such a step."""
    return (state, event) in _NEXT


def after(state: State, event: Event) -> State:
    """Return the state after an event. Raises KeyError for a step that is not in the table: a bug."""
    return _NEXT[state, event]
