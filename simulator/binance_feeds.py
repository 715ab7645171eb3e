"""Binance spot: the market data it sends. From the venue's sheet; where a recording differs, the recording holds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from simulator.feeds import NOTHING, CandleFeed, Dirty, Feed, Payloads
from simulator.instruments import Instrument, rescaled, signed
from simulator.market import Candle, Change, Market, Step, Trade

COMBINED = "combined"  # the envelope {"stream": ..., "data": ...}; without it payloads go out bare
MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "12h": 720, "1d": 1440}


class BinanceFeed(Feed):
    """A stream; `unit` is the microseconds in one unit of its times (1000: milliseconds)."""

    def __init__(self, name: str, market: Market, period: float = 0.0, unit: int = 1000) -> None:
        super().__init__(name, market, period)
        self.unit = unit
        self.native = native(market.instrument)
        self.price, self.amount = market.instrument.price_text, market.instrument.amount_text

    def wrap(self, payload: str | bytes, envelope: Hashable) -> str | bytes:
        return f'{{"stream":"{self.name}","data":{payload!s}}}' if envelope == COMBINED else payload

    def rows(self, levels: Sequence[Change]) -> str:
        price, amount = self.price, self.amount
        return ",".join([f'["{price(ticks)}","{amount(lots)}"]' for ticks, lots in levels])


class Trades(BinanceFeed):
    """One frame a match, ids without a hole."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        if not step.trades:
            return NOTHING
        time = step.time // self.unit
        return [
            f'{{"e":"trade","E":{time},"s":"{self.native}","t":{t.id},"p":"{self.price(t.ticks)}",'
            f'"q":"{self.amount(t.lots)}","T":{time},"m":{"false" if t.buyer else "true"},"M":true}}'
            for t in step.trades
        ]


class AggregateTrades(BinanceFeed):
    """One frame for all fills of a taker order at one price."""

    kind, notes = "trade", True

    def note(self, step: Step) -> Payloads:
        return [
            f'{{"e":"aggTrade","E":{step.time // self.unit},"s":"{self.native}",{self.body(list(fills))}}}'
            for _, fills in groupby(step.trades, key=lambda trade: trade.group)
        ]

    def body(self, fills: list[Trade]) -> str:
        """The fields of one row: stream and REST have them alike."""
        first, last = fills[0], fills[-1]
        return (
            f'"a":{first.group},"p":"{self.price(first.ticks)}","q":"{self.amount(sum(t.lots for t in fills))}",'
            f'"f":{first.id},"l":{last.id},"T":{last.time // self.unit},"m":{"false" if first.buyer else "true"},"M":true'
        )


class Depth(BinanceFeed):
    """Levels changed within 100 or 1000 ms. `U` is the last `u` + 1, also when updates cancelled each other out."""

    kind, notes = "book", True

    def __init__(self, name: str, market: Market, period: float = 0.0, unit: int = 1000) -> None:
        super().__init__(name, market, period, unit)
        self._dirty = Dirty(market.sequence)

    def note(self, step: Step) -> Payloads:
        self._dirty.add(step)
        return NOTHING

    def flush(self, time: int) -> Payloads:
        dirty = self._dirty
        if not dirty.keys:
            return NOTHING
        keys = sorted(dirty.keys, reverse=True)  # bids fall, then asks rise
        bids = self.rows([(key, dirty.keys[key]) for key in keys if key > 0])
        asks = self.rows([(-key, dirty.keys[key]) for key in keys if key < 0])
        payload = (
            f'{{"e":"depthUpdate","E":{time // self.unit},"s":"{self.native}","U":{dirty.first},"u":{dirty.last},'
            f'"b":[{bids}],"a":[{asks}]}}'
        )
        dirty.clear()
        return [payload]


class PartialDepth(BinanceFeed):
    """The best 5, 10 or 20 levels, when anything has changed."""

    kind = "view"

    def __init__(self, levels: int, name: str, market: Market, period: float, unit: int) -> None:
        super().__init__(name, market, period, unit)
        self.levels = levels
        self._shown = 0

    def flush(self, time: int) -> Payloads:
        market, book = self.market, self.market.book
        if market.sequence == self._shown:
            return NOTHING
        self._shown = market.sequence
        bids, asks = self.rows(book.top(book.bids, self.levels)), self.rows(book.top(book.asks, self.levels))
        return [f'{{"lastUpdateId":{market.sequence},"bids":[{bids}],"asks":[{asks}]}}']


class BookTicker(BinanceFeed):
    """The best prices, when either has changed in price or size."""

    kind, notes = "view", True
    _best: tuple[int, ...] = ()

    def note(self, step: Step) -> Payloads:
        book = self.market.book
        bid, ask = book.bids[-1], book.asks[-1]
        best = (bid, book.levels[bid], -ask, book.levels[ask])
        if best == self._best:
            return NOTHING
        self._best = best
        price, amount = self.price, self.amount
        return [
            f'{{"u":{step.sequence},"s":"{self.native}","b":"{price(bid)}","B":"{amount(best[1])}",'
            f'"a":"{price(-ask)}","A":"{amount(best[3])}"}}'
        ]


