"""Crypto.com Exchange v1: the market data it sends. Numbers are text, times and sequences are bare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar
from zlib import crc32

from simulator.feeds import NOTHING, CandleFeed, Dirty, Feed, Payloads, Window
from simulator.instruments import Instrument, rescaled, shortest
from simulator.market import Book, Candle, Change, Market, Step, Trade

INTERVALS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "12h": 720, "1D": 1440}
TRADE_IDS = 1_782_000_000_000_000_000
MATCH_IDS = 4_611_686_018_000_000_000
RECENT = 100  # trades of the first frame
QUIET = 5.0  # seconds after which a book that does not change is told without rows


def native(instrument: Instrument) -> str:
    return f"{instrument.base}_{instrument.quote}"


def trade_id(trade: Trade) -> int:
    """Rising, not consecutive, above 2**53."""
    return TRADE_IDS + trade.sequence


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    """Levels as [price, size, orders]; a removed level has neither size nor orders."""
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f'["{price(abs(k))}","{amount(n) if n else 0}","{1 + n % 3 if n else 0}"]' for k, n in levels])


class CryptocomFeed(Feed, ABC):
    """A channel of one instrument."""

    channel: ClassVar[str]
    option = ""  # a field between the channel and the data

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        super().__init__(name, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)

    @abstractmethod
    def first(self, sequence: int, book: Book, time: int) -> str | None:
        """The data that a new subscriber gets at once."""

    def frame(self, data: str, identity: object = -1, channel: str = "") -> str:
        """The envelope; the first data of a subscription may carry the id of its request."""
        return (
            f'{{"id":{identity},"method":"subscribe","code":0,"result":{{"instrument_name":"{self.native}",'
            f'"subscription":"{self.name}","channel":"{channel or self.channel}",{self.option}"data":[{data}]}}}}'
        )


class Trades(CryptocomFeed):
    """All fills of one taker order in one frame, newest first; a subscriber first gets the recent ones."""

    kind, notes, channel = "trade", True, "trade"

    def note(self, step: Step) -> Payloads:
        return [self.frame(self._rows(step.trades))] if step.trades else NOTHING

    def first(self, sequence: int, book: Book, time: int) -> str | None:
        recent = self.market.recent(RECENT)
        return self._rows(recent) if recent else None

    def _rows(self, trades: Sequence[Trade]) -> str:
        price, amount = self.instrument.price_text, self.instrument.amount_text
        return ",".join(
            [
                f'{{"d":"{trade_id(t)}","t":{t.time // 1000},"p":"{price(t.ticks)}","q":"{amount(t.lots)}",'
                f'"s":"{"BUY" if t.buyer else "SELL"}","i":"{self.native}","m":"{MATCH_IDS + t.group}"}}'
                for t in reversed(trades)
            ]
        )


class BookFeed(CryptocomFeed):
    """What both forms of a book share."""

    channel = "book"

    def __init__(self, depth: int, name: str, market: Market, period: float) -> None:
        super().__init__(name, market, period)
        self.depth = depth
        self.option = f'"depth":{depth},'
        self._changed = 0

    def sides(self, bids: Sequence[Change], asks: Sequence[Change]) -> str:
        return f'"asks":[{rows(self.instrument, asks)}],"bids":[{rows(self.instrument, bids)}]'

    def times(self, time: int, sequence: int) -> str:
        """When it was published, when it last changed, and its number."""
        return f'"t":{time // 1000},"tt":{(self._changed or time) // 1000},"u":{sequence}'

    def whole(self, sequence: int, book: Book, time: int) -> str:
        bids, asks = book.top(book.bids, self.depth), book.top(book.asks, self.depth)
        return f'{{{self.sides(bids, asks)},{self.times(time, sequence)},"cs":{checksum(sequence)}}}'


class Deltas(BookFeed):
    """A snapshot, then what changed in 10 or 100 ms, chained by pu. Who leaves the window is deleted; a book that does not
    change is told so each 5 seconds (section 7)."""

    kind, notes = "book", True

    def __init__(self, depth: int, period: float, name: str, market: Market) -> None:
        super().__init__(depth, name, market, period)
        self._window = Window(market.book, depth, farewell=True)
        self._dirty = Dirty(market.sequence)
        self._sequence = market.sequence
        self._patience = QUIET / period  # in periods, which time runs through faster where it is scaled
        self._sent = 0

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        self._changed = step.time
        return NOTHING

    def flush(self, time: int) -> Payloads:
        self._sent = self._sent or time
        bids, asks = self._window.changes(sorted(self._dirty.keys, reverse=True))
        self._dirty.clear()
        if not bids and not asks and time - self._sent < self._patience * self.period * 1e6:
            return NOTHING
        before, self._sent = self._sequence, time
        if bids or asks:
            self._sequence = self.market.sequence
        numbers = f'{self.times(time, self._sequence)},"pu":{before},"cs":{checksum(self._sequence)}'
        return [self.frame(f'{{"update":{{{self.sides(bids, asks)}}},{numbers}}}', channel="book.update")]

    def first(self, sequence: int, book: Book, time: int) -> str | None:
        """The present book goes under the number that the next delta will name."""
        return self.whole(self._sequence if sequence == self.market.sequence else sequence, book, time)


class Snapshots(BookFeed):
    """The whole book each 500 ms, when it has changed."""

    kind = "view"

    def __init__(self, depth: int, name: str, market: Market) -> None:
        super().__init__(depth, name, market, 0.5)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [self.frame(self.whole(self._shown, self.market.book, time))]

    def first(self, sequence: int, book: Book, time: int) -> str | None:
        return self.whole(sequence, book, time)


class Ticker(CryptocomFeed):
    """The day and the best prices, within 100 ms of a change."""

    kind, channel = "ticker", "ticker"

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 0.1)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [self.frame(ticker(self.market, time))]

    def first(self, sequence: int, book: Book, time: int) -> str | None:
        return ticker(self.market, time)


class Candlestick(CandleFeed, CryptocomFeed):
    """Candles that have trades; nothing says that one is closed. The first frame is history."""

    channel = "candlestick"
    closes = flat = False

    def __init__(self, interval: str, name: str, market: Market) -> None:
        CryptocomFeed.__init__(self, name, market)
        CandleFeed.__init__(self, name, market, INTERVALS[interval], 1.0)
        self.option = f'"interval":"{interval}",'

    def render(self, candle: Candle, closed: bool, time: int) -> str:
        return self.frame(self._rows([candle], time))

    def first(self, sequence: int, book: Book, time: int) -> str | None:
        return self._rows(self.market.candles(self.minutes, time, 300), time)

    def _rows(self, candles: Iterable[Candle], time: int) -> str:
        return ",".join([f'{{{candle_fields(self.instrument, c)},"ut":{time // 1000}}}' for c in candles])


def book_feed(depth: int, frequency: int | None) -> Callable[[str, Market], CryptocomFeed]:
    """What makes a book: deltas each `frequency` ms, or whole books."""
    return partial(Deltas, depth, frequency / 1000) if frequency else partial(Snapshots, depth)


def checksum(sequence: int) -> int:
    """A signed number of 32 bits. The venue's algorithm is unknown (section 7): this one only looks like it."""
    return (crc32(b"%d" % sequence) ^ 0x80000000) - 0x80000000


def ticker(market: Market, time: int) -> str:
    """The row of the channel and of REST."""
    i, day, book = market.instrument, market.day, market.book
    price, amount = i.price_text, i.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    volume = shortest(day.volume, i.amount_decimals)
    turnover = rescaled(day.turnover, i.price_decimals + i.amount_decimals, 2)
    return (
        f'{{"h":"{price(day.high)}","l":"{price(day.low)}","a":"{price(day.close)}",'
        f'"c":"{(day.close - day.open) / day.open:.4f}","b":"{price(bid)}","bs":"{amount(book.levels[bid])}",'
        f'"k":"{price(-ask)}","ks":"{amount(book.levels[ask])}","i":"{native(i)}","v":"{volume}","vv":"{turnover}",'
        f'"oi":"0","t":{time // 1000}}}'
    )


def candle_fields(instrument: Instrument, candle: Candle) -> str:
    price, amount = instrument.price_text, instrument.amount_text
    prices = zip("ohlc", (candle.open, candle.high, candle.low, candle.close), strict=True)
    texts = ",".join([f'"{key}":"{price(ticks)}"' for key, ticks in prices])
    return f'{texts},"v":"{amount(candle.volume)}","t":{candle.start // 1000}'
