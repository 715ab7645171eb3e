"""How much recorded sessions bring, and what it takes to keep it: events a second; bytes on the wire, in journal and lake."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import msgspec
from msgspec import Struct

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_recorded import recordings

from adapters import registry
from adapters.decode import Line, Replay, decode_raw, read
from adapters.events import Book, BookDelta, Event, Ticker, Trade
from adapters.live import Output
from master.lake import seal
from master.live.market import Market
from master.protocol import new_stream, pack
from master.segments import SegmentWriter, path_of

SHOWN = 20
INTERVAL = 1.0
BATCH = 64
"""Events in one record of the journal: what a worker gathers in 5 ms, or more."""
RUNS = 5
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Event]).decode


class Volume(Struct):
    """Of one recorded session. Rates are of all its markets together; `frames`: those that tell of a trade, book or ticker."""

    exchange: str
    seconds: float
    markets: dict[str, int]
    events: dict[str, float]
    frames: dict[str, float]
    wire_bytes: float


def volumes() -> Iterator[Volume]:
    """Of each exchange with a session whose receive times were kept."""
    for name in registry.NAMES:
        for path in recordings(name):
            lines = read(path.read_text(encoding="utf-8").splitlines())
            received = [line for line in lines if line.kind == "recv"]
            times = [line.ts for line in received if line.ts is not None]
            if "session" in path.name and times:
                yield _volume(name, lines, received, max(times) - min(times))


def _volume(name: str, lines: list[Line], received: list[Line], seconds: float) -> Volume:
    events: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    markets: dict[str, set[str]] = {}
    for each in decode_raw(registry.adapter(name), lines):
        kinds = Counter(event["type"] for event in each.events)
        events.update(kinds)
        frames.update(dict.fromkeys(kinds, 1))
        for event in each.events:
            markets.setdefault(event["type"], set()).add(event["native"])
    return Volume(
        name,
        round(seconds, 1),
        {kind: len(names) for kind, names in markets.items()},
        {kind: round(number / seconds, 2) for kind, number in events.items()},
        {kind: round(number / seconds, 2) for kind, number in frames.items()},
        round(sum(len(line.data) for line in received) / seconds),
    )


def told(mode: str) -> list[Event]:
    """All events of all sessions: with views of 20 levels, at most one a second ("views"), or every change ("deltas")."""
    events: list[Event] = []
    for name in registry.NAMES:
        adapter = registry.adapter(name)
        for path in recordings(name):
            replay = Replay(adapter, read(path.read_text(encoding="utf-8").splitlines()), SHOWN, INTERVAL)
            replay.adapter.live.tells_changes = mode == "deltas"
            _overhear(replay, events)
            for _ in replay:
                pass
    return events


def _overhear(replay: Replay, events: list[Event]) -> None:
    answer = replay._answer

    def keep(outputs: list[Output]) -> list[Output]:
        found = answer(outputs)
        events.extend(each for each in found if isinstance(each, Trade | Book | BookDelta | Ticker))
        return found

    replay._answer = keep  # type: ignore[method-assign]


class Kept(Struct):
    """Of one event of a kind: bytes in the journal and in Parquet; microseconds of CPU to encode and pack it, to decode it and
    follow the market, and to seal it."""

    kind: str
    events: int
    journal: float
    parquet: float
    encode: float
    follow: float
    seal: float


def kept(kind: type[Event], events: Sequence[Event]) -> Kept:
    """What one more event costs: all of them, less every other one. The least of some runs: noise only adds to it."""
    whole, half = (
        [min(each) for each in zip(*(_spent(some) for _ in range(RUNS)), strict=True)] for some in (events, events[::2])
    )
    more = len(events) - len(events[::2])
    return Kept(kind.__name__, len(events), *(round((all_ - less) / more, 2) for all_, less in zip(whole, half, strict=True)))


def _spent(events: Sequence[Event]) -> tuple[float, ...]:
    """Bytes of journal and Parquet; microseconds for encoding, following and sealing."""
    batches = [list(events[start : start + BATCH]) for start in range(0, len(events), BATCH)]
    stream = new_stream()
    with TemporaryDirectory() as place:
        folder = Path(place) / "journal"
        folder.mkdir()
        writer = SegmentWriter(path_of(folder, 1), 1, {})
        began = process_time()
        packed = [pack(stream, number, len(batch), _encode(batch)) for number, batch in enumerate(batches, 1)]
        encoded = process_time()
        writer.write([each.data for each in packed])
        writer.close()
        market = Market()
        follows = process_time()
        for each in packed:
            market.take(_decode(each.body), 0)
        followed = process_time()
        seal(writer.path, Path(place) / "lake")
        sealed = process_time()
        parquet = sum(path.stat().st_size for path in (Path(place) / "lake").rglob("*.parquet"))
    return writer.size, parquet, (encoded - began) * 1e6, (followed - follows) * 1e6, (sealed - followed) * 1e6


def main() -> None:
    for volume in volumes():
        print(msgspec.json.encode(volume).decode())
    views, deltas = told("views"), told("deltas")
    for kind, events in ((Trade, views), (Book, views), (BookDelta, deltas), (Ticker, views)):
        print(kept(kind, [each for each in events if type(each) is kind]))


if __name__ == "__main__":
    main()
