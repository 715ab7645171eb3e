"""A data directory, a master that runs on it, and its disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.disk import Disk
from tests.master.running import Address, running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def master(data: Path) -> AsyncIterator[Address]:
    async with running(data) as found:
        yield found


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)
