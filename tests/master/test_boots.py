"""Which process of a worker is the one, what the next one is told of what is stored, and a master that cannot keep up."""

import asyncio
import threading
from pathlib import Path

import pytest

from adapters.backfill import LastTrade
from master import ingest
from master.ingest import Ingest, Session
from master.journal import Journal
from master.protocol import Ack, Batch, Fenced, Hello, Known, Slow, Welcome, decode_control
from master.segments import SegmentWriter
from tests.master.making import NOON, OTHER, STREAM, batch, trade
from tests.master.running import WORKER, Address, Collector, collector, ids, process, running, stranger


async def greet(one: Collector, boot: int, *streams: bytes, worker: str = WORKER, exchanges: tuple[str, ...] = ()) -> Welcome:
    await one.say(Hello(worker, boot, {stream.hex(): 1 for stream in streams}, list(exchanges)))
    return await one.hear(Welcome)


async def fenced(one: Collector) -> tuple[int, int | None]:
    """The boot that took its place, and the close code."""
    return (await one.hear(Fenced)).boot, await one.closed()


class TestFencing:
    async def test_a_newer_boot_closes_the_older_ones_sessions(self, master: Address) -> None:
        async with collector(master) as old, collector(master) as beside, collector(master) as new:
            for one in (old, beside):
                await greet(one, 7, STREAM)
            await greet(new, 8, OTHER)
            assert await fenced(old) == await fenced(beside) == (8, 4409)
            await new.send(batch(1, stream=OTHER))
            await new.acked(OTHER, 1)

    async def test_an_older_boot_is_not_let_in_beside_it(self, master: Address) -> None:
        async with collector(master) as new, collector(master) as old:
            await greet(new, 8, OTHER)
            await old.say(Hello(WORKER, 7, {STREAM.hex(): 1}))
            assert await fenced(old) == (8, 4409)
            await new.send(batch(1, stream=OTHER))
            await new.acked(OTHER, 1)

    async def test_sessions_of_one_boot_stand_beside_each_other_and_workers_too(self, master: Address) -> None:
        async with collector(master) as one, collector(master) as two, stranger(master) as other:
            await greet(one, 7, STREAM)
            await other.log_in(worker="host-1")
            await greet(other, 99, OTHER, worker="host-1")
            await greet(two, 7, STREAM)
            for seq, each in enumerate((one, two), 1):
                await each.send(batch(seq))
                await each.acked(STREAM, seq)

    async def test_a_clock_that_was_set_back_locks_nobody_out(self, master: Address) -> None:
        async with collector(master) as one:
            await greet(one, 1000, STREAM)
        async with collector(master) as two:
            await greet(two, 3, OTHER)

    async def test_nothing_of_a_fenced_session_is_taken_any_more(self, master: Address, data: Path) -> None:
        """Its bytes may lie in the socket while the new one is told what is durable."""
        async with collector(master) as old, collector(master) as new:
            await greet(old, 7, STREAM)
            await new.say(Hello(WORKER, 8, {OTHER.hex(): 1}))
            await new.hear(Welcome)
            await old.send(*(batch(seq) for seq in range(1, 50)))
            await fenced(old)
            welcome = await greet(new, 8, STREAM, OTHER)
            stored = welcome.streams[STREAM.hex()]
            await new.send(batch(1, trade(1000), stream=OTHER))
            await new.acked(OTHER, 1)
        assert ids(data) == [*range(1, stored + 1), 1000]

    async def test_nor_what_waited_for_its_turn_when_the_newer_one_came(
        self, master: Address, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[bytes] = []
        append, fence = Journal.append, Ingest._fence

        def appended(journal: Journal, taken: Batch) -> None:
            order.append(taken.stream)
            append(journal, taken)

        def fencing(ingest: Ingest, session: Session) -> None:
            fence(ingest, session)
            order.append(b"fence")

        async with collector(master) as old, collector(master) as new:
            await greet(old, 7, STREAM)
            monkeypatch.setattr(Journal, "append", appended)
            monkeypatch.setattr(Ingest, "_fence", fencing)
            await old.send(*(batch(seq) for seq in range(1, 200)))
            await greet(new, 8, OTHER)
            await new.send(batch(1, stream=OTHER))
            await new.acked(OTHER, 1)
        assert order[0] == STREAM, "it was at it"
        assert STREAM not in order[order.index(b"fence") :]


class TestWhatIsKnown:
    async def test_a_worker_that_begins_is_told_the_last_trade_of_each_market(self, master: Address) -> None:
        async with collector(master) as one:
            await greet(one, 1, STREAM)
            await one.send(
                batch(1, trade(1), trade(2), trade(3, symbol="ETH/USD"), trade(4, exchange="okx")),
                batch(2, trade(5)),
            )
            await one.acked(STREAM, 2)
            welcome = await greet(one, 1, STREAM, exchanges=("kraken", "binance"))
        assert welcome.known == {
            "kraken": Known(
                NOON + 5,
                {"BTC/USD": LastTrade("5", NOON + 5 - 250, NOON + 5), "ETH/USD": LastTrade("3", NOON + 3 - 250, NOON + 3)},
            )
        }

    async def test_and_others_are_not(self, master: Address) -> None:
        async with collector(master) as one:
            assert (await greet(one, 1, STREAM)).known == {}

    def test_it_outlives_the_master_by_the_heads_of_segments_and_what_follows_them(self, data: Path) -> None:
        for number in range(1, 4):
            with process(data, segment_mb=1) as (_, found):

                async def visit(found: Address = found, number: int = number) -> Welcome:
                    async with collector(found) as one:
                        welcome = await greet(one, number, bytes([number] * 16), exchanges=("kraken",))
                        await one.send(batch(1, trade(number), stream=bytes([number] * 16)))
                        await one.acked(bytes([number] * 16), 1)
                        return welcome

                welcome = asyncio.run(visit())
            trades = {symbol: last.id for known in welcome.known.values() for symbol, last in known.trades.items()}
            assert trades == ({"BTC/USD": str(number - 1)} if number > 1 else {})


class TestBackPressure:
    async def test_memory_is_bounded_and_the_collector_is_told_to_slow_down(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ingest, "MOST_PENDING", 20_000)
        goes_on = threading.Event()
        sync = SegmentWriter.sync

        def slow(writer: SegmentWriter) -> None:
            if writer.size > 2000:
                goes_on.wait(20)
            sync(writer)

        monkeypatch.setattr(SegmentWriter, "sync", slow)
        async with running(data) as master, collector(master) as one:
            await greet(one, 1, STREAM)
            many: list[Batch] = [batch(seq, *(trade(seq * 100 + each) for each in range(20))) for seq in range(1, 101)]
            await one.send(*many)
            assert (await one.hear(Slow)).seconds > 0
            health = await master.health()
            assert health["journal"]["pending"] * many[0].size < 40_000
            goes_on.set()

            acked = 0
            while acked < len(many):
                message = decode_control(await one.socket.recv())
                acked = message.streams[STREAM.hex()] if isinstance(message, Ack) else acked
