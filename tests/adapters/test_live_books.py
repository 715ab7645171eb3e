"""What becomes of books: views when they are due, doubts told and mended alone, changes for readers who keep their own."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.book import BookRule
from adapters.book_sync import REFRESHED_EVERY, BookState
from adapters.effects import Fetch
from adapters.events import Book, BookDelta, Gap, Status
from adapters.live import FROZEN_AFTER, Output
from adapters.subscriptions import QUIET_AFTER
from tests.adapters.driving import of
from tests.adapters.puppet import EPOCH, Call, asked, change, errors, puppet, snapshot, trade
from tests.adapters.reader import Reader
from tests.adapters.test_live import BOOK, OTHER_BOOK, TRADES, ids, live

SOCKET = puppet(book=BookRule(chain="previous", source="socket"))
WHOLE = puppet(book=BookRule(chain=None, source="socket"))
WINDOW = puppet(book=BookRule(chain="previous", source="socket", truncates=True))
LIMITED = puppet(book=BookRule(chain="range", source="rest", limited=True))


class TestViews:
    def test_a_book_in_step_is_shown_best_first_with_its_sequence_and_times(self) -> None:
        session = live(BOOK)
        outputs = session.sync()
        (view,) = of(outputs, Book)
        assert (view.bids, view.asks) == ([("99", "1"), ("98", "1")], [("101", "1"), ("102", "1")])
        assert (view.sequence, view.timestamp, view.received) == (10, None, session.received)
        (event,) = session.say(change(11, bids=[["99.5", "2"]], timestamp=EPOCH + 9))
        assert isinstance(event, Book)
        assert (event.bids[0], event.sequence) == (("99.5", "2"), 11)
        assert (event.timestamp, event.received) == (EPOCH + 9, session.received)

    def test_where_a_venue_crosses_between_two_frames_the_view_waits_for_the_second(self) -> None:
        session = live(BOOK, adapter=puppet(book=BookRule(chain="range", source="rest", crossed="passing")))
        session.sync()
        outputs = session.say(change(11, bids=[["101", "2"]])) + session.wait(1.0)
        assert (of(outputs, Book), of(outputs, Gap)) == ([], [])
        (view,) = of(session.say(change(12, asks=[["101", "0"]])), Book)
        assert (view.bids[0], view.asks[0]) == (("101", "2"), ("102", "1"))

    def test_nothing_is_shown_before_the_snapshot(self) -> None:
        session = live(BOOK)
        outputs = session.say(change(10, bids=[["99", "1"]])) + session.wait(5.0)
        assert of(outputs, Book) == []
        assert len(of(outputs, Fetch)) == 1, "and one snapshot asked for"

    def test_a_view_comes_at_the_interval_and_only_when_something_changed(self) -> None:
        session = live(BOOK, interval=1.0)
        assert len(of(session.sync(), Book)) == 1
        assert of(session.wait(5.0), Book) == []
        outputs = []
        for number in range(11, 61):
            outputs += session.say(change(number, bids=[["99", str(number)]])) + session.wait(0.1)
        views = of(outputs, Book)
        assert 5 <= len(views) <= 7
        assert views[-1].bids[0][1] == str(views[-1].sequence)
        assert all(later.received - earlier.received >= 900_000 for earlier, later in itertools.pairwise(views))

    def test_the_first_change_after_a_silence_is_shown_at_the_next_tick(self) -> None:
        session = live(BOOK, interval=1.0)
        session.sync()
        session.wait(10.0)
        session.say(change(11, bids=[["99", "7"]]))
        (view,) = of(session.wait(0.1), Book)
        assert view.bids[0] == ("99", "7")

    def test_a_view_holds_the_configured_depth(self) -> None:
        session = live(BOOK, depth=1)
        (view,) = of(session.sync(), Book)
        assert (view.bids, view.asks) == ([("99", "1")], [("101", "1")])

    def test_a_view_that_the_venue_makes_itself_is_not_mixed_with_the_book(self) -> None:
        session = live(BOOK)
        session.sync()
        name, said = snapshot(11, bids=[["50", "1"]])
        assert name == "snapshot"
        assert session.say(("view", said)) == []

    def test_a_venue_that_sends_whole_books_only_is_shown_at_the_interval_too(self) -> None:
        session = live(BOOK, adapter=WHOLE, interval=1.0)
        assert [type(event) for event in session.say(snapshot(None))] == [Status, Book]
        outputs = []
        for number in range(1, 51):
            outputs += session.say(snapshot(None, bids=[["99", str(number)]])) + session.wait(0.1)
        views = of(outputs, Book)
        assert len(outputs) == len(views), "it was in step all the time"
        assert 4 <= len(views) <= 6
        assert views[-1].bids == [("99", "50")]

    def test_a_whole_book_that_is_wrong_is_a_doubt(self) -> None:
        session = live(BOOK, adapter=WHOLE)
        session.say(snapshot(None))
        outputs = session.say(snapshot(None, bids=[["200", "1"]]))
        assert [gap.reason for gap in of(outputs, Gap)] == ["crossed"]
        assert len(asked(outputs, "subscribe")) == 1


class TestTrouble:
    """A book in doubt is not shown, its hole is told, it is asked for again; its neighbours never notice."""

    def test_a_hole_in_the_sequence_is_a_gap_and_a_fresh_snapshot_mends_it(self) -> None:
        session = live(BOOK)
        session.sync()
        right = session.received
        outputs = session.say(change(13, bids=[["99", "5"]]))
        (gap,) = of(outputs, Gap)
        assert (gap.channel, gap.reason, gap.first_missing, gap.last_missing) == ("orderbooks", "sequence", "11", "12")
        assert gap.since == right
        assert of(outputs, Book) == []
        assert of(session.say(change(14)), Book) == []
        assert [fetch.key for fetch in of(session.wait(3.0), Fetch)] == [("book", "BTCUSDT")]
        doubted, outputs = gap.until, session.answer(snapshot(12))
        (view,) = of(outputs, Book)
        assert view.sequence == 14
        assert view.bids[0] == ("99", "5")
        (absence,) = of(outputs, Gap)
        assert (absence.reason, absence.since, absence.until) == ("recovering", doubted, session.received)

    def test_a_book_that_gets_nothing_but_old_changes_stands_still_and_is_in_doubt(self) -> None:
        session = live(BOOK)
        session.sync()
        assert of(session.say(change(3)), Gap) == [], "a change of before, once"
        outputs = session.say(change(4), seconds=FROZEN_AFTER / 1e6 + 1)
        assert [gap.reason for gap in of(outputs, Gap)] == ["sequence"]
        assert session.book_state() is BookState.RECOVERING

    def test_a_state_of_a_book_is_told_to_people(self) -> None:
        session = live(BOOK)
        states = [status.state for status in of(session.sync() + session.say(change(13)), Status)]
        assert states == ["synced", "recovering"]

    @pytest.mark.parametrize(
        ("call", "reason"),
        [
            (change(11, bids=[["105", "1"]]), "crossed"),
            (change(11, bids=[["x", "1"]]), "malformed"),
            (change(11, bids=[["99", "x"]]), "malformed"),
            (change(12), "sequence"),
        ],
    )
    @pytest.mark.parametrize("mode", ["views", "deltas"])
    def test_one_bad_book_never_disturbs_its_neighbours(self, call: Call, reason: str, mode: str) -> None:
        session = live(BOOK, OTHER_BOOK, TRADES, mode=mode)
        session.sync()
        session.sync(market="ETHUSDT")
        outputs = session.say(call, change(11, market="ETHUSDT", bids=[["99", "8"]]), trade(1))
        assert [gap.reason for gap in of(outputs, Gap)] == [reason]
        assert [(view.symbol, view.bids[0]) for view in of(outputs, Book)] == [("ETH/USDT", ("99", "8"))]
        assert ids(outputs) == ["1"]
        assert (session.book_state(), session.book_state("ETHUSDT")) == (BookState.RECOVERING, BookState.SYNCED)

    def test_a_malformed_level_deep_in_the_book_is_found_before_it_is_shown(self) -> None:
        session = live(BOOK, depth=1, interval=1.0)
        session.sync(change(11, bids=[["98", "x"]]))
        session.wait(2.0)
        session.say(change(12, bids=[["99", "0"]]))
        outputs = session.wait(1.0)
        assert of(outputs, Book) == []
        assert [gap.reason for gap in of(outputs, Gap)] == ["malformed"]

    def test_on_the_socket_one_book_is_subscribed_anew(self) -> None:
        session = live(BOOK, OTHER_BOOK, adapter=SOCKET)
        session.say(snapshot(10), snapshot(10, market="ETHUSDT"))
        outputs = session.say(change(None, 12, previous=11)) + session.wait(3.0)
        assert [frame[:3] for frame in asked(outputs, "unsubscribe")] == [("unsubscribe", "orderbooks", ["BTCUSDT"])]
        assert [frame[:3] for frame in asked(outputs, "subscribe")] == [("subscribe", "orderbooks", ["BTCUSDT"])]
        assert of(session.say(change(None, 13, previous=12)), Book) == [], "a change of the old subscription in flight"
        assert [view.sequence for view in of(session.say(snapshot(20)), Book)] == [20]

    def test_a_book_that_is_in_doubt_again_and_again_is_told_each_time_and_asked_for_ever_more_rarely(self) -> None:
        session = live(BOOK)
        session.sync()
        gaps = fetches = 0
        sequence = 10
        for _ in range(6000):
            sequence += 2
            outputs = session.say(change(sequence), seconds=0.0) + session.wait(0.1)
            gaps += len(of(outputs, Gap))
            for _ in of(outputs, Fetch):
                fetches += 1
                session.answer(snapshot(sequence))
        assert gaps == pytest.approx(fetches, abs=1)
        assert 10 < fetches < 30

    def test_a_quiet_book_is_fetched_without_waiting_for_a_change(self) -> None:
        session = live(BOOK)
        assert of(session.wait(0.5), Fetch) == []
        assert len(of(session.wait(1.0), Fetch)) == 1
        (view,) = of(session.answer(snapshot(10)), Book)
        assert view.sequence == 10

    def test_a_limited_book_is_refreshed_before_it_runs_out_and_shows_no_hole(self) -> None:
        session = live(BOOK, adapter=LIMITED, depth=10)
        rows: dict[str, Any] = {
            "bids": [[str(90 - n), "1"] for n in range(10)],
            "asks": [[str(100 + n), "1"] for n in range(10)],
        }
        session.say(change(10))
        session.answer(snapshot(10, **rows))
        session.wait(REFRESHED_EVERY)
        outputs = session.say(change(11, asks=[["100", "0"], ["120", "1"]])) + session.wait(1.0)
        (fetch,) = of(outputs, Fetch)
        assert fetch.key == ("book", "BTCUSDT")
        (view,) = of(outputs, Book)
        assert [price for price, _ in view.asks] == [str(101 + n) for n in range(9)], "120 is beyond what is known"
        asks = [*([str(101 + n), "1"] for n in range(9)), ["115", "1"]]
        outputs = session.answer(snapshot(11, bids=rows["bids"], asks=asks))
        assert [len(view.asks) for view in of(outputs, Book)] == [10]
        assert of(outputs, Gap) == []

    def test_a_book_that_is_short_at_once_is_refreshed_even_if_the_market_rests(self) -> None:
        session = live(BOOK, adapter=LIMITED, depth=10)
        rows: dict[str, Any] = {
            "bids": [[str(90 - n), "1"] for n in range(10)],
            "asks": [[str(100 + n), "1"] for n in range(10)],
        }
        session.say(change(10))
        session.answer(snapshot(10, **rows))
        outputs = session.say(change(11, asks=[["100", "0"]])) + session.wait(REFRESHED_EVERY - 1)
        assert of(outputs, Fetch) == [], "not more often than allowed"
        assert len(of(session.wait(1.5), Fetch)) == 1

    def test_a_refresh_that_fails_is_tried_again_while_the_book_goes_on(self) -> None:
        session = live(BOOK, adapter=LIMITED, depth=10)
        rows: dict[str, Any] = {
            "bids": [[str(90 - n), "1"] for n in range(10)],
            "asks": [[str(100 + n), "1"] for n in range(10)],
        }
        session.say(change(10))
        session.answer(snapshot(10, **rows))
        session.wait(REFRESHED_EVERY)
        outputs = session.say(change(11, asks=[["100", "0"]])) + session.wait(0.2)
        assert len(of(outputs, Fetch)) == 1
        outputs = session.fail() + session.say(change(12, asks=[["101", "2"]])) + session.wait(4.0)
        assert of(outputs, Gap) == []
        assert len(of(outputs, Book)) == 1
        assert len(of(outputs, Fetch)) == 1


# Changes for readers who keep their own book -----------------------------------------------------------------------------


prices = st.integers(80, 120)
amounts = st.sampled_from(["0", "0.000", "1", "2.50"])
bids = st.lists(st.tuples(st.integers(80, 99).map(str), amounts), max_size=6)
asks = st.lists(st.tuples(st.integers(101, 120).map(str), amounts), max_size=6)
moves = st.lists(st.tuples(bids, asks, st.sampled_from(["", "", "", "", "skip", "tick"])), max_size=40)


class TestDeltas:
    def test_the_base_holds_every_level_and_changes_name_the_one_before(self) -> None:
        session = live(BOOK, mode="deltas", depth=1, interval=60.0)
        (base,) = of(session.sync(), Book)
        assert (base.bids, base.asks, base.sequence) == ([("99", "1"), ("98", "1")], [("101", "1"), ("102", "1")], 10)
        (delta,) = session.say(change(11, 13, bids=[["97", "1"], ["98", "0.00"]], timestamp=EPOCH))
        assert delta == BookDelta(
            "puppet", "BTC/USDT", EPOCH, session.received, [("97", "1"), ("98", "0")], [], sequence=13, previous=10
        )

    def test_changes_are_told_only_while_the_book_is_in_step(self) -> None:
        session = live(BOOK, mode="deltas")
        assert of(session.say(change(10)), BookDelta) == []
        session.answer(snapshot(10))
        outputs = session.say(change(13)) + session.say(change(14))
        assert of(outputs, BookDelta) == []

    def test_a_whole_book_in_place_of_another_is_told_as_what_differs(self) -> None:
        session = live(BOOK, adapter=WHOLE, mode="deltas", interval=60.0)
        reader = Reader()
        reader.read(session.say(snapshot(None)))
        sides: dict[str, Any] = {"bids": [["99", "1"], ["97", "3"]], "asks": [["101", "2"], ["102", "1"]]}
        (delta,) = session.say(snapshot(None, **sides, timestamp=EPOCH))
        removed, added, changed = ("98", "0"), ("97", "3"), ("101", "2")
        assert delta == BookDelta(
            "puppet", "BTC/USDT", EPOCH, session.received, [removed, added], [changed], sequence=None, previous=None
        )
        reader.read([delta])
        assert reader.book() == session.adapter.live.books["BTCUSDT"].book.whole()

    def test_a_resynchronised_book_begins_with_a_new_base(self) -> None:
        session = live(BOOK, mode="deltas", interval=60.0)
        session.sync()
        session.say(change(13))
        session.wait(3.0)
        (base,) = of(session.answer(snapshot(12)), Book)
        assert base.sequence == 13
        (delta,) = of(session.say(change(14)), BookDelta)
        assert delta.previous == 13

    def test_a_reader_who_lost_some_is_given_the_whole_book_again(self) -> None:
        session = live(BOOK, OTHER_BOOK, mode="deltas", depth=1, interval=60.0)
        session.sync()
        (base,) = session.adapter.republish("BTC/USDT")
        assert isinstance(base, Book)
        assert len(base.bids) == 2
        session.say(change(13))
        assert session.adapter.republish("BTC/USDT") == [], "a book in doubt is absent"
        assert session.adapter.republish("ETH/USDT") == [], "a book that never was is absent"

    def test_in_views_mode_a_view_is_given_again(self) -> None:
        session = live(BOOK, OTHER_BOOK, depth=1)
        session.sync()
        session.sync(market="ETHUSDT")
        (view,) = session.adapter.republish("BTC/USDT")
        assert isinstance(view, Book)
        assert (view.symbol, len(view.bids)) == ("BTC/USDT", 1)
        assert [event.symbol for event in of(session.adapter.republish(), Book)] == ["BTC/USDT", "ETH/USDT"]

    @pytest.mark.parametrize("kind", [puppet(), SOCKET, WINDOW, LIMITED], ids=["range", "previous", "truncated", "limited"])
    @given(moves=moves)
    def test_base_and_changes_rebuild_exactly_the_same_book(
        self, kind: Callable[..., object], moves: list[tuple[list[tuple[str, str]], list[tuple[str, str]], str]]
    ) -> None:
        session = live(BOOK, adapter=kind, mode="deltas", depth=10, interval=1.0)
        on_socket = session.adapter.venue.book.source == "socket"
        rows: dict[str, Any] = {
            "bids": [(str(99 - n), "1") for n in range(10)],
            "asks": [(str(101 + n), "1") for n in range(10)],
        }
        reader = Reader()
        sequence = 10

        def bring() -> list[Output]:
            told = snapshot(sequence, **rows)
            return session.say(told) if on_socket else session.say(change(sequence)) + session.answer(told)

        reader.read(bring())
        for bid_rows, ask_rows, event in moves:
            sequence += 2 if event == "skip" else 1
            link: dict[str, Any] = {"previous": sequence - 1} if on_socket else {}
            outputs = session.say(change(sequence, bids=bid_rows, asks=ask_rows, **link))
            reader.read(outputs + (session.wait(1.1) if event == "tick" else []))
            if session.book_state() is BookState.RECOVERING:
                session.wait(3.0)
                reader.read(bring())
            if session.book_state() is BookState.SYNCED:
                assert reader.book() == session.adapter.live.books["BTCUSDT"].book.whole()


def test_quiet_markets_and_stray_data_make_no_noise() -> None:
    session = live(TRADES)
    outputs = session.wait(QUIET_AFTER * 2) + session.say(trade(market="XRPUSDT"), change(1, market="XRPUSDT"))
    assert errors(outputs) == []
    assert of(outputs, Gap) == []
