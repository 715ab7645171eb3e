"""Checked append-only files of batches: the master's journal and the worker's spool are folders of these.

A segment is a sequence of batches as they came over the wire; each carries its own length and checksums, so that a reader knows
to the byte how far a file is whole. The first record is the head: stream 0, seq = the segment's number, count 0, and as body a
JSON object: `streams`, every stream's mark, so that the newest segment alone tells how far each stream is, and what else its
owner wants to find again (the journal: the last trade of each market; the spool: which streams its lanes are).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson
from msgspec import Struct

from master.protocol import HEADER_SIZE, Batch, BatchError, pack, read_header, unpack

HEAD_STREAM = bytes(16)
POSITION_BITS = 32
SUFFIX = ".journal"

_HEADER_BEGINS = b"CM\x01\x00"
_MOST_CHUNKS = 512  # of one writev; IOV_MAX is 1024 where it is smallest


class Damage(Struct, frozen=True):
    """Bytes of a segment that cannot be read. `batch`: stream, seq and count of what stood there, where its header is whole."""

    offset: int
    size: int
    reason: str
    batch: tuple[str, int, int] | None = None


class Scan(Struct):
    """A segment as it is on disk: its head, its batches in order and where they stand, and whatever is damaged.

    `end` is where the last whole record ends; damage from there on is a torn tail.
    """

    number: int
    head: dict[str, Any]
    batches: list[Batch]
    offsets: list[int]
    damage: list[Damage]
    end: int

    @property
    def marks(self) -> dict[bytes, int]:
        """Of the head: how far each stream was when the segment began."""
        return {bytes.fromhex(name): seq for name, seq in self.head.get("streams", {}).items()}

    @property
    def torn_bytes(self) -> int:
        return sum(each.size for each in self.damage if each.offset >= self.end)


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}{SUFFIX}"


def position(number: int, events: int) -> int:
    """Where an event stands among all that the master ever took: the `events`-th (from 1) of segment `number`. Rises with the
    order in which they were taken, and is the same in journal and lake."""
    return (number << POSITION_BITS) + events


def segments_in(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def scan(data: bytes, number: int) -> Scan:
    """Read all that can be read of a segment's bytes."""
    result = Scan(number, {}, [], [], [], 0)
    for offset, found in _records(data):
        if isinstance(found, Damage):
            result.damage.append(found)
            continue
        result.end = offset + len(found.data)
        if found.stream == HEAD_STREAM:
            result.head = orjson.loads(found.body)
        else:
            result.batches.append(found)
            result.offsets.append(offset)
    return result


def _records(data: bytes) -> Iterator[tuple[int, Batch | Damage]]:
    offset = 0
    view = memoryview(data)
    while offset < len(data):
        try:
            header = read_header(view[offset : offset + HEADER_SIZE])
        except BatchError as error:
            following = _next_header(data, offset + 1)
            yield offset, Damage(offset, following - offset, str(error))
            offset = following
            continue
        record = data[offset : offset + header.size]
        try:
            yield offset, unpack(record)
        except BatchError as error:
            yield offset, Damage(offset, len(record), str(error), (header.stream.hex(), header.seq, header.count))
        offset += header.size


def _next_header(data: bytes, start: int) -> int:
    """Where the next whole header begins; the end of the data where there is none."""
    while (found := data.find(_HEADER_BEGINS, start)) >= 0:
        try:
            read_header(data[found : found + HEADER_SIZE])
        except BatchError:
            start = found + 1
        else:
            return found
    return len(data)


class SegmentWriter:
    """One segment that is being written. Not shared between threads or processes."""

    def __init__(self, path: Path, number: int, marks: Mapping[bytes, int], more: Mapping[str, Any] | None = None) -> None:
        """Begin a new segment and make its head durable. Raises OSError; then nothing is left behind."""
        self.path = path
        self.number = number
        self.size = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        head = orjson.dumps({"streams": {stream.hex(): seq for stream, seq in marks.items()}, **(more or {})})
        try:
            self.write([pack(HEAD_STREAM, number, 0, head).data])
            self.sync()
            sync_path(path.parent)
        except OSError:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise

    def write(self, records: Sequence[bytes]) -> None:
        """Append records, all or none. Raises OSError; then the file is as long as before."""
        begin = self.size
        try:
            for start in range(0, len(records), _MOST_CHUNKS):
                self._write_all(records[start : start + _MOST_CHUNKS])
        except OSError:
            self.size = begin
            os.ftruncate(self._fd, begin)
            os.lseek(self._fd, begin, os.SEEK_SET)
            raise

    def _write_all(self, records: Sequence[bytes]) -> None:
        wanted = sum(map(len, records))
        written = os.writev(self._fd, records)
        rest = b"".join(records)[written:] if written < wanted else b""
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self.size += wanted

    def check_room(self, size: int) -> None:
        """Raises OSError where so many bytes more could not be written now."""
        if hasattr(os, "posix_fallocate"):  # not everywhere: there the next write will tell
            try:
                os.posix_fallocate(self._fd, self.size, size)
            finally:
                os.ftruncate(self._fd, self.size)

    def sync(self) -> None:
        """Make everything written durable. An OSError here must end the process: what is on disk is then unknown."""
        sync_data(self._fd)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cut_torn_tail(path: Path, end: int) -> None:
    """Make a segment end where its last whole record ends."""
    with path.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())


def sync_data(fd: int) -> None:
    """Make the content of an open file durable. Raises OSError."""
    os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)


def sync_path(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
