"""Coinbase: the market data of its two feeds, Exchange and Advanced Trade, over one matching engine.

A trade's `side` is the maker's in both feeds, a ticker's `side` the taker's (sheet, section 6). Exchange pads the numbers of
its books and keeps six digits of a second; everything else is trimmed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from uuid import UUID

from simulator.feeds import NOTHING, CandleFeed, Dirty, Feed, Payloads
from simulator.instruments import Instrument, rescaled, shortest, trimmed
from simulator.market import Book, Candle, Change, Market, Step, Trade

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00.000000Z"  # the time of some level2 updates (section 10)
RECENT = 100  # trades and candles of a snapshot
BATCH = 5.0  # seconds between two frames of ticker_batch


def native(instrument: Instrument) -> str:
    return f"{instrument.base}-{instrument.quote}"


def stamp(time: int) -> str:
    """RFC 3339, always six digits: Exchange."""
    return f"{EPOCH + timedelta(microseconds=time):%Y-%m-%dT%H:%M:%S.%f}Z"


def short(time: int, nanos: str = "") -> str:
    """RFC 3339 without the zeros at the end: Advanced Trade."""
    return (stamp(time)[:-1] + nanos).rstrip("0").rstrip(".") + "Z"


def maker(trade: Trade) -> str:
    return "sell" if trade.buyer else "buy"


class CoinbaseFeed(Feed):
    """A channel of one product."""

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        super().__init__(name, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)
        self.price, self.amount = trimmed(self.instrument.price_decimals), trimmed(self.instrument.amount_decimals)

    def first(self, time: int) -> Payloads:
        """What a new subscriber gets at once."""
        return NOTHING


# ------------------------------------------------------------------- Exchange


class Matches(CoinbaseFeed):
    """One frame a match, ids without a hole. A subscriber first gets the last one, however old."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._frame("match", trade) for trade in step.trades]

    def first(self, time: int) -> Payloads:
        return [self._frame("last_match", trade) for trade in self.market.recent(1)]

    def _frame(self, kind: str, t: Trade) -> str:
        return (
            f'{{"type":"{kind}","trade_id":{t.id},"maker_order_id":"{UUID(int=t.id)}","taker_order_id":"{UUID(int=t.time)}",'
            f'"side":"{maker(t)}","size":"{self.amount(t.lots)}","price":"{self.price(t.ticks)}",'
            f'"product_id":"{self.native}","sequence":{t.sequence},"time":"{stamp(t.time)}"}}'
        )


class Heartbeat(CoinbaseFeed):
    """Each second, whatever happens: the last trade id shows what was missed."""

    kind = "ticker"

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 1.0)

    def flush(self, time: int) -> Payloads:
        return [
            f'{{"type":"heartbeat","sequence":{self.market.sequence},"last_trade_id":{self.market.day.last},'
            f'"product_id":"{self.native}","time":"{stamp(time)}"}}'
        ]


class Ticker(CoinbaseFeed):
    """After each taker order that traded, or every `period` seconds in which one did. Best prices change in between unsaid."""

    kind, notes = "ticker", True

    def __init__(self, period: float, name: str, market: Market) -> None:
        super().__init__(name, market, period)
        self._shown = market.day.last

    def note(self, step: Step) -> Payloads:
        return self.first(step.time) if step.trades and not self.period else NOTHING

    def flush(self, time: int) -> Payloads:
        if self.market.day.last == self._shown:
            return NOTHING
        self._shown = self.market.day.last
        return self.first(time)

    def first(self, time: int) -> Payloads:
        return [self._frame(trade) for trade in self.market.recent(1)]

    def _frame(self, t: Trade) -> str:
        market, day, book, price, amount = self.market, self.market.day, self.market.book, self.price, self.amount
        padded, size = market.instrument.price_text, market.instrument.amount_text
        bid, ask = book.bids[-1], book.asks[-1]
        volume = rescaled(day.volume, market.instrument.amount_decimals, 8)
        return (
            f'{{"type":"ticker","sequence":{t.sequence},"product_id":"{self.native}","price":"{price(t.ticks)}",'
            f'"open_24h":"{price(day.open)}","volume_24h":"{volume}","low_24h":"{price(day.low)}",'
            f'"high_24h":"{price(day.high)}","volume_30d":"{volume}","best_bid":"{padded(bid)}",'
            f'"best_bid_size":"{size(book.levels[bid])}","best_ask":"{padded(-ask)}",'
            f'"best_ask_size":"{size(book.levels[ask])}","side":"{"buy" if t.buyer else "sell"}","time":"{stamp(t.time)}",'
            f'"trade_id":{t.id},"last_size":"{amount(t.lots)}"}}'
        )


