"""The market as it is now: of each exchange and symbol the last trade, the best prices, the book and how old they are."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from adapters.events import Book, BookDelta, Event, Gap, Ticker, Trade
from master.live.books import LiveBook, doubted
from master.live.volumes import Ring, Volumes
from master.live.window import TradeWindow
from master.log import logger

log = logger("market")

WINDOW_SECONDS = 300
STALE_AFTER = 30_000_000
"""Microseconds without a word after which a source is stale, where nothing else is said."""

AHEAD = 5_000_000
"""Microseconds by which a venue's clock may be ahead of ours before its times are not believed."""

_FAR = float("inf")

State = Literal["live", "stale", "crossed", "recovering", "empty"]


class Best(Struct, gc=False):
    """Best bid and ask in the venue's own text; amounts are None where a ticker has none. `received` in microseconds UTC."""

    bid: str
    bid_amount: str | None
    ask: str
    ask_amount: str | None
    received: int
    origin: Literal["book", "ticker"]


class Source:
    """One exchange's market of one symbol, as far as its newest events tell."""

    __slots__ = ("_has_window", "exchange", "live", "symbol", "ticker", "trade", "traded", "volume", "window")

    def __init__(self, exchange: str, symbol: str, span: int, volume: Ring) -> None:
        self.exchange = exchange
        self.symbol = symbol
        self.trade: Trade | None = None
        """The newest by the venue's time."""
        self.traded = 0
        """And that time: the venue's (microseconds UTC), or ours where it sends none or one of the future."""
        self.ticker: Ticker | None = None
        self.live = LiveBook()
        self.window = TradeWindow(span)
        self._has_window = span > 0
        self.volume = volume

    def take(self, trade: Trade) -> None:
        """One more trade, in any order. Raises ValueError where price or amount is no number."""
        price, amount = float(trade.price), float(trade.amount)
        quote = price * amount
        if not 0 <= quote < _FAR:
            raise ValueError(f"no price and amount: {trade.price[:40]!r}, {trade.amount[:40]!r}")
        received = trade.received
        time = trade.timestamp or received
        if time > received + AHEAD:
            time = received
        if self._has_window:
            self.window.add(time, price, amount)
        self.volume.add(time, quote)
        if time >= self.traded:
            self.trade, self.traded = trade, time

    def recall(self, trade: Trade) -> None:
        """Have a newest one before any was taken. Raises ValueError as `take` does."""
        if not 0 <= float(trade.price) * float(trade.amount) < _FAR:
            raise ValueError(trade.price)
        self.trade, self.traded = trade, min(trade.timestamp or trade.received, trade.received)

    @property
    def is_recovering(self) -> bool:
        """Whether the book is absent because something of it is missing."""
        return self.live.is_recovering

    @property
    def book(self) -> Book | None:
        """Every level that is known, best first; None while there is none to be trusted."""
        newest = self.live.newest
        if newest is None or (isinstance(newest, Book) and not self.live.is_followed):
            return newest
        bids, asks = self.live.view(self.live.levels)
        return Book(self.exchange, self.symbol, newest.timestamp, newest.received, bids, asks, newest.sequence)

    @property
    def received(self) -> int | None:
        """When the newest that is known of it came (microseconds UTC)."""
        known = [each.received for each in (self.trade, self.ticker, self.live.newest) if each is not None]
        return max(known, default=None)

    def best(self) -> Best | None:
        """Of book and ticker the one that came last and has both sides."""
        newest, ticker = self.live.newest, self.ticker
        best: Best | None = None
        if ticker is not None and ticker.bid is not None and ticker.ask is not None:
            best = Best(ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount, ticker.received, "ticker")
        if newest is not None and (best is None or newest.received >= best.received):
            bids, asks = self.live.view(1)
            if bids and asks:
                return Best(*bids[0], *asks[0], newest.received, "book")
        return best

    def state(self, now: int, stale_after: int = STALE_AFTER) -> State:
        """ "empty": nothing is known; "stale": nothing came for longer than `stale_after` (microseconds, as `now`);
        "recovering": its book is absent; "crossed": the best bid is at or above the best ask."""
        received = self.received
        if received is None and not self.is_recovering:
            return "empty"
        if received is not None and now - received > stale_after:
            return "stale"
        if self.is_recovering:
            return "recovering"
        best = self.best()
        return "crossed" if best is not None and float(best.bid) >= float(best.ask) else "live"

    def report(self, now: int, stale_after: int = STALE_AFTER) -> dict[str, Any]:
        """One of the sources of /v1/market: texts as the venue sent them, ages in seconds; None for what is not known."""
        trade, best, book = self.trade, self.best(), self.live.newest
        return {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "state": self.state(now, stale_after),
            "age": _age(now, self.received),
            "trade": trade
            and {
                "price": trade.price,
                "amount": trade.amount,
                "side": trade.side,
                "timestamp": trade.timestamp,
                "received": trade.received,
                "id": trade.id,
                "age": _age(now, self.traded),
            },
            "best": best
            and {
                "bid": best.bid,
                "bid_amount": best.bid_amount,
                "ask": best.ask,
                "ask_amount": best.ask_amount,
                "received": best.received,
                "age": _age(now, best.received),
                "origin": best.origin,
            },
            "book": book and {"levels": self.live.levels, "received": book.received, "age": _age(now, book.received)},
        }

    def ladder(self, depth: int, now: int, stale_after: int = STALE_AFTER) -> dict[str, Any] | None:
        """The book as /v1/market/book shows it, at most `depth` levels a side; None while it is absent."""
        newest = self.live.newest
        if newest is None:
            return None
        bids, asks = self.live.view(depth)
        return {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "timestamp": newest.timestamp,
            "received": newest.received,
            "age": _age(now, newest.received),
            "state": self.state(now, stale_after),
            "sequence": newest.sequence,
            "bids": bids,
            "asks": asks,
        }


