"""What consumers can listen to: channels, topics and the patterns that choose among them. Pure.

A topic is `<channel>:<exchange>:<symbol>`, such as `trades:kraken:BTC/USD`, or `prices:<feed>`. Each of its parts but the
channel may be a pattern: `*` stands for any text, so that `*/USDT` is everything that is quoted in USDT.

Candles are `candles:<interval>:<exchange>:<symbol>`, of one market, or of `all` exchanges together; never a pattern.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from adapters.events import Book, BookDelta, Event, Funding, Gap, Liquidation, Price, Ticker, Trade
from master.history.questions import INTERVALS, Stored
from master.live.books import doubted

LONGEST_TOPIC = 200
ALL = "all"
"""In place of an exchange: the candles of a symbol over all of them."""


class Channel(Struct, frozen=True):
    """`kinds` are its events; `tables` of the lake hold what it carried before, and are empty for a view, of which only the
    newest state counts."""

    name: str
    kinds: tuple[type[Event], ...]
    tables: tuple[Stored, ...] = ()

    @property
    def is_view(self) -> bool:
        return not self.tables


CHANNELS = {
    channel.name: channel
    for channel in (
        Channel("trades", (Trade,), ("trades",)),
        Channel("liquidations", (Liquidation,), ("liquidations",)),
        Channel("funding", (Funding,), ("funding",)),
        Channel("gaps", (Gap,), ("gaps",)),
        # Changes are of no use without the whole books that they follow, and without what tells that one was missed.
        Channel("book_deltas", (BookDelta, Book, Gap), ("book_deltas", "books", "gaps")),
        Channel("books", (Book, Gap)),
        Channel("tickers", (Ticker,)),
        Channel("prices", (Price,)),
        # Of no events: the master makes them of trades while somebody listens (candle_topics.py).
        Channel("candles", ()),
    )
}

_SHAPES = {
    "prices": "prices:FEED, such as prices:BTC/USD",
    "candles": f"candles:INTERVAL:EXCHANGE:SYMBOL, such as candles:1m:kraken:BTC/USD; EXCHANGE {ALL}: of all together",
}


class TopicError(Exception):
    """Such a topic cannot be subscribed to. `change` says what would be right."""

    def __init__(self, topic: str, detail: str, change: str) -> None:
        super().__init__(f"{topic}: {detail}")
        self.topic, self.detail, self.change = topic, detail, change


class Pattern:
    """One topic as a consumer has written it, read."""

    def __init__(self, text: str) -> None:
        """Raises TopicError."""
        if len(text) > LONGEST_TOPIC:
            raise TopicError(text[:LONGEST_TOPIC], "too long", f"at most {LONGEST_TOPIC} characters")
        name, _, about = text.partition(":")
        if name not in CHANNELS:
            raise TopicError(text, f"no channel {name!r}", f"one of {', '.join(CHANNELS)}")
        self.interval = ""
        """Of candles."""
        if name == "candles":
            self.interval, _, about = about.partition(":")
        # A price has no exchange; a feed may have a colon, as any symbol may.
        parts = ["", about] if name == "prices" else about.split(":", 1)
        if len(parts) != 2 or not parts[1] or not (parts[0] or name == "prices"):
            raise TopicError(text, "parts are missing", _SHAPES.get(name, f"{name}:EXCHANGE:SYMBOL; * is any"))
        self.text = text
        self.channel = CHANNELS[name]
        self.exchange, self.symbol = parts
        self._is_exact = "*" not in self.exchange + self.symbol
        self._exchanges, self._symbols = (_matcher(part) for part in parts)
        if name == "candles":
            self._check_candles()

    def _check_candles(self) -> None:
        """Raises TopicError."""
        if self.interval not in INTERVALS:
            raise TopicError(self.text, f"no interval {self.interval!r}", f"one of {', '.join(INTERVALS)}")
        if not self._is_exact:
            raise TopicError(self.text, "candles are of one market, without *", _SHAPES["candles"])

    @property
    def exact(self) -> tuple[str, str] | None:
        """The exchange and the symbol, where it is one market's."""
        return (self.exchange, self.symbol) if self._is_exact else None

    def fits(self, exchange: str, symbol: str | None) -> bool:
        """Whether it is about this market. A gap without exchange or symbol is about all that it could touch."""
        return bool(
            (not exchange or self._exchanges.fullmatch(exchange)) and (symbol is None or self._symbols.fullmatch(symbol))
        )

    def chooses(self, event: Event) -> bool:
        """Whether this event is of its channel and market."""
        if type(event) not in self.channel.kinds or not self.fits(event.exchange, event.symbol):
            return False
        return not isinstance(event, Gap) or self.channel.name == "gaps" or doubted(event) is not None


def _matcher(part: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, part.split("*"))))


def only(values: Iterable[str]) -> str | None:
    """What all of these are, if they are one and the same and no pattern: it narrows a search."""
    different = set(values)
    value = different.pop() if len(different) == 1 else "*"
    return None if "*" in value else value
