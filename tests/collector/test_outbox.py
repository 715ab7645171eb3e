"""From events to numbered batches on lanes: in order, in time, and within bounds however long the master is away."""

import asyncio
import json
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Event, Gap, Status, Trade
from collector import outbox as module
from collector.outbox import BATCH_EVENTS, LINGER, LONGEST_LINGER, Outbox, Stream
from collector.pending import Pressure
from collector.sink import Put
from master.protocol import MAX_BATCH, Batch
from tests.collector.making import AT, BTC, ETH, EXCHANGE, book, delta, ticker, trade
from tests.waiting import until

decode = msgspec.json.Decoder(list[Event])


class Master:
    """Reads everything at once, and acknowledges when it is told to."""

    def __init__(self, lanes: int = 1) -> None:
        self.woken: list[Stream] = []
        self.outbox = Outbox(lanes, self.woken.append)
        self.republished: list[str] = []
        self.read: dict[int, list[Batch]] = {index: [] for index in range(lanes)}
        for lane in self.outbox.lanes:
            lane.stream.sender._window = 1_000_000
            lane.stream.sender.attach(0)

    def open(self, exchange: str = EXCHANGE) -> Put:
        return self.outbox.open(exchange, self.republished.append)

    def batches(self, index: int = 0) -> list[Batch]:
        while (batch := self.outbox.lanes[index].stream.sender.next_batch()) is not None:
            self.read[index].append(batch)
        return self.read[index]

    def events(self, index: int = 0) -> list[Event]:
        return [event for batch in self.batches(index) for event in decode.decode(batch.body)]

    def acknowledge(self) -> None:
        """Everything that can be read."""
        for index, lane in enumerate(self.outbox.lanes):
            self.outbox.acked(lane.stream, len(lane.stream.sender.acked(len(self.batches(index)))))


# Batches ------------------------------------------------------------------------------------------------------------------


class TestBatches:
    async def test_what_comes_together_goes_together(self) -> None:
        master = Master()
        put = master.open()
        told: list[Event] = [trade(1), book(2), ticker(3), delta(4)]
        for event in told:
            put(event)
        assert master.batches() == [], "it waits a moment for company"
        await until(lambda: master.woken, "the lane to be woken")
        (batch,) = master.batches()
        assert (batch.seq, batch.count) == (1, 4)
        assert decode.decode(batch.body) == told
        assert master.woken == [lane.stream for lane in master.outbox.lanes]

    async def test_the_first_waits_no_longer_for_those_that_come_later(self) -> None:
        master = Master()
        put = master.open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        number = 0
        while not master.woken:
            put(trade(number := number + 1))
            await asyncio.sleep(LINGER / 20)
            assert loop.time() - began < 1
        assert loop.time() - began >= LINGER
        assert len(master.woken) == 1

    @pytest.mark.parametrize(("times", "linger"), [(0, LINGER), (1, 2 * LINGER), (9, 10 * LINGER), (1000, LONGEST_LINGER)])
    async def test_the_further_behind_the_master_is_the_longer_a_batch_gathers(
        self, monkeypatch: pytest.MonkeyPatch, times: int, linger: float
    ) -> None:
        master = Master()
        put, loop = master.open(), asyncio.get_running_loop()
        put(trade(1))
        master.outbox.flush()
        if times:
            monkeypatch.setattr(module, "BEHIND", master.outbox.held_bytes / times)
        else:
            master.acknowledge()
        began = loop.time()
        put(trade(2))
        timer = master.outbox._timer
        assert timer is not None
        assert began + linger <= timer.when() <= loop.time() + linger

    async def test_a_full_batch_does_not_wait(self) -> None:
        master = Master()
        put = master.open()
        for number in range(BATCH_EVENTS):
            put(trade(number))
        assert [batch.count for batch in master.batches()] == [BATCH_EVENTS]

    async def test_the_next_begins_its_own_wait(self) -> None:
        master = Master()
        put = master.open()
        for number in range(BATCH_EVENTS + 1):
            put(trade(number))
        await until(lambda: len(master.batches()) == 2, "the rest")
        assert [batch.count for batch in master.batches()] == [BATCH_EVENTS, 1]

    async def test_the_body_is_the_events_as_the_contract_has_them(self) -> None:
        master = Master()
        master.open()(trade(1))
        await until(master.batches)
        assert json.loads(bytes(master.batches()[0].body)) == [
            {
                "type": "trade",
                "exchange": EXCHANGE,
                "symbol": BTC,
                "timestamp": AT - 6,
                "received": AT + 1,
                "id": "1",
                "price": "1.0",
                "amount": "2.0",
                "side": "buy",
                "source": "live",
            }
        ]

    async def test_what_is_too_large_for_one_message_goes_in_several(self) -> None:
        master = Master()
        put = master.open()
        for number in range(40):
            put(Gap(EXCHANGE, BTC, None, AT + number, "trades", "x" * 1_000_000))
        await until(lambda: len(master.events()) == 40)
        assert [event.received - AT for event in master.events()] == list(range(40))
        assert all(len(batch.data) < MAX_BATCH for batch in master.batches())
        assert [batch.seq for batch in master.batches()] == list(range(1, len(master.batches()) + 1))

    async def test_a_status_is_not_for_the_master(self) -> None:
        master = Master()
        master.outbox.status(Status(EXCHANGE, None, None, AT, "connection", "open", ""))
        assert master.outbox.held_events == 0


