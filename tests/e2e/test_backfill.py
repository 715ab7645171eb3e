"""Holes among trades are filled over the venue's REST, and what it cannot give stays a gap."""

from decimal import Decimal
from functools import partial

import pytest

import simulator
from adapters import holes, registry
from adapters.backfill import LastTrade, Resume
from adapters.events import Gap
from collector import exchange as collected
from collector import feed
from collector.exchange import Exchange
from collector.exchanges import running
from collector.limits import Breaker
from master.backoff import Backoff
from simulator import Simulator
from tests.e2e.collecting import PAIRS, Memory, collecting, is_synced, plan_of
from tests.e2e.test_faults import check_trades, trade_id
from tests.waiting import until

RATE = 300.0
FILLED = [name for name in PAIRS if registry.adapter(name).venue.history is not None]
UNFILLED = ["mexc"]
LISTED = 100
"""Trades of one market that Bybit (60) and KuCoin (100) list."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections come back before more was traded than a venue lists (Bybit 60, KuCoin 100)."""
    monkeypatch.setattr(holes, "SETTLED_AFTER", 0.1)
    monkeypatch.setattr(feed, "Backoff", partial(Backoff, base=0.05, cap=0.1))
    monkeypatch.setattr(collected, "Breaker", partial(Breaker, probe_every=0.2))
    monkeypatch.setattr(feed, "PROVEN_AFTER", 0.0)  # a venue that ends young connections is not one that refuses them


def keep_trading(sim: Simulator, name: str) -> None:
    """Markets go on while nobody listens to them, as if others asked for them."""
    for symbol in PAIRS[name]:
        sim.exchanges[name].market(symbol, asked=True)


async def all_trade(exchange: Exchange, memory: Memory, name: str) -> None:
    await until(lambda: is_synced(exchange), "all books synced")
    await until(lambda: all(memory.trades(symbol) for symbol in PAIRS[name]), "trades of all pairs")


async def break_off(sim: Simulator, exchange: Exchange, memory: Memory, name: str, unheard: int = 3) -> None:
    """All connections end, and are made anew when so many trades of each pair were heard by nobody."""
    sim.arm(f"{name}:refuse=503")
    await sim.close_all()
    await until(lambda: exchange.state().connections == 0, "all connections are lost")
    for symbol in PAIRS[name]:
        last = int(trade_id(memory.trades(symbol)[-1]))
        await until(lambda: len(sim.trades(name, symbol, after=last)) > unheard, "trades that nobody hears")  # noqa: B023
    sim.clear()
    await until(lambda: all(memory.gaps("trades", symbol) for symbol in PAIRS[name]), "trades have a hole")
    await until(lambda: is_synced(exchange), "everything is back")


def missing(sim: Simulator, memory: Memory, name: str, symbol: str) -> list[str]:
    """Trades between the first and the last one told that were not."""
    told = {trade_id(trade) for trade in memory.trades(symbol)}
    ids = [str(trade["id"]) for trade in sim.trades(name, symbol)]
    inside = [position for position, identifier in enumerate(ids) if identifier in told]
    return [identifier for identifier in ids[inside[0] : inside[-1] + 1] if identifier not in told]


def is_repaired(memory: Memory, symbol: str) -> bool:
    """Whether every gap there is was filled, to its ends."""
    gaps = memory.gaps("trades", symbol)
    filled = [gap for gap in gaps if gap.reason == "backfilled"]
    return all(any(covers(each, gap) for each in filled) for gap in gaps)


def covers(filled: Gap, gap: Gap) -> bool:
    return (filled.since or 0) <= (gap.since or 0) and (gap.until or 0) <= (filled.until or 0)


def check_whole(sim: Simulator, memory: Memory, name: str, symbol: str) -> None:
    """Every trade between the first and the last, once each, as it was."""
    told = memory.trades(symbol)
    assert {trade.source for trade in told} <= {"live", "backfill"}
    if name != "okx":
        check_trades(sim, memory, name, symbol)
        assert missing(sim, memory, name, symbol) == [], symbol
        return
    assert len({trade.id for trade in told}) == len(told)
    truth = {str(trade["id"]): trade for trade in sim.trades(name, symbol)}
    ids = sorted(int(trade.id) for trade in told)
    amounts = [Decimal(str(truth[str(number)]["amount"])) for number in range(ids[0] + 1, ids[-1] + 1)]
    first = next(trade for trade in told if trade.id == str(ids[0]))
    assert sum(Decimal(trade.amount) for trade in told) == sum(amounts) + Decimal(first.amount), "rows of several matches"


@pytest.mark.parametrize("name", FILLED)
async def test_what_was_traded_while_we_were_away_comes_after(name: str) -> None:
    async with simulator.serve([name], rate=RATE, seed=5) as sim, collecting(sim, name) as (exchange, memory):
        keep_trading(sim, name)
        await all_trade(exchange, memory, name)
        await break_off(sim, exchange, memory, name)
        await until(lambda: all(is_repaired(memory, symbol) for symbol in PAIRS[name]), "every hole is filled")
        for symbol in PAIRS[name]:
            check_whole(sim, memory, name, symbol)
        assert exchange.state().errors == {}


