"""OKX spot, v5: the market data it sends. Everything is text, numbers in their shortest form."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from simulator.feeds import NOTHING, CandleFeed, Dirty, Feed, Payloads, Window
from simulator.instruments import Instrument, shortest
from simulator.market import Book, Candle, Change, Market, Step, Trade

if TYPE_CHECKING:
    from collections.abc import Callable

BARS = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "2H": 120, "4H": 240}
DEPTH = 400


def native(instrument: Instrument) -> str:
    return f"{instrument.base}-{instrument.quote}"


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    """Levels as [price, size, "0", orders]; a removed level has neither size nor orders."""
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f'["{price(abs(key))}","{amount(lots)}","0","{orders(lots)}"]' for key, lots in levels])


def orders(lots: int) -> int:
    """A number of orders for a level; the market itself knows only sums."""
    return 1 + lots % 3 if lots else 0


class OkxFeed(Feed):
    """A channel of one instrument."""

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        super().__init__(name, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)
        self._head = f'{{"arg":{{"channel":"{name}","instId":"{self.native}"}},'

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        """What a new subscriber gets at once."""
        return NOTHING

    def frame(self, data: str) -> str:
        return f'{self._head}"data":[{data}]}}'


class Trades(OkxFeed):
    """Fills of one taker at one price are one row, its id that of the last. A subscriber first gets the last trade,
    however old (recorded)."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._row(list(fills)) for _, fills in groupby(step.trades, key=lambda trade: trade.group)]

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        last = self.market.recent(4)
        return [self._row([trade for trade in last if trade.group == last[-1].group])] if last else NOTHING

    def _row(self, fills: list[Trade]) -> str:
        size = self.instrument.amount_text(sum(trade.lots for trade in fills))
        last = fills[-1]
        return self.frame(
            f'{{{fields(self.instrument, last, size)},"count":"{len(fills)}","source":"0","seqId":{last.sequence}}}'
        )


