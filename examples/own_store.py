"""A store of one's own: files are copied to another folder, their records kept as JSON beside them.

In settings.py: CHUNKDL_STORES = {"shelf": "project.stores.Shelf"} and CHUNKDL_STORE = "shelf://folder".
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from scrapy_chunkdl.download import Published


class Shelf:
    def __init__(self, uri: str) -> None:
        self.root = Path(uri.removeprefix("shelf://"))

    def find(self, key: str) -> Published | None:
        try:
            return Published(**json.loads((self.root / f"{key}.json").read_text()))
        except FileNotFoundError:
            return None

    def put(self, path: Path, key: str, record: Published, moved: Callable[[int], None]) -> None:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f"{uuid.uuid4().hex}.new")  # two processes may have the same file at the same time
        try:
            shutil.copyfile(path, new)
            moved(record.size)
            os.replace(new, target)
        finally:
            new.unlink(missing_ok=True)
        record_path = target.with_name(f"{uuid.uuid4().hex}.new")
        record_path.write_text(json.dumps(asdict(record)))
        os.replace(record_path, f"{target}.json")

    def uri(self, key: str) -> str:
        return f"shelf://{self.root}/{key}"
