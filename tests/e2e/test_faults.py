"""Every fault of every venue: afterwards all books are right again, and every trade was told once or is a gap."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from time import monotonic, time_ns
from typing import cast

import pytest

import simulator
from adapters import adapter, book_sync, registry
from adapters.events import Book, Gap, Trade
from adapters.venue import Keepalive
from collector import exchange as collected
from collector import feed
from collector.exchange import Exchange
from collector.limits import Breaker
from master.backoff import Backoff
from simulator import Simulator
from simulator.registry import load
from tests.e2e.collecting import PAIRS, SHOWN, Memory, collecting, is_synced, numbers, plan_of
from tests.waiting import until

VENUES = tuple(PAIRS)
FAULTS = (
    *("drop", "drop=1008", "drop=1012", "gap", "trade_gap", "repeat", "swap"),
    *("corrupt=cut", "corrupt=json", "corrupt=bytes", "stale_snapshot", "slow=30"),
)
IMPOSSIBLE = {
    ("coinbase", "stale_snapshot"): "its snapshots come in the numbered stream of their connection",
    ("bitstamp", "gap"): "its changes are not numbered: a lost one is mended when the book is fetched again",
    ("bitrue", "gap"): "every frame is a whole book",
    ("bitrue", "stale_snapshot"): "every frame is a whole book",
}
CHECKED = tuple(name for name in VENUES if registry.adapter(name).venue.book.checksum is not None)
RATE = 1000.0
SILENCE = 1.0
MOMENT = 200_000
"""Microseconds that a frame may need from here to there."""


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps with shorter pauses between them; each fault is the first of its kind, not the next of a storm."""
    monkeypatch.setattr(feed, "Backoff", partial(Backoff, base=0.05))
    monkeypatch.setattr(collected, "Breaker", partial(Breaker, probe_every=0.2))
    monkeypatch.setattr(adapter, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(book_sync, "STABLE_AFTER", 0.1)


def numbers_trades(exchange: Exchange) -> bool:
    """Whether the venue numbers a market's trades without holes, so that a missing one is told by its id."""
    return any(each.upcoming is not None for chunk in exchange._chunks for each in chunk.lines.subscriptions)


def is_right(sim: Simulator, memory: Memory, name: str, symbol: str) -> bool:
    """Whether the last view shown of this book is the true book of now."""
    shown = memory.books(symbol)
    truth = sim.book(name, symbol, SHOWN)
    return bool(shown) and all(
        numbers([list(level) for level in getattr(shown[-1], side)]) == numbers(truth[side]) for side in ("bids", "asks")
    )


async def settle(sim: Simulator, memory: Memory, name: str) -> None:
    """Let the market rest until every book shown is the true one."""
    sim.pause()
    for symbol in PAIRS[name][:2]:
        await until(partial(is_right, sim, memory, name, symbol), f"{name} {symbol}: the true book")


def check_trades(sim: Simulator, memory: Memory, name: str, symbol: str) -> None:
    """Told once each, with the venue's own text; what is missing between the first and the last is covered by gaps."""
    told = memory.trades(symbol)
    assert told, f"{symbol}: no trade at all"
    ids = [trade_id(trade) for trade in told]
    assert len(set(ids)) == len(ids), f"{symbol}: a trade was told twice"
    truth = {str(trade["id"]): trade for trade in sim.trades(name, symbol)}
    positions = {identifier: position for position, identifier in enumerate(truth)}
    between = list(truth)[positions[ids[0]] : max(positions[identifier] for identifier in ids) + 1]
    if name == "okx":  # rows of one taker and price are merged: the sum must be there, to the last lot
        true_sum = sum((Decimal(str(truth[identifier]["amount"])) for identifier in between), Decimal())
        missing = true_sum - sum(Decimal(each.amount) for each in told)
        first = Decimal(told[0].amount)  # the first row may hold matches with ids before its own
        assert missing <= 0 < first + missing or memory.gaps("trades", symbol), f"{symbol}: {missing} are missing"
        return
    for identifier, trade in zip(ids, told, strict=True):
        true = truth[identifier]
        assert Decimal(trade.price) == Decimal(str(true["price"]))
        assert (Decimal(trade.amount), trade.side) == (Decimal(str(true["amount"])), true["side"])
    for identifier in set(between) - set(ids):
        gaps = memory.gaps("trades", symbol)
        assert is_covered(gaps, truth[identifier], identifier), f"{symbol}: {identifier} is missing without a word"


def trade_id(trade: Trade) -> str:
    """As the simulator's truth has it: MEXC names both orders of a trade."""
    return trade.id.partition("X")[0] if trade.exchange == "mexc" else trade.id


def is_covered(gaps: list[Gap], trade: dict[str, object], identifier: str) -> bool:
    """By id where the gap has ids, else by time (with the slack of two clocks)."""
    for gap in gaps:
        if gap.first_missing is not None and gap.last_missing is not None:
            if int(gap.first_missing) <= int(identifier) <= int(gap.last_missing):
                return True
        elif (gap.since or 0) - 1_000_000 <= int(str(trade["timestamp"])) <= (gap.until or 0) + 1_000_000:
            return True
    return False


async def strike(sim: Simulator, exchange: Exchange, memory: Memory, name: str, fault: str) -> None:
    """Let one fault strike, and wait until all is well again."""
    before, kind = len(sim.fired()), fault.partition("=")[0]
    sim.arm(f"{name}:{fault}")
    if kind == "stale_snapshot":
        sim.arm(f"{name}:{'drop' if (name, 'gap') in IMPOSSIBLE else 'gap'}@0.5")  # so that somebody asks for one
    if kind != "slow":
        await until(lambda: any(record["fault"] == kind for record in sim.fired()[before:]), f"{fault} strikes")
    if kind == "stale_snapshot":
        sim.clear()
    seen = len(memory.events)
    await until(lambda: len([e for e in memory.events[seen:] if isinstance(e, Trade | Book)]) > 50, f"data after {fault}")
    await until(lambda: is_synced(exchange), f"all books synced after {fault}")
    sim.clear()


@pytest.mark.parametrize("name", VENUES)
async def test_books_and_trades_survive_every_fault(name: str) -> None:
    async with simulator.serve([name], rate=RATE, seed=7) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: all(memory.trades(symbol) for symbol in PAIRS[name]), "trades of all pairs")
        for fault in FAULTS:
            is_unknowable = fault == "trade_gap" and not numbers_trades(exchange)  # only the venue's history could tell
            if is_unknowable or (name, fault) in IMPOSSIBLE:
                continue
            await strike(sim, exchange, memory, name, fault)
        await settle(sim, memory, name)
        for symbol in PAIRS[name]:
            check_trades(sim, memory, name, symbol)
        check_never_crossed(memory)


