"""What was asked of a venue and what became of it; only a missing acknowledgement is asked for again."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.adapter import SLOWEST_ASK
from adapters.book_sync import BookState
from adapters.effects import Fetch
from adapters.events import Book, Gap, Status, Trade
from adapters.subscriptions import QUIET_AFTER, State, Subscription, Subscriptions
from adapters.symbols import Instrument
from adapters.venue import Keepalive
from tests.adapters.driving import of
from tests.adapters.puppet import VENUE, Session, Wanted, acked, asked, change, puppet, refused, ticker, trade

BTC: Wanted = ("trades", "BTC/USDT")
ETH: Wanted = ("trades", "ETH/USDT")


def instrument(symbol: str, *, active: bool = True, native: str | None = None) -> Instrument:
    return Instrument(symbol, native or symbol.replace("/", ""), active, "TRADING" if active else "HALT")


class TestAsking:
    def test_nothing_is_asked_before_the_connection_is_open(self) -> None:
        session = Session(BTC)
        assert asked(session.adapter.start(session.now), "subscribe") == []
        assert len(asked(session.adapter.connected(session.now), "subscribe")) == 1

    def test_nothing_is_asked_before_a_welcome_where_the_venue_greets(self) -> None:
        session = Session(BTC, adapter=puppet(greets=True))
        assert asked(session.open(), "subscribe") == []
        assert len(asked(session.say(("welcomed", {})), "subscribe")) == 1

    def test_a_venue_that_takes_no_request_at_once_is_given_time_on_each_connection(self) -> None:
        session = Session(BTC, adapter=puppet(asked_after=1.0))
        for _ in range(2):
            assert asked(session.open() + session.wait(0.9), "subscribe") == []
            assert len(asked(session.wait(0.2) + session.wait(3.0), "subscribe")) == 1
            session.lose()
            session.wait(2.0)
        session.open()
        session.lose()
        assert asked(session.wait(3.0) + session.open(), "subscribe") == [], (
            "nor is it asked for what it was to be asked before"
        )

    def test_a_frame_asks_for_one_channel_and_no_more_than_the_venue_takes(self) -> None:
        wanted: list[Wanted] = [BTC, ETH, ("trades", "SOL/USDT"), ("orderbooks", "BTC/USDT"), ("tickers", "BTC/USDT")]
        frames = asked(Session(*wanted).open(), "subscribe")
        assert [(channel, natives) for _, channel, natives, _ in frames] == [
            ("trades", ["BTCUSDT", "ETHUSDT"]),
            ("trades", ["SOLUSDT"]),
            ("orderbooks", ["BTCUSDT"]),
            ("tickers", ["BTCUSDT"]),
        ]
        assert len({request for _, _, _, request in frames}) == 4

    def test_the_venue_s_own_name_goes_before_the_rule(self) -> None:
        session = Session(BTC, instruments={"BTC/USDT": instrument("BTC/USDT", native="XBTUSDT")})
        assert asked(session.open(), "subscribe")[0][2] == ["XBTUSDT"]


class TestLife:
    def test_requested_then_acked_then_live(self) -> None:
        session = Session(BTC)
        (_, _, _, request), *_ = asked(session.open(), "subscribe")
        assert session.state() is State.REQUESTED
        session.say(acked(request))
        assert session.state() is State.ACKED
        session.say(trade())
        assert session.state() is State.LIVE

    def test_an_ack_may_name_the_market_alone(self) -> None:
        session = Session(BTC, ETH)
        session.open()
        session.say(acked(channel="trades", native="ETHUSDT"))
        assert (session.state(), session.state(market="ETHUSDT")) == (State.REQUESTED, State.ACKED)

    def test_an_ack_that_names_no_channel_is_about_the_request_it_names(self) -> None:
        session = Session(BTC, ("tickers", "BTC/USDT"))
        (_, _, _, request), *_ = asked(session.open(), "subscribe")
        session.say(acked(request, native="BTCUSDT"))
        assert (session.state(), session.state("tickers")) == (State.ACKED, State.REQUESTED)

    def test_data_stands_for_an_ack_that_never_came(self) -> None:
        session = Session(BTC)
        session.open()
        session.say(trade())
        assert session.state() is State.LIVE
        assert asked(session.wait(600.0, 1.0), "subscribe") == []

    def test_where_the_venue_acknowledges_nothing_it_counts_as_acked(self) -> None:
        session = Session(BTC, adapter=puppet(acks=False))
        session.open()
        assert session.state() is State.ACKED

    def test_without_data_it_is_quiet_after_a_while_and_that_is_no_fault(self) -> None:
        session = Session(BTC)
        session.open_and_ack()
        session.wait(QUIET_AFTER - 1.5)
        assert session.state() is State.ACKED
        outputs = session.wait(3.0)
        assert session.state() is State.QUIET
        assert asked(outputs, "subscribe") == []
        session.say(trade())
        assert session.state() is State.LIVE

    def test_a_market_once_live_is_never_quiet(self) -> None:
        session = Session(BTC)
        session.open_and_ack()
        session.say(trade())
        session.wait(2 * QUIET_AFTER)
        assert session.state() is State.LIVE

    def test_data_nobody_asked_for_is_counted_and_changes_nothing(self) -> None:
        session = Session(BTC)
        session.open_and_ack()
        assert session.say(trade(market="DOGEUSDT"), ticker(market="BTCUSDT")) == []
        assert session.adapter.totals()["stray"] == 2

    def test_a_connection_is_settled_when_every_subscription_is_answered(self) -> None:
        session = Session(BTC, ETH)
        assert not session.adapter.is_settled
        session.open()
        session.say(acked(channel="trades", native="BTCUSDT"))
        assert not session.adapter.is_settled
        session.say(refused("no such pair", channel="trades", native="ETHUSDT"))
        assert session.adapter.is_settled
        session.lose()
        assert not session.adapter.is_settled


class TestRefusals:
    def test_a_refused_pair_is_rejected_once_with_the_reason_and_the_rest_flows_on(self) -> None:
        session = Session(BTC, ETH)
        session.open()
        outputs = session.say(
            refused("unknown symbol", channel="trades", native="ETHUSDT"), acked(channel="trades", native="BTCUSDT")
        )
        (status,) = of(outputs, Status)
        assert (status.scope, status.symbol, status.state) == ("subscription", "ETH/USDT", "rejected")
        assert status.detail == "trades: unknown symbol"
        assert of(session.say(refused("unknown symbol", channel="trades", native="ETHUSDT")), Status) == []
        assert session.subscription(market="ETHUSDT").reason == "unknown symbol"
        assert session.say(trade())

    def test_a_refused_request_rejects_all_that_it_asked_for(self) -> None:
        session = Session(BTC, ETH, ("tickers", "BTC/USDT"))
        (_, _, _, request), *_ = asked(session.open(), "subscribe")
        session.say(refused("malformed", request=request))
        assert (session.state(), session.state(market="ETHUSDT")) == (State.REJECTED, State.REJECTED)
        assert session.state("tickers") is State.REQUESTED

    def test_a_refusal_that_names_nothing_is_an_error_of_the_venue(self) -> None:
        session = Session(BTC)
        session.open()
        (error,) = session.say(refused("too fast"))
        assert (type(error).__name__, str(error)) == ("VenueError", "too fast")
        assert session.state() is State.REQUESTED

    def test_a_rejected_pair_is_not_asked_for_again(self) -> None:
        session = Session(BTC, ETH)
        session.open()
        session.say(refused("no", channel="trades", native="ETHUSDT"), acked(channel="trades", native="BTCUSDT"))
        assert asked(session.wait(600.0, 1.0), "subscribe") == []
        session.lose()
        (frame,) = asked(session.open(), "subscribe")
        assert frame[2] == ["BTCUSDT"]

    def test_the_instrument_list_rejects_what_the_venue_does_not_list_or_trade(self) -> None:
        listed = {"BTC/USDT": instrument("BTC/USDT"), "ETH/USDT": instrument("ETH/USDT", active=False)}
        session = Session(BTC, ETH, ("trades", "FOO/USDT"), instruments=listed)
        details = {status.symbol: status.detail for status in of(session.open(), Status) if status.scope == "subscription"}
        assert details["ETH/USDT"] == "trades: puppet does not trade it now (HALT)"
        assert details["FOO/USDT"] == "trades: puppet does not list FOO/USDT"
        assert "BTC/USDT" not in details

    def test_a_list_that_comes_later_rejects_as_well(self) -> None:
        session = Session(BTC, ETH)
        session.open_and_ack()
        outputs = session.adapter.listed({"BTC/USDT": instrument("BTC/USDT")}, session.now)
        (status,) = of(outputs, Status)
        assert (status.symbol, status.state) == ("ETH/USDT", "rejected")
        assert [frame[1:3] for frame in asked(outputs, "unsubscribe")] == [("trades", ["ETHUSDT"])]
        assert session.adapter.listed({"BTC/USDT": instrument("BTC/USDT")}, session.now) == []

    def test_a_market_that_is_listed_again_is_asked_for_again(self) -> None:
        both = {"BTC/USDT": instrument("BTC/USDT"), "ETH/USDT": instrument("ETH/USDT")}
        session = Session(BTC, ETH, instruments=both)
        session.open_and_ack()
        session.say(trade(market="ETHUSDT"))
        session.adapter.listed({"BTC/USDT": both["BTC/USDT"]}, session.now)
        session.say(trade(market="ETHUSDT"))
        assert session.state(market="ETHUSDT") is State.REJECTED, "last words change nothing"
        outputs = session.adapter.listed(both, session.now)
        assert [frame[1:3] for frame in asked(outputs, "subscribe")] == [("trades", ["ETHUSDT"])]
        assert [status.state for status in of(outputs, Status)] == ["listed"]
        assert asked(session.adapter.listed(both, session.now), "subscribe") == [], "once"
        session.say(trade(market="ETHUSDT"))
        assert session.state(market="ETHUSDT") is State.LIVE

    def test_a_market_that_is_listed_again_while_nobody_is_connected_waits_for_the_connection(self) -> None:
        both = {"BTC/USDT": instrument("BTC/USDT"), "ETH/USDT": instrument("ETH/USDT")}
        session = Session(BTC, ETH, instruments={"BTC/USDT": both["BTC/USDT"]})
        assert asked(session.adapter.listed(both, session.now), "subscribe") == []
        assert [frame[2] for frame in asked(session.open(), "subscribe")] == [["BTCUSDT", "ETHUSDT"]]

    def test_a_market_that_the_venue_itself_refused_is_not_asked_for_by_the_list(self) -> None:
        both = {"BTC/USDT": instrument("BTC/USDT"), "ETH/USDT": instrument("ETH/USDT")}
        session = Session(BTC, ETH)
        session.open()
        session.say(refused("no", channel="trades", native="ETHUSDT"))
        assert asked(session.adapter.listed(both, session.now), "subscribe") == []

    def test_the_book_of_a_market_that_was_delisted_is_absent(self) -> None:
        session = Session(("orderbooks", "BTC/USDT"))
        session.open_and_ack()
        session.sync()
        session.adapter.listed({"ETH/USDT": instrument("ETH/USDT")}, session.now)
        assert session.book_state() is BookState.WAITING
        outputs = session.say(change(11)) + session.wait(120.0)
        assert [*of(outputs, Book), *of(outputs, Fetch)] == []

    def test_an_asset_goes_by_the_venue_s_name_on_the_wire_and_by_ours_in_events(self) -> None:
        session = Session(("trades", "TON/USDT"), aliases={"TON": "GRAM"}, instruments={"GRAM/USDT": instrument("GRAM/USDT")})
        assert [frame[2] for frame in asked(session.open(), "subscribe")] == [["GRAMUSDT"]]
        assert [each.symbol for each in of(session.say(trade(market="GRAMUSDT")), Trade)] == ["TON/USDT"]

    def test_a_market_that_is_refused_after_a_reconnect_leaves_its_hole_behind(self) -> None:
        session = Session(BTC)
        session.open_and_ack()
        session.say(trade("a"))
        heard = session.received
        session.lose()
        session.now += 5
        (_, _, _, request), *_ = asked(session.open(), "subscribe")
        (gap,) = of(session.say(refused("delisted", request=request)), Gap)
        assert (gap.symbol, gap.channel, gap.since, gap.until) == ("BTC/USDT", "trades", heard, None)


class TestRetries:
    def test_only_a_missing_ack_is_asked_for_again(self) -> None:
        session = Session(BTC, ETH, ("trades", "SOL/USDT"))
        first, _ = asked(session.open(), "subscribe")
        session.say(acked(first[3]))
        (again,) = asked(session.wait(VENUE.ack_within + 3), "subscribe")
        assert again[2] == ["SOLUSDT"]

    def test_a_late_ack_of_an_earlier_request_counts(self) -> None:
        session = Session(BTC)
        (first,) = asked(session.open(), "subscribe")
        assert asked(session.wait(VENUE.ack_within + 3), "subscribe")
        session.say(acked(first[3]))
        assert session.state() is State.ACKED
        assert asked(session.wait(600.0, 1.0), "subscribe") == []

    def test_pauses_grow_to_a_ceiling_and_never_end(self) -> None:
        session = Session(BTC, adapter=puppet(keepalive=Keepalive(None, 1e9)))
        session.open()
        times = [session.now for _ in range(4 * 3600) if asked(session.wait(1.0, 1.0), "subscribe")]
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses == sorted(pauses)
        assert pauses[0] == pytest.approx(2 * VENUE.ack_within, abs=1.5)
        assert pauses[-1] == pytest.approx(SLOWEST_ASK, abs=1.5)
        assert session.now - times[-1] <= SLOWEST_ASK

    def test_a_venue_that_never_acknowledges_is_asked_for_weeks(self) -> None:
        session = Session(BTC, adapter=puppet(keepalive=Keepalive(None, 1e9)))
        session.open()
        assert len(asked(session.wait(1500 * SLOWEST_ASK, SLOWEST_ASK), "subscribe")) > 1400

    def test_an_ack_forgets_the_attempts_before(self) -> None:
        session = Session(BTC)
        session.open()
        asked_again = asked(session.wait(100.0, 1.0), "subscribe")
        session.say(acked(asked_again[-1][3]))
        session.lose()
        session.open()
        assert len(asked(session.wait(VENUE.ack_within + 1.0, 1.0), "subscribe")) == 1

    def test_what_waits_its_turn_in_the_venue_s_pace_is_not_yet_overdue(self) -> None:
        wanted: list[Wanted] = [("trades", f"COIN{number}/USDT") for number in range(100)]
        session = Session(*wanted)
        frames = asked(session.open(), "subscribe")
        assert len(frames) == 50
        again = asked(session.wait(VENUE.ack_within + 2.0), "subscribe")
        assert len(again) < 8, "frame 50 leaves 25 seconds after the first, and its answer is due after that"

    def test_a_reconnect_asks_for_everything_anew(self) -> None:
        session = Session(BTC, ETH)
        session.open_and_ack()
        session.say(trade())
        session.lose()
        assert session.state() is State.REQUESTED
        (frame,) = asked(session.open(), "subscribe")
        assert frame[2] == ["BTCUSDT", "ETHUSDT"]

    def test_nothing_is_asked_while_there_is_no_connection(self) -> None:
        session = Session(BTC, ("orderbooks", "BTC/USDT"))
        session.open()
        session.lose()
        assert session.wait(600.0, 1.0) == []


# The parts ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 400).map(str), max_size=1000))
def test_a_repeat_within_the_last_few_hundred_ids_is_known(identifiers: list[str]) -> None:
    subscription = Subscription("trades", "BTC/USDT", "BTCUSDT")
    told: list[str] = []
    for identifier in identifiers:
        recent = told[-256:]
        assert subscription.is_new(identifier) == (identifier not in recent)
        if identifier not in recent:
            told.append(identifier)
    assert len(subscription.seen) <= 256


def test_subscriptions_are_counted_by_state() -> None:
    subscriptions = Subscriptions(
        [Subscription("trades", "BTC/USDT", "BTCUSDT"), Subscription("tickers", "BTC/USDT", "BTCUSDT")]
    )
    subscriptions.acked(next(iter(subscriptions)), 0.0)
    assert len(subscriptions) == 2
    assert subscriptions.counts() == {State.ACKED: 1, State.REQUESTED: 1}
