"""One simulated exchange: its markets, who listens to what, and the rules every venue shares."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from simulator.connection import Connection, frame
from simulator.faults import Faults, Spec
from simulator.feeds import Feed
from simulator.instruments import ACTIVITY, Instrument
from simulator.limits import RollingWindow
from simulator.market import Book, Market
from simulator.venue import Answer, Call, Facts, Venue

if TYPE_CHECKING:
    from simulator.server import Clock

REMEMBER = 60.0  # seconds a market stays alive after the last REST question, without listeners
CATCH_UP = 0.1  # seconds of market time that are made up after a late turn; older ones are given up
TURN = 0.02  # seconds a turn may take
UPKEEP = 0.02  # seconds between two looks at the deadlines of the connections


class Exchange:
    """Composes a venue's dialect with markets, feeds, connections, limits and faults. One event loop, no locks."""

    def __init__(
        self, dialect: Callable[[Exchange], Venue], seed: int, rate: float, clock: Clock, facts: Facts, pace: float
    ) -> None:
        self.clock = clock
        self.pace = pace  # how many times faster feeds flush
        self.facts = facts
        self.rate = rate
        self.venue = dialect(self)
        self.name = self.venue.name
        self.instruments: dict[str, Instrument] = {i.symbol: i for i in self.venue.listing.instruments}
        self.markets: dict[str, Market] = {}
        self.connections: dict[Connection, None] = {}
        self.feeds: dict[Hashable, Feed] = {}
        self.counts: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.seed = f"{seed}:{self.name}"
        self.random = Random(f"{self.seed}:flow")  # noqa: S311
        self.identities = Random(f"{self.seed}:identities")  # noqa: S311  connection ids and tokens
        self.faults = Faults(self.name, f"{self.seed}:faults", self.venue.checksum, clock.stamp)
        self.closed_until = 0.0  # maintenance
        self._connects: dict[str, RollingWindow] = {}
        self._asked: dict[str, float] = {}
        self._listeners: dict[Market, list[Feed]] = {}
        self._periods: dict[float, tuple[float, dict[Feed, None]]] = {}
        self._active: list[Market] = []
        self._weights: list[float] = []
        self._stale = True  # the two above are to be made anew
        self._chosen = 0.0
        self._kept = 0.0
        self._numbers = 0
        self._debt = 0.0

    # ---------------------------------------------------------------- markets

    def market(self, symbol: str, *, asked: bool = False) -> Market | None:
        """The market of a canonical symbol, alive from now on; None when it is not listed or rejected by a fault."""
        instrument = self.instruments.get(symbol)
        if instrument is None or symbol in self.faults.rejected:
            return None
        market = self.markets.get(symbol)
        if market is None:
            seed = f"{self.seed}:{symbol}"
            market = self.markets[symbol] = Market(instrument, seed, self.clock.stamp(), self.venue.blanks)
        if asked:
            self._stale |= symbol not in self._asked
            self._asked[symbol] = self.clock.now()
        return market

    def snapshot(self, market: Market) -> tuple[int, Book]:
        """The sequence and book that a snapshot shows: the present one, or, by fault, one too old to continue from."""
        if not self.faults.stale(market.symbol, self.clock.now()):
            return market.sequence, market.book
        sequence, book = market.rewound()
        heard = [min(feed.subscribers.values()) for feed in self._books(market)]
        return min([sequence, *(first - 1 for first in heard)]), book

    def run(self, seconds: float) -> None:
        """Let the markets trade for `seconds`, within the event rate; what cannot be made up is given up, not queued."""
        now = self.clock.now()
        if self._stale or now - self._chosen > 1.0:
            self._choose(now)
        if not self._active:
            return
        budget = self._debt + self.rate * min(seconds, CATCH_UP)
        self.counts["given_up"] += int(self.rate * max(0.0, seconds - CATCH_UP))
        stamp = self.clock.stamp()
        deadline = now + TURN
        events = 0
        for market in self.random.choices(self._active, cum_weights=self._weights, k=max(0, int(budget))):
            if events >= budget:
                break
            step = market.step(stamp + events)  # a microsecond an event: times rise, and none lies before a snapshot
            changes = len(step.changes) if step.changes[0][0] else 0
            events += changes + len(step.trades)
            self.counts["trades"] += len(step.trades)
            self.counts["changes"] += changes
            for feed in self._listeners.get(market, ()):
                for payload in feed.note(step):
                    self.publish(feed, payload)
            if self.clock.now() > deadline:
                self.counts["given_up"] += int(budget - events)
                budget = events
                break
        self._debt = budget - events

    def flush(self) -> None:
        """Ask the feeds that have a period and are due."""
        now = self.clock.now()
        for period, (due, feeds) in self._periods.items():
            if now < due:
                continue
            self._periods[period] = (max(due + period, now), feeds)
            stamp = self.clock.stamp()
            for feed in tuple(feeds):
                for payload in feed.flush(stamp):
                    self.publish(feed, payload)

    # ---------------------------------------------------------- subscriptions

    def subscribe(self, connection: Connection, key: Hashable, make: Callable[[], Feed]) -> Feed:
        """Add a listener to the feed of `key`, made on first need."""
        feed = self.feeds.get(key)
        if feed is None:
            feed = self.feeds[key] = make()
            feed.period /= self.pace
            if feed.notes:
                self._listeners.setdefault(feed.market, []).append(feed)
            if feed.period:
                self._periods.setdefault(feed.period, (self.clock.now() + feed.period, {}))[1][feed] = None
            self._stale = True
        feed.subscribers[connection] = feed.market.sequence
        connection.feeds[key] = feed
        return feed

    def unsubscribe(self, connection: Connection, key: Hashable) -> None:
        """Take a listener away; a feed without listeners ends."""
        feed = connection.feeds.pop(key, None)
        if feed is None:
            return
        del feed.subscribers[connection]
        if not feed.subscribers:
            del self.feeds[key]
            if feed.notes:
                self._listeners[feed.market].remove(feed)
            if feed.period:
                del self._periods[feed.period][1][feed]
            self._stale = True

    def settle(self, key: Hashable) -> Feed | None:
        """Send what the feed of `key` holds back, so that the present book is the one its listeners have. None: no such
        feed."""
        feed = self.feeds.get(key)
        if feed is not None:
            for payload in feed.flush(self.clock.stamp()):
                self.publish(feed, payload)
        return feed

    def publish(self, feed: Feed, payload: str | bytes) -> None:
        """Send one payload to all listeners of a feed: framed once per envelope."""
        if self.faults.hot:
            self._publish_disturbed(feed, payload)
            return
        frames: dict[Hashable, bytes] = {}
        for connection in tuple(feed.subscribers):
            envelope = connection.envelope
            data = frames.get(envelope)
            if data is None:
                data = frames[envelope] = frame(feed.wrap(payload, envelope))
            connection.write(data)

    def _publish_disturbed(self, feed: Feed, payload: str | bytes) -> None:
        strike = self.faults.strike(feed, payload, self.clock.now())
        for connection in tuple(feed.subscribers):
            message = feed.wrap(payload, connection.envelope)
            held = self.faults.held(connection, feed)
            hit = strike is not None and strike[1] is connection
            frames = self.faults.disturbed(strike[0], connection, feed, message) if strike and hit else [frame(message)]
            for data in frames + held:
                connection.write(data)

    # ------------------------------------------------------------ connections

    def refuse(self, call: Call) -> Answer | None:
        """The answer to a WebSocket handshake that is not let in; None lets it in and counts it."""
        now = self.clock.now()
        status, wait = self.faults.refusal(now), 1
        if status is None and now < self.closed_until:
            status, wait = 503, 1 + int(self.closed_until - now)
        window = self._connects.setdefault(call.address, RollingWindow(self.facts.connects, self.facts.connect_window))
        if status is None and not window.take(now):
            self.limited["connects"] += 1
            return Answer("", 429, {"Retry-After": str(1 + int(window.resets_in(now)))}, "text/plain")
        if status is not None:
            self.counts["refused"] += 1
            return Answer("", status, {"Retry-After": str(wait)} if status in {429, 503} else {}, "text/plain")
        return self.venue.refuse(call)

    def opened(self, transport: asyncio.Transport, call: Call) -> Connection:
        """A handshake is done."""
        now = self.clock.now()
        self._numbers += 1
        facts = self.facts
        messages = RollingWindow(facts.messages, facts.message_window)
        operations = RollingWindow(facts.operations, facts.operation_window)
        connection = Connection(transport, self._numbers, facts.queue, messages, operations, now)
        connection.path = call.path
        connection.slow(self.faults.delay)
        self.connections[connection] = None
        self.counts["connected"] += 1
        self.venue.opened(connection, call)
        return connection

    def received(self, connection: Connection, message: str | bytes) -> None:
        """A client's message; one too many is not read, and the venue says what follows."""
        now = self.clock.now()
        connection.heard = now
        if self._counted(connection, now):
            self.venue.received(connection, message, now)

    def pinged(self, connection: Connection) -> None:
        """A WebSocket ping of the client, which is answered elsewhere."""
        if self.facts.controls:
            self._counted(connection, self.clock.now())

    def ponged(self, connection: Connection) -> None:
        """A WebSocket pong of the client: no answer to a ping in JSON."""
        if self.facts.ping is not None:
            connection.pinged = 0.0
        if self.facts.controls:
            self._counted(connection, self.clock.now())

    def closed(self, connection: Connection) -> None:
        """A connection has ended, whoever ended it."""
        connection.ended()
        for key in tuple(connection.feeds):
            self.unsubscribe(connection, key)
        del self.connections[connection]
        self.faults.forget(connection)
        self.counts["frames"] += connection.frames
        if connection.overflowed:
            self.limited["send_queue"] += 1

    def limit(self, connection: Connection, name: str, now: float) -> None:
        """A connection broke the limit `name`: count it and let the venue say so."""
        self.limited[name] += 1
        self.venue.expire(connection, name, now)

    def _counted(self, connection: Connection, now: float) -> bool:
        self.counts["received"] += 1
        if connection.messages.take(now):
            return True
        self.limit(connection, "messages", now)
        return False

    def upkeep(self) -> None:
        """Keepalive and the ends that are due, for every connection."""
        now = self.clock.now()
        if now - self._kept < UPKEEP:
            return
        self._kept = now
        seconds = self.faults.maintenance(now) if self.connections else None
        if seconds is not None:
            self.closed_until = now + seconds
        for connection in tuple(self.connections):
            if connection.closing:
                continue
            if connection.frames != connection.frames_seen:
                connection.frames_seen = connection.frames
                connection.spoke = now
            if seconds is not None:
                self.venue.farewell(connection, self.clock.stamp())
                self.venue.expire(connection, "maintenance", now)
            else:
                self._keep(connection, now)

    def _keep(self, connection: Connection, now: float) -> None:
        facts = self.facts
        age = now - connection.opened
        if connection.feeds:
            connection.used = now
        if facts.session is not None and age >= facts.session - facts.notice and not connection.warned:
            connection.warned = True
            self.venue.farewell(connection, self.clock.stamp())
        if facts.session is not None and age >= facts.session:
            self.venue.expire(connection, "session", now)
        elif facts.pong is not None and connection.pinged and now - connection.pinged >= facts.pong:
            self.venue.expire(connection, "pong", now)
        elif facts.idle is not None and now - connection.heard >= facts.idle:
            self.venue.expire(connection, "idle", now)
        elif facts.mute is not None and now - connection.spoke >= facts.mute:
            self.venue.expire(connection, "mute", now)
        elif facts.unused is not None and now - connection.used >= facts.unused:
            self.venue.expire(connection, "unused", now)
        else:
            if facts.ping is not None and now - connection.beat >= facts.ping:
                connection.beat = now
                connection.ping(b"%d" % (self.clock.stamp() // 1000), now)
            self.venue.upkeep(connection, now)

    # ------------------------------------------------------------------- rest

    async def rest(self, call: Call) -> Answer:
        """Answer a REST call: late when slowed, with the venue's own refusal during maintenance."""
        self.counts["rest"] += 1
        if self.faults.delay:
            await asyncio.sleep(self.faults.delay)
        now = self.clock.now()
        if now < self.closed_until:
            return self.venue.unavailable(call)
        return self.venue.rest(call, now)

    # --------------------------------------------------------- faults, numbers

    def arm(self, spec: Spec) -> None:
        """Arm a fault; ValueError where the venue cannot have it."""
        self.faults.arm(spec, self.clock.now())
        for connection in self.connections:
            connection.slow(self.faults.delay)

    def clear(self) -> None:
        """End every fault, maintenance too."""
        self.faults.clear()
        self.closed_until = 0.0
        for connection in self.connections:
            connection.slow(0.0)

    def stats(self) -> dict[str, object]:
        """Counts since the start, and what is open now."""
        frames = self.counts["frames"] + sum(connection.frames for connection in self.connections)
        return {
            "connections": len(self.connections),
            "subscriptions": sum(len(feed.subscribers) for feed in self.feeds.values()),
            "markets": len(self._active),
            "connected": self.counts["connected"],
            "received": self.counts["received"],
            "frames": frames,
            "trades": self.counts["trades"],
            "changes": self.counts["changes"],
            "given_up": self.counts["given_up"],
            "rest": self.counts["rest"],
            "refused": self.counts["refused"],
            "limited": dict(self.limited),
            "faults": len(self.faults.fired),
        }

    def _books(self, market: Market) -> list[Feed]:
        return [f for f in self.feeds.values() if f.kind == "book" and f.market is market and f.subscribers]

    def _choose(self, now: float) -> None:
        """Which markets trade: those with listeners, and those asked about by REST of late."""
        self._asked = {symbol: at for symbol, at in self._asked.items() if now - at < REMEMBER}
        alive = {feed.market for feed in self.feeds.values()} | {self.markets[symbol] for symbol in self._asked}
        self._active = [market for market in self.markets.values() if market in alive and market.instrument.moves]
        self._weights = list(accumulate(ACTIVITY.get(market.instrument.base, 1.0) for market in self._active))
        self._stale = False
        self._chosen = now
