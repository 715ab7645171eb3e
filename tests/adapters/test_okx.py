"""OKX: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Connect, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.okx import Okx
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"


def push(channel: str, native: str, *rows: object, **more: object) -> dict[str, Any]:
    return {"arg": {"channel": channel, "instId": native}, **more, "data": list(rows)}


def trade(number: str, native: str = "BTC-USDT", **changed: Any) -> dict[str, Any]:
    row = {"instId": native, "tradeId": number, "px": "42219.90", "sz": "0.12060306", "side": "buy", "ts": "1630048897897"}
    return push("trades", native, row | changed)


def book(
    action: str,
    sequence: int | None,
    previous: int | None,
    *,
    bids: list[list[str]] | None = None,
    asks: list[list[str]] | None = None,
    native: str = "BTC-USDT",
    channel: str = "books",
) -> dict[str, Any]:
    row: dict[str, Any] = {"asks": asks or [], "bids": bids or [], "ts": "1597026383085", "checksum": 0}
    if sequence is not None:
        row |= {"seqId": sequence, "prevSeqId": previous}
    return push(channel, native, row, action=action)


def snapshot(sequence: int | None = 100, native: str = "BTC-USDT") -> dict[str, Any]:
    bids, asks = [["8476.97", "256", "0", "12"], ["8475.55", "101", "0", "1"]], [["8476.98", "415", "0", "13"]]
    return book("snapshot", sequence, -1, bids=bids, asks=asks, native=native)


def update(sequence: int | None, previous: int | None, native: str = "BTC-USDT", price: str = "8476.97") -> dict[str, Any]:
    return book("update", sequence, previous, bids=[[price, "1.50", "0", "1"]], native=native)


def synced(options: BookOptions = VIEWS, sequence: int | None = 100) -> Driver:
    driver = Driver(Okx, [("orderbooks", BTC), ("orderbooks", ETH)], options)
    driver.hear(snapshot(sequence), snapshot(sequence, "ETH-USDT"))
    return driver


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_a_frame_names_all_pairs_of_a_channel() -> None:
    driver = Driver(Okx, every_channel(BTC, ETH))
    assert driver.began == [Connect("wss://ws.okx.com/ws/v5/public")], "port 443: 8443 is gone"
    trades, books, tickers = sent(driver.connected)
    assert trades == {
        "id": "1",
        "op": "subscribe",
        "args": [{"channel": "trades", "instId": "BTC-USDT"}, {"channel": "trades", "instId": "ETH-USDT"}],
    }
    assert {each["channel"] for each in books["args"]} == {"books"}
    assert {each["channel"] for each in tickers["args"]} == {"tickers"}


@pytest.mark.parametrize("more", [{}, {"connId": "accb8e21", "id": "1"}], ids=["2022", "today"])
def test_each_argument_is_acknowledged_by_itself(more: dict[str, str]) -> None:
    driver = Driver(Okx, every_channel(BTC, ETH))
    driver.hear({"event": "subscribe", "arg": {"channel": "trades", "instId": "ETH-USDT"}} | more)
    assert [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED] == [
        ("trades", ETH)
    ]


def test_a_refusal_names_its_argument_inside_the_text_only() -> None:
    driver = Driver(Okx, every_channel(BTC, "FOO/USDT"))
    message = "Wrong URL or channel:books,instId:FOO-USDT doesn't exist. Please use the correct URL."
    (status,) = of(driver.hear({"id": "2", "event": "error", "code": "60018", "msg": message, "connId": "a4d3ae55"}), Status)
    assert (status.symbol, status.state) == ("FOO/USDT", "rejected")
    assert status.detail == f"orderbooks: {message} (code 60018)"
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 1, State.REQUESTED: 5}


def test_a_refusal_that_names_no_argument_is_about_its_request() -> None:
    driver = Driver(Okx, every_channel(BTC))
    (status,) = of(driver.hear({"id": "1", "event": "error", "code": "60013", "msg": "Invalid args"}), Status)
    assert status.detail == "trades: Invalid args (code 60013)"


def test_an_error_that_names_nothing_is_the_venues() -> None:
    driver = Driver(Okx, [("trades", BTC)])
    assert of(driver.hear({"event": "error", "code": "60012", "msg": "Invalid request: x"}), VenueError)
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 1}


@pytest.mark.parametrize("code", ["60014", "63999", "64007"])
def test_a_passing_refusal_is_asked_again(code: str) -> None:
    driver = Driver(Okx, [("trades", BTC)])
    assert of(driver.hear({"id": "1", "event": "error", "code": code, "msg": "too frequent"}), VenueError)
    assert [each["op"] for each in sent(driver.wait(15.0))] == ["subscribe"]


def test_other_events_change_nothing() -> None:
    driver = Driver(Okx, [("trades", BTC)])
    gone = {"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}
    count = {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "abcd1234"}
    assert driver.hear(gone, count, {"event": "subscribe", "arg": {"channel": "candle1m", "instId": "BTC-USDT"}}) == []
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 1}


# Books --------------------------------------------------------------------------------------------------------------


def test_each_change_names_the_one_before() -> None:
    driver = synced(DELTAS)
    first, second = of(driver.hear(update(105, 100), update(106, 105, price="8475.55")), BookDelta)
    assert (first.previous, first.sequence, first.bids) == (100, 105, [("8476.97", "1.50")])
    assert (second.previous, second.sequence, second.timestamp) == (105, 106, 1597026383085000)


def test_a_broken_chain_resubscribes_that_book_alone() -> None:
    driver = synced()
    outputs = driver.hear(update(106, 105), update(107, 106))
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "sequence")]
    argument = {"channel": "books", "instId": "BTC-USDT"}
    assert [(each["op"], each["args"]) for each in sent(outputs)] == [("unsubscribe", [argument]), ("subscribe", [argument])]
    assert of(outputs, Book) == [], "nothing is shown while in doubt"
    assert [view.symbol for view in of(driver.hear(update(101, 100, "ETH-USDT")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.hear(snapshot(200), update(201, 200)), Book)] == [200, 201]


def test_a_book_that_keeps_breaking_is_asked_for_ever_more_rarely() -> None:
    driver = synced()
    outputs, asked = driver.hear(update(7, 5)), 0
    for _ in range(600):
        if any(each["op"] == "subscribe" for each in sent(outputs)):
            asked += 1
            driver.hear(snapshot(100))
        outputs = driver.hear(update(7, 5), b"pong") + driver.wait(1.0)
    assert 5 < asked < 40, "two operations each: an hour of a broken book stays below 480"


def test_nothing_changed_is_a_heartbeat() -> None:
    driver = synced()
    assert [view.sequence for view in of(driver.hear(book("update", 100, 100), update(101, 100)), Book)][-1] == 101
    assert driver.book("BTC-USDT").state is BookState.SYNCED


def test_the_venue_may_begin_to_number_anew() -> None:
    driver = synced()
    outputs = driver.hear(update(3, 100), update(5, 3))
    assert of(outputs, Gap) == []
    assert [view.sequence for view in of(outputs, Book)] == [3, 5]


def test_books_of_2022_have_no_sequence() -> None:
    driver = synced(DELTAS, sequence=None)
    (delta,) = of(driver.hear(update(None, None)), BookDelta)
    assert (delta.previous, delta.sequence) == (None, None)


def test_a_retired_checksum_is_not_compared() -> None:
    driver = synced()
    message = update(101, 100)
    message["data"][0]["checksum"] = -855196043
    assert of(driver.hear(message), Gap) == []


def test_a_call_auction_crosses_books_and_is_right() -> None:
    driver = synced()
    (view,) = of(driver.hear(update(101, 100, price="9000")), Book)
    assert (view.bids[0][0], view.asks[0][0]) == ("9000", "8476.98")


def test_a_level_of_size_zero_goes_also_where_it_never_was() -> None:
    driver = synced()
    gone = [["8476.97", "0", "0", "0"], ["1.1", "0", "0", "0"]]
    (view,) = of(driver.hear(book("update", 101, 100, bids=gone)), Book)
    assert view.bids == [("8475.55", "101")]


@pytest.mark.parametrize("channel", ["books", "books-l2-tbt", "books50-l2-tbt"])
def test_deep_books_are_books(channel: str) -> None:
    (event,) = raw(Okx, book("update", 7, 5, asks=[["8476.98", "0.00", "0", "0"]], channel=channel)).events
    assert (event["type"], event["sequence"], event["previous"]) == ("book_delta", 7, 5)
    assert event["asks"] == [("8476.98", "0")]


def test_five_levels_are_a_view_and_no_base_of_changes() -> None:
    view = push("books5", "BTC-USDT", {"asks": [["8476.98", "415", "0", "13"]], "bids": [], "ts": "1597026383085", "seqId": 12})
    (event,) = raw(Okx, view).events
    assert (event["type"], event["symbol"], event["sequence"]) == ("book", BTC, 12)
    driver = Driver(Okx, [("orderbooks", BTC)])
    driver.hear(view)
    assert driver.book("BTC-USDT").state is BookState.WAITING


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_has_the_takers_side_and_no_gap_is_read_from_its_id() -> None:
    driver = Driver(Okx, [("trades", BTC)])
    outputs = driver.hear(trade("130639474", count="3", source="0", seqId=1234), trade("130639480"), trade("130639480"))
    first, second = of(outputs, Trade)
    assert (first.id, first.price, first.amount, first.side) == ("130639474", "42219.90", "0.12060306", "buy")
    assert (first.timestamp, first.received) == (1630048897897000, RECEIVED)
    assert second.id == "130639480"
    assert of(outputs, Gap) == []


def test_a_packed_frame_gives_all_its_trades() -> None:
    rows = [trade(str(number))["data"][0] for number in range(3)]
    driver = Driver(Okx, [("trades", BTC)])
    assert [each.id for each in of(driver.hear(push("trades-all", "BTC-USDT", *rows)), Trade)] == ["0", "1", "2"]


def test_a_ticker_may_lack_a_side() -> None:
    row = {"instType": "SPOT", "instId": "BTC-USDT", "last": "9999.990", "askPx": "9999.99", "askSz": "11", "bidPx": ""}
    row |= {"bidSz": "", "volCcy24h": "7", "vol24h": "2222.0", "ts": "1597026383085"}
    (ticker,) = of(Driver(Okx, [("tickers", BTC)]).hear(push("tickers", "BTC-USDT", row)), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == (None, None, "9999.99", "11")
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == ("9999.990", "2222.0", 1597026383085000)


def test_a_best_price_is_a_ticker_and_may_lack_a_side() -> None:
    row = {"asks": [["8476.98", "415", "0", "13"]], "bids": [], "ts": "1597026383085", "seqId": 123456}
    (event,) = raw(Okx, push("bbo-tbt", "BTC-USDT", row)).events
    assert (event["type"], event["bid"], event["ask"], event["ask_amount"]) == ("ticker", None, "8476.98", "415")


# Names, the connection, what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "symbol"),
    [("BTC-USDT", BTC), ("BTC-USD-220527", None), ("BTC-USDT-SWAP", None), ("BTC-USD-220304-32000-P", None), ("BTC", None)],
)
def test_only_spot_has_a_symbol(native: str, symbol: str | None) -> None:
    (event,) = raw(Okx, trade("1", native)).events
    assert (event["native"], event["symbol"]) == (native, symbol)


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Okx.native("BTC/USDT:USDT")


def test_ping_and_pong_are_words_and_no_operations() -> None:
    driver = Driver(Okx, [])
    outputs = driver.wait(21.0)
    assert Send("ping", cost=0) in outputs
    assert driver.hear(b"pong") == []
    assert of(driver.wait(21.0), Reconnect) == []
    assert of(driver.wait(31.0), Reconnect), "without any pong the connection is dead"


def test_a_close_that_is_announced_is_a_reconnect() -> None:
    notice = {"event": "notice", "code": "64008", "msg": "The connection will soon be closed.", "connId": "a4d3ae55"}
    (reconnect,) = of(Driver(Okx, []).hear(notice), Reconnect)
    assert reconnect.reason == "The connection will soon be closed."
    assert of(Driver(Okx, []).hear(notice | {"code": "1"}), VenueError)


@pytest.mark.parametrize(
    "channel",
    [
        *("candle1D", "mark-price-candle1m", "index-candle1Dutc", "funding-rate", "mark-price", "index-tickers"),
        *("open-interest", "liquidation-orders", "books-rpi", "instruments", "status"),
    ],
)
def test_channels_of_no_interest_are_passed_over(channel: str) -> None:
    assert Driver(Okx, []).hear(push(channel, "BTC-USDT", {"anything": 1})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"table": "spot/depth5", "data": []}, {"arg": 5}, {"arg": {}}),
        push("never", "BTC-USDT"),
        {"arg": {"channel": "trades", "instId": "BTC-USDT"}},
        trade("1", side="none"),
        trade("1", ts="soon"),
        trade("1", ts="99999999999999999999"),
        trade("1", px=42219.9),
        trade("1", px="free"),
        push("trades", "BTC-USDT", {}),
        book("replace", 7, 5),
        book("update", 7, 5, bids=[["1"]]),
        push("tickers", "BTC-USDT", []),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Okx, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade("1")), Trade)


# REST ---------------------------------------------------------------------------------------------------------------


def answer(*rows: object, code: str = "0", msg: str = "") -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": list(rows)}


def test_instruments_are_those_of_spot() -> None:
    spot = {"instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live"}
    spot |= {"tickSz": "0.1", "lotSz": "0.00000001", "ctVal": ""}
    halted = spot | {"instId": "OLD-USDT", "baseCcy": "OLD", "state": "suspend"}
    swap = spot | {"instType": "SWAP", "instId": "BTC-USDT-SWAP", "baseCcy": "", "quoteCcy": ""}
    body = answer(spot, halted, swap)
    first, second = Okx.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.active) == (BTC, "BTC-USDT", True)
    assert (first.price_step, first.amount_step) == ("0.1", "0.00000001")
    assert (second.symbol, second.active, second.state) == ("OLD/USDT", False, "suspend")
    assert Okx.shape(body) == "instruments"


def test_rest_trades_are_past_trades() -> None:
    body = answer(*trade("734864333")["data"])
    (event,) = raw_answer(Okx, ("trades", ""), body).events
    assert (event["id"], event["symbol"], event["snapshot"]) == ("734864333", BTC, True)
    assert Driver(Okx, [("trades", BTC)]).answer(("trades", "BTC-USDT"), body) == []
    assert Okx.shape(body) == "trades"


def test_a_rest_book_is_a_view_named_by_its_request() -> None:
    body = answer({"asks": [["29692.5", "0.10", "5"]], "bids": [], "ts": "1654328918680"})
    (event,) = raw_answer(Okx, ("view", "BTC-USDT"), body).events
    assert (event["type"], event["symbol"], event["asks"]) == ("book", BTC, [("29692.5", "0.10")])
    assert raw_answer(Okx, ("view", ""), body).events[0]["native"] is None
    assert Okx.shape(body) == "view"


def test_a_code_of_error_is_a_fetch_error() -> None:
    with pytest.raises(FetchError, match="Instrument ID doesn't exist"):
        Okx.parse_instruments(frame(answer(code="51001", msg="Instrument ID doesn't exist")))
    assert of(Driver(Okx, []).answer(("view", "BTC-USDT"), b"<html>busy</html>"), FetchError)
