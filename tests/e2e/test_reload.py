"""What is collected changes while it runs: who stays is not touched, who moves is handed over without a gap or doubles."""

import asyncio
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import simulator
from adapters.book import BookOptions
from adapters.events import Channel, Event, Gap
from collector import chunk, supervisor
from collector.exchange import Exchange
from collector.exchanges import Exchanges, running
from collector.plan import Chunk, ExchangePlan
from master.protocol import decode_events
from simulator import Simulator
from simulator.connection import Connection
from tests.e2e.collecting import PAIRS, SHOWN, Memory, is_synced, numbers
from tests.e2e.programs import Program, Stage, stage
from tests.e2e.test_collector import Reader
from tests.e2e.test_faults import check_trades, is_right
from tests.master.making import batches_in
from tests.waiting import until

VENUES = ("binance", "kraken", "okx", "bitfinex")
RATE = 600.0


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(chunk, "APART", 0.05)


CHANGES = BookOptions(SHOWN, 0.1, "deltas")


def plan_of(
    name: str,
    trades: tuple[str, ...],
    books: tuple[str, ...],
    size: int = 2,
    options: BookOptions = CHANGES,
    redundancy: int = 1,
) -> ExchangePlan:
    """`size` pairs on a connection for trades, one for books."""
    named = [Chunk(name, "trades", (symbol,)) for symbol in trades] + [Chunk(name, "orderbooks", (each,)) for each in books]
    sizes: dict[Channel, int] = {"trades": size, "orderbooks": 1}
    return ExchangePlan(name, options, tuple(named), redundancy=redundancy, sizes=sizes)


def only(exchanges: Exchanges) -> Exchange:
    (found,) = exchanges
    return found


def connections(sim: Simulator, name: str) -> set[Connection]:
    return set(sim.exchanges[name].connections)


async def until_told(exchange: Exchange, memory: Memory, *symbols: str) -> None:
    """All books are right, and each of these had a trade since now."""
    await until(lambda: is_synced(exchange), "all is there")
    began = {symbol: len(memory.trades(symbol)) for symbol in symbols}
    await until(lambda: all(len(memory.trades(symbol)) > began[symbol] for symbol in symbols), "trades of all")


async def until_changed(sim: Simulator, exchange: Exchange, name: str) -> None:
    """What leaves has left, here and at the venue."""
    await until(lambda: len(exchange._running) == len(exchange._chunks), "the connections that leave have left")
    await until(lambda: is_synced(exchange), "all is there")
    await until(lambda: len(connections(sim, name)) == len(exchange._chunks), "and no others")


def gaps(memory: Memory) -> list[Event]:
    return [event for event in memory.events if isinstance(event, Gap)]


@pytest.mark.parametrize("name", VENUES)
async def test_who_stays_is_not_touched_and_who_moves_misses_nothing(name: str) -> None:
    first, second, third = PAIRS[name]
    async with simulator.serve([name], rate=RATE, seed=11) as sim:
        memory = Memory()
        before = plan_of(name, (first, second, third), (first, second))
        async with running((before,), memory, sim.url) as exchanges:
            exchange, readers = only(exchanges), [Reader(symbol) for symbol in (first, second)]
            await until_told(exchange, memory, first, second, third)
            old = connections(sim, name)
            assert len(old) == 4
            exchanges.change([plan_of(name, (first, third), (first, second))])
            await until_changed(sim, exchange, name)
            assert len(old - connections(sim, name)) == 1, "that of the pair that left"
            assert only(exchanges) is exchange
            await until_told(exchange, memory, first, third)
            kept = connections(sim, name)
            deeper = BookOptions(2 * SHOWN, 0.1, "deltas")
            exchanges.change([plan_of(name, (first, third, second), (first, second), options=deeper)])
            await until_changed(sim, exchange, name)
            assert len(kept & connections(sim, name)) == 2, "trades stay, books are asked for anew"
            await until_told(exchange, memory, first, second, third)
            sim.pause()
            for symbol, reader in zip((first, second), readers, strict=True):
                await until(
                    partial(is_rebuilt, sim, memory, name, symbol, reader), f"{symbol}: the rebuilt book is the true one"
                )
            for symbol in (first, third):
                check_trades(sim, memory, name, symbol)
            told = exchange.state().events
            assert told["trades"] == sum(len(memory.trades(symbol)) for symbol in PAIRS[name])
            assert told["orderbooks"] == sum(len(memory.books(symbol)) for symbol in (first, second))
        assert gaps(memory) == []


