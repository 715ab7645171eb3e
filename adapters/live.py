"""What is remembered of every market of one connection, and the events that come of it."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec.structs import replace

from adapters.backfill import Backfill, LastTrade
from adapters.book import BookOptions, Change, OrderBook, Snapshot
from adapters.book_sync import ANSWER_WITHIN, REST_LAG, BookState, BookSync
from adapters.effects import Effect, Fetch
from adapters.errors import AdapterError, BookError, FrameError, NumberError, VenueError
from adapters.events import Book, BookDelta, Channel, Event, Gap, Levels, Side, Status, Ticker, Trade
from adapters.handler import Handler
from adapters.holes import Hole, Row
from adapters.numbers import unsigned
from adapters.subscriptions import ANSWERED, State, Subscription, Subscriptions
from adapters.venue import Venue

Output = Event | Effect | AdapterError

LATE_IDS_KEPT = 1000
"""A hole of at most so many trades is remembered by id, so that a trade that only comes late is still told, and told once."""
RENUMBERED_BELOW = 100_000
"""A trade id so far below the expected one is no repeat: the venue has begun to count anew."""
FROZEN_AFTER = 10_000_000
"""Microseconds for which nothing but old changes came: the venue counts anew, and the book that is shown stands still."""
QUIET_BOOK_AFTER = 1.0
"""Seconds after its acknowledgement at which a book that does not move is fetched without waiting for a first change. Should
the venue's REST lag that long, the chain shows it at the first change; where there is none, REST_LAG is waited for."""

_LIVE, _SYNCED = State.LIVE, BookState.SYNCED  # a member looked up by its class costs ten times a name of the module


