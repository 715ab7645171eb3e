"""Every adapter, and that of a venue that does not exist, against a venue that speaks its dialect over a line with faults."""

import os
from collections.abc import Callable
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.book import BookOptions
from adapters.effects import Connect, Fetch, Reconnect, Send
from adapters.errors import AdapterError, FrameError, SymbolError, VenueError
from adapters.events import CHANNELS, Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.live import Output
from adapters.subscriptions import State
from tests.adapters.conformance import Line, World, WrongValues, at, flipped, written
from tests.adapters.dialect import BEGAN, SYMBOLS, UNKNOWN, Dialect
from tests.adapters.dialects import DIALECTS, every_dialect
from tests.adapters.driving import of
from tests.adapters.reader import Reader

PATIENCE = 120.0
"""Seconds of venue time within which everything is right again when the line is whole: a few attempts with their pauses."""
STEPS = 25
SPELLS = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 10
"""Connections full of damaged frames that each adapter has to bear."""

seeds = st.integers(0, 2**32)


def test_every_registered_venue_has_a_dialect() -> None:
    assert set(registry.NAMES) <= DIALECTS.keys(), "write the venue's dialect in tests/adapters/dialects"


# Nothing is wrong --------------------------------------------------------------------------------------------------------


@every_dialect
@given(seed=seeds)
def test_on_a_whole_line_everything_is_told_and_nothing_else(dialect: type[Dialect], seed: int) -> None:
    world = World(dialect, seed)
    world.run(60)
    world.recover(PATIENCE)
    assert world.told(Gap) == []
    assert world.unaccounted() == {symbol: set() for symbol in SYMBOLS}
    assert {type(error) for error in world.errors()} <= {VenueError}, "which the venue said itself"
    assert world.told(Reconnect) == []
    books = [status.state for status in world.told(Status) if status.scope == "book"]
    assert books == ["synced", "synced"]
    assert world.adapter.totals()["repeated"] == 0


@every_dialect
def test_a_trade_a_ticker_and_a_view_are_what_the_venue_sent(dialect: type[Dialect]) -> None:
    world = World(dialect, 7)
    world.run(200)
    for market in world.dialect.markets.values():
        trades = [trade for trade in world.told(Trade) if trade.symbol == market.symbol]
        assert {world.dialect.trade_number(trade.id) for trade in trades} == set(market.deals)
        assert all(trade.timestamp is not None for trade in trades)
        tickers = [ticker for ticker in world.told(Ticker) if ticker.symbol == market.symbol]
        assert any((ticker.bid and ticker.ask) or ticker.last for ticker in tickers)
    assert len(world.told(Book)) > 40
    assert world.checker.last_view.keys() == set(SYMBOLS)


@every_dialect
def test_the_same_venue_is_told_the_same_way_twice(dialect: type[Dialect]) -> None:
    runs = []
    for _ in range(2):
        world = World(dialect, 5, line=at(20, "drop", Random(5)))
        world.run(60)
        world.lose()
        world.run(30)
        runs.append([repr(output) for output in world.outputs])
    assert runs[0] == runs[1]


@every_dialect
def test_frames_that_arrive_together_are_told_as_one_by_one(dialect: type[Dialect]) -> None:
    world = World(dialect, 9)
    world.run(40)
    frames = [*world.arrived[:30], world.dialect.coded(b"{"), b"", *world.arrived[30:]]
    alone, together = World(dialect, 9).adapter, World(dialect, 9).adapter
    told = [repr(output) for frame in frames for output in alone.receive(frame, BEGAN)]
    reads = [frames[begin : begin + 7] for begin in range(0, len(frames), 7)]
    assert [repr(output) for read in reads for output in together.receive_all(read, BEGAN)] == told
    assert len(told) > 10, "something is told"


@every_dialect
@given(seed=seeds, position=st.integers(0, 60))
def test_base_and_changes_rebuild_the_book_also_over_a_fault(dialect: type[Dialect], seed: int, position: int) -> None:
    world = World(dialect, seed, mode="deltas", line=at(position, "drop", Random(seed)))
    world.run(60)
    world.recover(PATIENCE)
    world.run(60)
    for native, sync in world.adapter.live.books.items():
        symbol = world.dialect.markets[native].symbol
        reader = Reader()
        reader.read([output for output in world.outputs if getattr(output, "symbol", None) == symbol])
        assert reader.book() == sync.book.whole()
        assert any(delta.symbol == symbol for delta in world.told(BookDelta))