class AllTrades(OkxFeed):
    """One row a match."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        text = self.instrument.amount_text
        return [self.frame(f'{{{fields(self.instrument, t, text(t.lots))},"source":"0"}}') for t in step.trades]


class Books(OkxFeed):
    """400 levels a side: a snapshot, then what changed in 100 ms, chained by prevSeqId. The checksum is dead: always 0."""

    kind, notes = "book", True

    def __init__(self, heartbeat: float, name: str, market: Market) -> None:
        super().__init__(name, market, 0.1)
        self._heartbeat = int(heartbeat * 1_000_000)
        self._window = Window(market.book, DEPTH, farewell=True)
        self._dirty = Dirty(market.sequence)
        self._sequence = market.sequence
        self._sent = 0

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        self._sent = self._sent or time
        bids, asks = self._window.changes(sorted(self._dirty.keys, reverse=True))
        self._dirty.clear()
        if not bids and not asks and time - self._sent < self._heartbeat:
            return NOTHING
        before, self._sent = self._sequence, time
        if bids or asks:
            self._sequence = self.market.sequence
        return [self._frame("update", bids, asks, time, before, self._sequence)]

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        """The snapshot. The present book goes under the sequence that the next update will name."""
        shown = self._sequence if sequence == self.market.sequence else sequence
        bids, asks = book.top(book.bids, DEPTH), book.top(book.asks, DEPTH)
        return [self._frame("snapshot", bids, asks, time, -1, shown)]

    def _frame(self, action: str, bids: Sequence[Change], asks: Sequence[Change], time: int, before: int, now: int) -> str:
        instrument = self.instrument
        return (
            f'{self._head}"action":"{action}","data":[{{"asks":[{rows(instrument, asks)}],"bids":[{rows(instrument, bids)}],'
            f'"ts":"{time // 1000}","checksum":0,"prevSeqId":{before},"seqId":{now}}}]}}'
        )


class Top(OkxFeed):
    """The best levels as a whole, when they have changed: books5 each 100 ms, bbo-tbt each 10 ms."""

    kind = "view"

    def __init__(self, depth: int, name: str, market: Market) -> None:
        super().__init__(name, market, 0.1 if depth > 1 else 0.01)
        self._depth = depth
        self._shown = ("", "")

    def flush(self, time: int) -> Payloads:
        sides = self._sides(self.market.book)
        if sides == self._shown:
            return NOTHING
        self._shown = sides
        return [self._frame(sides, self.market.sequence, time)]

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        return [self._frame(self._sides(book), sequence, time)]

    def _sides(self, book: Book) -> tuple[str, str]:
        bids, asks = book.top(book.bids, self._depth), book.top(book.asks, self._depth)
        return rows(self.instrument, asks), rows(self.instrument, bids)

    def _frame(self, sides: tuple[str, str], sequence: int, time: int) -> str:
        name = f'"instId":"{self.native}",' if self._depth > 1 else ""
        return self.frame(f'{{"asks":[{sides[0]}],"bids":[{sides[1]}],{name}"ts":"{time // 1000}","seqId":{sequence}}}')


class Tickers(OkxFeed):
    """The ticker, each 100 ms when anything has changed."""

    kind = "ticker"

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, 0.1)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return self.first(0, self.market.book, time)

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        return [self.frame(ticker(self.market, time))]


class Candles(CandleFeed, OkxFeed):
    """Candles; confirm "1" once a candle is closed."""

    def __init__(self, bar: str, name: str, market: Market) -> None:
        OkxFeed.__init__(self, name, market)
        CandleFeed.__init__(self, name, market, BARS[bar], 1.0)

    def render(self, candle: Candle, closed: bool, time: int) -> str:
        return self.frame(candle_row(self.instrument, candle, closed))


PUBLIC: dict[str, Callable[[str, Market], OkxFeed]] = {
    "trades": Trades,
    "books5": partial(Top, 5),
    "bbo-tbt": partial(Top, 1),
    "tickers": Tickers,
}
BUSINESS: dict[str, Callable[[str, Market], OkxFeed]] = {
    "trades-all": AllTrades,
    **{f"candle{bar}": partial(Candles, bar) for bar in BARS},
}


def fields(instrument: Instrument, trade: Trade, size: str) -> str:
    """What every form of a trade begins with."""
    return (
        f'"instId":"{native(instrument)}","tradeId":"{trade.id}","px":"{instrument.price_text(trade.ticks)}",'
        f'"sz":"{size}","side":"{"buy" if trade.buyer else "sell"}","ts":"{trade.time // 1000}"'
    )


def ticker(market: Market, time: int) -> str:
    """The row of the tickers channel and of REST."""
    instrument, day, book = market.instrument, market.day, market.book
    price, amount = instrument.price_text, instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    opened, last = price(day.open), market.trades[-1].lots if market.trades else 0
    turnover = shortest(day.turnover, instrument.price_decimals + instrument.amount_decimals)
    return (
        f'{{"instType":"SPOT","instId":"{native(instrument)}","last":"{price(day.close)}","lastSz":"{amount(last)}",'
        f'"askPx":"{price(-ask)}","askSz":"{amount(book.levels[ask])}","bidPx":"{price(bid)}",'
        f'"bidSz":"{amount(book.levels[bid])}","open24h":"{opened}","high24h":"{price(day.high)}",'
        f'"low24h":"{price(day.low)}","sodUtc0":"{opened}","sodUtc8":"{opened}","volCcy24h":"{turnover}",'
        f'"vol24h":"{amount(day.volume)}","ts":"{time // 1000}"}}'
    )


def candle_row(instrument: Instrument, candle: Candle, closed: bool) -> str:
    """[start, open, high, low, close, volume, quote volume twice, confirm]."""
    price = instrument.price_text
    turnover = shortest(candle.turnover, instrument.price_decimals + instrument.amount_decimals)
    prices = '","'.join([price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)])
    volume = instrument.amount_text(candle.volume)
    return f'["{candle.start // 1000}","{prices}","{volume}","{turnover}","{turnover}","{int(closed)}"]'
