"""One exchange (or one part of it) in this process: its limits, its instrument list, its chunks, and how it is doing.

What is wanted may change, by the configuration or by the venue's list of markets. Connections that can stay are not touched;
the others are replaced by new ones, which run beside them until they are settled.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from time import monotonic, time_ns
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from adapters import registry
from adapters.backfill import LastTrade, Resume
from adapters.book_sync import BookState, BookSync
from adapters.errors import AdapterError, FetchError
from adapters.events import CHANNELS, Gap
from adapters.subscriptions import State, Subscription
from adapters.symbols import Instrument, renamed
from collector import chunk, plan
from collector.chunk import Chunk, handed_over
from collector.feed import Counts, Feed, Surroundings
from collector.limits import Breaker, Window
from collector.lines import Lines
from collector.pace import Market, Paces
from collector.recorder import Recorder
from collector.rest import RestClient, Route
from collector.sink import Put, Sink
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
HAND_OVER_WITHIN = 120.0
"""Seconds for which a connection waits for those that take its pairs over; hundreds of them are made at the venue's pace."""


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
        self._route = route
        self._around = Surroundings(rest, connects, Breaker(), self._own_route(), random, Counts())
        self._sink = sink
        self.put = sink.open(assigned.name, self.republish)
        self._lines = {channel: Lines(self.put, sink.status) for channel in CHANNELS}
        self._chunks: list[Chunk] = []
        self._running: dict[Chunk, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._numbers = count()
        self._paces = Paces(monotonic())
        self._silent: dict[Market, float] = {}
        self._look_at = 0.0
        self._out_of_step: dict[str, float] = {}

    def _own_route(self) -> Route:
        """The configured address stands for the venue's own WebSocket address."""
        usual, own, route = self._class.venue.websocket, self._plan.url, self._route
        return (lambda url: own if url == usual else route(url)) if own else route

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._around.rest.run())
            tasks.create_task(self._compare())
            first = asyncio.Event()
            tasks.create_task(self._keep_listing(first))
            with suppress(TimeoutError):
                async with asyncio.timeout(LIST_WITHIN):
                    await first.wait()
            self._tasks = tasks
            self._follow(tasks)

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(chunk.LOOK_EVERY)
            for lines in self._lines.values():
                lines.look()

    # What is wanted -------------------------------------------------------------------------------------------------

    def change(self, assigned: plan.ExchangePlan) -> None:
        """From now on this is wanted. What was not wanted before is not missing."""
        self._plan, self._resume = assigned, None
        self._around.route = self._own_route()
        if self._tasks is not None:
            self._follow(self._tasks)

    def leave(self) -> None:
        """Nothing is wanted any more; what follows is `run`'s end."""
        for each in self._running:
            each.leave()

    def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Let the connections be those that are wanted."""
        wanted = self._plan.recut([each.pairs for each in self._chunks], self._listed_now())
        staying = [each for each in self._chunks if each.pairs in wanted and each.terms == self._plan.terms(each.pairs.channel)]
        leaving = [each for each in self._chunks if each not in staying]
        kept = {each.pairs for each in staying}
        joining = [self._begin(each, tasks) for each in wanted if each not in kept]
        self._chunks = [*staying, *joining]
        for each in leaving:
            successors = [other for other in joining if each.pairs.has_of(other.pairs)]
            tasks.create_task(self._hand_over(each, successors))
        if leaving or (staying and joining):
            numbers = {"stay": len(staying), "begin": len(joining), "end": len(leaving)}
            log.info("connections change", exchange=self.name, **numbers)

    def _listed_now(self) -> list[str]:
        ours = {theirs: name for name, theirs in self._plan.aliases.items()}
        return [renamed(each.symbol, ours) for each in (self._instruments or {}).values() if each.active]

    def _begin(self, pairs: plan.Chunk, tasks: asyncio.TaskGroup) -> Chunk:
        terms = self._plan.terms(pairs.channel)
        begun = Chunk(pairs, terms, self._maker(pairs), self._lines[pairs.channel], self._plan.redundancy)
        self._running[begun] = tasks.create_task(begun.run())
        return begun

    async def _hand_over(self, old: Chunk, successors: list[Chunk]) -> None:
        """A chunk ends, as soon as its pairs come from those that have them now."""

        def can_leave() -> bool:
            return all(each.feeds for each in successors) and old.lines.can_leave(old.feeds)

        if successors:
            settled = await handed_over(lambda: old.feeds, can_leave, HAND_OVER_WITHIN)
            log.info("connection replaced", exchange=self.name, settled=settled)
        old.leave()
        task = self._running.pop(old)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    # The list of markets --------------------------------------------------------------------------------------------

    async def _keep_listing(self, first: asyncio.Event) -> None:
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
                self._listed(found)
                first.set()
            await asyncio.sleep(self._around.random.uniform(0.9, 1.1) * RELIST_EVERY)

    def _listed(self, found: Mapping[str, Instrument]) -> None:
        self._instruments = found
        for lines in self._lines.values():
            for feed in lines.feeds:
                feed.do(feed.adapter.listed(found, monotonic()))
        if self._tasks is not None:
            self._follow(self._tasks)

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

    def _maker(self, pairs: plan.Chunk) -> Callable[[], Feed]:
        assigned, resume, number = self._plan, self._resume, next(self._numbers)
        wanted = [(pairs.channel, symbol) for symbol in pairs.symbols]
        files = cycle(("", *(f".{each}" for each in range(1, 2 * assigned.redundancy))))  # of each line and its successor

        def make() -> Feed:
            nonlocal resume
            adapter = self._class(wanted, assigned.options, self._instruments, resume, assigned.aliases)
            resume = None  # only the first connection follows that hole
            recorder = None
            if self._record_to is not None:
                recorder = Recorder(self._record_to / f"{self.name}-{pairs.channel}-{number}{next(files)}.ndjson")
            return Feed(adapter, self._around, self.put, self._sink.status, recorder)

        return make

    def resumed(self, trades: Mapping[str, LastTrade]) -> None:
        """The last trades that an earlier process told, where word of them comes after the start."""
        for each in self._chunks:
            for feed in each.feeds[:1]:
                feed.do(feed.adapter.resumed(trades, monotonic()))

    def republish(self, symbol: str) -> None:
        """Put a whole book of this symbol."""
        self._lines["orderbooks"].republish(symbol)

    # Taking over from another process -------------------------------------------------------------------------------

    @property
    def feeds(self) -> list[Feed]:
        return [feed for lines in self._lines.values() for feed in lines.feeds]

    @property
    def is_settled(self) -> bool:
        """Whether everything that can be had is here, all books in step."""
        books = (book.symbol for book in self._lines["orderbooks"].books if book.state is not BookState.SYNCED)
        rejected = {each.symbol for each in self._lines["orderbooks"].subscriptions if each.state is State.REJECTED}
        has_begun = bool(self._chunks) and all(any(feed.adapter.is_settled for feed in each.feeds) for each in self._chunks)
        return has_begun and rejected.issuperset(books)

    def put_to(self, put: Put) -> None:
        """Another way out for all events."""
        self.put = put
        for lines in self._lines.values():
            lines.put_to(put)

    def introduce(self) -> None:
        """Put every book whole, for readers of that of another process. Where changes are told and nothing is numbered, they
        could not tell it from a view: a gap without length makes them begin anew."""
        now = time_ns() // 1000
        for book in self._lines["orderbooks"].books:
            if self._plan.options.mode == "deltas" and book.book.sequence is None:
                about = (self.name, book.symbol, None, now, "orderbooks", "handed over", None, None)
                self.put(Gap(*about, now, now))
            self.republish(book.symbol)

    def state(self) -> ExchangeState:
        counts = self._around.counts
        totals = sum((lines.totals for lines in self._lines.values()), Counter())
        subscriptions = [each for lines in self._lines.values() for each in lines.subscriptions]
        books = self._lines["orderbooks"].books
        states = Counter(each.state for each in subscriptions)
        now = monotonic()
        self._look(subscriptions, books, now)
        return ExchangeState(
            name=self.name,
            connections=self._around.open_connections,
            connections_wanted=len(self._chunks or self._plan.chunks) * self._plan.redundancy,
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