class Level2Batch(CoinbaseFeed):
    """The whole book, then what changed in 50 ms. Neither sequence nor checksum; a deletion is as padded as a size."""

    kind, notes = "book", True

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 0.05)
        self._dirty = Dirty(market.sequence)

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        if not self._dirty.keys:
            return NOTHING
        price, amount, levels = self.instrument.price_text, self.instrument.amount_text, self.market.book.levels
        rows = [
            f'["{"buy" if key > 0 else "sell"}","{price(abs(key))}","{amount(levels.get(key, 0))}"]' for key in self._dirty.keys
        ]
        self._dirty.clear()
        shown = NEVER if self.market.sequence % 256 == 0 else stamp(time)
        return [f'{{"type":"l2update","product_id":"{self.native}","changes":[{",".join(rows)}],"time":"{shown}"}}']

    def first(self, time: int) -> Payloads:
        book = self.market.book
        asks, bids = self._rows(book, book.asks), self._rows(book, book.bids)
        return [f'{{"type":"snapshot","product_id":"{self.native}","asks":[{asks}],"bids":[{bids}]}}']

    def _rows(self, book: Book, side: list[int]) -> str:
        price, amount = self.instrument.price_text, self.instrument.amount_text
        return ",".join([f'["{price(ticks)}","{amount(lots)}"]' for ticks, lots in book.top(side, len(side))])


# ------------------------------------------------------------- Advanced Trade


@dataclass(eq=False, slots=True)
class Session:
    """What one Advanced Trade connection counts: all its frames, of whatever channel, and its heartbeats."""

    frames: Iterator[int] = field(default_factory=count)
    heartbeats: Iterator[int] = field(default_factory=partial(count, 41_691))  # does not begin at 0 (recorded)


def message(channel: str, time: int, event: str) -> str:
    """A frame of Advanced Trade, still without its number."""
    return f'{{"channel":"{channel}","timestamp":"{short(time, f"{time % 997:03d}")}","events":[{{{event}}}]}}'


def numbered(payload: str | bytes, session: Hashable) -> str:
    """The frame as a connection gets it: the number is the connection's own (section 7)."""
    assert isinstance(session, Session)
    return str(payload).replace('"events"', f'"sequence_num":{next(session.frames)},"events"', 1)


class AdvancedFeed(CoinbaseFeed):
    """A channel of one product: a snapshot, then updates."""

    def wrap(self, payload: str | bytes, envelope: Hashable) -> str | bytes:
        return numbered(payload, envelope)


class MarketTrades(AdvancedFeed):
    """What traded in 250 ms, newest first."""

    kind, notes = "trade", True

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 0.25)
        self._waiting: list[Trade] = []

    def note(self, step: Step) -> Payloads:
        self._waiting += step.trades
        return NOTHING

    def flush(self, time: int) -> Payloads:
        if not self._waiting:
            return NOTHING
        trades, self._waiting = self._waiting, []
        return [self._frame("update", trades, time)]

    def first(self, time: int) -> Payloads:
        return [self._frame("snapshot", self.market.recent(RECENT), time)]

    def _frame(self, kind: str, trades: Sequence[Trade], time: int) -> str:
        rows = [
            f'{{"product_id":"{self.native}","trade_id":"{t.id}","price":"{self.price(t.ticks)}",'
            f'"size":"{self.amount(t.lots)}","time":"{short(t.time)}","side":"{maker(t).upper()}"}}'
            for t in reversed(trades)
        ]
        return message("market_trades", time, f'"type":"{kind}","trades":[{",".join(rows)}]')


