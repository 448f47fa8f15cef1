"""What tests have started ends with pytest, however pytest ends.

Whatever a process of pytest starts, and what that starts, has its number in the environment it began with. A shell
waits for the end of that process at a pipe, and kills what is left then. Without /proc nothing is killed.
"""

from __future__ import annotations

import atexit
import os
import subprocess

MARK = "STARTED_BY_TESTS_OF"

KILL = """
read -r nothing
for process in /proc/[0-9]*; do
    if [ "$process" != /proc/$$ ] && grep -qz "^$1=$2$" "$process/environ"; then kill -9 "${process#/proc/}"; fi
done
"""


def end_with_this_process() -> None:
    """Have all that this process starts from now on end with it."""
    mine = str(os.getpid())
    os.environ[MARK] = mine
    command = ["sh", "-c", KILL, "sh", MARK, mine]
    shell = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    atexit.register(shell.communicate)