def check_never_crossed(memory: Memory) -> None:
    for event in memory.events:
        if isinstance(event, Book) and event.bids and event.asks:
            assert Decimal(event.bids[0][0]) < Decimal(event.asks[0][0])


@pytest.mark.parametrize("name", [name for name in VENUES if (name, "gap") not in IMPOSSIBLE])
async def test_a_missing_book_message_is_a_gap_of_that_book_alone(name: str) -> None:
    first, second = PAIRS[name][:2]
    async with simulator.serve([name], rate=RATE) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        sim.arm(f"{name}:gap={first}@0.5")  # where only a checksum tells, the next message may mend what this one lost
        await until(lambda: memory.gaps("orderbooks", first), "the gap")
        sim.clear()
        gap = memory.gaps("orderbooks", first)[0]
        assert gap.reason in ("sequence", "checksum", "crossed")
        assert gap.since is not None
        assert gap.until is not None
        assert gap.since <= gap.until
        await until(lambda: is_synced(exchange), "synced again")
        await settle(sim, memory, name)
        if not registry.adapter(name).venue.numbers_messages:  # there it might have been a message of any book
            assert memory.gaps("orderbooks", second) == []


async def test_changes_that_nobody_can_miss_are_mended_when_the_book_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cls, first = registry.adapter("bitstamp"), PAIRS["bitstamp"][0]
    monkeypatch.setattr(cls, "venue", replace(cls.venue, book=replace(cls.venue.book, renewed=0.5)))
    monkeypatch.setattr(book_sync, "REST_LAG", 0.2)
    async with simulator.serve(["bitstamp"], rate=RATE) as sim, collecting(sim, "bitstamp") as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        sim.arm(f"bitstamp:gap={first}@0.01")
        await until(lambda: len(sim.fired()) > 2, "changes are lost")
        sim.clear()
        asked = cast("int", sim.stats()["bitstamp"]["rest"])
        await until(lambda: cast("int", sim.stats()["bitstamp"]["rest"]) >= asked + 4, "both books are fetched again")
        await settle(sim, memory, "bitstamp")


