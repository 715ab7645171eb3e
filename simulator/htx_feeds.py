"""HTX spot: the market data it sends. Every frame is gzip; numbers are bare, as Java prints a double."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from gzip import compress

from simulator.feeds import NOTHING, Dirty, Feed, Payloads, Window
from simulator.instruments import LEVELS, Instrument, Text, padded
from simulator.market import Book, Change, Market, Step, Trade

TRADE_IDS = 100_000_000_000  # `tradeId` rises by one with every trade of a pair (sheet, 6)
MATCH_IDS = 255_757_000_000_000  # what stands behind tick.id in the 26 digits of a row's `id`
MBP = {"5": 5, "20": 20, "150": 150, "400": 400}
REFRESH = {"5": 5, "10": 10, "20": 20}
STEPS = {f"step{step}": 10**step for step in range(6)}  # ticks in one row
DEPTH, MERGED = 150, 20  # rows a side of step0, and of the steps that merge


def native(instrument: Instrument) -> str:
    return f"{instrument.base}{instrument.quote}".lower()


def trade_id(trade: Trade) -> int:
    return TRADE_IDS + trade.id


def double(decimals: int) -> Text:
    """Text of `n / 10**decimals` as a double: `188358.0`, `0.001`, and beyond these sizes `9.2E-7`, `1.1111111E7`."""
    whole = padded(decimals, decimals + 1)

    def text(n: int) -> str:
        digits = str(n)
        exponent = len(digits) - 1 - decimals
        if n == 0 or -3 <= exponent < 7:
            head, _, tail = whole(n).partition(".")
            return f"{head}.{tail.rstrip('0') or '0'}"
        return f"{digits[0]}.{digits[1:].rstrip('0') or '0'}E{exponent}"

    return text


def pack(text: str) -> bytes:
    """A frame as it goes out; gzip without a time, as recorded."""
    return compress(text.encode(), 6, mtime=0)


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f"[{price(abs(key))},{amount(lots)}]" for key, lots in levels])


def merged(levels: Sequence[Change], ticks: int, *, up: bool) -> list[Change]:
    """Levels put together in rows of `ticks`: bids under the lower price, asks under the upper one."""
    sums: dict[int, int] = {}
    for price, lots in levels:
        row = (price + (ticks - 1 if up else 0)) // ticks * ticks
        sums[row] = sums.get(row, 0) + lots
    return list(sums.items())


class HtxFeed(Feed):
    """A topic of one pair."""

    def __init__(self, topic: str, market: Market, period: float = 0.0) -> None:
        super().__init__(topic, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)

    def first(self, time: int) -> Payloads:
        """What a new subscriber gets at once."""
        return NOTHING

    def frame(self, tick: str, time: int) -> bytes:
        return pack(f'{{"ch":"{self.name}","ts":{time // 1000},"tick":{{{tick}}}}}')


class Trades(HtxFeed):
    """All fills of one taker order in one frame, the last one first: no order is promised. A subscriber first gets the
    last frame, however old (recorded)."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [self._frame(step.trades)] if step.trades else NOTHING

    def first(self, time: int) -> Payloads:
        return [self._frame(fills) for fills in orders(self.market.recent(8))[-1:]]

    def _frame(self, fills: Sequence[Trade]) -> bytes:
        last = fills[-1]
        data = ",".join([row(self.instrument, last, trade, "tradeId") for trade in reversed(fills)])
        return self.frame(f'"id":{last.sequence},"ts":{last.time // 1000},"data":[{data}]', last.time)


class Mbp(HtxFeed):
    """Changes in the best `depth` levels a side each 100 ms, chained by prevSeqNum; a side without changes is left out.
    Readers keep `depth` levels by themselves. The snapshot is asked for."""

    kind, notes = "book", True

    def __init__(self, depth: int, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.1)
        self._depth = depth
        self._window = Window(market.book, depth, farewell=False)
        self._dirty = Dirty(market.sequence)
        self._sequence = market.sequence

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        bids, asks = self._window.changes(self._dirty.keys)
        self._dirty.clear()
        if not bids and not asks:
            return NOTHING
        before, self._sequence = self._sequence, self.market.sequence
        sides = "".join(
            [f',"{name}":[{rows(self.instrument, side)}]' for name, side in (("bids", bids), ("asks", asks)) if side]
        )
        return [self.frame(f'"seqNum":{self._sequence},"prevSeqNum":{before}{sides}', time)]

    def snapshot(self, sequence: int, book: Book) -> str:
        """The answer to `req`. The present book goes under the number from which the next frame goes on."""
        shown = self._sequence if sequence == self.market.sequence else sequence
        bids, asks = (rows(self.instrument, book.top(side, self._depth)) for side in (book.bids, book.asks))
        return f'{{"seqNum":{shown},"bids":[{bids}],"asks":[{asks}]}}'


class View(HtxFeed, ABC):
    """What is sent as a whole, when it has changed."""

    kind = "view"
    _shown = 0

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [self.frame(self.tick(time), time)]

    def first(self, time: int) -> Payloads:
        return [self.frame(self.tick(time), time)]

    @abstractmethod
    def tick(self, time: int) -> str:
        """What the feed says now."""


