"""Events and batches to put in, in as few words as a test can spare."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapters.events import Event, Trade
from master.protocol import Batch, new_stream, pack
from master.segments import SegmentWriter, path_of, scan, segments_in

NOON = 1_764_158_400_000_000
"""2025-11-26 12:00:00 UTC in microseconds."""
DAY = 86_400_000_000

STREAM = bytes(range(1, 17))
OTHER = bytes(range(101, 117))

_encode = msgspec.json.Encoder().encode


def trade(number: int, *, exchange: str = "kraken", symbol: str = "BTC/USD", received: int | None = None) -> Trade:
    """A trade that can be told from every other by its id."""
    at = NOON + number if received is None else received
    return Trade(exchange, symbol, at - 250, at, str(number), f"{100 + number}.50", "0.10", "buy")


def batch(seq: int, *events: Event, stream: bytes = STREAM) -> Batch:
    """The batch with this number; its one trade has the number as id, where no events are given."""
    told: Sequence[Event] = events or [trade(seq)]
    return pack(stream, seq, len(told), _encode(told))


def write_segment(folder: Path, number: int, batches: Sequence[Batch], marks: dict[bytes, int] | None = None) -> Path:
    """A journal segment as the master leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    with SegmentWriter(path_of(folder, number), number, marks or {}) as writer:
        writer.write([each.data for each in batches])
        writer.sync()
    return path_of(folder, number)


def batches_in(folder: Path) -> list[Batch]:
    """Everything that the segments of this folder hold, in order."""
    return [each for path in segments_in(folder) for each in scan(path.read_bytes(), int(path.stem)).batches]


def streams(count: int) -> list[bytes]:
    return [new_stream() for _ in range(count)]
