"""Every adapter, and the one of a venue that does not exist, against a venue that speaks its dialect over a line with faults."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any, Literal

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.book import BookOptions, BookRule, Change
from adapters.decode import Line as Recorded
from adapters.decode import RawHandler, Symbols, decode_raw, identify
from adapters.effects import Answer, Connect, Fetch, Reconnect, Send
from adapters.errors import AdapterError, FetchError, FrameError, SymbolError, VenueError
from adapters.events import CHANNELS, Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.handler import Handler
from adapters.live import Output
from adapters.subscriptions import State
from tests.adapters.conformance import (
    BEGAN,
    SYMBOLS,
    UNKNOWN,
    Checker,
    Dialect,
    Line,
    ViolationError,
    World,
    at,
    flipped,
    wrong_values,
)
from tests.adapters.conformance_data import DIALECTS, Binance, Kraken, Made
from tests.adapters.test_live import Reader

PATIENCE = 120.0
"""Seconds of venue time within which everything is right again when the line is whole: a few attempts with their pauses."""
STEPS = 25

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
seeds = st.integers(0, 2**32)


def test_every_registered_venue_has_a_dialect() -> None:
    assert set(registry.NAMES) <= DIALECTS.keys(), "write the venue's dialect in conformance_data.py"


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
        (*_, ticker) = [ticker for ticker in world.told(Ticker) if ticker.symbol == market.symbol and ticker.bid]
        assert (ticker.bid, ticker.ask) != (None, None)
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
    requests = [speaker.read(orjson.loads(send.frame)) for send in asked(adapter) if send.frame != "ping"]
    assert {request.operation for request in requests} == {"subscribe"}
    assert len({request.request for request in requests}) == len(requests)
    assert max(len(request.natives) for request in requests) <= adapter.venue.limits.topics_per_frame
    for channel in CHANNELS:
        natives = [native for request in requests if request.channel == channel for native in request.natives]
        assert natives == [adapter.native(symbol) for symbol in symbols]


def asked(adapter: ExchangeAdapter) -> list[Send]:
    """The frames with which an adapter begins, greeted where the venue greets."""
    outputs = adapter.start(0.0)
    adapter.live.now = 0.0
    outputs = adapter.connected(0.0)
    if adapter.venue.greets:
        adapter.live.welcomed()
        outputs += adapter.live.emitted()
    return [output for output in outputs if isinstance(output, Send)]


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
    for each in world.adapter.subscriptions:
        assert each.symbol == UNKNOWN or each.state is State.LIVE
    assert world.told(Gap) == []


@every_dialect
def test_the_instrument_list_rejects_it_as_well(dialect: type[Dialect]) -> None:
    speaker = dialect(Random(0))
    listed = {each.symbol: each for each in speaker.adapter.parse_instruments(speaker.answers()[("instruments",)].encode())}
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
        world._pass(1.0)
        world.step()
    pings = len(world.told(Send)) - before
    assert world.told(Reconnect) == []
    if interval is not None:
        assert pings >= 70 / interval - 1
    world.line = lambda position, frame: []
    for _ in range(120):
        world._pass(1.0)
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
    """But for the hole that is told where no number would ever show it."""

    def cuts(position: int, frame: bytes) -> list[bytes]:
        return [*(frame[:length] for length in range(len(frame))), frame]

    plain, cut = World(dialect, 11), World(dialect, 11, line=cuts)
    for world in (plain, cut):
        world.run(STEPS)
    broken = sum(map(len, plain.arrived))
    assert len(cut.arrived) == broken + len(plain.arrived)
    assert sum(isinstance(error, FrameError) for error in cut.errors()) == broken
    assert told_by(cut) == told_by(plain)


def told_by(world: World) -> list[str]:
    return [repr(output) for output in world.outputs if not is_about_a_bad_frame(output)]


def is_about_a_bad_frame(output: Output) -> bool:
    return isinstance(output, AdapterError) or (isinstance(output, Gap) and output.symbol is None)


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
            world._pass(random.choice((5.0, 40.0)))
        else:
            world.line = at(world._position + random.randrange(6), trouble, random)
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


class WrongValues:
    """Goes through all wrong values of each kind of message, one with each fresh message of that kind."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._counts: dict[str, int] = {}

    def __call__(self, frame: bytes) -> bytes | None:
        try:
            message = orjson.loads(self._dialect.decoded(frame))
        except orjson.JSONDecodeError:
            return None
        kind = shape_of(message)
        position = self._counts.get(kind, 0)
        self._counts[kind] = position + 1
        wrong = [*wrong_values(message)]
        return self._dialect.coded(written(wrong[position * 7919 % len(wrong)]))