class Refresh(View):
    """The best 5, 10 or 20 levels each 100 ms."""

    def __init__(self, depth: int, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.1)
        self._depth = depth

    def tick(self, time: int) -> str:
        book = self.market.book
        bids, asks = (rows(self.instrument, book.top(side, self._depth)) for side in (book.bids, book.asks))
        return f'"seqNum":{self.market.sequence},"bids":[{bids}],"asks":[{asks}]'


class Depth(View):
    """The whole book each second: 150 levels a side, or 20 rows of merged ones."""

    def __init__(self, ticks: int, topic: str, market: Market) -> None:
        super().__init__(topic, market, 1.0)
        self._ticks = ticks

    def tick(self, time: int) -> str:
        return depth(self.market, self.market.book, self.market.sequence, self._ticks, time)


class Bbo(View):
    """The best prices, when either has changed in price or size."""

    notes = True
    _best: tuple[int, ...] = ()

    def note(self, step: Step) -> Payloads:
        book = self.market.book
        bid, ask = book.bids[-1], book.asks[-1]
        best = (bid, book.levels[bid], ask, book.levels[ask])
        if best == self._best:
            return NOTHING
        self._best = best
        return self.first(step.time)

    def flush(self, time: int) -> Payloads:
        return NOTHING

    def tick(self, time: int) -> str:
        book, price, amount = self.market.book, self.instrument.price_text, self.instrument.amount_text
        bid, ask = book.bids[-1], book.asks[-1]
        return (
            f'"seqId":{self.market.sequence},"ask":{price(-ask)},"askSize":{amount(book.levels[ask])},"bid":{price(bid)},'
            f'"bidSize":{amount(book.levels[bid])},"quoteTime":{time // 1000},"symbol":"{self.native}"'
        )


class Detail(View):
    """The day, each second."""

    kind = "ticker"

    def __init__(self, topic: str, market: Market) -> None:
        super().__init__(topic, market, 1.0)

    def tick(self, time: int) -> str:
        version, day = self.market.sequence, day_of(self.market)
        names = ("low", "high", "open", "close", "vol", "amount")
        fields = ",".join([f'"{name}":{day[name]}' for name in names])
        return f'"id":{version},{fields},"version":{version},"count":{day["count"]}'


class Ticker(View):
    """The day with the best prices and the last trade, each 100 ms."""

    kind = "ticker"

    def __init__(self, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.1)

    def tick(self, time: int) -> str:
        last = self.market.trades[-1].lots if self.market.trades else 0
        fields = day_of(self.market) | best_of(self.market)
        fields |= {"lastPrice": fields["close"], "lastSize": self.instrument.amount_text(last)}
        return ",".join([f'"{name}":{value}' for name, value in fields.items()])


TOPICS: dict[str, Callable[[str, Market], HtxFeed]] = {
    "trade.detail": Trades,
    "bbo": Bbo,
    "detail": Detail,
    "ticker": Ticker,
    **{f"depth.{step}": partial(Depth, ticks) for step, ticks in STEPS.items()},
    **{f"mbp.refresh.{name}": partial(Refresh, levels) for name, levels in REFRESH.items()},
}
"""What may stand behind `market.<symbol>.` at /ws."""

DELTAS: dict[str, Callable[[str, Market], Mbp]] = {f"mbp.{name}": partial(Mbp, levels) for name, levels in MBP.items()}
"""And at /feed."""


def orders(trades: Sequence[Trade]) -> list[list[Trade]]:
    """Trades put together by the taker order, and with it the moment, they belong to."""
    together: dict[int, list[Trade]] = {}
    for trade in trades:
        together.setdefault(trade.time, []).append(trade)
    return list(together.values())


def row(instrument: Instrument, last: Trade, trade: Trade, key: str) -> str:
    """A trade in the frame of its order; REST spells the key of its id in another way."""
    return (
        f'{{"id":{last.sequence}{MATCH_IDS + trade.id},"ts":{trade.time // 1000},"{key}":{trade_id(trade)},'
        f'"amount":{instrument.amount_text(trade.lots)},"price":{instrument.price_text(trade.ticks)},'
        f'"direction":"{"buy" if trade.buyer else "sell"}"}}'
    )


def depth(market: Market, book: Book, version: int, ticks: int, time: int, most: int = DEPTH) -> str:
    """The tick of `depth.stepN`, over the socket and over REST."""
    bids, asks = book.top(book.bids, LEVELS), book.top(book.asks, LEVELS)
    most = most if ticks == 1 else min(most, MERGED)
    if ticks > 1:
        bids, asks = merged(bids, ticks, up=False), merged(asks, ticks, up=True)
    sides = f'"bids":[{rows(market.instrument, bids[:most])}],"asks":[{rows(market.instrument, asks[:most])}]'
    return f'{sides},"version":{version},"ts":{time // 1000}'


def day_of(market: Market) -> dict[str, str]:
    """The day: `amount` counts the base, `vol` the quote."""
    instrument, day = market.instrument, market.day
    price = instrument.price_text
    return {
        "open": price(day.open),
        "high": price(day.high),
        "low": price(day.low),
        "close": price(day.close),
        "amount": instrument.amount_text(day.volume),
        "vol": double(instrument.price_decimals + instrument.amount_decimals)(day.turnover),
        "count": str(day.trades),
    }


def best_of(market: Market) -> dict[str, str]:
    book, price, amount = market.book, market.instrument.price_text, market.instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    return {
        "bid": price(bid),
        "bidSize": amount(book.levels[bid]),
        "ask": price(-ask),
        "askSize": amount(book.levels[ask]),
    }
