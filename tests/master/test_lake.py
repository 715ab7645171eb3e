"""The lake: each row once, whenever and wherever one looks."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from adapters.events import Trade
from master.journal import Journal, recover
from master.lake import View, connect, expire, seal
from master.protocol import Batch
from master.segments import path_of, position, segments_in
from master.tables import TABLES
from tests.master.lakes import FULL, ask, keep, numbers, seal_all
from tests.master.making import DAY, NOON, STREAM, batch, trade, write_segment
from tests.master.steps import copied_at_every_step

FULL_BATCH = batch(3, FULL["tickers"])


class TestPosition:
    """The order in which the master took the events, over all tables and segments."""

    def test_rises_through_batches_tables_and_segments(self, tmp_path: Path) -> None:
        write_segment(tmp_path / "journal", 7, [batch(1, trade(1), FULL["tickers"], trade(2)), batch(2, trade(3))])
        write_segment(tmp_path / "journal", 8, [batch(3, trade(4))])
        everything = "SELECT position, id FROM trades UNION ALL SELECT position, 'ticker' FROM tickers ORDER BY 1"
        before = ask(tmp_path, everything)
        assert [name for _, name in before] == ["1", "ticker", "2", "3", "4"]
        seal(path_of(tmp_path / "journal", 7), tmp_path / "lake")
        assert ask(tmp_path, everything) == before, "the same in Parquet"

    def test_a_million_events_in_a_segment_do_not_reach_into_the_next(self, tmp_path: Path) -> None:
        write_segment(tmp_path / "journal", 1, [batch(1, trade(1))])
        write_segment(tmp_path / "journal", 2, [batch(2, trade(2))])
        (first,), (second,) = ask(tmp_path, "SELECT position FROM trades ORDER BY 1")
        assert second - first == 2**32


# Sealing ------------------------------------------------------------------------------------------------------------------


class TestSeal:
    def test_counts_what_it_wrote_and_removes_the_segment(self, tmp_path: Path) -> None:
        path = keep(tmp_path, 1, *FULL.values(), trade(2))
        written = seal(path, tmp_path / "lake")
        assert written == {table: 2 if table == "trades" else 1 for table in FULL}
        assert not path.exists()

    def test_one_file_a_table_and_day_named_after_the_segment(self, tmp_path: Path) -> None:
        keep(tmp_path, 12, trade(1), trade(2, received=NOON + DAY), trade(3))
        seal_all(tmp_path)
        assert [str(path.relative_to(tmp_path / "lake")) for path in sorted((tmp_path / "lake").rglob("*.parquet"))] == [
            "trades/date=2025-11-26/000000000012.parquet",
            "trades/date=2025-11-27/000000000012.parquet",
        ]
        assert numbers(tmp_path) == [1, 2, 3]

    @pytest.mark.parametrize(("received", "day"), [(0, "2025-11-26"), (DAY // 2 - 1, "2025-11-26"), (DAY // 2, "2025-11-27")])
    def test_a_day_ends_at_midnight_utc(self, tmp_path: Path, received: int, day: str) -> None:
        keep(tmp_path, 1, trade(1, received=NOON + received))
        seal_all(tmp_path)
        assert (tmp_path / "lake" / "trades" / f"date={day}" / "000000000001.parquet").exists()

    def test_a_file_is_sorted_for_those_who_ask_for_one_market(self, tmp_path: Path) -> None:
        keep(tmp_path, 1, trade(1, symbol="ETH/USD"), trade(2), trade(3, symbol="ETH/USD"), trade(4, exchange="binance"))
        seal_all(tmp_path)
        (file,) = (tmp_path / "lake").rglob("*.parquet")
        assert pq.read_table(file)["id"].to_pylist() == ["4", "2", "1", "3"]

    def test_an_empty_segment_leaves_nothing(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path / "journal", 1, [])
        assert seal(path, tmp_path / "lake") == {}
        assert not path.exists()
        assert list((tmp_path / "lake").rglob("*.parquet")) == []

    def test_interrupted_at_every_step_each_row_is_there_once_and_it_can_be_done_again(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        path = keep(data, 1, trade(1), FULL["tickers"], trade(2, received=NOON + DAY), trade(3))
        keep(data, 2, trade(4))
        with copied_at_every_step(data, tmp_path / "copies") as album:
            seal(path, data / "lake")
        assert len(album.copies) >= 8, "as it was, three files written aside, three renamed, one removed"
        for copy, _ in album.copies:
            for aside in copy.rglob("*.writing"):  # and a killed process may have come half as far
                aside.write_bytes(aside.read_bytes()[: aside.stat().st_size // 2])
            assert numbers(copy) == [1, 2, 3, 4], copy
            seal_all(copy)
            assert numbers(copy) == [1, 2, 3, 4], f"{copy} sealed again"
            assert ask(copy, "SELECT count(*) FROM tickers") == [(1,)]
            assert list(copy.rglob("*.writing")) == []

    def test_a_disk_that_refuses_leaves_the_segment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = keep(tmp_path, 1, trade(1))

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space left"):
            seal(path, tmp_path / "lake")
        assert numbers(tmp_path) == [1]


class TestDamage:
    """What the journal lost is a row of `gaps`, as long as anything of that time is kept."""

    def damaged(self, data: Path) -> Path:
        path = write_segment(data / "journal", 1, [batch(1), batch(2, trade(21), trade(22)), batch(3)])
        content = bytearray(path.read_bytes())
        content[content.index(b'"id":"21"')] ^= 1
        path.write_bytes(content)
        write_segment(data / "journal", 2, [batch(4)])
        return path

    @pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
    def test_told_with_what_can_be_known(self, tmp_path: Path, sealed: bool) -> None:
        self.damaged(tmp_path)
        if sealed:
            seal_all(tmp_path)
        assert numbers(tmp_path) == [1, 3, 4]
        ((channel, reason, first, last),) = ask(tmp_path, "SELECT channel, reason, first_missing, last_missing FROM gaps")
        assert (channel, first, last) == ("journal", "2", "2")
        assert "damaged body" in reason
        assert f"2 events of stream {STREAM.hex()}" in reason

    def test_outlives_the_first_tidying(self, tmp_path: Path) -> None:
        """A gap belongs to the days in which it came to be, not to the beginning of time."""
        path = self.damaged(tmp_path)
        seal(path, tmp_path / "lake")
        expire(tmp_path / "lake", oldest_day="2025-11-26", max_bytes=1 << 40, min_free=0)
        assert ask(tmp_path, "SELECT count(*) FROM gaps") == [(1,)]

    def test_a_segment_of_which_nothing_is_left(self, tmp_path: Path) -> None:
        path = path_of(tmp_path / "journal", 1)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\xaa" * 5000)
        seal(path, tmp_path / "lake")
        ((reason, received),) = ask(tmp_path, "SELECT reason, received FROM gaps")
        assert "5000 bytes at 0" in reason
        assert received.year >= 2025

    def test_a_batch_that_is_being_written_is_no_damage(self, tmp_path: Path) -> None:
        """A reader may see the half of a write; nobody was told that it is there."""
        path = write_segment(tmp_path / "journal", 1, [batch(1), batch(2)])
        path.write_bytes(path.read_bytes()[:-10])
        assert numbers(tmp_path) == [1]
        assert ask(tmp_path, "SELECT count(*) FROM gaps") == [(0,)]

    @pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
    def test_events_behind_it_keep_their_positions(self, tmp_path: Path, sealed: bool) -> None:
        """What the master told while it took them, before the damage, is what cursors hold."""
        self.damaged(tmp_path)
        if sealed:
            seal_all(tmp_path)
        places = "SELECT position, id FROM trades UNION ALL SELECT position, channel FROM gaps ORDER BY 1"
        assert ask(tmp_path, places) == [
            *((position(1, 1), "1"), (position(1, 2), "journal"), (position(1, 4), "3"), (position(2, 1), "4")),
        ]

    def test_of_a_head_it_takes_no_place(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path / "journal", 1, [batch(1)], {STREAM: 5})
        content = bytearray(path.read_bytes())
        content[content.index(STREAM.hex().encode())] ^= 1
        path.write_bytes(content)
        assert ask(tmp_path, "SELECT position FROM gaps UNION ALL SELECT position FROM trades ORDER BY 1") == [
            *((position(1, 0),), (position(1, 1),)),
        ]


# Keeping within bounds ----------------------------------------------------------------------------------------------------


class TestExpire:
    @pytest.fixture(autouse=True)
    def roomy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("master.lake.disk_usage", lambda _: SimpleNamespace(free=1 << 50))

    def lake(self, data: Path) -> list[Path]:
        for number in range(1, 5):
            keep(data, number, trade(number, received=NOON + number * DAY))
        seal_all(data)
        return sorted((data / "lake").rglob("*.parquet"))

    def test_by_age(self, tmp_path: Path) -> None:
        self.lake(tmp_path)
        assert expire(tmp_path / "lake", oldest_day="2025-11-29", max_bytes=1 << 40) == 2
        assert numbers(tmp_path) == [3, 4]

    def test_by_size_the_oldest_first_and_no_more_than_needed(self, tmp_path: Path) -> None:
        files = self.lake(tmp_path)
        room = sum(path.stat().st_size for path in files[1:])
        assert expire(tmp_path / "lake", oldest_day="2000-01-01", max_bytes=room) == 1
        assert numbers(tmp_path) == [2, 3, 4]
        assert expire(tmp_path / "lake", oldest_day="2000-01-01", max_bytes=room) == 0
        assert expire(tmp_path / "lake", oldest_day="2000-01-01", max_bytes=0) == 3

    def test_by_what_the_disk_has_to_spare(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lake makes room for the journal, which must never stop."""
        files = self.lake(tmp_path)
        free = 1_000_000
        monkeypatch.setattr("master.lake.disk_usage", lambda _: SimpleNamespace(free=free))
        wanted = free + files[0].stat().st_size + 1
        assert expire(tmp_path / "lake", oldest_day="2000-01-01", max_bytes=1 << 40, min_free=free) == 0
        assert expire(tmp_path / "lake", oldest_day="2000-01-01", max_bytes=1 << 40, min_free=wanted) == 2
        assert numbers(tmp_path) == [3, 4]

    def test_days_go_in_every_table(self, tmp_path: Path) -> None:
        keep(tmp_path, 1, *FULL.values())
        seal_all(tmp_path)
        assert expire(tmp_path / "lake", oldest_day="2025-11-27", max_bytes=1 << 40) == len(FULL)
        assert all(ask(tmp_path, f"SELECT count(*) FROM {table}") == [(0,)] for table in FULL)

    def test_of_nothing(self, tmp_path: Path) -> None:
        assert expire(tmp_path / "lake", oldest_day="2025-11-27", max_bytes=0) == 0


