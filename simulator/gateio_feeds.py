"""Gate spot, v4: the market data it sends. Numbers are text in their shortest form, times seconds and milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulator.feeds import NOTHING, Dirty, Feed, Payloads, Window
from simulator.instruments import Instrument, shortest
from simulator.market import Book, Change, Market, Step, Trade

TRADE_IDS = 30_000_000_000  # ids of trades belong to the whole venue
REFRESH = 60_000_000  # microseconds between two full books of one stream


def native(instrument: Instrument) -> str:
    return f"{instrument.base}_{instrument.quote}"


def trade_id(trade: Trade) -> int:
    """Rising, and not consecutive in a market: `id_market` is (sheet, 6)."""
    return TRADE_IDS + trade.sequence


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f'["{price(abs(key))}","{amount(lots)}"]' for key, lots in levels])


def milliseconds(time: int) -> str:
    """Milliseconds with a fraction of at least one digit: `1691620568789.0`."""
    return shortest(time, 3) if time % 1000 else f"{time // 1000}.0"


class GateioFeed(Feed):
    """A channel of one pair."""

    def __init__(self, channel: str, market: Market, period: float = 0.0) -> None:
        super().__init__(channel, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)

    def frame(self, result: str, time: int) -> str:
        seconds = f'"time":{time // 1_000_000},"time_ms":{time // 1000}'
        return f'{{{seconds},"channel":"{self.name}","event":"update","result":{{{result}}}}}'


class Trades(GateioFeed):
    """One frame a match."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        price, amount = self.instrument.price_text, self.instrument.amount_text
        return [
            self.frame(
                f'"id":{trade_id(t)},"create_time":{t.time // 1_000_000},"create_time_ms":"{milliseconds(t.time)}",'
                f'"side":"{"buy" if t.buyer else "sell"}","currency_pair":"{self.native}","amount":"{amount(t.lots)}",'
                f'"price":"{price(t.ticks)}","range":"{t.sequence}-{t.sequence}","id_market":{t.id}',
                t.time,
            )
            for t in step.trades
        ]


class Deltas(GateioFeed):
    """Changes in the best `depth` levels a side, in the order they happened; `U` is the last `u` + 1."""

    kind, notes = "book", True

    def __init__(self, depth: int, period: float, channel: str, market: Market, *, farewell: bool) -> None:
        super().__init__(channel, market, period)
        self.depth = depth
        self._window = Window(market.book, depth, farewell=farewell)
        self._dirty = Dirty(market.sequence)

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING


class BookUpdate(Deltas):
    """spot.order_book_update: no snapshot, that is REST. Levels pushed out of the window are deleted (recorded), so are
    frames without a level never sent."""

    def __init__(self, depth: int, period: float, channel: str, market: Market) -> None:
        super().__init__(depth, period, channel, market, farewell=True)

    def flush(self, time: int) -> Payloads:
        dirty = self._dirty
        bids, asks = self._window.changes(dirty.keys)
        dirty.keys.clear()
        if not bids and not asks:
            return NOTHING
        first, last = dirty.first, dirty.last
        dirty.clear()
        return [
            self.frame(
                f'"t":{time // 1000},"l":"{self.depth}","e":"depthUpdate","E":{time // 1_000_000},"s":"{self.native}",'
                f'"U":{first},"u":{last},"b":[{rows(self.instrument, bids)}],"a":[{rows(self.instrument, asks)}]',
                time,
            )
        ]


