"""What all subcommands say to the person at the terminal in the same words.

Knows words alone, and imports no subcommand: all of them import it.
"""

from __future__ import annotations

from collections.abc import Iterable

WITHOUT_SOME = 3
"""Exit code of a worker that ended with the work, some files of which it could not have."""


class CommandError(Exception):
    """Why a command could not do what it was told: a sentence for the person at the terminal."""


def no_such_spider(name: str, spiders: Iterable[str]) -> str:
    """Return the sentence for a spider that the project does not have."""
    return f"there is no spider {name!r} in this project; it has: {', '.join(sorted(spiders)) or 'none'}."
