"""Configuration to connections and processes. Pure: what `--check` prints is what will run."""

import itertools
from collections.abc import Hashable, Iterable, Iterator
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


class Shard(Struct, frozen=True):
    """Of all pairs those whose hash leaves `part` when it is divided by `of`: what one of so many collectors has."""

    part: int
    of: int

    def __str__(self) -> str:
        return f"{self.part}of{self.of}"


WHOLE = Shard(0, 1)


class Chunk(Struct, frozen=True):
    """The pairs of one connection: all of one channel."""

    exchange: str
    channel: Channel
    symbols: tuple[str, ...]

    @property
    def weight(self) -> int:
        return len(self.symbols) * (BOOK_WEIGHT if self.channel == "orderbooks" else 1)

    def has_of(self, other: "Chunk") -> bool:
        """Whether a pair is in both."""
        return self.channel == other.channel and not set(self.symbols).isdisjoint(other.symbols)


class Pattern(Struct, frozen=True):
    """Pairs of one channel that only the venue's list of markets names."""

    channel: Channel
    pattern: str

    @property
    def weight(self) -> int:
        return PATTERN_PAIRS * (BOOK_WEIGHT if self.channel == "orderbooks" else 1)


class ExchangePlan(Struct, frozen=True):
    """One exchange, or of its pairs those whose hash leaves `part` when it is divided by `parts`, in one process.

    `share`: of the venue's limits, which hold for the address; `sizes`: how many pairs share a connection, where that is not
    the venue's habit; `aliases`: our names of assets to the venue's; `redundancy`: connections for each chunk.
    """

    name: str
    options: BookOptions
    chunks: tuple[Chunk, ...]
    patterns: tuple[Pattern, ...] = ()
    aliases: dict[str, str] = {}
    url: str | None = None
    part: int = 0
    parts: int = 1
    share: float = 1.0
    redundancy: int = 1
    sizes: dict[Channel, int] = {}

    @property
    def weight(self) -> int:
        once = sum(each.weight for each in self.chunks) + sum(each.weight for each in self.patterns)
        return once * self.redundancy

    def size(self, channel: Channel) -> int:
        """Pairs on a connection at most."""
        return self.sizes.get(channel) or registry.adapter(self.name).venue.per_connection[channel]

    def terms(self, channel: Channel) -> Hashable:
        """What a connection of this channel is made with: as long as it is the same, the connection can stay."""
        options = self.options if channel == "orderbooks" else None
        return options, self.url, frozenset(self.aliases.items()), self.redundancy

    def recut(self, running: Iterable[Chunk], listed: Iterable[str] = ()) -> list[Chunk]:
        """The connections for what is wanted now: those of `running` that can stay as they are, and new ones. `listed`: what
        the venue lists; what fitted a pattern while it was listed stays wanted."""
        running, listed = list(running), list(listed)
        found: list[Chunk] = []
        for channel in CHANNELS:
            before = [each for each in running if each.channel == channel]
            found += self._recut(channel, before, self._wanted(channel, before, listed))
        return found

    def _wanted(self, channel: Channel, before: list[Chunk], listed: Iterable[str]) -> list[str]:
        named = [symbol for each in self.chunks if each.channel == channel for symbol in each.symbols]
        patterns = [each.pattern for each in self.patterns if each.channel == channel]
        if not patterns:
            return named
        known = {symbol for each in before for symbol in each.symbols}
        many = (symbol for symbol in known.union(listed) if part_of(symbol, self.parts) == self.part)
        fitting = {symbol for symbol in many if any(fits(symbol, each) for each in patterns)}
        return [*named, *sorted(fitting.difference(named))]

    def _recut(self, channel: Channel, before: list[Chunk], wanted: list[str]) -> Iterator[Chunk]:
        """A pair keeps its connection while there is room for it; who is new fills those that change anyway."""
        size, wishes = self.size(channel), set(wanted)
        keeping = [[symbol for symbol in each.symbols if symbol in wishes][:size] for each in before]
        kept = {symbol for each in keeping for symbol in each}
        rest = [symbol for symbol in wanted if symbol not in kept]
        for chunk, symbols in zip(before, keeping, strict=True):
            if len(symbols) == len(chunk.symbols):
                yield chunk
            elif symbols:
                room = size - len(symbols)
                yield Chunk(self.name, channel, (*symbols, *rest[:room]))
                del rest[:room]
        yield from cut(self.name, channel, tuple(rest), size)