def is_rebuilt(sim: Simulator, memory: Memory, name: str, symbol: str, reader: Reader) -> bool:
    truth = sim.book(name, symbol, SHOWN)
    reader.follow(memory.events)
    return all(reader.best(side) == numbers(truth[side]) for side in ("bids", "asks"))


@pytest.mark.parametrize("name", ["binance", "kraken"])
async def test_pairs_move_to_smaller_connections_and_back(name: str) -> None:
    symbols = PAIRS[name]
    shown = BookOptions(SHOWN, 0.1)
    whole, split = (plan_of(name, symbols, symbols[:2], size, shown) for size in (3, 1))
    async with simulator.serve([name], rate=RATE, seed=12) as sim:
        memory = Memory()
        async with running((whole,), memory, sim.url) as exchanges:
            exchange = only(exchanges)
            await until_told(exchange, memory, *symbols)
            for change in (split, replace(whole, redundancy=2), whole):
                exchanges.change([change])
                exchanges.change([change])
                await until(lambda: len(exchange._running) == len(exchange._chunks), "moved")
                await until_told(exchange, memory, *symbols)
            sim.pause()
            for symbol in symbols[:2]:
                await until(partial(is_right, sim, memory, name, symbol), f"{symbol}: the true book")
            for symbol in symbols:
                check_trades(sim, memory, name, symbol)
        assert gaps(memory) == []


# As a program ---------------------------------------------------------------------------------------------------------

EXCHANGES = {
    "binance": {"trades": ["BTC/USDT", "ETH/USDT", "SOL/USDT"], "orderbooks": ["BTC/USDT"]},
    "kraken": {"trades": ["BTC/USD", "ETH/USD"], "orderbooks": ["BTC/USD"]},
}
CHANGED = {
    "binance": {"trades": ["BTC/USDT", "SOL/USDT", "XRP/USDT"], "orderbooks": ["BTC/USDT"]},
    "kraken": {"trades": ["BTC/USD", "ETH/USD"], "orderbooks": ["BTC/USD"]},
    "okx": {"trades": ["BTC/USDT"], "orderbooks": ["BTC/USDT"]},
}
READ = "configuration read"


def is_ok(health: dict[str, Any], *names: str) -> bool:
    exchanges = health["exchanges"]
    return (
        sorted(exchanges) == sorted(names)
        and health["status"] == "ok"
        and all(
            each["connections"] == each["connections_wanted"] and each["books_synced"] == each["books"]
            for each in exchanges.values()
        )
    )


async def collected(
    on: Stage, sim: Simulator, exchanges: dict[str, dict[str, list[str]]], *, mode: str = "views"
) -> tuple[Program, str]:
    """Master and collector of these, all there: the collector, and the address of its health."""
    _, ports = await on.master()
    collector, monitor = await on.collector(on.config(exchanges, mode=mode), sim.url, ports["port"])
    await on.until_health(monitor, lambda health: is_ok(health, *exchanges) and health["acked"] > 100, "everything is there")
    return collector, monitor


def check_whole(on: Stage, sim: Simulator, name: str, symbol: str) -> None:
    """Each trade between the first and the last is stored once."""
    stored = [row[0] for row in on.rows(f"SELECT id FROM trades WHERE exchange = '{name}' AND symbol = '{symbol}'")]
    truth = [str(trade["id"]) for trade in sim.trades(name, symbol)]
    inside = [position for position, each in enumerate(truth) if each in set(stored)]
    assert sorted(stored) == sorted(truth[inside[0] : inside[-1] + 1]), symbol


