"""What was stored of each exchange: counted as it comes, and known again after a start."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from adapters.backfill import LastTrade
from adapters.events import Event, Gap, Trade
from master.protocol import Known, decode_events
from master.segments import Scan


@dataclass(slots=True)
class Tally:
    """What was stored of one exchange: rows by type and gaps by reason since the start; and of all time, when the newest event
    was received (microseconds UTC) and the newest live trade of each symbol. No Struct: to set a field of those costs more."""

    rows: Counter[str] = field(default_factory=Counter)
    last_received: int = 0
    trades: dict[str, Trade | LastTrade] = field(default_factory=dict)
    gaps: Counter[str] = field(default_factory=Counter)

    @property
    def known(self) -> Known:
        trades = {symbol: LastTrade(each.id, each.timestamp, each.received) for symbol, each in self.trades.items()}
        return Known(self.last_received, trades)


def count(tallies: dict[str, Tally], events: Iterable[Event]) -> None:
    """Add events to the tallies of their exchanges. Whose they are is looked up once for all that stand beside each other, and
    their trades are added up first: nearly all are trades, and of one exchange."""
    tally, name, trades = Tally(), None, 0
    for event in events:
        if event.exchange != name:
            if trades:
                tally.rows["Trade"] += trades
            name, trades = event.exchange, 0
            tally = tallies.get(name) or tallies.setdefault(name, Tally())
        tally.last_received = event.received
        kind = type(event)
        if kind is Trade:
            trades += 1
            if event.source == "live":  # type: ignore[union-attr]
                tally.trades[event.symbol] = event  # type: ignore[index, assignment]
        else:
            tally.rows[kind.__name__] += 1
            if kind is Gap:
                tally.gaps[event.reason] += 1  # type: ignore[union-attr]
    if trades:
        tally.rows["Trade"] += trades


def tallies(newest: Scan | None) -> dict[str, Tally]:
    """What an earlier life knew of each exchange: the head of its newest segment, and what came after that."""
    found: dict[str, Tally] = {}
    if newest is not None:
        known = msgspec.convert(newest.head.get("known", {}), dict[str, Known])
        found = {name: Tally(last_received=each.since, trades=dict(each.trades)) for name, each in known.items()}
        for batch in newest.batches:
            count(found, decode_events(batch.body))
        for tally in found.values():
            tally.rows.clear()
            tally.gaps.clear()
    return found
