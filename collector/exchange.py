"""One exchange (or one part of it) in this process: its limits, its instrument list, its chunks, and how it is doing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from random import Random
from time import monotonic
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from adapters import registry
from adapters.backfill import LastTrade, Resume
from adapters.book import BookState, BookSync
from adapters.errors import AdapterError, FetchError
from adapters.events import Channel
from adapters.subscriptions import State, Subscription
from adapters.symbols import Instrument, renamed
from collector import plan
from collector.chunk import Chunk
from collector.feed import Counts, Feed, Surroundings
from collector.limits import Breaker, Window
from collector.pace import Market, Paces
from collector.recorder import Recorder
from collector.rest import RestClient, Route
from collector.sink import Sink
from master.backoff import Backoff
from master.log import logger

log = logger("exchange")

LOOK_EVERY = 10.0
"""Seconds between looks at which markets have news."""
SILENT_NAMED = 20
"""Silent markets of an exchange that are named; all are counted."""
LIST_WITHIN = 10.0
"""Seconds that connections wait for the instrument list; later it is told to those that have begun without it."""
RELIST_EVERY = 900.0


class ExchangeState(Struct):
    """How one exchange is doing; counts since the start of the process."""

    name: str
    connections: int
    connections_wanted: int
    pairs: dict[str, int]
    rejected: dict[str, str]
    events: dict[str, int]
    gaps: int
    books: int
    books_synced: int
    frames: int
    sessions: int
    refused: int
    errors: dict[str, int]
    stray: int
    repeated: int
    lag_ms: float | None = None
    books_recovering: int = 0
    """Books whose market is heard, and which are not in step."""
    recovering_for: float = 0.0
    """Seconds for which the first of these has been so."""
    silent: int = 0
    """Markets that stand still, by their own pace (collector/pace.py)."""
    silent_for: dict[str, float] = {}
    """Seconds of silence of the first of these, by channel and symbol."""


def route_to(simulator: str | None) -> Route:
    """Every address as it is, or below `simulator` as `<simulator>/<real host>/<path>`."""
    if simulator is None:
        return lambda url: url
    base = urlsplit(simulator)

    def route(url: str) -> str:
        parts = urlsplit(url)
        if parts.netloc == base.netloc:
            return url  # an address that the simulator itself gave out
        scheme = {"wss": "ws", "https": "http"}.get(parts.scheme, parts.scheme)
        query = f"?{parts.query}" if parts.query else ""
        return f"{scheme}://{base.netloc}{base.path.rstrip('/')}/{parts.hostname}{parts.path}{query}"

    return route


class Exchange:
    """Runs the chunks of one plan."""

    def __init__(
        self,
        assigned: plan.ExchangePlan,
        sink: Sink,
        session: aiohttp.ClientSession,
        route: Route,
        resume: Resume | None = None,
        record_to: Path | None = None,
    ) -> None:
        self._record_to = record_to
        self.name = assigned.name
        self._class = registry.adapter(assigned.name)
        self._plan = assigned
        self._resume = resume
        self._instruments: Mapping[str, Instrument] | None = None
        limits = self._class.venue.limits
        random = Random()  # noqa: S311 (jitter)
        rest = RestClient(session, limits, route, assigned.share)
        connects = Window(limits.connects, assigned.share)
        self._around = Surroundings(rest, connects, Breaker(), self._own_route(route), random, Counts())
        self._sink = sink
        self._put = sink.open(assigned.name, self._republish)
        self._chunks: list[Chunk] = []
        self._paces = Paces(monotonic())
        self._silent: dict[Market, float] = {}
        self._look_at = 0.0
        self._out_of_step: dict[str, float] = {}
        self._known: set[tuple[Channel, str]] = {(each.channel, symbol) for each in assigned.chunks for symbol in each.symbols}

    def _own_route(self, route: Route) -> Route:
        """The configured address stands for the venue's own WebSocket address."""
        usual, own = self._class.venue.websocket, self._plan.url
        return (lambda url: own if url == usual else route(url)) if own else route

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._around.rest.run())
            first = asyncio.Event()
            tasks.create_task(self._keep_listing(tasks, first))
            with suppress(TimeoutError):
                async with asyncio.timeout(LIST_WITHIN):
                    await first.wait()
            self._begin(self._plan.chunks, tasks)

    def _begin(self, connections: Iterable[plan.Chunk], tasks: asyncio.TaskGroup) -> None:
        for pairs in connections:
            maker = self._maker(pairs, len(self._chunks))
            chunk = Chunk(maker, self._put, self._sink.status, self._plan.redundancy)
            self._chunks.append(chunk)
            self._known.update((pairs.channel, symbol) for symbol in pairs.symbols)
            tasks.create_task(chunk.run())

    async def _keep_listing(self, tasks: asyncio.TaskGroup, first: asyncio.Event) -> None:
        """Read the venue's list of markets now and then: who was delisted leaves, and who is new and fits a pattern joins."""
        doubted = False
        while True:
            found = await self._list()
            if self._instruments and len(found) < len(self._instruments) / 2 and not doubted:
                doubted = True  # half of a market does not end in a moment: it must say so twice
                log.warning(
                    "half of the markets are gone from the list; not believed yet", exchange=self.name, listed=len(found)
                )
            else:
                doubted = False
                self._listed(found, tasks)
                first.set()
            await asyncio.sleep(self._around.random.uniform(0.9, 1.1) * RELIST_EVERY)

    def _listed(self, found: Mapping[str, Instrument], tasks: asyncio.TaskGroup) -> None:
        self._instruments = found
        for chunk in self._chunks:
            for feed in chunk.lines.feeds:
                feed.do(feed.adapter.listed(found, monotonic()))
        ours = {theirs: name for name, theirs in self._plan.aliases.items()}
        active = [renamed(each.symbol, ours) for each in found.values() if each.active]
        joining = list(self._plan.joining(active, self._known))
        if joining:
            log.info(
                "pairs join", exchange=self.name, pairs=sum(len(each.symbols) for each in joining), connections=len(joining)
            )
            self._begin(joining, tasks)

    async def _list(self) -> dict[str, Instrument]:
        """Get the list of markets, however long it takes."""
        backoff = Backoff(self._around.random, base=1.0, cap=300.0)
        while True:
            try:
                answer = await self._around.rest.fetch(self._class.instruments_request())
                found = {each.symbol: each for each in self._class.parse_instruments(answer.body)}
                if not found:
                    raise FetchError("the list is empty")
            except (AdapterError, msgspec.MsgspecError) as error:
                log.warning("no instrument list; will ask again", exchange=self.name, reason=str(error)[:300])
                await asyncio.sleep(backoff.after_failure(0.0))
            else:
                return found

    def _maker(self, pairs: plan.Chunk, number: int) -> Callable[[], Feed]:
        wanted = [(pairs.channel, symbol) for symbol in pairs.symbols]
        resume = self._resume
        files = cycle(("", *(f".{each}" for each in range(1, 2 * self._plan.redundancy))))  # of each line and its successor

        def make() -> Feed:
            nonlocal resume
            adapter = self._class(wanted, self._plan.options, self._instruments, resume, self._plan.aliases)
            resume = None  # only the first connection follows that hole
            recorder = None
            if self._record_to is not None:
                recorder = Recorder(self._record_to / f"{self.name}-{pairs.channel}-{number}{next(files)}.ndjson")
            return Feed(adapter, self._around, self._put, self._sink.status, recorder)

        return make

    def resumed(self, trades: Mapping[str, LastTrade]) -> None:
        """The last trades that an earlier process told, where word of them comes after the start."""
        for chunk in self._chunks:
            for feed in chunk.lines.feeds[:1]:
                feed.do(feed.adapter.resumed(trades, monotonic()))

    def _republish(self, symbol: str) -> None:
        for chunk in self._chunks:
            chunk.lines.republish(symbol)

    def state(self) -> ExchangeState:
        counts = self._around.counts
        totals = sum((chunk.lines.totals for chunk in self._chunks), Counter())
        subscriptions = [each for chunk in self._chunks for each in chunk.lines.subscriptions]
        books = [book for chunk in self._chunks for book in chunk.lines.books]
        states = Counter(each.state for each in subscriptions)
        now = monotonic()
        self._look(subscriptions, books, now)
        return ExchangeState(
            name=self.name,
            connections=self._around.open_connections,
            connections_wanted=(len(self._chunks) or len(self._plan.chunks)) * self._plan.redundancy,
            pairs={state.value: states[state] for state in State},
            rejected={f"{each.channel} {each.symbol}": each.reason for each in subscriptions if each.state is State.REJECTED},
            events={name: totals[name] for name in ("trades", "orderbooks", "deltas", "tickers")},
            gaps=totals["gaps"],
            books=len(books),
            books_synced=sum(book.state is BookState.SYNCED for book in books),
            frames=counts.frames,
            sessions=counts.sessions,
            refused=counts.refused,
            errors=dict(counts.errors),
            stray=totals["stray"],
            repeated=totals["repeated"],
            books_recovering=len(self._out_of_step),
            recovering_for=round(now - min(self._out_of_step.values(), default=now), 1),
            silent=len(self._silent),
            silent_for={" ".join(market): round(pause, 1) for market, pause in islice(self._silent.items(), SILENT_NAMED)},
        )

    def _look(self, subscriptions: list[Subscription], books: list[BookSync], now: float) -> None:
        """Which books are out of step since when; and now and then, which markets have news."""
        heard = {each.symbol for each in subscriptions if each.channel == "orderbooks" and each.state is State.LIVE}
        doubted = (book.symbol for book in books if book.state is not BookState.SYNCED and book.symbol in heard)
        self._out_of_step = {symbol: self._out_of_step.get(symbol, now) for symbol in doubted}
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        marks: dict[Market, int] = {
            (each.channel, each.symbol): each.heard for each in subscriptions if each.state is not State.REJECTED
        }
        marks.update({("orderbooks", book.symbol): book.received for book in books if ("orderbooks", book.symbol) in marks})
        self._paces.look(marks, now)
        self._silent = self._paces.silent(now)
