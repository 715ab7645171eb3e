"""The schema: what every venue's dialect is turned into.

Prices, amounts and ids are text exactly as precise as the venue's; times are integer microseconds UTC. `timestamp` is the
venue's time (None if it sends none), `received` is ours, taken when the bytes arrived. `symbol` is canonical (`BTC/USDT`).
"""

from typing import Literal

from msgspec import Struct

Levels = list[tuple[str, str]]
"""(price, amount) pairs, best first in a view."""

Side = Literal["buy", "sell", "unknown"]
"""The taker's side; "unknown" only where the venue does not say."""

Channel = Literal["trades", "orderbooks", "tickers"]
CHANNELS: tuple[Channel, ...] = ("trades", "orderbooks", "tickers")


class Trade(Struct, tag_field="type", tag="trade", gc=False):
    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    id: str
    price: str
    amount: str
    side: Side
    source: Literal["live", "backfill", "legacy"] = "live"


class Book(Struct, tag_field="type", tag="book", gc=False):
    """A complete view to the configured depth; in mode "deltas" the first after a synchronisation holds every known level."""

    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    bids: Levels
    asks: Levels
    sequence: int | None


class BookDelta(Struct, tag_field="type", tag="book_delta", gc=False):
    """Changed levels; amount "0" removes the level. `previous` is the sequence that this change follows."""

    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    bids: Levels
    asks: Levels
    sequence: int | None
    previous: int | None


class Ticker(Struct, tag_field="type", tag="ticker", gc=False):
    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    bid: str | None = None
    bid_amount: str | None = None
    ask: str | None = None
    ask_amount: str | None = None
    last: str | None = None
    volume_24h: str | None = None


class Candle(Struct, tag_field="type", tag="candle", gc=False):
    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    interval: str
    start: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int | None
    closed: bool


class Funding(Struct, tag_field="type", tag="funding", gc=False):
    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    rate: str
    next_time: int | None = None
    mark_price: str | None = None
    index_price: str | None = None


class OpenInterest(Struct, tag_field="type", tag="open_interest", gc=False):
    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    amount: str


class Liquidation(Struct, tag_field="type", tag="liquidation", gc=False):
    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    id: str
    price: str
    amount: str
    side: Side


class Gap(Struct, tag_field="type", tag="gap", gc=False):
    """Data that is missing. `first_missing`..`last_missing` are trade ids or book sequences where the venue numbers them.

    `symbol` is None where the hole is not one market's; `since` is the last moment known to be whole, `until` the first after
    the hole (None while it is open).
    """

    exchange: str
    symbol: str | None
    timestamp: int | None
    received: int
    channel: str
    reason: str
    first_missing: str | None = None
    last_missing: str | None = None
    since: int | None = None
    until: int | None = None


class Price(Struct, tag_field="type", tag="price", gc=False):
    """What the master makes of all sources of one feed (`symbol`, such as `BTC/USD`); `exchange` is empty. `sources` were used,
    `refused` not; `confidence` is from 0 to 1."""

    exchange: str
    symbol: str
    timestamp: int | None
    received: int
    price: str
    method: str
    sources: int
    refused: int
    spread_bps: float
    confidence: float


class Status(Struct, tag_field="type", tag="status", gc=False):
    """A change of state worth telling a person: of a connection, a subscription or a book. Kept out of the lake."""

    exchange: str
    symbol: str | None
    timestamp: int | None
    received: int
    scope: Literal["connection", "subscription", "book"]
    state: str
    detail: str


Event = Trade | Book | BookDelta | Ticker | Candle | Funding | OpenInterest | Liquidation | Gap | Price | Status
