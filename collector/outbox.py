"""The Sink in front of a master: events to batches, on the lane that their market belongs to.

A lane writes to one stream of the wire. All events of one symbol of one exchange go down the same lane, which keeps their
order; class and pressure decide before a batch gets its number. What a batch holds is acknowledged, or still here: on disk
where there is a spool, else in memory.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from zlib import crc32

import msgspec

from adapters.events import Event, Status
from collector.hold import SpoolHold
from collector.pending import Pending, Pressure
from collector.sink import Put, Republish
from collector.spool import Listener, Spool
from master.protocol import MAX_BATCH, MemoryHold, Sender

LINGER = 0.005
"""Seconds that the first event of a batch waits for company while the master keeps up."""
LONGEST_LINGER = 0.25
BEHIND = 1 << 20
"""Bytes that wait for acknowledgement for which it waits as long again: far behind, small batches would only be many."""
BATCH_EVENTS = 2048
"""Events of a lane that do not wait for the timer. Only a flood gathers so many within LINGER, and what a batch costs both ends
beside its events is then shared by four times as many as of 512: a tenth of what a trade costs the master."""
LARGEST = MAX_BATCH // 2
"""Bytes of a body above which a batch is halved, as far as it has more than one event."""
IN_MEMORY = 64 << 20
"""Bytes that may wait for acknowledgement, on all lanes together, where there is no spool, or its disk refuses."""
PRESSURE_FROM = {Pressure.SOME: 0.5, Pressure.FULL: 1.0}
"""Parts of the room that are taken from which a pressure holds; it falls again at three quarters."""

_encoder = msgspec.json.Encoder()


class Stream:
    """One stream on its way to the master, and whose events each of its batches holds. `lane`: the connection it prefers."""

    def __init__(self, lane: int, sender: Sender, told: deque[Counter[str]] | None = None) -> None:
        self.lane = lane
        self.sender = sender
        self._told = told if told is not None else deque()

    @property
    def exchanges(self) -> set[str]:
        """Whose events it holds."""
        return {name for whose in self._told for name in whose if name}

    def add(self, body: bytes, count: int, whose: Counter[str]) -> None:
        self._told.append(whose)
        self.sender.add(body, count)

    def acked(self, batches: int) -> Counter[str]:
        """The oldest so many batches are durable: how many events of which exchange they held."""
        return sum((self._told.popleft() for _ in range(batches)), Counter())

    def withdraw(self) -> list[tuple[bytes, int, Counter[str]]]:
        """Take back what the disk did not take, and was never sent: bodies, counts, and whose they are."""
        hold = self.sender.hold
        if not isinstance(hold, SpoolHold):
            return []
        taken = hold.withdraw()
        whose = [self._told.pop() for _ in taken][::-1]
        return [(body, count, each) for (body, count), each in zip(taken, whose, strict=True)]


class Lane:
    """What waits to become a batch, and the stream to which it then goes. `writers`: the exchanges whose events it may hold."""

    def __init__(self, index: int, stream: Stream, largest: int) -> None:
        self.index = index
        self.stream = stream
        self.pending = Pending()
        self.writers: set[str] = set()
        self._largest = largest

    def flush(self) -> Event | None:
        """What is pending becomes a batch (or several, if it is large): its last event."""
        events = self.pending.take()
        if not events:
            return None
        self._add(events)
        return events[-1]

    def _add(self, events: list[Event]) -> None:
        body = _encoder.encode(events)
        if len(body) > self._largest and len(events) > 1:
            middle = len(events) // 2
            self._add(events[:middle])
            self._add(events[middle:])
        else:
            self.stream.add(body, len(events), self._whose(events))

    def _whose(self, events: list[Event]) -> Counter[str]:
        if len(self.writers) == 1:
            return Counter(dict.fromkeys(self.writers, len(events)))
        return Counter([event.exchange for event in events])


class Outbox(Listener):
    """Implements Sink. `wake(stream)` is called when a stream has something to send, `changed` when others are to be sent.

    By exchange, `acked_events`: how many are durable at the master; `lags`: milliseconds from the venue's time to ours, of the
    last event of the last batch.

    `backlog`: generations of streams that nobody writes to any more: an earlier life's, and those from before the disk refused.
    The oldest goes first and the lanes wait for it, so that the order of a symbol is that of its events.

    `apart`: exchanges that have `lanes` lanes of their own each, in this order; else all share them.
    """

    def __init__(
        self,
        lanes: int,
        wake: Callable[[Stream], None],
        changed: Callable[[], None] = lambda: None,
        spool: Spool | None = None,
        adopted: tuple[Spool, ...] = (),
        quota: int = IN_MEMORY,
        *,
        apart: Sequence[str] = (),
        largest: int = LARGEST,
    ) -> None:
        self.acked_events: Counter[str] = Counter()
        self.pressure = Pressure.NONE
        self.lags: dict[str, float] = {}
        self.backlog: deque[list[Stream]] = deque()
        self._wake = wake
        self._changed = changed
        self._spool = spool
        self._quota = quota
        self._timer: asyncio.TimerHandle | None = None
        self._all_acked = asyncio.Event()
        for each in (*adopted, *((spool,) if spool is not None else ())):
            self._take_over(each)
        make = self._spooled if spool is not None else self._remembered
        self.lanes = [Lane(index, make(index), largest) for index in range(lanes * max(1, len(apart)))]
        self._own_lanes = {name: self.lanes[lanes * index : lanes * (index + 1)] for index, name in enumerate(apart)}
        self._by_hold = {id(each.sender.hold): each for each in self.streams}

    # Streams ------------------------------------------------------------------------------------------------------------

    def _take_over(self, spool: Spool) -> None:
        """What earlier lives left goes first, in their order."""
        told = spool.told
        for life in spool.left:
            left = [Stream(index, Sender(hold, hold.stream), told[hold.stream]) for index, hold in enumerate(life)]
            self.backlog.append(left)

    @staticmethod
    def _remembered(index: int) -> Stream:
        return Stream(index, Sender(MemoryHold()))

    def _spooled(self, index: int) -> Stream:
        assert self._spool is not None
        hold = self._spool.new_hold()
        return Stream(index, Sender(hold, hold.stream))

    @property
    def streams(self) -> Iterator[Stream]:
        """All that hold something, or may yet, the oldest first."""
        for generation in self.backlog:
            yield from generation
        yield from (lane.stream for lane in self.lanes)

    @property
    def due(self) -> list[Stream]:
        """Those that may be sent now."""
        return self.backlog[0] if self.backlog else [lane.stream for lane in self.lanes]

    def _move(self, make: Callable[[int], Stream]) -> None:
        """All lanes write to new streams; what was never written of the old ones goes along, the rest goes before."""
        old = [lane.stream for lane in self.lanes]
        for lane in self.lanes:
            moved = lane.stream.withdraw()
            lane.stream = make(lane.index)
            for body, count, whose in moved:
                lane.stream.add(body, count, whose)
        if holding := [each for each in old if each.sender.hold.events]:
            self.backlog.append(holding)
        self._by_hold = {id(each.sender.hold): each for each in self.streams}
        self._follow_pressure()
        self._changed()

    def tell(self, events: list[Event]) -> None:
        """Something that belongs to no exchange."""
        if events:
            self.lanes[0].writers.add("")
            self.lanes[0].pending.events += events
            self._schedule()

    # Of the spool (Listener) --------------------------------------------------------------------------------------------

    def ready(self, hold: SpoolHold) -> None:
        stream = self._by_hold.get(id(hold))
        if stream is not None:
            self._wake(stream)

    def failed(self) -> None:
        self._move(self._remembered)

    def healed(self) -> None:
        self._move(self._spooled)

    # Sink ---------------------------------------------------------------------------------------------------------------

    def open(self, exchange: str, republish: Republish) -> Put:
        lanes: dict[str | None, Lane] = {}
        among = self._own_lanes.get(exchange, self.lanes)

        def lane_of(symbol: str | None) -> Lane:
            lane = lanes[symbol] = among[crc32(f"{exchange}|{symbol or ''}".encode()) % len(among)]
            lane.writers.add(exchange)
            return lane

        def put(event: Event) -> None:
            try:
                lane = lanes[event.symbol]
            except KeyError:
                lane = lane_of(event.symbol)
            pending = lane.pending
            if pending.pressure:
                pending.put_under_pressure(event, republish)
            else:
                pending.events.append(event)
            waiting = len(pending.events)
            if waiting == 1:
                self._schedule()
            elif waiting >= BATCH_EVENTS:
                self._flush(lane)

        return put

    def status(self, status: Status) -> None:
        """A master is not told: its lake holds data, and the state of the collecting side has its own endpoint."""

    def _schedule(self) -> None:
        """Something waits for a batch. All lanes are flushed together, so that one write takes them to the disk."""
        if self._timer is None:
            linger = min(LONGEST_LINGER, LINGER * (1 + self.held_bytes / BEHIND))
            self._timer = asyncio.get_running_loop().call_later(linger, self.flush)

    def flush(self) -> None:
        """Everything that waits for a batch becomes one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for lane in self.lanes:
            self._flush(lane)

    def _flush(self, lane: Lane) -> None:
        last = lane.flush()
        if last is not None:
            if last.timestamp is not None:
                self.lags[last.exchange] = (last.received - last.timestamp) / 1000
            self._all_acked.clear()
            self._follow_pressure()
            self._wake(lane.stream)

    def acked(self, stream: Stream, batches: int) -> None:
        """So many batches of a stream, its oldest, are durable at the master."""
        self.acked_events += stream.acked(batches)
        self._let_go()

    def was_acked(self, stream: Stream, batches: int) -> None:
        """The same, of what an earlier life has sent: it has counted them, as far as it lived to hear of it."""
        stream.acked(batches)
        self._let_go()

    def _let_go(self) -> None:
        while self.backlog and not any(each.sender.hold.events for each in self.backlog[0]):
            self.backlog.popleft()
            self._changed()
        self._follow_pressure()
        if not self.held_events:
            self._all_acked.set()

    @property
    def held_events(self) -> int:
        """Events that wait: for a batch, or for an acknowledgement."""
        return sum(len(lane.pending.events) for lane in self.lanes) + sum(each.sender.hold.events for each in self.streams)

    @property
    def held_bytes(self) -> int:
        return sum(each.sender.hold.bytes for each in self.streams)

    @property
    def losses(self) -> Counter[str]:
        """Everything conflated or dropped, by what and why."""
        return sum((lane.pending.counts for lane in self.lanes), Counter())

    @property
    def room(self) -> int:
        """Bytes that may be held now."""
        return self._quota if self._spool is not None and self._spool.trouble is None else IN_MEMORY

    def _follow_pressure(self) -> None:
        taken = self.held_bytes / self.room
        pressure = max((each for each, start in PRESSURE_FROM.items() if taken >= start), default=Pressure.NONE)
        if pressure < self.pressure and taken >= PRESSURE_FROM[self.pressure] * 0.75:
            return
        if pressure is not self.pressure:
            self.pressure = pressure
            for lane in self.lanes:
                lane.pending.set_pressure(pressure)
            self._schedule()

    async def drain(self, within: float) -> bool:
        for lane in self.lanes:
            lane.pending.set_pressure(Pressure.NONE)
        self.flush()
        if not self.held_events:
            return True
        try:
            async with asyncio.timeout(within):
                await self._all_acked.wait()
        except TimeoutError:
            return False
        return True