def _age(now: int, then: int | None) -> float | None:
    """In seconds; a clock that is ahead of ours makes nothing younger than now."""
    return None if then is None else max(0, now - then) / 1e6


class Market:
    """All sources. Takes what is durable, in order; reading it is cheap at any time.

    Trades of before may come after newer events, as after a restart those of the last hour do; of anything else only what is
    newer than all before is taken. No event may be given twice.
    """

    def __init__(self, window_seconds: int = WINDOW_SECONDS) -> None:
        """`window_seconds`: for which all trades are kept; 0, where nobody reads them, saves half of what a trade costs."""
        self.position = 0
        """Of the newest event taken."""
        self.symbols: dict[str, dict[str, Source]] = {}
        """By symbol, then by exchange."""
        self.volumes = Volumes()
        self.window_seconds = window_seconds
        self.unreadable: Counter[str] = Counter()
        """Events by exchange whose price or amount is no number. They are stored as they came, and have no effect here."""

    def source(self, exchange: str, symbol: str) -> Source:
        """This source, which begins to be one."""
        try:
            return self.symbols[symbol][exchange]
        except KeyError:
            source = Source(exchange, symbol, self.window_seconds * 1_000_000, self.volumes.ring(exchange, symbol))
            self.symbols.setdefault(symbol, {})[exchange] = source
            return source

    def sources(self, symbol: str | None = None, exchange: str | None = None) -> Iterator[Source]:
        """All of them, or those of one symbol, one exchange, or both."""
        chosen = self.symbols.values() if symbol is None else [self.symbols.get(symbol, {})]
        for of_symbol in chosen:
            if exchange is None:
                yield from of_symbol.values()
            elif exchange in of_symbol:
                yield of_symbol[exchange]

    def take(self, events: Sequence[Event], position: int) -> None:
        """Events of one batch, the first at this position."""
        is_news = position > self.position
        self.position = max(self.position, position + len(events) - 1)
        symbols = self.symbols
        for event in events:
            try:
                if type(event) is Trade:
                    try:
                        source = symbols[event.symbol][event.exchange]
                    except KeyError:
                        source = self.source(event.exchange, event.symbol)
                    source.take(event)
                elif is_news:
                    self._take_view(event)
            except ValueError:
                self._refuse(event)

    def recall(self, event: Event) -> bool:
        """Take the newest book, ticker or trade of before a start, unless this life has heard of it already: whether it was
        taken. Such a trade is in no volume and no window; it may be given to `take` as well."""
        source = self.source(event.exchange, event.symbol or "")
        known = source.live.is_known if type(event) is Book else source.ticker if type(event) is Ticker else source.trade
        if known:
            return False
        try:
            if type(event) is Trade:
                source.recall(event)
            else:
                self._take_view(event)
        except ValueError:
            return False  # it was refused, and said, when it came
        return True

    def _take_view(self, event: Event) -> None:
        """Anything but a trade."""
        kind = type(event)
        if kind is Book:
            self.source(event.exchange, event.symbol or "").live.whole(event)  # type: ignore[arg-type]
        elif kind is BookDelta:
            self.source(event.exchange, event.symbol or "").live.change(event)  # type: ignore[arg-type]
        elif kind is Ticker:
            self._take_ticker(event)  # type: ignore[arg-type]
        elif kind is Gap:
            self._take_gap(event)  # type: ignore[arg-type]

    def _take_ticker(self, ticker: Ticker) -> None:
        for price in (ticker.bid, ticker.ask):
            if price is not None and not 0 <= float(price) < _FAR:
                raise ValueError(price)
        self.source(ticker.exchange, ticker.symbol).ticker = ticker

    def _take_gap(self, gap: Gap) -> None:
        scope = doubted(gap)
        if scope is not None:
            for source in self.sources(*scope):
                if source.live.is_known:  # else it may be a market of which nobody wants a book
                    source.live.lose()

    def _refuse(self, event: Event) -> None:
        """A price or amount that is no number: whoever sent it broke the contract. The book that it was about is in doubt."""
        if event.exchange not in self.unreadable:
            log.error("not a number among prices and amounts; has no effect on what is live", example=str(event)[:200])
        self.unreadable[event.exchange] += 1
        if isinstance(event, Book | BookDelta):
            self.source(event.exchange, event.symbol).live.lose()
