"""What differs between two configurations, and what of it can be applied to processes that run."""

import json
from pathlib import Path
from typing import Any

import pytest

from collector.plan import WorkerPlan, plan
from collector.reload import applicable, difference
from collector.settings import Settings, load


def settings(*exchanges: dict[str, Any], **more: Any) -> Settings:
    return load({"exchanges": list(exchanges), **more})


def exchange(name: str, *trades: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "pairs": {"trades": trades}, **more}


def planned(of: Settings, running: list[WorkerPlan] | None = None) -> list[WorkerPlan]:
    return plan(of, 2, "host", running or [])


BEFORE = settings(exchange("okx", "BTC/USDT", "ETH/USDT"), exchange("kraken", "BTC/USD"), name="one")


@pytest.mark.parametrize(
    ("more", "stale"),
    [
        ({}, []),
        ({"prices": {}, "server": {"port": 1}}, []),
        ({"name": "two"}, ["name"]),
        ({"workers": 3, "monitor": {"port": 1}}, ["workers", "monitor"]),
        ({"server": {"data": "elsewhere"}}, ["server.data"]),
        ({"master": {"connections": 2}, "spool": {"max_mb": 3}, "debug": {"log": True}}, ["master", "spool", "debug"]),
    ],
)
def test_what_belongs_to_a_process_stays_and_is_named(more: dict[str, Any], stale: list[str]) -> None:
    fresh = settings(exchange("okx", "SOL/USDT"), **{"name": "one", **more})
    found, named = applicable(BEFORE, fresh)
    assert named == stale
    assert found.exchanges == fresh.exchanges, "the rest is applied"
    assert (found.name, found.workers, found.monitor) == (BEFORE.name, BEFORE.workers, BEFORE.monitor)
    assert (found.master, found.spool, found.debug, found.server.data) == (
        *(BEFORE.master, BEFORE.spool, BEFORE.debug),
        BEFORE.server.data,
    )
    assert found.server.port == fresh.server.port


def test_an_exchange_stays_in_as_many_processes_as_it_is_in() -> None:
    fresh = settings(exchange("okx", "BTC/USDT", workers=2), exchange("htx", "BTC/USDT", workers=2), name="one")
    found, named = applicable(BEFORE, fresh)
    assert named == ["exchanges: workers of okx"]
    assert [each.workers for each in found.exchanges] == [1, 2], "one that is new may be split"


def test_a_difference_names_pairs_and_exchanges() -> None:
    after = settings(
        exchange("okx", "BTC/USDT", "SOL/USDT", "*/EUR", orderbook={"depth": 5}), exchange("htx", "BTC/USDT"), name="one"
    )
    running = planned(BEFORE)
    found = difference(running, planned(after, running))
    assert (found.began, found.ended, found.changed) == (("htx",), ("kraken",), ("okx",))
    assert found.joined == {("okx", "trades", "SOL/USDT"), ("okx", "trades", "*/EUR"), ("htx", "trades", "BTC/USDT")}
    assert found.left == {("okx", "trades", "ETH/USDT"), ("kraken", "trades", "BTC/USD")}


def test_nothing_differs_from_itself_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(BEFORE.model_dump_json(exclude={"master", "server"}, exclude_none=True)), indent=7))
    assert not difference(planned(BEFORE), planned(load(file)))
