"""The collector as a user meets it: check, demo, embedding, session ends, changes of books, recordings."""

import asyncio
import json
import os
import select
import signal
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import collector
import simulator
from adapters import registry
from adapters.decode import decode, read
from adapters.events import Book, BookDelta, Event, Gap, Trade
from tests.e2e.collecting import PAIRS, SHOWN, collecting, is_synced, numbers
from tests.e2e.programs import stage
from tests.waiting import until

DEEP = {"depth": 500}
BINANCE = {"trades": ["BTC/USDT", "ETH/USDT"], "orderbooks": ["BTC/USDT"], "tickers": ["BTC/USDT"]}


async def test_check_prints_the_plan_and_connects_to_nothing(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        config = on.config({"binance": BINANCE, "okx": {"trades": ["BTC/USDT", "ETH/USDT", "SOL/USDT"]}})
        program = await on.start("collector", "--config", config, "--check")
        output, _ = await program.process.communicate()
        assert program.process.returncode == 0
        text = output.decode()
        for words in (("binance", "trades", "1", "2"), ("okx", "trades", "2", "3", "2, 1")):
            assert any(all(word in line for word in words) for line in text.splitlines()), text


async def test_check_live_says_what_is_wrong(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        _, address = await on.simulator("--exchange", "binance", "--exchange", "okx", "--fault", "okx:refuse=451")
        pairs = {"trades": ["BTC/USDT", "NOPE/USDT"]}
        config = on.config({"binance": pairs, "okx": {"trades": ["BTC/USDT"]}})
        program = await on.start("collector", "--config", config, "--check", "--live", "--simulator", address)
        output, _ = await program.process.communicate()
        assert program.process.returncode == 1
        text = output.decode()
        assert "NOPE/USDT is not listed" in text
        assert "the venue does not serve this country" in text


async def test_check_live_of_a_host_that_takes_connections_and_ends_them(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    host = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{host.sockets[0].getsockname()[1]}"
    async with stage(tmp_path) as on, host:
        config = on.config({"binance": {"trades": ["BTC/USDT"]}})
        program = await on.start("collector", "--config", config, "--check", "--live", "--simulator", address)
        output, _ = await program.process.communicate()
        assert program.process.returncode == 1
        assert "WebSocket: the host ended the connection before it answered" in " ".join(output.decode().split())


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("{", ["line 1, column"]),
        (
            {
                "exchanges": [
                    {"name": "binanse"},
                    {"name": "okx", "pairs": {"trades": ["BTCUSDT"]}, "orderbook": {"depth": 500}},
                ]
            },
            [
                "exchanges[0].name: unknown exchange 'binanse'; known are binance",
                "exchanges[1].orderbook.depth: okx keeps at most 400",
                "exchanges[1].pairs.trades[0]: 'BTCUSDT' is no symbol",
            ],
        ),
        (
            {"exchanges": [{"name": "okx", "pairs": {"trade": []}}]},
            ["exchanges[0].pairs.trade: unknown key; known here: trades"],
        ),
        ({"exchanges": []}, ["exchanges: none is enabled"]),
    ],
)
async def test_a_wrong_configuration_is_a_line_for_each_fault(tmp_path: Path, content: Any, lines: list[str]) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    async with stage(tmp_path) as on:
        program = await on.start("collector", "--config", str(file))
        await program.process.communicate()
        assert program.process.returncode == 2
        said = program.log.read_text().splitlines()
        assert len(said) == len(lines), said
        for wanted, line in zip(lines, said, strict=True):
            assert wanted in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--live"], "--live goes with --check"),
        (["--simulator", "here:9000"], "--simulator: must be an address such as http://127.0.0.1:9000, not 'here:9000'"),
    ],
)
async def test_options_that_make_no_sense(tmp_path: Path, arguments: list[str], line: str) -> None:
    async with stage(tmp_path) as on:
        program = await on.start("collector", *arguments)
        assert (await program.process.wait(), line in program.log.read_text()) == (2, True)


