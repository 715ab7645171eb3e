"""The journal: what is told as committed is on disk, whatever happens next; many batches share one fsync."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import orjson
import pytest

from master.journal import Journal, JournalError, recover
from master.lake import connect
from master.protocol import Batch
from master.segments import SegmentWriter, path_of, scan, segments_in
from tests.disk import room_for
from tests.master.making import STREAM, batch, batches_in, streams, trade, write_segment
from tests.master.steps import copied_at_every_step
from tests.waiting import until

ONE, OTHER = STREAM, bytes(range(101, 117))


class Kept:
    """A journal that runs, and what it has told."""

    def __init__(self, folder: Path, *, roll_bytes: int = 1 << 30, roll_seconds: float = 3600.0) -> None:
        self.folder = folder
        self.committed: list[Batch] = []
        self.commits = 0
        self.positions: dict[int, Batch] = {}
        self.closed: list[Path] = []
        self.journal = Journal(
            folder, recover(folder), self._committed, self.closed.append, roll_bytes=roll_bytes, roll_seconds=roll_seconds
        )

    def _committed(self, batches: list[Batch], position: int) -> None:
        for each in batches:
            self.positions[position] = each
            position += each.count
        self.committed += batches
        self.commits += 1

    async def holds(self, count: int) -> None:
        await until(lambda: len(self.committed) >= count, f"{count} batches committed")


@asynccontextmanager
async def kept(folder: Path, *, roll_bytes: int = 1 << 30, roll_seconds: float = 3600.0) -> AsyncIterator[Kept]:
    one = Kept(folder, roll_bytes=roll_bytes, roll_seconds=roll_seconds)
    running = asyncio.create_task(one.journal.run())
    try:
        yield one
    finally:
        one.journal.stop()
        await asyncio.gather(running, return_exceptions=True)
        one.journal.close()


class TestCommit:
    async def test_what_is_told_is_on_disk_already_and_in_order(self, tmp_path: Path) -> None:
        async with kept(tmp_path) as one:
            for seq in range(1, 51):
                one.journal.append(batch(seq))
                if seq % 7 == 0:
                    await asyncio.sleep(0.001)
                assert batches_in(tmp_path)[: len(one.committed)] == one.committed
            await one.holds(50)
        assert one.committed == batches_in(tmp_path) == [batch(seq) for seq in range(1, 51)]
        assert one.journal.marks == {STREAM: 50}

    async def test_each_event_has_the_position_that_the_lake_gives_it(self, tmp_path: Path) -> None:
        (tmp_path / "journal").mkdir()
        async with kept(tmp_path / "journal", roll_bytes=2_000) as one:
            for seq in range(1, 41):
                one.journal.append(batch(seq, *(trade(10 * seq + each) for each in range(seq % 3 + 1))))
                if seq % 5 == 0:
                    await one.holds(seq)
        assert len(segments_in(tmp_path / "journal")) > 2
        told = [
            (place + index, event["id"])
            for place, each in one.positions.items()
            for index, event in enumerate(orjson.loads(each.body))
        ]
        with connect(tmp_path) as lake:
            assert lake.sql("SELECT position, id FROM trades ORDER BY position").fetchall() == told

    async def test_synced_before_it_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that the system has taken is not yet one that survives a power cut."""
        may_sync = threading.Event()
        sync = SegmentWriter.sync
        async with kept(tmp_path) as one:
            monkeypatch.setattr(SegmentWriter, "sync", lambda writer: may_sync.wait(10) and sync(writer))
            one.journal.append(batch(1))
            await until(lambda: batches_in(tmp_path), "the write")
            assert one.committed == []
            may_sync.set()
            await one.holds(1)

    async def test_what_comes_during_a_commit_shares_the_next(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gate = threading.Event()
        syncs = []
        sync = SegmentWriter.sync

        def slow(writer: SegmentWriter) -> None:
            syncs.append(writer.size)
            gate.wait(10)
            sync(writer)

        async with kept(tmp_path) as one:
            monkeypatch.setattr(SegmentWriter, "sync", slow)
            one.journal.append(batch(1))
            await until(lambda: syncs, "the first sync")
            for seq in range(2, 1001):
                one.journal.append(batch(seq))
            assert one.journal.pending == 999
            gate.set()
            await one.holds(1000)
        assert len(syncs) == one.commits == 2, "a thousand batches, two fsyncs"

    async def test_whoever_asks_during_a_write_is_answered_by_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with kept(tmp_path) as one:
            goes_on = threading.Event()
            sync = SegmentWriter.sync

            def slow(writer: SegmentWriter) -> None:
                goes_on.wait(10)
                sync(writer)

            monkeypatch.setattr(SegmentWriter, "sync", slow)
            one.journal.append(batch(1))
            await until(lambda: not one.journal.pending, "it is being written")
            waiting = asyncio.create_task(one.journal.settled())
            await asyncio.sleep(0)
            goes_on.set()
            await asyncio.wait_for(waiting, 5)
            await one.journal.settled()

    async def test_whoever_asks_at_the_end_is_told_that_it_is_over(self, tmp_path: Path) -> None:
        async with kept(tmp_path) as one:
            one.journal.stop()
            await until(lambda: one.journal._is_over)
            one.journal.append(batch(1))
            with pytest.raises(JournalError, match="the journal is closed"):
                await asyncio.wait_for(one.journal.settled(), 5)

    async def test_the_loop_goes_on_while_the_disk_is_slow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gate = threading.Event()
        async with kept(tmp_path) as one:
            monkeypatch.setattr(SegmentWriter, "sync", lambda _: gate.wait(10))
            one.journal.append(batch(1))
            turns = 0
            while turns < 100:
                await asyncio.sleep(0)
                turns += 1
            assert one.committed == []
            gate.set()

    async def test_stopped_it_commits_what_it_was_given(self, tmp_path: Path) -> None:
        one = Kept(tmp_path)
        for seq in range(1, 11):
            one.journal.append(batch(seq))
        one.journal.stop()
        await one.journal.run()
        one.journal.close()
        assert len(one.committed) == 10
        assert one.journal.pending == 0


class TestRoll:
    async def test_by_size(self, tmp_path: Path) -> None:
        async with kept(tmp_path, roll_bytes=2000) as one:
            for seq in range(1, 101):
                one.journal.append(batch(seq))
                await one.holds(seq)
        sizes = [path.stat().st_size for path in segments_in(tmp_path)]
        assert len(sizes) > 5
        assert all(2000 <= size < 2000 + 2 * len(batch(100).data) for size in sizes[:-1])
        assert one.closed == segments_in(tmp_path)[:-1], "every closed one is handed over, once and in order"
        assert batches_in(tmp_path) == one.committed

    async def test_by_age_also_when_nothing_comes(self, tmp_path: Path) -> None:
        async with kept(tmp_path, roll_seconds=0.05) as one:
            one.journal.append(batch(1))
            await until(lambda: one.closed, "a roll")
        assert batches_in(tmp_path) == [batch(1)]
        assert len(segments_in(tmp_path)) == 2

    async def test_an_empty_segment_is_not_rolled(self, tmp_path: Path) -> None:
        async with kept(tmp_path, roll_seconds=0.01) as one:
            await asyncio.sleep(0.1)
            assert one.closed == []
            one.journal.append(batch(1))
            await until(lambda: one.closed, "a roll")
            await asyncio.sleep(0.1)
            assert len(one.closed) == 1

    async def test_every_head_has_the_marks_of_all_streams(self, tmp_path: Path) -> None:
        """So that older segments can be sealed and go."""
        async with kept(tmp_path) as one:
            one.journal.append(batch(1, stream=ONE))
            one.journal.append(batch(1, stream=OTHER))
            await one.holds(2)
            await one.journal.roll({})
            one.journal.append(batch(2, stream=ONE))
            await one.holds(3)
            await one.journal.roll({})
        newest = segments_in(tmp_path)[-1]
        assert scan(newest.read_bytes(), 3).marks == {ONE: 2, OTHER: 1}
        for path in segments_in(tmp_path)[:-1]:
            path.unlink()
        assert recover(tmp_path).marks == {ONE: 2, OTHER: 1}


class TestRecovery:
    def test_of_nothing(self, tmp_path: Path) -> None:
        found = recover(tmp_path)
        assert (found.marks, found.segments, found.damage, found.events, found.next_number) == ({}, [], [], 0, 1)

    def test_marks_from_heads_and_from_batches_whichever_is_further(self, tmp_path: Path) -> None:
        write_segment(tmp_path, 1, [batch(1), batch(2)])
        write_segment(tmp_path, 2, [batch(3)], {ONE: 2, OTHER: 9})
        found = recover(tmp_path)
        assert found.marks == {ONE: 3, OTHER: 9}
        assert (found.events, found.next_number) == (3, 3)

    def test_a_damaged_head_costs_no_marks_as_long_as_the_batches_are_there(self, tmp_path: Path) -> None:
        write_segment(tmp_path, 1, [batch(1), batch(2)])
        head = write_segment(tmp_path, 2, [batch(3)], {ONE: 2})
        head.write_bytes(b"XX" + head.read_bytes()[2:])
        assert recover(tmp_path).marks == {ONE: 3}

    def test_a_torn_tail_is_cut_and_its_batch_is_wanted_again(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, 1, [batch(1), batch(2)])
        whole = path.stat().st_size
        path.write_bytes(path.read_bytes() + batch(3).data[:-1])
        assert recover(tmp_path).marks == {ONE: 2}
        assert path.stat().st_size == whole

    def test_the_end_of_an_older_segment_is_no_torn_tail(self, tmp_path: Path) -> None:
        """It was whole when the next one was begun, and acknowledged: what became of it since must not go unseen."""
        path = write_segment(tmp_path, 1, [batch(1), batch(2)])
        write_segment(tmp_path, 2, [], {ONE: 2})
        damaged = path.read_bytes()[:-1] + b"X"
        path.write_bytes(damaged)
        found = recover(tmp_path)
        assert found.marks == {ONE: 2}
        assert path.read_bytes() == damaged, "kept, so that sealing it writes a gap"

    def test_an_interrupted_beginning_is_passed_over(self, tmp_path: Path) -> None:
        write_segment(tmp_path, 1, [batch(1)])
        path_of(tmp_path, 2).touch()
        found = recover(tmp_path)
        assert (found.marks, found.next_number) == ({ONE: 1}, 3)

    def test_a_segment_that_is_sealed_this_moment_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a child that outlived a killed master; its rows are in the lake, its marks in every later head."""
        sealed = path_of(tmp_path, 1)
        newest = write_segment(tmp_path, 2, [batch(2)], {ONE: 1})
        monkeypatch.setattr("master.journal.segments_in", lambda _: [sealed, newest])
        found = recover(tmp_path)
        assert (found.marks, found.events, found.next_number) == ({ONE: 2}, 1, 3)

    async def test_a_second_life_goes_on_behind_the_first(self, tmp_path: Path) -> None:
        async with kept(tmp_path) as one:
            one.journal.append(batch(1))
        async with kept(tmp_path) as two:
            assert two.journal.marks == {ONE: 1}
            two.journal.append(batch(2))
        assert batches_in(tmp_path) == [batch(1), batch(2)]
        assert len(segments_in(tmp_path)) == 2


class TestCrash:
    """The process is killed, or the power goes, between any two calls of the system."""

    async def test_what_was_told_is_recovered_and_nothing_else_is_believed(self, tmp_path: Path) -> None:
        told: list[Batch] = []
        folder = tmp_path / "journal"
        folder.mkdir()
        with copied_at_every_step(folder, tmp_path / "copies", lambda: len(told)) as album:
            async with kept(folder, roll_bytes=500) as one:
                told = one.committed
                for seq in range(1, 13):
                    one.journal.append(batch(seq, stream=(ONE, OTHER)[seq % 2]))
                    await one.holds(seq)
        assert len(album.copies) > 20
        assert len(segments_in(folder)) > 2
        for copy, committed in album.copies:
            found = recover(copy)
            stored = batches_in(copy)
            assert stored[:committed] == told[:committed], copy
            assert stored == told[: len(stored)], "at most what was under way besides"
            assert found.marks == {each.stream: each.seq for each in stored}
            assert not path_of(copy, found.next_number).exists()
            again = Journal(copy, found, lambda *_: None, lambda _: None, roll_bytes=1, roll_seconds=1)
            again.close()
            assert recover(copy).marks == found.marks, "a second crash changes nothing"

    def test_power_cut_anywhere_behind_the_last_sync(self, tmp_path: Path) -> None:
        """The tail may be there in part, or be noise; what was synced stays."""
        random = Random(1)
        synced = [batch(seq) for seq in range(1, 6)]
        path = write_segment(tmp_path, 1, synced)
        safe = path.read_bytes()
        tail = b"".join(batch(seq).data for seq in range(6, 9))
        for length in range(0, len(tail), 11):
            rest = bytearray(tail[:length])
            if rest and random.random() < 0.5:
                rest[random.randrange(len(rest))] ^= 0x40
            path.write_bytes(safe + rest)
            found = recover(tmp_path)
            stored = batches_in(tmp_path)
            assert stored[:5] == synced
            assert found.marks[STREAM] >= 5
            assert all(each in synced or each.data in tail for each in stored)
            assert scan(path.read_bytes(), 1).torn_bytes == 0


class TestFullDisk:
    async def test_nothing_half_written_nothing_told_and_on_it_goes(self, tmp_path: Path) -> None:
        one = Kept(tmp_path)
        one.journal.append(batch(1))
        running = asyncio.create_task(one.journal.run())
        await one.holds(1)
        before = batches_in(tmp_path)
        with room_for(path_of(tmp_path, 1).stat().st_size + 100):
            for seq in range(2, 5):
                one.journal.append(batch(seq))
            with pytest.raises(JournalError, match="too large"):
                await running
        assert batches_in(tmp_path) == one.committed == before
        assert one.journal.pending == 0, "forgotten: the sender has it, and will be asked for it again"
        assert one.journal.marks == {STREAM: 1}
        running = asyncio.create_task(one.journal.run())
        one.journal.append(batch(2))
        await one.holds(2)
        one.journal.stop()
        await running
        one.journal.close()
        assert batches_in(tmp_path) == [batch(1), batch(2)]

    async def test_a_little_room_is_none_for_what_was_refused(self, tmp_path: Path) -> None:
        """Else it would be called well, and full again, every few seconds."""
        async with kept(tmp_path) as one:
            one.journal.append(batch(1))
            await one.holds(1)
            size = path_of(tmp_path, 1).stat().st_size
            with room_for(size + 1000):
                assert not await one.journal.has_room()
            assert await one.journal.has_room()
            assert path_of(tmp_path, 1).stat().st_size == size, "nothing of the question remains"

    async def test_no_room_for_the_next_segment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What came while it was tried is forgotten as well: its number will be asked for again, and must not come twice."""
        one = Kept(tmp_path, roll_bytes=1)
        begin = SegmentWriter.__init__
        gate = threading.Event()

        def full(*_: object) -> None:
            gate.wait(10)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(SegmentWriter, "__init__", full)
        running = asyncio.create_task(one.journal.run())
        one.journal.append(batch(1))
        await one.holds(1)
        one.journal.append(batch(2))
        gate.set()
        with pytest.raises(JournalError, match="No space left"):
            await running
        assert one.journal.pending == 0
        monkeypatch.setattr(SegmentWriter, "__init__", begin)
        running = asyncio.create_task(one.journal.run())
        one.journal.append(batch(2))
        await one.holds(2)
        one.journal.stop()
        await running
        one.journal.close()
        assert batches_in(tmp_path) == [batch(1), batch(2)]

    def test_a_failed_fsync_ends_the_process(self, tmp_path: Path) -> None:
        """After it nobody can say what is on disk, so that nothing more may be acknowledged."""
        ended = subprocess.run(
            [sys.executable, "-c", FAILING_FSYNC, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
        )
        assert ended.returncode == os.EX_IOERR == 74
        assert ended.stdout == "committed 1\n"
        assert "fsync failed" in ended.stderr


FAILING_FSYNC = """
import asyncio, sys
from pathlib import Path
from master.journal import Journal, recover
from master.segments import SegmentWriter
from tests.master.making import batch

def fail(writer):
    raise OSError(5, "Input/output error")

async def main(folder):
    told = lambda batches, _: print("committed", batches[-1].seq, flush=True)
    journal = Journal(folder, recover(folder), told, print, roll_bytes=1 << 30, roll_seconds=3600)
    running = asyncio.create_task(journal.run())
    journal.append(batch(1))
    while not journal.marks:
        await asyncio.sleep(0.01)
    SegmentWriter.sync = fail
    journal.append(batch(2))
    await running

asyncio.run(main(Path(sys.argv[1])))
"""


class TestManyStreams:
    async def test_marks_are_each_stream_s_own(self, tmp_path: Path) -> None:
        many = streams(20)
        async with kept(tmp_path, roll_bytes=4000) as one:
            for seq in range(1, 6):
                for stream in many:
                    one.journal.append(batch(seq, stream=stream))
            await one.holds(100)
        assert recover(tmp_path).marks == dict.fromkeys(many, 5)