class Level2(AdvancedFeed):
    """The whole book in one frame, then what changed in 50 ms; the frames call it l2_data. Quantity 0 deletes."""

    kind, notes = "book", True

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 0.05)
        self._dirty = Dirty(market.sequence)

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        if not self._dirty.keys:
            return NOTHING
        keys, levels = sorted(self._dirty.keys, reverse=True), self.market.book.levels
        self._dirty.clear()
        return [self._frame("update", [(key, levels.get(key, 0)) for key in keys], time)]

    def first(self, time: int) -> Payloads:
        return [self._frame("snapshot", sorted(self.market.book.levels.items(), reverse=True), time)]

    def _frame(self, kind: str, levels: Iterable[Change], time: int) -> str:
        """Bids from high to low, then offers from low to high, as the keys are ordered."""
        at = short(time)
        rows = [
            f'{{"side":"{"bid" if key > 0 else "offer"}","event_time":"{at}","price_level":"{self.price(abs(key))}",'
            f'"new_quantity":"{self.amount(lots)}"}}'
            for key, lots in levels
        ]
        return message("l2_data", time, f'"type":"{kind}","product_id":"{self.native}","updates":[{",".join(rows)}]')


class AdvancedTicker(AdvancedFeed):
    """When anything has changed: each 100 ms, or each 5 s and then without the best prices."""

    kind = "ticker"

    def __init__(self, period: float, name: str, market: Market) -> None:
        super().__init__(name, market, period)
        self._best = name == "ticker"
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [self._frame("update", time)]

    def first(self, time: int) -> Payloads:
        return [self._frame("snapshot", time)]

    def _frame(self, kind: str, time: int) -> str:
        day, book, price, amount = self.market.day, self.market.book, self.price, self.amount
        bid, ask = book.bids[-1], book.asks[-1]
        best = (
            f',"best_bid":"{price(bid)}","best_ask":"{price(-ask)}","best_bid_quantity":"{amount(book.levels[bid])}",'
            f'"best_ask_quantity":"{amount(book.levels[ask])}"'
        )
        row = (
            f'"type":"ticker","product_id":"{self.native}","price":"{price(day.close)}","volume_24_h":"{amount(day.volume)}",'
            f'"low_24_h":"{price(day.low)}","high_24_h":"{price(day.high)}","low_52_w":"{price(day.low // 2)}",'
            f'"high_52_w":"{price(day.high * 2)}","price_percent_chg_24_h":"{percent(day)}"{best if self._best else ""}'
        )
        return message(self.name, time, f'"type":"{kind}","tickers":[{{{row}}}]')


class Candles(CandleFeed, AdvancedFeed):
    """Candles of five minutes that have trades, each second when they have changed. Nothing says that one is closed."""

    closes = flat = False

    def __init__(self, name: str, market: Market) -> None:
        CandleFeed.__init__(self, name, market, 5, 1.0)

    def render(self, candle: Candle, closed: bool, time: int) -> str:
        return self._frame("update", [candle], time)

    def first(self, time: int) -> Payloads:
        candles = [candle for candle in self.market.candles(self.minutes, time, RECENT) if candle.trades]
        return [self._frame("snapshot", candles, time)]

    def _frame(self, kind: str, candles: Iterable[Candle], time: int) -> str:
        price = self.price
        rows = [
            f'{{"start":"{c.start // 1_000_000}","high":"{price(c.high)}","low":"{price(c.low)}","open":"{price(c.open)}",'
            f'"close":"{price(c.close)}","volume":"{self.amount(c.volume)}","product_id":"{self.native}"}}'
            for c in candles
        ]
        return message("candles", time, f'"type":"{kind}","candles":[{",".join(rows)}]')


def percent(day: Candle) -> str:
    """The change of the day, with the digits of a division."""
    change = (day.close - day.open) * 10**16 // day.open
    return ("-" if change < 0 else "") + shortest(abs(change), 14, 14)


Make = Callable[[str, Market], CoinbaseFeed]

EXCHANGE: dict[str, Make] = {
    "matches": Matches,
    "heartbeat": Heartbeat,
    "ticker": partial(Ticker, 0.0),
    "ticker_batch": partial(Ticker, BATCH),
    "level2_batch": Level2Batch,
}
ADVANCED: dict[str, Make] = {
    "market_trades": MarketTrades,
    "level2": Level2,
    "ticker": partial(AdvancedTicker, 0.1),
    "ticker_batch": partial(AdvancedTicker, BATCH),
    "candles": Candles,
}
