"""Bitfinex spot, WebSocket v2: the market data it sends. Numbers are bare, written as JavaScript writes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

from simulator.feeds import NOTHING, Feed, Payloads, Window, interleaved
from simulator.instruments import Instrument, Text, signed, trimmed
from simulator.market import Book, Market, Step, Trade

CODES = {"USDT": "UST", "USDC": "UDC", "ALGO": "ALG", "ATOM": "ATO"}
"""What the venue calls currencies that others know by another name."""
TIMESTAMP, SEQ_ALL, OB_CHECKSUM, BULK_UPDATES = 1 << 15, 1 << 16, 1 << 17, 1 << 29
Key = tuple[str, ...]
"""Channel, symbol and options: what can be subscribed once on a connection."""
CHECKED = 25  # levels a side under the checksum, and in the sizes of the ticker


def pair(instrument: Instrument) -> str:
    """`BTCUSD`, `BTCUST`; with a colon where a code is not of three letters: `DOGE:UST`."""
    base, quote = (CODES.get(code, code) for code in (instrument.base, instrument.quote))
    return base + quote if len(base) == len(quote) == 3 else f"{base}:{quote}"


def native(instrument: Instrument) -> str:
    return "t" + pair(instrument)


def trade_id(trade: Trade) -> int:
    """Rising, and not consecutive."""
    return trade.sequence


def number(decimals: int) -> Text:
    """Shortest text of `n / 10**decimals`, with an exponent below a millionth: `1.1e-7`."""
    plain = trimmed(decimals)

    def text(n: int) -> str:
        digits = str(n)
        if not n or len(digits) > decimals - 6:
            return plain(n)
        exponent = decimals - len(digits) + 1
        digits = digits.rstrip("0")
        return f"{digits[0]}.{digits[1:]}e-{exponent}" if digits[1:] else f"{digits}e-{exponent}"

    return text


def level(instrument: Instrument, key: int, lots: int) -> str:
    """[price, count, amount], asks below zero; a level that is gone has count 0 and amount 1 or -1. The market itself knows
    only sums: the count is made up."""
    sign = "" if key > 0 else "-"
    price, amount = instrument.price_text(abs(key)), instrument.amount_text(lots) if lots else "1"
    return f"[{price},{1 + lots % 3 if lots else 0},{sign}{amount}]"


def levels(instrument: Instrument, book: Book, depth: int) -> str:
    """Bids, then asks, the best of each first."""
    rows = [(ticks, lots) for ticks, lots in book.top(book.bids, depth)]
    rows += [(-ticks, lots) for ticks, lots in book.top(book.asks, depth)]
    return f"[{','.join([level(instrument, *row) for row in rows])}]"


def checksum(instrument: Instrument, book: Book, depth: int) -> int:
    """Over price and amount of the best levels, the amounts of asks below zero."""
    price, amount = instrument.price_text, instrument.amount_text
    bids = [f"{price(ticks)}:{amount(lots)}" for ticks, lots in book.top(book.bids, depth)]
    asks = [f"{price(ticks)}:-{amount(lots)}" for ticks, lots in book.top(book.asks, depth)]
    return interleaved(bids, asks)


def trade_row(instrument: Instrument, trade: Trade) -> str:
    """[id, ms, amount, price]; what a taker sold is below zero."""
    sign = "" if trade.buyer else "-"
    amount, price = instrument.amount_text(trade.lots), instrument.price_text(trade.ticks)
    return f"[{trade_id(trade)},{trade.time // 1000},{sign}{amount},{price}]"


def trade_rows(instrument: Instrument, trades: Sequence[Trade]) -> str:
    return f"[{','.join([trade_row(instrument, trade) for trade in trades])}]"


def ticker(market: Market) -> str:
    """The ten fields of a ticker; its sizes are those of the 25 best levels together."""
    day, book, price, amount = market.day, market.book, market.instrument.price_text, market.instrument.amount_text
    bids, asks = (book.top(side, CHECKED) for side in (book.bids, book.asks))
    change = day.close - day.open
    fields = [
        price(bids[0][0]),
        amount(sum(lots for _, lots in bids)),
        price(asks[0][0]),
        amount(sum(lots for _, lots in asks)),
        signed(price, change),
        signed(number(8), round(change / day.open * 10**8)),
        price(day.close),
        amount(day.volume),
        price(day.high),
        price(day.low),
    ]
    return ",".join(fields)


class Wire:
    """What belongs to one connection: its flags, the ids of its channels, the number of its frames."""

    __slots__ = ("channels", "flags", "sequence")

    def __init__(self) -> None:
        self.flags = 0
        self.sequence = 0
        self.channels: dict[Key, int] = {}

    def frame(self, channel: int, payload: str, time: int) -> str:
        """[channel, payload, sequence, ms], the last two as the flags say."""
        tail = ""
        if self.flags & SEQ_ALL:
            self.sequence += 1
            tail = f",{self.sequence}"
        if self.flags & TIMESTAMP:
            tail += f",{time // 1000}"
        return f"[{channel},{payload}{tail}]"


class BitfinexFeed(Feed, ABC):
    """A channel of one pair. Payloads are what stands between channel and sequence."""

    def __init__(self, key: Key, market: Market, period: float = 0.0) -> None:
        super().__init__(":".join(key), market, period)
        self.instrument = market.instrument
        self.key = key
        self.time = 0

    @abstractmethod
    def first(self, book: Book) -> str:
        """What a new subscriber gets first."""

    def wrap(self, payload: str | bytes, envelope: Hashable) -> str:
        assert isinstance(envelope, Wire)
        assert isinstance(payload, str)
        return envelope.frame(envelope.channels[self.key], payload, self.time)


class Trades(BitfinexFeed):
    """Every trade twice: executed, then updated. A subscriber first gets the last thirty, newest first."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        self.time = step.time
        rows = [trade_row(self.instrument, trade) for trade in step.trades]
        return [f'"{event}",{row}' for event in ("te", "tu") for row in rows]

    def first(self, book: Book) -> str:
        return trade_rows(self.instrument, self.market.recent(30)[::-1])


