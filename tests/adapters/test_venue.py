"""The venue that does not exist: what the contract carries although none of the registered venues needs it."""

import gzip
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.decode import Line, decode_raw
from adapters.effects import Reconnect, Send
from adapters.errors import AdapterError, FrameError
from adapters.events import Book, Gap, Status, Ticker, Trade
from adapters.live import Output
from adapters.subscriptions import State
from tests.adapters.conformance import World
from tests.adapters.driving import every_channel, of
from tests.adapters.imaginary import Imaginary
from tests.adapters.imaginary_wire import Made

AT = 1_700_000_000_000_000


class Connection:
    """An open connection to the venue, on which every message gets its number."""

    def __init__(self, *symbols: str) -> None:
        self.adapter = Imaginary(every_channel(*symbols or ("BTC/USDT",)), BookOptions(depth=10, interval=0.0))
        self.now = 0.0
        self.connect()

    def connect(self) -> None:
        self.number = 0
        self.adapter.start(self.now)
        self.sent = self.adapter.connected(self.now)

    def frame(self, **message: Any) -> bytes:
        self.number += 1
        return gzip.compress(orjson.dumps({"n": self.number} | message))

    def say(self, **message: Any) -> list[Output]:
        return self.adapter.receive(self.frame(**message), AT + self.number)

    def raw(self, text: str) -> list[Output]:
        """A message with its number tokens as they stand."""
        self.number += 1
        return self.adapter.receive(gzip.compress(f'{{"n":{self.number},{text[1:]}'.encode()), AT + self.number)

    def open(self, market: str = "BTC_USDT", begin: int = 1) -> None:
        """All channels of a market, under the numbers `begin` and after."""
        for number, what in enumerate(("deals", "book", "best"), begin):
            self.say(request="1", what=what, market=market, channel=number)

    def wait(self, seconds: int) -> list[Output]:
        outputs: list[Output] = []
        for _ in range(seconds):
            self.now += 1.0
            outputs += self.adapter.tick(self.now)
        return outputs


BOOK = {"b": [[99, 1], [98, 1]], "a": [[101, 1]]}


def deal(identifier: str = "a1") -> list[Any]:
    return [identifier, 100.5, 2, "b", 1.7e9]


class TestCompression:
    def test_a_frame_is_unpacked(self) -> None:
        venue = Connection()
        venue.open()
        assert len(of(venue.say(on=1, deals=[deal()]), Trade)) == 1

    @given(st.integers(0, 200), st.binary(max_size=8))
    def test_a_frame_that_is_cut_or_goes_on_behind_its_end_is_one_error(self, length: int, more: bytes) -> None:
        venue = Connection()
        venue.open()
        frame = venue.frame(on=1, deals=[deal()])
        damaged = frame[: min(length, len(frame) - 1)] if not more else frame + more
        (error,) = of(venue.adapter.receive(damaged, AT), AdapterError)
        assert isinstance(error, FrameError)
        assert len(of(venue.adapter.receive(frame, AT), Trade)) == 1

    def test_a_frame_that_would_unpack_to_more_than_any_message_is_refused(self) -> None:
        (error,) = Connection().adapter.receive(gzip.compress(b" " * (80 * 2**20), 9), AT)
        assert isinstance(error, FrameError)


class TestNumbers:
    def test_bare_numbers_and_exponents_leave_as_their_digits(self) -> None:
        venue = Connection()
        venue.open()
        (trade,) = of(venue.raw('{"on":1,"deals":[["a1",1.2340E-5,2.50e3,"s",1700000000.123456789]]}'), Trade)
        assert (trade.price, trade.amount, trade.side) == ("0.000012340", "2500", "sell")
        assert trade.timestamp == 1_700_000_000_123_456, "seconds with a fraction, digit by digit"
        (book,) = of(venue.raw('{"t":1.7000000005e9,"on":2,"book":{"b":[[1e-8,3]],"a":[[1.10,0.0]]}}'), Book)
        assert (book.bids, book.asks) == ([("0.00000001", "3")], [])
        assert book.timestamp == 1_700_000_000_500_000
        (ticker,) = of(venue.raw('{"t":1.7e9,"on":3,"best":{"bid":[1.10,1E+2],"ask":[1.2,1],"last":11e-1}}'), Ticker)
        assert (ticker.bid, ticker.bid_amount, ticker.last) == ("1.10", "100", "1.1")

    @pytest.mark.parametrize("token", ['"1"', "null", "-1", "[1]", "true", "1e999999"])
    def test_what_is_no_number_is_one_error(self, token: str) -> None:
        venue = Connection()
        venue.open()
        told = of(venue.raw(f'{{"on":1,"deals":[["a1",{token},1,"b",1.7e9]]}}'), AdapterError)
        assert [isinstance(error, FrameError) for error in told] == [True]


