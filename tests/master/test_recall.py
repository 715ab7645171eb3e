"""What a master knew before a start: known again, where it is still true, and with candles as history tells them."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import pytest

from adapters.events import Book, BookDelta, Candle, Event, Gap, Price, Ticker, Trade
from master import recall
from master.history.questions import DAY, HOUR, MINUTE, SECOND, Question
from master.history.reader import Reader
from master.live.candles import Candles
from master.live.market import Market
from master.recall import Recall
from master.streams.fanout import Fanout
from master.streams.resume import PORTION, placed, portions
from tests.master.making import NOON, batch, write_segment
from tests.waiting import until

NOW = NOON + 5 * HOUR + 20 * MINUTE + 7 * SECOND
TODAY = NOON - 12 * HOUR
MARKETS = [(exchange, symbol) for exchange in ("binance", "kraken") for symbol in ("BTC/USD", "ETH/USD")]
MANY = 1 << 40
"""A position that is behind everything."""


def book(number: int, symbol: str, age: int = MINUTE) -> Book:
    return Book("kraken", symbol, None, NOW - age, [("100.50", str(number))], [("101", "2")], number)


def delta(symbol: str, age: int) -> BookDelta:
    return BookDelta("kraken", symbol, None, NOW - age, [("100.50", "9")], [], 8, 7)


def gap(symbol: str | None, channel: str = "orderbooks", exchange: str = "kraken") -> Gap:
    return Gap(exchange, symbol, None, NOW, channel, "disconnected")


class Rooms:
    """What is told of the past, and by whom."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.market, self.candles = Market(), Candles(NOW)
        self.fanout = Fanout(self.candles, 0)
        self.recall = Recall(reader, MANY, self.market, self.candles, self.fanout)

    def books(self) -> dict[str, int | None]:
        """By symbol the sequence of those that are there."""
        return {each.symbol: each.book.sequence for each in self.market.sources() if each.book is not None}

    def shown(self, channel: str) -> dict[str, Event]:
        return {
            symbol: topic.last
            for (name, _, symbol), topic in self.fanout._topics.items()
            if name == channel and topic.last is not None
        }


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "time_ns", lambda: NOW * 1000)


@asynccontextmanager
async def started(data: Path, *told: Sequence[Event]) -> AsyncIterator[Rooms]:
    """After a life in which these batches came."""
    write_segment(data / "journal", 1, [batch(seq, *events) for seq, events in enumerate(told, 1)])
    (data / "lake").mkdir()
    reader = Reader(data)
    reader.start()
    try:
        yield Rooms(reader)
    finally:
        await reader.close()


class TestViews:
    async def test_the_newest_of_each_market_where_it_is_right_and_nothing_newer_is_known(self, tmp_path: Path) -> None:
        old = Ticker("okx", "BTC/USD", None, NOW - 2 * SECOND, bid="1", ask="2")
        ticker = Ticker("okx", "BTC/USD", None, NOW - SECOND, bid="3", ask="4")
        price = Price("", "BTC/USD", None, NOW - SECOND, "100.5", "median", 3, 0, 1.0, 0.9)
        told: list[list[Event]] = [
            [book(1, "A"), book(1, "B"), book(1, "C"), book(1, "D"), book(1, "E"), book(1, "F"), old, ticker, price],
            [book(2, "A"), gap("B"), delta("C", 50 * SECOND), gap("D"), book(2, "D", SECOND), gap("A", "trades")],
            [book(1, "G", 20 * MINUTE)],  # too long ago
        ]
        async with started(tmp_path, *told) as here:
            here.recall.hear([gap("E"), gap("A", "trades"), gap(None, exchange="okx")], MANY + 1)
            here.market.take([book(7, "F", 0)], MANY + 4)
            here.fanout.hear([book(7, "F", 0)], MANY + 4)
            await here.recall.views()
            assert here.books() == {"A": 2, "D": 2, "F": 7}
            assert {symbol: getattr(each, "sequence", None) for symbol, each in here.shown("books").items()} == here.books()
            assert here.shown("tickers") == {"BTC/USD": ticker}
            assert here.shown("prices") == {"BTC/USD": price}
            (source,) = here.market.sources("A")
            assert source.state(NOW) == "stale", "as old as it is"
            assert here.market.position == MANY + 4

    @pytest.mark.parametrize("doubt", [gap(None), gap(None, "journal", ""), gap(None, "delivery", "")])
    async def test_a_gap_of_all_books_leaves_none(self, tmp_path: Path, doubt: Gap) -> None:
        async with started(tmp_path, [book(1, "A"), book(1, "B")]) as here:
            here.recall.hear([doubt], MANY + 1)
            await here.recall.views()
            assert here.books() == {}

    async def test_of_nothing_nothing_comes(self, tmp_path: Path) -> None:
        async with started(tmp_path) as here:
            await here.recall.views()
            await here.recall.trades()
            assert here.market.symbols == {}


