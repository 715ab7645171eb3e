"""Bitstamp spot: the market data it sends. Prices and amounts are text, padded to the decimals of the market."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial

from simulator.feeds import NOTHING, Dirty, Feed, Payloads
from simulator.instruments import Instrument, shortest
from simulator.market import Change, Market, Step, Trade

ORDERS = 1_443_875_000_000_000  # order ids are far above all others
PERIOD = 0.115  # seconds between two frames of a book (recorded)


def native(instrument: Instrument) -> str:
    return (instrument.base + instrument.quote).lower()


def trade_id(trade: Trade) -> int:
    """Rising, and not consecutive: ids are counted across the venue (sheet, section 6)."""
    return trade.sequence


def rows(instrument: Instrument, levels: Iterable[Change], *, orders: bool = False) -> str:
    """[price, amount], and an order id where orders are told one by one."""
    price, amount = instrument.price_text, instrument.amount_text
    if orders:
        return ",".join([f'["{price(ticks)}","{amount(lots)}","{ORDERS + ticks}"]' for ticks, lots in levels])
    return ",".join([f'["{price(ticks)}","{amount(lots)}"]' for ticks, lots in levels])


class BitstampFeed(Feed):
    """A channel of one market. Nothing is sent at subscribe time."""

    def __init__(self, name: str, market: Market, period: float = 0.0) -> None:
        super().__init__(name, market, period)
        self.instrument = market.instrument

    def frame(self, data: str, event: str = "data") -> str:
        return f'{{"data":{{{data}}},"channel":"{self.name}","event":"{event}"}}'

    def book(self, bids: str, asks: str, time: int) -> str:
        return self.frame(
            f'"timestamp":"{time // 1_000_000}","microtimestamp":"{time}","bids":[{bids}],"asks":[{asks}]',
        )


class LiveTrades(BitstampFeed):
    """One frame a match, of milliseconds. Amounts are as Python prints decimals: `1E-8`."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._row(trade) for trade in step.trades]

    def _row(self, t: Trade) -> str:
        i = self.instrument
        taker, maker = ORDERS + t.time % 10**9, ORDERS + t.id
        buyer, seller = (taker, maker) if t.buyer else (maker, taker)
        return self.frame(
            f'"id":{trade_id(t)},"timestamp":"{t.time // 1_000_000}","amount":{shortest(t.lots, i.amount_decimals)},'
            f'"amount_str":"{Decimal(i.amount_text(t.lots))}","price":{shortest(t.ticks, i.price_decimals)},'
            f'"price_str":"{i.price_text(t.ticks)}","type":{0 if t.buyer else 1},'
            f'"microtimestamp":"{t.time // 1000}000","buy_order_id":{buyer},"sell_order_id":{seller}',
            "trade",
        )


class DiffOrderBook(BitstampFeed):
    """What changed of the whole book, neither snapshot nor sequence: the microtimestamp orders (section 7)."""

    kind, notes = "book", True

    def __init__(self, name: str, market: Market) -> None:
        super().__init__(name, market, PERIOD)
        self._dirty = Dirty(market.sequence)

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        if not self._dirty.keys:
            return NOTHING
        levels = self.market.book.levels
        changes = [(key, levels.get(key, 0)) for key in sorted(self._dirty.keys, reverse=True)]
        self._dirty.clear()
        bids = rows(self.instrument, [(key, lots) for key, lots in changes if key > 0])
        asks = rows(self.instrument, [(-key, lots) for key, lots in changes if key < 0])
        return [self.book(bids, asks, time)]


class OrderBook(BitstampFeed):
    """The best 100 levels as a whole, when they have changed; `detail` names the orders."""

    kind = "view"

    def __init__(self, detail: bool, name: str, market: Market) -> None:
        super().__init__(name, market, PERIOD)
        self._detail = detail
        self._shown = self._sides()

    def flush(self, time: int) -> Payloads:
        sides = self._sides()
        if sides == self._shown:
            return NOTHING
        self._shown = sides
        return [self.book(*sides, time)]

    def _sides(self) -> tuple[str, str]:
        book = self.market.book
        bids, asks = (rows(self.instrument, book.top(side, 100), orders=self._detail) for side in (book.bids, book.asks))
        return bids, asks


CHANNELS: dict[str, Callable[[str, Market], BitstampFeed]] = {
    "live_trades": LiveTrades,
    "diff_order_book": DiffOrderBook,
    "order_book": partial(OrderBook, False),
    "detail_order_book": partial(OrderBook, True),
}
"""What may stand before `_<market>`."""
