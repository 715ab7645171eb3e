"""Candles as trades come in, also late and back-filled ones. Pure: no clock, no sockets.

Of each exchange and symbol there are bars of a second for the last minutes, of a minute for the last hours and of an hour for
the last days; an older second becomes part of its minute, an older minute of its hour. A trade changes one bar. Every other
interval, and the consolidated candle of a symbol over all exchanges, is put together when somebody looks: nobody pays for what
nobody watches. Bars are joined by the order (venue time, position) of their trades: in which order they came is no matter.
"""

from collections.abc import Iterable, Sequence
from decimal import Context, Decimal

from msgspec import Struct

from adapters.events import Candle, Event, Trade
from master.history.questions import DAY, HOUR, INTERVALS, MINUTE, SECOND

_LEVELS = ((SECOND, 2 * MINUTE, MINUTE), (MINUTE, 2 * HOUR, HOUR), (HOUR, 2 * DAY, DAY))
"""Size of the bars, for how long at least they are kept, and the span that is given up at once."""
_SIZES = tuple(size for size, _, _ in _LEVELS)

_exact = Context(prec=100)
_add = _exact.add  # looked up once: this is for every trade


class Bar(Struct, gc=False):
    """The trades of one span of time."""

    first: tuple[int, int]
    """Venue time and position of the trade that opens it."""
    open: str
    last: tuple[int, int]
    close: str
    high: tuple[float, str]
    low: tuple[float, str]
    volume: Decimal
    trades: int
    received: int

    def add(self, trade: Trade, at: int, position: int) -> None:
        """Take in one trade."""
        place, text = (at, position), trade.price
        if place > self.last:
            self.last, self.close = place, text
        elif place < self.first:
            self.first, self.open = place, text
        if text != self.high[1] and text != self.low[1]:
            price = (float(text), text)
            if price > self.high:
                self.high = price
            elif price < self.low:
                self.low = price
        self.volume = _add(self.volume, Decimal(trade.amount))
        self.trades += 1
        if trade.received > self.received:  # noqa: PLR1730 (max costs four times that)
            self.received = trade.received

    def join(self, other: "Bar") -> None:
        """Take in the trades of another."""
        if other.first < self.first:
            self.first, self.open = other.first, other.open
        if other.last > self.last:
            self.last, self.close = other.last, other.close
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        self.volume = _add(self.volume, other.volume)
        self.trades += other.trades
        self.received = max(self.received, other.received)


def _bar_of(trade: Trade, at: int, position: int) -> Bar:
    place, price = (at, position), (float(trade.price), trade.price)
    return Bar(place, trade.price, place, trade.price, price, price, Decimal(trade.amount), 1, trade.received)


def _joined(bars: Iterable[Bar]) -> Bar | None:
    whole: Bar | None = None
    for bar in bars:
        if whole is None:
            whole = Bar(bar.first, bar.open, bar.last, bar.close, bar.high, bar.low, bar.volume, bar.trades, bar.received)
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
        self.floors = _floors(now)
        self._folds_at = 0
        self.fold(now)

    def add(self, trade: Trade, at: int, position: int) -> None:
        """Into the finest level that still has its time; what is older than all has no place any more."""
        if trade.received >= self._folds_at:
            self.fold(trade.received)
        level = 0
        while at < self.floors[level]:
            level += 1
            if level == len(_LEVELS):
                return
        start = at - at % _SIZES[level]
        bar = self.levels[level].get(start)
        if bar is None:
            self.levels[level][start] = _bar_of(trade, at, position)
        else:
            bar.add(trade, at, position)

    def fold(self, now: int) -> None:
        """Make coarser bars of what is older than its level is kept for; due once a minute."""
        self._folds_at = now - now % MINUTE + MINUTE
        self.floors = _floors(now)
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
        still knows, or that began before `Candles.since`, is not among them."""
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
        self.since = since
        self.position = 0
        """Of the newest event taken."""
        self._ladders: dict[str, dict[str, _Ladder]] = {}
        self._watches: dict[str, list[Watch]] = {}

    def take(self, events: Sequence[Event], position: int) -> None:
        """Events of one batch, the first at this position."""
        for event in events:
            if type(event) is Trade:
                at = event.received if event.timestamp is None else event.timestamp
                self._ladder(event.exchange, event.symbol, event.received).add(event, at, position)
                for watch in self._watches.get(event.symbol, ()):
                    if watch.exchange in ("", event.exchange):
                        watch.note(at)
            position += 1
        self.position = max(self.position, position - 1)

    def reach_back(self, since: int) -> None:
        """The trades from here on were taken too: candles are whole from here. The one that was under way at the beginning,
        of which nothing could be told yet, is told to those who watch."""
        for of_symbol in self._watches.values():
            for watch in of_symbol:
                watch.note(self.since)
        self.since = since

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
        if start < self.since or not all(ladder.has(start, size) for ladder in ladders):
            return None
        bar = _joined(bar for ladder in ladders for bar in ladder.within(start, size))
        if bar is None:
            return None
        prices = (bar.open, bar.high[1], bar.low[1], bar.close)
        volume = f"{bar.volume.normalize(_exact):f}"
        about = (exchange, symbol, bar.last[0], bar.received, interval, start)
        return Candle(*about, *prices, volume, bar.trades, closed=start + size <= now)
