"""A child process that ends when its parent does, however that is killed.

On Linux the kernel sees to it; elsewhere a shell does, at the end of a pipe whose other end the parent has. Knows
processes; nothing of servers. Called by the keeper of the embedded server.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def dying_with(parent: int) -> Callable[[], None] | None:
    """Return what a child is to call first, to get SIGTERM when ``parent`` dies (prctl(2)); None where that is lacking.

    The thread that starts the child has to live as long as the child may.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (AttributeError, OSError):
        return None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before
            os._exit(1)

    return ask


def wait_guarded(child: subprocess.Popen[bytes]) -> None:
    """Wait for a child to end, while a shell stands by that sends it SIGTERM should this process end first."""
    script = 'read -r _ || kill -TERM "$1"'
    guard = subprocess.Popen(["/bin/sh", "-c", script, "sh", str(child.pid)], stdin=subprocess.PIPE)
    assert guard.stdin is not None
    child.wait()
    with suppress(BrokenPipeError), guard.stdin:
        guard.stdin.write(b"ended\n")
    guard.wait()