class TestChannelNumbers:
    def test_they_are_known_from_the_acknowledgement(self) -> None:
        venue = Connection("BTC/USDT", "ETH/USDT")
        venue.open("BTC_USDT", 1)
        venue.open("ETH_USDT", 11)
        symbols = [of(venue.say(on=on, deals=[deal()]), Trade)[0].symbol for on in (11, 1)]
        assert symbols == ["ETH/USDT", "BTC/USDT"]

    def test_data_of_a_number_that_was_never_given_is_one_error(self) -> None:
        venue = Connection()
        assert [type(output) for output in venue.say(on=1, deals=[deal()])] == [FrameError]

    def test_they_die_with_the_connection(self) -> None:
        venue = Connection("BTC/USDT", "ETH/USDT")
        venue.open("BTC_USDT", 1)
        venue.open("ETH_USDT", 11)
        venue.adapter.lost(1006, "", venue.now)
        venue.connect()
        assert [type(output) for output in venue.say(on=1, deals=[deal()])] == [FrameError]
        venue.number -= 1  # that message was not taken, so that it still counts as the next
        venue.open("ETH_USDT", 1)
        assert of(venue.say(on=1, deals=[deal()]), Trade)[0].symbol == "ETH/USDT"

    def test_a_book_is_ended_under_the_number_it_has_and_begun_under_a_new_one(self) -> None:
        venue = Connection()
        venue.open()
        venue.say(t=1.7e9, on=2, book=BOOK)
        crossed = venue.say(t=1.7e9, on=2, diff={"b": [[150, 1]], "a": []})
        frames = [orjson.loads(send.frame) for send in of(crossed, Send)]
        assert [frame["do"] for frame in frames] == ["close", "open"]
        assert frames[0]["channels"] == [2]
        venue.say(request=frames[1]["request"], what="book", market="BTC_USDT", channel=7)
        assert len(of(venue.say(t=1.7e9, on=7, book=BOOK), Book)) == 1

    def test_a_book_whose_number_was_never_told_is_only_begun_again(self) -> None:
        venue = Connection()
        venue.say(request="1", what="deals", market="BTC_USDT", channel=1)
        frames = [orjson.loads(send.frame) for send in of(venue.wait(15), Send)]
        assert {frame["do"] for frame in frames} == {"open"}
        assert "book" in {frame["what"] for frame in frames}

    def test_a_refusal_names_the_market(self) -> None:
        venue = Connection("BTC/USDT", "ETH/USDT")
        (status,) = of(venue.say(request="1", what="deals", market="ETH_USDT", refused="closed"), Status)
        assert (status.symbol, status.state, status.detail) == ("ETH/USDT", "rejected", "trades: closed")
        found = venue.adapter.subscriptions.find("trades", "BTC_USDT")
        assert found is not None
        assert found.state is State.REQUESTED


