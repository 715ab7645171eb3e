"""A segment on disk: what can be read after anything may have happened to its bytes."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.protocol import HEADER_SIZE, Batch, pack
from master.segments import HEAD_STREAM, Damage, SegmentWriter, cut_torn_tail, path_of, scan, segments_in
from tests.disk import room_for
from tests.master.making import OTHER, STREAM, batch, streams, trade, write_segment

MARKS = {STREAM: 4, OTHER: 7}
BATCHES = [batch(5), batch(8, stream=OTHER), batch(6, trade(61), trade(62)), batch(7)]
HEAD = pack(HEAD_STREAM, 3, 0, b'{"streams":{"%s":4,"%s":7}}' % (STREAM.hex().encode(), OTHER.hex().encode())).data
RECORDS = [HEAD, *(each.data for each in BATCHES)]
WHOLE = b"".join(RECORDS)
ENDS = [sum(map(len, RECORDS[:count])) for count in range(len(RECORDS) + 1)]
"""Where each record ends, beginning with the nothing before the first."""


# Reading ------------------------------------------------------------------------------------------------------------------


class TestWhole:
    def test_a_head_with_marks_and_then_the_batches_as_they_came(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, 3, BATCHES, MARKS)
        assert path.read_bytes() == WHOLE

    def test_is_read_back(self) -> None:
        found = scan(WHOLE, 3)
        assert (found.number, found.marks, found.batches, found.damage, found.end) == (3, MARKS, BATCHES, [], len(WHOLE))
        assert found.torn_bytes == 0

    def test_an_empty_file_is_a_segment_that_was_never_begun(self) -> None:
        found = scan(b"", 3)
        assert (found.marks, found.batches, found.damage, found.end) == ({}, [], [], 0)

    def test_segments_are_named_by_number_and_listed_oldest_first(self, tmp_path: Path) -> None:
        for number in (10, 9, 100_000):
            write_segment(tmp_path, number, [])
        (tmp_path / "notes.txt").touch()
        assert segments_in(tmp_path) == [path_of(tmp_path, number) for number in (9, 10, 100_000)]


class TestTorn:
    """A process that was killed, or a power cut, leaves a file that ends somewhere."""

    def test_at_every_byte(self) -> None:
        for length in range(len(WHOLE)):
            found = scan(WHOLE[:length], 3)
            whole = sum(end <= length for end in ENDS[1:])
            assert found.batches == BATCHES[: max(0, whole - 1)]
            assert found.marks == (MARKS if whole else {})
            assert found.end == ENDS[whole]
            assert found.torn_bytes == length - ENDS[whole]

    def test_cut_off_it_is_whole_and_can_be_told_from_damage(self, tmp_path: Path) -> None:
        path = path_of(tmp_path, 3)
        for length in range(0, len(WHOLE), 13):
            path.write_bytes(WHOLE[:length])
            cut_torn_tail(path, scan(path.read_bytes(), 3).end)
            assert scan(path.read_bytes(), 3).damage == []

    def test_a_tail_of_zeros(self) -> None:
        """What some file systems leave of a file that grew before the power went."""
        found = scan(WHOLE + bytes(5000), 3)
        assert (found.batches, found.end, found.torn_bytes) == (BATCHES, len(WHOLE), 5000)


class TestDamaged:
    """Disks lie: one bad record never costs its neighbours."""

    @given(st.integers(0, len(WHOLE) * 8 - 1))
    def test_one_bit_costs_one_record(self, bit: int) -> None:
        damaged = bytearray(WHOLE)
        damaged[bit // 8] ^= 1 << bit % 8
        hit = next(index for index, end in enumerate(ENDS[1:]) if bit // 8 < end)
        found = scan(bytes(damaged), 3)
        assert found.batches == [each for index, each in enumerate(BATCHES, 1) if index != hit]
        assert found.marks == ({} if hit == 0 else MARKS)
        assert [(each.offset, each.size) for each in found.damage] == [(ENDS[hit], len(RECORDS[hit]))]

    @given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=400))
    def test_a_stretch_of_noise_costs_the_records_it_touches(self, start: int, noise: bytes) -> None:
        damaged = (WHOLE[:start] + noise + WHOLE[start + len(noise) :])[: len(WHOLE)]
        found = scan(damaged, 3)
        untouched = [
            each
            for index, each in enumerate(BATCHES, 1)
            if damaged[ENDS[index] : ENDS[index + 1]] == WHOLE[ENDS[index] : ENDS[index + 1]]
        ]
        assert found.batches == untouched
        assert sum(each.size for each in found.damage) + sum(map(len, whole_records(damaged))) == len(damaged)

    def test_a_body_says_whose_it_was(self) -> None:
        damaged = bytearray(WHOLE)
        damaged[ENDS[3] + HEADER_SIZE + 3] ^= 1
        (found,) = scan(bytes(damaged), 3).damage
        assert found == Damage(ENDS[3], len(RECORDS[3]), "damaged body", (STREAM.hex(), 6, 2))

    def test_a_header_cannot(self) -> None:
        damaged = bytearray(WHOLE)
        damaged[ENDS[3] + 20] ^= 1
        (found,) = scan(bytes(damaged), 3).damage
        assert found == Damage(ENDS[3], len(RECORDS[3]), "damaged header")

    def test_a_body_that_looks_like_a_header_deceives_nobody(self) -> None:
        """The next record is looked for by its whole header, not by its first letters."""
        deceiving = [pack(STREAM, 5, 1, b'["' + b"CM\x01\x00" * 20 + b'"]'), batch(6)]
        data = bytearray(b"".join(each.data for each in deceiving))
        data[10] ^= 1
        found = scan(bytes(data), 3)
        assert found.batches == [batch(6)]
        assert [(each.offset, each.size) for each in found.damage] == [(0, len(deceiving[0].data))]

    def test_garbage_alone(self) -> None:
        found = scan(b"CM\x01\x00" * 100, 3)
        assert (found.batches, found.end, found.torn_bytes) == ([], 0, 400)


def whole_records(data: bytes) -> list[bytes]:
    return [RECORDS[index] for index in range(len(RECORDS)) if data[ENDS[index] : ENDS[index + 1]] == RECORDS[index]]


# Writing ------------------------------------------------------------------------------------------------------------------


def written(path: Path) -> list[Batch]:
    found = scan(path.read_bytes(), int(path.stem))
    assert found.damage == []
    return found.batches


class TestWriter:
    def test_the_head_is_on_disk_before_anything_else(self, tmp_path: Path) -> None:
        with SegmentWriter(path_of(tmp_path, 3), 3, MARKS) as writer:
            assert writer.path.read_bytes() == HEAD
            assert writer.size == len(HEAD)

    def test_and_durable_itself_and_by_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Older segments are sealed and removed on the word of this head."""
        synced: list[str] = []
        monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
        SegmentWriter(path_of(tmp_path, 3), 3, MARKS).close()
        assert synced == [path_of(tmp_path, 3).name, tmp_path.name]

    def test_a_segment_that_is_there_is_never_written_over(self, tmp_path: Path) -> None:
        path = write_segment(tmp_path, 3, BATCHES, MARKS)
        with pytest.raises(FileExistsError):
            SegmentWriter(path, 3, {})
        assert path.read_bytes() == WHOLE

    def test_thousands_of_batches_at_once(self, tmp_path: Path) -> None:
        """More than one call of the system can take."""
        (stream,) = streams(1)
        many = [batch(seq, stream=stream) for seq in range(1, 3001)]
        with SegmentWriter(path_of(tmp_path, 1), 1, {}) as writer:
            writer.write([each.data for each in many])
            assert writer.size == writer.path.stat().st_size
        assert written(path_of(tmp_path, 1)) == many

    def test_a_system_that_takes_less_than_it_was_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write, writev = os.write, os.writev
        with SegmentWriter(path_of(tmp_path, 1), 1, {}) as writer:
            monkeypatch.setattr(os, "writev", lambda fd, records: writev(fd, [b"".join(records)[:100]]))
            monkeypatch.setattr(os, "write", lambda fd, rest: write(fd, rest[:100]))
            writer.write([each.data for each in BATCHES])
        assert written(path_of(tmp_path, 1)) == BATCHES

    def test_nothing_is_left_of_a_segment_that_could_not_be_begun(self, tmp_path: Path) -> None:
        with room_for(10), pytest.raises(OSError, match="too large"):
            SegmentWriter(path_of(tmp_path, 1), 1, MARKS)
        assert list(tmp_path.iterdir()) == []
        SegmentWriter(path_of(tmp_path, 1), 1, MARKS).close()


