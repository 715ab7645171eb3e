"""One server for each module, and nobody waits long before trying again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from master import backoff
from tests.jetstream.nats import Server, server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff.Backoff, "after_failure", lambda *_: 0.02)
    monkeypatch.setattr("master.jetstream.consumer.SETTLE_EVERY", 0.05)
    monkeypatch.setattr("master.jetstream.intake.RENEW_EVERY", 0.1)
    monkeypatch.setattr("master.jetstream.claims.LEASE", 1.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Server]:
    with server(tmp_path / "nats") as made:
        yield made
