"""Bitget spot, classic (v2) and unified (v3): the market data it sends. Numbers are text, padded to the precision of the
pair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from simulator.feeds import NOTHING, Dirty, Feed, Payloads, Window, interleaved
from simulator.instruments import Instrument, rescaled
from simulator.market import Book, Change, Market, Step, Trade

TRADE_IDS = 1_235_000_000_000_000_000
SEQUENCES = 1_304_000_000_000_000_000  # far above 2**53: a float cannot hold it
CHECKED = 25  # levels a side under the checksum


def native(instrument: Instrument) -> str:
    return f"{instrument.base}{instrument.quote}"


def trade_id(trade: Trade) -> int:
    return TRADE_IDS + trade.id


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f'["{price(abs(key))}","{amount(lots) if lots else 0}"]' for key, lots in levels])


def checksum(instrument: Instrument, book: Book) -> int:
    price, amount = instrument.price_text, instrument.amount_text
    bids, asks = (
        [f"{price(ticks)}:{amount(lots)}" for ticks, lots in book.top(side, CHECKED)] for side in (book.bids, book.asks)
    )
    return interleaved(bids, asks)


def day(market: Market) -> dict[str, str]:
    """Prices, volumes and best levels, under the classic names."""
    day, book, instrument = market.day, market.book, market.instrument
    price, amount = instrument.price_text, instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    return {
        "lastPr": price(day.close),
        "open24h": price(day.open),
        "high24h": price(day.high),
        "low24h": price(day.low),
        "change24h": f"{(day.close - day.open) / day.open:.5f}",
        "bidPr": price(bid),
        "askPr": price(-ask),
        "bidSz": amount(book.levels[bid]),
        "askSz": amount(book.levels[ask]),
        "baseVolume": amount(day.volume),
        "quoteVolume": rescaled(day.turnover, instrument.price_decimals + instrument.amount_decimals, 6),
        "openUtc": price(day.open),
        "changeUtc24h": f"{(day.close - day.open) / day.open:.5f}",
    }


UNIFIED_NAMES = {
    "bid1Price": "bidPr",
    "lowPrice24h": "low24h",
    "ask1Size": "askSz",
    "volume24h": "baseVolume",
    "price24hPcnt": "change24h",
    "highPrice24h": "high24h",
    "turnover24h": "quoteVolume",
    "bid1Size": "bidSz",
    "ask1Price": "askPr",
    "openPrice24h": "open24h",
    "lastPrice": "lastPr",
}
"""The fields of a unified ticker, in order, and what the classic one calls them."""


def classic_ticker(market: Market, time: int) -> dict[str, str]:
    return {"instId": native(market.instrument), **day(market), "ts": str(time // 1000)}


def unified_ticker(market: Market, time: int) -> dict[str, str]:
    fields = day(market)
    return {name: fields[classic] for name, classic in UNIFIED_NAMES.items()}


def classic_trade(trade: Trade, price: str, size: str) -> str:
    side = "buy" if trade.buyer else "sell"
    return f'{{"ts":"{trade.time // 1000}","price":"{price}","size":"{size}","side":"{side}","tradeId":"{trade_id(trade)}"}}'


def unified_trade(trade: Trade, price: str, size: str) -> str:
    """`L` is an id of another kind."""
    return (
        f'{{"p":"{price}","S":"{"buy" if trade.buyer else "sell"}","T":"{trade.time // 1000}","v":"{size}",'
        f'"i":"{trade_id(trade)}","L":"{TRADE_IDS + trade.group}","isRPI":"no"}}'
    )


@dataclass(frozen=True, slots=True)
class Version:
    """What the two protocols call things: the market types, the fields of an arg, the sides of a book; their trades and
    tickers."""

    spot: str
    others: tuple[str, ...]
    channel: str
    symbol: str
    asks: str
    bids: str
    trade: Callable[[Trade, str, str], str]
    ticker: Callable[[Market, int], dict[str, str]]


FUTURES = ("usdt-futures", "usdc-futures", "coin-futures")
CLASSIC = Version(
    "SPOT", tuple(map(str.upper, FUTURES)), "channel", "instId", "asks", "bids", classic_trade, classic_ticker
)  # fmt: skip
UNIFIED = Version("spot", FUTURES, "topic", "symbol", "a", "b", unified_trade, unified_ticker)


class BitgetFeed(Feed, ABC):
    """A channel of one symbol."""

    def __init__(self, version: Version, channel: str, market: Market, period: float = 0.0) -> None:
        super().__init__(channel, market, period)
        self.instrument = market.instrument
        self.version = version
        self._arg = (
            f'{{"instType":"{version.spot}","{version.channel}":"{channel}","{version.symbol}":"{native(market.instrument)}"}}'
        )

    @abstractmethod
    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        """What a new subscriber gets at once."""

    def frame(self, action: str, data: str, time: int) -> str:
        return f'{{"action":"{action}","arg":{self._arg},"data":[{data}],"ts":{time // 1000}}}'

    def sides(self, bids: Sequence[Change], asks: Sequence[Change]) -> str:
        version, instrument = self.version, self.instrument
        return f'"{version.asks}":[{rows(instrument, asks)}],"{version.bids}":[{rows(instrument, bids)}]'


class Trades(BitgetFeed):
    """The last fifty as a snapshot, then one update a taker order; newest first."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._frame("update", step.trades, step.time)] if step.trades else NOTHING

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        return [self._frame("snapshot", self.market.recent(50), time)]

    def _frame(self, action: str, trades: Sequence[Trade], time: int) -> str:
        price, amount, trade = self.instrument.price_text, self.instrument.amount_text, self.version.trade
        return self.frame(action, ",".join([trade(t, price(t.ticks), amount(t.lots)) for t in reversed(trades)]), time)


