"""The Sink in front of a master: events to batches, on the lane that their market belongs to.

A lane is one stream of the wire. All events of one symbol of one exchange go down the same lane, which keeps their order; class
and pressure decide before a batch gets its number. What a batch holds is acknowledged, or still here.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from zlib import crc32

import msgspec

from adapters.events import Event, Status
from collector.pending import Pending, Pressure
from collector.sink import Put, Republish
from master.protocol import MAX_BATCH, Batch, MemoryHold, Sender

LINGER = 0.005
"""Seconds that the first event of a batch waits for company."""
BATCH_EVENTS = 512
PRESSURE_FROM = {Pressure.SOME: 32 << 20, Pressure.FULL: 64 << 20}
"""Bytes that wait for acknowledgement, on all lanes together, from which a pressure holds; it falls again at three quarters."""

_encoder = msgspec.json.Encoder()


class Lane:
    """One stream: what waits to become a batch, and the batches that wait to be acknowledged."""

    def __init__(self, index: int, added: Callable[["Lane", Event], None]) -> None:
        self.index = index
        self.sender = Sender(MemoryHold())
        self.pending = Pending()
        self._added = added
        self._timer: asyncio.TimerHandle | None = None
        self._told: deque[Counter[str]] = deque()

    def schedule(self) -> None:
        """The first event of a batch has come."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self.flush)

    def flush(self) -> None:
        """What is pending becomes a batch (or several, if it is large)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events = self.pending.take()
        if events:
            self._add(events)
            self._added(self, events[-1])

    def _add(self, events: list[Event]) -> None:
        body = _encoder.encode(events)
        if len(body) > MAX_BATCH // 2 and len(events) > 1:
            middle = len(events) // 2
            self._add(events[:middle])
            self._add(events[middle:])
        else:
            self.sender.add(body, len(events))
            self._told.append(Counter([event.exchange for event in events]))

    def acked(self, batches: int) -> Counter[str]:
        """The oldest so many batches are durable: how many events of which exchange they held."""
        return sum((self._told.popleft() for _ in range(batches)), Counter())


class Outbox:
    """Implements Sink. `wake(lane)` is called when a lane has something to send.

    By exchange, `acked_events`: how many are durable at the master; `lags`: milliseconds from the venue's time to ours, of the
    last event of the last batch.
    """

    def __init__(self, lanes: int, wake: Callable[[Lane], None]) -> None:
        self.lanes = [Lane(index, self._added) for index in range(lanes)]
        self.acked_events: Counter[str] = Counter()
        self.pressure = Pressure.NONE
        self.lags: dict[str, float] = {}
        self._wake = wake
        self._all_acked = asyncio.Event()

    def open(self, exchange: str, republish: Republish) -> Put:
        lanes: dict[str | None, Lane] = {}

        def lane_of(symbol: str | None) -> Lane:
            lane = lanes[symbol] = self.lanes[crc32(f"{exchange}|{symbol or ''}".encode()) % len(self.lanes)]
            return lane

        def put(event: Event) -> None:
            lane = lanes.get(event.symbol) or lane_of(event.symbol)
            pending = lane.pending
            if pending.pressure:
                pending.put_under_pressure(event, republish)
            else:
                pending.events.append(event)
            waiting = len(pending.events)
            if waiting == 1:
                lane.schedule()
            elif waiting >= BATCH_EVENTS:
                lane.flush()

        return put

    def status(self, status: Status) -> None:
        """A master is not told: its lake holds data, and the state of the collecting side has its own endpoint."""

    def _added(self, lane: Lane, last: Event) -> None:
        if last.timestamp is not None:
            self.lags[last.exchange] = (last.received - last.timestamp) / 1000
        self._all_acked.clear()
        self._follow_pressure()
        self._wake(lane)

    def acked(self, lane: Lane, released: list[Batch]) -> None:
        """These batches of a lane, its oldest, are durable at the master."""
        self.acked_events += lane.acked(len(released))
        self._follow_pressure()
        if not self.held_events:
            self._all_acked.set()

    @property
    def held_events(self) -> int:
        """Events that wait: for a batch, or for an acknowledgement."""
        return sum(len(lane.pending.events) + lane.sender.held_events for lane in self.lanes)

    @property
    def held_bytes(self) -> int:
        return sum(lane.sender.held_bytes for lane in self.lanes)

    @property
    def losses(self) -> Counter[str]:
        """Everything conflated or dropped, by what and why."""
        return sum((lane.pending.counts for lane in self.lanes), Counter())

    def _follow_pressure(self) -> None:
        held = self.held_bytes
        pressure = max((each for each, start in PRESSURE_FROM.items() if held >= start), default=Pressure.NONE)
        if pressure < self.pressure and held >= PRESSURE_FROM[self.pressure] * 3 // 4:
            return
        if pressure is not self.pressure:
            self.pressure = pressure
            for lane in self.lanes:
                lane.pending.set_pressure(pressure)
                if lane.pending.events:
                    lane.schedule()

    async def drain(self, within: float) -> bool:
        for lane in self.lanes:
            lane.pending.set_pressure(Pressure.NONE)
            lane.flush()
        if not self.held_events:
            return True
        try:
            async with asyncio.timeout(within):
                await self._all_acked.wait()
        except TimeoutError:
            return False
        return True
