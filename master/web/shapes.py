"""What the API answers, as types of the OpenAPI document; what the rooms build as types themselves is not here again.

Prices and amounts are the venue's own text, times microseconds UTC, ages seconds.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from adapters.events import Book, Candle, Gap, Price, Side, Ticker, Trade
from master.jetstream.state import NatsState
from master.live.market import State
from master.pricing.prices import FeedInfo, FeedValue, FeedVolumes, LivePrice

Levels = list[Annotated[list[str], Meta(min_length=2, max_length=2)]]
"""Pairs of price and amount, best first. Not as tuples: readers of OpenAPI disagree on how those are written."""

# The market as it is now.


class LastTrade(Struct):
    price: str
    amount: str
    side: Side
    timestamp: int | None
    received: int
    id: str
    age: float


class BestPrices(Struct):
    """`origin`: what it was taken of, the fresher of both."""

    bid: str
    bid_amount: str | None
    ask: str
    ask_amount: str | None
    received: int
    age: float
    origin: Literal["book", "ticker"]


class BookFigures(Struct):
    """`levels` are known, both sides together."""

    levels: int
    received: int
    age: float


class SourceReport(Struct):
    """One exchange's market of one symbol; null is what is not known."""

    exchange: str
    symbol: str
    state: State
    age: float | None
    trade: LastTrade | None
    best: BestPrices | None
    book: BookFigures | None


class MarketReport(Struct):
    time: int
    sources: list[SourceReport]


class SymbolMarkets(Struct):
    """The exchanges that tell of a symbol, and those of them that have sent a book of it."""

    symbol: str
    exchanges: list[str]
    books: list[str]


class Symbols(Struct):
    symbols: list[SymbolMarkets]


class Ladder(Struct):
    """A book to the depth asked for. While it is recovering it has no sides, which is not the same as empty ones."""

    exchange: str
    symbol: str
    timestamp: int | None
    received: int | None
    age: float | None
    state: State
    sequence: int | None
    bids: Levels | None
    asks: Levels | None

    @classmethod
    def absent(cls, exchange: str, symbol: str) -> "Ladder":
        """The one of a book of which something was missed."""
        return cls(exchange, symbol, None, None, None, "recovering", None, None, None)


# Prices.


class Feeds(Struct):
    feeds: list[FeedInfo]


class LivePrices(Struct):
    time: int
    prices: list[LivePrice]


class FeedValues(Struct):
    data: list[FeedValue]


class RoundValues(Struct):
    votingRoundId: int  # noqa: N815 (the FTSO's)
    data: list[FeedValue]


class Volumes(Struct):
    data: list[FeedVolumes]


# The past: events as they were stored, each with its position.


class TradeRow(Trade, tag="trade", kw_only=True):
    position: int


class BookRow(Book, tag="book", kw_only=True):
    bids: Levels  # type: ignore[assignment]
    asks: Levels  # type: ignore[assignment]
    position: int


class TickerRow(Ticker, tag="ticker", kw_only=True):
    position: int


class CandleRow(Candle, tag="candle", kw_only=True):
    position: int | None = None


class PriceRow(Price, tag="price", kw_only=True):
    position: int


class GapRow(Gap, tag="gap", kw_only=True):
    position: int


class Trades(Struct):
    rows: list[TradeRow]
    cursor: str | None


class Books(Struct):
    rows: list[BookRow]
    cursor: str | None


class Tickers(Struct):
    rows: list[TickerRow]
    cursor: str | None


class Candles(Struct):
    rows: list[CandleRow]
    cursor: str | None


class PriceRows(Struct):
    rows: list[PriceRow]
    cursor: str | None


class Gaps(Struct):
    rows: list[GapRow]
    cursor: str | None


class CompletenessRow(Struct):
    """An hour of one channel; `complete` is the share of it that lies in no hole."""

    exchange: str
    symbol: str
    channel: str
    hour: int
    events: int
    holes: int
    repaired: int
    missing_seconds: float
    missing_ids: int
    complete: float


class Completeness(Struct):
    rows: list[CompletenessRow]


# The master itself.


class Alive(Struct):
    status: Literal["ok"] = "ok"


class JournalFigures(Struct):
    bytes: int
    pending: int


class Health(Struct):
    """`trouble`: why nothing can be stored. `exchanges`: rows by type since the start, and the age of the newest. `nats`: null
    where that is not configured."""

    status: Literal["ok", "failing"]
    trouble: str | None
    uptime: float
    stored: int
    collectors: list[str]
    connections: int
    refused: dict[str, int]
    journal: JournalFigures
    nats: NatsState | None
    exchanges: dict[str, dict[str, float]]


class ExchangeStatus(Struct):
    """Rates and lag are of the last second; `lag_ms` is the median from received to durable. `gaps`: since the start."""

    exchange: str
    state: Literal["ok", "quiet", "silent"]
    events_per_second: float
    trades_per_second: float
    lag_ms: float | None
    age: float | None
    symbols: int
    books: int
    books_recovering: int
    gaps: int


class Status(Struct):
    time: int
    uptime: float
    stored: int
    status: Literal["ok", "failing"]
    trouble: str | None
    collectors: list[str]
    connections: int
    journal: JournalFigures
    events_per_second: float
    exchanges: list[ExchangeStatus]


class Series(Struct):
    events_per_second: list[float | None]
    lag_ms: list[float | None]


class StatusHistory(Struct):
    """Values of one moment stand at the same place of each list; `step` is seconds."""

    step: float
    time: list[int]
    events_per_second: list[float | None]
    lag_ms: list[float | None]
    exchanges: dict[str, Series]
