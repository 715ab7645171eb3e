"""One line: a connection and what it can vouch for; and one market, of which several lines may tell. `lines` compares them."""

from collections import deque

from adapters.book_sync import BookState
from adapters.events import Event
from adapters.subscriptions import ANSWERED, Subscription
from collector.feed import Feed
from collector.told import SPANS, NamedTrades, NumberedTrades, ShownBook, Span, Witness

EARLIER_LINES = 4
"""Lines that have ended and whose word still counts, for holes that are told later."""


class Line:
    """One connection, and what it can vouch for."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.adapter = feed.adapter
        self.subscriptions = {each.symbol: each for each in feed.adapter.subscriptions}
        self.books = {book.symbol: book for book in feed.adapter.live.books.values()}
        self.witnesses = {symbol: Witness() for symbol in self.subscriptions}
        self.unheard = set(self.subscriptions)
        self.is_compared = False
        self.alone_since = 0.0

    def is_whole(self, symbol: str) -> bool:
        """Whether it brings all of this market now."""
        book = self.books.get(symbol)
        is_right = book is None or book.state is BookState.SYNCED
        return is_right and self.feed.is_open and self.subscriptions[symbol].state in ANSWERED

    def may_bring(self, symbol: str) -> bool:
        """Whether a trade that others miss may still come here: nothing was lost since the last one."""
        return self.is_whole(symbol) and self.subscriptions[symbol].hole is None

    def heard(self, symbol: str) -> int:
        book = self.books.get(symbol)
        return self.subscriptions[symbol].heard if book is None else book.received

    def witness(self, symbol: str, now: int) -> Witness:
        """Its word on this market, up to now."""
        witness, subscription = self.witnesses[symbol], self.subscriptions[symbol]
        if not self.is_whole(symbol):
            if witness.lost is None and witness.since is not None:
                witness.lost = subscription.hole or self.heard(symbol) or witness.since
        elif witness.since is None:
            witness.since = now
            self.unheard.discard(symbol)
        elif witness.lost is not None:
            if subscription.upcoming is None:
                witness.missed(witness.lost, now)
            witness.lost = None  # numbers of trades prove it whole
        return witness

    def leave(self, now: int) -> None:
        """It is over: what it vouched for still counts."""
        for symbol in self.subscriptions:
            witness = self.witness(symbol, now)
            witness.lost = now if witness.lost is None else witness.lost
        self.feed.put = self.feed.status = _nobody


class Market:
    """What all lines together have told of one market. `lines`: those that have it, `earlier`: those that had it; `told`: the
    holes of which readers know."""

    def __init__(self, subscription: Subscription, charge: Line) -> None:
        self.symbol = subscription.symbol
        self.channel = subscription.channel
        self.charge = charge
        self.lines: list[Line] = []
        self.earlier: deque[Line] = deque(maxlen=EARLIER_LINES)
        self.told: deque[Span] = deque(maxlen=SPANS)
        self.trades = NumberedTrades(subscription) if charge.adapter.venue.numbers_trades else NamedTrades(subscription)
        self.shown: ShownBook | None = None
        self.shown_by = charge
        book = charge.books.get(self.symbol)
        if book is not None and charge.adapter.live.tells_changes:
            self.shown = ShownBook()
            if book.state is BookState.SYNCED:
                self.shown.begin(*book.book.whole(), book.book.sequence)

    @property
    def is_counted(self) -> bool:
        """Whether numbers of trades show what is missing."""
        return self.channel == "trades" and isinstance(self.trades, NumberedTrades) and self.trades.has_begun


def _nobody(_: Event) -> None:
    """The last words of a line that has left."""
