"""What venues share in making messages: windows of levels, candles that close."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.feeds import CandleFeed, Window
from simulator.market import MINUTE, Book, Candle
from tests.simulator.test_market import BEGIN, market

changes = st.lists(
    st.lists(st.tuples(st.integers(-30, 30).filter(bool), st.integers(0, 3)), min_size=1, max_size=4), max_size=40
)


def cut(side: list[int], depth: int) -> list[int]:
    return side[-depth:]


@given(start=st.dictionaries(st.integers(-30, 30).filter(bool), st.integers(1, 9)), steps=changes, depth=st.integers(1, 6))
def test_a_reader_that_truncates_always_has_the_window(
    start: dict[int, int], steps: list[list[tuple[int, int]]], depth: int
) -> None:
    """Kraken's way: pushed out is not told."""
    book = Book(dict(start))
    window = Window(book, depth, farewell=False)
    known = {key: book.levels[key] for side in (book.bids, book.asks) for key in cut(side, depth)}
    for step in steps:
        for key, lots in step:
            book.set(key, lots)
        bids, asks = window.changes([key for key, _ in step])
        for key, lots in bids + asks:
            known[key] = lots
            if not lots:
                del known[key]
        bid_side = sorted(key for key in known if key > 0)
        ask_side = sorted(key for key in known if key < 0)
        known = {key: known[key] for key in cut(bid_side, depth) + cut(ask_side, depth)}
        assert known == {key: book.levels[key] for side in (book.bids, book.asks) for key in cut(side, depth)}


@given(start=st.dictionaries(st.integers(-30, 30).filter(bool), st.integers(1, 9)), steps=changes, depth=st.integers(1, 6))
def test_a_reader_that_only_applies_always_has_the_window(
    start: dict[int, int], steps: list[list[tuple[int, int]]], depth: int
) -> None:
    """OKX's way: pushed out is deleted."""
    book = Book(dict(start))
    window = Window(book, depth, farewell=True)
    known = {key: book.levels[key] for side in (book.bids, book.asks) for key in cut(side, depth)}
    for step in steps:
        for key, lots in step:
            book.set(key, lots)
        bids, asks = window.changes([key for key, _ in step])
        for key, lots in bids + asks:
            known[key] = lots
            if not lots:
                del known[key]
        assert known == {key: book.levels[key] for side in (book.bids, book.asks) for key in cut(side, depth)}


class Told(CandleFeed):
    def render(self, candle: Candle, closed: bool, time: int) -> str:
        return f"{(candle.start - BEGIN // MINUTE * MINUTE) // MINUTE} {'closed' if closed else 'open'}"


class Untold(Told):
    closes = flat = False


def test_a_candle_is_told_while_it_changes_and_once_when_it_closes() -> None:
    m = market()
    feed = Told("kline", m, 1, 1.0)
    start = BEGIN // MINUTE * MINUTE + MINUTE
    assert feed.flush(start) == ["1 open"]
    assert feed.flush(start) == []
    for number in range(60):
        m.step(start + number)
    assert feed.flush(start + 1_000_000) == ["1 open"]
    assert feed.flush(start + MINUTE) == ["1 closed", "2 open"]
    assert feed.flush(start + 2 * MINUTE) == ["2 closed", "3 open"]


def test_where_nothing_marks_the_end_only_trades_are_told() -> None:
    m = market()
    feed = Untold("ohlc", m, 1, 1.0)
    start = BEGIN // MINUTE * MINUTE + MINUTE
    assert feed.flush(start) == []
    for number in range(60):
        m.step(start + number)
    assert feed.flush(start + 1_000_000) == ["1 open"]
    for number in range(60):
        m.step(start + 2_000_000 + number)
    assert feed.flush(start + MINUTE) == ["1 closed"], "the last trades of a minute are not lost"
    assert feed.flush(start + 2 * MINUTE) == []
