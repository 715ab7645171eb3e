"""Two lines for each chunk: either may die, stall or miss something without a hole; what both miss is told once."""

from functools import partial
from itertools import combinations, pairwise
from time import time_ns

import pytest

import simulator
from adapters import holes
from adapters.events import Book, Gap
from collector import chunk, feed, lines
from collector.exchange import Exchange
from collector.feed import Ended
from collector.line import Line
from master.backoff import Backoff
from simulator import Simulator
from tests.e2e.collecting import PAIRS, Memory, collecting, numbers
from tests.e2e.test_backfill import check_whole, is_repaired
from tests.e2e.test_collector import Reader
from tests.e2e.test_faults import check_never_crossed, check_trades, settle
from tests.waiting import until

VENUES = ("binance", "kraken", "okx", "coinbase", "bitfinex", "gateio", "kucoin")
RATE = 600.0
TIMES = 3
STALL = 1_000_000
"""Microseconds. What a line that stands still misses is lost to it, and its venue's numbers need not show that: only one at a
time may stand still."""
A_MOMENT = 5.0
"""Seconds. Views come ten times a second; the rest is for a machine that does ten things at once."""


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines begin soon after each other, and come back soon, so that many can be lost in a short time."""
    monkeypatch.setattr(chunk, "APART", 0.05)
    monkeypatch.setattr(chunk, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(feed, "Backoff", partial(Backoff, cap=0.1))
    monkeypatch.setattr(feed, "PROVEN_AFTER", 0.0)  # a venue that ends young connections is not one that refuses them


def facts_of(name: str) -> dict[str, dict[str, float]]:
    """So that a line without news is heard soon."""
    return {name: {"heartbeat": 0.2}} if name == "bitfinex" else {}


async def until_doubly_whole(exchange: Exchange, since: int = 0) -> None:
    """Every line of every chunk brings all of its markets and vouches for them, and each was heard since all do; all markets of
    all lines since this moment (microseconds UTC), so that what they missed before shows."""

    def everyone() -> list[Line]:
        return [line for each in exchange._chunks for line in each.lines._lines]

    def vouches(line: Line, symbol: str) -> bool:
        witness = line.witnesses[symbol]
        return line.is_whole(symbol) and witness.since is not None and witness.lost is None

    def are_whole() -> bool:
        are_there = len(everyone()) == exchange.state().connections_wanted
        return are_there and all(vouches(line, symbol) for line in everyone() for symbol in line.subscriptions)

    def are_heard() -> bool:
        return all(line.heard(symbol) > since for line in everyone() for symbol in line.subscriptions)

    await until(lambda: are_heard() and are_whole(), "all lines are whole")
    moment = time_ns() // 1000
    await until(lambda: all(line.adapter.live.received > moment for line in everyone()) and are_whole(), "all lines are heard")


async def drop_one(sim: Simulator, exchange: Exchange, name: str) -> None:
    """One connection ends, and is made anew."""
    sessions = exchange.state().sessions
    sim.arm(f"{name}:drop")
    await until(lambda: exchange.state().sessions > sessions, "a connection is made anew")
    await until_doubly_whole(exchange)


def gaps(memory: Memory) -> list[Gap]:
    return [event for event in memory.events if isinstance(event, Gap)]


def longest_absence(memory: Memory, symbol: str) -> float:
    """Seconds between two views of a book."""
    times = [book.received for book in memory.books(symbol)]
    return max(after - before for before, after in pairwise(times)) / 1e6


@pytest.mark.parametrize("name", VENUES)
async def test_either_line_may_die_without_a_gap(name: str) -> None:
    async with (
        simulator.serve([name], rate=RATE, seed=3, facts=facts_of(name)) as sim,
        collecting(sim, name, redundancy=2) as (exchange, memory),
    ):
        await until_doubly_whole(exchange)
        for _ in range(TIMES):
            await drop_one(sim, exchange, name)
        await settle(sim, memory, name)
        assert gaps(memory) == []
        assert exchange.state().gaps == 0
        for symbol in PAIRS[name]:
            check_trades(sim, memory, name, symbol)
        for symbol in PAIRS[name][:2]:
            assert longest_absence(memory, symbol) < A_MOMENT
        check_never_crossed(memory)
        told = exchange.state().events
        assert told["trades"] == sum(len(memory.trades(symbol)) for symbol in PAIRS[name])
        assert told["orderbooks"] == sum(isinstance(event, Book) for event in memory.events)


@pytest.mark.parametrize("name", VENUES)
async def test_changes_of_a_book_lead_from_one_line_to_the_other(name: str) -> None:
    async with (
        simulator.serve([name], rate=RATE, seed=4, facts=facts_of(name)) as sim,
        collecting(sim, name, mode="deltas", redundancy=2) as (exchange, memory),
    ):
        readers = {symbol: Reader(symbol) for symbol in PAIRS[name][:2]}

        def is_rebuilt(symbol: str) -> bool:
            reader, truth = readers[symbol], sim.book(name, symbol, 20)
            reader.follow(memory.events)
            return all(reader.best(side) == numbers(truth[side]) for side in ("bids", "asks"))

        await until_doubly_whole(exchange)
        for _ in range(TIMES):
            await drop_one(sim, exchange, name)
            sim.pause()
            for symbol in readers:
                await until(partial(is_rebuilt, symbol), f"{symbol}: the rebuilt book is the true one")
            sim.resume()
        assert gaps(memory) == []


@pytest.mark.parametrize("name", ["binance", "kraken", "gateio"])
async def test_what_both_lines_miss_is_told_once_and_filled_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "SETTLED_AFTER", 0.2)
    async with simulator.serve([name], rate=RATE, seed=6) as sim, collecting(sim, name, redundancy=2) as (exchange, memory):
        symbols = PAIRS[name]
        while not any(memory.gaps("trades", symbol) for symbol in symbols):
            await until_doubly_whole(exchange)
            await sim.close_all()
            await until(lambda: exchange.state().connections == 0, "all lines are lost")
            await until_doubly_whole(exchange)
        await until(lambda: all(is_repaired(memory, symbol) for symbol in symbols), "every hole is filled")
        await settle(sim, memory, name)
        told = [gap for gap in gaps(memory) if gap.reason != "backfilled"]
        assert len(told) == exchange.state().gaps
        for each, other in combinations(told, 2):
            are_apart = (each.until or 0) <= (other.since or 0)
            assert are_apart or (each.channel, each.symbol) != (other.channel, other.symbol), "told twice"
        assert {gap.symbol for gap in told if gap.channel == "orderbooks"} == set(symbols[:2])
        for symbol in symbols:
            check_whole(sim, memory, name, symbol)


@pytest.mark.parametrize("name", ["binance", "okx"])
async def test_a_line_that_stands_still_is_not_waited_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "STALLED_AFTER", 300_000)
    async with simulator.serve([name], rate=RATE, seed=7) as sim, collecting(sim, name, redundancy=2) as (exchange, memory):
        await until_doubly_whole(exchange)
        for _ in range(TIMES):
            struck = len(sim.fired())
            sim.arm(f"{name}:stall={STALL / 1e6}")
            await until(lambda: len(sim.fired()) > struck, "a connection stands still")  # noqa: B023
            await until_doubly_whole(exchange, since=int(str(sim.fired()[-1]["time"])) + STALL)
        await settle(sim, memory, name)
        check_never_crossed(memory)
        assert gaps(memory) == []
        for symbol in PAIRS[name]:
            check_trades(sim, memory, name, symbol)


@pytest.mark.parametrize("mode", ["views", "deltas"])
@pytest.mark.parametrize("name", ["binance", "kraken"])
async def test_the_charge_passes_at_once(name: str, mode: str) -> None:
    async with (
        simulator.serve([name], rate=RATE, seed=8) as sim,
        collecting(sim, name, mode=mode, redundancy=2) as (exchange, memory),
    ):
        await until_doubly_whole(exchange)
        sim.arm(f"{name}:refuse=503")  # so that what is lost stays lost
        books = next(each.lines for each in exchange._chunks if each.lines.books)
        symbol = PAIRS[name][0]
        charge = books._in_charge()[symbol]
        charge.feed.end(Ended(1006, "cut"))
        await until(lambda: not charge.feed.is_open, "the line in charge is lost")
        state, before = exchange.state(), len(memory.books(symbol)) + len(memory.deltas(symbol))
        assert state.books_synced == state.books == 2
        await until(lambda: len(memory.books(symbol)) + len(memory.deltas(symbol)) > before + 3, "the book goes on")
        assert gaps(memory) == []
        books.feeds[books.feeds.index(charge.feed) - 1].end(Ended(1006, "cut"))
        await until(lambda: exchange.state().books_synced == 0, "without any line it is absent")
        sim.clear()
        await until_doubly_whole(exchange)
        await settle(sim, memory, name)
        assert len(memory.gaps("orderbooks", symbol)) == 1
