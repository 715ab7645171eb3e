"""The adapter as a machine: what each input does in each state, and that nothing a venue says can stop it."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.book import BookOptions, BookRule
from adapters.book_sync import BookState
from adapters.effects import Answer, Connect, Effect, Fetch, Reconnect, Request, Send
from adapters.errors import AdapterError, FetchError, FrameError, NumberError, SymbolError, VenueError
from adapters.events import Book, Gap, Status, Trade
from adapters.handler import Handler
from adapters.live import Output
from adapters.venue import Keepalive
from tests.adapters.driving import of
from tests.adapters.puppet import (
    EPOCH,
    VENUE,
    Puppet,
    Session,
    Wanted,
    acked,
    asked,
    change,
    errors,
    puppet,
    refused,
    snapshot,
    ticker,
    trade,
)

TRADES: Wanted = ("trades", "BTC/USDT")
BOOK: Wanted = ("orderbooks", "BTC/USDT")
TICKER: Wanted = ("tickers", "BTC/USDT")
SOCKET = puppet(book=BookRule(chain="previous", source="socket"))


class TestConnecting:
    def test_start_asks_for_a_connection(self) -> None:
        assert Session(TRADES).adapter.start(0.0) == [Connect(VENUE.websocket)]

    def test_the_connection_is_told(self) -> None:
        (status,) = of(Session(TRADES).open(), Status)
        assert (status.scope, status.symbol, status.state, status.detail) == ("connection", None, "connected", VENUE.websocket)

    def test_a_connection_that_needs_a_token_asks_for_that_first(self) -> None:
        adapter = WithToken([TRADES])
        (fetch,) = adapter.start(0.0)
        assert isinstance(fetch, Fetch)
        assert adapter.fetched(fetch.key, Answer(200, b'{"token":"abc"}', EPOCH), 1.0) == [Connect("wss://puppet.example/abc")]

    def test_a_token_that_is_refused_is_an_error_and_another_start(self) -> None:
        for answer in (FetchError("HTTP 403"), Answer(200, b'{"error":"busy"}', EPOCH), Answer(200, b"<html>", EPOCH)):
            adapter = WithToken([TRADES])
            adapter.start(0.0)
            error, reconnect = adapter.fetched(("token",), answer, 1.0)
            assert isinstance(error, FetchError)
            assert isinstance(reconnect, Reconnect)

    def test_a_venue_that_greets_and_does_not_is_left(self) -> None:
        session = Session(TRADES, adapter=puppet(greets=True))
        session.open()
        (reconnect,) = of(session.wait(VENUE.ack_within + 2), Reconnect)
        assert "welcome" in reconnect.reason

    def test_a_welcome_in_time_is_enough(self) -> None:
        session = Session(TRADES, adapter=puppet(greets=True))
        session.open()
        assert len(asked(session.say(("welcomed", {})), "subscribe")) == 1
        assert of(session.wait(VENUE.ack_within + 2), Reconnect) == []

    def test_a_session_of_limited_life_says_when_it_ends(self) -> None:
        session = Session(TRADES, adapter=puppet(lifetime=3600.0))
        assert session.adapter.ends_at == float("inf")
        session.open()
        assert session.adapter.ends_at == session.now + 3600.0
        session.lose()
        assert session.adapter.ends_at == float("inf")

    def test_a_session_without_an_end_says_so(self) -> None:
        session = Session(TRADES)
        session.open()
        assert session.adapter.ends_at == float("inf")

    def test_a_view_deeper_than_the_venue_keeps_is_refused(self) -> None:
        assert Puppet([BOOK], BookOptions(depth=11)).depth == 100
        with pytest.raises(SymbolError, match="at most 100 levels"):
            Puppet([BOOK], BookOptions(depth=101))

    def test_ticks_are_wanted_often_enough_for_the_views(self) -> None:
        every = [
            Puppet([BOOK], BookOptions(depth=10, interval=interval)).tick_every for interval in (0.0, 0.02, 0.1, 1.0, 60.0)
        ]
        assert every == [0.1, 0.01, 0.05, 0.1, 0.1]


class WithToken(Puppet):
    def connect(self) -> Effect:
        return Fetch(("token",), Request(f"{VENUE.rest}/token", "POST"))

    @classmethod
    def parse_answer(cls, key: tuple[str, ...], body: bytes, say: Handler) -> None:
        if key != ("token",):
            super().parse_answer(key, body, say)
            return
        answer = orjson.loads(body)
        if "error" in answer:
            raise FetchError(answer["error"])
        say.effect(Connect(f"wss://puppet.example/{answer['token']}"))


class TestFrames:
    @pytest.mark.parametrize("frame", [b"", b"{", b"\xff\xfe", b'["\xff"]', b"[", b'[["broken", {}]]'])
    def test_a_frame_that_cannot_be_read_is_one_error_and_the_stream_goes_on(self, frame: bytes) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        (error,) = of(session.adapter.receive(frame, EPOCH), AdapterError)
        assert isinstance(error, FrameError)
        assert (error.scope, error.retry) == ("frame", False)
        assert len(of(session.say(trade()), Trade)) == 1

    def test_of_a_packed_frame_what_came_before_the_damage_is_kept(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        first, second, error = session.say(trade(1), trade(2), ("broken", {}), trade(3))
        assert [event.id for event in (first, second) if isinstance(event, Trade)] == ["1", "2"]
        assert isinstance(error, FrameError)
        assert [gap.first_missing for gap in of(session.say(trade(4)), Gap)] == ["3"], "and what came after it is told missing"

    @pytest.mark.parametrize(
        "frame", [b"{", b'[["trade", {"native": "BTCUSDT", "number": "z", "price": "x", "amount": "1", ', b"\xff"]
    )
    def test_where_no_number_would_show_it_the_hole_is_told_at_once(self, frame: bytes) -> None:
        session = Session(TRADES, ("trades", "ETH/USDT"))
        session.open_and_ack()
        session.say(trade("a"))
        heard = session.received
        (hole,) = of(session.adapter.receive(frame, heard + 5), Gap)
        assert (hole.symbol, hole.channel, hole.reason) == (None, "trades", "unreadable frame")
        assert (hole.since, hole.until) == (heard, heard + 5)

    def test_it_is_one_since_the_acknowledgement_where_nothing_came_yet(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        session.say(trade("a"))
        session.lose()
        session.reopen()
        acknowledged = session.received
        (hole,) = of(session.adapter.receive(b"{", acknowledged + 5), Gap)
        assert (hole.since, hole.until, hole.reason) == (acknowledged, acknowledged + 5, "unreadable frame")

    def test_before_it_was_subscribed_nothing_is_missing(self) -> None:
        session = Session(TRADES)
        session.open()
        assert of(session.adapter.receive(b"{", session.received), Gap) == []

    def test_where_numbers_will_show_it_no_hole_is_told_before(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        session.say(trade(1))
        assert of(session.adapter.receive(b"{", session.received), Gap) == []

    @pytest.mark.parametrize(("chain", "reasons"), [("range", []), ("rising", ["malformed"])])
    def test_a_book_whose_chain_would_not_show_it_is_in_doubt(self, chain: Any, reasons: list[str]) -> None:
        session = Session(BOOK, adapter=puppet(book=BookRule(chain=chain, source="rest")))
        session.open_and_ack()
        session.say(change(9, 9))
        session.answer(snapshot(10))
        assert session.book_state() is BookState.SYNCED
        assert [gap.reason for gap in of(session.adapter.receive(b"{", session.received), Gap)] == reasons

    def test_what_was_kept_for_a_book_has_a_hole_then(self) -> None:
        session = Session(BOOK, adapter=puppet(book=BookRule(chain="rising", source="rest")))
        session.open_and_ack()
        session.say(change(9, 9))
        session.adapter.receive(b"{", session.received)
        session.answer(snapshot(10))
        assert session.book_state() is BookState.WAITING

    def test_a_bad_number_names_itself(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        (error,) = of(session.say(trade(1, price="1,5")), AdapterError)
        assert isinstance(error, NumberError)
        assert "1,5" in str(error)

    def test_a_long_frame_is_not_written_out_in_an_error(self) -> None:
        session = Session(TRADES)
        (error,) = session.adapter.receive(b"{" + b"x" * 100_000, EPOCH)
        assert len(str(error)) < 400

    def test_effects_and_errors_of_the_venue_pass_through_in_order(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        outputs = session.say(trade(1), refused("maintenance at noon"), trade(2))
        assert [type(output) for output in outputs] == [Trade, VenueError, Trade]


class TestKeepalive:
    def test_the_client_s_ping_goes_out_at_its_interval(self) -> None:
        session = Session(TRADES, adapter=puppet(keepalive=Keepalive(ping=20.0, silence=1e9)))
        session.open_and_ack()
        pings = [send for send in of(session.wait(100.0), Send) if send.frame == "ping"]
        assert len(pings) in (4, 5)

    def test_a_venue_that_pings_itself_gets_none(self) -> None:
        session = Session(TRADES, adapter=puppet(keepalive=Keepalive(ping=None, silence=1e9)))
        session.open_and_ack()
        assert of(session.wait(100.0), Send) == []

    def test_silence_is_a_dead_connection(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        session.say(trade())
        assert of(session.wait(VENUE.keepalive.silence - 1), Reconnect) == []
        (reconnect,) = of(session.wait(3.0), Reconnect)
        assert reconnect.reason == "nothing heard for 30 s"
        assert of(session.wait(5.0), Reconnect) == [], "said once"

    @pytest.mark.parametrize("frame", [b'[["acked", {"request": "x"}]]', b"{", b"[]"])
    def test_anything_heard_is_a_sign_of_life(self, frame: bytes) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        for _ in range(10):
            session.adapter.receive(frame, session.received)
            assert of(session.wait(10.0), Reconnect) == []

    def test_a_ping_of_the_protocol_is_a_sign_of_life(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        for _ in range(10):
            session.adapter.heard(session.received)
            assert of(session.wait(10.0), Reconnect) == []

    def test_a_new_connection_has_its_own_silence(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        session.wait(29.0)
        session.lose()
        session.wait(100.0)
        session.open_and_ack()
        assert of(session.wait(29.0), Reconnect) == []


class TestBookRequests:
    def test_a_book_is_asked_for_once_and_again_only_past_its_deadline(self) -> None:
        session = Session(BOOK)
        session.open_and_ack()
        outputs = [output for number in range(10, 200) for output in session.say(change(number)) + session.wait(0.05)]
        assert len(of(outputs, Fetch)) == 1
        assert len(of(session.wait(12.0), Fetch)) == 1

    def test_every_book_is_asked_for_at_its_first_change(self) -> None:
        session = Session(BOOK, ("orderbooks", "ETH/USDT"))
        session.open_and_ack()
        assert [fetch.key for fetch in of(session.say(change(10, market="ETHUSDT")), Fetch)] == [("book", "ETHUSDT")]
        assert [fetch.key for fetch in of(session.say(change(10)), Fetch)] == [("book", "BTCUSDT")]

    @pytest.mark.parametrize(
        "answer",
        [
            FetchError("HTTP 500"),
            Answer(200, b'{"error":"busy"}', EPOCH),
            Answer(200, b"", EPOCH),
            Answer(200, b'{"bids":[["x","1"]],"sequence":10}', EPOCH),
            Answer(200, b'{"bids":[],"asks":[],"sequence":3}', EPOCH),
        ],
        ids=["refused", "error", "empty", "malformed", "stale"],
    )
    def test_an_answer_that_will_not_do_is_an_error_and_asked_for_again_soon(self, answer: Answer | FetchError) -> None:
        session = Session(BOOK)
        session.open_and_ack()
        session.say(change(10))
        outputs = session.adapter.fetched(("book", "BTCUSDT"), answer, session.now)
        assert of(outputs, Fetch) == [], "not at once"
        assert of(outputs, Book) == []
        assert len(of(session.wait(4.0), Fetch)) == 1
        assert len(of(session.answer(snapshot(10)), Book)) == 1

    def test_a_venue_whose_rest_is_down_for_hours_is_not_stormed_and_not_given_up(self) -> None:
        markets = [f"COIN{number}" for number in range(10)]
        session = Session(
            *(("orderbooks", f"{market}/USDT") for market in markets), adapter=puppet(keepalive=Keepalive(None, 1e9))
        )
        session.open_and_ack()
        session.say(*(change(10, market=f"{market}USDT") for market in markets))
        times = []
        for _ in range(2 * 3600):
            for fetch in of(session.wait(1.0, 1.0), Fetch):
                times.append(session.now)
                session.fail(fetch.key[1])
        late = [time for time in times if time > session.now - 3600]
        assert 3600 / 100 * len(markets) < len(late) < 3600 / 25 * len(markets)
        assert max(late.count(time) for time in late) <= 4, "books spread their attempts"

    def test_a_rejected_book_is_not_asked_for(self) -> None:
        session = Session(BOOK, TRADES)
        session.open()
        session.say(change(10), refused("delisted", channel="orderbooks", native="BTCUSDT"))
        assert of(session.fail() + session.wait(300.0), Fetch) == []

    def test_a_book_may_be_asked_for_by_a_frame_of_its_own(self) -> None:
        class Asking(Puppet):
            def book_request(self, native: str) -> Send:
                return Send(f"book of {native}")

        session = Session(BOOK, adapter=Asking)
        session.open_and_ack()
        assert of(session.say(change(10)), Send) == [Send("book of BTCUSDT")]
        assert of(session.wait(12.0), Send)[-1] == Send("book of BTCUSDT"), "and again where none comes"
        (view,) = of(session.say(change(11, bids=[["99", "5"]]), snapshot(10)), Book)
        assert (view.sequence, view.bids[0]) == (11, ("99", "5"))

    def test_on_the_socket_a_snapshot_that_does_not_come_is_asked_for_by_subscribing_anew(self) -> None:
        session = Session(BOOK, adapter=SOCKET)
        session.open_and_ack()
        assert asked(session.wait(9.0), "subscribe") == []
        outputs = session.wait(2.0)
        assert len(asked(outputs, "unsubscribe")) == len(asked(outputs, "subscribe")) == 1


class TestLosing:
    """The connection may end in every state."""

    def states(self) -> dict[str, Session]:
        sessions = {name: Session(TRADES, BOOK, TICKER) for name in ("new", "started", "open", "acked", "waiting", "asked")}
        sessions |= {name: Session(TRADES, BOOK, TICKER) for name in ("synced", "recovering", "rejected", "lost")}
        for name, session in sessions.items():
            if name == "started":
                session.adapter.start(session.now)
            elif name == "open":
                session.open()
            elif name != "new":
                session.open_and_ack()
        for name in ("asked", "synced", "recovering", "lost"):
            sessions[name].say(trade(1), ticker(), change(10))
        for name in ("synced", "recovering", "lost"):
            sessions[name].answer(snapshot(10))
        sessions["recovering"].say(change(20))
        sessions["rejected"].say(refused("no", channel="orderbooks", native="BTCUSDT"))
        sessions["lost"].lose()
        return sessions

    def test_from_every_state_a_reconnect_brings_everything_back(self) -> None:
        for name, session in self.states().items():
            session.lose("reset by peer")
            session.reopen()
            session.say(trade(50), ticker())
            assert session.state().value == session.state("tickers").value == "live", name
            if name != "rejected":
                (view,) = of(session.sync(), Book)
                assert view.sequence == 10, name

    def test_while_it_is_gone_time_asks_for_nothing(self) -> None:
        for name, session in self.states().items():
            session.lose()
            assert session.wait(120.0, 1.0) == [], name

    def test_a_loss_is_told_once_and_only_of_an_open_connection(self) -> None:
        for name, session in self.states().items():
            told = [status.state for status in of(session.lose("bye") + session.lose("bye"), Status)]
            assert told == ([] if name in ("new", "started", "lost") else ["lost"]), name

    def test_the_reason_is_told(self) -> None:
        session = Session(TRADES)
        session.open()
        (status,) = of(session.lose("reset by peer"), Status)
        assert status.detail == "1006 reset by peer"

    def test_an_answer_to_a_question_of_the_lost_connection_says_nothing_about_the_new_one(self) -> None:
        session = Session(BOOK)
        session.open_and_ack()
        session.say(change(10))
        session.lose()
        assert session.answer(snapshot(10)) == [], "while there is no connection"
        assert session.fail() == []
        assert of(session.reopen(), Gap) == []
        assert session.answer(snapshot(10)) == [], "on a connection that has not asked yet"
        assert session.book_state() is BookState.WAITING
        session.say(change(20))
        outputs = session.answer(snapshot(20))
        assert [gap.reason for gap in of(outputs, Gap)] == ["disconnected"], "the hole lasts until the book is there again"
        (view,) = of(outputs, Book)
        assert view.sequence == 20

    def test_nothing_of_the_lost_connection_s_book_is_left(self) -> None:
        session = Session(BOOK)
        session.open_and_ack()
        session.sync()
        session.lose()
        session.reopen()
        outputs = session.say(change(30)) + session.answer(snapshot(30, bids=[["50", "1"]]))
        (view,) = of(outputs, Book)
        assert view.bids == [("50", "1")]


# The same inputs, the same outputs ---------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.integers(1, 30)),
        st.tuples(st.just("change"), st.integers(1, 30)),
        st.tuples(st.just("snapshot"), st.integers(1, 30)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 5.0, 40.0])),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("bytes"), st.binary(max_size=6)),
        st.tuples(st.just("bad"), st.sampled_from(["x", "", "-1", "1e9"])),
        st.tuples(st.just("refuse"), st.just(0)),
    ),
    max_size=40,
)


def play(session: Session, played: list[tuple[str, Any]]) -> list[Output]:
    outputs = session.open_and_ack()
    for kind, value in played:
        match kind:
            case "trade":
                outputs += session.say(trade(value))
            case "change":
                outputs += session.say(change(value, bids=[["99", str(value)]]))
            case "snapshot":
                outputs += session.answer(snapshot(value))
            case "wait":
                outputs += session.wait(value, value)
            case "lose":
                outputs += session.lose() + session.reopen()
            case "fail":
                outputs += session.fail()
            case "bytes":
                outputs += session.adapter.receive(value, session.received)
            case "bad":
                outputs += session.say(trade(1, price=value), change(1, bids=[[value, value]]))
            case "refuse":
                outputs += session.say(refused("no", native="BTCUSDT"), acked("1"))
    return outputs


@pytest.mark.parametrize("mode", ["views", "deltas"])
@given(played=steps)
def test_the_same_inputs_give_the_same_outputs(mode: str, played: list[tuple[str, Any]]) -> None:
    runs = [play(Session(TRADES, BOOK, TICKER, mode=mode), played) for _ in range(2)]
    assert list(map(repr, runs[0])) == list(map(repr, runs[1]))


@given(played=steps, more=steps)
def test_two_adapters_share_nothing(played: list[tuple[str, Any]], more: list[tuple[str, Any]]) -> None:
    alone = play(Session(TRADES, BOOK, TICKER), played)
    session = Session(TRADES, BOOK, TICKER)
    play(Session(TRADES, BOOK, TICKER), more)
    beside = play(session, played)
    assert list(map(repr, alone)) == list(map(repr, beside))


@given(played=steps)
def test_outputs_belong_to_whoever_took_them(played: list[tuple[str, Any]]) -> None:
    """What was returned is never changed afterwards: a slow reader sees what was true when it was told."""
    session = Session(TRADES, BOOK, TICKER)
    outputs = play(session, played)
    before = [repr(output) for output in outputs]
    play(session, [*played, ("change", 31), ("snapshot", 32)])
    assert [repr(output) for output in outputs] == before


def test_errors_say_what_they_touch_and_whether_trying_again_helps() -> None:
    kinds = {FrameError: ("frame", False), NumberError: ("frame", False), VenueError: ("connection", True)}
    kinds |= {FetchError: ("book", True), SymbolError: ("symbol", False)}
    assert {kind: (kind.scope, kind.retry) for kind in kinds} == kinds
    assert errors([FrameError("x")])