class TestFullDisk:
    """All of a write, or none of it."""

    def test_at_every_byte_of_a_write(self, tmp_path: Path) -> None:
        more: Sequence[bytes] = [each.data for each in BATCHES[1:]]
        with SegmentWriter(path_of(tmp_path, 1), 1, {}) as writer:
            writer.write([BATCHES[0].data])
            before = writer.size
            for room in range(before, before + sum(map(len, more)), 7):
                with room_for(room), pytest.raises(OSError, match="too large"):
                    writer.write(more)
                assert writer.size == before == writer.path.stat().st_size
            writer.write(more)
        assert written(path_of(tmp_path, 1)) == BATCHES, "and when there is room, it goes on where it was"

    def test_in_the_second_part_of_a_large_one(self, tmp_path: Path) -> None:
        """The first part has been written already, and must go as well."""
        many = [batch(seq).data for seq in range(1, 2001)]
        with SegmentWriter(path_of(tmp_path, 1), 1, {}) as writer:
            before = writer.size
            with room_for(sum(map(len, many[:1500]))), pytest.raises(OSError, match="too large"):
                writer.write(many)
            assert writer.size == before == writer.path.stat().st_size
            writer.write(many[:2])
        assert [each.seq for each in written(path_of(tmp_path, 1))] == [1, 2]
