"""What each exchange's frames cost its adapter: recorded sessions, replayed through the full adapter with its books."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

from msgspec import Struct

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.decode import Line, Replay, decode_raw, read
from adapters.events import Book
from adapters.live import Output

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "captures"
REPLAYS = 7
OTHER_MARKETS = ("linear", "inverse", "option", "futures", "perp", "advanced-level2")


class Cost(Struct):
    """Microseconds of CPU of one exchange: for each trade, and for each frame that changes a book, the views of each second
    included; None where none was recorded."""

    exchange: str
    trade: float | None
    book: float | None
    trades: int
    books: int


class Timed:
    """An adapter with a stopwatch: nanoseconds of each frame, and of each tick that showed books, in order."""

    def __init__(self, adapter: ExchangeAdapter) -> None:
        self.frames: list[int] = []
        self.shows: list[int] = []
        self._receive, self._tick = adapter.receive, adapter.tick
        adapter.receive, adapter.tick = self.receive, self.tick  # type: ignore[method-assign]

    def receive(self, frame: bytes, received: int) -> list[Output]:
        began = perf_counter_ns()
        outputs = self._receive(frame, received)
        self.frames.append(perf_counter_ns() - began)
        return outputs

    def tick(self, now: float) -> list[Output]:
        began = perf_counter_ns()
        outputs = self._tick(now)
        if any(isinstance(output, Book) for output in outputs):
            self.shows.append(perf_counter_ns() - began)
        return outputs


def costs() -> Iterator[Cost]:
    """One row for each exchange whose traffic is at hand. A frame's cost is the least of several replays: the machine's other
    work only ever adds to it."""
    for name in registry.NAMES:
        adapter = registry.adapter(name)
        spent, amount = Counter[str](), Counter[str]()
        for path in recordings(name):
            lines = read(path.read_text(encoding="utf-8").splitlines())
            for kind, nanoseconds, count in measured(adapter, lines):
                spent[kind] += nanoseconds
                amount[kind] += count
        trade, book = (spent[kind] / amount[kind] / 1000 if amount[kind] else None for kind in ("trade", "book"))
        yield Cost(name, trade, book, amount["trade"], amount["book"])


def recordings(name: str) -> list[Path]:
    """Its sessions, else whatever else was captured of its spot market."""
    found = [path for path in sorted((CAPTURES / name).glob("*.ndjson")) if not path.name.startswith(OTHER_MARKETS)]
    return [path for path in found if "session" in path.name] or found


def measured(adapter: type[ExchangeAdapter], lines: list[Line]) -> Iterator[tuple[str, int, int]]:
    """Frames that hold trades alone, or changes of books alone: kind, least nanoseconds, trades or frames. What it took to show
    the books is shared by their changes."""
    said = {each.line: Counter(event["type"] for event in each.events) for each in decode_raw(adapter, lines)}
    frames = [said.get(number, Counter()) for number, line in enumerate(lines, 1) if line.kind == "recv"]
    replays = [timed(adapter, lines) for _ in range(REPLAYS)]
    for number, events in enumerate(frames):
        least = min(replay.frames[number] for replay in replays)
        if set(events) == {"trade"}:
            yield "trade", least, events["trade"]
        elif set(events) == {"book_delta"}:
            yield "book", least, 1
    for shows in zip(*(replay.shows for replay in replays), strict=True):
        yield "book", min(shows), 0


def timed(adapter: type[ExchangeAdapter], lines: list[Line]) -> Timed:
    replay = Replay(adapter, lines, depth=10, interval=1.0)
    stopwatch = Timed(replay.adapter)
    for _ in replay:
        pass
    return stopwatch
