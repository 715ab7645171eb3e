"""Bitfinex: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import orjson
import pytest

from adapters.bitfinex import Bitfinex
from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.decode import Line, decode_raw
from adapters.effects import Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Channel, Gap, Status, Ticker, Trade
from adapters.live import Output
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw_answer, sent

BTC, ETH = "BTC/USD", "ETH/USD"
FLAGS = 32768 + 65536 + 131072
INFO = {"event": "info", "version": 2, "serverId": "083bd8d4-aca7-4690-a573-eabfc8103de8", "platform": {"status": 1}}
CONF = {"event": "conf", "status": "OK", "flags": FLAGS}
MILLIS = 1574694478808

TRADES, BOOK, TICKER = 17470, 266343, 340432
"""Numbers of the channels of BTC/USD."""


class Connection(Driver):
    """A greeted connection, on which every array gets its number and its time."""

    def __init__(self, wanted: list[tuple[Channel, str]], options: BookOptions = VIEWS) -> None:
        super().__init__(Bitfinex, wanted, options)
        self.number = 0
        self.asked = self.hear(INFO, CONF)

    def say(self, *arrays: str) -> list[Output]:
        """The venue sends these arrays, number tokens as they stand."""
        outputs = []
        for array in arrays:
            self.number += 1
            outputs += self.hear(f"{array[:-1]},{self.number},{MILLIS}]".encode())
        return outputs

    def renew(self) -> list[Output]:
        self.number = 0
        self.reconnect()
        return self.hear(INFO, CONF)


def subscribed(channel: str, number: int, symbol: str = "tBTCUSD", **more: Any) -> dict[str, Any]:
    return {"event": "subscribed", "channel": channel, "chanId": number, "symbol": symbol, "pair": symbol[1:]} | more


def error(code: int, text: str, **more: Any) -> dict[str, Any]:
    return {"event": "error", "msg": text, "code": code} | more


SNAPSHOT = f"[{BOOK},[[7364.8,3,4.354802],[7364.7,1,0.00288831],[7364.9,1,-0.42028976],[7365,2,-0.25]]]"
CHECKSUM = 1427301231
"""Of that book, as the fact sheet gives it."""


def open_book(options: BookOptions = VIEWS) -> Connection:
    venue = Connection([("orderbooks", BTC), ("orderbooks", ETH)], options)
    venue.hear(subscribed("book", BOOK, prec="P0", freq="F0", len="25"), subscribed("book", 99, "tETHUSD", prec="P0"))
    venue.say(SNAPSHOT, "[99,[[150.1,1,2],[150.2,1,-3]]]")
    return venue


def open_trades() -> Connection:
    venue = Connection([("trades", BTC)])
    venue.hear(subscribed("trades", TRADES))
    return venue


# The connection and its subscriptions ---------------------------------------------------------------------------------


def test_flags_go_before_the_first_of_the_subscriptions() -> None:
    venue = Connection(every_channel(BTC))
    assert sent(venue.connected) == [], "the greeting comes first"
    assert sent(venue.asked) == [
        {"event": "conf", "flags": FLAGS},
        {"event": "subscribe", "channel": "trades", "symbol": "tBTCUSD", "subId": "1"},
        {
            **{"event": "subscribe", "channel": "book", "symbol": "tBTCUSD", "subId": "2"},
            **{"prec": "P0", "freq": "F0", "len": "25"},
        },
        {"event": "subscribe", "channel": "ticker", "symbol": "tBTCUSD", "subId": "3"},
    ]


def test_a_deep_view_asks_for_a_long_book() -> None:
    assert sent(Connection([("orderbooks", BTC)], BookOptions(depth=100)).asked)[1]["len"] == "100"


@pytest.mark.parametrize("reply", [{"event": "conf", "status": "FAILED"}, {"event": "conf", "status": "OK", "flags": 65536}])
def test_without_its_flags_a_connection_proves_nothing(reply: dict[str, Any]) -> None:
    assert of(Connection([]).hear(reply), Reconnect)


def test_an_acknowledgement_names_its_market_and_a_refusal_too() -> None:
    venue = Connection(every_channel(BTC, "FOO/USD"))
    venue.hear(subscribed("ticker", TICKER))
    refusal = error(10300, "symbol: invalid", symbol="tFOOUSD", channel="trades")
    (status,) = of(venue.hear(refusal), Status)
    assert (status.symbol, status.state, status.detail) == ("FOO/USD", "rejected", "trades: symbol: invalid (code 10300)")
    states = {(each.channel, each.symbol): each.state for each in venue.adapter.subscriptions}
    assert states.pop(("tickers", BTC)) is State.ACKED
    assert states.pop(("trades", "FOO/USD")) is State.REJECTED
    assert set(states.values()) == {State.REQUESTED}


@pytest.mark.parametrize("code", [10305, 11010])
def test_a_passing_refusal_is_asked_again(code: int) -> None:
    venue = Connection([("trades", BTC)])
    assert of(venue.hear(error(code, "limit", symbol="tBTCUSD", channel="trades")), VenueError)
    assert [each["channel"] for each in sent(venue.wait(15.0)) if each["event"] == "subscribe"] == ["trades"]


def test_a_duplicate_is_no_refusal_and_tells_the_number() -> None:
    venue = Connection([("trades", BTC)])
    assert venue.hear(error(10301, "subscribe: dup", symbol="tBTCUSD", channel="trades", chanId=TRADES)) == []
    assert of(venue.say(f'[{TRADES},"te",[1,{MILLIS},1,2]]'), Trade)


def test_numbers_of_channels_die_with_the_connection() -> None:
    venue = open_trades()
    venue.renew()
    deal = f'[{TRADES},"te",[1,{MILLIS},1,2]]'
    assert [type(output) for output in venue.say(deal, deal)] == [FrameError], "said once"
    venue.hear(subscribed("trades", 5))
    assert of(venue.say(f'[5,"te",[2,{MILLIS},1,2]]'), Trade)


def test_late_data_of_a_channel_that_is_ending_is_no_error() -> None:
    venue = open_book()
    (end, again) = sent(venue.say(f'[{BOOK},"cs",1]'))
    assert (end, again["event"]) == ({"event": "unsubscribe", "chanId": BOOK}, "subscribe")
    assert venue.say(f"[{BOOK},[7364.8,1,1]]") == []
    venue.hear({"event": "unsubscribed", "status": "OK", "chanId": BOOK}, subscribed("book", 8, prec="P0", subId="9"))
    assert [view.bids[0] for view in of(venue.say("[8,[[7000,1,2],[7001,1,-3]]]"), Book)] == [("7000", "2")]


def test_a_duty_of_the_connection_says_nothing() -> None:
    venue = open_trades()
    assert venue.hear({"event": "pong", "ts": MILLIS, "cid": 1234}) == []
    assert venue.say(f'[{TRADES},"hb"]') == []
    assert Send('{"event":"ping"}') in venue.wait(21.0)
    assert of(venue.wait(41.0), Reconnect), "silence ends a connection"


@pytest.mark.parametrize("code", [20051, 20061])
def test_a_restart_and_the_end_of_a_maintenance_make_a_new_connection(code: int) -> None:
    (reconnect,) = of(open_book().hear({"event": "info", "code": code, "msg": "x"}), Reconnect)
    assert reconnect.after == 5.0


def test_a_maintenance_is_told() -> None:
    venue = open_book()
    assert of(venue.hear({"event": "info", "code": 20060, "msg": "Entering maintenance"}), VenueError)
    driver = Driver(Bitfinex, [("trades", BTC)])
    outputs = driver.hear(INFO | {"platform": {"status": 0}})
    assert sent(outputs) == []
    assert [reconnect.after for reconnect in of(outputs, Reconnect)] == [30.0]


# Numbers of messages --------------------------------------------------------------------------------------------------


def test_a_jump_puts_every_book_in_doubt_and_is_told_for_every_market() -> None:
    venue = open_book()
    venue.number += 2
    outputs = venue.say(f'[{BOOK},"hb"]')
    assert {(gap.symbol, gap.channel, gap.reason) for gap in of(outputs, Gap)} == {
        *((symbol, "orderbooks", "sequence") for symbol in (BTC, ETH)),
    }
    assert [status.detail for status in of(outputs, Status) if status.scope == "connection"] == ["messages 3 to 4"]
    assert sorted(each["chanId"] for each in sent(outputs) if each["event"] == "unsubscribe") == [99, BOOK]


def test_heartbeats_and_checksums_count_too() -> None:
    venue = open_book()
    outputs = venue.say(f'[{BOOK},"hb"]', f'[{BOOK},"cs",{CHECKSUM}]', f"[{BOOK},[7364.8,1,1]]")
    assert of(outputs, Gap) == []


def test_a_repeat_is_passed_over_and_going_back_is_a_broken_connection() -> None:
    venue = open_book()
    venue.number -= 1
    assert venue.say(f"[{BOOK},[7364.8,1,1]]") == []
    venue.number -= 2
    (reconnect,) = of(venue.say(f"[{BOOK},[7364.8,1,1]]"), Reconnect)
    assert reconnect.reason == "message 1 after 2"


def test_what_could_not_be_read_was_missed() -> None:
    venue = open_book()
    assert of(venue.say(f"[{BOOK},[7364.8,1]]"), FrameError)
    assert {gap.symbol for gap in of(venue.say(f'[{BOOK},"hb"]'), Gap)} == {BTC, ETH}


def test_numbering_begins_anew_with_each_connection() -> None:
    venue = open_book()
    venue.renew()
    assert [status.state for status in of(venue.say('[7,"hb"]'), Status)] == []


@pytest.mark.parametrize(("flags", "tail"), [(0, ""), (65536, ",7"), (32768, f",{MILLIS}"), (FLAGS, f",7,{MILLIS},1")])
def test_a_recording_has_flags_of_its_own(flags: int, tail: str) -> None:
    messages = [orjson.dumps(CONF | {"flags": flags}), orjson.dumps(subscribed("ticker", TICKER))]
    messages.append(f"[{TICKER},[7617.5,43.31,7617.6,63.29,-550.8,-0.067,7617.1,8314.7,8257.8,7500]{tail}]".encode())
    (decoded,) = decode_raw(Bitfinex, [Line("recv", raw=message.decode()) for message in messages])
    (event,) = decoded.events
    assert (event["symbol"], event["last"]) == (BTC, "7617.1")
    assert event["timestamp"] == (MILLIS * 1000 if flags & 32768 else None)


# Books ----------------------------------------------------------------------------------------------------------------


def test_negative_amounts_are_asks() -> None:
    venue = Connection([("orderbooks", BTC)])
    venue.hear(subscribed("book", BOOK, prec="P0"))
    (view,) = of(venue.say(SNAPSHOT), Book)
    assert view.bids == [("7364.8", "4.354802"), ("7364.7", "0.00288831")]
    assert view.asks == [("7364.9", "0.42028976"), ("7365", "0.25")]
    assert (view.timestamp, view.received) == (MILLIS * 1000, RECEIVED)


def test_a_count_of_zero_removes_and_the_amount_is_but_a_side() -> None:
    first, second, third = of(
        open_book(DELTAS).say(f"[{BOOK},[7364.8,0,1]]", f"[{BOOK},[7364.9,0,-1]]", f"[{BOOK},[1.5,0,1]]"), BookDelta
    )
    assert (first.bids, first.asks) == ([("7364.8", "0")], [])
    assert (second.bids, second.asks) == ([], [("7364.9", "0")])
    assert third.bids == [("1.5", "0")], "a level that never was"


def test_a_row_sets_its_level_whatever_its_count() -> None:
    (view,) = of(open_book().say(f"[{BOOK},[7364.8,17,5e-7]]"), Book)
    assert view.bids[0] == ("7364.8", "0.0000005")


def test_grouped_changes_are_no_snapshot() -> None:
    (view,) = of(open_book().say(f"[{BOOK},[[7364.8,0,1],[7364.75,1,1]]]"), Book)
    assert view.bids == [("7364.75", "1"), ("7364.7", "0.00288831")]


def test_the_checksum_of_the_fact_sheet() -> None:
    assert of(open_book().say(f'[{BOOK},"cs",{CHECKSUM}]'), Gap) == []
    for wrong in (CHECKSUM + 1, -CHECKSUM, CHECKSUM - 2**32):
        outputs = open_book().say(f'[{BOOK},"cs",{wrong}]')
        assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "checksum")]
        assert [(each["event"], each.get("chanId", each.get("symbol"))) for each in sent(outputs)] == [
            ("unsubscribe", BOOK),
            ("subscribe", "tBTCUSD"),
        ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("[0.0000011,1,7e-7],[0.0000012,1,-1.1e-7]", -1197037072),
        ("[12,1,3],[11,1,0.5],[10,1,1],[13,1,-2]", -1157628545),
        ("[1.10,1,2.50]", 1046024429),
        ("", 0),
    ],
    ids=["exponents", "unequal sides", "tokens as sent", "nothing"],
)
def test_a_checksum_takes_the_venues_own_text(rows: str, expected: int) -> None:
    venue = Connection([("orderbooks", BTC)])
    venue.hear(subscribed("book", BOOK, prec="P0"))
    assert of(venue.say(f"[{BOOK},[{rows}]]", f'[{BOOK},"cs",{expected}]'), Gap) == []


def test_a_checksum_covers_25_levels_a_side_however_few_are_shown() -> None:
    rows = [f"[{100 + level},1,-1]" for level in range(30)]
    venue = Connection([("orderbooks", BTC)], BookOptions(depth=1, interval=0.0))
    venue.hear(subscribed("book", BOOK, prec="P0"))
    outputs = venue.say(f"[{BOOK},[{','.join(rows)}]]", f'[{BOOK},"cs",1340270367]', f"[{BOOK},[124,1,-2]]")
    assert of(outputs, Gap) == []
    assert of(venue.say(f'[{BOOK},"cs",1340270367]'), Gap)


def test_a_cross_lasts_for_a_frame_and_is_no_fault() -> None:
    outputs = open_book().say(f"[{BOOK},[7365,1,1]]", f"[{BOOK},[7364.9,0,-1]]", f"[{BOOK},[7365,0,-1]]")
    assert of(outputs, Gap) == []
    assert of(outputs, Book)[-1].asks == []


def test_books_of_single_orders_are_none_of_ours() -> None:
    venue = Connection([("orderbooks", BTC)])
    venue.hear(subscribed("book", BOOK, prec="R0"))
    assert venue.say(f"[{BOOK},[[96124382782,31534,0.0285]]]") == []
    assert venue.book("tBTCUSD").state is BookState.WAITING


# Trades and tickers ---------------------------------------------------------------------------------------------------


def test_a_trade_is_told_once_although_it_comes_twice() -> None:
    row = f"[401597395,{MILLIS},-5e-3,7245.30]"
    venue = open_trades()
    (trade,) = of(venue.say(f'[{TRADES},"te",{row}]', f'[{TRADES},"tu",{row}]'), Trade)
    assert (trade.id, trade.price, trade.amount, trade.side) == ("401597395", "7245.30", "0.005", "sell")
    assert (trade.timestamp, trade.received) == (MILLIS * 1000, RECEIVED)
    assert venue.adapter.totals()["repeated"] == 0


def test_trades_of_one_order_come_in_two_runs() -> None:
    rows = [f"[{number},{MILLIS},1,2]" for number in (7, 9, 12)]
    frames = [f'[{TRADES},"{word}",{row}]' for word in ("te", "tu") for row in rows]
    outputs = open_trades().say(*frames)
    assert [trade.id for trade in of(outputs, Trade)] == ["7", "9", "12"]
    assert of(outputs, Gap) == [], "ids are those of all markets"


def test_a_booked_trade_makes_up_for_the_one_that_was_missed() -> None:
    venue = open_trades()
    venue.say(f'[{TRADES},"te",[1,{MILLIS},1,2]]', f'[{TRADES},"tu",[1,{MILLIS},1,2]]')
    venue.number += 1
    outputs = venue.say(f'[{TRADES},"tu",[2,{MILLIS},1,2]]')
    assert [gap.reason for gap in of(outputs, Gap)] == ["sequence"]
    assert [trade.id for trade in of(outputs, Trade)] == ["2"]


def test_the_trades_of_a_snapshot_are_past_and_never_live() -> None:
    venue = open_trades()
    assert venue.say(f"[{TRADES},[[2,{MILLIS},1,2],[1,{MILLIS},-1,2]]]") == []
    assert [trade.id for trade in of(venue.say(f'[{TRADES},"te",[3,{MILLIS},1,2]]'), Trade)] == ["3"]


def test_a_ticker_has_no_sizes_of_the_best_prices() -> None:
    venue = Connection([("tickers", BTC)])
    venue.hear(subscribed("ticker", TICKER))
    (ticker,) = of(venue.say(f"[{TICKER},[7617.5,43.31,null,63.29,-550.8,-0.067,7617.1,8314.7,8257.8,7500]]"), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == ("7617.5", None, None, None)
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == ("7617.1", "8314.7", MILLIS * 1000)


@pytest.mark.parametrize(("channel", "about"), [("candles", {"key": "trade:1m:tBTCUSD"}), ("status", {"key": "liq:global"})])
def test_channels_of_no_interest_are_passed_over(channel: str, about: dict[str, str]) -> None:
    venue = Connection(every_channel(BTC))
    assert venue.hear({"event": "subscribed", "channel": channel, "chanId": 3} | about) == []
    assert venue.say("[3,[[1574698260000,7379.7]]]", "[3,[1574698260000,7379.7]]") == []


# Names and what cannot be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "native"),
    [
        *(("BTC/USD", "tBTCUSD"), ("BTC/USDT", "tBTCUST"), ("AVAX/USD", "tAVAX:USD"), ("DOGE/USDT", "tDOGE:UST")),
        *(("IOTA/ETH", "tIOTETH"), ("BTC/USDC", "tBTCUDC"), ("LUNC/USD", "tLUNA:USD"), ("LUNA/USD", "tLUNA2:USD")),
    ],
)
def test_names_lead_there_and_back(symbol: str, native: str) -> None:
    assert Bitfinex.native(symbol) == native
    assert Bitfinex.canonical(native) == symbol


@pytest.mark.parametrize("native", ["tBTCF0:USTF0", "fUSD", "fUST", "tBTC", "t", ""])
def test_only_spot_has_a_symbol(native: str) -> None:
    assert Bitfinex.canonical(native) is None


@pytest.mark.parametrize("symbol", ["AMP/USD", "BTC/UST"])
def test_what_means_another_asset_here_never_gets_its_market(symbol: str) -> None:
    assert Bitfinex.native(symbol) == symbol, "which the venue refuses"


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Bitfinex.native("BTC/USDT:USDT")


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"[1]", b"\xff", {}, {"event": "never"}, {"event": 5}, {"event": "subscribed", "channel": "book"}),
        [{"channel": "trades", "symbol": "tBTCUSD"}, "te", [1, MILLIS, 1, 2]],
        [TRADES, "te"],
        [TRADES, "te", [1, MILLIS, 1]],
        [TRADES, "te", [1, MILLIS, "x", 2]],
        [TRADES, "te", [1, MILLIS, 1, -2]],
        [TRADES, "never", [1, MILLIS, 1, 2]],
        [TRADES, 7],
        [BOOK, [7000, "1", 1]],
        [BOOK, [[7000, 1, None]]],
        [BOOK, "cs", "1"],
        [TICKER, [1, 2, 3]],
        [TICKER, "hb", "1"],
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    venue = Connection(every_channel(BTC))
    venue.hear(subscribed("trades", TRADES), subscribed("book", BOOK, prec="P0"), subscribed("ticker", TICKER))
    assert len(of(venue.hear(wrong), FrameError)) == 1
    assert of(venue.say(f'[{TRADES},"te",[1,{MILLIS},1,2]]'), Trade)


# REST -----------------------------------------------------------------------------------------------------------------


def test_instruments_are_names_alone() -> None:
    body = [["AVAX:UST", "BTCUSD", "BTCF0:USTF0"]]
    first, second = Bitfinex.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.active) == ("AVAX/USDT", "tAVAX:UST", True)
    assert (second.symbol, second.price_step, second.amount_step) == (BTC, None, "0.00000001")
    assert Bitfinex.shape(body) == "instruments"


def test_rest_trades_are_past_trades() -> None:
    body = [[401597395, MILLIS, -0.005, 7245.3]]
    (event,) = raw_answer(Bitfinex, ("trades", "tBTCUSD"), body).events
    assert (event["id"], event["symbol"], event["side"], event["snapshot"]) == ("401597395", BTC, "sell", True)
    assert Driver(Bitfinex, [("trades", BTC)]).answer(("trades", "tBTCUSD"), body) == []
    assert Bitfinex.shape(body) == "trades"


def test_a_rest_book_is_a_view_and_no_base_of_changes() -> None:
    body = [[23144, 3, 0.87789], [23325, 5, -0.00297898]]
    (event,) = raw_answer(Bitfinex, ("view", "tBTCUSD"), body).events
    assert (event["bids"], event["asks"]) == ([("23144", "0.87789")], [("23325", "0.00297898")])
    driver = Driver(Bitfinex, [("orderbooks", BTC)])
    assert driver.answer(("view", "tBTCUSD"), body) == []
    assert driver.book("tBTCUSD").state is BookState.WAITING


@pytest.mark.parametrize(
    "body", [["error", 11010, "ratelimit: error"], {"code": 503, "error": "ratelimit: error"}, {"error": "ratelimit: error"}]
)
def test_an_error_in_the_body_is_a_fetch_error(body: object) -> None:
    with pytest.raises(FetchError, match="ratelimit: error"):
        Bitfinex.parse_instruments(frame(body))
    assert of(Driver(Bitfinex, []).answer(("view", "tBTCUSD"), b""), FetchError)
