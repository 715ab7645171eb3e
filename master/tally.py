"""What was stored of each exchange: counted as it comes, and known again after a start."""

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from adapters.backfill import LastTrade
from adapters.events import Event, Gap, Trade
from master.protocol import Known
from master.segments import Scan

_events = msgspec.json.Decoder(list[Event])


class Tally(Struct):
    """What was stored of one exchange: rows by type and gaps by reason since the start; and of all time, when the newest event
    was received (microseconds UTC) and the newest live trade of each symbol."""

    rows: Counter[str] = msgspec.field(default_factory=Counter)
    last_received: int = 0
    trades: dict[str, Trade | LastTrade] = {}
    gaps: Counter[str] = msgspec.field(default_factory=Counter)

    @property
    def known(self) -> Known:
        trades = {symbol: LastTrade(each.id, each.timestamp, each.received) for symbol, each in self.trades.items()}
        return Known(self.last_received, trades)


def count(tallies: dict[str, Tally], events: Iterable[Event]) -> None:
    """Add events to the tallies of their exchanges; one is looked up once for all that stand beside each other."""
    tally, name = Tally(), None
    for event in events:
        if event.exchange != name:
            name = event.exchange
            tally = tallies.get(name) or tallies.setdefault(name, Tally())
        kind = type(event)
        tally.rows[kind.__name__] += 1
        tally.last_received = event.received
        if kind is Trade:
            if event.source == "live":  # type: ignore[union-attr]
                tally.trades[event.symbol] = event  # type: ignore[index, assignment]
        elif kind is Gap:
            tally.gaps[event.reason] += 1  # type: ignore[union-attr]


def tallies(newest: Scan | None) -> dict[str, Tally]:
    """What an earlier life knew of each exchange: the head of its newest segment, and what came after that."""
    found: dict[str, Tally] = {}
    if newest is not None:
        known = msgspec.convert(newest.head.get("known", {}), dict[str, Known])
        found = {name: Tally(last_received=each.since, trades=dict(each.trades)) for name, each in known.items()}
        for batch in newest.batches:
            count(found, _events.decode(batch.body))
        for tally in found.values():
            tally.rows.clear()
            tally.gaps.clear()
    return found
