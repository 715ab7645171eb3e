"""What things are called on NATS: subjects, streams, headers. Pure."""

from functools import lru_cache

from adapters.events import (
    Book,
    BookDelta,
    Candle,
    Event,
    Funding,
    Gap,
    Liquidation,
    OpenInterest,
    Price,
    Ticker,
    Trade,
)

QUEUE = "batch"
"""The stream of batches, of which every subject is `batch.<exchange>.<lane>`."""
MARKET = "market"
CLAIMS = "masters"
"""The key-value bucket in which masters share the work."""
MIXED = "_"
"""Stands for the exchange of a stream that has batches of several, which only another engine's spool can have."""

MESSAGE_ID = "Nats-Msg-Id"
WORKER = "Cm-Worker"
OLDEST = "Cm-Oldest"
"""Of a batch: the oldest seq of its stream that its worker still held when it sent it."""

POSITION = "Cm-Position"
"""Of an event: where it stands among all that its master has stored, which is the cursor of streams and history."""

KINDS: dict[type, str] = {
    Trade: "trade",
    Ticker: "ticker",
    Book: "l2_orderbook",
    BookDelta: "l2_delta",
    Funding: "funding_rate",
    OpenInterest: "open_interest",
    Liquidation: "liquidation",
    Candle: "candle",
    Gap: "gap",
    Price: "price",
}

_TOKEN = str.maketrans({"/": "-", ":": "-", ".": "_", "*": "_", ">": "_"})


def token(text: str) -> str:
    """A part of a subject: `BTC/USDT:USDT` as `btc-usdt-usdt`. What is empty is `_`, which no symbol is."""
    return "".join("_" if each.isspace() or not each.isprintable() else each for each in text.lower().translate(_TOKEN)) or "_"


def of_batch(exchange: str, lane: int) -> str:
    return f"{QUEUE}.{token(exchange)}.{lane}"


def batches_of(exchange: str) -> str:
    """All lanes of an exchange."""
    return f"{QUEUE}.{exchange}.*"


def exchange_of(subject: str) -> str:
    """Of a subject of a batch."""
    return subject.split(".")[1]


def known_of(exchange: str) -> str:
    """Where the master of an exchange is asked what it has stored of it."""
    return f"known.{token(exchange)}"


def of_event(event: Event) -> str:
    """`market.kraken.btc-usd.trade`; a price, which is of no exchange, `market.prices.btc-usd.price`."""
    return _of_event(type(event), event.exchange, event.symbol)


@lru_cache(1 << 16)
def _of_event(kind: type, exchange: str, symbol: str | None) -> str:
    return f"{MARKET}.{'prices' if kind is Price else token(exchange)}.{token(symbol or '')}.{KINDS[kind]}"


def message_id(stream: str, seq: int) -> str:
    return f"{stream}:{seq}"


def boots_of(worker: str) -> str:
    """Where processes of one worker name tell each other which is the newest."""
    return f"boots.{token(worker)}"