class Books(BitgetFeed):
    """`depth` levels a side: a snapshot, then what changed, chained by pseq. Updates have a checksum, snapshots a zero."""

    kind, notes = "book", True

    def __init__(self, version: Version, depth: int, period: float, channel: str, market: Market) -> None:
        super().__init__(version, channel, market, period)
        self._depth = depth
        self._window = Window(market.book, depth, farewell=True)
        self._dirty = Dirty(market.sequence)
        self._sequence = market.sequence

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        bids, asks = self._window.changes(sorted(self._dirty.keys, reverse=True))
        self._dirty.clear()
        if not bids and not asks:
            return NOTHING
        before, self._sequence = SEQUENCES + self._sequence, self.market.sequence
        check = checksum(self.instrument, self.market.book)
        return [self._frame("update", bids, asks, check, SEQUENCES + self._sequence, before, time)]

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        """The present book goes under the number that the next update will name."""
        shown = SEQUENCES + (self._sequence if sequence == self.market.sequence else sequence)
        bids, asks = book.top(book.bids, self._depth), book.top(book.asks, self._depth)
        return [self._frame("snapshot", bids, asks, 0, shown, 0, time)]

    def _frame(
        self, action: str, bids: Sequence[Change], asks: Sequence[Change], check: int, seq: int, before: int, time: int
    ) -> str:
        numbers = f'"checksum":{check},"seq":{seq},"pseq":{before},"ts":"{time // 1000}"'
        return self.frame(action, f"{{{self.sides(bids, asks)},{numbers}}}", time)


class Top(BitgetFeed):
    """The best levels as a whole, when they have changed."""

    kind = "view"

    def __init__(self, version: Version, depth: int, channel: str, market: Market) -> None:
        super().__init__(version, channel, market, 0.1 if depth > 1 else 0.02)
        self._depth = depth
        self._shown = ""

    def flush(self, time: int) -> Payloads:
        return self.first(self.market.sequence, self.market.book, time) if self._sides() != self._shown else NOTHING

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        self._shown = self._sides()
        numbers = '"checksum":0' if self.version is CLASSIC else f'"pseq":0,"seq":{SEQUENCES + sequence}'
        return [self.frame("snapshot", f'{{{self._shown},{numbers},"ts":"{time // 1000}"}}', time)]

    def _sides(self) -> str:
        book = self.market.book
        return self.sides(book.top(book.bids, self._depth), book.top(book.asks, self._depth))


class Tickers(BitgetFeed):
    """The ticker, when anything has changed; always a snapshot."""

    kind = "ticker"

    def __init__(self, version: Version, channel: str, market: Market) -> None:
        super().__init__(version, channel, market, 0.2)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return self.first(self._shown, self.market.book, time)

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        data = ",".join([f'"{key}":"{value}"' for key, value in self.version.ticker(self.market, time).items()])
        return [self.frame("snapshot", f"{{{data}}}", time)]


CHANNELS: Mapping[Version, Mapping[str, Callable[[str, Market], BitgetFeed]]] = {
    CLASSIC: {
        "trade": partial(Trades, CLASSIC),
        "books": partial(Books, CLASSIC, 500, 0.1),
        "ticker": partial(Tickers, CLASSIC),
        **{f"books{depth}": partial(Top, CLASSIC, depth) for depth in (1, 5, 15)},
    },
    UNIFIED: {
        "publicTrade": partial(Trades, UNIFIED),
        "books": partial(Books, UNIFIED, 1000, 0.05),
        "ticker": partial(Tickers, UNIFIED),
        **{f"books{depth}": partial(Top, UNIFIED, depth) for depth in (1, 5, 50)},
    },
}
