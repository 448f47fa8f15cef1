"""A store of one's own: files are copied to another folder, their records kept as JSON beside them.

In settings.py: CHUNKDL_STORES = {"shelf": "project.stores.Shelf"} and CHUNKDL_STORE = "shelf://folder".
"""

import json
import os
import shutil
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
        shutil.copyfile(path, f"{target}.new")
        moved(record.size)
        os.replace(f"{target}.new", target)
        Path(f"{target}.json").write_text(json.dumps(asdict(record)))

    def uri(self, key: str) -> str:
        return f"shelf://{self.root}/{key}"