# What is asked for --------------------------------------------------------------------------------------------------------


@every_dialect
def test_names_lead_there_and_back_and_stand_for_spot_alone(dialect: type[Dialect]) -> None:
    speaker = dialect(Random(0))
    for symbol in SYMBOLS:
        assert speaker.adapter.native(symbol) == speaker.native(symbol)
        assert speaker.adapter.canonical(speaker.native(symbol)) == symbol
    for other in ("BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT:USDT-261225", "BTCUSDT", ""):
        with pytest.raises(SymbolError):
            speaker.adapter.native(other)


@every_dialect
def test_requests_stay_within_the_venue_s_limits(dialect: type[Dialect]) -> None:
    speaker = dialect(Random(0))
    symbols = [f"COIN{number}/USDT" for number in range(speaker.adapter.venue.limits.topics_per_frame + 5)]
    adapter = speaker.adapter([(channel, symbol) for channel in CHANNELS for symbol in symbols], BookOptions(depth=10))
    requests = [speaker.read(orjson.loads(send.frame)) for send in asked(speaker, adapter) if send.frame != "ping"]
    requests = [request for request in requests if request.operation != "other"]  # flags of the connection
    assert {request.operation for request in requests} == {"subscribe"}
    assert len({request.request for request in requests}) == len(requests)
    assert max(len(request.natives) for request in requests) <= adapter.venue.limits.topics_per_frame
    for channel in CHANNELS:
        natives = [native for request in requests if request.channel == channel for native in request.natives]
        assert natives == [adapter.native(symbol) for symbol in symbols]


def asked(speaker: Dialect, adapter: ExchangeAdapter) -> list[Send]:
    """The frames with which an adapter begins, greeted where the venue greets."""
    adapter.start(0.0)
    outputs = adapter.connected(0.0)
    for greeting in speaker.opened():
        outputs += adapter.receive(speaker.packed(greeting), BEGAN)
    outputs += adapter.tick(adapter.venue.asked_after)
    return of(outputs, Send)


@every_dialect
def test_a_connection_comes_about(dialect: type[Dialect]) -> None:
    world = World(dialect, 1)
    (connect,) = world.told(Connect)
    assert connect.url.startswith("wss://")
    assert [status.state for status in world.told(Status)] == ([] if world.adapter.venue.greets else ["connected"])
    world.deliver()
    assert world.told(Status)[0].state == "connected"


@every_dialect
def test_a_pair_that_the_venue_does_not_have_harms_no_other(dialect: type[Dialect]) -> None:
    world = World(dialect, 1, wanted=(*SYMBOLS, UNKNOWN))
    world.run(60)
    states = {each.state for each in world.adapter.subscriptions if each.symbol == UNKNOWN}
    assert states in ({State.REJECTED}, {State.ACKED}, {State.QUIET}), "refused, or acknowledged and silent"
    reasons = [status.detail for status in world.told(Status) if status.state == "rejected"]
    assert len(reasons) == (len(CHANNELS) if states == {State.REJECTED} else 0)
    assert all(len(reason) > 15 for reason in reasons), "with the venue's own words"
    world.recover(PATIENCE)
    assert world.told(Gap) == []


@every_dialect
def test_the_instrument_list_rejects_it_as_well(dialect: type[Dialect]) -> None:
    speaker = dialect(Random(0))
    listed = {
        each.symbol: each for each in speaker.adapter.parse_instruments(orjson.dumps(speaker.answers()[("instruments",)]))
    }
    assert set(listed) == {"BTC/USDT"}
    assert listed["BTC/USDT"].native == speaker.native("BTC/USDT")
    assert listed["BTC/USDT"].active
    adapter = speaker.adapter([("trades", "BTC/USDT"), ("trades", UNKNOWN)], None, listed)
    assert [each.state for each in adapter.subscriptions] == [State.REQUESTED, State.REJECTED]


@every_dialect
def test_the_client_s_ping_is_one_that_the_venue_takes(dialect: type[Dialect]) -> None:
    world = World(dialect, 1)
    world.run(60)
    interval = world.adapter.venue.keepalive.ping
    before = len(world.told(Send))
    for _ in range(70):
        world.wait(1.0)
        world.step()
    pings = len(world.told(Send)) - before
    assert world.told(Reconnect) == []
    if interval is not None:
        assert pings >= 70 / interval - 1
    world.line = lambda position, frame: []
    for _ in range(120):
        world.wait(1.0)
        if world.told(Reconnect):
            break
    assert world.told(Reconnect), "and silence ends a connection"


