"""The spool on a real disk: what is written before it is sent outlives its process, and a disk that fails hides nothing."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from adapters.events import Event, Gap, Trade
from collector import spool as module
from collector.hold import KEPT_IN_MEMORY
from collector.outbox import Outbox, Stream
from collector.spool import Spool, SpoolError, SpoolTakenError, planned
from master.protocol import Batch
from master.segments import segments_in
from tests.collector.making import BTC, EXCHANGE, trade
from tests.disk import room_for
from tests.waiting import until

decode = msgspec.json.Decoder(list[Event])


class Life:
    """One life of a worker: its outbox over a spool, and a master that takes what is sent and acknowledges on demand."""

    def __init__(
        self, folder: Path, *, lanes: int = 1, fsync: float = 0.5, adopted: tuple[Path, ...] = (), quota: int = 1 << 30
    ) -> None:
        self.spool = Spool(folder, fsync)
        others = tuple(Spool(each, fsync) for each in adopted)
        self.outbox = Outbox(lanes, lambda _: None, self.attach, self.spool, others, quota)
        self.spools = (*others, self.spool)
        for each in self.spools:
            each.start(self.outbox)
            self.outbox.tell(each.damage)
        self.put = self.outbox.open(EXCHANGE, lambda _: None)
        self.got: list[tuple[bytes, Batch]] = []
        self.attach()

    def attach(self) -> None:
        for stream in self.outbox.due:
            if not stream.sender.is_attached:
                stream.sender.attach(stream.sender.oldest - 1)

    def tell(self, first: int, last: int, batch: int = 10) -> None:
        """Trades of these numbers, so many a batch."""
        for number in range(first, last + 1):
            self.put(trade(number))
            if number % batch == 0:
                self.outbox.flush()
        self.outbox.flush()

    def read(self) -> None:
        """Take what may be sent now."""
        for stream in self.outbox.due:
            while (batch := stream.sender.next_batch()) is not None:
                self.got.append((stream.sender.stream, batch))

    def acknowledge(self, stream: Stream) -> None:
        newest = max((batch.seq for of, batch in self.got if of == stream.sender.stream), default=stream.sender.oldest - 1)
        self.outbox.acked(stream, len(stream.sender.acked(newest)))

    async def hand_over(self, left: int = 0) -> None:
        """Read and acknowledge until no more than this is held."""

        def is_done() -> bool:
            self.read()
            for stream in list(self.outbox.due):
                self.acknowledge(stream)
            return self.outbox.held_events <= left

        await until(is_done, "everything is handed over")

    @property
    def events(self) -> list[Event]:
        return [event for _, batch in self.got for event in decode.decode(batch.body)]

    @property
    def numbers(self) -> list[int]:
        return [int(event.id) for event in self.events if isinstance(event, Trade)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    async def written(self) -> None:
        await self.spool._is_idle.wait()

    async def end(self) -> None:
        for each in self.spools:
            await each.close()


@asynccontextmanager
async def life(folder: Path, **options: object) -> AsyncIterator[Life]:
    one = Life(folder, **options)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        await one.end()


# What is written -----------------------------------------------------------------------------------------------------------


class TestBeforeItIsSent:
    @pytest.mark.parametrize("fsync", [0.0, 0.5])
    async def test_nothing_may_be_sent_that_is_not_on_disk(self, tmp_path: Path, fsync: float) -> None:
        async with life(tmp_path / "one", fsync=fsync) as one:
            one.tell(1, 10)
            one.read()
            assert one.got == [], "it is on its way to the disk"
            await one.written()
            one.read()
            (sent,) = one.got
            stored = b"".join(path.read_bytes() for path in segments_in(one.spool.folder))
            assert sent[1].data in stored

    async def test_each_batch_is_durable_before_it_is_sent_if_so_wished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[int] = []
        real = os.fdatasync

        def sync(fd: int) -> None:
            synced.append(os.fstat(fd).st_size)
            real(fd)

        monkeypatch.setattr(os, "fdatasync", sync)
        async with life(tmp_path / "one", fsync=0.0) as one:
            for number in range(1, 4):
                one.tell(number, number)
                await one.written()
                one.read()
                assert synced[-1] == sum(path.stat().st_size for path in segments_in(one.spool.folder))

    async def test_what_all_lanes_flush_is_one_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writes: list[int] = []
        real = os.writev

        def write(fd: int, records: list[bytes]) -> int:
            writes.append(len(records))
            return real(fd, records)

        monkeypatch.setattr(os, "writev", write)
        async with life(tmp_path / "one", lanes=5) as one:
            for number in range(50):
                one.put(trade(number, f"C{number}/USD"))
            one.outbox.flush()
            await one.written()
        assert writes == [1, 5], "a head, and a batch of each lane"


class TestLaterLives:
    async def test_what_was_not_acknowledged_comes_first_and_in_order(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 50)
            await one.written()
            one.read()
        async with life(tmp_path / "one") as two:
            two.tell(51, 60)
            await two.hand_over()
            assert two.numbers == list(range(1, 61))
            assert two.outbox.acked_events == {EXCHANGE: 60}
            assert two.got[0][0] == one.got[0][0], "under the numbers that may be on their way still"
            assert two.got[-1][0] != two.got[0][0], "and the new under a stream of their own"

    async def test_lives_that_handed_nothing_over_go_in_their_order(self, tmp_path: Path) -> None:
        """Each wrote to streams of its own, and a master takes what comes first."""
        for number in range(1, 4):
            async with life(tmp_path / "one", lanes=3) as one:
                one.tell(10 * number - 9, 10 * number)
                await one.written()
        async with life(tmp_path / "one", lanes=3) as last:
            last.tell(31, 40)
            for waiting in (40, 30, 20, 10):
                assert last.outbox.held_events == waiting
                assert sum(each.sender.hold.events for each in last.outbox.due) == 10, "a later life waits for the earlier"
                await last.hand_over(waiting - 10)
            assert last.numbers == list(range(1, 41))

    async def test_what_was_acknowledged_may_come_again_under_its_old_number(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 30)
            await one.written()
            one.read()
            (stream,) = one.outbox.due
            one.outbox.acked(stream, len(stream.sender.acked(2)))
        async with life(tmp_path / "one") as two:
            await two.hand_over()
            assert [(of, batch.seq) for of, batch in two.got] == [(stream.sender.stream, seq) for seq in (1, 2, 3)]

    async def test_a_folder_in_which_nothing_is_wanted_is_left_empty(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 50)
            await one.written()
            await one.hand_over()
        assert segments_in(tmp_path / "one") == []

    async def test_segments_go_when_all_of_them_is_acknowledged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "SEGMENT_BYTES", 5000)
        async with life(tmp_path / "one") as one:
            one.tell(1, 500)
            await one.written()
            for number in range(501, 520):
                one.tell(number, number)
                await one.written()
            assert len(segments_in(one.spool.folder)) > 1
            await one.hand_over()
            one.tell(601, 601)
            await until(lambda: len(segments_in(one.spool.folder)) == 1, "only the last is left")

    async def test_other_lanes_and_the_folders_of_others_go_before(self, tmp_path: Path) -> None:
        async with life(tmp_path / "gone", lanes=2) as gone:
            gone.tell(1, 20)
            await gone.written()
        async with life(tmp_path / "one", lanes=3) as one:
            one.tell(21, 40)
            await one.written()
        async with life(tmp_path / "one", lanes=1, adopted=(tmp_path / "gone",)) as two:
            two.tell(41, 50)
            await two.hand_over()
            assert two.numbers == list(range(1, 51))
        assert segments_in(tmp_path / "gone") == segments_in(tmp_path / "one") == []

    async def test_the_last_trades_are_known(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 25)
            await one.written()
        again = Spool(tmp_path / "one")
        assert again.known[EXCHANGE].trades[BTC].id == "25"
        assert again.known[EXCHANGE].since == trade(25).received
        await again.close()

    async def test_memory_holds_the_next_ones_and_the_disk_the_rest(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 3000)
            await one.written()
            (stream,) = one.outbox.due
            in_memory = [each for each in stream.sender.hold._entries if each.batch is not None]  # type: ignore[attr-defined]
            assert len(in_memory) == KEPT_IN_MEMORY
            await one.hand_over()
            assert one.numbers == list(range(1, 3001))


class TestOwner:
    async def test_one_at_a_time(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one"):
            with pytest.raises(
                SpoolTakenError, match="another collector is using this spool; stop it, or give this one another"
            ):
                Spool(tmp_path / "one")

    def test_a_folder_that_cannot_be_used_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SpoolError, match="cannot be used"):
            planned(tmp_path / "file", ["host-0"], 1, 0.5)

    def test_what_workers_of_another_plan_left_is_taken_over_by_the_first(self, tmp_path: Path) -> None:
        for name in ("host-0", "host-7", "other-0"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "000000000001.journal").touch()
        (tmp_path / "empty").mkdir()
        plans = planned(tmp_path, ["host-0", "host-1"], 1, 0.5)
        assert plans["host-0"].adopts == ("host-7", "other-0")
        assert plans["host-1"].adopts == ()
        assert planned(tmp_path, ["host-0"], 0, 0.5) == {}


# A disk that fails ---------------------------------------------------------------------------------------------------------


class TestDamage:
    @staticmethod
    async def filled(folder: Path) -> tuple[Path, list[Batch]]:
        async with life(folder) as one:
            one.tell(1, 50)
            await one.written()
            one.read()
        (path,) = segments_in(folder)
        return path, [batch for _, batch in one.got]

    async def test_a_torn_tail_is_cut_and_told(self, tmp_path: Path) -> None:
        path, batches = await self.filled(tmp_path / "one")
        path.write_bytes(path.read_bytes()[:-7])
        async with life(tmp_path / "one") as two:
            await two.hand_over()
            assert two.numbers == list(range(1, 41))
            assert [gap.channel for gap in two.gaps] == ["delivery"]
            assert str(batches[-1].size - 7) in two.gaps[0].reason

    async def test_a_flipped_bit_costs_its_batch_whose_number_a_gap_takes(self, tmp_path: Path) -> None:
        path, batches = await self.filled(tmp_path / "one")
        data = bytearray(path.read_bytes())
        data[data.index(batches[1].data) + 100] ^= 4
        path.write_bytes(data)
        async with life(tmp_path / "one") as two:
            await two.hand_over()
            assert two.numbers == [*range(1, 11), *range(21, 51)]
            old = [batch.seq for of, batch in two.got if of == two.got[0][0]]
            assert old == [1, 2, 3, 4, 5], "the master sees no hole"
            assert any("a batch of stream" in gap.reason and gap.first_missing == "2" for gap in two.gaps)

    async def test_a_batch_that_cannot_be_read_back_is_a_gap(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 10 * (KEPT_IN_MEMORY + 5))
            await one.written()
            (path,) = segments_in(one.spool.folder)
            data = bytearray(path.read_bytes())
            data[-20] ^= 1
            path.write_bytes(data)
            await one.hand_over()
            assert one.numbers == list(range(1, 10 * (KEPT_IN_MEMORY + 4) + 1))
            assert one.gaps[-1].reason.startswith("spool damaged: 10 events")


class TestRefusal:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "RETRY_AFTER", 0.05)

    async def test_a_full_disk_costs_nothing_and_the_spool_comes_back(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one") as one:
            one.tell(1, 100)
            await one.written()
            with room_for(20_000):
                one.tell(101, 400)
                await until(lambda: one.spool.trouble, "the disk refuses")
                one.tell(401, 420)
            await until(lambda: one.spool.trouble is None, "it takes again")
            one.tell(421, 440)
            await one.hand_over()
            assert one.numbers == list(range(1, 441))
            assert one.gaps == []
            assert len({of for of, _ in one.got}) == 3, "before, in memory, and after: each under streams of its own"

    async def test_nothing_that_went_on_in_memory_comes_again_from_disk(self, tmp_path: Path) -> None:
        one = Life(tmp_path / "one")
        one.tell(1, 100)
        await one.written()
        with room_for(20_000):
            one.tell(101, 400)
            await until(lambda: one.spool.trouble, "the disk refuses")
            await one.hand_over()
            await one.end()
        async with life(tmp_path / "one") as two:
            await two.hand_over()
            known = {(of, batch.seq): batch.data for of, batch in one.got}
            assert all(known.get((of, batch.seq)) == batch.data for of, batch in two.got), "at most repeats, number for number"

    async def test_a_folder_that_is_removed_is_noticed(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one", fsync=0.01) as one:
            one.tell(1, 10)
            await one.written()
            shutil.rmtree(tmp_path / "one")
            one.tell(11, 20)
            await until(lambda: one.spool.trouble, "it is noticed")
            one.tell(21, 30)
            await until(lambda: one.spool.trouble is None, "a new one is begun")
            one.tell(31, 40)
            await one.hand_over()
            assert one.numbers == list(range(1, 41))

    async def test_a_failed_fsync_is_a_refusal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with life(tmp_path / "one", fsync=0.01) as one:
            one.tell(1, 10)
            await one.written()
            with monkeypatch.context() as broken:

                def fail(fd: int) -> None:
                    raise OSError(5, "Input/output error")

                broken.setattr(os, "fdatasync", fail)
                one.tell(11, 20)
                await until(lambda: one.spool.trouble, "it is told")
            await one.hand_over()
            assert one.numbers == list(range(1, 21))

    async def test_pressure_follows_the_room_there_is(self, tmp_path: Path) -> None:
        async with life(tmp_path / "one", quota=10_000) as one:
            told = 0
            while one.outbox.pressure.name != "FULL":
                told += 10
                one.tell(told - 9, told)
            one.tell(told + 1, told + 10)
            assert one.outbox.losses == {"dropped trades": 10}
            await one.hand_over()
            one.outbox.flush()
            await one.hand_over()
            assert one.numbers == list(range(1, told + 1))
            assert [gap.reason for gap in one.gaps] == ["overflow: 10 trades dropped"]
