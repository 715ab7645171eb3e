"""Bitrue spot: the market data it sends, JSON in gzip. Books and klines are whole, trades and tickers bare numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from gzip import compress
from time import gmtime, strftime
from types import MappingProxyType

from simulator.feeds import NOTHING, CandleFeed, Feed, Payloads
from simulator.instruments import Instrument, rescaled, shortest
from simulator.market import Candle, Market, Step, Trade

INTERVALS = {
    "1min": 1, "5min": 5, "15min": 15, "30min": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720,
    "1d": 1440,
}  # fmt: skip
DEPTH = 40  # levels a side
WIDE = 32  # decimals of an amount in an answer (recorded)


def native(instrument: Instrument) -> str:
    """The name in channels; REST has it in upper case."""
    return f"{instrument.base}{instrument.quote}".lower()


def pack(text: str) -> bytes:
    """Every frame is one member of gzip."""
    return compress(text.encode(), mtime=0)


def local(time: int) -> str:
    """A time of day in UTC+8."""
    return strftime("%Y-%m-%d %H:%M:%S", gmtime(time // 1_000_000 + 8 * 3600))


def trade_rows(instrument: Instrument, trades: Sequence[Trade], shown: int) -> str:
    """Newest first; `vol` is the size, `amount` what was paid, with `shown` decimals."""
    price, amount, decimals = instrument.price_text, instrument.amount_text, _decimals(instrument)
    return ",".join(
        [
            f'{{"id":{t.id},"price":{price(t.ticks)},"amount":{rescaled(t.ticks * t.lots, decimals, shown)},'
            f'"side":"{"BUY" if t.buyer else "SELL"}","vol":{amount(t.lots)},"ts":{t.time // 1000},"ds":"{local(t.time)}"}}'
            for t in reversed(trades)
        ]
    )


def _decimals(instrument: Instrument) -> int:
    return instrument.price_decimals + instrument.amount_decimals


class BitrueFeed(Feed):
    """A channel of one pair."""

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        super().__init__(name, market, period)
        self.instrument = market.instrument

    def first(self, time: int) -> Payloads:
        """What a new subscriber gets at once."""
        return NOTHING

    def frame(self, tick: str, time: int) -> bytes:
        return pack(f'{{"channel":"{self.name}","ts":{time // 1000},"tick":{tick}}}')


class Whole(BitrueFeed, ABC):
    """A channel that is told as a whole when anything has changed, and at once to whoever comes."""

    def __init__(self, name: str, market: Market, period: float) -> None:
        super().__init__(name, market, period)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return self.first(time)

    def first(self, time: int) -> Payloads:
        return [self.frame(self.tick(), time)]

    @abstractmethod
    def tick(self) -> str:
        """What the feed says now."""


class Trades(BitrueFeed):
    """All fills of one taker order in one frame."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        if not step.trades:
            return NOTHING
        rows = trade_rows(self.instrument, step.trades, _decimals(self.instrument))
        return [self.frame(f'{{"data":[{rows}]}}', step.time)]


class Depth(Whole):
    """The best levels, each 500 ms; sizes are bare numbers."""

    kind = "view"

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 0.5)

    def tick(self) -> str:
        book = self.market.book
        return f'{{"buys":[{self._rows(book.bids)}],"asks":[{self._rows(book.asks)}]}}'

    def _rows(self, side: list[int]) -> str:
        price = self.instrument.price_text
        return ",".join([f'["{price(ticks)}",{self.size(lots)}]' for ticks, lots in self.market.book.top(side, DEPTH)])

    def size(self, lots: int) -> str:
        return shortest(lots, self.instrument.amount_decimals)


class SimpleDepth(Depth):
    """The same where sizes are text, in another order of keys."""

    def size(self, lots: int) -> str:
        return f'"{self.instrument.amount_text(lots)}"'

    def frame(self, tick: str, time: int) -> bytes:
        return pack(f'{{"ts":{time // 1000},"channel":"{self.name}","tick":{tick}}}')


class Ticker(Whole):
    """The day, each second."""

    kind = "ticker"

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 1.0)

    def tick(self) -> str:
        day, price, i = self.market.day, self.instrument.price_text, self.instrument
        return (
            f'{{"amount":{shortest(day.turnover, _decimals(i))},"rose":{(day.close - day.open) / day.open:.4f},'
            f'"close":{price(day.close)},"vol":{i.amount_text(day.volume)},"high":{price(day.high)},'
            f'"low":{price(day.low)},"open":{price(day.open)}}}'
        )

    def frame(self, tick: str, time: int) -> bytes:
        return pack(f'{{"tick":{tick},"channel":"{self.name}","ts":{time // 1000}}}')


class TickerAmongTrades(Ticker):
    """The day on the channel of the trades, without a time (recorded)."""

    def first(self, time: int) -> Payloads:
        return NOTHING

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [pack(f'{{"channel":"{self.name}","tick":{self.tick()}}}')]


class Kline(CandleFeed, BitrueFeed):
    """Candles that have trades; nothing says that one is closed."""

    closes = flat = False

    def __init__(self, interval: str, name: str, market: Market) -> None:
        BitrueFeed.__init__(self, name, market)
        CandleFeed.__init__(self, name, market, INTERVALS[interval], 1.0)

    def render(self, candle: Candle, closed: bool, time: int) -> bytes:
        price, i = self.instrument.price_text, self.instrument
        tick = (
            f'{{"amount":{shortest(candle.turnover, _decimals(i))},"close":{price(candle.close)},'
            f'"vol":{i.amount_text(candle.volume)},"high":{price(candle.high)},"low":{price(candle.low)},'
            f'"open":{price(candle.open)},"id":{candle.start // 1_000_000}}}'
        )
        return self.frame(tick, time)


Make = Callable[[str, Market], BitrueFeed]
SOCKETS: Mapping[str, Mapping[str, tuple[Make, ...]]] = MappingProxyType(
    {
        "/market/ws": {"simple_depth_step0": (SimpleDepth,)},
        "/kline-api/ws": {
            "trade_ticker": (Trades, TickerAmongTrades),
            "depth_step0": (Depth,),
            "ticker": (Ticker,),
            **{f"kline_{interval}": (partial(Kline, interval),) for interval in INTERVALS},
        },
    }
)
"""What may follow `market_<symbol>_` on each of the two sockets, and what it is made of."""
