"""A pytest that is killed leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import leftovers
import pytest
from servers import wait_for_end

PROGRAM = """
import subprocess, sys
from leftovers import end_with_this_process

end_with_this_process()
process = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE)
print(process.pid, int(process.stdout.readline()), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_what_was_started_ends_with_who_started_it_in_whatever_session_it_is(end: str) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(leftovers.__file__).parent)},
    )
    with starter:
        assert starter.stdout is not None
        started = [int(pid) for pid in starter.stdout.readline().split()]

        getattr(starter, end)()

        for pid in started:
            wait_for_end(pid)