class FullBook(Deltas):
    """spot.obu: a full book, then changes; where none is in the window, bare ids. Readers keep `depth` levels by
    themselves. The full book comes again at times (sheet, 7)."""

    def __init__(self, depth: int, period: float, channel: str, market: Market) -> None:
        super().__init__(depth, period, channel, market, farewell=False)
        self._stream = f"ob.{self.native}.{depth}"
        self._due = 0

    def flush(self, time: int) -> Payloads:
        dirty = self._dirty
        if dirty.first > dirty.last:
            return NOTHING
        first, last = dirty.first, dirty.last
        bids, asks = self._window.changes(dirty.keys)
        dirty.clear()
        self._due = self._due or time + REFRESH
        if time >= self._due:
            self._due = time + REFRESH
            return [self.full(last, self.market.book, time)]
        levels = f',"b":[{rows(self.instrument, bids)}],"a":[{rows(self.instrument, asks)}]' if bids or asks else ""
        return [self._push(f'"s":"{self._stream}","U":{first},"u":{last}{levels}', time)]

    def full(self, sequence: int, book: Book, time: int) -> str:
        bids, asks = (rows(self.instrument, book.top(side, self.depth)) for side in (book.bids, book.asks))
        return self._push(f'"full":true,"s":"{self._stream}","u":{sequence},"b":[{bids}],"a":[{asks}]', time)

    def _push(self, result: str, time: int) -> str:
        """This channel shows its time last, and no seconds."""
        stamp = time // 1000
        return f'{{"channel":"{self.name}","event":"update","result":{{"t":{stamp},{result}}},"time_ms":{stamp}}}'


class BookTop(GateioFeed):
    """spot.order_book: the best levels as a whole, when they have changed."""

    kind = "view"

    def __init__(self, depth: int, period: float, channel: str, market: Market) -> None:
        super().__init__(channel, market, period)
        self._depth = depth
        self._shown = ""

    def flush(self, time: int) -> Payloads:
        book = self.market.book
        bids, asks = (rows(self.instrument, book.top(side, self._depth)) for side in (book.bids, book.asks))
        sides = f'"bids":[{bids}],"asks":[{asks}]'
        if sides == self._shown:
            return NOTHING
        self._shown = sides
        head = f'"t":{time // 1000},"lastUpdateId":{self.market.sequence},"s":"{self.native}","l":"{self._depth}"'
        return [self.frame(f"{head},{sides}", time)]


class BookTicker(GateioFeed):
    """The best prices each 10 ms, when they have changed."""

    kind = "view"

    def __init__(self, channel: str, market: Market) -> None:
        super().__init__(channel, market, 0.01)
        self._shown = ""

    def flush(self, time: int) -> Payloads:
        book, price, amount = self.market.book, self.instrument.price_text, self.instrument.amount_text
        bid, ask = book.bids[-1], book.asks[-1]
        best = f'"b":"{price(bid)}","B":"{amount(book.levels[bid])}","a":"{price(-ask)}","A":"{amount(book.levels[ask])}"'
        if best == self._shown:
            return NOTHING
        self._shown = best
        return [self.frame(f'"t":{time // 1000},"u":{self.market.sequence},"s":"{self.native}",{best}', time)]


class Tickers(GateioFeed):
    """The day, each second when anything has changed."""

    kind = "ticker"

    def __init__(self, channel: str, market: Market) -> None:
        super().__init__(channel, market, 1.0)
        self._shown = 0

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [self.frame(",".join([f'"{key}":"{value}"' for key, value in ticker(self.market).items()]), time)]


PAIRS: dict[str, Callable[[str, Market], GateioFeed]] = {
    "spot.trades": Trades,
    "spot.book_ticker": BookTicker,
    "spot.tickers": Tickers,
}
"""Channels whose payload is a list of pairs; those of books have their own forms."""


def ticker(market: Market) -> dict[str, str]:
    """The row of the channel; REST adds to it."""
    instrument, day, book = market.instrument, market.day, market.book
    price = instrument.price_text
    return {
        "currency_pair": native(instrument),
        "last": price(day.close),
        "lowest_ask": price(-book.asks[-1]),
        "highest_bid": price(book.bids[-1]),
        "change_percentage": f"{(day.close - day.open) / day.open * 100:.2f}",
        "base_volume": instrument.amount_text(day.volume),
        "quote_volume": shortest(day.turnover, instrument.price_decimals + instrument.amount_decimals),
        "high_24h": price(day.high),
        "low_24h": price(day.low),
    }