def shape_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{shape_of(each)}" for key, each in sorted(value.items())) + "}"
    return f"[{shape_of(value[0])}]" if isinstance(value, list) and value else type(value).__name__


def written(message: Any) -> bytes:
    """As JSON, with numbers that are larger than 64 bits too."""
    return msgspec.json.encode(message) if not has_large(message) else __import__("json").dumps(message).encode()


def has_large(message: Any) -> bool:
    return "1000000000000000000000000000000" in repr(message)


@every_dialect
def test_values_of_any_wrong_kind_never_get_through(dialect: type[Dialect]) -> None:
    world = World(dialect, 21, truthful=False)
    world.line = lying(world, WrongValues(world.dialect))
    for _ in range(20):
        world.run(80)
        world.lose()
    world.recover(PATIENCE)
    assert len(world.errors()) > 300


@every_dialect
def test_bytes_that_are_flipped_never_get_through(dialect: type[Dialect]) -> None:
    world = World(dialect, 22, truthful=False)
    world.line = lying(world, lambda frame: flipped(frame, world.random))
    for _ in range(20):
        world.run(80)
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
    assert all(map(is_about_a_bad_frame, told))
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
    world.arrive(world.dialect.coded(orjson.dumps(message) if not too_large(message) else repr(message).encode()))
    assert all(map(is_about_a_bad_frame, world.outputs[before:]))


def too_large(message: Any) -> bool:
    try:
        orjson.dumps(message)
    except TypeError:
        return True
    return False


# REST ---------------------------------------------------------------------------------------------------------------------


def read_answer(speaker: Dialect, key: tuple[str, ...], body: bytes) -> list[dict[str, Any]]:
    """What one answer says. Raises what the contract allows."""
    if key == ("instruments",):
        return [msgspec.to_builtins(each) for each in speaker.adapter.parse_instruments(body)]
    say = RawHandler(speaker.name, Symbols(speaker.adapter, {}))
    speaker.adapter.parse_answer(key, body, say)
    return say.events


ALLOWED = (AdapterError, msgspec.MsgspecError, orjson.JSONDecodeError, UnicodeDecodeError)


def answers(dialect: type[Dialect]) -> Iterator[tuple[Dialect, tuple[str, ...], str]]:
    speaker = dialect(Random(1))
    return ((speaker, key, body) for key, body in speaker.answers().items())


@every_dialect
def test_every_answer_is_read_and_known_by_its_shape(dialect: type[Dialect]) -> None:
    for speaker, key, body in answers(dialect):
        assert read_answer(speaker, key, body.encode()) or key == ("token",) or key[0] == "view", key
        assert speaker.adapter.shape(orjson.loads(body)) == key[0]
        assert key[0] in {kind for kind, _ in speaker.adapter.endpoints.values()}
        for path, (kind, parameter) in speaker.adapter.endpoints.items():
            if kind == key[0]:
                url = (
                    f"{speaker.adapter.venue.rest}{path}?{parameter}={key[-1]}"
                    if parameter
                    else speaker.adapter.venue.rest + path
                )
                assert identify(speaker.adapter, Recorded("http", None, url, 200, body)) == key


