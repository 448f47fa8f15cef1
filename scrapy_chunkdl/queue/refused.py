"""Things that Redis does not take, kept in files, byte for byte, where a person can look.

Knows files; nothing of Redis or items.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class Refused:
    """Keeps them in ``folder``, which is made with the first of them."""

    def __init__(self, folder: Path = Path("chunkdl-refused")) -> None:
        self._folder = folder

    def keep(self, what: str, content: bytes, reason: str) -> str:
        """Write ``content`` to a file named after ``what`` and its digest; return a sentence for the log, which has it.

        The same again is the same file. Where no file can be written the sentence says so, and the content is lost.
        """
        path = self._folder / f"{what}-{hashlib.sha256(content).hexdigest()[:16]}.json"
        size = f"{what} of {len(content)} bytes"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.tmp")
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            sentence = f"{reason} The {size} could not be kept in {path} either: {error.strerror or error}."
            logger.error("%s", sentence)
        else:
            sentence = f"{reason} The {size} is kept, byte for byte, in {path}."
            logger.warning("%s", sentence)
        return sentence
