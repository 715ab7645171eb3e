"""Several connections that tell of the same market: what any of them heard goes out once, and what none heard is a gap."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any, Literal, TypeVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.book import BookOptions, BookRule
from adapters.events import Book, BookDelta, Channel, Event, Gap, Levels, Trade
from collector import lines as lines_module
from collector.feed import Counts, Feed, Surroundings
from collector.limits import Breaker, Window
from collector.lines import Lines
from tests.adapters.driving import of
from tests.adapters.puppet import EPOCH, VENUE, Puppet, acked, change, puppet, snapshot, trade

SYMBOL, NATIVE = "BTC/USDT", "BTCUSDT"


class Scene(ABC):
    """Two connections to one market, their clock, and what they say of it together."""

    def __init__(self, channel: Channel, venue: type[Puppet], options: BookOptions) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.lines = Lines(self.events.append, lambda _: None)
        self.feeds: list[Feed] = []
        self._channel: Channel = channel
        self._venue = venue
        self._options = options

    @property
    def micros(self) -> int:
        return EPOCH + round((self.now - 1000.0) * 1_000_000)

    def monotonic(self) -> float:
        return self.now

    def begin(self) -> None:
        nothing: Any = None  # what is asked of a venue's REST and of its socket: these connections have neither
        for _ in range(2):
            around = Surroundings(nothing, Window(VENUE.limits.connects), Breaker(), nothing, Random(1), Counts())
            adapter = self._venue([(self._channel, SYMBOL)], self._options)
            self.feeds.append(Feed(adapter, around, self.events.append, lambda _: None))
            self.lines.join(self.feeds[-1])
        for feed in self.feeds:
            self.open(feed)

    def open(self, feed: Feed) -> None:
        feed.is_open = True
        feed.do(feed.adapter.start(self.now) + feed.adapter.connected(self.now))
        self.say(feed, orjson.dumps([acked(channel=self._channel, native=NATIVE)]))

    def lose(self, feed: Feed) -> None:
        feed.is_open = False
        feed._outgoing.clear()
        feed.do(feed.adapter.lost(1006, "reset by peer", self.now))

    def say(self, feed: Feed, frame: bytes) -> None:
        feed.do(feed.adapter.receive(frame, self.micros))

    def tell(self, frame: bytes, hearing: list[Feed], garbled: list[Feed]) -> None:
        """A frame to those that are there to hear it; `garbled`: who gets bytes in its place that cannot be read."""
        for feed in self.feeds:
            if feed.is_open and feed in garbled:
                self.say(feed, b"{")
            elif feed.is_open and feed in hearing:
                self.say(feed, frame)

    @abstractmethod
    def happen(self, hearing: list[Feed], garbled: list[Feed]) -> None:
        """Something happens at the venue."""

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for feed in self.feeds:
            if feed.is_open:
                feed.do(feed.adapter.tick(self.now))
        self.lines.look()

    def move(self, move: str, which: int) -> None:
        feed, among = self.feeds[which % 2], [each for index, each in enumerate(self.feeds) if which >> index & 1]
        match move:
            case "happen":
                self.happen(self.feeds, [])
            case "miss":
                self.happen(among, [])
            case "garble":
                self.happen(self.feeds, among)
            case "lose" if feed.is_open:
                self.lose(feed)
            case "open" if not feed.is_open:
                self.open(feed)
            case "wait":
                self.wait(0.3)

    def play(self, moves: list[tuple[str, int]]) -> None:
        """These, and then a time in which all is well, so that nothing is left that waits."""
        for move, which in moves:
            self.move(move, which)
        for feed in self.feeds:
            if not feed.is_open:
                self.open(feed)
        for _ in range(5):
            self.happen(self.feeds, [])
            self.wait(5.0)


MOVES = ["happen", "happen", "happen", "miss", "garble", "lose", "open", "wait"]


def some(*names: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 3)), max_size=40)


S = TypeVar("S", bound=Scene)


@contextmanager
def begun(scene: S) -> Iterator[S]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_now", lambda: scene.micros)
        patch.setattr(lines_module, "monotonic", scene.monotonic)
        scene.begin()
        yield scene


# Trades -------------------------------------------------------------------------------------------------------------------


class Trades(Scene):
    def __init__(self, *, numbered: bool) -> None:
        super().__init__("trades", puppet(numbers_trades=numbered), BookOptions())
        self.happened: dict[str, int] = {}
        self.heard: set[str] = set()
        self._is_numbered = numbered
        self._is_renumbered = False
        self._number = 1_000_000_000

    def begin(self) -> None:
        super().begin()
        self.happen(self.feeds, [])

    def happen(self, hearing: list[Feed], garbled: list[Feed]) -> None:
        self.wait(0.05)
        self._number += 1
        name = self._number if self._is_numbered else f"t{self._number}"
        self.happened[str(name)] = self.micros
        if any(feed.is_open and feed in hearing and feed not in garbled for feed in self.feeds):
            self.heard.add(str(name))
        self.tell(orjson.dumps([trade(name, timestamp=self.micros)]), hearing, garbled)

    def move(self, move: str, which: int) -> None:
        if move == "renumber":
            self._renumber()
        else:
            super().move(move, which)

    def _renumber(self) -> None:
        """The venue counts anew, far below. Once: which count a line is in that missed one of several nobody can say."""
        if not self._is_renumbered:
            self._number -= 1_000_000
            self._is_renumbered = True

    def is_missing(self, name: str) -> bool:
        """Whether a gap tells of this trade: by its number, else by its time."""
        for gap in of(self.events, Gap):
            if gap.first_missing is not None and gap.last_missing is not None:
                if int(gap.first_missing) <= int(name) <= int(gap.last_missing):
                    return True
            elif gap.since is not None and gap.since <= self.happened[name] <= (gap.until or self.micros):
                return True
        return False


def check_trades(scene: Trades, moves: list[tuple[str, int]]) -> None:
    scene.play(moves)
    told = Counter(each.id for each in of(scene.events, Trade))
    assert max(told.values()) == 1, "nothing twice"
    assert told.keys() == scene.heard, "all that was heard, and nothing else"
    assert [name for name in scene.happened.keys() - scene.heard if not scene.is_missing(name)] == []


@settings(max_examples=300)
@given(moves=some(*MOVES, "renumber"))
async def test_a_numbered_trade_that_any_heard_is_told_once_and_one_that_none_heard_is_a_gap(
    moves: list[tuple[str, int]],
) -> None:
    with begun(Trades(numbered=True)) as scene:
        check_trades(scene, moves)


@settings(max_examples=300)
@given(moves=some(*[move for move in MOVES if move != "miss"]))  # which nobody could know of
async def test_so_is_one_without_a_number(moves: list[tuple[str, int]]) -> None:
    with begun(Trades(numbered=False)) as scene:
        check_trades(scene, moves)


# Books --------------------------------------------------------------------------------------------------------------------

Side = dict[str, str]
_orders = count(1)


class Books(Scene):
    """A market whose book changes, which its venue shows whole to who subscribes. `truth`: its sides at each sequence."""

    def __init__(self, mode: Literal["views", "deltas"]) -> None:
        rule = BookRule(chain="range", source="socket")
        super().__init__("orderbooks", puppet(book=rule), BookOptions(depth=10, interval=0.0, mode=mode))
        self._random = Random(7)
        self.sequence = 10
        self.truth: dict[int, tuple[Side, Side]] = {10: ({"99": "1", "98": "1"}, {"101": "1", "102": "1"})}

    def open(self, feed: Feed) -> None:
        super().open(feed)
        self._answer(feed)

    def say(self, feed: Feed, frame: bytes) -> None:
        super().say(feed, frame)
        self._answer(feed)

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        for feed in self.feeds:
            self._answer(feed)

    def _answer(self, feed: Feed) -> None:
        """Whoever subscribes gets the book as it is."""
        while feed._outgoing:
            method, *about = orjson.loads(feed._outgoing.popleft().frame)
            if method == "subscribe" and feed.is_open:
                bids, asks = ([list(row) for row in side.items()] for side in self.truth[self.sequence])
                book = snapshot(self.sequence, NATIVE, bids=bids, asks=asks)
                super().say(feed, orjson.dumps([acked(about[-1]), book]))

    def happen(self, hearing: list[Feed], garbled: list[Feed]) -> None:
        self.now += 0.05
        bids, asks = (dict(side) for side in self.truth[self.sequence])
        side, base = self._random.choice([(bids, 90), (asks, 101)])
        price = str(base + self._random.randrange(9))
        amount = "0" if price in side and len(side) > 1 and self._random.random() < 0.5 else str(next(_orders))
        side.pop(price, None)
        if amount != "0":
            side[price] = amount
        self.sequence += 1
        self.truth[self.sequence] = bids, asks
        rows: dict[str, Any] = {"bids": [], "asks": []} | {"bids" if side is bids else "asks": [[price, amount]]}
        self.tell(orjson.dumps([change(self.sequence, market=NATIVE, **rows)]), hearing, garbled)


class Reader:
    """Who follows a book: a whole one, the changes of it, and a gap after which it has none."""

    def __init__(self, truth: dict[int, tuple[Side, Side]]) -> None:
        self._truth = truth
        self.sequence: int | None = None
        self._sides: tuple[Side, Side] = {}, {}

    def follow(self, event: Event) -> None:
        if isinstance(event, Gap):
            self.sequence = None
        elif isinstance(event, Book):
            self.sequence, self._sides = event.sequence, (dict(event.bids), dict(event.asks))
        elif isinstance(event, BookDelta):
            assert self.sequence is not None, "a change of a book that is not there"
            assert event.previous == self.sequence, "the changes are a chain"
            self._apply(event.bids, event.asks)
            self.sequence = event.sequence
        if self.sequence is not None:
            assert self._sides == self._truth[self.sequence], f"the book is what it was at {self.sequence}"

    def _apply(self, *changes: Levels) -> None:
        for side, rows in zip(self._sides, changes, strict=True):
            for price, amount in rows:
                side.pop(price, None)
                if amount != "0":
                    side[price] = amount


@pytest.mark.parametrize("mode", ["views", "deltas"])
@settings(max_examples=300)
@given(moves=some(*MOVES))
async def test_readers_have_the_true_book_or_none_whichever_connection_it_comes_from(
    mode: Literal["views", "deltas"], moves: list[tuple[str, int]]
) -> None:
    with begun(Books(mode)) as scene:
        scene.play(moves)
        reader = Reader(scene.truth)
        for event in scene.events:
            reader.follow(event)
        assert reader.sequence == scene.sequence