class TestLanes:
    """All events of a market go down one lane, which keeps their order; the lane is the contract's."""

    @given(
        st.integers(1, 8), st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["X/Y", "Y/Z", "Z/X"])), max_size=30)
    )
    def test_by_exchange_and_symbol(self, lanes: int, markets: list[tuple[str, str]]) -> None:
        async def told() -> None:
            master = Master(lanes)
            doors = {exchange: master.open(exchange) for exchange in ("a", "b")}
            for number, (exchange, symbol) in enumerate(markets):
                doors[exchange](trade(number, symbol, exchange))
            master.outbox.flush()
            for index in range(lanes):
                numbers = [int(event.id) for event in master.events(index) if isinstance(event, Trade)]
                assert numbers == [
                    number
                    for number, (exchange, symbol) in enumerate(markets)
                    if crc32(f"{exchange}|{symbol}".encode()) % lanes == index
                ]

        asyncio.run(told())

    async def test_what_has_no_symbol_has_a_lane_too(self) -> None:
        master = Master(4)
        master.open()(Gap(EXCHANGE, None, None, AT, "connection", "closed"))
        index = crc32(f"{EXCHANGE}|".encode()) % 4
        await until(lambda: master.events(index))
        assert len(master.events(index)) == 1


# What waits ---------------------------------------------------------------------------------------------------------------


class TestHeld:
    async def test_counted_from_the_moment_it_is_put_to_the_acknowledgement(self) -> None:
        master = Master()
        put = master.open()
        put(trade(1))
        put(trade(2))
        assert (master.outbox.held_events, master.outbox.held_bytes) == (2, 0)
        await until(master.batches)
        assert (master.outbox.held_events, master.outbox.held_bytes) == (2, len(master.batches()[0].data))
        master.acknowledge()
        assert (master.outbox.held_events, master.outbox.held_bytes) == (0, 0)

    async def test_acknowledged_events_by_exchange(self) -> None:
        master = Master()
        for number, exchange in enumerate(["a", "b", "a"]):
            master.open(exchange)(trade(number, BTC, exchange))
        await until(master.batches)
        assert master.outbox.acked_events == {}
        master.acknowledge()
        assert master.outbox.acked_events == {"a": 2, "b": 1}

    async def test_the_lag_of_the_last_event_of_a_batch(self) -> None:
        master = Master()
        master.open()(trade(1))
        await until(master.batches)
        assert master.outbox.lags == {EXCHANGE: 0.007}

    async def test_no_lag_where_the_venue_sends_no_time(self) -> None:
        master = Master()
        master.open()(Gap(EXCHANGE, BTC, None, AT, "trades", "sequence"))
        await until(master.batches)
        assert master.outbox.lags == {}


class TestDrain:
    async def test_of_nothing_is_done(self) -> None:
        assert await Master().outbox.drain(0.0)

    async def test_sends_what_waits_for_company(self) -> None:
        master = Master()
        master.open()(trade(1))
        draining = asyncio.create_task(master.outbox.drain(5.0))
        await asyncio.sleep(0)
        assert master.events() == [trade(1)]
        assert not draining.done()
        master.acknowledge()
        assert await draining

    async def test_says_when_it_could_not(self) -> None:
        master = Master()
        master.open()(trade(1))
        assert not await master.outbox.drain(0.01)
        assert master.outbox.held_events == 1

    async def test_what_was_acknowledged_before_does_not_count(self) -> None:
        master = Master()
        put = master.open()
        put(trade(1))
        await until(master.batches)
        master.acknowledge()
        put(trade(2))
        assert not await master.outbox.drain(0.01)

    async def test_what_pressure_held_back_goes_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PRESSURE_FROM", {Pressure.SOME: 1e-9, Pressure.FULL: 1.0})
        master = Master()
        put = master.open()
        put(trade(1))
        await until(master.batches)
        put(book(2))
        put(book(3))
        draining = asyncio.create_task(master.outbox.drain(5.0))
        await asyncio.sleep(0)
        assert master.events() == [trade(1), book(3)]
        master.acknowledge()
        assert await draining


