"""MEXC spot v3: the market data it sends, protobuf in binary frames. Field numbers are those of the sheet's section 6."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar
from zlib import crc32

from simulator.feeds import NOTHING, CandleFeed, Dirty, Feed, Payloads
from simulator.instruments import Instrument, shortest
from simulator.market import Book, Candle, Change, Market, Step, Trade
from simulator.protobuf import integer, message, text

INTERVALS = {"Min1": 1, "Min5": 5, "Min15": 15, "Min30": 30, "Min60": 60, "Hour4": 240, "Hour8": 480, "Day1": 1440}
TRADE_IDS = 731_000_000_000_000_000


def native(instrument: Instrument) -> str:
    return instrument.base + instrument.quote


def trade_id(trade: Trade) -> int:
    """The first of the two numbers that make the id of a deal: rising, and not consecutive."""
    return TRADE_IDS + 2 * trade.sequence


class MexcFeed(Feed):
    """A channel of one symbol."""

    body: ClassVar[int]
    """Number of the wrapper's field that holds the data."""

    def __init__(self, name: str, market: Market, period: float) -> None:
        super().__init__(name, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)
        self.event = name.partition(f"@{self.native}")[0]
        self._head = text(1, name) + text(3, self.native)

    def frame(self, time: int, *parts: bytes) -> bytes:
        """The wrapper, with the time of sending."""
        return self._head + integer(6, time // 1000) + message(self.body, *parts)

    def price(self, ticks: int) -> str:
        """Prices of deals and best prices are trimmed, those of books are not (recorded)."""
        return shortest(ticks, self.instrument.price_decimals, self.instrument.price_decimals)

    def amount(self, lots: int) -> str:
        return shortest(lots, self.instrument.amount_decimals, self.instrument.amount_decimals)

    def levels(self, field: int, levels: Sequence[Change]) -> bytes:
        price, amount = self.instrument.price_text, self.instrument.amount_text
        return b"".join([message(field, text(1, price(ticks)), text(2, amount(lots))) for ticks, lots in levels])


class Deals(MexcFeed):
    """All matches of 10 or 100 ms."""

    kind, notes, body = "trade", True, 314

    def __init__(self, name: str, market: Market, period: float) -> None:
        super().__init__(name, market, period)
        self._trades: list[Trade] = []

    def note(self, step: Step) -> Payloads:
        self._trades += step.trades
        return NOTHING

    def flush(self, time: int) -> Payloads:
        if not self._trades:
            return NOTHING
        deals = b"".join([message(1, self._deal(trade)) for trade in self._trades])
        self._trades.clear()
        return [self.frame(time, deals, text(2, self.event))]

    def _deal(self, trade: Trade) -> bytes:
        side, first = 1 if trade.buyer else 2, trade_id(trade)
        price, amount = text(1, self.price(trade.ticks)), text(2, self.amount(trade.lots))
        return price + amount + integer(3, side) + integer(4, trade.time // 1000) + text(5, f"{first}X0_{first + 1}X0")


class Depth(MexcFeed):
    """Levels changed within 10 or 100 ms, with the range of versions they cover."""

    kind, notes, body = "book", True, 313

    def __init__(self, name: str, market: Market, period: float) -> None:
        super().__init__(name, market, period)
        self._dirty = Dirty(market.sequence)
        self._changed = 0

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        self._changed = step.time // 1000
        return NOTHING

    def flush(self, time: int) -> Payloads:
        dirty = self._dirty
        if not dirty.keys:
            return NOTHING
        keys = sorted(dirty.keys, reverse=True)  # bids fall, then asks rise
        asks = self.levels(1, [(-key, dirty.keys[key]) for key in keys if key < 0])
        bids = self.levels(2, [(key, dirty.keys[key]) for key in keys if key > 0])
        versions = text(4, str(dirty.first)) + text(5, str(dirty.last))
        dirty.clear()
        return [self.frame(time, asks, bids, text(3, self.event), versions, integer(6, self._changed))]


class LimitDepth(MexcFeed):
    """The best 5, 10 or 20 levels as a whole, when anything has changed."""

    kind, body = "view", 303

    def __init__(self, depth: int, name: str, market: Market) -> None:
        super().__init__(name, market, 0.1)
        self._depth = depth
        self._shown = 0

    def flush(self, time: int) -> Payloads:
        market, book = self.market, self.market.book
        if market.sequence == self._shown:
            return NOTHING
        self._shown = market.sequence
        asks, bids = (self.levels(f, book.top(side, self._depth)) for f, side in ((1, book.asks), (2, book.bids)))
        return [self.frame(time, asks, bids, text(3, self.event), text(4, str(market.sequence)), integer(5, time // 1000))]


class BookTicker(MexcFeed):
    """The best prices, when either has changed in price or size."""

    kind, body = "view", 315
    _best: tuple[int, ...] = ()

    def flush(self, time: int) -> Payloads:
        best = _best(self.market.book)
        if best == self._best:
            return NOTHING
        self._best = best
        bid, bid_lots, ask, ask_lots = best
        bids = text(1, self.price(bid)) + text(2, self.amount(bid_lots))
        asks = text(3, self.price(ask)) + text(4, self.amount(ask_lots))
        return [self.frame(time, bids, asks, text(5, str(self.market.sequence)), integer(6, time // 1000))]


class MiniTicker(MexcFeed):
    """The day, each second when anything has changed. Field 7 is the turnover, field 8 the volume."""

    kind, body = "ticker", 309
    _shown = 0

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 1.0)

    def flush(self, time: int) -> Payloads:
        market, i = self.market, self.instrument
        if market.sequence == self._shown:
            return NOTHING
        self._shown = market.sequence
        day = market.day
        rate = f"{(day.close - day.open) / day.open:.4f}"
        turnover = shortest(day.turnover, i.price_decimals + i.amount_decimals)
        last, high, low = (self.price(ticks) for ticks in (day.close, day.high, day.low))
        values = (self.native, last, rate, rate, high, low, turnover, self.amount(day.volume), rate, rate, high, low)
        return [self.frame(time, *(text(field, value) for field, value in enumerate(values, 1)))]


class Kline(CandleFeed, MexcFeed):
    """Candles that have trades; nothing says that one is closed. The wrapper has no time of sending (recorded)."""

    body = 308
    closes = flat = False

    def __init__(self, interval: str, name: str, market: Market) -> None:
        MexcFeed.__init__(self, name, market, 1.0)
        CandleFeed.__init__(self, name, market, INTERVALS[interval], 1.0)
        self._interval = interval
        self._head += text(4, f"{crc32(self.native.encode()):032x}")  # symbolId

    def render(self, candle: Candle, closed: bool, time: int) -> bytes:
        start = candle.start // 1_000_000
        turnover = shortest(candle.turnover, self.instrument.price_decimals + self.instrument.amount_decimals)
        prices = [self.price(ticks) for ticks in (candle.open, candle.close, candle.high, candle.low)]
        texts = [text(field, value) for field, value in enumerate((*prices, self.amount(candle.volume), turnover), 3)]
        kline = text(1, self._interval) + integer(2, start) + b"".join(texts) + integer(9, start + self.minutes * 60)
        return self._head + integer(5, time // 1000) + message(self.body, kline)


def _best(book: Book) -> tuple[int, ...]:
    bid, ask = book.bids[-1], book.asks[-1]
    return bid, book.levels[bid], -ask, book.levels[ask]


SPEEDS = {"100ms": 0.1, "10ms": 0.01}
AGGREGATED: dict[str, type[MexcFeed]] = {
    "public.aggre.deals.v3.api.pb": Deals,
    "public.aggre.depth.v3.api.pb": Depth,
    "public.aggre.bookTicker.v3.api.pb": BookTicker,
}


def channel(name: str) -> tuple[str, Callable[[str, Market], MexcFeed]] | None:
    """The symbol of a channel and what makes its feed; None for a channel that does not exist (any more)."""
    match name.split("@"):
        case ["spot", kind, speed, symbol] if kind in AGGREGATED and speed in SPEEDS:
            return symbol, partial(AGGREGATED[kind], period=SPEEDS[speed])
        case ["spot", "public.limit.depth.v3.api.pb", symbol, "5" | "10" | "20" as depth]:
            return symbol, partial(LimitDepth, int(depth))
        case ["spot", "public.kline.v3.api.pb", symbol, interval] if interval in INTERVALS:
            return symbol, partial(Kline, interval)
        case ["spot", "public.miniTicker.v3.api.pb", symbol, zone] if zone.startswith("UTC"):
            return symbol, MiniTicker
    return None
