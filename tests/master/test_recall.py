"""What a master knew before a start: known again, where it is still true, and with candles as history tells them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import pytest

from adapters.events import Book, BookDelta, Candle, Event, Gap, Price, Ticker, Trade
from master import recall
from master.history.questions import HOUR, MINUTE, SECOND, Question
from master.history.reader import Reader
from master.live.candles import Candles
from master.live.market import Market
from master.recall import Recall
from master.streams.fanout import Fanout
from master.streams.resume import placed
from tests.master.making import NOON, batch, write_segment

NOW = NOON + 5 * HOUR + 20 * MINUTE + 7 * SECOND
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
    await reader.start()
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
            assert here.candles.since < NOW


class TestTrades:
    async def test_candles_of_every_interval_are_those_of_history(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recall, "PAGE", 100)
        random = Random(7)
        trades = sorted((_random_trade(random) for _ in range(1500)), key=lambda each: each.received)
        parts = [trades[at : at + 50] for at in range(0, len(trades), 50)]
        async with started(tmp_path, *parts[:-1]) as here:
            await here.recall.trades()
            compared = 0
            for exchange, symbol in [*MARKETS, *(("", symbol) for _, symbol in MARKETS[:2])]:
                for interval in ("1m", "15m", "1h", "4h", "1d"):
                    question = Question("candles", exchange or None, symbol, limit=400, interval=interval)
                    for _, expected in placed((await here.reader.ask(question)).body):
                        assert isinstance(expected, Candle)
                        candle = here.candles.candle(interval, expected.start, NOW, symbol, exchange)
                        if candle is None:
                            assert expected.start < (here.candles.since if interval in ("1m", "15m") else NOON - 12 * HOUR)
                            continue
                        compared += 1
                        assert _comparable(candle) == _comparable(expected)
            assert compared > 300
            (source,) = here.market.sources("BTC/USD", "kraken")
            assert source.trade is not None


def _random_trade(random: Random) -> Trade:
    """Of this day and the one before, some of them late, most of the last two hours."""
    span = random.choice([2 * HOUR, 2 * HOUR, 30 * HOUR])
    received = NOW - random.randrange(span)
    at = received - random.choice([50, SECOND, SECOND, 90 * MINUTE])
    exchange, symbol = random.choice(MARKETS)
    price, amount = f"{random.randrange(90, 110)}.{random.randrange(10)}", f"0.{random.randrange(1, 10**8):08}"
    return Trade(exchange, symbol, at, received, str(received), price, amount, "buy")


def _comparable(candle: Candle) -> tuple[object, ...]:
    """The texts of equal numbers may differ (history.answers)."""
    numbers = tuple(float(each) for each in (candle.open, candle.high, candle.low, candle.close))
    return (*numbers, msgspec.convert(candle.volume, float, strict=False), candle.trades, candle.start, candle.timestamp)