# Asking -------------------------------------------------------------------------------------------------------------------


class TestConnect:
    def test_every_table_is_there_before_the_first_row(self, tmp_path: Path) -> None:
        for table in FULL:
            assert ask(tmp_path, f"SELECT * FROM {table}") == []

    @pytest.mark.parametrize("name", ["it's here", 'a "b" c', "günther", "[x]", "a*b", "{a,b}"])
    def test_wherever_the_data_is(self, tmp_path: Path, name: str) -> None:
        data = tmp_path / name
        keep(data, 1, trade(1))
        seal_all(data)
        keep(data, 2, trade(2))
        assert numbers(data) == [1, 2]

    def test_a_segment_that_is_sealed_while_one_looks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in (1, 2):
            keep(tmp_path, number, trade(number))
        listed = segments_in(tmp_path / "journal")
        monkeypatch.setattr("master.lake.segments_in", lambda _: listed)
        seal(listed[0], tmp_path / "lake")
        assert numbers(tmp_path) == [1, 2]

    def test_lake_and_journal_are_one(self, tmp_path: Path) -> None:
        for number in range(1, 7):
            keep(tmp_path, number, trade(number))
            for path in segments_in(tmp_path / "journal")[:-2]:
                seal(path, tmp_path / "lake")
        assert len(segments_in(tmp_path / "journal")) == 2
        assert numbers(tmp_path) == [1, 2, 3, 4, 5, 6]

    def test_a_join_of_many_markets(self, tmp_path: Path) -> None:
        """DuckDB would push filters into what is not sealed that PyArrow does not know."""
        told = [trade(number, symbol=f"S{number % 400}") for number in range(3000)]
        seal(write_segment(tmp_path / "journal", 1, [batch(1, *told)]), tmp_path / "lake")
        write_segment(tmp_path / "journal", 2, [batch(2, *told)])
        newest = "SELECT count(*) FROM trades WHERE position IN (SELECT max(position) FROM trades GROUP BY symbol)"
        with connect(tmp_path, with_ledger=False) as connection:
            assert connection.sql(newest).fetchall() == [(400,)]

    def test_a_master_writes_rolls_and_seals_meanwhile(self, tmp_path: Path) -> None:
        """Whoever asks sees every committed row once: committed before he asked it is there, and none is there twice."""
        keeping = Keeping(tmp_path)
        keeping.start()
        try:
            for _ in range(25):
                committed = keeping.committed
                found = numbers(tmp_path)
                assert found == list(range(1, len(found) + 1))
                assert len(found) >= committed
                assert ask(tmp_path, "SELECT count(*) FROM gaps") == [(0,)]
        finally:
            keeping.stop()
        assert keeping.sealed > 3, "it was sealed meanwhile"
        assert len(numbers(tmp_path)) == keeping.committed


