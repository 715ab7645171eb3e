"""How fast data comes and how soon it is durable, second by second: the exchanges of /v1/status, and its history."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import median
from time import monotonic, time_ns
from typing import Any

from msgspec import Struct

from adapters.events import Event
from master.live.market import Market
from master.tally import Tally

STEP = 1.0
"""Seconds between samples."""
SAMPLES = 600
"""That are kept."""
QUIET_AFTER = 10_000_000
"""Microseconds without an event after which an exchange is quiet."""
SILENT_AFTER = 60_000_000
"""And after which it is silent."""
LAGS = 1024
"""Batches of an exchange whose lag is kept until the next sample."""


class Beat(Struct):
    """One exchange in one second: events and trades a second, and the median of milliseconds from receiving to being durable
    (below zero where a collector's clock is ahead of ours; None where nothing came)."""

    events: float = 0.0
    trades: float = 0.0
    lag: float | None = None


class Pulse:
    """Samples the tallies of the ingest once a second. Of each batch, which it hears as an audience, it takes one lag."""

    def __init__(self, tallies: Mapping[str, Tally], market: Market) -> None:
        self._tallies = tallies
        self._market = market
        self._times: deque[int] = deque(maxlen=SAMPLES)
        self._total: deque[Beat] = deque(maxlen=SAMPLES)
        self._beats: dict[str, deque[Beat]] = {}
        self._lags: dict[str, deque[float]] = {}
        self._before: dict[str, tuple[int, int]] = {}
        self._at: float | None = None

    def hear(self, events: Sequence[Event], position: int) -> None:
        """A batch is durable (ingest.Audience): how long ago the event in its middle was received."""
        event = events[len(events) // 2] if events else None
        if event is not None and event.exchange:
            lags = self._lags.get(event.exchange) or self._lags.setdefault(event.exchange, deque(maxlen=LAGS))
            lags.append((time_ns() // 1000 - event.received) / 1000)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample(time_ns() // 1000, monotonic())
            await asyncio.sleep(STEP)

    def sample(self, now: int, at: float) -> None:
        """What came since the last sample: it ends `now` (microseconds UTC), at this moment of the monotonic clock."""
        counts = {
            name: (tally.rows.total(), tally.rows["Trade"]) for name, tally in self._tallies.items() if name
        }  # without the master's own
        before, self._before = self._before, counts
        lags, self._lags = self._lags, {}
        elapsed, self._at = (None if self._at is None else at - self._at), at
        if not elapsed:
            return  # the first: a rate is between two
        for name, (events, trades) in counts.items():
            was_events, was_trades = before.get(name, (0, 0))
            beat = Beat((events - was_events) / elapsed, (trades - was_trades) / elapsed, _median(lags.get(name, ())))
            beats = self._beats.get(name)
            if beats is None:  # it was not there before
                beats = self._beats[name] = deque([Beat() for _ in self._times], maxlen=SAMPLES)
            beats.append(beat)
        newest = [beats[-1] for beats in self._beats.values()]
        lag = _median([*chain.from_iterable(lags.values())])
        self._total.append(Beat(sum(each.events for each in newest), sum(each.trades for each in newest), lag))
        self._times.append(now)

    @property
    def events_per_second(self) -> float:
        """Of all exchanges, in the last second."""
        return round(self._total[-1].events, 1) if self._total else 0.0

    def exchanges(self, now: int) -> list[dict[str, Any]]:
        """Those of /v1/status: rates and lag of the last second; `gaps` counts all records of that type since the start."""
        return [self._exchange(name, tally, now) for name, tally in sorted(self._tallies.items()) if name]

    def _exchange(self, name: str, tally: Tally, now: int) -> dict[str, Any]:
        beats = self._beats.get(name)
        beat = beats[-1] if beats else Beat()
        sources = list(self._market.sources(exchange=name))
        age = max(0, now - tally.last_received)
        return {
            "exchange": name,
            "state": "ok" if age < QUIET_AFTER else "quiet" if age < SILENT_AFTER else "silent",
            "events_per_second": round(beat.events, 1),
            "trades_per_second": round(beat.trades, 1),
            "lag_ms": beat.lag,
            "age": age / 1e6,
            "symbols": len(sources),
            "books": sum(source.live.newest is not None for source in sources),
            "books_recovering": sum(source.is_recovering for source in sources),
            "gaps": tally.rows["Gap"],
        }

    def history(self) -> dict[str, Any]:
        """/v1/status/history: columns of one length, oldest first; a lag is None where nothing came in that second."""
        return {
            "step": STEP,
            "time": list(self._times),
            **_columns(self._total),
            "exchanges": {name: _columns(beats) for name, beats in sorted(self._beats.items())},
        }


def _columns(beats: Sequence[Beat]) -> dict[str, list[Any]]:
    return {"events_per_second": [round(each.events, 1) for each in beats], "lag_ms": [each.lag for each in beats]}


def _median(lags: Sequence[float]) -> float | None:
    return round(median(lags), 3) if lags else None