# One fault ----------------------------------------------------------------------------------------------------------------


def frames_of(dialect: type[Dialect], seed: int) -> int:
    world = World(dialect, seed)
    world.run(STEPS)
    return len(world.arrived)


@every_dialect
@pytest.mark.parametrize("fault", ["drop", "repeat", "swap", "cut"])
def test_one_fault_at_any_frame_is_survived_and_shows_no_wrong_book(dialect: type[Dialect], fault: str) -> None:
    for position in range(frames_of(dialect, 3)):
        world = World(dialect, 3, line=at(position, fault, Random(position)))
        world.run(STEPS)
        world.recover(PATIENCE)
        if dialect.counts_trades:
            assert world.unaccounted() == {symbol: set() for symbol in SYMBOLS}, f"{fault} at frame {position}"
        if fault == "repeat":
            assert [gap for gap in world.told(Gap) if gap.channel == "trades"] == []


@every_dialect
def test_a_frame_that_is_cut_at_any_byte_is_one_error_and_changes_nothing(dialect: type[Dialect]) -> None:
    """But for the hole that is told, and the books that are in doubt, where no number would ever show it."""
    sent: list[bytes] = []

    def cuts(position: int, frame: bytes) -> list[bytes]:
        sent.append(frame)
        return [*(frame[:length] for length in range(len(frame))), frame]

    plain, cut = World(dialect, 11), World(dialect, 11, line=cuts)
    for world in (plain, cut):
        world.run(STEPS)
    assert len(cut.arrived) == sum(map(len, sent)) + len(sent)
    broken = sum(not plain.dialect.stands(each[:length]) for each in sent for length in range(len(each)))
    assert sum(isinstance(error, FrameError) for error in cut.errors()) == broken
    if dialect.proves_books:
        assert sent == plain.arrived
        assert told_by(cut) == told_by(plain)


@every_dialect
def test_a_trade_that_is_damaged_on_its_way_is_told_missing(dialect: type[Dialect]) -> None:
    """At once, or by its number with the next one."""
    world = World(dialect, 12)
    world.run(STEPS)
    world.trade_once_more()
    market, before = next(iter(world.dialect.markets.values())), len(world.outputs)
    for message in world.dialect.trades(market, [market.deal()]):
        world.arrive(world.dialect.packed(message)[:-4])
    world.trade_once_more()
    gaps = [output for output in world.outputs[before:] if isinstance(output, Gap) and output.channel == "trades"]
    assert any(gap.symbol in (None, market.symbol) for gap in gaps)


def told_by(world: World) -> list[str]:
    return [repr(output) for output in world.outputs if not is_about_a_bad_frame(output)]


def is_about_a_bad_frame(output: Output) -> bool:
    return isinstance(output, AdapterError) or (isinstance(output, Gap) and output.symbol is None)


def is_doubt(dialect: type[Dialect], output: Output) -> bool:
    """What becomes of a book that nothing but its frames proves: it may have been about one that is lost now."""
    if isinstance(output, Fetch):
        return not dialect.proves_books and output.key[0] == "book"
    if isinstance(output, Send):
        return not dialect.proves_books and dialect.on_socket
    return not dialect.proves_books and isinstance(output, Gap | Status) and "malformed" in repr(output)


@every_dialect
def test_the_connection_may_end_at_any_frame(dialect: type[Dialect]) -> None:
    for position in range(frames_of(dialect, 4)):
        world = World(dialect, 4)
        world.line = ending(world, position)
        world.run(STEPS)
        world.recover(PATIENCE)
        states = [status.state for status in world.told(Status) if status.scope == "connection"]
        assert states in (["connected", "lost", "connected"], ["lost", "connected"]), (
            "the second, where no welcome had come yet"
        )
        if dialect.counts_trades:
            assert world.unaccounted() == {symbol: set() for symbol in SYMBOLS}, f"lost at frame {position}"
        # Whatever had begun to flow has a hole, unless numbers prove that it has none.
        holes = {(gap.channel, gap.symbol) for gap in world.told(Gap) if gap.reason == "disconnected"}
        channels = CHANNELS[1:] if dialect.counts_trades else CHANNELS
        if position > 25:
            assert holes >= {(channel, symbol) for channel in channels for symbol in SYMBOLS}


def ending(world: World, position: int) -> Line:
    def line(number: int, frame: bytes) -> list[bytes]:
        if number == position:
            world.lose()
            return []
        return [frame]

    return line