class TestMessageNumbers:
    def flowing(self) -> Connection:
        venue = Connection("BTC/USDT", "ETH/USDT")
        venue.open("BTC_USDT", 1)
        venue.open("ETH_USDT", 11)
        for on in (2, 12):
            venue.say(t=1.7e9, on=on, book=BOOK)
        for on in (1, 11):
            venue.say(on=on, deals=[deal()])
        return venue

    def test_a_hole_puts_every_book_of_the_connection_in_doubt_and_is_told_for_every_market(self) -> None:
        venue = self.flowing()
        venue.number += 2
        outputs = venue.say(on=1, deals=[deal("a2")])
        gaps = {(gap.channel, gap.symbol, gap.reason) for gap in of(outputs, Gap)}
        assert gaps == {
            (channel, symbol, "sequence")
            for channel in ("trades", "orderbooks", "tickers")
            for symbol in ("BTC/USDT", "ETH/USDT")
        }
        assert {book.state for book in venue.adapter.live.books.values()} == {BookState.RECOVERING}
        assert [status.detail for status in of(outputs, Status) if status.scope == "connection"] == ["messages 11 to 12"]
        assert len(of(outputs, Trade)) == 1, "and the stream goes on"
        opened = [orjson.loads(send.frame) for send in of(outputs + venue.wait(5), Send) if b'"open"' in bytes(send.frame)]  # type: ignore[arg-type]
        assert sorted(frame["markets"][0] for frame in opened) == ["BTC_USDT", "ETH_USDT"]

    def test_a_message_that_could_not_be_read_is_one_that_was_missed(self) -> None:
        venue = self.flowing()
        (error,) = of(venue.say(t=1.7e9, on=2, diff={"b": [["x", 1]], "a": []}), AdapterError)
        assert isinstance(error, FrameError)
        outputs = venue.say(on=1, deals=[deal("a2")])
        assert {gap.symbol for gap in of(outputs, Gap) if gap.channel == "orderbooks"} == {"BTC/USDT", "ETH/USDT"}

    def test_the_first_message_counts_too(self) -> None:
        venue = Connection()
        venue.number += 1
        assert [status.state for status in of(venue.say(ended=[]), Status)] == ["missed"]

    def test_a_repeat_is_passed_over(self) -> None:
        venue = self.flowing()
        venue.number -= 1
        assert venue.say(on=1, deals=[deal("a2")]) == []

    def test_going_back_is_a_broken_connection(self) -> None:
        venue = self.flowing()
        venue.number -= 4
        (reconnect,) = venue.say(on=1, deals=[deal("a2")])
        assert isinstance(reconnect, Reconnect)

    def test_numbering_begins_anew_with_each_connection(self) -> None:
        venue = self.flowing()
        venue.adapter.lost(1006, "", venue.now)
        venue.connect()
        assert venue.say(request="1", what="deals", market="BTC_USDT", channel=1) != []
        assert of(venue.say(ended=[]), Status) == []


class TestPing:
    @pytest.mark.parametrize("value", ["1.7e9", "12345678901234567890", '"abc"', "0"])
    def test_it_is_answered_with_its_very_value(self, value: str) -> None:
        (send,) = Connection().raw(f'{{"ping":{value}}}')
        assert send == Send(b'{"pong":' + value.encode() + b"}")

    def test_every_ping_is_answered(self) -> None:
        world = World(Made, 3)
        world.run(200)
        assert isinstance(world.dialect, Made)
        assert world.dialect.unanswered == []
        pongs = [send for send in world.told(Send) if b'"pong"' in bytes(send.frame)]
        assert len(pongs) > 5


def test_a_recording_of_it_may_begin_in_its_middle() -> None:
    """Frames for themselves: numbers of messages and channels are taken as the recording brings them."""
    venue = Connection()
    venue.number = 500
    frames = [venue.frame(request="1", what="deals", market="XRP_USDT", channel=4), venue.frame(on=4, deals=[deal()])]
    venue.number += 1
    frames += [venue.frame(on=4, deals=[deal("a2")])]
    decoded = list(decode_raw(Imaginary, [Line("recv", b64=frame) for frame in frames]))
    told = [(each.line, len(each.events), each.errors) for each in decoded]
    assert told == [(2, 1, []), (3, 1, ["missed: messages 503 to 503"])]
    assert decoded[0].events[0]["symbol"] == "XRP/USDT"


def test_two_connections_of_it_have_nothing_in_common() -> None:
    first, second = Connection(), Connection()
    first.open()
    assert of(second.say(on=1, deals=[deal()]), AdapterError) != []


def test_the_dialect_gives_other_numbers_to_other_connections() -> None:
    """Else the tests of the suite could not see an adapter that clings to them."""
    speaker = Made(Random(1))
    speaker.opened()
    first = list(speaker.free)
    speaker.opened()
    assert first != speaker.free
