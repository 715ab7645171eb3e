"""Configuration to connections and processes. Pure: what `--check` prints is what will run."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING
from zlib import crc32

from msgspec import Struct

from adapters import registry
from adapters.book import BookOptions
from adapters.events import CHANNELS, Channel
from adapters.symbols import fits, is_pattern

if TYPE_CHECKING:  # workers are told their plan: they need no settings, nor the 10 MB of what reads and checks them
    from collector.settings import Exchange, Settings

BOOK_WEIGHT = 4
"""What a book costs a worker, in trade streams: for sharing exchanges among processes."""
PATTERN_PAIRS = 300
"""How many pairs a pattern is taken to stand for until the venue's list is read."""


class Chunk(Struct, frozen=True):
    """The pairs of one connection: all of one channel."""

    exchange: str
    channel: Channel
    symbols: tuple[str, ...]

    @property
    def weight(self) -> int:
        return len(self.symbols) * (BOOK_WEIGHT if self.channel == "orderbooks" else 1)


class Pattern(Struct, frozen=True):
    """Pairs of one channel that only the venue's list of markets names, in connections of at most `size`."""

    channel: Channel
    pattern: str
    size: int

    @property
    def weight(self) -> int:
        return PATTERN_PAIRS * (BOOK_WEIGHT if self.channel == "orderbooks" else 1)


class ExchangePlan(Struct, frozen=True):
    """One exchange, or part number `part` of its `parts`, in one process. `aliases`: our names of assets to the venue's;
    `redundancy`: connections for each chunk."""

    name: str
    options: BookOptions
    chunks: tuple[Chunk, ...]
    patterns: tuple[Pattern, ...] = ()
    aliases: dict[str, str] = {}
    url: str | None = None
    part: int = 0
    parts: int = 1
    redundancy: int = 1

    @property
    def share(self) -> float:
        """Of the venue's limits, which hold for the address."""
        return 1 / self.parts

    @property
    def weight(self) -> int:
        once = sum(each.weight for each in self.chunks) + sum(each.weight for each in self.patterns)
        return once * self.redundancy

    def joining(self, symbols: Iterable[str], known: AbstractSet[tuple[Channel, str]]) -> Iterator[Chunk]:
        """Connections for those of the symbols that fit a pattern, belong to this part and are not known yet."""
        ours = sorted(symbol for symbol in symbols if crc32(symbol.encode()) % self.parts == self.part)
        for channel in CHANNELS:
            patterns = [each for each in self.patterns if each.channel == channel]
            new = [
                symbol
                for symbol in ours
                if (channel, symbol) not in known and any(fits(symbol, each.pattern) for each in patterns)
            ]
            if new:
                yield from cut(self.name, channel, tuple(new), patterns[0].size)


class WorkerPlan(Struct, frozen=True):
    name: str
    exchanges: tuple[ExchangePlan, ...]


def cut(name: str, channel: Channel, symbols: tuple[str, ...], size: int) -> Iterator[Chunk]:
    """Connections of at most `size` pairs each."""
    for start in range(0, len(symbols), size):
        yield Chunk(name, channel, symbols[start : start + size])


def size_of(exchange: "Exchange", channel: Channel) -> int:
    """Pairs on a connection: as configured, else the venue's habit."""
    return exchange.chunking.of(channel) or registry.adapter(exchange.name).venue.per_connection[channel]


def patterns(exchange: "Exchange") -> Iterator[Pattern]:
    """What of the exchange's pairs waits for its list of markets."""
    for channel in CHANNELS:
        for each in exchange.pairs.of(channel):
            if is_pattern(each):
                yield Pattern(channel, each, size_of(exchange, channel))


def chunks(exchange: "Exchange") -> Iterator[Chunk]:
    """The connections of the pairs that are named one by one; those that fit a pattern as well come with that."""
    for channel in CHANNELS:
        wanted = exchange.pairs.of(channel)
        many = [each for each in wanted if is_pattern(each)]
        named = tuple(each for each in wanted if not is_pattern(each) and not any(fits(each, pattern) for pattern in many))
        yield from cut(exchange.name, channel, named, size_of(exchange, channel))


def parts(exchange: "Exchange") -> list[ExchangePlan]:
    """The exchange whole, or split among `workers` processes: by turns of its connections, patterns by a hash of the symbol."""
    book = exchange.orderbook
    options = BookOptions(book.depth, book.update_interval_ms / 1000, book.mode)
    connections, many = list(chunks(exchange)), tuple(patterns(exchange))
    count = exchange.workers if many else min(exchange.workers, len(connections))
    return [
        ExchangePlan(
            *(exchange.name, options, tuple(connections[part::count]), many, dict(exchange.aliases), exchange.url),
            part=part,
            parts=count,
            redundancy=exchange.redundancy,
        )
        for part in range(count)
    ]


def plan(settings: "Settings", processes: int, host: str) -> list[WorkerPlan]:
    """All of an exchange in one worker, which owns its limits; the heaviest first, each to the worker with least to do.

    Two parts of one exchange never share a worker as long as there are enough.
    """
    everything = sorted((part for each in settings.enabled for part in parts(each)), key=lambda part: -part.weight)
    workers: list[list[ExchangePlan]] = [[] for _ in range(min(settings.workers or processes, len(everything)))]
    for part in everything:
        free = [each for each in workers if all(other.name != part.name for other in each)] or workers
        min(free, key=lambda worker: sum(other.weight for other in worker)).append(part)
    return [WorkerPlan(f"{host}-{index}", tuple(worker)) for index, worker in enumerate(workers)]