class Ticker(BinanceFeed):
    """The rolling day, each second when anything has changed."""

    kind = "ticker"
    _shown = 0

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        return [self.render(time)]

    def render(self, time: int) -> str:
        day = day_of(self.market, time, self.unit)
        short = zip("pPwxcQbBaAohlvqOCFLn", day.values(), strict=True)
        fields = ",".join(f'"{key}":{value}' if isinstance(value, int) else f'"{key}":"{value}"' for key, value in short)
        return f'{{"e":"24hrTicker","E":{time // self.unit},"s":"{self.native}",{fields}}}'


class MiniTicker(Ticker):
    """The rolling day in short."""

    def render(self, time: int) -> str:
        day = day_of(self.market, time, self.unit)
        names = {"c": "lastPrice", "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "q": "quoteVolume"}
        fields = ",".join(f'"{key}":"{day[name]}"' for key, name in names.items())
        return f'{{"e":"24hrMiniTicker","E":{time // self.unit},"s":"{self.native}",{fields}}}'


class Kline(CandleFeed, BinanceFeed):
    """Candles each two seconds, and once more when they have closed."""

    def __init__(self, interval: str, name: str, market: Market, period: float, unit: int) -> None:
        BinanceFeed.__init__(self, name, market, period, unit)
        CandleFeed.__init__(self, name, market, MINUTES[interval], period)
        self.interval = interval

    def render(self, candle: Candle, closed: bool, time: int) -> str:
        c = kline_of(self.market.instrument, candle, self.minutes, self.unit)
        return (
            f'{{"e":"kline","E":{time // self.unit},"s":"{self.native}","k":{{"t":{c[0]},"T":{c[6]},"s":"{self.native}",'
            f'"i":"{self.interval}","f":{candle.first},"L":{candle.last},"o":"{c[1]}","c":"{c[4]}","h":"{c[2]}","l":"{c[3]}",'
            f'"v":"{c[5]}","n":{c[8]},"x":{"true" if closed else "false"},"q":"{c[7]}","V":"{c[9]}","Q":"{c[10]}","B":"0"}}}}'
        )


Make = Callable[[str, Market, float, int], Feed]
STREAMS: dict[str, tuple[Make, float]] = {
    "trade": (Trades, 0.0),
    "aggTrade": (AggregateTrades, 0.0),
    "depth": (Depth, 1.0),
    "depth@1000ms": (Depth, 1.0),
    "depth@100ms": (Depth, 0.1),
    "bookTicker": (BookTicker, 0.0),
    "ticker": (Ticker, 1.0),
    "miniTicker": (MiniTicker, 1.0),
    **{f"depth{n}{speed}": (partial(PartialDepth, n), 0.1 if speed else 1.0) for n in (5, 10, 20) for speed in ("", "@100ms")},
    **{f"kline_{interval}": (partial(Kline, interval), 2.0) for interval in MINUTES},
}
"""What may follow `<symbol>@`: the feed and its period in seconds (sheet, section 5)."""


def native(instrument: Instrument) -> str:
    return instrument.base + instrument.quote


def kline_of(instrument: Instrument, candle: Candle, minutes: int, unit: int) -> list[Any]:
    """A candle as the twelve columns of a REST row; times in `unit` microseconds."""
    price, amount, decimals = instrument.price_text, instrument.amount_text, _decimals(instrument)
    start, end = candle.start // unit, (candle.start + minutes * 60_000_000) // unit - 1
    taken = amount(candle.taken[0]), rescaled(candle.taken[1], decimals, 8)
    prices = [price(p) for p in (candle.open, candle.high, candle.low, candle.close)]
    return [start, *prices, amount(candle.volume), end, rescaled(candle.turnover, decimals, 8), candle.trades, *taken, "0"]


def day_of(market: Market, time: int, unit: int) -> dict[str, Any]:
    """The rolling day, with the REST names, in the order of the stream's letters."""
    day, book, instrument = market.day, market.book, market.instrument
    price, amount = instrument.price_text, instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    last = market.trades[-1].lots if market.trades else 0
    average = day.turnover * 10 ** (8 - instrument.price_decimals) // day.volume if day.volume else 0
    return {
        "priceChange": signed(price, day.close - day.open),
        "priceChangePercent": f"{(day.close - day.open) / day.open * 100:.3f}",
        "weightedAvgPrice": rescaled(average, 8, 8),
        "prevClosePrice": price(day.open),
        "lastPrice": price(day.close),
        "lastQty": amount(last),
        "bidPrice": price(bid),
        "bidQty": amount(book.levels[bid]),
        "askPrice": price(-ask),
        "askQty": amount(book.levels[ask]),
        "openPrice": price(day.open),
        "highPrice": price(day.high),
        "lowPrice": price(day.low),
        "volume": amount(day.volume),
        "quoteVolume": rescaled(day.turnover, _decimals(instrument), 8),
        "openTime": (time - 86_400_000_000) // unit,
        "closeTime": time // unit,
        "firstId": day.first,
        "lastId": day.last,
        "count": day.trades,
    }


def _decimals(instrument: Instrument) -> int:
    return instrument.price_decimals + instrument.amount_decimals
