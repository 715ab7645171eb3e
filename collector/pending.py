"""Events on their way out, by class: what may never be lost, what may start anew, and what only the latest matters of.

Three levels of pressure. NONE: everything goes out in order. SOME: of views (books, tickers and the like) only the latest of
each market is kept. FULL: changes of books are dropped too, and all that follow in that market until the pressure is gone and
its whole book was put again; and trades, which are told as a `gap` that says what is missing. All of it is counted.
"""

from collections import Counter
from enum import IntEnum

from msgspec import Struct

from adapters.events import Book, BookDelta, Candle, Event, Funding, Gap, Liquidation, OpenInterest, Ticker, Trade
from collector.sink import Republish


class Pressure(IntEnum):
    NONE = 0
    SOME = 1
    FULL = 2


_VIEWS = frozenset({Book, Ticker, OpenInterest})
_NAMES: dict[type, str] = {
    Book: "books",
    Ticker: "tickers",
    OpenInterest: "open interest",
    Trade: "trades",
    BookDelta: "deltas",
    Liquidation: "liquidations",
    Funding: "funding",
    Candle: "candles",
}
LOSSES = tuple(f"{'conflated' if kind in _VIEWS else 'dropped'} {name}" for kind, name in _NAMES.items())
"""Every reason that `Pending.counts` has."""


class Missing(Struct):
    """What was dropped of one channel of one market since the pressure rose. Times in microseconds UTC."""

    first: str | None
    last: str | None
    since: int
    until: int
    count: int = 1


class Pending:
    """A queue of events whose policy follows the pressure that is set on it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.pressure = Pressure.NONE
        self._latest: dict[tuple[type, str, str], Event] = {}
        self._missing: dict[tuple[str, str | None, str], Missing] = {}
        self._torn: dict[tuple[str, str], Republish] = {}

    def put(self, event: Event, republish: Republish) -> None:
        """Keep an event, as far as the pressure allows."""
        if self.pressure is Pressure.NONE:
            self.events.append(event)
        else:
            self.put_under_pressure(event, republish)

    def put_under_pressure(self, event: Event, republish: Republish) -> None:
        kind = type(event)
        market = (event.exchange, event.symbol or "")
        if kind in _VIEWS:
            if (kind, *market) in self._latest:
                self.counts[f"conflated {_NAMES[kind]}"] += 1
            self._latest[kind, *market] = event
        elif kind is BookDelta and (self.pressure is Pressure.FULL or market in self._torn):
            self._torn[market] = republish
            self._miss(event)
        elif kind in _NAMES and self.pressure is Pressure.FULL:
            self._miss(event)
        else:
            self._keep_order(event)
            self.events.append(event)

    def _keep_order(self, event: Event) -> None:
        """A book that is kept back goes out before a change that follows it, and never behind the gap that it was before."""
        if type(event) is BookDelta:
            before = self._latest.pop((Book, event.exchange, event.symbol), None)
            if before is not None:
                self.events.append(before)
        elif type(event) is Gap and event.channel == "orderbooks":
            for kind, exchange, symbol in list(self._latest):
                if kind is Book and exchange == event.exchange and event.symbol in (None, symbol):
                    del self._latest[kind, exchange, symbol]
                    self.counts["conflated books"] += 1

    def _miss(self, event: Event) -> None:
        name = _NAMES[type(event)]
        self.counts[f"dropped {name}"] += 1
        number = getattr(event, "id", None) or getattr(event, "sequence", None)
        number = None if number is None else str(number)
        missing = self._missing.get((event.exchange, event.symbol, name))
        if missing is None:
            self._missing[event.exchange, event.symbol, name] = Missing(number, number, event.received, event.received)
        else:
            missing.last, missing.until, missing.count = number, event.received, missing.count + 1

    def set_pressure(self, pressure: Pressure) -> None:
        """Follow the pressure. What was kept back goes out when it falls: gaps, then the latest views, then whole books."""
        was, self.pressure = self.pressure, pressure
        if pressure < was:
            self._tell_missing()
        if pressure is Pressure.NONE and was is not Pressure.NONE:
            torn, self._torn = self._torn, {}
            for (kind, *market), event in self._latest.items():
                if kind is Book and tuple(market) in torn:  # a newer and whole one follows
                    self.counts["conflated books"] += 1
                else:
                    self.events.append(event)
            self._latest.clear()
            for (_, symbol), republish in torn.items():
                republish(symbol)

    def _tell_missing(self) -> None:
        for (exchange, symbol, name), missing in self._missing.items():
            channel = "orderbooks" if name == "deltas" else name
            reason = f"overflow: {missing.count} {name} dropped"
            numbers = (missing.first, missing.last, missing.since, missing.until)
            self.events.append(Gap(exchange, symbol, None, missing.until, channel, reason, *numbers))
        self._missing.clear()

    def take(self) -> list[Event]:
        """Everything that may go out now, in order."""
        events, self.events = self.events, []
        return events