# A master that is away ----------------------------------------------------------------------------------------------------

SOME, FULL = 40_000, 80_000


class TestPressure:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "IN_MEMORY", FULL)

    def fill(self, master: Master, put: Put, until_pressure: Pressure) -> list[Trade]:
        """Trades, until so much waits."""
        told: list[Trade] = []
        while master.outbox.pressure < until_pressure:
            told.append(trade(len(told) + 1))
            put(told[-1])
            if len(told) % 20 == 0:
                master.outbox.flush()
        return told

    async def test_memory_is_bounded_whatever_comes(self) -> None:
        master = Master(3)
        put = master.open()
        symbols = [BTC, ETH, "SOL/USD"]
        for number in range(30_000):
            symbol = symbols[number % 3]
            for event in (trade(number, symbol), book(number, symbol), ticker(number, symbol), delta(number, symbol)):
                put(event)
        largest_batch = BATCH_EVENTS * 300
        assert master.outbox.held_bytes <= FULL + 3 * largest_batch
        waiting = sum(len(lane.pending.events) + len(lane.pending._latest) for lane in master.outbox.lanes)
        assert waiting <= 3 * (BATCH_EVENTS + 6)
        assert master.outbox.pressure is Pressure.FULL
        assert master.outbox.losses["dropped trades"] > 20_000

    async def test_trades_go_on_while_views_are_conflated(self) -> None:
        master = Master()
        put = master.open()
        self.fill(master, put, Pressure.SOME)
        for event in (book(1), book(2), trade(9001), ticker(3)):
            put(event)
        master.outbox.flush()
        assert master.events()[-1] == trade(9001)
        assert master.outbox.losses == {"conflated books": 1}

    async def test_trades_that_are_dropped_are_told_exactly(self) -> None:
        master = Master()
        put = master.open()
        kept = self.fill(master, put, Pressure.FULL)
        for number in range(90_001, 90_101):
            put(trade(number))
        assert len(master.events()) == len(kept)
        master.acknowledge()
        await until(lambda: len(master.events()) > len(kept), "the gap")
        put(trade(90_101))
        await until(lambda: master.events()[-1] == trade(90_101))
        (gap,) = [event for event in master.events() if isinstance(event, Gap)]
        assert (gap.channel, gap.first_missing, gap.last_missing) == ("trades", "90001", "90100")
        assert gap.reason == "overflow: 100 trades dropped"
        assert (gap.since, gap.until) == (AT + 90_001, AT + 90_100)
        assert master.outbox.losses == {"dropped trades": 100}
        assert [event for event in master.events() if isinstance(event, Trade)] == [*kept, trade(90_101)]

    async def test_changes_begin_anew_with_a_whole_book(self) -> None:
        master = Master()
        put = master.open()
        self.fill(master, put, Pressure.FULL)
        put(delta(1))
        put(delta(2))
        assert master.republished == []
        master.acknowledge()
        assert master.republished == [BTC]
        assert master.outbox.losses == {"dropped deltas": 2}

    async def test_pressure_falls_at_three_quarters_and_not_at_once(self) -> None:
        """Else it would flutter at the mark, and tell a gap each time."""
        master = Master()
        put = master.open()
        self.fill(master, put, Pressure.FULL)
        lane = master.outbox.lanes[0]
        seen = []
        while master.outbox.held_bytes:
            before = master.outbox.pressure
            held = master.outbox.held_bytes
            master.outbox.acked(lane.stream, len(lane.stream.sender.acked(lane.stream.sender.oldest)))
            if master.outbox.pressure is not before:
                seen.append((before, master.outbox.pressure, held, master.outbox.held_bytes))
        assert [(before, after) for before, after, *_ in seen] == [
            (Pressure.FULL, Pressure.SOME),
            (Pressure.SOME, Pressure.NONE),
        ]
        for (_, _, above, below), mark in zip(seen, (FULL, SOME), strict=True):
            assert below < mark * 3 // 4 <= above

    async def test_views_follow_when_it_is_gone(self) -> None:
        master = Master()
        put = master.open()
        self.fill(master, put, Pressure.SOME)
        for event in (book(1), book(2), ticker(3)):
            put(event)
        master.acknowledge()
        await until(lambda: master.events()[-1] == ticker(3), "the latest views")
        assert master.events()[-2:] == [book(2), ticker(3)]

    async def test_pressure_is_of_all_lanes_together(self) -> None:
        master = Master(2)
        put = master.open()
        self.fill(master, put, Pressure.SOME)
        assert {lane.pending.pressure for lane in master.outbox.lanes} == {Pressure.SOME}