class TestView:
    """What is read on as it is written."""

    def seen(self, view: View) -> list[tuple[int, str]]:
        view.look()
        found = [part.data for part in view.parts(TABLES[0])]
        rows = [row for each in found for row in (pq.read_table(each) if isinstance(each, Path) else each).to_pylist()]
        return sorted((row["position"], row["id"]) for row in rows)

    def test_at_whatever_byte_a_write_stands(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path / "journal", 1, [batch(1), batch(2, trade(2), trade(3)), FULL_BATCH, batch(4)])
        content = path.read_bytes()
        wanted = [(position(1, 1), "1"), (position(1, 2), "2"), (position(1, 3), "3"), (position(1, 5), "4")]
        view, most = View(tmp_path), 0
        for size in (*range(0, len(content), 7), len(content)):
            path.write_bytes(content[:size])
            found = self.seen(view)
            assert found == wanted[: len(found)]
            assert len(found) >= most
            most = len(found)
        assert most == len(wanted)
        assert view.position == position(1, 5)

    def test_a_write_that_was_taken_back_is_forgotten(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path / "journal", 1, [batch(1)])
        view, kept = View(tmp_path), path.read_bytes()
        path.write_bytes(kept + batch(2).data)
        assert [number for _, number in self.seen(view)] == ["1", "2"]
        path.write_bytes(kept + batch(7).data + batch(8).data)
        assert [number for _, number in self.seen(view)] == ["1", "7", "8"]
        path.write_bytes(kept)
        assert [number for _, number in self.seen(view)] == ["1"]

    def test_many_small_writes_become_few_parts(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path / "journal", 1, [])
        view = View(tmp_path)
        with path.open("ab", buffering=0) as file:
            for number in range(1, 200):
                file.write(batch(number).data)
                view.look()
        parts = list(view.unsealed(TABLES[0]))
        assert len(parts) < 10
        assert sum(part.rows for part in parts) == 199
        assert (min(part.received[0] for part in parts), max(part.received[1] for part in parts)) == (NOON + 1, NOON + 199)

    def test_what_a_file_holds_is_known_by_its_footer(self, tmp_path: Path) -> None:
        late = Trade("kraken", "BTC/USD", NOON - DAY, NOON + 5, "", "1", "1", "buy", "backfill")
        keep(tmp_path, 3, trade(1, received=NOON + 9), late, FULL["books"], trade(2, received=NOON + 7))
        seal_all(tmp_path)
        view = View(tmp_path)
        view.look()
        (part,) = view.parts(TABLES[0])
        assert (part.rows, part.received, part.time) == (3, (NOON + 5, NOON + 9), (NOON - DAY, NOON + 9))
        assert part.position == (position(3, 1), position(3, 4))

    def test_what_was_sealed_behind_our_look_waits_for_the_next(self, tmp_path: Path) -> None:
        """Else rows would be missing in the midst of those that are seen."""
        path = keep(tmp_path, 1, trade(1))
        view = View(tmp_path)
        view.look()
        with path.open("ab") as file:
            file.write(batch(2).data)
        keep(tmp_path, 2, trade(3))
        keep(tmp_path, 3, trade(4))
        for number in (1, 2):
            seal(path_of(tmp_path / "journal", number), tmp_path / "lake")
        assert [part.rows for part in view.parts(TABLES[0])] == [1]
        assert [number for _, number in self.seen(view)] == ["1", "2", "3", "4"]


class Keeping(threading.Thread):
    """A journal that is written as fast as it goes, while what it closes is sealed at once."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self.committed = 0
        self.sealed = 0
        self._data = data
        self._told_to_stop = threading.Event()
        (data / "journal").mkdir()

    def stop(self) -> None:
        self._told_to_stop.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        folder = self._data / "journal"
        journal = Journal(folder, recover(folder), self._count, self._seal, roll_bytes=20_000, roll_seconds=60)
        running = asyncio.create_task(journal.run())
        seq = 0
        while not self._told_to_stop.is_set():
            for seq in range(seq + 1, seq + 21):  # noqa: B020
                journal.append(batch(seq))
            await asyncio.sleep(0.005)
        journal.stop()
        await running
        journal.close()

    def _count(self, batches: Sequence[Batch], _: int) -> None:
        self.committed += len(batches)

    def _seal(self, segment: Path) -> None:
        seal(segment, self._data / "lake")
        self.sealed += 1