@every_dialect
def test_what_is_asked_of_rest_is_known_by_its_url(dialect: type[Dialect]) -> None:
    world = World(dialect, 1)
    world.run(30)
    fetches = [*world.told(Fetch), world.adapter.instruments_request()]
    for fetch in fetches:
        assert identify(world.dialect.adapter, Recorded("http", None, fetch.request.url, 200, "{}")) == fetch.key
        assert 0 < fetch.weight <= world.adapter.venue.limits.weight.count


@every_dialect
def test_an_answer_that_is_cut_or_empty_is_refused(dialect: type[Dialect]) -> None:
    for speaker, key, body in answers(dialect):
        for length in range(len(body)):
            with pytest.raises(ALLOWED):
                read_answer(speaker, key, body.encode()[:length])


@every_dialect
def test_an_answer_with_values_of_any_wrong_kind_is_read_or_refused(dialect: type[Dialect]) -> None:
    refused = 0
    for speaker, key, body in answers(dialect):
        for wrong in wrong_values(orjson.loads(body)):
            try:
                orjson.dumps(read_answer(speaker, key, written(wrong)))
            except ALLOWED:
                refused += 1
    assert refused > 100


@every_dialect
def test_the_venue_s_own_complaints_are_refused_with_its_words(dialect: type[Dialect]) -> None:
    for speaker, key, _ in answers(dialect):
        for problem in (*speaker.problems(), "", "null", "[]", "{}", "<html><body>502 Bad Gateway</body></html>", "\xff"):
            if (problem == "[]" and key[0] in ("trades", "aggregates")) or (problem == "{}" and speaker.name == "imaginary"):
                continue  # an empty list of trades, or an answer without any part, says nothing and is no complaint
            with pytest.raises(ALLOWED) as caught:
                read_answer(speaker, key, problem.encode("latin-1"))
            if problem in speaker.problems() and isinstance(caught.value, FetchError):
                words = orjson.loads(problem)
                assert any(str(word) in str(caught.value) for word in _leaves(words))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    elif value:
        yield value


@every_dialect
def test_a_book_comes_back_whatever_rest_answered_before(dialect: type[Dialect]) -> None:
    bodies = [body for _, key, body in answers(dialect) if key[0] == "book"]
    if not bodies:
        assert dialect.on_socket
        return
    world = World(dialect, 9, truthful=False)
    world.run(10)
    for wrong in wrong_values(orjson.loads(bodies[0])):
        for native in world.dialect.markets:
            world._take(world.adapter.fetched(("book", native), Answer(200, written(wrong), world.micros), world.now))
        world.run(1)
    world.lose()
    world.recover(PATIENCE)


# Recordings ---------------------------------------------------------------------------------------------------------------


@every_dialect
def test_a_recording_of_it_decodes_to_the_same_trades(dialect: type[Dialect]) -> None:
    world = World(dialect, 6)
    world.run(60)
    lines = [Recorded("recv", BEGAN / 1e6, None, None, None, frame) for frame in world.arrived]
    decoded = [event for each in decode_raw(world.dialect.adapter, lines) for event in each.events]
    ids = [(event["symbol"], event["id"]) for event in decoded if event["type"] == "trade" and "snapshot" not in event]
    assert ids == [(trade.symbol, trade.id) for trade in world.told(Trade)]
    assert {event["exchange"] for event in decoded} == {world.adapter.venue.name}


# The facts ----------------------------------------------------------------------------------------------------------------


@every_dialect
def test_the_facts_of_a_venue_agree_with_each_other(dialect: type[Dialect]) -> None:
    venue = dialect(Random(0)).adapter.venue
    assert venue.name == dialect.name
    assert venue.websocket.startswith("wss://")
    assert venue.rest.startswith("https://")
    assert not venue.rest.endswith("/")
    assert list(venue.depths) == sorted(set(venue.depths))
    assert all(0 < count <= venue.limits.topics_per_connection for count in venue.per_connection.values())
    assert venue.per_connection.keys() == set(CHANNELS)
    assert venue.limits.topics_per_frame <= venue.limits.topics_per_connection
    assert venue.keepalive.ping is None or venue.keepalive.ping < venue.keepalive.silence
    assert venue.lifetime is None or venue.lifetime > venue.keepalive.silence
    assert venue.ack_within > 0
    assert all(link.startswith("https://") for link in venue.documentation)
    assert bool(venue.documentation) == (dialect is not Made)
    assert all(fact.endswith(".") for fact in venue.evidence)
    assert venue.book.checksum is None or venue.book.source == "socket"


