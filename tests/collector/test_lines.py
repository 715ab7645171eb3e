"""Several connections that tell of the same market: what any of them heard goes out once, and what none heard is a gap."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.events import Event, Gap, Trade
from collector import lines as lines_module
from collector.feed import Counts, Feed, Surroundings
from collector.limits import Breaker, Window
from collector.lines import Lines
from tests.adapters.puppet import EPOCH, VENUE, acked, puppet, trade

SYMBOL = "BTC/USDT"
WINDOW = Window(VENUE.limits.connects)


class Market:
    """A market whose trades happen one after the other, and connections that hear them, or do not."""

    def __init__(self, *, numbered: bool) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.lines = Lines(self.events.append, lambda _: None)
        self.happened: dict[str, int] = {}
        self.heard: Counter[str] = Counter()
        self._venue = puppet(numbers_trades=numbered)
        self._number = 1_000_000_000
        self.is_renumbered = False
        self.feeds: list[Feed] = []

    def begin(self) -> None:
        self.feeds += [self._joined(), self._joined()]
        for feed in self.feeds:
            self.open(feed)
        self.trade(*self.feeds)

    @property
    def micros(self) -> int:
        return EPOCH + round((self.now - 1000.0) * 1_000_000)

    def monotonic(self) -> float:
        return self.now

    def _joined(self) -> Feed:
        nothing: Any = None  # what is asked of a venue's REST and of its socket: these connections have neither
        around = Surroundings(nothing, WINDOW, Breaker(), nothing, Random(1), Counts())
        feed = Feed(self._venue([("trades", SYMBOL)]), around, self.events.append, lambda _: None)
        self.lines.join(feed)
        return feed

    def open(self, feed: Feed) -> None:
        feed.is_open = True
        feed.do(feed.adapter.start(self.now) + feed.adapter.connected(self.now))
        self.say(feed, orjson.dumps([acked(channel="trades", native="BTCUSDT")]))

    def lose(self, feed: Feed) -> None:
        feed.is_open = False
        feed.do(feed.adapter.lost(1006, "reset by peer", self.now))

    @staticmethod
    def _frame(number: int | str, time: int) -> bytes:
        return orjson.dumps([trade(number, timestamp=time)])

    def say(self, feed: Feed, frame: bytes) -> None:
        for output in feed.adapter.receive(frame, self.micros):
            feed.do([output])

    def trade(self, *hearing: Feed, garbled: tuple[Feed, ...] = ()) -> None:
        """A trade happens. `garbled`: who gets bytes in its place that cannot be read."""
        self.wait(0.05)
        self._number += 1
        number = self._number
        name: int | str = number if self._venue.venue.numbers_trades else f"t{number}"
        self.happened[str(name)] = self.micros
        for feed in self.feeds:
            if not feed.is_open:
                continue
            if feed in garbled:
                self.say(feed, b"{")
            elif feed in hearing:
                self.heard[str(name)] += 1
                self.say(feed, self._frame(name, self.micros))

    def renumber(self) -> None:
        """The venue counts anew, far below."""
        self._number -= 1_000_000
        self.is_renumbered = True

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.lines.look()

    def end(self) -> None:
        """All hear everything for a while, so that nothing is left that waits."""
        for feed in self.feeds:
            if not feed.is_open:
                self.open(feed)
        for _ in range(3):
            self.trade(*self.feeds)
        self.wait(5.0)

    # What readers know.

    @property
    def told(self) -> list[str]:
        return [event.id for event in self.events if isinstance(event, Trade)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    def is_missing(self, name: str) -> bool:
        """Whether a gap tells of this trade: by its number, else by its time."""
        for gap in self.gaps:
            if gap.first_missing is not None and gap.last_missing is not None:
                if int(gap.first_missing) <= int(name) <= int(gap.last_missing):
                    return True
            elif gap.since is not None and gap.since <= self.happened[name] <= (gap.until or self.micros):
                return True
        return False


@contextmanager
def market(*, numbered: bool) -> Iterator[Market]:
    with pytest.MonkeyPatch.context() as patch:
        made = Market(numbered=numbered)
        patch.setattr(lines_module, "_now", lambda: made.micros)
        patch.setattr(lines_module, "monotonic", made.monotonic)
        made.begin()
        yield made


moves = st.lists(
    st.tuples(
        st.sampled_from(["trade", "trade", "trade", "miss", "garble", "lose", "open", "wait", "renumber"]), st.integers(0, 3)
    ),
    max_size=40,
)


@pytest.mark.parametrize("numbered", [True, False])
@settings(max_examples=500)
@given(moves=moves)
async def test_what_any_heard_is_told_once_and_what_none_heard_is_a_gap(numbered: bool, moves: list[tuple[str, int]]) -> None:
    with market(numbered=numbered) as scene:
        for move, which in moves:
            feed = scene.feeds[which % 2]
            among = [each for index, each in enumerate(scene.feeds) if which >> index & 1]
            if move == "trade":
                scene.trade(*scene.feeds)
            elif move == "miss" and numbered:  # where trades have no numbers nobody could know
                scene.trade(*among)
            elif move == "garble":
                scene.trade(*scene.feeds, garbled=tuple(among))
            elif move == "lose" and feed.is_open:
                scene.lose(feed)
            elif move == "open" and not feed.is_open:
                scene.open(feed)
            elif move == "renumber" and numbered and not scene.is_renumbered:
                scene.renumber()
            elif move == "wait":
                scene.wait(0.3)
        scene.end()
        told = Counter(scene.told)
        assert max(told.values()) == 1, "nothing twice"
        assert told.keys() == scene.heard.keys(), "all that was heard, and nothing else"
        unheard = scene.happened.keys() - scene.heard.keys()
        assert [name for name in unheard if not scene.is_missing(name)] == []
