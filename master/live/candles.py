"""Candles as trades come in, also late and back-filled ones. Pure: no clock, no sockets.

Of each exchange and symbol there are bars of a second for the last minutes, of a minute for the last hours and of an hour for
the last days; an older second becomes part of its minute, an older minute of its hour. A trade changes one bar. Every other
interval, and the consolidated candle of a symbol over all exchanges, is put together when somebody looks: nobody pays for what
nobody watches. Bars are joined by the order (venue time, position) of their trades: in which order they came is no matter.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from copy import copy
from decimal import Context, Decimal, localcontext

from msgspec import Struct

from adapters.events import Candle, Event, Trade
from master.history.questions import DAY, HOUR, INTERVALS, MINUTE, SECOND

_LEVELS = ((SECOND, 2 * MINUTE, MINUTE), (MINUTE, 2 * HOUR, HOUR), (HOUR, 2 * DAY, DAY))
"""Size of the bars, for how long at least they are kept, and the span that is given up at once."""
_SIZES = tuple(size for size, _, _ in _LEVELS)

_exact = Context(prec=100)
"""In which volumes are added: what comes in and who looks enter it, once for all that they do."""


class StoredBar(Struct):
    """What stored trades of one market and span of venue time add up to (the `bars` of master/history)."""

    exchange: str
    symbol: str
    start: int
    first_at: int
    first_position: int
    open: str
    last_at: int
    last_position: int
    close: str
    high: str
    low: str
    volume: str
    trades: int
    received: int

    @property
    def bar(self) -> "Bar":
        bar = Bar.__new__(Bar)
        bar.first, bar.open = (self.first_at, self.first_position), self.open
        bar.last_at, bar.last_position, bar.close = self.last_at, self.last_position, self.close
        bar.high, bar.low = (float(self.high), self.high), (float(self.low), self.low)
        bar.volume, bar.trades, bar.received = Decimal(self.volume), self.trades, self.received
        return bar


class Bar:
    """The trades of one span of time. No Struct: to set a field of those costs three times as much."""

    __slots__ = ("close", "first", "high", "last_at", "last_position", "low", "open", "received", "trades", "volume")

    def __init__(self, trade: Trade, at: int, position: int) -> None:
        self.first = (at, position)
        """Venue time and position of the trade that opens it."""
        self.last_at, self.last_position = at, position
        """And of the one that closes it, apart: every trade is compared to them."""
        self.open = self.close = trade.price
        self.high = self.low = (float(trade.price), trade.price)
        self.volume = Decimal(trade.amount)
        self.trades = 1
        self.received = trade.received

    def add(self, trade: Trade, at: int, position: int) -> None:
        """Take in one trade."""
        text = trade.price
        if at > self.last_at or (at == self.last_at and position > self.last_position):
            self.last_at, self.last_position = at, position
            if text != self.close:  # most trades are at the price of the one before
                self.close = text
                self._stretch(text)
        else:
            if (at, position) < self.first:
                self.first, self.open = (at, position), text
            self._stretch(text)
        self.volume += Decimal(trade.amount)
        self.trades += 1
        if trade.received > self.received:  # noqa: PLR1730 (max costs four times that)
            self.received = trade.received

    def _stretch(self, text: str) -> None:
        """To a price that may be the highest or lowest so far."""
        price = (float(text), text)
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price

    def join(self, other: "Bar") -> None:
        """Take in the trades of another."""
        if other.first < self.first:
            self.first, self.open = other.first, other.open
        if (other.last_at, other.last_position) > (self.last_at, self.last_position):
            self.last_at, self.last_position, self.close = other.last_at, other.last_position, other.close
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        self.volume += other.volume
        self.trades += other.trades
        self.received = max(self.received, other.received)


def _joined(bars: Iterable[Bar]) -> Bar | None:
    whole: Bar | None = None
    for bar in bars:
        if whole is None:
            whole = copy(bar)
        else:
            whole.join(bar)
    return whole


def _floors(now: int) -> list[int]:
    """From where on each level has its bars."""
    return [(now - kept) // given_up * given_up for _, kept, given_up in _LEVELS]


class _Ladder:
    """The bars of one market. `floors` follow the newest `received`: a venue's own clock may be wrong by years."""

    def __init__(self, now: int) -> None:
        self.levels: list[dict[int, Bar]] = [{} for _ in _LEVELS]
        self._bar: Bar | None = None
        """That of the newest trade, and of which time it is."""
        self._begin = self._end = 0
        self.fold(now)

    def add(self, trade: Trade, at: int, position: int) -> None:
        """Into the finest level that still has its time; what is older than all has no place any more."""
        if trade.received >= self._folds_at:
            self.fold(trade.received)
        if self._bar is not None and self._begin <= at < self._end:  # as nearly all are
            self._bar.add(trade, at, position)
            return
        for size, floor, bars in zip(_SIZES, self.floors, self.levels, strict=True):
            if at >= floor:
                self._begin = at - at % size
                self._end = self._begin + size
                self._bar = bars.get(self._begin)
                if self._bar is None:
                    self._bar = bars[self._begin] = Bar(trade, at, position)
                else:
                    self._bar.add(trade, at, position)
                return

    def fold(self, now: int) -> None:
        """Make coarser bars of what is older than its level is kept for; due once a minute."""
        self._folds_at = now - now % MINUTE + MINUTE
        self.floors = _floors(now)
        self._bar = None
        for level, floor in enumerate(self.floors):
            bars = self.levels[level]
            for start in [start for start in bars if start < floor]:
                bar = bars.pop(start)
                if level + 1 < len(_LEVELS):
                    self.put(level + 1, start, bar)

    def put(self, level: int, start: int, bar: Bar) -> None:
        start -= start % _SIZES[level]
        known = self.levels[level].setdefault(start, bar)
        if known is not bar:
            known.join(bar)

    def has(self, start: int, size: int) -> bool:
        """Whether it still knows apart what is in this span and what is not."""
        return start >= min(floor for (of_level, _, _), floor in zip(_LEVELS, self.floors, strict=True) if of_level <= size)

    def within(self, start: int, size: int) -> Iterable[Bar]:
        for (of_level, _, _), bars in zip(_LEVELS, self.levels, strict=True):
            if of_level == size:
                if start in bars:
                    yield bars[start]
            elif of_level < size:
                yield from (bar for each, bar in bars.items() if start <= each < start + size)