@pytest.mark.parametrize("name", CHECKED)
async def test_a_bad_checksum_is_seen(name: str) -> None:
    first, second = PAIRS[name][:2]
    hasty = simulator.serve([name], rate=RATE, time_scale=10.0)  # Bitfinex tells a checksum every few seconds
    async with hasty as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        sim.arm(f"{name}:bad_checksum={first}")
        await until(lambda: memory.gaps("orderbooks", first), "the gap")
        assert memory.gaps("orderbooks", first)[0].reason == "checksum"
        assert memory.gaps("orderbooks", second) == []
        await until(lambda: is_synced(exchange), "synced again")
        await settle(sim, memory, name)


def keepalive_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Mapping[str, object]]:
    """Let both sides of a venue speak up more often, and silence be noticed sooner; returns the simulator's facts for that."""
    cls, theirs = registry.adapter(name), load(name).facts
    ping = None if cls.venue.keepalive.ping is None else SILENCE / 5
    monkeypatch.setattr(cls, "venue", replace(cls.venue, keepalive=Keepalive(ping, SILENCE)))
    facts = {fact: SILENCE / 5 for fact in ("ping", "heartbeat") if getattr(theirs, fact) is not None}
    pong = None if theirs.pong is None else SILENCE
    return {name: facts | {"pong": pong, "messages": 1000}}


@pytest.mark.parametrize("name", VENUES)
async def test_a_silent_socket_is_left_and_one_at_rest_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    markets = [(each.channel, symbol) for each in plan_of(name).chunks for symbol in each.symbols]
    facts = keepalive_of(name, monkeypatch)
    async with simulator.serve([name], rate=RATE, facts=facts) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: all(memory.trades(symbol) for symbol in PAIRS[name]), "trades of all pairs")
        sim.pause()  # nothing but pings and heartbeats
        rested = monotonic() + 1.5 * SILENCE
        await until(lambda: monotonic() > rested, "the market rests for longer than the silence that is noticed")
        assert exchange.state().sessions == 3
        sim.resume()
        sim.change(name, {"pong": None})  # it would hang up on who does not answer the pings that do not come
        silenced = time_ns() // 1000 + MOMENT
        for connection in sim.exchanges[name].connections:
            connection.stall(60.0)
        await until(lambda: exchange.state().sessions == 6, "three new connections")
        lost = [status.detail for status in memory.statuses if (status.scope, status.state) == ("connection", "lost")]
        assert lost == [f"1000 nothing heard for {SILENCE:.0f} s"] * 3
        await until(lambda: all(memory.gaps(*market) for market in markets), "a gap of each market")
        for market in markets:
            gap = memory.gaps(*market)[0]
            assert (gap.since or 0) <= silenced <= (gap.until or 0), f"{market}: the hole is from the last thing heard on"
        await until(lambda: is_synced(exchange), "all books synced again")
        await settle(sim, memory, name)
        for symbol in PAIRS[name]:
            check_trades(sim, memory, name, symbol)