class Books(BitfinexFeed):
    """The best `length` levels a side: a snapshot, then each change at once. Whoever leaves the window is deleted first, so
    that it never holds more. The checksum comes now and then while the book changes."""

    kind, notes = "book", True

    def __init__(self, length: int, flags: int, key: Key, market: Market) -> None:
        super().__init__(key, market, 2.5)
        self._length = length
        self._flags = flags
        self._window = Window(market.book, length, farewell=True)
        self._changed = False

    def note(self, step: Step) -> Payloads:
        self.time = step.time
        bids, asks = self._window.changes(dict.fromkeys(key for key, _ in step.changes))
        changes = sorted(bids + asks, key=lambda change: change[1] > 0)
        rows = [level(self.instrument, *change) for change in changes]
        self._changed |= bool(rows)
        return [f"[{','.join(rows)}]"] if rows and self._flags & BULK_UPDATES else rows

    def flush(self, time: int) -> Payloads:
        if not self._changed or not self._flags & OB_CHECKSUM:
            return NOTHING
        self._changed, self.time = False, time
        return [f'"cs",{checksum(self.instrument, self.market.book, min(self._length, CHECKED))}']

    def first(self, book: Book) -> str:
        return levels(self.instrument, book, self._length)


class Tickers(BitfinexFeed):
    """The ticker, each 15 seconds when anything has changed."""

    kind = "ticker"

    def __init__(self, key: Key, market: Market) -> None:
        super().__init__(key, market, 15.0)
        self._shown = market.sequence

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown, self.time = self.market.sequence, time
        return [self.first(self.market.book)]

    def first(self, book: Book) -> str:
        return f"[{ticker(self.market)}]"