class Watch:
    """One interval of one market, or of a symbol over all exchanges (exchange ""), as somebody follows it."""

    def __init__(self, candles: "Candles", interval: str, symbol: str, exchange: str) -> None:
        self.interval, self.symbol, self.exchange = interval, symbol, exchange
        self._candles = candles
        self._size = INTERVALS[interval]
        self._changed: set[int] = set()
        self._open: set[int] = set()

    def note(self, at: int) -> None:
        """A trade of this time came."""
        self._changed.add(at - at % self._size)

    def current(self, now: int) -> Candle | None:
        """The candle under way, whose end `changes` will tell too; None where it has no trade, or is not known whole."""
        start = now - now % self._size
        candle = self._candles.candle(self.interval, start, now, self.symbol, self.exchange)
        if candle is not None:
            self._open.add(start)
        return candle

    def changes(self, now: int) -> list[Candle]:
        """The candles that changed or closed since this was last asked, as they are now, oldest first. One that only the lake
        still knows, or that is not known whole, is not among them."""
        due = self._changed | {start for start in self._open if start + self._size <= now}
        self._changed = set()
        told = []
        for start in sorted(due):
            candle = self._candles.candle(self.interval, start, now, self.symbol, self.exchange)
            self._open.discard(start)
            if candle is None:
                continue
            if not candle.closed:
                self._open.add(start)
            told.append(candle)
        return told


class Candles:
    """The live candles of all markets, which take what is durable, in order. Candles that begin before `since` are not told:
    some of their trades were never heard here."""

    def __init__(self, since: int) -> None:
        self._since = [since] * len(_LEVELS)
        """Of candles of seconds, of minutes and of hours."""
        self.position = 0
        """Of the newest event taken."""
        self._ladders: dict[str, dict[str, _Ladder]] = {}
        self._watches: dict[str, list[Watch]] = {}

    def take(self, events: Sequence[Event], position: int) -> None:
        """Events of one batch, the first at this position."""
        with localcontext(_exact):
            self._take(events, position)
        self.position = max(self.position, position + len(events) - 1)

    def _take(self, events: Sequence[Event], position: int) -> None:
        ladders, watches = self._ladders, self._watches
        for place, event in enumerate(events, position):
            if type(event) is Trade:
                try:
                    ladder = ladders[event.symbol][event.exchange]
                except KeyError:
                    ladder = self._ladder(event.exchange, event.symbol, event.received)
                at = event.timestamp
                if at is None:
                    at = event.received
                ladder.add(event, at, place)
                if watches:
                    for watch in watches.get(event.symbol, ()):
                        if watch.exchange in ("", event.exchange):
                            watch.note(at)

    def go_on_with(self, bars: Iterable[StoredBar], size: int) -> None:
        """Take trades of before, that are not given to `take`, as what those of a minute or an hour (`size`) add up to."""
        level = _SIZES.index(size)
        with localcontext(_exact):
            for each in bars:
                self._ladder(each.exchange, each.symbol, each.received).put(level, each.start, each.bar)

    def reach_back(self, seconds: int, minutes: int, hours: int) -> None:
        """What was before the beginning was taken too, as fine as this: candles of seconds are whole from `seconds` on, and so
        forth. The one that was under way at the beginning, of which nothing could be told yet, is told to those who watch."""
        for of_symbol in self._watches.values():
            for watch in of_symbol:
                watch.note(self._since[0])
        self._since = [seconds, minutes, hours]

    def _ladder(self, exchange: str, symbol: str, now: int) -> _Ladder:
        of_symbol = self._ladders.setdefault(symbol, {})
        ladder = of_symbol.get(exchange)
        if ladder is None:
            ladder = of_symbol[exchange] = _Ladder(now)
        return ladder

    def watch(self, interval: str, symbol: str, exchange: str = "") -> Watch:
        """Follow the candles of one market, or of all that have this symbol. Raises KeyError for an unknown interval."""
        watch = Watch(self, interval, symbol, exchange)
        self._watches.setdefault(symbol, []).append(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        of_symbol = self._watches[watch.symbol]
        of_symbol.remove(watch)
        if not of_symbol:
            del self._watches[watch.symbol]

    def candle(self, interval: str, start: int, now: int, symbol: str, exchange: str = "") -> Candle | None:
        """The candle that begins at `start`; None where there was no trade, or where only the lake still knows."""
        size = INTERVALS[interval]
        of_symbol = self._ladders.get(symbol, {})
        ladders = [ladder for name, ladder in of_symbol.items() if exchange in ("", name)]
        level = bisect_right(_SIZES, size) - 1
        if start < self._since[level] or not all(ladder.has(start, size) for ladder in ladders):
            return None
        with localcontext(_exact):
            bar = _joined(bar for ladder in ladders for bar in ladder.within(start, size))
        if bar is None:
            return None
        prices = (bar.open, bar.high[1], bar.low[1], bar.close)
        volume = f"{bar.volume.normalize(_exact):f}"
        about = (exchange, symbol, bar.last_at, bar.received, interval, start)
        return Candle(*about, *prices, volume, bar.trades, closed=start + size <= now)