@pytest.mark.parametrize("name", VENUES)
async def test_a_maintenance_is_outlasted(name: str) -> None:
    """As each venue does it: closed with its code and refused for a while, or kept open and silent until it says otherwise."""
    markets = [(each.channel, symbol) for each in plan_of(name).chunks for symbol in each.symbols]
    async with simulator.serve([name], rate=RATE) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: all(memory.trades(symbol) for symbol in PAIRS[name]), "trades of all pairs")
        for symbol in PAIRS[name]:
            sim.exchanges[name].market(symbol, asked=True)  # it trades on, though nobody listens
        sim.arm(f"{name}:maintenance=0.5")
        await until(sim.fired, "the maintenance")
        begun = int(str(sim.fired()[0]["time"]))
        await until(lambda: exchange.state().sessions == 6, "three new connections")
        await until(lambda: all(memory.gaps(*market) for market in markets), "a gap of each market")
        for market in markets:
            gap = memory.gaps(*market)[0]
            assert (gap.since or 0) - MOMENT <= begun <= (gap.until or 0), f"{market}: the hole is from the last thing heard on"
        await until(lambda: is_synced(exchange), "everything is back")
        await settle(sim, memory, name)
        for symbol in PAIRS[name]:
            check_trades(sim, memory, name, symbol)


@pytest.mark.parametrize("name", ["binance", "kraken"])
async def test_a_missing_trade_is_told_by_its_id(name: str) -> None:
    symbol = PAIRS[name][0]
    async with simulator.serve([name], rate=RATE) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: len(memory.trades(symbol)) > 3, "trades")
        sim.arm(f"{name}:trade_gap={symbol}")
        await until(lambda: memory.gaps("trades", symbol), "the gap")
        gap = memory.gaps("trades", symbol)[0]
        told = {int(trade.id) for trade in memory.trades(symbol)}
        assert gap.first_missing is not None
        assert gap.last_missing is not None
        missing = set(range(int(gap.first_missing), int(gap.last_missing) + 1))
        assert missing
        assert not missing & told
        assert int(gap.first_missing) - 1 in told
        assert int(gap.last_missing) + 1 in told
        assert exchange.state().gaps == 1


@pytest.mark.parametrize("name", ["kraken", "okx"])
async def test_a_refused_pair_is_rejected_by_name_and_the_others_live(name: str) -> None:
    refused = PAIRS[name][2]
    serving = simulator.serve([name], rate=RATE, faults=[f"{name}:reject={refused}"])
    async with serving as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: exchange.state().rejected, "the rejection")
        state = exchange.state()
        assert list(state.rejected) == [f"trades {refused}"]
        assert state.rejected[f"trades {refused}"]
        await until(lambda: memory.trades(PAIRS[name][0]), "trades of the others")
        assert memory.trades(refused) == []
        assert [each.symbol for each in memory.statuses if each.state == "rejected"] == [refused]


@pytest.mark.parametrize("name", ["binance", "kucoin"])
async def test_where_refusals_are_silent_the_pair_is_never_called_live(name: str) -> None:
    refused = PAIRS[name][2]
    serving = simulator.serve([name], rate=RATE, faults=[f"{name}:reject={refused}"])
    async with serving as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: exchange.state().pairs["live"] == 5, "all others are live")
        assert memory.trades(refused) == []
        assert exchange.state().pairs["acked"] == 1


@pytest.mark.parametrize("name", ["binance", "bitfinex", "gateio", "kucoin"])  # at once, greeted, after REST calls
@pytest.mark.parametrize("fault", ["refuse=429", "refuse=451"])
async def test_a_venue_that_is_shut_is_tried_until_it_opens(name: str, fault: str) -> None:
    async with simulator.serve([name], rate=RATE) as sim, collecting(sim, name) as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        sim.arm(f"{name}:{fault}")
        sim.arm(f"{name}:drop")
        await until(lambda: not is_synced(exchange), "something is lost")
        await until(lambda: exchange.state().refused, "refusals are counted")
        sim.clear()
        await until(lambda: is_synced(exchange), "everything is back")
        await until(lambda: all(memory.trades(symbol) for symbol in PAIRS[name]), "trades of all pairs")
        await settle(sim, memory, name)
        for symbol in PAIRS[name]:
            check_trades(sim, memory, name, symbol)
