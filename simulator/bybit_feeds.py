"""Bybit spot, v5: the market data it sends. Numbers are text in their shortest form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from simulator.feeds import NOTHING, Dirty, Feed, Payloads, Window
from simulator.instruments import Instrument, rescaled, shortest
from simulator.market import Book, Change, Market, Step, Trade

TRADE_IDS = 2_290_000_000_000_000_000  # ids of trades are far above the sequences of books
REPEAT = 3_000_000  # us after which an unchanged best price is sent again
RESTART = 2000  # deltas of a book until it starts anew
WHOLE = 10_000  # levels of the full book


def native(instrument: Instrument) -> str:
    return f"{instrument.base}{instrument.quote}"


def trade_id(trade: Trade) -> int:
    return TRADE_IDS + trade.id


def crossed(trades: Sequence[Trade]) -> dict[int, int]:
    """The cross sequence of each trade time: the fills of one taker order share one."""
    return {trade.time: trade.sequence for trade in trades}


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f'["{price(abs(key))}","{amount(lots)}"]' for key, lots in levels])


class BybitFeed(Feed):
    """A topic of one symbol."""

    def __init__(self, topic: str, market: Market, period: float = 0.0) -> None:
        super().__init__(topic, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        """What a new subscriber gets at once."""
        return NOTHING

    def frame(self, kind: str, time: int, rest: str) -> str:
        return f'{{"topic":"{self.name}","ts":{time // 1000},"type":"{kind}",{rest}}}'


class Trades(BybitFeed):
    """All fills of one taker order in one frame; its type is always snapshot, and none of it is old."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        if not step.trades:
            return NOTHING
        price, amount, seq = self.instrument.price_text, self.instrument.amount_text, crossed(step.trades)
        data = [
            f'{{"i":"{trade_id(t)}","T":{t.time // 1000},"p":"{price(t.ticks)}","v":"{amount(t.lots)}",'
            f'"S":"{"Buy" if t.buyer else "Sell"}","seq":{seq[t.time]},"s":"{self.native}","BT":false,"RPI":false}}'
            for t in step.trades
        ]
        return [self.frame("snapshot", step.time, f'"data":[{",".join(data)}]')]


class Levels(BybitFeed):
    """What the book topics share: `u`, which rises by one with each frame, and the time of the last change."""

    def __init__(self, topic: str, market: Market, period: float) -> None:
        super().__init__(topic, market, period)
        self.update = market.sequence
        self._moved = 0

    def _sides(self, book: Book, depth: int) -> tuple[str, str]:
        return rows(self.instrument, book.top(book.bids, depth)), rows(self.instrument, book.top(book.asks, depth))

    def _levels(self, kind: str, sides: tuple[str, str], time: int, behind: int = 0) -> str:
        """A book message; one that shows a book of `behind` changes ago has the numbers of then."""
        update, sequence = self.update - behind, self.market.sequence - behind
        data = f'{{"s":"{self.native}","b":[{sides[0]}],"a":[{sides[1]}],"u":{update},"seq":{sequence}}}'
        return self.frame(kind, time, f'"data":{data},"cts":{(self._moved or time) // 1000}')


class OrderBook(Levels):
    """The best `depth` levels a side: a snapshot, then what changed. Whoever leaves the window is deleted.

    Now and then the book starts anew, as after a restart of the service: `u` is 1 and a snapshot replaces everything. The
    full book has no snapshots here, REST has them.
    """

    kind, notes = "book", True

    def __init__(self, depth: int, period: float, topic: str, market: Market) -> None:
        super().__init__(topic, market, period)
        self._depth = depth
        self._window = Window(market.book, depth, farewell=True)
        self._dirty = Dirty(market.sequence)
        self._sent = 0

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        self._moved = step.time
        return NOTHING

    def flush(self, time: int) -> Payloads:
        bids, asks = self._window.changes(sorted(self._dirty.keys, reverse=True))
        self._dirty.clear()
        if not bids and not asks:
            return NOTHING
        self._sent += 1
        self.update += 1
        if self._sent % RESTART == 0:
            self.update = 1
            if self._depth < WHOLE:
                return self.first(self.market.sequence, self.market.book, time)
        return [self._levels("delta", (rows(self.instrument, bids), rows(self.instrument, asks)), time)]

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        if self._depth == WHOLE:
            return NOTHING
        return [self._levels("snapshot", self._sides(book, self._depth), time, self.market.sequence - sequence)]


class Best(Levels):
    """Bid and ask as a whole, each 10 ms when they have changed; unchanged and with the same `u` after three seconds."""

    kind = "view"

    def __init__(self, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.01)
        self._shown = ("", "")

    def flush(self, time: int) -> Payloads:
        sides = self._sides(self.market.book, 1)
        if sides == self._shown and time - self._moved < REPEAT:
            return NOTHING
        self.update += sides != self._shown
        return self.first(self.market.sequence, self.market.book, time)

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        self._shown, self._moved = self._sides(book, 1), time
        return [self._levels("snapshot", self._shown, time)]


class Tickers(BybitFeed):
    """The whole ticker each 50 ms when anything has changed; on spot it has neither bid nor ask."""

    kind = "ticker"

    def __init__(self, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.05)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return self.first(self._shown, self.market.book, time)

    def first(self, sequence: int, book: Book, time: int) -> Payloads:
        data = ",".join([f'"{key}":"{value}"' for key, value in ticker(self.market).items()])
        return [self.frame("snapshot", time, f'"cs":{self.market.sequence},"data":{{"symbol":"{self.native}",{data}}}')]


TOPICS: dict[str, Callable[[str, Market], BybitFeed]] = {
    "publicTrade": Trades,
    "tickers": Tickers,
    "orderbook.1": Best,
    "orderbook.50": partial(OrderBook, 50, 0.02),
    "orderbook.200": partial(OrderBook, 200, 0.1),
    "orderbook.1000": partial(OrderBook, 1000, 0.2),
    "orderbook.full": partial(OrderBook, WHOLE, 0.2),
}
"""What may stand before `.<symbol>`."""


def ticker(market: Market) -> dict[str, str]:
    """The day and the last price, in the order of the stream."""
    day, instrument = market.day, market.instrument
    price = instrument.price_text
    dollars = rescaled(day.close, instrument.price_decimals, 6) if instrument.quote.startswith("USD") else ""
    return {
        "lastPrice": price(day.close),
        "highPrice24h": price(day.high),
        "lowPrice24h": price(day.low),
        "prevPrice24h": price(day.open),
        "volume24h": instrument.amount_text(day.volume),
        "turnover24h": shortest(day.turnover, instrument.price_decimals + instrument.amount_decimals),
        "price24hPcnt": f"{(day.close - day.open) / day.open:.4f}",
        "usdIndexPrice": dollars,
    }
