"""The market as it is now: of each exchange and symbol the last trade, the best prices, the book and how old they are."""

from collections.abc import Sequence

from msgspec import Struct

from adapters.events import Book, Event, Gap, Ticker, Trade


class Source(Struct):
    """One exchange's market of one symbol, as far as its newest events tell."""

    exchange: str
    symbol: str
    trade: Trade | None = None
    """The newest by the venue's time."""
    ticker: Ticker | None = None
    book: Book | None = None
    """The newest whole view; None while there is none to be trusted."""
    is_recovering: bool = False
    """A gap of its book was told, and no whole book since."""


class Market:
    """All sources. Takes what is durable, in order; reading it is cheap at any time."""

    def __init__(self) -> None:
        self.position = 0
        """Of the newest event taken."""
        self.symbols: dict[str, dict[str, Source]] = {}
        """By symbol, then by exchange."""

    def source(self, exchange: str, symbol: str) -> Source:
        """This source, which begins to be one."""
        of_symbol = self.symbols.setdefault(symbol, {})
        return of_symbol.get(exchange) or of_symbol.setdefault(exchange, Source(exchange, symbol))

    def take(self, events: Sequence[Event], position: int) -> None:
        """Events of one batch, the first at this position."""
        self.position = position + len(events) - 1
        for event in events:
            kind = type(event)
            if kind is Trade:
                self._trade(event)  # type: ignore[arg-type]
            elif kind is Book:
                source = self.source(event.exchange, event.symbol or "")
                source.book, source.is_recovering = event, False  # type: ignore[assignment]
            elif kind is Ticker:
                self.source(event.exchange, event.symbol or "").ticker = event  # type: ignore[assignment]
            elif kind is Gap and event.channel == "orderbooks":  # type: ignore[union-attr]
                self._lost_book(event)  # type: ignore[arg-type]

    def _trade(self, trade: Trade) -> None:
        source = self.source(trade.exchange, trade.symbol)
        last = source.trade
        if last is None or (trade.timestamp or trade.received) >= (last.timestamp or last.received):
            source.trade = trade

    def _lost_book(self, gap: Gap) -> None:
        for of_symbol in self.symbols.values():
            source = of_symbol.get(gap.exchange)
            if source is not None and gap.symbol in (None, source.symbol):
                source.book, source.is_recovering = None, True
