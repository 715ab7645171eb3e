"""Holes among trades are filled over the venue's REST, and what it cannot give stays a gap."""

from decimal import Decimal

import pytest

import simulator
from adapters import holes, registry
from adapters.events import Gap, Trade
from collector.exchange import Exchange
from simulator import Simulator
from tests.e2e.collecting import PAIRS, Memory, collecting, is_synced
from tests.waiting import until

RATE = 600.0
FILLED = [name for name in PAIRS if registry.adapter(name).venue.history is not None]
UNFILLED = sorted(set(PAIRS) - set(FILLED))


def in_truth(trade: Trade) -> str:
    """The id under which the simulator's truth has it."""
    return trade.id


def check_told_once_and_true(sim: Simulator, memory: Memory, name: str, symbol: str) -> None:
    told = memory.trades(symbol)
    truth = {str(trade["id"]): trade for trade in sim.trades(name, symbol)}
    assert len({trade.id for trade in told}) == len(told), f"{symbol}: a trade was told twice"
    for trade in told:
        true = truth[trade.id]
        assert (Decimal(trade.price), Decimal(trade.amount)) == (Decimal(str(true["price"])), Decimal(str(true["amount"])))
        assert trade.side == true["side"]


def missing(sim: Simulator, memory: Memory, name: str, symbol: str) -> list[str]:
    """Trades between the first and the last one told that were not."""
    told = {trade.id for trade in memory.trades(symbol)}
    ids = [str(trade["id"]) for trade in sim.trades(name, symbol)]
    inside = [position for position, identifier in enumerate(ids) if identifier in told]
    return [identifier for identifier in ids[inside[0] : inside[-1] + 1] if identifier not in told]


def repaired(memory: Memory, symbol: str) -> list[Gap]:
    return [gap for gap in memory.gaps("trades", symbol) if gap.reason == "backfilled"]


async def break_off(sim: Simulator, exchange: Exchange, name: str) -> None:
    """One connection after the other ends, until each did."""
    sessions = exchange.state().sessions
    sim.arm(f"{name}:drop@0.1")
    await until(lambda: exchange.state().sessions >= sessions + 3, "every connection is made anew")
    sim.clear()
    await until(lambda: is_synced(exchange), "everything is back")


def is_repaired(memory: Memory, symbol: str) -> bool:
    """Whether every gap is filled."""
    filled = {(gap.since, gap.until) for gap in repaired(memory, symbol)}
    return {(gap.since, gap.until) for gap in memory.gaps("trades", symbol)} == filled


@pytest.mark.parametrize("name", FILLED)
async def test_what_was_traded_while_we_were_away_comes_after(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "SETTLED_AFTER", 0.2)
    symbols = PAIRS[name]
    async with simulator.serve([name], rate=RATE, seed=5) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: all(memory.trades(symbol) for symbol in symbols), "trades of all pairs")
        await break_off(sim, exchange, name)
        await until(lambda: any(memory.gaps("trades", symbol) for symbol in symbols), "a hole")
        await until(lambda: all(is_repaired(memory, symbol) for symbol in symbols), "every hole is filled")
        sim.pause()
        for symbol in symbols:
            check_told_once_and_true(sim, memory, name, symbol)
            assert missing(sim, memory, name, symbol) == []
