"""Pairs that only the venue's list of markets names: they join when they are listed, and leave when they are not."""

import pytest

import simulator
from adapters.book import BookOptions
from collector import exchange as exchange_module
from collector.exchanges import running
from collector.plan import Chunk, ExchangePlan, Pattern
from simulator import Simulator
from tests.e2e.collecting import Memory
from tests.hearing import events, logs
from tests.waiting import until

QUOTE = "FDUSD"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is read a few times a second instead of four times an hour."""
    monkeypatch.setattr(exchange_module, "RELIST_EVERY", 0.2)


def plan_of(*named: str) -> ExchangePlan:
    chunks = (Chunk("binance", "trades", named),) if named else ()
    patterns = () if named else (Pattern("trades", f"*/{QUOTE}"),)
    return ExchangePlan("binance", BookOptions(), chunks, patterns, sizes={"trades": 20})


def listed(sim: Simulator) -> set[str]:
    instruments = sim.exchanges["binance"].instruments
    return {symbol for symbol, each in instruments.items() if symbol.endswith(f"/{QUOTE}") and not each.state}


async def test_a_new_listing_joins_what_is_collected() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim:
        late = sim.exchanges["binance"].instruments.pop(f"ETH/{QUOTE}")
        memory = Memory()
        async with running((plan_of(),), memory, sim.url) as (exchange,):
            await until(lambda: sum(exchange.state().pairs.values()) == len(listed(sim)), "all of the list")
            connections = exchange.state().connections_wanted
            assert connections == -(-len(listed(sim)) // 20)
            sim.exchanges["binance"].instruments[f"ETH/{QUOTE}"] = late
            await until(lambda: memory.trades(f"ETH/{QUOTE}"), "trades of the new pair")
            assert exchange.state().connections_wanted == connections + 1
            await until(lambda: exchange.state().connections == connections + 1, "connected")
            assert sum(exchange.state().pairs.values()) == len(listed(sim))


async def test_a_delisted_pair_leaves_with_a_word_and_comes_back() -> None:
    symbol = "ETH/USDT"
    async with simulator.serve(["binance"], rate=2000) as sim:
        instruments, memory = sim.exchanges["binance"].instruments, Memory()
        async with running((plan_of(symbol),), memory, sim.url) as (exchange,):
            await until(lambda: memory.trades(symbol), "trades")
            delisted = instruments.pop(symbol)
            await until(lambda: exchange.state().rejected, "it leaves")
            assert exchange.state().rejected == {f"trades {symbol}": f"binance does not list {symbol}"}
            assert [each.symbol for each in memory.statuses if each.state == "rejected"] == [symbol]
            instruments[symbol] = delisted
            await until(lambda: not exchange.state().rejected, "it is listed again")
            count = len(memory.trades(symbol))
            await until(lambda: len(memory.trades(symbol)) > count, "trades again")
            ids = [int(trade.id) for trade in memory.trades(symbol)]
            missing = set(range(ids[0], ids[-1] + 1)) - set(ids)
            gaps = memory.gaps("trades", symbol)
            named = {n for gap in gaps for n in range(int(gap.first_missing or 0), int(gap.last_missing or -1) + 1)}
            assert missing <= named, "what it traded meanwhile is a gap"


async def test_a_list_that_lost_most_of_its_markets_is_believed_when_it_says_so_twice() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim:
        instruments, memory = sim.exchanges["binance"].instruments, Memory()
        async with running((plan_of("BTC/USDT"),), memory, sim.url) as (exchange,):
            await until(lambda: memory.trades("BTC/USDT"), "trades")
            for symbol in set(instruments) - {"ETH/USDT"}:
                del instruments[symbol]
            with logs() as said:
                await until(lambda: exchange.state().rejected, "believed")
            told = events(said)
            assert told.index("half of the markets are gone from the list; not believed yet") < told.index(
                "subscription rejected"
            )


async def test_an_asset_under_another_name() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim:
        memory = Memory()
        named = ExchangePlan("binance", BookOptions(), (Chunk("binance", "trades", ("TON/USDT",)),), (), {"TON": "BTC"})
        async with running((named,), memory, sim.url):
            await until(lambda: memory.trades("TON/USDT"), "trades under our name")
        truth = {str(trade["id"]): trade["price"] for trade in sim.trades("binance", "BTC/USDT")}
        assert all(truth[trade.id] == trade.price for trade in memory.trades("TON/USDT"))
