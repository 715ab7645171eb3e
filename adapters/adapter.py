"""ExchangeAdapter: one chunk of one venue, on one connection, as a deterministic machine.

Inputs (`start`, `connected`, `receive`, `fetched`, `tick`, `lost`, `listed`) return outputs in order: events, effects and
errors. It owns no socket, clock, task or randomness, so that live traffic, a recording and a test run the same lines. `now` is
monotonic seconds, `received` integer microseconds UTC.

A venue's file brings its facts (`venue`), the frames it wants to hear, and `parse`, which tells a Handler what one frame says.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import msgspec
import orjson
from msgspec.structs import replace

from adapters.backfill import LastTrade, Resume
from adapters.book import BookOptions
from adapters.book_sync import BookState, BookSync
from adapters.effects import Answer, Connect, Effect, Fetch, Priority, Reconnect, Send
from adapters.errors import AdapterError, FetchError, UnreadableError
from adapters.events import CHANNELS, Channel, Gap, Trade
from adapters.handler import Handler
from adapters.holes import Hole
from adapters.live import LiveHandler, Output
from adapters.subscriptions import State, Subscription, Subscriptions
from adapters.symbols import Instrument, renamed
from adapters.venue import Venue

LOOK_EVERY = 1.0
"""Seconds between two looks at what is due in seconds: pings, silence, subscriptions, holes to fill."""
SLOWEST_ASK = 300.0
"""Seconds between attempts at a subscription that the venue never acknowledges."""

_NEVER = float("inf")
_UNREADABLE = (msgspec.MsgspecError, orjson.JSONDecodeError, UnicodeDecodeError)


class ExchangeAdapter(ABC):
    venue: ClassVar[Venue]
    endpoints: ClassVar[Mapping[str, tuple[str, str | None]]]
    """REST path to the kind of its answer (the first part of a Fetch's key), and the query parameter that names the market; a
    `{}` in the path stands for a name there."""

    def __init__(
        self,
        wanted: Iterable[tuple[Channel, str]],
        options: BookOptions | None = None,
        instruments: Mapping[str, Instrument] | None = None,
        resume: Resume | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """`resume`: where an earlier process ended; what lies between is a hole.
        `aliases`: assets that this venue lists under another name ({"TON": "GRAM"}); `instruments` go by the venue's names."""
        options = options or BookOptions()
        self._aliases = aliases or {}
        self.subscriptions = Subscriptions(
            Subscription(channel, symbol, self._native_of(symbol, instruments or {})) for channel, symbol in wanted
        )
        self.depth = self.venue.depth_for(options.depth)
        self.live = LiveHandler(
            self.venue, self.subscriptions, options, self._ask_for_book, self._welcomed, self.trades_request
        )
        self.ends_at = _NEVER
        self.tick_every = min(0.1, max(0.01, options.interval / 2 or 0.1))
        self._is_open = False
        self._heard = self._heard_before = 0  # when, since the last tick (0: nothing); and when, until then
        self._heard_at = 0.0
        self._welcome_by = _NEVER
        self._asks_at = _NEVER
        self._pinged_at = 0.0
        self._looked_at = 0.0
        self._requests = 0
        if resume is not None:
            self._resume(resume)
        if instruments is not None:
            self._strike(instruments)

    def _native_of(self, symbol: str, instruments: Mapping[str, Instrument]) -> str:
        theirs = renamed(symbol, self._aliases)
        instrument = instruments.get(theirs)
        return self.native(theirs) if instrument is None else instrument.native

    # What a venue's file brings -------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def native(symbol: str) -> str:
        """The venue's name of a canonical symbol by rule; an instrument list, where at hand, goes before it."""

    @staticmethod
    @abstractmethod
    def canonical(native: str) -> str | None:
        """The canonical symbol of a native name by rule; None where the name does not tell."""

    @abstractmethod
    def subscribe(self, channel: Channel, natives: list[str], request: str) -> Send:
        """The frame that asks for these, at most `limits.topics_per_frame` of them."""

    @abstractmethod
    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> Send | None:
        """The frame that ends these; None where there is nothing to end, as for channels whose id was never told."""

    @abstractmethod
    def parse(self, frame: bytes, say: Handler) -> None:
        """Tell `say` all that one frame says. May raise FrameError (UnreadableError, where data is lost with it), msgspec's
        and orjson's errors."""

    @classmethod
    @abstractmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        """The same for the REST answer to the Fetch of `key`. Raises FetchError for the venue's own error forms."""

    @classmethod
    @abstractmethod
    def shape(cls, answer: Any) -> str | None:
        """The kind (`endpoints`) of a decoded REST answer whose url is not at hand, by its shape; None: none of them."""

    @classmethod
    @abstractmethod
    def instruments_request(cls) -> Fetch:
        """The REST call that lists every market."""

    @classmethod
    @abstractmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        """Its answer. Raises FetchError."""

    def connect(self) -> Effect:
        """How to come by a connection: a Connect, or a Fetch whose answer makes one. Asked for each connection anew, so that
        a venue's file begins here what belongs to one: channel numbers, a numbering of all messages."""
        return Connect(self.venue.websocket)

    def ping(self) -> Send | None:
        """The client's own ping frame, where the venue wants one."""
        return None

    def book_request(self, native: str) -> Fetch | Send:
        """The REST call for a book, under the key ("book", native), where the venue's books come that way; or the frame that
        asks for one on the socket."""
        raise NotImplementedError

    def trades_request(self, native: str, hole: Hole) -> Fetch | None:
        """The REST call for the trades of a hole, of `venue.history.rows` rows at most; None where they cannot be had. Its
        answer is that of the key ("trades", native)."""
        return None

    # Inputs ---------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Output]:
        """Begin, or begin again after `lost`."""
        self.live.now = now
        self.live.effect(self.connect())
        return self.live.emitted()

    def connected(self, now: float) -> list[Output]:
        """The connection that was asked for is open."""
        self.live.now = self._heard_at = self._pinged_at = now
        self._is_open = True
        self.ends_at = now + (self.venue.lifetime or _NEVER)
        if self.venue.greets:
            self._welcome_by = now + self.venue.ack_within
        else:
            self._welcomed()
        return self.live.emitted()

    def receive(self, frame: bytes, received: int) -> list[Output]:
        """One data frame (text as UTF-8), and when its bytes arrived."""
        return self.receive_all([frame], received)

    def receive_all(self, frames: list[bytes], received: int) -> list[Output]:
        """The same for all frames, in order, that arrived together."""
        live, parse = self.live, self.parse
        live.received = self._heard = received
        for frame in frames:
            try:
                parse(frame, live)
            except UnreadableError as error:
                live.unreadable(error)
            except AdapterError as error:
                live.error(error)
            except _UNREADABLE as error:
                live.unreadable(UnreadableError(f"{error} in {frame[:80]!r}"))
        return live.emitted()

    def heard(self, received: int) -> None:
        """A ping or pong of the protocol: no data, but the connection lives."""
        self._heard = received

    def fetched(self, key: tuple[str, ...], answer: Answer | FetchError, now: float) -> list[Output]:
        """The answer to a Fetch, or why there is none."""
        self.live.now = now
        if key[0] == "backfill":
            self._fetched_trades(key[1], answer)
            return self.live.emitted()
        book = self.live.books.get(key[-1]) if key[0] == "book" else None
        if book is not None and not book.is_asked_for:
            return []  # it was asked for on a connection that is gone
        try:
            if isinstance(answer, FetchError):
                raise answer
            self.live.received = answer.received
            self.parse_answer(key, answer.body, self.live)
        except AdapterError as error:
            self._fetch_failed(key, error)
        except _UNREADABLE as error:
            self._fetch_failed(key, FetchError(f"{key}: {error}"))
        return self.live.emitted()

    def tick(self, now: float) -> list[Output]:
        """Time passes, some ten times a second: views that are due, pings, deadlines."""
        self.live.now = now
        if self._heard:
            self._heard, self._heard_before, self._heard_at = 0, self._heard, now
        if self._is_open:
            if now >= self._asks_at:
                self._asks_at = _NEVER
                self._ask(self.subscriptions.wanted())
            for book in self.live.books.values():
                if book.dirty and now >= book.next_view:
                    self.live.show(book)
                if now >= book.due:
                    self._ask_for_book(book)
            if now - self._looked_at >= LOOK_EVERY:
                self._looked_at = now
                self._keep_alive()
                self._look_after_subscriptions()
                for fetch in self.live.backfill.due(now):
                    self.live.effect(fetch)
        return self.live.emitted()

    def lost(self, code: int, reason: str, now: float) -> list[Output]:
        """The connection ended, or could not be made."""
        self.live.now = now
        if self._is_open:
            self.live.disconnected(f"{code} {reason}".strip(), self._heard or self._heard_before)
        self._is_open, self.ends_at, self._asks_at = False, _NEVER, _NEVER
        self.live.backfill.lost()
        return self.live.emitted()

    def listed(self, instruments: Mapping[str, Instrument], now: float) -> list[Output]:
        """The venue's list of markets, by canonical symbol."""
        self.live.now = now
        self._strike(instruments)
        return self.live.emitted()

    def resumed(self, trades: Mapping[str, LastTrade], now: float) -> list[Output]:
        """Word of the last trades that an earlier process told, by symbol, where it comes after the start."""
        self.live.now = now
        self._resume(Resume(None, trades))
        return self.live.emitted()

    def republish(self, symbol: str | None = None) -> list[Output]:
        """The book of a symbol (None: all books) again, whole where its changes are told, for readers who missed some."""
        for book in self.live.books.values():
            if book.symbol == (symbol or book.symbol) and book.state is BookState.SYNCED:
                self.live.introduce(book)
        return self.live.emitted()

    def fill(self, symbol: str, gap: Gap, last: LastTrade | None, end: tuple[str, int] | None, now: float) -> list[Output]:
        """Fill a hole that other connections have as well; `last`: the trade before it; `end`: id and venue's time of the one
        behind it."""
        for subscription in self.subscriptions:
            if subscription.channel == "trades" and subscription.symbol == symbol:
                self.live.backfill.found(subscription, gap, now, last=last, end=end)
        return self.live.emitted()

    def has_told(self, trade: Trade) -> bool:
        """Whether this connection gave out this trade, as far as it remembers."""
        return self.live.has_told(trade)

    def totals(self) -> Counter[str]:
        """What came of it so far: events by channel (and book deltas), gaps, repeats, and data nobody asked for; trades that
        filled holes, and holes that could not be filled wholly."""
        live, backfill = self.live, self.live.backfill
        totals = Counter(deltas=live.deltas, gaps=live.gaps, repeated=live.repeated, stray=live.stray)
        totals.update(trades=backfill.told, backfilled=backfill.told, unfilled=backfill.given_up)
        for subscription in self.subscriptions:
            totals[subscription.channel] += subscription.told
            totals["gaps"] += subscription.gaps
        return totals

    @property
    def is_settled(self) -> bool:
        """Whether every subscription is answered and every moving book in step, so that this connection may take over."""
        return self._is_open and all(self._is_at_rest(subscription) for subscription in self.subscriptions)

    def _is_at_rest(self, subscription: Subscription) -> bool:
        if subscription.channel == "orderbooks" and subscription.state is State.LIVE:
            return self.live.books[subscription.native].state is BookState.SYNCED
        return subscription.state is not State.REQUESTED

    # How the inputs are answered ------------------------------------------------------------------------------------

    def _strike(self, instruments: Mapping[str, Instrument]) -> None:
        """What the venue does not list, or does not trade, cannot be had, until a later list has it again."""
        for subscription in self.subscriptions:
            theirs = renamed(subscription.symbol, self._aliases)
            instrument = instruments.get(theirs)
            if instrument is None:
                self._leave(subscription, f"{self.venue.name} does not list {theirs}")
            elif not instrument.active:
                self._leave(subscription, f"{self.venue.name} does not trade it now ({instrument.state})")
            elif subscription.is_struck:
                self.live.relisted(subscription)
                if self._is_open and self._welcome_by == self._asks_at == _NEVER:
                    self._ask([subscription])

    def _leave(self, subscription: Subscription, reason: str) -> None:
        if subscription.state is State.REJECTED:
            return
        self.live.strike(subscription, reason)
        if self._is_open:
            self._requests += 1
            end = self.unsubscribe(subscription.channel, [subscription.native], str(self._requests))
            if end is not None:
                self.live.effect(end)

    def _welcomed(self) -> None:
        self._welcome_by = _NEVER
        self.live.opened(self.venue.websocket)
        if self.venue.asked_after:
            self._asks_at = self.live.now + self.venue.asked_after
        else:
            self._ask(self.subscriptions.wanted())

    def _ask(self, subscriptions: list[Subscription]) -> None:
        """Ask for these, a frame for each channel and `topics_per_frame`; frames are paced, and so are their deadlines."""
        pace = self.venue.limits.frames
        for position, batch in enumerate(self._batches(subscriptions)):
            self._requests += 1
            request = str(self._requests)
            self.live.effect(self.subscribe(batch[0].channel, [each.native for each in batch], request))
            patience = min(self.venue.ack_within * 2.0 ** min(batch[0].attempts, 30), SLOWEST_ASK)
            due = self.live.now + patience + position * pace.seconds / pace.count
            self.subscriptions.requested(batch, request, self.live.now, due)
            if not self.venue.acks:
                self.live.acked(request=request)

    def _batches(self, subscriptions: list[Subscription]) -> Iterator[list[Subscription]]:
        size = self.venue.limits.topics_per_frame
        for channel in CHANNELS:
            of_channel = [subscription for subscription in subscriptions if subscription.channel == channel]
            for start in range(0, len(of_channel), size):
                yield of_channel[start : start + size]

    def _ask_for_book(self, book: BookSync) -> None:
        """A snapshot: over REST, or by subscribing anew to this book alone. A rejected book is not asked for."""
        subscription = self.subscriptions.find("orderbooks", book.native)
        if subscription is None or subscription.state is State.REJECTED:
            book.expect_by(_NEVER)
            return
        if self.venue.book.source == "rest":
            priority = Priority.FIRST if book.state is BookState.WAITING else Priority.RESYNC
            request = self.book_request(book.native)
            self.live.effect(replace(request, priority=priority) if isinstance(request, Fetch) else request)
        else:
            self._requests += 1
            end = self.unsubscribe("orderbooks", [book.native], str(self._requests))
            if end is not None:
                self.live.effect(end)
            self._ask([subscription])
        book.asked(self.live.now)

    def _keep_alive(self) -> None:
        now, keepalive = self.live.now, self.venue.keepalive
        if now - self._heard_at >= keepalive.silence:
            self._heard_at = now
            self.live.effect(Reconnect(f"nothing heard for {keepalive.silence:.0f} s"))
        elif now >= self._welcome_by:
            self._welcome_by = _NEVER
            self.live.effect(Reconnect(f"no welcome within {self.venue.ack_within:.0f} s"))
        elif keepalive.ping is not None and now - self._pinged_at >= keepalive.ping:
            self._pinged_at = now
            ping = self.ping()
            if ping is not None:
                self.live.effect(ping)

    def _look_after_subscriptions(self) -> None:
        overdue = self.subscriptions.overdue(self.live.now)
        if overdue:
            self._ask(overdue)
        self.subscriptions.hush(self.live.now)

    def _resume(self, resume: Resume) -> None:
        for subscription in self.subscriptions:
            last = resume.trades.get(subscription.symbol) if subscription.channel == "trades" else None
            if last is not None:
                self.live.resume(subscription, last)
            elif resume.since is not None:
                subscription.hole, subscription.hole_reason = resume.since, "collector restarted"

    def _fetched_trades(self, native: str, answer: Answer | FetchError) -> None:
        """A page of past trades, or why there is none."""
        backfill = self.live.backfill
        try:
            if isinstance(answer, FetchError):
                raise answer
            rows = self.live.past_trades(native, partial(self.parse_answer, ("trades", native), answer.body))
        except AdapterError as error:
            self.live.error(error)
            backfill.failed(native, self.live.now)
        except _UNREADABLE as error:
            self.live.error(FetchError(f"past trades of {native}: {error}"))
            backfill.failed(native, self.live.now)
        else:
            for fetch in backfill.answered(native, rows, answer.received, self.live.now):
                self.live.effect(fetch)

    def _fetch_failed(self, key: tuple[str, ...], error: AdapterError) -> None:
        self.live.error(error)
        book = self.live.books.get(key[-1]) if key[0] == "book" else None
        if book is not None:
            book.retry(self.live.now)
        elif not self._is_open:
            self.live.effect(Reconnect(f"{key[0]}: {error}"))
