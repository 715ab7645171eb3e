"""Kraken spot, WebSocket v2: the market data it sends. Numbers are bare and padded to the precision of the pair."""

from __future__ import annotations

import time as clock
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from zlib import crc32

from simulator.feeds import NOTHING, CandleFeed, Feed, Payloads, Window
from simulator.instruments import Instrument, rescaled, signed
from simulator.market import Book, Candle, Change, Market, Step, Trade


def stamp(time: int) -> str:
    """RFC 3339 with microseconds."""
    seconds, micros = divmod(time, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return clock.strftime("%Y-%m-%dT%H:%M:%S", clock.gmtime(seconds))


def checksum(book: Book) -> int:
    """CRC32 over the best ten asks, then the best ten bids: price and quantity as digits without point and leading zeros.

    Ticks and lots at the precision of the pair are those digits."""
    levels = book.levels
    asks = [f"{-key}{levels[key]}" for key in islice(reversed(book.asks), 10)]
    bids = [f"{key}{levels[key]}" for key in islice(reversed(book.bids), 10)]
    return crc32("".join(asks + bids).encode())


class KrakenFeed(Feed, ABC):
    """A channel of one pair."""

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        super().__init__(name, market, period)
        self.price, self.amount = market.instrument.price_text, market.instrument.amount_text

    @abstractmethod
    def snapshot(self, sequence: int, book: Book, time: int) -> str | None:
        """What a new subscriber gets first."""


class Trades(KrakenFeed):
    """All fills of one taker order come in one frame."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._frame("update", step.trades)] if step.trades else NOTHING

    def snapshot(self, sequence: int, book: Book, time: int) -> str:
        return self._frame("snapshot", self.market.recent(50))

    def _frame(self, kind: str, trades: Iterable[Trade]) -> str:
        rows = [
            f'{{"symbol":"{self.market.symbol}","side":"{"buy" if t.buyer else "sell"}","price":{self.price(t.ticks)},'
            f'"qty":{self.amount(t.lots)},"ord_type":"{order_type(t)}","trade_id":{t.id},"timestamp":"{stamp(t.time)}"}}'
            for t in trades
        ]
        return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'


class BookFeed(KrakenFeed):
    """The best `depth` levels a side: a snapshot, then every change. What is pushed out of the window is not told, what
    comes back into it is. No sequence: the checksum of the ten best levels stands for it."""

    kind, notes = "book", True

    def __init__(self, depth: int, name: str, market: Market) -> None:
        super().__init__(name, market)
        self.depth = depth
        self._window = Window(market.book, depth, farewell=False)

    def note(self, step: Step) -> Payloads:
        bids, asks = self._window.changes([key for key, _ in step.changes])
        if not bids and not asks:
            return NOTHING
        return [self._frame("update", bids, asks, checksum(self.market.book), step.time)]

    def snapshot(self, sequence: int, book: Book, time: int) -> str:
        bids, asks = book.top(book.bids, self.depth), book.top(book.asks, self.depth)
        return self._frame("snapshot", bids, asks, checksum(book), time)

    def _frame(self, kind: str, bids: Sequence[Change], asks: Sequence[Change], check: int, time: int) -> str:
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.market.symbol}","bids":[{self._rows(bids)}],'
            f'"asks":[{self._rows(asks)}],"checksum":{check},"timestamp":"{stamp(time)}"}}]}}'
        )

    def _rows(self, levels: Sequence[Change]) -> str:
        price, amount = self.price, self.amount
        latest = dict(levels)  # a price that changed twice in one event is told once
        return ",".join([f'{{"price":{price(abs(key))},"qty":{amount(lots)}}}' for key, lots in latest.items()])


class Ticker(KrakenFeed):
    """After each trade, or with `bbo` after each change of a best price."""

    kind, notes = "ticker", True
    _best = (0, 0)

    def __init__(self, trigger: str, name: str, market: Market) -> None:
        super().__init__(name, market)
        self._trades = trigger == "trades"

    def note(self, step: Step) -> Payloads:
        best = (self.market.book.bids[-1], self.market.book.asks[-1])
        due = bool(step.trades) if self._trades else best != self._best
        self._best = best
        return [self._frame("update", step.time)] if due else NOTHING

    def snapshot(self, sequence: int, book: Book, time: int) -> str:
        return self._frame("snapshot", time)

    def _frame(self, kind: str, time: int) -> str:
        day, book, price, amount = self.market.day, self.market.book, self.price, self.amount
        bid, ask = book.bids[-1], book.asks[-1]
        return (
            f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{self.market.symbol}","bid":{price(bid)},'
            f'"bid_qty":{amount(book.levels[bid])},"ask":{price(-ask)},"ask_qty":{amount(book.levels[ask])},'
            f'"last":{price(day.close)},"volume":{amount(day.volume)},"vwap":{average(self.market.instrument, day)},'
            f'"low":{price(day.low)},"high":{price(day.high)},"change":{signed(price, day.close - day.open)},'
            f'"change_pct":{(day.close - day.open) / day.open * 100:.2f},"timestamp":"{stamp(time)}"}}]}}'
        )


class Ohlc(CandleFeed, KrakenFeed):
    """Candles that have trades. A candle is closed when the next one begins; nothing says so."""

    closes = flat = False

    def __init__(self, minutes: int, name: str, market: Market) -> None:
        KrakenFeed.__init__(self, name, market)
        CandleFeed.__init__(self, name, market, minutes, 1.0)

    def render(self, candle: Candle, closed: bool, time: int) -> str:
        return self._frame("update", [candle])

    def snapshot(self, sequence: int, book: Book, time: int) -> str:
        return self._frame("snapshot", [c for c in self.market.candles(self.minutes, time, 50) if c.trades])

    def _frame(self, kind: str, candles: Iterable[Candle]) -> str:
        price, instrument = self.price, self.market.instrument
        rows = [
            f'{{"symbol":"{self.market.symbol}","interval":{self.minutes},'
            f'"interval_begin":"{_second(c.start // 1_000_000)}.000000000Z","open":{price(c.open)},"high":{price(c.high)},'
            f'"low":{price(c.low)},"close":{price(c.close)},"volume":{self.amount(c.volume)},'
            f'"vwap":{average(instrument, c)},"trades":{c.trades}}}'
            for c in candles
        ]
        return f'{{"channel":"ohlc","type":"{kind}","data":[{",".join(rows)}]}}'


def order_type(trade: Trade) -> str:
    """The taker's order type: mostly market orders, some marketable limit orders."""
    return "limit" if trade.group % 4 == 0 else "market"


def average(instrument: Instrument, candle: Candle) -> str:
    """Volume-weighted average price; 0 at the pair's precision where nothing traded."""
    decimals = instrument.price_decimals
    return rescaled(candle.turnover // candle.volume if candle.volume else 0, decimals, decimals)