class WorkerPlan(Struct, frozen=True, tag=True):
    name: str
    exchanges: tuple[ExchangePlan, ...]


def cut(name: str, channel: Channel, symbols: tuple[str, ...], size: int) -> Iterator[Chunk]:
    """Connections of at most `size` pairs each."""
    for start in range(0, len(symbols), size):
        yield Chunk(name, channel, symbols[start : start + size])


def part_of(symbol: str, parts: int) -> int:
    """Which of so many parts a pair belongs to, whatever other pairs there are; all its channels belong together."""
    return crc32(symbol.encode()) % parts


def sizes(exchange: "Exchange") -> dict[Channel, int]:
    """Pairs on a connection, where the configuration says so."""
    return {channel: size for channel in CHANNELS if (size := exchange.chunking.of(channel)) is not None}


def patterns(exchange: "Exchange") -> Iterator[Pattern]:
    """What of the exchange's pairs waits for its list of markets."""
    for channel in CHANNELS:
        for each in exchange.pairs.of(channel):
            if is_pattern(each):
                yield Pattern(channel, each)


def chunks(exchange: "Exchange", part: int = 0, parts: int = 1) -> Iterator[Chunk]:
    """The connections of the pairs of a part that are named one by one; those that fit a pattern as well come with that."""
    usual = registry.adapter(exchange.name).venue.per_connection
    for channel in CHANNELS:
        wanted = [each for each in exchange.pairs.of(channel) if is_pattern(each) or part_of(each, parts) == part]
        many = [each for each in wanted if is_pattern(each)]
        named = tuple(each for each in wanted if not is_pattern(each) and not any(fits(each, pattern) for pattern in many))
        yield from cut(exchange.name, channel, named, exchange.chunking.of(channel) or usual[channel])


def parts(exchange: "Exchange", shard: Shard = WHOLE) -> list[ExchangePlan]:
    """What a shard collects of the exchange, whole or split among `workers` processes; parts without pairs are left out."""
    book = exchange.orderbook
    options = BookOptions(book.depth, book.update_interval_ms / 1000, book.mode)
    many, count = tuple(patterns(exchange)), shard.of * exchange.workers
    split = [
        ExchangePlan(
            *(exchange.name, options, tuple(chunks(exchange, part, count)), many, dict(exchange.aliases), exchange.url),
            part=part,
            parts=count,
            share=1 / exchange.workers,
            redundancy=exchange.redundancy,
            sizes=sizes(exchange),
        )
        for part in range(shard.part, count, shard.of)
    ]
    return [each for each in split if each.weight]


def plan(settings: "Settings", processes: int, host: str, running: Iterable[WorkerPlan] = ()) -> list[WorkerPlan]:
    """All of an exchange in one worker, which owns its limits; the heaviest first, each to the worker with least to do.

    Two parts of one exchange never share a worker as long as there are enough. What runs already stays where it is; a worker
    that has nothing left to do is no more.
    """
    everything = sorted(
        (part for each in settings.enabled for part in parts(each, settings.part)), key=lambda part: -part.weight
    )
    workers: dict[str, list[ExchangePlan]] = {each.name: [] for each in running}
    names = (name for number in itertools.count() if (name := f"{host}-{number}") not in workers)
    while len(workers) < min(settings.workers or processes, len(everything)):
        workers[next(names)] = []
    homes = {(each.name, each.part): worker.name for worker in running for each in worker.exchanges}
    for part in sorted(everything, key=lambda part: (part.name, part.part) not in homes):
        home = homes.get((part.name, part.part))
        if home is None and homes and settings.jetstream.servers:  # the lanes of a worker are those of its first exchanges
            home = next((name for name in workers if name not in homes.values() and not workers[name]), None) or next(names)
        if home is None:
            home = _least(workers, part)
        workers.setdefault(home, []).append(part)
    return [WorkerPlan(name, tuple(worker)) for name, worker in workers.items() if worker]


def _least(workers: dict[str, list[ExchangePlan]], part: ExchangePlan) -> str:
    """The worker that has least to do, of those without another part of the same exchange, if there are any."""
    free = [name for name, has in workers.items() if all(other.name != part.name for other in has)] or list(workers)
    return min(free, key=lambda name: sum(other.weight for other in workers[name]))
