"""Configuration to connections and processes. Pure: what `--check` prints is what will run."""

from collections.abc import Iterator

from msgspec import Struct

from adapters import registry
from adapters.book import BookOptions
from adapters.events import CHANNELS, Channel
from collector.settings import Exchange, Settings

BOOK_WEIGHT = 4
"""What a book costs a worker, in trade streams: for sharing exchanges among processes."""


class Chunk(Struct, frozen=True):
    """The pairs of one connection: all of one channel."""

    exchange: str
    channel: Channel
    symbols: tuple[str, ...]

    @property
    def weight(self) -> int:
        return len(self.symbols) * (BOOK_WEIGHT if self.channel == "orderbooks" else 1)


class ExchangePlan(Struct, frozen=True):
    """One exchange (or a part of it) in one process. `share`: of the venue's limits, which hold for the address."""

    name: str
    options: BookOptions
    chunks: tuple[Chunk, ...]
    url: str | None = None
    share: float = 1.0

    @property
    def weight(self) -> int:
        return sum(chunk.weight for chunk in self.chunks)


class WorkerPlan(Struct, frozen=True):
    name: str
    exchanges: tuple[ExchangePlan, ...]


def chunks(exchange: Exchange) -> Iterator[Chunk]:
    """The connections of one exchange: each channel cut by its pairs per connection, never above the venue's maximum."""
    venue = registry.adapter(exchange.name).venue
    for channel in CHANNELS:
        size = exchange.chunking.of(channel) or venue.per_connection[channel]
        symbols = exchange.pairs.of(channel)
        for start in range(0, len(symbols), size):
            yield Chunk(exchange.name, channel, symbols[start : start + size])


def parts(exchange: Exchange) -> list[ExchangePlan]:
    """The exchange whole, or split among `workers` processes by turns of its connections."""
    book = exchange.orderbook
    options = BookOptions(book.depth, book.update_interval_ms / 1000, book.mode)
    connections = list(chunks(exchange))
    count = min(exchange.workers, len(connections))
    return [
        ExchangePlan(exchange.name, options, tuple(connections[part::count]), exchange.url, 1 / count) for part in range(count)
    ]


def plan(settings: Settings, processes: int, host: str) -> list[WorkerPlan]:
    """All of an exchange in one worker, which owns its limits; the heaviest first, each to the worker with least to do.

    Two parts of one exchange never share a worker as long as there are enough.
    """
    everything = sorted((part for each in settings.enabled for part in parts(each)), key=lambda part: -part.weight)
    workers: list[list[ExchangePlan]] = [[] for _ in range(min(settings.workers or processes, len(everything)))]
    for part in everything:
        free = [each for each in workers if all(other.name != part.name for other in each)] or workers
        min(free, key=lambda worker: sum(other.weight for other in worker)).append(part)
    return [WorkerPlan(f"{host}-{index}", tuple(worker)) for index, worker in enumerate(workers)]
