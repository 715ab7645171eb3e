"""What is remembered of every market: repeats sorted out, holes found and told, books in step, views when they are due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.backfill import Resume
from adapters.book_sync import BookState
from adapters.effects import Fetch
from adapters.errors import NumberError
from adapters.events import Gap, Status, Ticker, Trade
from adapters.live import LATE_IDS_KEPT, RENUMBERED_BELOW, Output
from adapters.symbols import Instrument
from tests.adapters.driving import of
from tests.adapters.puppet import EPOCH, Call, Session, Wanted, acked, asked, snapshot, ticker, trade

TRADES: Wanted = ("trades", "BTC/USDT")
BOOK: Wanted = ("orderbooks", "BTC/USDT")
OTHER_BOOK: Wanted = ("orderbooks", "ETH/USDT")
TICKER: Wanted = ("tickers", "BTC/USDT")


def live(*wanted: Wanted, **options: object) -> Session:
    session = Session(*(wanted or (TRADES,)), **options)  # type: ignore[arg-type]
    session.open_and_ack()
    return session


def ids(outputs: list[Output]) -> list[str]:
    return [event.id for event in of(outputs, Trade)]


def missing(outputs: list[Output]) -> list[tuple[str, str | None, str | None]]:
    return [(gap.reason, gap.first_missing, gap.last_missing) for gap in of(outputs, Gap)]


# Trades -----------------------------------------------------------------------------------------------------------------


class TestTrades:
    def test_a_trade_is_told_as_the_venue_wrote_it(self) -> None:
        session = live()
        (event,) = session.say(trade(7, price="100.50", amount="1e-7", side="sell", timestamp=EPOCH + 5))
        assert event == Trade("puppet", "BTC/USDT", EPOCH + 5, session.received, "7", "100.50", "0.0000001", "sell")

    def test_numbers_that_follow_each_other_are_whole(self) -> None:
        outputs = live().say(*(trade(number) for number in range(5, 10)))
        assert ids(outputs) == ["5", "6", "7", "8", "9"]
        assert missing(outputs) == []

    def test_a_jump_is_a_gap_that_names_the_missing(self) -> None:
        session = live()
        session.say(trade(5))
        heard = session.received
        outputs = session.say(trade(9))
        (gap,) = of(outputs, Gap)
        assert (gap.symbol, gap.channel, gap.reason) == ("BTC/USDT", "trades", "sequence")
        assert (gap.first_missing, gap.last_missing) == ("6", "8")
        assert (gap.since, gap.until) == (heard, session.received)
        assert ids(outputs) == ["9"]

    def test_a_missing_trade_that_comes_late_is_told_once(self) -> None:
        session = live()
        session.say(trade(5), trade(9))
        assert ids(session.say(trade(7), trade(7), trade(6), trade(10), trade(8), trade(6))) == ["7", "6", "10", "8"]
        assert session.adapter.totals()["repeated"] == 2

    def test_repeats_are_dropped_and_counted(self) -> None:
        session = live()
        assert ids(session.say(trade(5), trade(5), trade(6), trade(5))) == ["5", "6"]
        assert session.adapter.totals()["repeated"] == 2

    def test_ids_without_an_order_are_remembered_for_a_while(self) -> None:
        session = live()
        outputs = session.say(trade("x"), trade("a"), trade("x"), trade("b"))
        assert ids(outputs) == ["x", "a", "b"]
        assert missing(outputs) == []
        assert session.adapter.totals()["repeated"] == 1

    def test_a_hole_too_long_to_remember_is_a_gap_all_the_same(self) -> None:
        session = live()
        outputs = session.say(trade(5), trade(7 + LATE_IDS_KEPT))
        assert missing(outputs) == [("sequence", "6", str(6 + LATE_IDS_KEPT))]
        assert ids(session.say(trade(6))) == []

    def test_a_venue_that_numbers_anew_is_followed_and_the_break_told_without_ids(self) -> None:
        session = live()
        session.say(trade(RENUMBERED_BELOW + 500))
        outputs = session.say(trade(1), trade(2), trade(4))
        assert ids(outputs) == ["1", "2", "4"]
        assert missing(outputs) == [("renumbered", None, None), ("sequence", "3", "3")]

    def test_a_lower_number_of_a_younger_trade_is_a_new_count(self) -> None:
        session = live()
        session.say(trade(500, timestamp=EPOCH))
        assert session.say(trade(3, timestamp=EPOCH)) == [], "as old as what was told: a repeat"
        outputs = session.say(trade(3, timestamp=EPOCH + 1), trade(4, timestamp=EPOCH + 2))
        assert ids(outputs) == ["3", "4"]
        assert missing(outputs) == [("renumbered", None, None)]

    def test_a_past_trade_is_no_news(self) -> None:
        session = live()
        name, said = trade(5)
        assert session.say(("past_trade", said)) == []
        assert name == "trade"
        assert ids(session.say(trade(6))) == ["6"]

    @pytest.mark.parametrize("field", ["price", "amount"])
    @pytest.mark.parametrize("text", ["", "x", "1,5", "٣", ".", "1.2.3"])
    def test_a_number_that_is_none_is_one_error_and_a_trade_missing(self, field: str, text: str) -> None:
        session = live()
        session.say(trade(5))
        (error,) = session.say(trade(6, **{field: text}))
        assert isinstance(error, NumberError)
        outputs = session.say(trade(7))
        assert missing(outputs) == [("sequence", "6", "6")]
        assert ids(outputs) == ["7"]

    @given(st.lists(st.integers(1, 60), max_size=80))
    def test_every_number_is_told_once_or_told_missing(self, numbers: list[int]) -> None:
        """Whatever order they come in: nothing twice, and between the first and the last nothing left out silently."""
        session = live()
        outputs = session.say(*map(trade, numbers))
        told = [int(identifier) for identifier in ids(outputs)]
        assert len(set(told)) == len(told)
        if told:
            gone = {n for _, first, last in missing(outputs) for n in range(int(first or 0), int(last or 0) + 1)}
            assert set(told) | gone >= set(range(told[0], max(told) + 1))
        assert len(told) + session.adapter.totals()["repeated"] == len(numbers)


# Holes between two connections ------------------------------------------------------------------------------------------


class TestHoles:
    def broken(self, *wanted: Wanted, before: list[Call]) -> tuple[Session, int]:
        """A session after a connection was lost, and when something was last heard."""
        session = live(*wanted)
        session.say(*before)
        heard = session.received
        session.now += 3.0
        session.lose("reset by peer")
        return session, heard

    def test_numbers_that_go_on_prove_that_nothing_is_missing(self) -> None:
        session, _ = self.broken(before=[trade(5)])
        outputs = session.reopen() + session.say(trade(6), trade(8))
        assert missing(outputs) == [("sequence", "7", "7")], "the break left no trace, also not in a later gap's reason"

    def test_numbers_that_jump_name_exactly_what_is_missing(self) -> None:
        session, heard = self.broken(before=[trade(5)])
        assert missing(session.reopen()) == [], "the first trade will tell"
        outputs = session.say(trade(9))
        (gap,) = of(outputs, Gap)
        assert (gap.reason, gap.first_missing, gap.last_missing) == ("disconnected", "6", "8")
        assert (gap.since, gap.until) == (heard, session.received)

    def test_a_repeat_after_the_break_proves_nothing_yet(self) -> None:
        session, _ = self.broken(before=[trade(4), trade(5)])
        outputs = session.reopen() + session.say(trade(5), trade(6), trade(8))
        assert ids(outputs) == ["6", "8"]
        assert missing(outputs) == [("sequence", "7", "7")]

    def test_a_repeat_and_then_a_jump_is_the_break(self) -> None:
        session, heard = self.broken(before=[trade(5)])
        (gap,) = of(session.reopen() + session.say(trade(5), trade(9)), Gap)
        assert (gap.reason, gap.first_missing, gap.last_missing, gap.since) == ("disconnected", "6", "8", heard)

    def test_ids_without_an_order_prove_nothing(self) -> None:
        session, heard = self.broken(before=[trade("a")])
        (gap,) = of(session.reopen(), Gap)
        assert (gap.channel, gap.reason, gap.first_missing) == ("trades", "disconnected", None)
        assert (gap.since, gap.until) == (heard, session.received)
        assert missing(session.say(trade("b"))) == [], "told once"

    def test_the_hole_begins_where_anything_was_last_heard(self) -> None:
        session = live(TRADES, TICKER)
        session.say(trade("a"))
        session.say(ticker(), seconds=2.0)
        heard = session.received
        session.lose()
        assert {gap.since for gap in of(session.reopen(), Gap)} == {heard}

    def test_the_hole_of_an_announced_pause_begins_with_it(self) -> None:
        session = live(TRADES, TICKER)
        session.say(trade("a"), ticker())
        session.say(("paused", {}))
        announced = session.received
        session.say(seconds=10.0)  # a heartbeat
        session.say(("paused", {}))
        session.lose()
        assert {gap.since for gap in of(session.reopen(), Gap)} == {announced}
        heard = session.received
        session.lose()
        assert {gap.since for gap in of(session.reopen(), Gap)} == {heard}, "the next connection is no longer paused"

    def test_an_answer_of_rest_does_not_make_the_hole_of_a_silent_socket_smaller(self) -> None:
        session = live(BOOK)
        session.sync()
        heard = session.received
        session.wait(10.0)
        session.answer(snapshot(10))
        session.lose()
        session.reopen()
        (gap,) = of(session.sync(), Gap)
        assert gap.since == heard

    def test_a_market_that_was_acked_and_silent_has_a_hole_too(self) -> None:
        session, heard = self.broken(before=[])
        (gap,) = of(session.reopen(), Gap)
        assert gap.since == heard

    def test_a_market_that_was_never_subscribed_has_none(self) -> None:
        session = Session(TRADES)
        session.open()
        session.lose()
        assert of(session.reopen() + session.say(trade(5)), Gap) == []

    def test_a_hole_lasts_over_connections_that_bring_nothing(self) -> None:
        session, heard = self.broken(before=[trade("a")])
        session.adapter.start(session.now)
        session.lose()
        session.open()
        session.lose("refused")
        (gap,) = of(session.reopen(), Gap)
        assert gap.since == heard

    def test_every_channel_has_its_own(self) -> None:
        session = live(TRADES, TICKER, BOOK)
        session.say(trade("a"), ticker())
        session.sync()
        session.lose()
        gaps = of(session.reopen() + session.sync(), Gap)
        assert {gap.channel for gap in gaps} == {"trades", "tickers", "orderbooks"}
        assert {gap.reason for gap in gaps} == {"disconnected"}

    def test_the_time_before_the_collector_started_is_a_hole(self) -> None:
        session = Session(TRADES, resume=Resume(EPOCH - 60_000_000))
        (gap,) = of(session.open_and_ack(), Gap)
        assert (gap.reason, gap.since) == ("collector restarted", EPOCH - 60_000_000)
        session.say(trade("a"))
        session.lose()
        assert missing(session.reopen()) == [("disconnected", None, None)]

    @given(st.lists(st.sampled_from(["trade", "skip", "repeat", "lose", "ack only"]), max_size=40))
    def test_over_any_number_of_breaks_every_number_is_told_or_told_missing(self, steps: list[str]) -> None:
        session = live()
        number, outputs = 1, session.say(trade(1))
        for step in steps:
            if step == "trade":
                number += 1
                outputs += session.say(trade(number))
            elif step == "skip":
                number += 1
            elif step == "repeat":
                outputs += session.say(trade(number))
            else:
                session.lose()
                outputs += session.reopen()
                if step == "ack only":
                    session.lose()
                    outputs += session.reopen()
        outputs += session.say(trade(number + 1))
        told = [int(identifier) for identifier in ids(outputs)]
        gone = [n for _, first, last in missing(outputs) for n in range(int(first or 0), int(last or 0) + 1)]
        assert len(set(told)) == len(told)
        assert set(told) | set(gone) == set(range(1, number + 2))
        assert len(gone) == len(set(gone)), "no trade is missed twice"


# Messages that a connection numbers itself ------------------------------------------------------------------------------


class TestMissedMessages:
    def missed(self, session: Session) -> list[Output]:
        return session.say(("missed", {"first": 7, "last": 8}))

    def test_every_book_in_step_is_in_doubt(self) -> None:
        session = live(BOOK, OTHER_BOOK)
        session.sync()
        session.sync(market="ETHUSDT")
        outputs = self.missed(session)
        assert {gap.symbol for gap in of(outputs, Gap)} == {"BTC/USDT", "ETH/USDT"}
        assert {fetch.key for fetch in of(session.wait(5.0) + outputs, Fetch)} >= {("book", "BTCUSDT"), ("book", "ETHUSDT")}
        assert session.book_state() is session.book_state("ETHUSDT") is BookState.RECOVERING

    def test_a_market_without_numbers_has_a_hole(self) -> None:
        session = live(TRADES, TICKER)
        session.say(trade("a"), ticker())
        heard = session.received
        gaps = of(self.missed(session), Gap)
        assert {gap.channel for gap in gaps} == {"trades", "tickers"}
        assert {(gap.since, gap.until) for gap in gaps} == {(heard, session.received)}

    def test_numbers_of_a_market_s_own_tell_by_themselves(self) -> None:
        session = live(TRADES)
        session.say(trade(5))
        assert of(self.missed(session), Gap) == []
        assert missing(session.say(trade(7))) == [("sequence", "6", "6")]

    def test_a_person_is_told_which_messages(self) -> None:
        (status,) = of(self.missed(live(TRADES)), Status)
        assert (status.scope, status.state, status.detail) == ("connection", "missed", "messages 7 to 8")


# Tickers ----------------------------------------------------------------------------------------------------------------


class TestTickers:
    def test_a_ticker_holds_what_the_venue_sends_and_nothing_else(self) -> None:
        session = live(TICKER)
        (event,) = session.say(ticker(bid="1.50", ask="2e-3", last="", volume_24h=None))
        assert event == Ticker("puppet", "BTC/USDT", EPOCH, session.received, bid="1.50", ask="0.002")

    def test_a_number_that_is_none_is_one_error(self) -> None:
        (error,) = live(TICKER).say(ticker(bid="x"))
        assert isinstance(error, NumberError)


LISTED = {"BTC/USDT": Instrument("BTC/USDT", "BTCUSDT", active=True, state="trading")}


class TestDelisting:
    """What a venue ceases to give is missing from then on, for whoever reads what was stored."""

    def test_trades_are_missing_without_an_end_and_with_one_when_they_come_back(self) -> None:
        session = Session(TRADES)
        session.open_and_ack()
        session.say(trade("a"))
        last = session.received
        session.wait(5.0)
        (hole,) = of(session.adapter.listed({}, session.now), Gap)
        assert (hole.channel, hole.reason, hole.since, hole.until) == ("trades", "rejected", last, None)
        assert of(session.adapter.listed({}, session.now), Gap) == [], "said once"
        session.wait(5.0)
        outputs = session.adapter.listed(LISTED, session.now)
        (closed,) = of(session.say(*(acked(request) for _, _, _, request in asked(outputs, "subscribe"))), Gap)
        assert (closed.reason, closed.since, closed.until) == ("rejected", last, session.received)
        assert of(session.say(trade("b")), Gap) == []

    def test_a_book_is_absent_until_it_is_in_step_again(self) -> None:
        session = Session(BOOK)
        session.open_and_ack()
        session.sync()
        shown = session.received
        session.wait(5.0)
        (hole,) = of(session.adapter.listed({}, session.now), Gap)
        assert (hole.channel, hole.reason, hole.since, hole.until) == ("orderbooks", "rejected", shown, None)
        outputs = session.adapter.listed(LISTED, session.now)
        outputs = session.say(*(acked(request) for _, _, _, request in asked(outputs, "subscribe")))
        assert of(outputs, Gap) == []
        outputs = session.sync()
        assert [gap.since for gap in of(outputs, Gap)] == [shown]

    def test_of_what_never_came_nothing_is_missing(self) -> None:
        session = Session(TRADES, BOOK, TICKER)
        session.open_and_ack()
        assert of(session.adapter.listed({}, session.now), Gap) == []