async def test_the_demo_writes_one_event_a_line_into_a_pipe(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        _, address = await on.simulator("--exchange", "binance")
        config = on.config({"binance": BINANCE})
        program = await on.start("collector", "--config", config, "--demo", "--simulator", address)
        assert program.process.stdout is not None
        seen: set[str] = set()
        async with asyncio.timeout(20):
            while seen < {"trade", "book", "ticker"}:
                seen.add(json.loads(await program.process.stdout.readline())["type"])
        assert (await program.end(signal.SIGINT))[0] == 0


async def test_the_demo_ends_with_its_reader(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    async with stage(tmp_path) as on:
        _, address = await on.simulator("--exchange", "binance")
        config = on.config({"binance": BINANCE})
        program = await on.start("collector", "--config", config, "--demo", "--simulator", address, output=writer)
        os.close(writer)
        assert (await asyncio.to_thread(os.read, reader, 100)).startswith(b'{"type":"status","exchange":"binance"')
        os.close(reader)
        async with asyncio.timeout(20):
            assert await program.process.wait() == 0
        assert program.log.read_text() == ""


async def test_a_reader_that_takes_nothing_does_not_keep_the_demo_from_its_end(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    async with stage(tmp_path) as on:
        _, address = await on.simulator("--exchange", "binance", "--rate", "3000")
        config = on.config({"binance": BINANCE})
        program = await on.start("collector", "--config", config, "--demo", "--simulator", address, output=writer)
        await until(lambda: not select.select([], [writer], [], 0)[1], "the pipe is full")
        assert (await program.end())[0] == 0
    os.close(reader)
    os.close(writer)


async def test_another_program_gets_events_as_an_iterator() -> None:
    async with simulator.serve(["binance"], rate=500) as sim:
        config = {"exchanges": [{"name": "binance", "pairs": BINANCE, "orderbook": {"update_interval_ms": 100}}]}
        seen: set[type] = set()
        async with asyncio.timeout(20), aclosing(collector.stream(config, simulator=sim.url)) as stream:
            async for event in stream:
                seen.add(type(event))
                if seen >= {Trade, Book}:
                    break


async def test_a_session_is_replaced_before_its_venue_ends_it() -> None:
    facts = {"binance": {"session": 4.0, "notice": 3.0}}
    async with simulator.serve(["binance"], rate=800, facts=facts) as sim, collecting(sim, "binance") as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: exchange.state().sessions >= 9, "each connection was replaced twice")
        sim.pause()
        assert not [event for event in memory.events if isinstance(event, Gap)], "no hole at all"
        for symbol in PAIRS["binance"]:
            told = [int(trade.id) for trade in memory.trades(symbol)]
            assert sorted(told) == list(range(min(told), max(told) + 1)), f"{symbol}: whole, and each trade once"


class Reader:
    """Follows one book as wire.md says, from the events alone."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._sides: dict[str, dict[Decimal, Decimal]] = {}
        self._sequence: int | None = None
        self._read = 0

    def follow(self, events: list[Event]) -> None:
        for event in events[self._read :]:
            if isinstance(event, Book) and event.symbol == self._symbol:
                if not self._sides or event.sequence != self._sequence:
                    self._sides = {side: dict(numbers(getattr(event, side))) for side in ("bids", "asks")}
                    self._sequence = event.sequence
            elif isinstance(event, BookDelta) and event.symbol == self._symbol:
                self._apply(event)
            elif isinstance(event, Gap) and event.symbol == self._symbol and event.channel == "orderbooks":
                self._sides = {}
        self._read = len(events)

    def _apply(self, delta: BookDelta) -> None:
        assert delta.previous == self._sequence
        self._sequence = delta.sequence
        for side, levels in self._sides.items():
            for price, amount in numbers(getattr(delta, side)):
                levels[price] = amount
                if not amount:
                    del levels[price]

    def best(self, side: str) -> list[tuple[Decimal, Decimal]]:
        return sorted(self._sides[side].items(), reverse=side == "bids")[:SHOWN]


@pytest.mark.parametrize("name", PAIRS)
async def test_changes_of_a_book_rebuild_it(name: str) -> None:
    symbol = PAIRS[name][0]
    async with simulator.serve([name], rate=800) as sim, collecting(sim, name, mode="deltas") as (exchange, memory):
        await until(lambda: is_synced(exchange), "all books synced")
        await until(lambda: len([*memory.deltas(symbol), *memory.books(symbol)]) > 30, "changes, or whole books")
        sim.pause()
        reader = Reader(symbol)

        def is_rebuilt() -> bool:
            reader.follow(memory.events)
            truth = sim.book(name, symbol, SHOWN)
            return all(reader.best(side) == numbers(truth[side]) for side in ("bids", "asks"))

        await until(is_rebuilt, "the rebuilt book is the true one")


async def test_a_recording_decodes_to_what_was_collected(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        _, address = await on.simulator("--exchange", "kraken", "--rate", "400")
        _, ports = await on.master()
        config = on.config(
            {"kraken": {"trades": ["BTC/USD"], "orderbooks": ["BTC/USD"]}},
            debug={"raw": True, "log": False},
            server={"data": str(on.data)},
        )
        program, monitor = await on.collector(config, address, ports["port"])
        await on.until_health(monitor, lambda health: health["acked"] > 50, "events are acknowledged")
        assert (await program.end())[0] == 0
        recordings = sorted((on.data / "raw").glob("*.ndjson"))
        assert [file.name for file in recordings] == ["kraken-orderbooks-1.ndjson", "kraken-trades-0.ndjson"]
        lines = read(recordings[1].read_text().splitlines())
        decoded = [event for each in decode(registry.adapter("kraken"), lines, 20) for event in each.events]
        told = [event["id"] for event in decoded if event["type"] == "trade"]
        stored = [identifier for (identifier,) in on.rows("SELECT id FROM trades ORDER BY id::BIGINT")]
        assert stored == told[: len(stored)]
        assert stored
