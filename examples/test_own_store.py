"""What every store must do, run against one's own: ``python -m pytest test_own_store.py``."""

import pytest
from own_store import Shelf

from scrapy_chunkdl.storage.conformance import StoreConformance


class TestShelf(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path):
        return Shelf(f"shelf://{tmp_path / 'shelf'}")

    def read(self, store, key):
        return (store.root / key).read_bytes()

    def names(self, store):
        return [path.name for path in store.root.rglob("*") if path.is_file() and path.suffix != ".json"]
