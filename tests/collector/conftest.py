"""For tests of pools."""

from pathlib import Path

import pytest

from master import backoff


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other quickly."""
    monkeypatch.setattr(backoff.Backoff, "after_failure", lambda *_: 0.01)