class TestTrades:
    async def test_what_is_live_is_what_it_would_be_had_it_heard_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recall, "ROWS", 100)
        random = Random(7)
        trades = sorted((_random_trade(random) for _ in range(2000)), key=lambda each: each.received)
        parts = [trades[at : at + 50] for at in range(0, len(trades), 50)]
        async with started(tmp_path, *parts) as here:
            whole = Market()
            whole.take(trades, 1)
            await here.recall.views()
            await here.recall.trades()
            for source in whole.sources():
                (same,) = here.market.sources(source.symbol, source.exchange)
                assert (same.trade, same.traded) == (source.trade, source.traded)
                assert list(same.window) == list(source.window)
                for seconds in (1, 60, 1200, 3600):
                    volume = whole.volumes.window(source.exchange, source.symbol, NOW, seconds)
                    assert here.market.volumes.window(source.exchange, source.symbol, NOW, seconds) == pytest.approx(volume)
            await self._compare_candles(here)

    async def _compare_candles(self, here: Rooms) -> None:
        compared = Counter[str]()
        kept = {"1s": NOW - 2 * MINUTE, "1m": NOW - HOUR, "15m": NOW - HOUR, "1h": TODAY, "4h": TODAY, "1d": TODAY}
        for exchange, symbol in [*MARKETS, *(("", symbol) for _, symbol in MARKETS[:2])]:
            for interval, since in kept.items():
                question = Question("candles", exchange or None, symbol, limit=400, interval=interval)
                for _, expected in await asked(here.reader, question):
                    assert isinstance(expected, Candle)
                    candle = here.candles.candle(interval, expected.start, NOW, symbol, exchange)
                    assert candle is not None or expected.start < since
                    if candle is not None:
                        compared[interval] += 1
                        assert _comparable(candle) == _comparable(expected)
        assert compared.keys() == kept.keys()
        assert compared.total() > 600

    async def test_the_newest_trade_of_a_quiet_market_counts_once(self, tmp_path: Path) -> None:
        quiet = Trade("okx", "A", NOW - 40 * MINUTE, NOW - 40 * MINUTE, "1", "2.0", "3", "buy")
        no_number = Trade("okx", "B", None, NOW - 40 * MINUTE, "1", "two", "3", "buy")
        before = Trade("okx", "C", None, NOW - 3 * HOUR, "1", "2.0", "3", "buy")
        future = Trade("okx", "D", NOW + DAY, NOW - 40 * MINUTE, "1", "2.0", "3", "buy")
        async with started(tmp_path, [quiet, no_number, before, future]) as here:
            await here.recall.views()
            assert {each.symbol: each.trade for each in here.market.sources() if each.trade} == {"A": quiet, "D": future}
            assert {each.symbol: each.traded for each in here.market.sources() if each.trade} == {
                "A": NOW - 40 * MINUTE,
                "D": NOW - 40 * MINUTE,
            }
            await here.recall.trades()
            assert [here.market.volumes.window("okx", symbol, NOW, 3600) for symbol in "ABCD"] == [6.0, 0.0, 0.0, 6.0]

    async def test_the_reader_dies_meanwhile(self, tmp_path: Path) -> None:
        told = Trade("okx", "A", None, NOW - MINUTE, "1", "2.0", "3", "buy")
        async with started(tmp_path, [told]) as here:
            asking = asyncio.create_task(here.recall.trades())
            await until(lambda: here.reader.pid is not None, "a child")
            assert here.reader.pid is not None
            os.kill(here.reader.pid, signal.SIGKILL)
            await asking
            (source,) = here.market.sources("A")
            assert source.trade == told


def test_an_answer_is_decoded_so_much_at_a_time() -> None:
    rows = [{"type": "gap", "position": at, "reason": "x" * (PORTION * at // 10)} for at in range(8)]
    told = list(portions(msgspec.json.encode({"rows": rows, "cursor": None}), msgspec.json.decode))
    assert [row for portion in told for row in portion] == rows
    assert all(sum(len(msgspec.json.encode(row)) for row in portion[:-1]) < PORTION for portion in told)
    assert [len(portion) for portion in told] == [5, 2, 1]
    assert list(portions(b'{"rows":[]}', msgspec.json.decode)) == []


async def asked(reader: Reader, question: Question) -> list[tuple[int, Event]]:
    body = (await reader.ask(question)).body
    return [each for portion in portions(body, placed) for each in portion]


def _random_trade(random: Random) -> Trade:
    """Of this day and the one before, some of them late, most of the last two hours."""
    span = random.choice([3 * MINUTE, 2 * HOUR, 2 * HOUR, 30 * HOUR])
    received = NOW - random.randrange(span)
    at = received - random.choice([50, SECOND, SECOND, 90 * MINUTE])
    exchange, symbol = random.choice(MARKETS)
    price, amount = f"{random.randrange(90, 110)}.{random.randrange(10)}", f"0.{random.randrange(1, 10**8):08}"
    return Trade(exchange, symbol, at, received, str(received), price, amount, "buy")


def _comparable(candle: Candle) -> tuple[object, ...]:
    """The texts of equal numbers may differ (history.answers)."""
    numbers = tuple(float(each) for each in (candle.open, candle.high, candle.low, candle.close))
    return (*numbers, msgspec.convert(candle.volume, float, strict=False), candle.trades, candle.start, candle.timestamp)