@pytest.mark.parametrize("name", UNFILLED)
async def test_where_past_trades_have_no_ids_the_gap_stays(name: str) -> None:
    async with simulator.serve([name], rate=RATE, seed=5) as sim, collecting(sim, name) as (exchange, memory):
        keep_trading(sim, name)
        await all_trade(exchange, memory, name)
        rest = sim.stats()[name]["rest"]
        await break_off(sim, exchange, memory, name)
        first = PAIRS[name][0]
        await until(lambda: any(trade.received > memory.gaps("trades", first)[0].received for trade in memory.trades(first)))
        check_trades(sim, memory, name, first)
        assert {trade.source for trade in memory.trades(first)} == {"live"}
        assert {gap.reason for gap in memory.gaps("trades", first)} == {"disconnected"}
        assert sim.stats()[name]["rest"] - rest <= 4 * len(PAIRS[name]), "only books are asked for"  # type: ignore[operator]


@pytest.mark.parametrize("name", ["bybit", "kucoin"])
async def test_what_is_behind_the_reach_of_the_venue_stays_missing(name: str) -> None:
    first = PAIRS[name][0]
    async with simulator.serve([name], rate=3000.0, seed=5) as sim, collecting(sim, name) as (exchange, memory):
        keep_trading(sim, name)
        await all_trade(exchange, memory, name)
        await break_off(sim, exchange, memory, name, unheard=LISTED)
        await until(lambda: exchange._chunks[0].lines.totals["unfilled"], "what can be had is had")
        sim.pause()
        check_trades(sim, memory, name, first)
        left = missing(sim, memory, name, first)
        assert left, "more was traded than the venue lists"
        truth = {str(trade["id"]): int(str(trade["timestamp"])) for trade in sim.trades(name, first)}
        for gap in memory.gaps("trades", first):
            if gap.reason == "backfilled":
                assert not any((gap.since or 0) < truth[each] < (gap.until or 0) for each in left), "a claim that is not true"


@pytest.mark.parametrize("name", ["binance", "coinbase", "htx", "kraken"])
async def test_trades_that_were_lost_on_the_way_come_after(name: str) -> None:
    first = PAIRS[name][0]
    async with simulator.serve([name], rate=RATE, seed=5) as sim, collecting(sim, name) as (exchange, memory):
        await all_trade(exchange, memory, name)
        sim.arm(f"{name}:trade_gap={first}")
        await until(lambda: memory.gaps("trades", first), "the gap")
        await until(partial(is_repaired, memory, first), "it is filled")
        gap = memory.gaps("trades", first)[0]
        filled = [trade.id for trade in memory.trades(first) if trade.source == "backfill"]
        assert filled == [str(number) for number in range(int(gap.first_missing or 0), int(gap.last_missing or 0) + 1)]
        check_whole(sim, memory, name, first)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("name", ["binance", "bitfinex", "kraken", "kucoin", "okx"])
async def test_a_new_process_goes_on_where_the_last_one_ended(name: str, *, is_late: bool) -> None:
    async with simulator.serve([name], rate=200.0, seed=5) as sim:
        keep_trading(sim, name)
        async with collecting(sim, name) as (exchange, memory):
            await all_trade(exchange, memory, name)
        ended = {symbol: memory.trades(symbol)[-1] for symbol in PAIRS[name]}
        last = {symbol: LastTrade(trade.id, trade.timestamp, trade.received) for symbol, trade in ended.items()}
        for symbol, trade in last.items():
            await until(partial(_went_on, sim, name, symbol, trade), "trades that nobody hears")
        resume = Resume(max(trade.received for trade in ended.values()), {} if is_late else last)
        async with running((plan_of(name),), memory, sim.url, {name: resume}) as (exchange,):
            await until(lambda: all(t.received > ended[s].received for s in ended for t in memory.trades(s)[-1:]), "news")
            if is_late:
                exchange.resumed(last)
            await until(lambda: all(memory.gaps("trades", symbol) for symbol in PAIRS[name]), "our absence is a gap")
            await until(lambda: all(_was_filled(memory, symbol) for symbol in PAIRS[name]), "and is filled")
        for symbol in PAIRS[name]:
            check_whole(sim, memory, name, symbol)
            assert {gap.reason for gap in memory.gaps("trades", symbol)} == {"collector restarted", "backfilled"}


def _was_filled(memory: Memory, symbol: str) -> bool:
    return any(gap.reason == "backfilled" for gap in memory.gaps("trades", symbol))


def _went_on(sim: Simulator, name: str, symbol: str, last: LastTrade) -> bool:
    return len(sim.trades(name, symbol, after=int(last.id))) > 5
