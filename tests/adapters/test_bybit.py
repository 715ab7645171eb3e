"""Bybit: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.bybit import Bybit
from adapters.effects import Connect, Reconnect
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"


def push(topic: str, data: object, kind: str = "snapshot", **more: object) -> dict[str, Any]:
    return {"topic": topic, "type": kind, "ts": 1672304484978, "data": data} | more


def trade(number: str, native: str = "BTCUSDT", **changed: Any) -> dict[str, Any]:
    row = {"i": number, "T": 1786310822605, "p": "65140.50", "v": "0.002705", "S": "Buy", "s": native, "seq": 112488547164}
    return push(f"publicTrade.{native}", [row | {"BT": False, "RPI": False} | changed])


def book(
    kind: str,
    update: int,
    bids: list[list[str]] | None = None,
    asks: list[list[str]] | None = None,
    *,
    native: str = "BTCUSDT",
    depth: str = "200",
) -> dict[str, Any]:
    data = {"s": native, "b": bids or [], "a": asks or [], "u": update, "seq": 7961638724}
    return push(f"orderbook.{depth}.{native}", data, kind, cts=1672304484976)


def snapshot(update: int = 100, native: str = "BTCUSDT") -> dict[str, Any]:
    return book("snapshot", update, [["16493.50", "0.006"], ["16493.00", "0.100"]], [["16611.00", "0.029"]], native=native)


def delta(update: int, native: str = "BTCUSDT", price: str = "16493.50") -> dict[str, Any]:
    return book("delta", update, [[price, "1.50"]], native=native)


def reply(success: bool, text: str, request: str | None = "1", operation: str = "subscribe") -> dict[str, Any]:
    answer = {"success": success, "ret_msg": text, "conn_id": "d967ikkn0ine3iqmjc30-koqj", "op": operation}
    return answer if request is None else answer | {"req_id": request}


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Bybit, [("orderbooks", BTC), ("orderbooks", ETH)], options)
    driver.hear(snapshot(), snapshot(native="ETHUSDT"))
    return driver


def states(driver: Driver) -> dict[str, State]:
    return {f"{each.channel} {each.symbol}": each.state for each in driver.adapter.subscriptions}


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_a_ticker_is_two_topics_and_a_book_has_its_depth_in_the_name() -> None:
    driver = Driver(Bybit, every_channel(BTC, ETH))
    assert driver.began == [Connect("wss://stream.bybit.com/v5/public/spot")]
    trades, books, tickers = sent(driver.connected)
    assert trades == {"req_id": "1", "op": "subscribe", "args": ["publicTrade.BTCUSDT", "publicTrade.ETHUSDT"]}
    assert books["args"] == ["orderbook.200.BTCUSDT", "orderbook.200.ETHUSDT"]
    assert tickers["args"] == ["tickers.BTCUSDT", "orderbook.1.BTCUSDT", "tickers.ETHUSDT", "orderbook.1.ETHUSDT"]


def test_no_frame_has_more_than_ten_arguments() -> None:
    driver = Driver(Bybit, every_channel(*(f"COIN{number}/USDT" for number in range(12))))
    sizes = [len(each["args"]) for each in sent(driver.connected)]
    assert max(sizes) == 10
    assert sum(sizes) == 12 * 4


def test_a_deep_view_asks_for_the_deep_book() -> None:
    driver = Driver(Bybit, [("orderbooks", BTC)], BookOptions(depth=500))
    assert sent(driver.connected)[0]["args"] == ["orderbook.1000.BTCUSDT"]


def test_an_acknowledgement_is_about_its_request() -> None:
    driver = Driver(Bybit, every_channel(BTC, ETH))
    assert driver.hear(reply(True, "subscribe", "2")) == []
    assert {name for name, state in states(driver).items() if state is State.ACKED} == {
        f"orderbooks {BTC}",
        f"orderbooks {ETH}",
    }


@pytest.mark.parametrize("request_id", ["1", None], ids=["with its id", "as captured"])
@pytest.mark.parametrize("text", ["Invalid symbol :[publicTrade.FOOUSDT]", "Invalid topic: publicTrade.FOOUSDT"])
def test_one_bad_pair_is_rejected_and_the_rest_of_its_frame_asked_for_again(text: str, request_id: str | None) -> None:
    driver = Driver(Bybit, [("trades", BTC), ("trades", "FOO/USDT"), ("trades", ETH)])
    (status,) = of(driver.hear(reply(False, text, request_id)), Status)
    assert (status.symbol, status.state, status.detail) == ("FOO/USDT", "rejected", f"trades: {text}")
    (again,) = [each for each in sent(driver.wait(15.0)) if each["op"] == "subscribe"]
    assert again["args"] == ["publicTrade.BTCUSDT", "publicTrade.ETHUSDT"]


def test_a_refusal_may_name_many_and_the_topic_tells_the_channel() -> None:
    driver = Driver(Bybit, every_channel(BTC, ETH))
    text = "Invalid symbol :[orderbook.200.BTCUSDT,orderbook.1.ETHUSDT,tickers.ETHUSDT]"
    outputs = driver.hear(reply(False, text, None))
    assert {(each.symbol, each.detail.partition(":")[0]) for each in of(outputs, Status)} == {
        (BTC, "orderbooks"),
        (ETH, "tickers"),
    }
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 2, State.REQUESTED: 4}


def test_a_refusal_that_names_no_topic_is_the_venues_and_asked_again() -> None:
    driver = Driver(Bybit, [("trades", BTC)])
    assert of(driver.hear(reply(False, "system busy")), VenueError)
    assert [each["args"] for each in sent(driver.wait(15.0)) if each["op"] == "subscribe"] == [["publicTrade.BTCUSDT"]]


def test_what_is_subscribed_already_is_no_refusal() -> None:
    driver = Driver(Bybit, every_channel(BTC))
    assert driver.hear(reply(False, "error:already subscribed,topic:publicTrade.BTCUSDT")) == []
    assert states(driver)[f"trades {BTC}"] is State.ACKED


def test_the_end_of_what_was_not_subscribed_is_no_refusal() -> None:
    driver = synced()
    outputs = driver.hear(reply(False, "error:not subscribed,topic:orderbook.200.BTCUSDT", operation="unsubscribe"))
    assert [type(output) for output in outputs] == [VenueError]
    assert driver.book("BTCUSDT").state is BookState.SYNCED


def test_data_may_come_before_its_acknowledgement() -> None:
    driver = Driver(Bybit, every_channel(BTC))
    assert of(driver.hear(snapshot(), delta(101), trade("1")), Gap) == []
    driver.hear(reply(True, "subscribe", "1"), reply(True, "subscribe", "2"))
    assert states(driver)[f"trades {BTC}"] is State.LIVE
    assert driver.book("BTCUSDT").state is BookState.SYNCED


# Books --------------------------------------------------------------------------------------------------------------


def test_each_change_has_the_next_update_id_and_the_time_of_the_engine() -> None:
    (change,) = of(synced(DELTAS).hear(delta(101)), BookDelta)
    assert (change.previous, change.sequence, change.bids) == (100, 101, [("16493.50", "1.50")])
    assert (change.timestamp, change.received) == (1672304484976000, RECEIVED)


def test_a_jump_of_update_ids_resubscribes_that_book_alone() -> None:
    driver = synced()
    outputs = driver.hear(delta(103), delta(104))
    (gap,) = of(outputs, Gap)
    assert (gap.symbol, gap.reason, gap.first_missing, gap.last_missing) == (BTC, "sequence", "101", "102")
    assert [(each["op"], each["args"]) for each in sent(outputs)] == [
        ("unsubscribe", ["orderbook.200.BTCUSDT"]),
        ("subscribe", ["orderbook.200.BTCUSDT"]),
    ]
    assert of(outputs, Book) == [], "nothing is shown while in doubt"
    assert [view.symbol for view in of(driver.hear(delta(101, "ETHUSDT")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.hear(snapshot(200), delta(201)), Book)] == [200, 201]


def test_an_old_change_is_passed_over() -> None:
    driver = synced()
    assert driver.hear(delta(100, price="1.1"), delta(99, price="1.1")) == []


def test_a_snapshot_may_come_at_any_time_and_replaces_the_book() -> None:
    driver = synced()
    (view,) = of(driver.hear(book("snapshot", 7, [["9", "1"]], [["11", "2"]])), Book)
    assert (view.sequence, view.bids, view.asks) == (7, [("9", "1")], [("11", "2")])
    assert [each.sequence for each in of(driver.hear(delta(8, price="8")), Book)] == [8]


@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_update_id_one_is_a_service_that_began_anew(kind: str) -> None:
    driver = synced()
    outputs = driver.hear(book(kind, 1, [["9", "1"]], [["11", "2"]]), delta(2, price="8"))
    assert of(outputs, Gap) == []
    assert [view.bids for view in of(outputs, Book)] == [[("9", "1")], [("9", "1"), ("8", "1.50")]]


def test_a_level_of_size_zero_goes_also_where_it_never_was() -> None:
    (view,) = of(synced().hear(book("delta", 101, [["16493.50", "0"], ["1.1", "0"]])), Book)
    assert view.bids == [("16493.00", "0.100")]


def test_a_crossed_book_is_asked_for_again() -> None:
    assert [gap.reason for gap in of(synced().hear(delta(101, price="16611.00")), Gap)] == ["crossed"]


def test_a_book_of_2023_has_no_time_of_the_engine() -> None:
    message = delta(101)
    del message["cts"]
    assert raw(Bybit, message).events[0]["timestamp"] == 1672304484978000


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_is_live_whatever_its_type_says_and_no_gap_is_read_from_its_id() -> None:
    driver = Driver(Bybit, [("trades", BTC)])
    outputs = driver.hear(trade("2290000001189048101"), trade("2290000001189048109", S="Sell"), trade("2290000001189048109"))
    first, second = of(outputs, Trade)
    assert (first.id, first.price, first.amount, first.side) == ("2290000001189048101", "65140.50", "0.002705", "buy")
    assert (first.timestamp, second.side) == (1786310822605000, "sell")
    assert of(outputs, Gap) == []


def test_a_packed_frame_gives_all_its_trades() -> None:
    message = push("publicTrade.BTCUSDT", [trade(str(number))["data"][0] for number in range(3)])
    assert [each.id for each in of(Driver(Bybit, [("trades", BTC)]).hear(message), Trade)] == ["0", "1", "2"]


def test_the_last_price_and_the_best_prices_come_apart() -> None:
    day = {"symbol": "BTCUSDT", "lastPrice": "65140.5", "volume24h": "2953.835931", "usdIndexPrice": ""}
    best = book("snapshot", 5, [["65140.4", "0.5"]], [["65140.5", "2"]], depth="1")
    driver = Driver(Bybit, [("tickers", BTC), ("orderbooks", BTC)])
    last, prices = of(driver.hear(push("tickers.BTCUSDT", day), best), Ticker)
    assert (last.last, last.volume_24h, last.bid, last.timestamp) == ("65140.5", "2953.835931", None, 1672304484978000)
    assert (prices.bid, prices.bid_amount, prices.ask, prices.ask_amount) == ("65140.4", "0.5", "65140.5", "2")
    assert driver.book("BTCUSDT").state is BookState.WAITING, "the book of depth 1 is no base of changes"


def test_the_best_prices_may_lack_a_side() -> None:
    (event,) = raw(Bybit, book("snapshot", 5, [["65140.4", "0.5"]], depth="1")).events
    assert (event["bid"], event["ask"]) == ("65140.4", None)


def test_the_best_prices_of_2023_come_as_changes_too() -> None:
    (event,) = raw(Bybit, book("delta", 5, [["10", "0"], ["9", "0.4"]], [["11", "0"]], depth="1")).events
    assert (event["type"], event["bid"], event["bid_amount"], event["ask"]) == ("ticker", "9", "0.4", None)


# Names, the connection, what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "symbol"),
    [
        ("BTCUSDT", BTC),
        ("SHIB1000USDT", "SHIB1000/USDT"),
        ("BTCUSDC", "BTC/USDC"),
        ("BTCPERP", None),
        ("BTCUSDT-21FEB25", None),
    ],
)
def test_names_by_rule(native: str, symbol: str | None) -> None:
    assert Bybit.canonical(native) == symbol


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Bybit.native("BTC/USDT:USDT")


@pytest.mark.parametrize(
    "pong",
    [
        {"success": True, "ret_msg": "pong", "conn_id": "0970e817", "req_id": "100001", "op": "ping"},
        {"req_id": "1", "op": "pong", "args": ["1675418560633"], "conn_id": "0970e817"},
    ],
    ids=["public", "private"],
)
def test_the_client_pings_and_any_form_of_pong_is_a_sign_of_life(pong: dict[str, Any]) -> None:
    driver = Driver(Bybit, [])
    assert [each["op"] for each in sent(driver.wait(21.0))] == ["ping"]
    assert driver.hear(pong) == []
    assert of(driver.wait(21.0), Reconnect) == []
    assert of(driver.wait(31.0), Reconnect), "without any pong the connection is dead"


@pytest.mark.parametrize("topic", ["kline.1", "orderbook.rpi", "insurance.USDT", "adlAlert", "priceLimit", "allLiquidation"])
def test_topics_of_no_interest_are_passed_over(topic: str) -> None:
    assert Driver(Bybit, []).hear(push(f"{topic}.BTCUSDT", [{"anything": 1}])) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"topic": 5}, {"op": "auth"}, push("never.BTCUSDT", [])),
        {"success": True, "conn_id": "x", "data": {"failTopics": []}, "type": "COMMAND_RESP"},
        {"topic": "publicTrade.BTCUSDT", "type": "snapshot"},
        trade("1", S="none"),
        trade("1", T="soon"),
        trade("1", T=10**15),
        trade("1", p=42219.9),
        trade("1", p="free"),
        push("publicTrade.BTCUSDT", {}),
        book("replace", 101),
        book("delta", 101, [["1"]]),
        {each: value for each, value in delta(101).items() if each != "type"},
        push("tickers.BTCUSDT", []),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Bybit, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade("1")), Trade)


# REST ---------------------------------------------------------------------------------------------------------------


def answer(result: object, code: int = 0, text: str = "OK") -> dict[str, Any]:
    return {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": 1709891679050}


def test_instruments_are_those_of_spot() -> None:
    spot: dict[str, Any] = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"}
    spot |= {"lotSizeFilter": {"basePrecision": "0.000001"}, "priceFilter": {"tickSize": "0.1"}}
    early = spot | {"symbol": "NEWUSDT", "baseCoin": "NEW", "status": "PreLaunch"}
    linear = spot | {"contractType": "LinearPerpetual", "lotSizeFilter": {"qtyStep": "0.1"}}
    body = answer({"list": [spot, early, linear]})
    first, second = Bybit.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.active) == (BTC, "BTCUSDT", True)
    assert (first.price_step, first.amount_step) == ("0.1", "0.000001")
    assert (second.symbol, second.active, second.state) == ("NEW/USDT", False, "PreLaunch")
    assert Bybit.shape(body) == "instruments"


def test_rest_trades_are_past_trades() -> None:
    row = {"execId": "2290000001189048101", "symbol": "BTCUSDT", "price": "1.50", "size": "2", "side": "Sell"}
    body = answer({"category": "spot", "list": [row | {"time": "1709891679000", "isBlockTrade": False}]})
    (event,) = raw_answer(Bybit, ("trades", ""), body).events
    assert (event["id"], event["symbol"], event["side"], event["snapshot"]) == ("2290000001189048101", BTC, "sell", True)
    assert event["timestamp"] == 1709891679000000
    assert Driver(Bybit, [("trades", BTC)]).answer(("trades", "BTCUSDT"), body) == []


def test_a_rest_book_is_a_view_and_no_base_of_changes() -> None:
    body = answer({"s": "BTCUSDT", "b": [["27450.50", "1.5"]], "a": [], "ts": 1709891679000, "u": 12, "seq": 9})
    (event,) = raw_answer(Bybit, ("view", ""), body).events
    assert (event["type"], event["symbol"], event["sequence"], event["timestamp"]) == ("book", BTC, 12, 1709891679000000)
    driver = Driver(Bybit, [("orderbooks", BTC)])
    assert driver.answer(("view", "BTCUSDT"), body) == []
    assert driver.book("BTCUSDT").state is BookState.WAITING


def test_a_code_of_error_is_a_fetch_error() -> None:
    with pytest.raises(FetchError, match="Too many visits"):
        Bybit.parse_instruments(frame(answer({}, 10006, "Too many visits!")))
    assert of(Driver(Bybit, []).answer(("view", "BTCUSDT"), b"<html>busy</html>"), FetchError)