# The suite itself: a fault of each kind must be seen ----------------------------------------------------------------------


class Deaf(registry.adapter("binance")):  # type: ignore[misc]
    """Takes every change as the next one."""

    venue = replace(registry.adapter("binance").venue, book=BookRule(chain=None, source="rest", limited=True))


class Unchecked(registry.adapter("kraken")):  # type: ignore[misc]
    venue = replace(
        registry.adapter("kraken").venue, book=BookRule(chain=None, source="socket", truncates=True, crossed_is_error=False)
    )


class Untruncated(registry.adapter("kraken")):  # type: ignore[misc]
    venue = replace(registry.adapter("kraken").venue, book=BookRule(chain=None, source="socket", crossed_is_error=False))


class Forgetful(registry.adapter("binance")):  # type: ignore[misc]
    """Tells trades whose numbers say nothing."""

    def parse(self, frame: bytes, say: Handler) -> None:
        super().parse(frame, Unnumbered(say))


class Unnumbered:
    def __init__(self, say: Handler) -> None:
        self._say = say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._say, name)

    def trade(self, native: str, number: int | str, *rest: Any) -> None:
        self._say.trade(native, str(number), *rest)


class Careless(registry.adapter("binance")):  # type: ignore[misc]
    """Reads frames as if none could be wrong."""

    def parse(self, frame: bytes, say: Handler) -> None:
        message = orjson.loads(frame)
        if message.get("data", {}).get("e") == "depthUpdate":
            data = message["data"]
            say.change(data["s"], Change([], [], data["U"], data["u"], None, data["E"] * 1000))
        else:
            super().parse(frame, say)


class Unlinked(DIALECTS["imaginary"](Random(0)).adapter):  # type: ignore[misc]
    """Does not count the messages of its connection."""

    def _is_old(self, number: int, say: Handler) -> bool:
        return False


class Clinging(DIALECTS["imaginary"](Random(0)).adapter):  # type: ignore[misc]
    """Keeps the channel numbers of the connection before."""

    def connect(self) -> Any:
        known = dict(self._open)
        connect = super().connect()
        self._open = known
        return connect

    def unsubscribe(self, channel: Any, natives: list[str], request: str) -> None:
        return None

    def parse(self, frame: bytes, say: Handler) -> None:
        before = dict(self._open)
        super().parse(frame, say)
        self._open = {**self._open, **before}


def with_adapter(dialect: type[Dialect], adapter: type[ExchangeAdapter]) -> type[Dialect]:
    return type(dialect.__name__, (dialect,), {"adapter": adapter})


