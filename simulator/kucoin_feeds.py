"""KuCoin spot, classic WebSocket: the market data it sends. Numbers are text in their shortest form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

from simulator.feeds import NOTHING, CandleFeed, Feed, Payloads
from simulator.instruments import Instrument, rescaled, shortest, signed
from simulator.market import Candle, Change, Market, Step, Trade

TYPES = {"1min": 1, "3min": 3, "5min": 5, "15min": 15, "30min": 30, "1hour": 60, "2hour": 120, "4hour": 240, "1day": 1440}
TRADE_IDS = 11_000_000_000_000_000  # ids of trades are far above the sequences of books


def native(instrument: Instrument) -> str:
    return f"{instrument.base}-{instrument.quote}"


def trade_id(trade: Trade) -> int:
    """Rising, and not consecutive: a missing trade does not show in the ids of its neighbours."""
    return TRADE_IDS + trade.sequence


def rows(instrument: Instrument, levels: Sequence[Change]) -> str:
    price, amount = instrument.price_text, instrument.amount_text
    return ",".join([f'["{price(ticks)}","{amount(lots)}"]' for ticks, lots in levels])


class KucoinFeed(Feed):
    """A topic of one symbol."""

    subject: ClassVar[str]

    def __init__(self, topic: str, market: Market, period: float = 0.0) -> None:
        super().__init__(topic, market, period)
        self.instrument = market.instrument
        self.native = native(market.instrument)

    def frame(self, data: str, subject: str = "") -> str:
        return f'{{"topic":"{self.name}","type":"message","subject":"{subject or self.subject}","data":{{{data}}}}}'


class Match(KucoinFeed):
    """One frame a match; times in nanoseconds."""

    kind, notes = "trade", True
    subject = "trade.l3match"

    def note(self, step: Step) -> Payloads:
        price, amount = self.instrument.price_text, self.instrument.amount_text
        return [
            self.frame(
                f'"makerOrderId":"671b50{t.id:018x}","price":"{price(t.ticks)}","sequence":"{trade_id(t)}",'
                f'"side":"{"buy" if t.buyer else "sell"}","size":"{amount(t.lots)}","symbol":"{self.native}",'
                f'"takerOrderId":"671b51{step.trades[0].id:018x}","time":"{t.time}000","tradeId":"{trade_id(t)}","type":"match"'
            )
            for t in step.trades
        ]


class Level2(KucoinFeed):
    """Changes as [price, size, sequence], the last of a price only. An event that leaves the visible book as it is comes
    as price "0": about a third of all rows (recorded)."""

    kind, notes = "book", True
    subject = "trade.l2update"

    def note(self, step: Step) -> Payloads:
        first = step.sequence - len(step.changes) + 1
        latest = {key: (lots, sequence) for sequence, (key, lots) in enumerate(step.changes, first)}
        bids = [self._row(key, *latest[key]) for key in latest if key > 0]
        asks = [self._row(-key, *latest[key]) for key in latest if key < 0]
        if 0 in latest:
            (bids if step.sequence % 2 else asks).append(self._row(0, *latest[0]))
        return [
            self.frame(
                f'"changes":{{"asks":[{",".join(asks)}],"bids":[{",".join(bids)}]}},"sequenceEnd":{step.sequence},'
                f'"sequenceStart":{first},"symbol":"{self.native}","time":{step.time // 1000}'
            )
        ]

    def _row(self, ticks: int, lots: int, sequence: int) -> str:
        return f'["{self.instrument.price_text(ticks)}","{self.instrument.amount_text(lots)}","{sequence}"]'


class Top(KucoinFeed):
    """The best 5 or 50 levels as a whole each 100 ms, the best one (level1, flat) each 10 ms, when they have changed."""

    kind = "view"

    def __init__(self, depth: int, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.1 if depth > 1 else 0.01)
        self._depth = depth
        self._shown = ""

    def flush(self, time: int) -> Payloads:
        book = self.market.book
        asks, bids = (rows(self.instrument, book.top(side, self._depth)) for side in (book.asks, book.bids))
        both = f'"asks":{asks},"bids":{bids}' if self._depth == 1 else f'"asks":[{asks}],"bids":[{bids}]'
        if both == self._shown:
            return NOTHING
        self._shown = both
        return [self.frame(f'{both},"timestamp":{time // 1000}', "level1" if self._depth == 1 else "level2")]


class Ticker(KucoinFeed):
    """Each 100 ms when anything has changed; in `/market/ticker:all` the subject is the symbol."""

    kind = "ticker"
    subject = "trade.ticker"

    def __init__(self, topic: str, market: Market) -> None:
        super().__init__(topic, market, 0.1)
        self._shown = 0

    def flush(self, time: int) -> Payloads:
        if self.market.sequence == self._shown:
            return NOTHING
        self._shown = self.market.sequence
        data = ",".join([f'"{key}":"{value}"' for key, value in ticker(self.market).items()])
        subject = self.native if self.name.endswith(":all") else self.subject
        return [self.frame(f'{data},"time":{time // 1000}', subject)]


class Snapshot(KucoinFeed):
    """The day, each 2 seconds: nested twice, bare numbers with twenty decimals in places (recorded)."""

    kind = "ticker"
    subject = "trade.snapshot"

    def __init__(self, topic: str, market: Market) -> None:
        super().__init__(topic, market, 2.0)
        self._shown = 0

    def flush(self, time: int) -> Payloads:
        market, i = self.market, self.instrument
        if market.sequence == self._shown:
            return NOTHING
        self._shown = market.sequence
        day, book, price, amount = market.day, market.book, i.price_text, i.amount_text
        bid, ask = book.bids[-1], book.asks[-1]
        average = price(day.turnover // day.volume if day.volume else day.close)
        low, high, opened, change = (
            signed(partial(rescaled, decimals=i.price_decimals, shown=20), ticks)
            for ticks in (day.low, day.high, day.open, day.close - day.open)
        )
        volume = rescaled(day.volume, i.amount_decimals, 20)
        turnover = rescaled(day.turnover, i.price_decimals + i.amount_decimals, 20)
        return [
            self.frame(
                f'"sequence":"{market.sequence}","data":{{"askSize":{amount(book.levels[ask])},"averagePrice":{average},'
                f'"baseCurrency":"{i.base}","bidSize":{amount(book.levels[bid])},"board":1,"buy":{price(bid)},'
                f'"changePrice":{change},"changeRate":{(day.close - day.open) / day.open:.4f},"close":{price(day.close)},'
                f'"datetime":{time // 1000},"high":{high},"lastTradedPrice":{price(day.close)},"low":{low},'
                f'"makerCoefficient":1.000000,"makerFeeRate":0.001,"marginTrade":true,"mark":0,"market":"{group(i)}",'
                f'"open":{opened},"quoteCurrency":"{i.quote}","sell":{price(-ask)},"sort":100,"symbol":"{self.native}",'
                f'"symbolCode":"{self.native}","takerCoefficient":1.000000,"takerFeeRate":0.001,"trading":true,'
                f'"vol":{volume},"volValue":{turnover}}}'
            )
        ]


class Candles(CandleFeed, KucoinFeed):
    """Candles that have trades. Open, close, high, low: in that order. Nothing says that one is closed."""

    closes = flat = False
    subject = "trade.candles.update"

    def __init__(self, kind: str, topic: str, market: Market) -> None:
        KucoinFeed.__init__(self, topic, market)
        CandleFeed.__init__(self, topic, market, TYPES[kind], 1.0)

    def render(self, candle: Candle, closed: bool, time: int) -> str:
        row = '","'.join(candle_row(self.instrument, candle))
        return self.frame(f'"symbol":"{self.native}","candles":["{row}"],"time":{time}000')


TOPICS: dict[str, Callable[[str, Market], Feed]] = {
    "/market/match": Match,
    "/market/level2": Level2,
    "/spotMarket/level1": partial(Top, 1),
    "/spotMarket/level2Depth5": partial(Top, 5),
    "/spotMarket/level2Depth50": partial(Top, 50),
    "/market/ticker": Ticker,
    "/market/snapshot": Snapshot,
}
"""What may stand before `:<symbol>`; candles have their own form."""


def group(instrument: Instrument) -> str:
    """The venue's own market group of a pair."""
    return "USDS" if instrument.quote.startswith("USD") else instrument.quote


def candle_row(instrument: Instrument, candle: Candle) -> list[str]:
    price = instrument.price_text
    turnover = shortest(candle.turnover, instrument.price_decimals + instrument.amount_decimals, 9)
    prices = [price(ticks) for ticks in (candle.open, candle.close, candle.high, candle.low)]
    return [str(candle.start // 1_000_000), *prices, instrument.amount_text(candle.volume), turnover]


def ticker(market: Market) -> dict[str, str]:
    """Best prices and the last trade, in the order of the stream."""
    book, price, amount = market.book, market.instrument.price_text, market.instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    last = market.trades[-1].lots if market.trades else 0
    return {
        "bestAsk": price(-ask),
        "bestAskSize": amount(book.levels[ask]),
        "bestBid": price(bid),
        "bestBidSize": amount(book.levels[bid]),
        "price": price(market.day.close),
        "sequence": str(market.sequence),
        "size": amount(last),
    }