class LiveHandler:
    """Implements Handler: sorts out repeats, finds holes, keeps books in step, and appends what comes of it to `out`."""

    def __init__(
        self,
        venue: Venue,
        subscriptions: Subscriptions,
        options: BookOptions,
        ask_for_book: Callable[[BookSync], None],
        welcomed: Callable[[], None],
        trades_request: Callable[[str, Hole], Fetch | None],
    ) -> None:
        self.out: list[Output] = []
        self.now = 0.0
        self.received = 0
        self.stray = 0
        self.repeated = 0
        self.deltas = 0
        self.gaps = 0
        self._paused = 0
        self.welcomed = welcomed
        self._ask_for_book = ask_for_book
        self._name = venue.name
        self._source = venue.book.source
        self._is_numbered = venue.numbers_trades
        self._quiet_after = REST_LAG if venue.book.chain == "rising" else QUIET_BOOK_AFTER
        has_no_chain = venue.book.chain in (None, "rising")
        self._is_blind = has_no_chain and venue.book.checksum is None and not venue.numbers_messages
        self._options = options
        self._subscriptions = subscriptions
        self._trades = subscriptions.of("trades")
        self._by_symbol = {subscription.symbol: subscription for subscription in self._trades.values()}
        self.backfill = Backfill(venue, self._trades, trades_request, self._tell_past)
        self.fills_holes = True  # not beside another connection, whose trades may be those that are missing here
        self.tells_changes = options.mode == "deltas"
        self._page: list[Row] | None = None
        self._page_of = ""
        self._tickers = subscriptions.of("tickers")
        self._orderbooks = subscriptions.of("orderbooks")
        depth = venue.depth_for(options.depth)
        self.books = {
            native: BookSync(subscription.symbol, native, venue.book, depth, options.depth)
            for native, subscription in self._orderbooks.items()
        }

    def emitted(self) -> list[Output]:
        out, self.out = self.out, []
        return out

    # Trades ---------------------------------------------------------------------------------------------------------

    def trade(self, native: str, number: int | str, price: str, amount: str, side: Side, timestamp: int | None) -> None:
        subscription = self._trades.get(native)
        if subscription is None:
            self.stray += 1
            return
        # Before the number counts: what cannot be read is missing. (`is_plain` of both, without the calls.)
        if not (price.encode().replace(b".", b"", 1).isdigit() and amount.encode().replace(b".", b"", 1).isdigit()):
            price, amount = unsigned(price), unsigned(amount)
        if subscription.state is not _LIVE:
            self._went_live(subscription, number, timestamp)
        if isinstance(number, int):
            if number == subscription.upcoming:
                subscription.upcoming += 1
            elif not self._out_of_turn(subscription, number, timestamp):
                return
            number = str(number)
        elif not number:
            raise NumberError("a trade without an id")
        elif not subscription.is_new(number):
            self.repeated += 1
            return
        subscription.heard, subscription.latest = self.received, timestamp
        subscription.told += 1
        self.out.append(Trade(self._name, subscription.symbol, timestamp, self.received, number, price, amount, side))

    def _out_of_turn(self, subscription: Subscription, number: int, timestamp: int | None) -> bool:
        """A trade whose number is not the next one: whether it is told. A jump ahead is a gap."""
        upcoming, late = subscription.upcoming, subscription.late
        subscription.late = set()
        if upcoming is None:
            subscription.origin = number
        elif number < upcoming:
            if not self._is_renumbered(subscription, upcoming - number, timestamp) or number in late:
                subscription.late = late - {number}
                self.repeated += number not in late
                if subscription.hole is not None:
                    subscription.state = State.ACKED  # it proves nothing about the hole: the next trade is the first again
                if number in late:
                    self.backfill.came(subscription, number, timestamp)
                return number in late
            subscription.hole = subscription.heard or subscription.hole  # what the old count would have shown is never told
            self._gap(subscription, "renumbered")
            subscription.origin = number
        else:
            reason = "sequence" if subscription.hole is None else subscription.hole_reason
            self._gap(subscription, reason, str(upcoming), str(number - 1))
            if number - upcoming <= LATE_IDS_KEPT:
                subscription.late = set(range(upcoming, number))
            else:
                subscription.origin = number
        subscription.upcoming = number + 1
        return True

    @staticmethod
    def _is_renumbered(subscription: Subscription, below: int, timestamp: int | None) -> bool:
        """Whether a number so far below the expected one is no repeat, but the first of a new count: the trade is younger than
        the last one told (by the venue's own time), or its number is out of all proportion."""
        is_younger = timestamp is not None and subscription.latest is not None and timestamp > subscription.latest
        return is_younger or below > RENUMBERED_BELOW

    def past_trade(self, native: str, number: int | str, price: str, amount: str, side: Side, timestamp: int | None) -> None:
        """News only where it was asked for, to fill a hole."""
        if self._page is None:
            return
        if timestamp is None:
            raise FrameError("a past trade without a time")
        if native == self._page_of:
            self._page.append(Row(number, unsigned(price), unsigned(amount), side, timestamp))

    def past_trades(self, native: str, parse: Callable[[Handler], None]) -> list[Row]:
        """Those of one market that an answer tells. Raises what `parse` does."""
        page: list[Row] = []
        self._page, self._page_of = page, native
        try:
            parse(self)
        finally:
            self._page = None
        return page

    def merged(self, native: str, first: int, last: int) -> None:
        subscription = self._trades.get(native)
        if subscription is not None:
            subscription.began = subscription.began or (str(first), 0)
            for number in range(first, last + 1):
                subscription.merged(str(number))

    def _fill(
        self, subscription: Subscription, gap: Gap, *, last: LastTrade | None = None, end: tuple[str, int] | None = None
    ) -> None:
        if self.fills_holes:
            self.backfill.found(subscription, gap, self.now, last=last, end=end)

    def _tell_past(self, event: Trade | Gap) -> None:
        self.out.append(event)

    def has_told(self, trade: Trade) -> bool:
        """Whether this trade went out through here, as far as is remembered."""
        subscription = self._by_symbol.get(trade.symbol)
        return subscription is not None and subscription.has_told(trade.id)

    # An earlier process ---------------------------------------------------------------------------------------------

    def resume(self, subscription: Subscription, last: LastTrade) -> None:
        """Go on behind the last trade of an earlier process: what came since is a hole, unless trade numbers prove it whole."""
        if subscription.told:
            self._resume_before(subscription, last)
            return
        if self._is_numbered:
            if not last.id.isdecimal() or int(last.id) < (subscription.upcoming or 0):
                return
            subscription.origin, subscription.upcoming = int(last.id), int(last.id) + 1
        elif subscription.latest is not None:
            return
        subscription.is_new(last.id)
        subscription.latest, subscription.heard = last.timestamp or last.received, last.received
        subscription.hole, subscription.hole_reason = last.received, "collector restarted"
        if not self._is_numbered and subscription.state is not State.REQUESTED:
            self._close_hole(subscription)

    def _resume_before(self, subscription: Subscription, last: LastTrade) -> None:
        """The word comes late: the hole ends with the first trade that was told here."""
        began, subscription.began = subscription.began, None
        if began is None or subscription.has_told(last.id):
            return
        about = (self._name, subscription.symbol, None, self.received, "trades", "collector restarted")
        gap = Gap(*about, None, None, last.received, max(began[1], last.received))
        if self._is_numbered:
            if not last.id.isdecimal() or int(last.id) + 1 >= int(began[0]):
                return
            gap = replace(gap, first_missing=str(int(last.id) + 1), last_missing=str(int(began[0]) - 1))
        subscription.gaps += 1
        self.out.append(gap)
        self._fill(subscription, gap, last=last, end=began)

    # Books ----------------------------------------------------------------------------------------------------------

    def snapshot(self, native: str, snapshot: Snapshot) -> None:
        book = self._book_of(native)
        if book is None:
            return
        replaced = book.book if book.state is _SYNCED and self._source == "socket" else None
        try:
            if book.snapshot(snapshot, self.now):
                book.timestamp, book.received = snapshot.timestamp, self.received
                if replaced is None:
                    self._synced(book)
                else:
                    self._replaced(book, replaced)
        except (BookError, FrameError) as error:
            self._doubt(book, error)

    def change(self, native: str, change: Change) -> None:
        book = self._book_of(native)
        if book is None:
            return
        before = book.book.sequence
        try:
            applied = book.change(change)
            if applied is None:
                if book.state is BookState.WAITING and book.first_change(self.now):
                    self._ask_for_book(book)
                elif book.state is _SYNCED and self.received - book.received > FROZEN_AFTER:
                    raise BookError("sequence")
                return
            book.timestamp, book.received = change.timestamp, self.received
            if self.tells_changes:
                self._tell_delta(book, before, *book.book.told(applied))
            if self._options.interval == 0:
                self._view(book)
        except (BookError, FrameError) as error:
            self._doubt(book, error, change)

    def _replaced(self, book: BookSync, before: OrderBook) -> None:
        """A whole book took the place of one that was right, as where a venue sends nothing else: a change like any other."""
        if self.tells_changes:
            self._tell_delta(book, before.sequence, *book.book.differing(before))
        if self._options.interval == 0:
            self.show(book)

    def _tell_delta(self, book: BookSync, previous: int | None, bids: Levels, asks: Levels) -> None:
        self.deltas += 1
        about = (self._name, book.symbol, book.timestamp, self.received)
        self.out.append(BookDelta(*about, bids, asks, book.book.sequence, previous))

    def view(self, native: str, snapshot: Snapshot) -> None:
        if native not in self._orderbooks:
            self.stray += 1

    def _book_of(self, native: str) -> BookSync | None:
        book = self.books.get(native)
        if book is None:
            self.stray += 1
            return None
        subscription = self._orderbooks[native]
        if subscription.state is not _LIVE:
            self._went_live(subscription)
        return book

    def _synced(self, book: BookSync) -> None:
        self._close_hole(self._orderbooks[book.native])
        sequence = book.book.sequence
        self._status("book", book.symbol, "synced", "" if sequence is None else f"sequence {sequence}")
        self.introduce(book)

    def introduce(self, book: BookSync) -> None:
        """Show a SYNCED book to readers who have nothing yet: where they are told its changes, with every known level."""
        if self.tells_changes:
            self._base(book)
        else:
            self.show(book)

    def show(self, book: BookSync) -> None:
        """Emit the view of a SYNCED book; one that the next frame will make right waits for it."""
        try:
            self._view(book)
        except (BookError, FrameError) as error:
            self._doubt(book, error)

    def _view(self, book: BookSync) -> None:
        if book.book.is_passing:
            return
        self._emit(book, *book.book.view())
        if book.book.is_shallow():
            book.refresh(self.now)

    def _emit(self, book: BookSync, bids: Levels, asks: Levels) -> None:
        book.dirty, book.next_view = False, self.now + self._options.interval
        self._orderbooks[book.native].told += 1
        self.out.append(Book(self._name, book.symbol, book.timestamp, book.received, bids, asks, book.book.sequence))

    def _base(self, book: BookSync) -> None:
        """Emit every known level of a SYNCED book, for readers of its changes to begin with."""
        try:
            bids, asks = book.book.whole()
        except (BookError, FrameError) as error:
            self._doubt(book, error)
            return
        self._emit(book, bids, asks)

    def _doubt(self, book: BookSync, error: BookError | FrameError, change: Change | None = None) -> None:
        """The book is wrong, or may be: it goes RECOVERING alone, and the hole is told."""
        trouble = error if isinstance(error, BookError) else BookError("malformed")
        if trouble is not error:
            self.out.append(error)
        was_shown = book.state is _SYNCED
        book.fail(self.now, change)
        if was_shown:
            subscription = self._orderbooks[book.native]
            subscription.heard = book.received
            self._gap(subscription, trouble.reason, trouble.first_missing, trouble.last_missing)
            subscription.hole, subscription.hole_reason = self.received, "recovering"  # absent until it is SYNCED again
            self._status("book", book.symbol, "recovering", trouble.reason)
        if book.due <= self.now:
            self._ask_for_book(book)

    # Tickers --------------------------------------------------------------------------------------------------------

    def ticker(self, native: str, timestamp: int | None, fields: Mapping[str, str | None]) -> None:
        subscription = self._tickers.get(native)
        if subscription is None:
            self.stray += 1
            return
        if subscription.state is not _LIVE:
            self._went_live(subscription)
        subscription.heard = self.received
        subscription.told += 1
        numbers = {name: unsigned(text) for name, text in fields.items() if text}
        self.out.append(Ticker(self._name, subscription.symbol, timestamp, self.received, **numbers))

    # Subscriptions --------------------------------------------------------------------------------------------------

    def acked(
        self,
        *,
        channel: Channel | None = None,
        native: str | None = None,
        request: str | None = None,
        depth: int | None = None,
    ) -> None:
        for subscription in self._subscriptions.answered(channel, native, request):
            self._subscriptions.acked(subscription, self.now)
            subscription.answered = self.received
            if subscription.upcoming is None and subscription.channel != "orderbooks":
                self._close_hole(subscription)
            if subscription.channel == "orderbooks":
                self._await_book(self.books[subscription.native], depth)

    def _await_book(self, book: BookSync, depth: int | None) -> None:
        if depth is not None:
            book.depth = depth
        if book.state is BookState.WAITING:
            book.expect_by(self.now + (self._quiet_after if self._source == "rest" else ANSWER_WITHIN))

    def refused(
        self, reason: str, *, channel: Channel | None = None, native: str | None = None, request: str | None = None
    ) -> None:
        about = self._subscriptions.answered(channel, native, request)
        for subscription in about:
            self.reject(subscription, reason)
        if not about:
            self.out.append(VenueError(reason))

    def reject(self, subscription: Subscription, reason: str) -> None:
        """This pair cannot be had; said once, with the reason. Where it was had before, it is missing until it comes back."""
        if subscription.state is not State.REJECTED:
            had = self.books[subscription.native].whole_until if subscription.channel == "orderbooks" else subscription.heard
            if subscription.hole is None and had:
                subscription.hole, subscription.hole_reason = had, "rejected"
            subscription.reject(reason, self.now)
            if subscription.hole is not None:
                self._gap(subscription, subscription.hole_reason, ends=False)
            self._status("subscription", subscription.symbol, "rejected", f"{subscription.channel}: {reason}")

    def strike(self, subscription: Subscription, reason: str) -> None:
        """The venue's list of markets does not have it (any more): its book is absent, and the rest is silent."""
        self.reject(subscription, reason)
        subscription.is_struck = True
        if subscription.channel == "orderbooks":
            self.books[subscription.native].lost(self.now)

    def relisted(self, subscription: Subscription) -> None:
        """The venue's list of markets has it again."""
        subscription.is_struck, subscription.state, subscription.reason, subscription.attempts = False, State.REQUESTED, "", 0
        self._status("subscription", subscription.symbol, "listed", subscription.channel)

    def _went_live(self, subscription: Subscription, number: int | str = "", timestamp: int | None = None) -> None:
        """First data since it was asked for: what lies between two connections is a hole, unless trade ids prove it whole."""
        if subscription.is_struck:
            return  # the last words of a market that was delisted
        self._subscriptions.acked(subscription, self.now)
        subscription.state, subscription.changed = State.LIVE, self.now
        if subscription.latest is None and number:
            first = subscription.began[0] if subscription.began else str(number)
            subscription.began = (first, timestamp or self.received)
        if number == subscription.upcoming:
            subscription.hole = None
        elif subscription.channel != "orderbooks" and (not isinstance(number, int) or subscription.upcoming is None):
            self._close_hole(subscription)  # that of a book ends when it is SYNCED

    def _close_hole(self, subscription: Subscription) -> None:
        if subscription.hole is not None:
            self._gap(subscription, subscription.hole_reason)

    def _gap(
        self, subscription: Subscription, reason: str, first: str | None = None, last: str | None = None, *, ends: bool = True
    ) -> None:
        since = subscription.hole or subscription.heard or None
        if ends:
            subscription.hole, subscription.hole_reason = None, "disconnected"
        subscription.gaps += 1
        about = (self._name, subscription.symbol, None, self.received, subscription.channel, reason)
        gap = Gap(*about, first, last, since, self.received if ends else None)
        self.out.append(gap)
        if subscription.channel == "trades":
            self._fill(subscription, gap)

    def _status(
        self, scope: Literal["connection", "subscription", "book"], symbol: str | None, state: str, detail: str
    ) -> None:
        self.out.append(Status(self._name, symbol, None, self.received, scope, state, detail))

    def missed(self, first: int, last: int) -> None:
        """Books are in doubt; other data has a hole, unless its own numbers will show the one it has."""
        self._status("connection", None, "missed", f"messages {first} to {last}")
        for subscription in self._subscriptions.wanted():
            if subscription.channel == "orderbooks":
                book = self.books[subscription.native]
                if book.state is not BookState.WAITING:
                    self._doubt(book, BookError("sequence"))
            elif subscription.upcoming is None and subscription.state is not State.REQUESTED:
                self._gap(subscription, "sequence")

    def paused(self) -> None:
        """What comes until the end of this connection, heartbeats, is no word of its markets: their hole begins here."""
        self._paused = self._paused or self.received

    def opened(self, address: str) -> None:
        """The connection is ready for subscriptions."""
        self._status("connection", None, "connected", address)

    def disconnected(self, detail: str, heard: int) -> None:
        """The connection is gone, and with it the certainty of every market: the hole begins when it was last heard."""
        self._status("connection", None, "lost", detail)
        for subscription in self._subscriptions.wanted():
            if subscription.hole is None and subscription.state is not State.REQUESTED:
                subscription.hole = self._paused or heard or None
        self._paused = 0
        self._subscriptions.forget()
        for book in self.books.values():
            book.lost(self.now)

    # Everything else ------------------------------------------------------------------------------------------------

    def effect(self, effect: Effect) -> None:
        self.out.append(effect)

    def error(self, error: AdapterError) -> None:
        self.out.append(error)

    def unreadable(self, error: FrameError) -> None:
        """A frame said something that cannot be read. A chain, a checksum or trade numbers will show what it was; where there
        are none nobody would ever know, so that the hole is told now, for all markets of the connection."""
        self.out.append(error)
        if self._is_blind:
            for book in self.books.values():
                if book.state is _SYNCED:
                    self._doubt(book, BookError("malformed"))
                else:
                    book.restart(self.now)
        unnumbered = [each for each in self._trades.values() if each.state in ANSWERED and each.upcoming is None]
        if unnumbered:
            self.gaps += 1
            about = (self._name, None, None, self.received, "trades", "unreadable frame", None, None)
            gap = Gap(*about, max(each.whole_until for each in unnumbered), self.received)
            self.out.append(gap)
            for subscription in unnumbered:
                self._fill(subscription, replace(gap, symbol=subscription.symbol, since=subscription.whole_until))
