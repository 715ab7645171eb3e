"""A market that really trades against its own book.

A seeded flow of limit orders, cancels and market orders. Market orders consume the levels they meet, so books, trades
and checksums agree by construction: the changes of a step are exactly what its trades took.

A level has a signed key: `+ticks` on the bid side, `-ticks` on the ask side. Higher is better on both sides, one dict
holds both, and the best of a side is the last of its sorted list.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from itertools import accumulate, islice
from math import log
from random import Random
from typing import NamedTuple

from simulator.instruments import LEVELS, PRICES, Instrument

MINUTE = 60_000_000
HISTORY = 100_000  # true trades kept per market
UNDO = 2048  # book changes kept, to show an older book (see Market.rewound)
WARM_UP = 600  # steps before the first subscriber, a second apart: a venue has always traded before you came

MARKET_ORDERS = 0.12  # share of steps; the rest are limit orders and cancels
NEAR_ORDERS = 0.6  # share of limit orders near the touch; the rest fall anywhere in the ladder
NEAR_CANCELS = 0.25
REFILL, SHED = 0.75, 0.38  # share of limit orders among quotes while a side is thinner, or fuller, than it should be
WIDTH = 0.05  # of the price: how far the ladder reaches
MINIMUM = 20  # levels a side that cancels and market orders leave alone
VOLATILITY = 2e-4
REVERSION = 5e-5  # keeps the fair price within about two percent of where it began
ORDER_VALUE = 1500.0  # US dollars of a typical resting order

Change = tuple[int, int]
"""(key, lots now at that price; 0 removes). Key 0 is an order event that leaves the visible book as it is."""


class Trade(NamedTuple):
    """One match. `group` numbers the fills of one taker order at one price; `time` is microseconds UTC."""

    id: int
    ticks: int
    lots: int
    buyer: bool  # the taker bought
    time: int
    group: int
    sequence: int


class Candle:
    """One interval of trading, prices in ticks, `turnover` in ticks x lots, `start` in microseconds."""

    __slots__ = ("close", "first", "high", "last", "low", "open", "start", "taken", "trades", "turnover", "volume")

    def __init__(self, start: int, price: int, first: int) -> None:
        self.start = start
        self.open = self.high = self.low = self.close = price
        self.volume = self.turnover = self.trades = 0
        self.taken = (0, 0)  # volume and turnover bought by takers
        self.first = first  # id of the first trade; `last` is below it while there is none
        self.last = first - 1

    def add(self, trade: Trade) -> None:
        price = trade.ticks
        if not self.trades:
            self.open = self.high = self.low = price
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.volume += trade.lots
        self.turnover += price * trade.lots
        self.trades += 1
        self.last = trade.id
        if trade.buyer:
            self.taken = (self.taken[0] + trade.lots, self.taken[1] + price * trade.lots)

    def merge(self, later: "Candle") -> None:
        """Widen this candle by the one that follows it."""
        if later.trades:
            self.open = self.open if self.trades else later.open
            self.high = max(self.high, later.high) if self.trades else later.high
            self.low = min(self.low, later.low) if self.trades else later.low
        self.close = later.close
        self.volume += later.volume
        self.turnover += later.turnover
        self.trades += later.trades
        self.last = later.last
        self.taken = (self.taken[0] + later.taken[0], self.taken[1] + later.taken[1])


class Book:
    """Price levels of both sides, keyed as the module says."""

    __slots__ = ("asks", "bids", "levels")

    def __init__(self, levels: dict[int, int]) -> None:
        self.levels = levels
        self.bids = sorted(key for key in levels if key > 0)
        self.asks = sorted(key for key in levels if key < 0)

    def set(self, key: int, lots: int) -> int:
        """Put `lots` at a level (0 removes it) and return what was there."""
        before = self.levels.get(key, 0)
        side = self.bids if key > 0 else self.asks
        if lots:
            self.levels[key] = lots
            if not before:
                insort(side, key)
        elif before:
            del self.levels[key]
            del side[-1 if side[-1] == key else bisect_left(side, key)]
        return before

    def top(self, side: list[int], depth: int) -> list[Change]:
        """The best `depth` levels of a side, best first, as (ticks, lots)."""
        levels = self.levels
        return [(abs(key), levels[key]) for key in islice(reversed(side), depth)]


class Step:
    """What one order event did: its changes in order, one sequence number each, and its trades. `sequence` is the last."""

    __slots__ = ("changes", "sequence", "time", "trades")

    def __init__(self, changes: list[Change], trades: list[Trade], sequence: int, time: int) -> None:
        self.changes = changes
        self.trades = trades
        self.sequence = sequence
        self.time = time


class Market:
    """One instrument at one venue. The same seed text and the same calls give the same market.

    `blanks` is the share of steps that only move the sequence: KuCoin shows these, others do not.
    """

    def __init__(self, instrument: Instrument, seed: str, time: int, blanks: float = 0.0) -> None:
        self.instrument = instrument
        self.symbol = instrument.symbol
        self.random = random = Random(seed)  # noqa: S311  a market, not a secret
        self._blanks = blanks
        self._anchor = self._fair = instrument.price * random.uniform(0.9995, 1.0005)  # venues differ by a few bps
        self._target = min(LEVELS, int(self._anchor * 0.8))
        self._size = ORDER_VALUE / PRICES[instrument.base] * 10**instrument.amount_decimals
        self._width = max(WIDTH * self._anchor, min(2.0 * LEVELS, self._anchor))
        self.book = Book(dict(self._ladder()))
        self.sequence = random.randrange(10**9, 10**11)
        self.trades: deque[Trade] = deque(maxlen=HISTORY)
        self._id = random.randrange(10**7, 10**9)
        self._group = self._id - random.randrange(10**6, 10**7)
        self._undo: deque[Change] = deque(maxlen=UNDO)
        begin = time - WARM_UP * 1_000_000
        mid = int(self._anchor)
        self.minutes: deque[Candle] = deque([Candle(begin // MINUTE * MINUTE, mid, self._id + 1)], maxlen=LEVELS)
        self.day = Candle(begin, mid, self._id + 1)
        if instrument.moves:
            for second in range(WARM_UP):
                self.step(begin + second * 1_000_000)

    def step(self, time: int) -> Step:
        """Let one order arrive at `time` (microseconds UTC)."""
        random = self.random.random
        fair = self._fair
        self._fair = fair + fair * VOLATILITY * (random() - 0.5) - (fair - self._anchor) * REVERSION
        changes: list[Change] = []
        trades: list[Trade] = []
        draw = random()
        if draw < MARKET_ORDERS:
            self._take(time, changes, trades)
        elif draw < MARKET_ORDERS + self._blanks:
            self.sequence += 1
            self._undo.append((0, 0))
            changes.append((0, 0))
        else:
            self._quote(changes)
        return Step(changes, trades, self.sequence, time)

    def rewound(self) -> tuple[int, Book]:
        """The book as it was some thousand changes ago, and its sequence."""
        levels = dict(self.book.levels)
        for key, before in reversed(self._undo):
            if before:
                levels[key] = before
            else:
                levels.pop(key, None)
        return self.sequence - len(self._undo), Book(levels)

    def recent(self, limit: int) -> list[Trade]:
        """The last `limit` trades, oldest first."""
        return list(islice(reversed(self.trades), limit))[::-1]

    def since(self, first: int, limit: int) -> list[Trade]:
        """Up to `limit` trades from id `first` on, oldest first, as far as they are kept."""
        skip = max(0, first - self.trades[0].id) if self.trades else 0
        return list(islice(self.trades, skip, skip + limit))

    def candles(self, minutes: int, time: int, limit: int = LEVELS) -> list[Candle]:
        """The last `limit` candles of that many minutes up to `time`, oldest first, the last one open. Minutes without
        trades are flat."""
        self._roll(time)
        width = minutes * MINUTE
        merged: list[Candle] = []
        for candle in reversed(list(islice(reversed(self.minutes), (limit + 1) * minutes))):
            start = candle.start // width * width
            if not merged or merged[-1].start != start:
                merged.append(Candle(start, candle.open, candle.first))
            merged[-1].merge(candle)
        return merged[-limit:]

    def _take(self, time: int, changes: list[Change], trades: list[Trade]) -> None:
        """A market order: whole levels, then a part of one, each matched against one to three resting orders."""
        random = self.random.random
        bids, asks = self.book.bids, self.book.asks
        mid = (bids[-1] - asks[-1]) / 2
        pull = (self._fair - mid) / mid * 2000  # takers buy when the market is below the fair price
        buyer = random() < 0.5 + max(-0.4, min(0.4, pull))
        side = asks if buyer else bids
        while True:
            key = side[-1]
            lots = self.book.levels[key]
            last = random() < 0.8 or len(side) <= MINIMUM
            part = lots if not last or (random() < 0.4 and len(side) > MINIMUM) else 1 + int(random() * lots)
            self._group += 1
            while part:
                fill = part if random() < 0.75 else 1 + int(random() * part)
                part -= fill
                lots -= fill
                self._change(key, lots, changes)
                self._id += 1
                trade = Trade(self._id, abs(key), fill, buyer, time, self._group, self.sequence)
                trades.append(trade)
                self._roll(time)
                self.minutes[-1].add(trade)
                self.day.add(trade)
                self.trades.append(trade)
            if last:
                return

    def _quote(self, changes: list[Change]) -> None:
        """A limit order placed by its distance from the fair price, or a cancel; most of both near the touch."""
        random = self.random.random
        book = self.book
        bid = random() < 0.5
        side, other = (book.bids, book.asks) if bid else (book.asks, book.bids)
        count = len(side)
        adds = random() < (REFILL if count < self._target else SHED)
        near = random() < (NEAR_ORDERS if adds else NEAR_CANCELS)
        depth = random()
        if adds:
            fair = int(self._fair) if bid else -int(self._fair) - 1
            key = min(fair - int((depth**12 if near else depth) * self._width), -other[-1] - 1)
            if bid and key < 1:
                key = side[0]
            self._change(key, book.levels.get(key, 0) + self._lots(), changes)
        else:
            key = side[-1 - int(count * (depth**5 if near else depth))]
            keep = count <= MINIMUM or random() < 0.3
            self._change(key, 1 + int(random() * book.levels[key]) if keep else 0, changes)

    def _change(self, key: int, lots: int, changes: list[Change]) -> None:
        self._undo.append((key, self.book.set(key, lots)))
        self.sequence += 1
        changes.append((key, lots))

    def _lots(self) -> int:
        return 1 + int(self._size * -log(1.0 - self.random.random()))

    def _ladder(self) -> Iterator[Change]:
        """The first book: a tick of spread, then levels at growing distances. Written for speed: a venue has hundreds."""
        random, size, mid = self.random.random, self._size, int(self._anchor)
        growth = self._width / self._target**2 * 2
        for fair in (mid, -mid - 1):
            steps = [-1 - int(growth * rank * random()) for rank in range(self._target - 1)]
            for key in accumulate(steps, initial=fair):
                if fair > 0 >= key:
                    break
                yield key, 1 + int(size * -log(1.0 - random()))

    def _roll(self, time: int) -> None:
        """Close minutes that have ended; silent ones are flat."""
        last = self.minutes[-1]
        start = time // MINUTE * MINUTE
        if start == last.start:
            return
        if start - last.start > LEVELS * MINUTE:
            last = Candle(start - LEVELS * MINUTE, last.close, last.last + 1)
        while last.start < start:
            last = Candle(last.start + MINUTE, last.close, last.last + 1)
            self.minutes.append(last)
