"""Gate: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Connect, Fetch, Reconnect
from adapters.errors import FetchError, FrameError, NumberError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.gateio import Gateio
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"
TIME = ("time",)


def push(channel: str, result: object, **more: object) -> dict[str, Any]:
    return {"time": 1606292218, "time_ms": 1606292218231, "channel": channel, "event": "update", "result": result} | more


def deal(identifier: int, **changed: Any) -> dict[str, Any]:
    row = {"id": identifier, "create_time": 1606292218, "create_time_ms": "1606292218213.4578", "side": "sell"}
    row |= {"currency_pair": "BTC_USDT", "amount": "16.4700000000", "price": "0.4705000000", "id_market": 917144}
    return row | changed


def book(channel: str = "spot.obu", **result: Any) -> dict[str, Any]:
    return push(channel, {"t": 1747054612695, "s": "ob.BTC_USDT.50"} | result)


def snapshot(sequence: int = 100, native: str = "BTC_USDT") -> dict[str, Any]:
    bids, asks = [["10.0", "1.50"], ["9.0", "2"]], [["11.0", "1"]]
    return book(full=True, s=f"ob.{native}.50", u=sequence, b=bids, a=asks)


def update(first: int, last: int, native: str = "BTC_USDT", price: str = "10.0") -> dict[str, Any]:
    return book(s=f"ob.{native}.50", U=first, u=last, b=[[price, "7.0"]])


def ack(request: int, channel: str, *payload: str, **more: object) -> dict[str, Any]:
    about = {"time": 1790134507, "time_ms": 1790134507715, "id": request, "channel": channel, "event": "subscribe"}
    return about | {"payload": list(payload), "result": {"status": "success"}} | more


def refusal(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}, "result": {"status": "fail"}}


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Gateio, [("orderbooks", BTC), ("orderbooks", ETH)], options)
    driver.hear(snapshot(), snapshot(native="ETH_USDT"))
    return driver


# Connections and subscriptions --------------------------------------------------------------------------------------


def test_a_connection_begins_with_the_time_which_every_frame_must_bear() -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    (fetch,) = of(driver.began, Fetch)
    assert fetch.request.url == "https://api.gateio.ws/api/v4/spot/time"
    (connect,) = driver.answer(fetch.key, {"server_time": 1790134507715})
    assert connect == Connect("wss://api.gateio.ws/ws/v4/"), "with its last slash"
    (frame,) = sent(driver.reconnect())
    assert frame == {
        "time": RECEIVED // 1_000_000,
        "id": 2,
        "channel": "spot.trades",
        "event": "subscribe",
        "payload": ["BTC_USDT"],
    }
    assert {each["time"] for each in sent(driver.wait(30.0))} == {RECEIVED // 1_000_000}


@pytest.mark.parametrize("body", [{"label": "TOO_FAST", "message": "wait"}, {"server_time": "now"}, b"<html>"])
def test_without_the_time_the_connection_is_tried_again(body: object) -> None:
    adapter = Gateio([("trades", BTC)])
    adapter.start(0.0)
    driver = Driver(Gateio, [])
    driver.adapter = adapter
    outputs = driver.answer(TIME, body)
    assert of(outputs, FetchError)
    assert of(outputs, Reconnect)


def test_each_pair_has_a_frame_of_its_own_since_a_bad_one_fails_its_whole_frame() -> None:
    driver = Driver(Gateio, every_channel("NOPE/USDT", BTC))
    frames = sent(driver.connected)
    assert [(each["channel"], each["payload"]) for each in frames] == [
        ("spot.trades", ["NOPE_USDT"]),
        ("spot.trades", ["BTC_USDT"]),
        ("spot.obu", ["ob.NOPE_USDT.50"]),
        ("spot.obu", ["ob.BTC_USDT.50"]),
        ("spot.tickers", ["NOPE_USDT"]),
        ("spot.tickers", ["BTC_USDT"]),
    ]
    unknown = refusal(2, "unknown currency pair: NOPE_USDT")
    outputs = driver.hear(
        ack(1, "spot.trades", "NOPE_USDT", **unknown),
        ack(2, "spot.trades", "BTC_USDT"),
        ack(3, "spot.obu", "ob.NOPE_USDT.50", **unknown),
        ack(4, "spot.obu", "ob.BTC_USDT.50"),
    )
    assert [(status.symbol, status.detail) for status in of(outputs, Status)] == [
        ("NOPE/USDT", "trades: unknown currency pair: NOPE_USDT (code 2)"),
        ("NOPE/USDT", "orderbooks: unknown currency pair: NOPE_USDT (code 2)"),
    ]
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 2, State.ACKED: 2, State.REQUESTED: 2}
    assert {each["payload"][0] for each in sent(driver.wait(15.0)) if each["channel"] == "spot.tickers"} == {
        "NOPE_USDT",
        "BTC_USDT",
    }


@pytest.mark.parametrize("leave", ["id", "payload"])
def test_an_answer_names_its_subscription_by_id_or_by_payload(leave: str) -> None:
    driver = Driver(Gateio, every_channel(BTC, ETH))
    answer = ack(4, "spot.obu", "ob.ETH_USDT.50")
    del answer[leave]
    driver.hear(answer)
    assert [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED] == [
        ("orderbooks", ETH)
    ]


def test_old_answers_do_not_tell_what_they_answer() -> None:
    driver = Driver(Gateio, every_channel(BTC))
    old = {"time": 1619093532, "channel": "spot.trades", "event": "subscribe", "result": {"status": "success"}}
    assert driver.hear(old, old | {"id": 8578128440611119318}) == []
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 3}


def test_an_error_that_is_null_is_none() -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    assert driver.hear(ack(1, "spot.trades", "BTC_USDT", error=None)) == []
    assert driver.adapter.subscriptions.counts() == {State.ACKED: 1}
    assert of(driver.hear(push("spot.trades", deal(1), error=None, id=None)), Trade)


def test_what_is_subscribed_already_goes_on() -> None:
    driver = Driver(Gateio, [("orderbooks", BTC)])
    driver.hear(ack(1, "spot.obu", "ob.BTC_USDT.50", **refusal(2, "Alert sub ob.BTC_USDT.50")))
    assert driver.adapter.subscriptions.counts() == {State.ACKED: 1}
    assert [each["event"] for each in sent(driver.wait(12.0)) if "event" in each] == ["unsubscribe", "subscribe"], (
        "no whole book comes for a second request"
    )


def test_a_fault_of_the_server_is_passing() -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    assert of(driver.hear(ack(1, "spot.trades", "BTC_USDT", **refusal(3, "internal"))), VenueError)
    assert [each["event"] for each in sent(driver.wait(12.0)) if "event" in each] == ["subscribe"]


@pytest.mark.parametrize("event", ["", "api"])
def test_an_error_that_is_no_answer_is_the_venues(event: str) -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    (error,) = driver.hear({"time": 1, "channel": "spot.pong", "event": event} | refusal(1, "bad body"))
    assert isinstance(error, VenueError)
    assert "bad body (code 1)" in str(error)


def test_the_end_of_a_subscription_changes_nothing() -> None:
    driver = synced()
    end = ack(7, "spot.obu", "ob.BTC_USDT.50") | {"event": "unsubscribe"}
    assert driver.hear(end, end | refusal(2, "not subscribed")) == []
    assert driver.book("BTC_USDT").state is BookState.SYNCED


def test_the_client_pings_and_the_venue_answers() -> None:
    driver = Driver(Gateio, [])
    assert [each["channel"] for each in sent(driver.wait(21.0))] == ["spot.ping", "spot.ping"]
    pong = {"time": 1545404023, "time_ms": 1545404023123, "channel": "spot.pong", "event": "", "result": None}
    assert driver.hear(pong, pong | {"error": None}) == []
    assert of(driver.wait(30.0), Reconnect), "silence ends the connection"


def test_an_upgrade_that_is_announced_is_a_reconnect() -> None:
    message = "The connection will soon be closed for a service upgrade. Please reconnect."
    (reconnect,) = of(Driver(Gateio, []).hear(push("spot.system", {"type": "upgrade", "msg": message})), Reconnect)
    assert (reconnect.reason, reconnect.overlap) == (message, True)


# Books --------------------------------------------------------------------------------------------------------------


def test_a_change_begins_at_the_update_after_the_last() -> None:
    driver = synced(DELTAS)
    first, second = of(driver.hear(update(101, 105), update(106, 106, price="9.0")), BookDelta)
    assert (first.previous, first.sequence, first.bids) == (100, 105, [("10.0", "7.0")])
    assert (second.previous, second.sequence, second.timestamp) == (105, 106, 1747054612695000)


def test_the_whole_book_may_come_before_its_answer() -> None:
    driver = Driver(Gateio, [("orderbooks", BTC)])
    driver.hear(snapshot(), ack(1, "spot.obu", "ob.BTC_USDT.50"))
    assert driver.book("BTC_USDT").state is BookState.SYNCED
    assert [each["channel"] for each in sent(driver.wait(20.0))] == ["spot.ping"] * 2, "it is not asked for again"


def test_the_whole_book_may_come_again_at_any_time() -> None:
    driver = synced()
    outputs = driver.hear(update(101, 105), snapshot(200), update(201, 202))
    assert of(outputs, Gap) == []
    assert [view.sequence for view in of(outputs, Book)] == [105, 200, 202]


def test_a_missed_change_subscribes_its_book_anew_and_no_other() -> None:
    driver = synced()
    outputs = driver.hear(update(103, 104))
    (gap,) = of(outputs, Gap)
    assert (gap.symbol, gap.reason, gap.first_missing, gap.last_missing) == (BTC, "sequence", "101", "102")
    assert [(each["event"], each["payload"]) for each in sent(outputs)] == [
        ("unsubscribe", ["ob.BTC_USDT.50"]),
        ("subscribe", ["ob.BTC_USDT.50"]),
    ]
    assert [view.symbol for view in of(driver.hear(update(101, 101, "ETH_USDT")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.hear(update(105, 105), snapshot(200), update(201, 201)), Book)] == [200, 201]


@pytest.mark.parametrize("rows", [{}, {"b": None, "a": None}, {"b": [], "a": []}])
def test_a_change_without_rows_moves_the_number_on(rows: dict[str, Any]) -> None:
    driver = synced()
    outputs = driver.hear(book(U=101, u=104, **rows), update(105, 105))
    assert of(outputs, Gap) == []
    assert [view.sequence for view in of(outputs, Book)] == [104, 105]


def test_rows_are_in_no_order_and_nothing_of_them_is_left_beyond_the_depth() -> None:
    driver = Driver(Gateio, [("orderbooks", BTC)], DELTAS)
    asks = [[str(100 + step), "1"] for step in reversed(range(50))]
    driver.hear(book(full=True, u=100, b=[["98", "1"]], a=asks))
    (delta,) = of(driver.hear(book(U=101, u=101, b=[["97", "1"], ["99", "2"]], a=[["99.5", "3"]])), BookDelta)
    assert delta.asks == [("99.5", "3"), ("149", "0")], "the fifty-first level is gone, which the venue does not say"
    assert driver.book("BTC_USDT").book.view()[0][:2] == [("99", "2"), ("98", "1")]


def test_the_greater_depth_is_subscribed_for_a_deep_view() -> None:
    driver = Driver(Gateio, [("orderbooks", BTC)], BookOptions(depth=51))
    assert sent(driver.connected)[0]["payload"] == ["ob.BTC_USDT.400"]


@pytest.mark.parametrize("extra", [{}, {"l": "100", "E": 1606294781, "e": "depthUpdate"}])
def test_the_older_changes_are_read(extra: dict[str, Any]) -> None:
    change = book("spot.order_book_update", s="BTC_USDT", U=48776301, u=48776306, b=[["19137.74", "0.0"]], a=[], **extra)
    (event,) = raw(Gateio, change).events
    assert (event["type"], event["symbol"], event["sequence"], event["bids"]) == (
        *("book_delta", BTC, 48776306),
        [("19137.74", "0")],
    )
    (event,) = raw(Gateio, book("spot.order_book_update", s="BTC_USDT", full=True, U=1, u=7, b=[["1", "2"]], a=[])).events
    assert (event["type"], event["sequence"]) == ("book", 7), "a first push may be whole"


def test_the_best_levels_are_a_view_and_no_base_of_changes() -> None:
    view = push("spot.order_book", {"t": 1606295412123, "lastUpdateId": 7, "s": "BTC_USDT", "bids": [["1", "2"]], "asks": []})
    (event,) = raw(Gateio, view).events
    assert (event["type"], event["symbol"], event["sequence"]) == ("book", BTC, 7)
    driver = Driver(Gateio, [("orderbooks", BTC)])
    driver.hear(view)
    assert driver.book("BTC_USDT").state is BookState.WAITING


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_has_the_takers_side_and_a_time_of_milliseconds_with_a_fraction() -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    outputs = driver.hear(push("spot.trades", deal(309143071)), push("spot.trades", deal(309143071)))
    (trade,) = of(outputs, Trade)
    assert (trade.id, trade.price, trade.amount, trade.side) == ("309143071", "0.4705000000", "16.4700000000", "sell")
    assert (trade.timestamp, trade.received) == (1606292218213457, RECEIVED)
    assert of(outputs, Gap) == []


def test_ids_count_all_markets_together_so_that_no_gap_is_read_from_them() -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    outputs = driver.hear(push("spot.trades", [deal(7), deal(9)]), push("spot.trades", deal(1000)))
    assert [trade.id for trade in of(outputs, Trade)] == ["7", "9", "1000"], "a list is read as well as one trade"
    assert of(outputs, Gap) == []


@pytest.mark.parametrize(
    ("millis", "timestamp"),
    [("1606292218213", 1606292218213000), ("1691620568789.0", 1691620568789000), ("1606292218213.05", 1606292218213050)],
)
def test_a_time_may_be_finer_or_coarser(millis: str, timestamp: int) -> None:
    (event,) = raw(Gateio, push("spot.trades", deal(1, create_time_ms=millis))).events
    assert event["timestamp"] == timestamp


@pytest.mark.parametrize("millis", ["", ".5", "-1", "1e12", "soon", "1.2.3", "9" * 15, "\u0661"])
def test_what_is_no_time_is_one_error(millis: str) -> None:
    driver = Driver(Gateio, [("trades", BTC)])
    assert len(of(driver.hear(push("spot.trades", deal(1, create_time_ms=millis))), NumberError)) == 1


DAY = {"currency_pair": "BTC_USDT", "last": "19106.55", "lowest_ask": "19108.71", "highest_bid": "", "base_volume": "2811.30"}


@pytest.mark.parametrize(("more", "timestamp"), [({}, 1606292218231000), ({"time_ms": None}, 1606292218000000)])
def test_a_ticker_has_the_time_of_its_message(more: dict[str, Any], timestamp: int) -> None:
    (ticker,) = of(Driver(Gateio, [("tickers", BTC)]).hear(push("spot.tickers", DAY, **more)), Ticker)
    assert (ticker.bid, ticker.ask, ticker.last, ticker.volume_24h) == (None, "19108.71", "19106.55", "2811.30")
    assert ticker.timestamp == timestamp


def test_a_best_price_may_lack_a_side_and_its_time() -> None:
    best = {"t": 0, "u": 48733182, "s": "BTC_USDT", "b": "19177.79", "B": "0.0003341504", "a": "", "A": ""}
    (event,) = raw(Gateio, push("spot.book_ticker", best)).events
    assert (event["bid"], event["bid_amount"], event["ask"], event["timestamp"]) == ("19177.79", "0.0003341504", None, None)


# Names, what cannot be read, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("native", "symbol"), [("BTC3L_USDT", "BTC3L/USDT"), ("BTC_USDT_20260327", None), ("BTC", None)])
def test_names_by_rule(native: str, symbol: str | None) -> None:
    assert Gateio.canonical(native) == symbol


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Gateio.native("BTC/USDT:USDT")


def test_candles_are_passed_over() -> None:
    assert Driver(Gateio, []).hear(push("spot.candlesticks", {"t": "1606292580", "n": "1m_BTC_USDT"})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"channel": 5}, {"method": "trades.update", "params": []}),
        push("spot.never", {}),
        push("spot.trades", None),
        push("spot.trades", deal(-1)),
        push("spot.trades", deal(1, side="none")),
        push("spot.trades", deal(1, price="free")),
        push("spot.trades", deal(1, price=5.5)),
        book(u=101, b=[["10.0", "1"]]),
        book(U=101, b=[["10.0", "1"]]),
        book(U=101, u=101, b=[["10.0"]]),
        push("spot.tickers", [DAY]),
        push("spot.tickers", DAY, time=10**13, time_ms=None),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Gateio, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(push("spot.trades", deal(1))), Trade)


def test_instruments_of_which_some_cannot_be_traded() -> None:
    market = {"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "fee": "0.2", "amount_precision": 4, "precision": 1}
    body = [market | {"trade_status": status} for status in ("tradable", "sellable", "untradable")]
    first, second, third = Gateio.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.price_step, first.amount_step) == (BTC, "BTC_USDT", "0.1", "0.0001")
    assert [(each.active, each.state) for each in (first, second, third)] == [
        (True, "tradable"),
        (True, "sellable"),
        (False, "untradable"),
    ]
    assert Gateio.shape(body) == "instruments"


def test_a_book_of_rest_is_a_base_of_changes_where_it_bears_its_number() -> None:
    body = {"current": 1634345973275, "update": 1634345973271, "asks": [["2.2241", "12449.8"]], "bids": []}
    (event,) = raw_answer(Gateio, ("book", "BTC_USDT"), body | {"id": 6358770031}).events
    assert (event["symbol"], event["sequence"], event["timestamp"]) == (BTC, 6358770031, 1634345973275000)
    (event,) = raw_answer(Gateio, ("book", ""), body).events
    assert (event["native"], event["sequence"], event["asks"]) == (None, None, [("2.2241", "12449.8")])
    assert Gateio.shape(body) == "book"


def test_rest_trades_are_past_trades_with_the_ids_of_the_stream() -> None:
    body = [deal(1, id="309143071", sequence_id="588018")]
    (event,) = raw_answer(Gateio, ("trades", ""), body).events
    assert (event["symbol"], event["id"], event["timestamp"], event["snapshot"]) == (BTC, "309143071", 1606292218213457, True)
    assert Driver(Gateio, [("trades", BTC)]).answer(("trades", "BTC_USDT"), body) == []
    assert Gateio.shape(body) == "trades"


def test_a_label_is_a_fetch_error_in_the_venues_words() -> None:
    with pytest.raises(FetchError, match=r"Invalid currency pair \(INVALID_CURRENCY_PAIR\)"):
        Gateio.parse_instruments(frame({"label": "INVALID_CURRENCY_PAIR", "message": "Invalid currency pair"}))