# Many faults --------------------------------------------------------------------------------------------------------------

troubles = st.lists(st.sampled_from(["drop", "repeat", "swap", "cut", "lose", "refuse", "silence"]), min_size=1, max_size=12)


@every_dialect
@given(seed=seeds, troubles=troubles)
def test_any_number_of_faults_is_survived_and_shows_no_wrong_book(
    dialect: type[Dialect], seed: int, troubles: list[str]
) -> None:
    world = World(dialect, seed)
    random = Random(seed)
    for trouble in troubles:
        if trouble == "lose":
            world.lose()
        elif trouble == "refuse":
            world.refusals = random.randrange(4)
        elif trouble == "silence":
            world.wait(random.choice((5.0, 40.0)))
        else:
            world.line = at(world.position + random.randrange(6), trouble, random)
        world.run(random.randrange(12))
    world.refusals = 0
    world.recover(10 * PATIENCE)
    if dialect.counts_trades:
        assert world.unaccounted() == {symbol: set() for symbol in SYMBOLS}


# Frames that lie ----------------------------------------------------------------------------------------------------------


def lying(world: World, lie: Callable[[bytes], bytes | None]) -> Line:
    """A line on which each frame comes after what a lie makes of it."""

    def line(position: int, frame: bytes) -> list[bytes]:
        told = lie(frame)
        return [frame] if told is None else [told, frame]

    return line


@every_dialect
def test_values_of_any_wrong_kind_never_get_through(dialect: type[Dialect]) -> None:
    world = World(dialect, 21, truthful=False)
    world.line = lying(world, WrongValues(world.dialect))
    for _ in range(SPELLS):
        world.run(60)
        world.lose()
    world.recover(PATIENCE)
    assert len(world.errors()) > 6 * SPELLS


@every_dialect
def test_bytes_that_are_flipped_never_get_through(dialect: type[Dialect]) -> None:
    world = World(dialect, 22, truthful=False)
    world.line = lying(world, lambda frame: flipped(frame, world.random))
    for _ in range(SPELLS):
        world.run(60)
        world.lose()
    world.recover(PATIENCE)


@every_dialect
@given(frame=st.binary(max_size=40) | st.text(max_size=40).map(str.encode), seed=st.integers(0, 50))
def test_arbitrary_bytes_are_one_error_at_most(dialect: type[Dialect], frame: bytes, seed: int) -> None:
    world = World(dialect, seed)
    world.run(5)
    before = len(world.outputs)
    world.arrive(frame)
    world.arrive(world.dialect.coded(frame))
    told = world.outputs[before:]
    assert all(is_about_a_bad_frame(each) or is_doubt(dialect, each) for each in told)
    assert sum(isinstance(output, AdapterError) for output in told) <= 2
    world.recover(PATIENCE)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@every_dialect
@given(message=values)
def test_arbitrary_json_is_one_error_at_most(dialect: type[Dialect], message: Any) -> None:
    world = World(dialect, 1)
    world.run(5)
    before = len(world.outputs)
    world.arrive(world.dialect.coded(written(message)))
    assert all(is_about_a_bad_frame(each) or is_doubt(dialect, each) for each in world.outputs[before:])


@every_dialect
def test_a_hole_among_trades_is_filled_where_the_venue_has_past_ones(dialect: type[Dialect]) -> None:
    world = World(dialect, 5)
    assert world.adapter.venue.numbers_trades == world.dialect.counts_trades
    world.run(STEPS)
    world.lose()
    missed = world.deal_unheard(4)
    world.recover(PATIENCE)
    for _ in range(20):
        world.wait(1.0)
        world.trade_once_more()
    if world.adapter.venue.history is None:
        assert {trade.source for trade in world.told(Trade)} == {"live"}
        return
    told = [trade for trade in world.told(Trade) if trade.source == "backfill"]
    assert {world.dialect.trade_number(trade.id) for trade in told} >= set(missed)
    for symbol in SYMBOLS:
        of_market = [each for each in world.outputs if isinstance(each, Trade | Gap) and each.symbol == symbol]
        last = max(place for place, each in enumerate(of_market) if isinstance(each, Trade) and each.source == "backfill")
        holes = [each for each in of_market if isinstance(each, Gap) and each.channel == "trades"]
        after = [each for each in of_market[last:] if isinstance(each, Gap) and each.channel == "trades"]
        assert [gap.reason for gap in after] == ["backfilled"]
        assert (holes[0].since, holes[0].until) == (after[0].since, after[0].until), "to its ends"
