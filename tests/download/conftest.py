"""The client the behaviour tests fetch with."""

from __future__ import annotations

from pathlib import Path

import pytest
from fetching import Client
from origin import Origin


@pytest.fixture
def client(origin: Origin, tmp_path: Path) -> Client:
    return Client(tmp_path / "store", origin)
