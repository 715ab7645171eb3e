"""The market: it trades against its own book, never crosses, and is the same again for the same seed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.binance import Binance
from simulator.instruments import QUIET_PAIR, Instrument
from simulator.market import MINUTE, WARM_UP, Book, Market

BEGIN = 1_700_000_000_000_000
INSTRUMENTS = {instrument.symbol: instrument for instrument in Binance.listing.instruments}
symbols = st.sampled_from(["BTC/USDT", "DOGE/USDT", "SHIB/USDT", "PEPE/USDT", "ETH/BTC"])
seeds = st.text(max_size=8)


def market(symbol: str = "BTC/USDT", seed: str = "1", blanks: float = 0.0) -> Market:
    return Market(INSTRUMENTS[symbol], seed, BEGIN, blanks)


def sound(book: Book, instrument: Instrument) -> None:
    """Sorted, positive, not crossed, and both views of the levels agree."""
    assert book.bids == sorted(key for key in book.levels if key > 0)
    assert book.asks == sorted(key for key in book.levels if key < 0)
    assert all(lots > 0 for lots in book.levels.values())
    assert book.bids[-1] < -book.asks[-1], f"{instrument.symbol} is crossed"


@settings(max_examples=25)
@given(symbol=symbols, seed=seeds, steps=st.integers(0, 400), blanks=st.floats(0, 0.4))
def test_never_crossed_and_always_positive(symbol: str, seed: str, steps: int, blanks: float) -> None:
    m = market(symbol, seed, blanks)
    for number in range(steps):
        m.step(BEGIN + number)
        assert m.book.bids[-1] < -m.book.asks[-1]
    sound(m.book, m.instrument)


@settings(max_examples=20)
@given(symbol=symbols, seed=seeds)
def test_changes_are_exactly_what_the_trades_took(symbol: str, seed: str) -> None:
    m = market(symbol, seed)
    mirror = dict(m.book.levels)
    for number in range(120):
        before = dict(mirror)
        best = {True: -m.book.asks[-1], False: m.book.bids[-1]}
        sequence, last = m.sequence, m.trades[-1]
        step = m.step(BEGIN + number)
        assert step.sequence == m.sequence == sequence + len(step.changes)
        for key, lots in step.changes:
            if lots:
                mirror[key] = lots
            else:
                del mirror[key]
        assert mirror == m.book.levels
        for offset, trade in enumerate(step.trades, 1):
            key = -trade.ticks if trade.buyer else trade.ticks
            assert trade.lots > 0
            before[key] -= trade.lots
            assert (key, before[key]) == step.changes[offset - 1], "the level shows what is left of it"
            assert (trade.id, trade.sequence) == (last.id + offset, sequence + offset)
        if step.trades:
            assert step.trades[0].ticks == best[step.trades[0].buyer], "the best price is taken first"
            worse = [trade.ticks if trade.buyer else -trade.ticks for trade in step.trades]
            assert worse == sorted(worse)


@settings(max_examples=20)
@given(symbol=symbols, seed=seeds)
def test_same_seed_same_market(symbol: str, seed: str) -> None:
    one, two = market(symbol, seed), market(symbol, seed)
    for number in range(100):
        a, b = one.step(BEGIN + number), two.step(BEGIN + number)
        assert (a.changes, a.trades, a.sequence) == (b.changes, b.trades, b.sequence)
    assert one.book.levels == two.book.levels
    assert market(symbol, seed + "x").book.levels != market(symbol, seed).book.levels


def test_venues_differ_by_a_few_basis_points() -> None:
    mids = [m.book.bids[-1] for m in (market(seed=f"1:{name}") for name in ("binance", "kraken", "okx", "kucoin"))]
    assert len(set(mids)) == 4
    assert max(mids) / min(mids) < 1.002


def test_deep_enough_for_a_limited_snapshot_and_stays_so() -> None:
    m = market()
    for number in range(20_000):
        m.step(BEGIN + number)
    assert min(len(m.book.bids), len(m.book.asks)) >= 1200
    assert 0.96 < m.book.bids[-1] / INSTRUMENTS["BTC/USDT"].price < 1.04
    assert -m.book.asks[-1] / m.book.bids[-1] < 1.002, "the spread stays that of a liquid pair"


@pytest.mark.parametrize("blanks", [0.0, 0.37])
def test_old_books_are_those_of_their_sequence(blanks: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.market.UNDO", 50)
    m = market(blanks=blanks)
    past, compared = {m.sequence: dict(m.book.levels)}, 0
    for number in range(300):
        m.step(BEGIN + number)
        past[m.sequence] = dict(m.book.levels)
        sequence, book = m.rewound()
        assert sequence == m.sequence - 50
        if sequence in past:
            assert book.levels == past[sequence]
            sound(book, m.instrument)
            compared += 1
    assert compared > 100


def test_quiet_and_halted_pairs_have_a_book_and_no_trades() -> None:
    for symbol in (QUIET_PAIR, "LUNA/USDT"):
        m = market(symbol)
        assert not m.instrument.moves
        assert not m.trades
        sound(m.book, m.instrument)


def test_trades_are_found_by_id() -> None:
    m = market()
    ids = [trade.id for trade in m.trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert [trade.id for trade in m.since(ids[10], 5)] == ids[10:15]
    assert [trade.id for trade in m.since(0, 3)] == ids[:3]
    assert m.since(ids[-1] + 1, 5) == []
    assert [trade.id for trade in m.recent(4)] == ids[-4:]


def test_candles_are_the_trades() -> None:
    m = market()
    candles = m.candles(1, BEGIN)
    assert WARM_UP // 60 <= len(candles) <= WARM_UP // 60 + 2
    assert sum(candle.volume for candle in candles) == sum(trade.lots for trade in m.trades)
    for candle in candles:
        inside = [trade for trade in m.trades if trade.time // MINUTE * MINUTE == candle.start]
        assert candle.trades == len(inside)
        if inside:
            prices = [trade.ticks for trade in inside]
            assert (candle.open, candle.high, candle.low, candle.close) == (prices[0], max(prices), min(prices), prices[-1])
            assert candle.turnover == sum(trade.ticks * trade.lots for trade in inside)
            assert (candle.first, candle.last) == (inside[0].id, inside[-1].id)
            assert candle.taken[0] == sum(trade.lots for trade in inside if trade.buyer)


def test_longer_candles_are_sums_and_silent_minutes_are_flat() -> None:
    m = market()
    later = BEGIN + 7 * MINUTE
    minutes, fives = m.candles(1, later), m.candles(5, later)
    assert sum(candle.volume for candle in fives) == sum(candle.volume for candle in minutes)
    assert all(candle.start % (5 * MINUTE) == 0 for candle in fives)
    assert minutes[-1].trades == 0
    assert minutes[-1].open == minutes[-1].close == m.trades[-1].ticks
    assert len(m.candles(1, later, 3)) == 3
