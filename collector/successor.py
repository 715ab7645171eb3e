"""A worker process takes over from another while both run, so that new code and new settings cost no gap.

The one that goes notes the trades that it tells. Once it has said that it does, the successor connects beside it, and holds
what it hears. When the venues of the one that goes are closed, the successor puts out what it holds but these, shows its books,
and goes on.
"""

import asyncio
from collections import deque
from time import time_ns

from msgspec import Struct

from adapters import registry
from adapters.events import Event, Gap, Status, Trade
from collector.exchange import Exchange
from collector.exchanges import Exchanges
from collector.plan import WorkerPlan
from collector.sink import Put, Republish, Sink

MOST_HELD = 500_000
"""Trades and gaps that a successor holds. With more it is of no use: it ends, and the one that should go stays."""
MOST_IDS = 20_000
"""Of one market, where trades are not numbered."""
HEARD_WITHIN = 5
"""Seconds for which a connection that is to end is waited for, that what it was sent has come."""
FILTERED_FOR = 60.0
"""Seconds after the hand-over in which a trade may still come that the other one told."""


class Told(Struct):
    """Of one market, trades that the one that goes has told: all up to this number, or these."""

    exchange: str
    symbol: str
    last: int | None = None
    ids: list[str] = []


class Prepare(Struct, frozen=True, tag=True):
    """A successor begins: what is told is to be noted."""


class Finish(Struct, frozen=True, tag=True):
    """The successor hears everything: end, and tell what was told."""


class Release(Struct, frozen=True, tag=True):
    """The other one has ended, and told this."""

    told: list[Told]


Order = WorkerPlan | Prepare | Finish | Release


class Notes:
    """A Put that notes which trades go through it, of one exchange."""

    def __init__(self, exchange: str, put: Put) -> None:
        self._exchange = exchange
        self._is_numbered = registry.adapter(exchange).venue.numbers_trades
        self._put = put
        self._last: dict[str, int] = {}
        self._ids: dict[str, deque[str]] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Trade):
            if not self._is_numbered:
                self._ids.setdefault(event.symbol, deque(maxlen=MOST_IDS)).append(event.id)
            elif event.source == "live":
                self._last[event.symbol] = int(event.id)
        self._put(event)

    @property
    def told(self) -> list[Told]:
        numbered = [Told(self._exchange, symbol, last) for symbol, last in self._last.items()]
        return numbered + [Told(self._exchange, symbol, None, list(ids)) for symbol, ids in self._ids.items()]


class Holding:
    """Implements Sink: keeps trades and gaps until they may go out, since views are of no use later. `is_full`: not all of
    them."""

    def __init__(self) -> None:
        self.held: dict[str, list[Event]] = {}
        self.is_full = False

    def open(self, exchange: str, republish: Republish) -> Put:
        held = self.held.setdefault(exchange, [])

        def put(event: Event) -> None:
            if isinstance(event, Trade | Gap):
                if len(held) < MOST_HELD:
                    held.append(event)
                else:
                    self.is_full = True

        return put

    def status(self, status: Status) -> None:
        """Of no interest to a master."""

    async def drain(self, within: float) -> bool:
        return True


class Sieve:
    """A Put that lets through what another process has not told."""

    def __init__(self, told: list[Told], put: Put) -> None:
        self._last = {each.symbol: each.last for each in told if each.last is not None}
        self._ids = {each.symbol: set(each.ids) for each in told if each.last is None}
        self._put = put

    def __call__(self, event: Event) -> None:
        if not self._was_told(event):
            self._put(event)

    def _was_told(self, event: Event) -> bool:
        symbol = event.symbol or ""
        if isinstance(event, Trade):
            last = self._last.get(symbol)
            return event.id in self._ids.get(symbol, ()) if last is None else int(event.id) <= last
        if isinstance(event, Gap) and event.channel == "trades" and event.last_missing is not None:
            return symbol in self._last and int(event.last_missing) <= self._last[symbol]
        return False


class Post:
    """Does what the supervisor says, for the exchanges of this process. `told`: once it is to end for a successor."""

    def __init__(self, exchanges: Exchanges, sink: Sink, holding: Holding | None, stop: asyncio.Event) -> None:
        self._exchanges = exchanges
        self._sink = sink
        self._holding = holding
        self._stop = stop
        self._notes: list[Notes] = []
        self._finish_at: int | None = None

    def obey(self, order: Order) -> None:
        match order:
            case WorkerPlan():
                self._exchanges.change(order.exchanges)
            case Prepare():
                for exchange in self._exchanges:
                    notes = Notes(exchange.name, exchange.put)
                    self._notes.append(notes)
                    exchange.put_to(notes)
            case Finish():
                self._finish_at = time_ns() // 1000
            case Release():
                self._release(order.told)

    def _release(self, told: list[Told]) -> None:
        assert self._holding is not None
        for exchange in self._exchanges:
            put = self._sink.open(exchange.name, exchange.republish)
            sieve = Sieve([each for each in told if each.exchange == exchange.name], put)
            for event in self._holding.held.pop(exchange.name, []):
                sieve(event)
            exchange.put_to(sieve)
            exchange.introduce()
            asyncio.get_running_loop().call_later(FILTERED_FOR, _let_through, exchange, sieve, put)
        self._holding = None

    def look(self) -> None:
        """Whether all that was sent before the successor heard everything has come: then this process is to end."""
        if self._finish_at is None:
            return
        feeds = [feed for exchange in self._exchanges for feed in exchange.feeds if feed.is_open]
        is_late = time_ns() // 1000 > self._finish_at + HEARD_WITHIN * 1_000_000
        if is_late or all(feed.adapter.live.received > self._finish_at for feed in feeds):
            self._stop.set()

    @property
    def is_noting(self) -> bool:
        """Whether what is told from now on will be known to a successor."""
        return bool(self._notes)

    @property
    def holds_too_much(self) -> bool:
        return self._holding is not None and self._holding.is_full

    @property
    def told(self) -> list[Told] | None:
        return None if self._finish_at is None else [each for notes in self._notes for each in notes.told]


def _let_through(exchange: Exchange, sieve: Sieve, put: Put) -> None:
    """Without the sieve, unless there are notes around it by now: then this process is to go itself."""
    if exchange.put is sieve:
        exchange.put_to(put)