async def test_a_changed_file_is_applied_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    async with simulator.serve([*CHANGED], rate=300, seed=13) as sim, stage(tmp_path) as on:
        collector, monitor = await collected(on, sim, EXCHANGES)
        kraken = connections(sim, "kraken")
        file = tmp_path / "config.json"
        right = file.read_text()
        file.write_text(right[:-20])
        await until(lambda: collector.logged("the configuration is wrong; what runs goes on"), "said")
        file.write_text(right.replace("BTC/USDT", "BTCUSDT"))
        collector.process.send_signal(signal.SIGHUP)
        await until(lambda: len(collector.logged("the configuration is wrong; what runs goes on")) == 2, "said again")
        on.config(CHANGED, workers=1, spool={"max_mb": 7})
        await until(lambda: collector.logged(READ), "applied without a word from us")
        assert collector.logged(READ)[0]["exchanges_begun"] == ["okx"]
        assert (collector.logged(READ)[0]["pairs_joined"], collector.logged(READ)[0]["pairs_left"]) == (3, 1)
        assert collector.logged("these settings need a restart; the others are applied")[0]["settings"] == ["workers", "spool"]
        await on.until_health(monitor, lambda health: is_ok(health, *CHANGED), "everything is there")
        assert connections(sim, "kraken") == kraken
        health = await on.get(f"{monitor}/health")
        victim = next(each for each in health["workers"] if each["name"].endswith("-0"))["pid"]
        os.kill(victim, signal.SIGKILL)
        await on.until_health(
            monitor,
            lambda health: victim not in [each["pid"] for each in health["workers"]] and is_ok(health, *CHANGED),
            "back, with the newest plan",
        )
        acked = (await on.get(f"{monitor}/health"))["acked"]
        await on.until_health(monitor, lambda health: health["acked"] > acked + 100, "it goes on")
        sim.pause()
        assert (await collector.end())[0] == 0
        told = on.rows("SELECT DISTINCT reason FROM gaps WHERE reason NOT IN ('collector restarted', 'backfilled')")
        assert told == [], "but for who was killed"
        symbols = on.rows("SELECT DISTINCT symbol FROM trades WHERE exchange = 'binance'")
        assert sorted(symbols) == [("BTC/USDT",), ("ETH/USDT",), ("SOL/USDT",), ("XRP/USDT",)]


async def test_exchanges_come_and_go(tmp_path: Path) -> None:
    async with simulator.serve([*CHANGED], rate=300, seed=14) as sim, stage(tmp_path) as on:
        collector, monitor = await collected(on, sim, EXCHANGES)
        binance = connections(sim, "binance")
        on.config({"binance": EXCHANGES["binance"]})
        collector.process.send_signal(signal.SIGHUP)
        health = await on.until_health(monitor, lambda health: is_ok(health, "binance") and len(health["workers"]) == 1, "left")
        assert connections(sim, "kraken") == set()
        on.config(CHANGED)
        collector.process.send_signal(signal.SIGHUP)
        again = await on.until_health(monitor, lambda health: is_ok(health, *CHANGED) and len(health["workers"]) == 2, "came")
        assert again["acked"] >= health["acked"]
        assert len(binance & connections(sim, "binance")) >= 2, "what stays is not touched"
        await on.until_health(monitor, lambda health: health["acked"] > again["acked"] + 100, "it goes on")
        sim.pause()
        code, output = await collector.end()
        assert (code, json.loads(output.splitlines()[-1])["acked"]) == (0, on.count())
        told = on.rows("SELECT DISTINCT exchange, reason FROM gaps WHERE reason != 'backfilled'")
        assert set(told) <= {("kraken", "collector restarted")}, "which is in a process of its own again"
        for symbol in ("BTC/USDT", "SOL/USDT"):
            check_whole(on, sim, "binance", symbol)


LOADED = EXCHANGES | {"gateio": {"trades": ["BTC/USDT", "ETH/USDT"], "orderbooks": ["BTC/USDT"]}}
"""Gate does not number its trades."""


async def replace_all(on: Stage, collector: Program, monitor: str) -> None:
    """All processes, and wait until the new ones have handed something over."""
    before = {each["pid"] for each in (await on.get(f"{monitor}/health"))["workers"]}
    done = len(collector.logged("worker replaced"))
    collector.process.send_signal(signal.SIGUSR2)
    await until(lambda: len(collector.logged("worker replaced")) == done + len(before), "replaced")

    def are_others(health: dict[str, Any]) -> bool:
        workers = {each["pid"] for each in health["workers"]}
        return is_ok(health, *LOADED) and len(workers) == len(before) and not before & workers

    acked = (await on.until_health(monitor, are_others, "new processes"))["acked"]
    await on.until_health(monitor, lambda health: health["acked"] > acked + 100, "it goes on")


async def test_new_processes_take_the_place_of_the_old_ones_without_a_gap(tmp_path: Path) -> None:
    async with simulator.serve([*LOADED], rate=900, seed=15) as sim, stage(tmp_path) as on:
        collector, monitor = await collected(on, sim, LOADED)
        for _ in range(2):
            await replace_all(on, collector, monitor)
        sim.pause()
        code, output = await collector.end()
        assert (code, json.loads(output.splitlines()[-1])["acked"]) == (0, on.count())
        assert on.rows("SELECT * FROM gaps") == []
        for name, pairs in LOADED.items():
            for symbol in pairs["trades"]:
                check_whole(on, sim, name, symbol)
        assert [each["by"][-2:] for each in collector.logged("worker replaced")] == ["0b", "1b", "-0", "-1"]