@pytest.mark.parametrize(
    ("dialect", "fault"),
    [
        (with_adapter(Binance, Deaf), "drop"),
        (with_adapter(Kraken, Unchecked), "drop"),
        (with_adapter(Binance, Forgetful), "drop"),
        (with_adapter(Binance, Careless), "repeat"),
        (with_adapter(Made, Unlinked), "drop"),
    ],
    ids=["no sequence", "no checksum", "no trade numbers", "no validation", "no count of messages"],
)
def test_the_suite_sees_an_adapter_that_does_not_check(dialect: type[Dialect], fault: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        test_one_fault_at_any_frame_is_survived_and_shows_no_wrong_book(dialect, fault)


def test_the_suite_sees_an_adapter_that_keeps_what_fell_out_of_a_window() -> None:
    world = World(with_adapter(Kraken, Untruncated), 3)
    with pytest.raises(ViolationError, match="never was"):
        world.run(400)


def test_the_suite_sees_an_adapter_that_remembers_a_lost_connection() -> None:
    with pytest.raises(AssertionError):
        test_the_connection_may_end_at_any_frame(with_adapter(Made, Clinging))


def good() -> tuple[Checker, World]:
    world = World(Binance, 1)
    world.run(20)
    return world.checker, world


def replaced(kind: type[Any], **fields: Any) -> Callable[[World], Output]:
    """An output that the world really gave, with other fields."""
    return lambda world: msgspec.structs.replace(world.told(kind)[-1], **fields)


def trade(**fields: Any) -> Callable[[World], Output]:
    return replaced(Trade, id="999999", **fields)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(lambda world: "a string", id="no output"),
        pytest.param(lambda world: FrameError(""), id="an error without a word"),
        pytest.param(lambda world: Send(""), id="an empty frame"),
        pytest.param(lambda world: Connect("https://x"), id="no websocket"),
        pytest.param(lambda world: Reconnect(""), id="no reason"),
        pytest.param(replaced(Book, exchange="other"), id="another exchange"),
        pytest.param(replaced(Book, symbol="DOGE/USDT"), id="a market nobody wanted"),
        pytest.param(replaced(Book, symbol=None), id="no market"),
        pytest.param(replaced(Book, received=2**62), id="received in the future"),
        pytest.param(replaced(Book, received=1.5), id="a time that is no int"),
        pytest.param(replaced(Book, timestamp=1_700_000_000_000), id="milliseconds"),
        pytest.param(replaced(Book, timestamp=-1), id="before all time"),
        pytest.param(replaced(Book, bids=[("1", "1"), ("2", "1")]), id="worst first"),
        pytest.param(replaced(Book, bids=[("1", "1"), ("1.0", "1")]), id="a price twice"),
        pytest.param(replaced(Book, bids=[("100000", "1")]), id="crossed"),
        pytest.param(replaced(Book, bids=[("1", "0.00")]), id="a level of nothing"),
        pytest.param(replaced(Book, bids=[("1e1", "1")]), id="an exponent in a book"),
        pytest.param(replaced(Book, bids=[]), id="a side left out"),
        pytest.param(replaced(Book, sequence=1), id="another sequence"),
        pytest.param(lambda world: world.told(Trade)[0], id="a trade told twice"),
        pytest.param(replaced(Trade, id=""), id="no id"),
        pytest.param(trade(), id="a trade that never was"),
        pytest.param(trade(price="1e2"), id="an exponent"),
        pytest.param(trade(price="-1"), id="a sign"),
        pytest.param(trade(amount="٣"), id="digits of another script"),
        pytest.param(trade(amount=""), id="no number"),
        pytest.param(trade(side="bid"), id="no side"),
        pytest.param(trade(source="backfill"), id="no live trade"),
        pytest.param(replaced(Ticker, bid="x"), id="a ticker that is no number"),
        pytest.param(lambda world: gap(first_missing="5"), id="half a range"),
        pytest.param(lambda world: gap(first_missing="5", last_missing="4"), id="a range that ends before it begins"),
        pytest.param(lambda world: gap(since=10, until=9), id="a hole that ends before it begins"),
        pytest.param(lambda world: gap(channel="prices"), id="a hole in nothing"),
        pytest.param(
            lambda world: BookDelta("binance", "BTC/USDT", None, BEGAN, [], [], 5, 4), id="a change that does not follow"
        ),
    ],
)
def test_the_checker_rejects(output: Callable[[World], Output]) -> None:
    checker, world = good()
    with pytest.raises(ViolationError):
        checker.see(output(world), world.micros)


def gap(**fields: Any) -> Gap:
    return msgspec.structs.replace(Gap("binance", "BTC/USDT", None, BEGAN, "trades", "sequence"), **fields)


@pytest.mark.parametrize("mode", ["views", "deltas"])
def test_the_checker_takes_what_is_right(mode: Literal["views", "deltas"]) -> None:
    world = World(Binance, 1, mode=mode)
    world.run(20)
    world.checker.see(gap(first_missing="4", last_missing="5", since=9, until=9), world.micros)
