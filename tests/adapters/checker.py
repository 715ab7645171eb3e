"""Sees every output of an adapter and rejects the first that breaks the contract."""

import re
from functools import lru_cache
from itertools import pairwise

import msgspec

from adapters.adapter import ExchangeAdapter
from adapters.effects import Connect, Effect, Fetch, Send
from adapters.errors import AdapterError
from adapters.events import CHANNELS, Book, BookDelta, Event, Gap, Levels, Status, Ticker, Trade
from adapters.live import Output
from adapters.numbers import ZEROS
from tests.adapters.dialect import Dialect
from tests.adapters.market import SHOWN

PLAIN = re.compile(r"(?=\.?[0-9])[0-9]*\.?[0-9]*")


@lru_cache(1 << 14)
def _is_plain(text: str) -> bool:
    return PLAIN.fullmatch(text) is not None


class ViolationError(AssertionError):
    """An output that breaks the contract."""


def demand(condition: object, what: str, output: object) -> None:
    if not condition:
        raise ViolationError(f"{what}: {output!r:.600}")


class Checker:
    """Sees every output and rejects the first that breaks the contract.

    `truthful`: what came in was true, only perhaps not complete and not in order, so that every trade and every book is held
    against the truth; where frames were made to lie, only the form can be judged.
    """

    def __init__(self, adapter: ExchangeAdapter, dialect: Dialect, *, truthful: bool = True) -> None:
        self._venue = adapter.venue
        self._symbols = {subscription.symbol for subscription in adapter.subscriptions}
        self._dialect = dialect
        self._markets = {market.symbol: market for market in dialect.markets.values()} if truthful else None
        self._seen: dict[str, dict[str, None]] = {symbol: {} for symbol in self._symbols}
        self._sequences: dict[str, int | None] = {}
        self.last_view: dict[str, tuple[Levels, Levels]] = {}

    def see(self, output: Output, received: int) -> None:
        if isinstance(output, AdapterError):
            demand(str(output), "an error without a word", output)
        elif isinstance(output, Effect):
            self._effect(output)
        else:
            demand(isinstance(output, Event), "not an output", output)
            self._event(output, received)

    def _effect(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            demand(effect.frame and effect.cost >= 0, "an empty frame", effect)
        elif isinstance(effect, Fetch):
            demand(effect.key and effect.request.url.startswith("https://"), "a fetch of nothing", effect)
        elif isinstance(effect, Connect):
            demand(effect.url.startswith("wss://"), "no address of a websocket", effect)
        else:
            demand(effect.reason, "a reconnect without a reason", effect)

    def _event(self, event: Event, received: int) -> None:
        msgspec.json.encode(event)
        demand(event.exchange == self._venue.name, "another exchange", event)
        connection = isinstance(event, Gap) or (isinstance(event, Status) and event.scope == "connection")
        demand(event.symbol in self._symbols or (connection and event.symbol is None), "a market nobody wanted", event)
        demand(type(event.received) is int and 0 <= event.received <= received, "received in the future", event)
        self._time(event.timestamp, event)
        if isinstance(event, Trade):
            self._trade(event)
        elif isinstance(event, Book):
            self._book(event)
        elif isinstance(event, BookDelta):
            self._delta(event)
        elif isinstance(event, Ticker):
            self._ticker(event)
        elif isinstance(event, Gap):
            self._gap(event)
        elif isinstance(event, Status):
            demand(event.state, "no state", event)
            if event.scope == "book":
                self._sequences.pop(event.symbol or "", None)
        else:
            demand(condition=False, what="an event of no known kind", output=event)

    def _time(self, time: int | None, event: Event) -> None:
        demand(time is None or (type(time) is int and 0 <= time < 2**63), "not a time", event)
        if self._markets is not None and time is not None:
            demand(abs(time - event.received) < 3_600_000_000, "not microseconds of this hour", event)

    def _number(self, text: str | None, event: Event) -> None:
        if text is None or not _is_plain(text):
            raise ViolationError(f"{text!r} is no plain decimal text: {event!r:.600}")

    def _trade(self, trade: Trade) -> None:
        self._number(trade.price, trade)
        self._number(trade.amount, trade)
        demand(trade.side in ("buy", "sell", "unknown") and trade.source in ("live", "backfill"), "no side", trade)
        seen = self._seen[trade.symbol]
        demand(trade.id and trade.id not in seen, "a trade told twice", trade)
        seen[trade.id] = None
        if self._markets is None:
            while len(seen) > 200:  # a lie may come again long after
                del seen[next(iter(seen))]
        else:
            market = self._markets[trade.symbol]
            deal = market.deals.get(self._dialect.trade_number(trade.id))
            told = (*market.read([(trade.price, trade.amount)])[0], trade.side)
            demand(deal and told == (deal.price, deal.amount, deal.side), "a trade that never was", trade)

    def _levels(self, levels: Levels, event: Event, *, descending: bool | None = None) -> None:
        for price, amount in levels:
            self._number(price, event)
            self._number(amount, event)
        prices = [float(price) for price, _ in levels]
        if descending is not None:
            ordered = all(a > b if descending else a < b for a, b in pairwise(prices))
            demand(ordered, "levels out of order", event)
            demand(not any(amount in ZEROS for _, amount in levels), "a level of nothing", event)
        else:
            demand(not any(amount in ZEROS and amount != "0" for _, amount in levels), "a removal that is not 0", event)

    def _book(self, book: Book) -> None:
        self._levels(book.bids, book, descending=True)
        self._levels(book.asks, book, descending=False)
        if self._venue.book.crossed != "right" and book.bids and book.asks:
            demand(float(book.bids[0][0]) < float(book.asks[0][0]), "crossed", book)
        self._sequences[book.symbol] = book.sequence
        view = (book.bids[:SHOWN], book.asks[:SHOWN])
        self.last_view[book.symbol] = view
        if self._markets is not None and self._dialect.proves_books:
            demand(self._markets[book.symbol].was(view, book.sequence), "a book that never was", book)

    def _delta(self, delta: BookDelta) -> None:
        self._levels(delta.bids, delta)
        self._levels(delta.asks, delta)
        demand(delta.symbol in self._sequences, "a change without a base", delta)
        demand(delta.previous == self._sequences[delta.symbol], "a change that does not follow", delta)
        self._sequences[delta.symbol] = delta.sequence

    def _ticker(self, ticker: Ticker) -> None:
        texts = [getattr(ticker, name) for name in ("bid", "bid_amount", "ask", "ask_amount", "last", "volume_24h")]
        for text in texts:
            if text is not None:
                self._number(text, ticker)

    def _gap(self, gap: Gap) -> None:
        demand(gap.channel in CHANNELS and gap.reason, "a hole in nothing", gap)
        demand((gap.first_missing is None) == (gap.last_missing is None), "half a range", gap)
        if gap.first_missing is not None and gap.channel == "trades":
            demand(int(gap.first_missing) <= int(gap.last_missing or ""), "a range that ends before it begins", gap)
        demand(gap.since is None or gap.until is None or gap.since <= gap.until, "a hole that ends before it begins", gap)
        if gap.reason == "renumbered":
            self._seen[gap.symbol or ""].clear()