def stored(on: Stage, name: str) -> list[Event]:
    """What the journal has of one exchange, in its order."""
    told = (decode_events(batch.body) for batch in batches_in(on.data / "journal"))
    return [event for events in told for event in events if event.exchange == name]


async def test_who_follows_a_book_by_its_changes_has_the_true_one_behind_it(tmp_path: Path) -> None:
    """Of a venue that numbers changes and of one that does not, where readers are told to begin anew."""
    async with simulator.serve([*LOADED], rate=900, seed=19) as sim, stage(tmp_path) as on:
        collector, monitor = await collected(on, sim, LOADED, mode="deltas")
        await replace_all(on, collector, monitor)
        sim.pause()

        def is_rebuilt(name: str, symbol: str) -> bool:
            reader, truth = Reader(symbol), sim.book(name, symbol, SHOWN)
            reader.follow(stored(on, name))
            return all(reader.best(side) == numbers(truth[side]) for side in ("bids", "asks"))

        for name, pairs in LOADED.items():
            await until(partial(is_rebuilt, name, *pairs["orderbooks"]), f"{name}: the book that was told is the true one")
        assert (await collector.end())[0] == 0
        assert on.rows("SELECT exchange, reason FROM gaps") == [("kraken", "handed over")]


async def test_no_successor_begins_before_the_one_that_goes_notes_what_it_tells(tmp_path: Path) -> None:
    """Else what both hear meanwhile would be stored twice, where trades have no numbers."""
    async with simulator.serve([*EXCHANGES], rate=300, seed=18) as sim, stage(tmp_path) as on:
        collector, monitor = await collected(on, sim, EXCHANGES)
        workers = {each["name"]: each["pid"] for each in (await on.get(f"{monitor}/health"))["workers"]}
        for pid in workers.values():
            os.kill(pid, signal.SIGSTOP)
        try:
            collector.process.send_signal(signal.SIGUSR2)
            for _ in range(20):
                assert {each["name"] for each in (await on.get(f"{monitor}/health"))["workers"]} == {*workers}
                await asyncio.sleep(supervisor.LOOK_EVERY)
        finally:
            for pid in workers.values():
                os.kill(pid, signal.SIGCONT)
        await until(lambda: len(collector.logged("worker replaced")) == len(workers), "each is replaced")
        sim.pause()
        assert (await collector.end())[0] == 0
        assert on.rows("SELECT exchange, symbol, id FROM trades GROUP BY ALL HAVING count(*) > 1") == []


async def test_a_successor_that_does_not_hear_everything_takes_nobody_s_place(tmp_path: Path) -> None:
    async with simulator.serve([*EXCHANGES], rate=300, seed=16) as sim, stage(tmp_path) as on:
        collector, monitor = await collected(on, sim, EXCHANGES)
        before = {each["name"]: each["pid"] for each in (await on.get(f"{monitor}/health"))["workers"]}
        for name in EXCHANGES:
            sim.arm(f"{name}:refuse=503")
        collector.process.send_signal(signal.SIGUSR2)

        def are_two(health: dict[str, Any]) -> bool:
            return any(each["name"].endswith("b") and each["pid"] for each in health["workers"])

        health = await on.until_health(monitor, are_two, "a successor")
        old = next(each["name"].removesuffix("b") for each in health["workers"] if each["name"].endswith("b"))
        os.kill(before[old], signal.SIGKILL)
        await until(
            lambda: collector.logged("the successor does not hear everything in time; what runs goes on"), "it is given up"
        )
        sim.clear()

        def are_back(health: dict[str, Any]) -> bool:
            return is_ok(health, *EXCHANGES) and sorted(each["name"] for each in health["workers"]) == sorted(before)

        acked = (await on.until_health(monitor, are_back, "as before"))["acked"]
        await on.until_health(monitor, lambda health: health["acked"] > acked + 100, "it goes on")
        sim.pause()
        assert (await collector.end())[0] == 0
        assert not collector.logged("worker replaced")
        assert on.rows("SELECT exchange, symbol, id FROM trades GROUP BY ALL HAVING count(*) > 1") == []
        assert set(on.rows("SELECT DISTINCT reason FROM gaps")) <= {
            ("collector restarted",),
            ("backfilled",),
            ("disconnected",),
        }
