"""Kraken: what its file makes of each kind of message, and of each trap of its fact sheet."""

from collections.abc import Iterable
from typing import Any
from zlib import crc32

import orjson
import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Connect, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.kraken import Kraken
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USD", "ETH/USD"

# The venue's own example: ten levels a side at a precision of 1 and 8 places.
ASKS = [
    *("45285.2 0.00100000", "45286.4 1.54571953", "45286.6 1.54571109", "45289.6 1.54560911", "45290.2 0.15890660"),
    *("45291.8 1.54553491", "45294.7 0.04454749", "45296.1 0.35380000", "45297.5 0.09945542", "45299.5 0.18772827"),
]
BIDS = [
    *("45283.5 0.10000000", "45283.4 1.54582015", "45282.1 0.10000000", "45281.0 0.10000000", "45280.3 1.54592586"),
    *("45279.0 0.07990000", "45277.6 0.03310103", "45277.5 0.30000000", "45277.3 1.54602737", "45276.6 0.15445238"),
]
CHECKSUM = 3310070434


def checksum(bids: list[str], asks: list[str]) -> int:
    """As the fact sheet defines it, of levels that stand best first."""
    numbers = [number for level in [*asks[:10], *bids[:10]] for number in level.split()]
    return crc32("".join(number.replace(".", "").lstrip("0") for number in numbers).encode())


def rows(levels: Iterable[str]) -> bytes:
    """Each `price qty` as the venue writes it: bare numbers, as they stand."""
    return b",".join(b'{"price":%s,"qty":%s}' % tuple(level.encode().split()) for level in levels)


def book(
    kind: str,
    bids: Iterable[str] = (),
    asks: Iterable[str] = (),
    checked: int = 0,
    symbol: str = "BTC/USD",
    timestamp: str | None = None,
) -> bytes:
    when = b',"timestamp":"%s"' % timestamp.encode() if timestamp else b""
    sides = b'"bids":[%s],"asks":[%s],"checksum":%d' % (rows(bids), rows(asks), checked)
    return b'{"channel":"book","type":"%s","data":[{"symbol":"%s",%s%s}]}' % (kind.encode(), symbol.encode(), sides, when)


def trades(kind: str, *numbers: int, symbol: str = BTC) -> bytes:
    row = b'{"symbol":"%s","side":"sell","price":78568.60,"qty":4E-5,"ord_type":"limit","trade_id":%d,"timestamp":"%s"}'
    when = b"2026-08-26T11:34:06.075373Z"
    data = b",".join(row % (symbol.encode(), number, when) for number in numbers)
    return b'{"channel":"trade","type":"%s","data":[%s]}' % (kind.encode(), data)


def accepted(channel: str, symbol: str, request: int, **more: Any) -> dict[str, Any]:
    result = {"channel": channel, "symbol": symbol, "snapshot": True} | more
    return {"method": "subscribe", "result": result, "success": True, "time_in": "x", "time_out": "y", "req_id": request}


def refused(error: str, **more: Any) -> dict[str, Any]:
    return {"error": error, "method": "subscribe", "success": False, "time_in": "x", "time_out": "y"} | more


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Kraken, [("orderbooks", BTC)], options)
    driver.hear(accepted("book", BTC, 1, depth=10), book("snapshot", BIDS, ASKS, CHECKSUM))
    return driver


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_a_frame_names_the_symbols_of_a_channel_and_the_depth_of_its_books() -> None:
    driver = Driver(Kraken, every_channel(BTC, ETH), BookOptions(depth=20))
    assert driver.began == [Connect("wss://ws.kraken.com/v2")]
    trade, orderbook, ticker = sent(driver.connected)
    assert trade["params"] == {"channel": "trade", "symbol": [BTC, ETH], "snapshot": False}
    assert orderbook["params"] == {"channel": "book", "symbol": [BTC, ETH], "depth": 25, "snapshot": True}
    assert ticker["params"] == {"channel": "ticker", "symbol": [BTC, ETH], "event_trigger": "bbo", "snapshot": True}
    assert [each["req_id"] for each in (trade, orderbook, ticker)] == [1, 2, 3]


@pytest.mark.parametrize(("view", "depth"), [(1, 10), (10, 10), (11, 25), (50, 100), (101, 500), (1000, 1000)])
def test_only_the_depths_that_exist_are_asked_for(view: int, depth: int) -> None:
    (orderbook,) = sent(Driver(Kraken, [("orderbooks", BTC)], BookOptions(depth=view)).connected)
    assert orderbook["params"]["depth"] == depth


def test_a_view_deeper_than_any_book_is_refused() -> None:
    with pytest.raises(SymbolError, match="at most 1000"):
        Driver(Kraken, [("orderbooks", BTC)], BookOptions(depth=1001))


def test_each_symbol_is_acknowledged_by_itself() -> None:
    driver = Driver(Kraken, every_channel(BTC, ETH))
    driver.hear(accepted("trade", ETH, 1), accepted("ohlc", BTC, 1), {"method": "subscribe", "success": True, "req_id": 1})
    assert [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED] == [
        ("trades", ETH)
    ]


def test_a_refusal_with_a_symbol_rejects_it_alone_and_on_its_channel_alone() -> None:
    driver = Driver(Kraken, every_channel(BTC, "FOO/USD"))
    outputs = driver.hear(refused("Currency pair not supported FOO/USD", symbol="FOO/USD", req_id=2))
    (status,) = of(outputs, Status)
    assert (status.symbol, status.detail) == ("FOO/USD", "orderbooks: Currency pair not supported FOO/USD")
    rejected = [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.REJECTED]
    assert rejected == [("orderbooks", "FOO/USD")]


def test_a_refusal_without_a_request_is_about_all_that_is_asked_of_the_symbol() -> None:
    driver = Driver(Kraken, every_channel(BTC, "FOO/USD"))
    driver.hear(refused("Currency pair not supported FOO/USD", symbol="FOO/USD"))
    assert {each.state for each in driver.adapter.subscriptions if each.symbol == "FOO/USD"} == {State.REJECTED}


def test_a_refusal_without_a_symbol_rejects_all_of_its_request() -> None:
    driver = Driver(Kraken, every_channel(BTC, ETH))
    outputs = driver.hear(refused("Subscription depth not supported", req_id=2))
    assert {status.detail for status in of(outputs, Status)} == {"orderbooks: Subscription depth not supported"}
    assert [status.symbol for status in of(outputs, Status)] == [BTC, ETH]


def test_a_refusal_that_names_nothing_is_the_venues() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    assert of(driver.hear(refused("Malformed request")), VenueError)
    assert of(driver.hear({"Error": "Exceeded msg rate"}), VenueError)
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 1}


def test_what_is_subscribed_already_is_no_refusal() -> None:
    driver = Driver(Kraken, every_channel(BTC))
    assert driver.hear(refused("Already subscribed", symbol=BTC, req_id=1)) == []
    assert [each.channel for each in driver.adapter.subscriptions if each.state is State.ACKED] == ["trades"]


@pytest.mark.parametrize("error", ["Exceeded msg rate", "EService:Unavailable", "EAPI:Rate limit exceeded"])
def test_a_passing_refusal_is_asked_again(error: str) -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    assert of(driver.hear(refused(error, symbol=BTC, req_id=1)), VenueError)
    assert [each["params"]["symbol"] for each in sent(driver.wait(15.0)) if each["method"] == "subscribe"] == [[BTC]]


def test_answers_to_what_was_unsubscribed_change_nothing() -> None:
    driver = synced()
    gone = {"method": "unsubscribe", "success": True, "result": {"channel": "book", "symbol": BTC, "depth": 10}, "req_id": 1}
    missing = {"method": "unsubscribe", "success": False, "error": "Subscription Not Found", "symbol": BTC, "req_id": 1}
    assert driver.hear(gone, missing) == []
    assert driver.book(BTC).state is BookState.SYNCED


# Books --------------------------------------------------------------------------------------------------------------


def test_the_venues_example_of_a_checksum() -> None:
    driver = Driver(Kraken, [("orderbooks", BTC)])
    (view,) = of(driver.hear(book("snapshot", BIDS, ASKS, CHECKSUM)), Book)
    assert view.bids[0] == ("45283.5", "0.10000000")
    assert view.asks[0] == ("45285.2", "0.00100000")
    assert view.timestamp is None, "a snapshot of 2024 has no time"
    assert of(Driver(Kraken, [("orderbooks", BTC)]).hear(book("snapshot", BIDS, ASKS, CHECKSUM + 1)), Book) == []


def test_a_change_is_applied_in_order_then_cut_to_the_depth_then_checked() -> None:
    driver = synced(DELTAS)
    # One ask goes, one comes twice and counts as sent last; eleven are left, and the worst falls out without a word.
    changed = ["45299.5 0.00000000", "45285.2 0.5", "45285.2 0.25000000", "45284.9 2.00000000", "45284.8 3.00000000"]
    after = ["45284.8 3.00000000", "45284.9 2.00000000", "45285.2 0.25000000", *ASKS[1:8]]
    when = "2026-08-16T23:37:05.376419999Z"
    outputs = driver.hear(book("update", asks=changed, checked=checksum(BIDS, after), timestamp=when))
    assert of(outputs, Gap) == []
    (delta,) = of(outputs, BookDelta)
    assert delta.timestamp == 1786923425376419
    assert ("45299.5", "0") in delta.asks
    assert delta.asks[-1] == ("45297.5", "0"), "what fell out is told to those who follow the changes"
    assert len(driver.book(BTC).book.asks.levels) == 10


def test_a_thin_book_has_the_depth_that_was_subscribed_not_that_of_its_snapshot() -> None:
    driver = Driver(Kraken, [("orderbooks", BTC)])
    driver.hear(accepted("book", BTC, 1, depth=10), book("snapshot", ["9 1"], ["11 1"], checksum(["9 1"], ["11 1"])))
    (view,) = of(driver.hear(book("update", ["8 2"], checked=checksum(["9 1", "8 2"], ["11 1"]))), Book)
    assert view.bids == [("9", "1"), ("8", "2")]


def test_many_new_levels_at_once_leave_no_stale_ones_behind() -> None:
    driver = synced()
    best = [f"{45284.9 - step / 10:.1f} 1.00000000" for step in range(12)]
    worst = [f"{45200 - step}.0 1.00000000" for step in range(40)]
    assert of(driver.hear(book("update", [*worst, *best], checked=checksum(best, ASKS))), Gap) == []
    assert len(driver.book(BTC).book.bids.levels) == 10


@pytest.mark.parametrize(("qty", "amount"), [("1e-8", "0.00000001"), ("5.50E-7", "0.000000550"), ("1.5e3", "1500")])
def test_an_exponent_is_written_out(qty: str, amount: str) -> None:
    (event,) = raw(Kraken, book("update", [f"0.031340 {qty}"])).events
    assert event["bids"] == [("0.031340", amount)]


def test_a_removed_level_is_exactly_zero() -> None:
    (event,) = raw(Kraken, book("update", ["1.10 0.00000000", "1.20 0", "1.30 0e-8"])).events
    assert event["bids"] == [("1.10", "0"), ("1.20", "0"), ("1.30", "0")]


def test_a_wrong_checksum_resubscribes_that_book_alone() -> None:
    driver = Driver(Kraken, [("orderbooks", BTC), ("orderbooks", ETH)], VIEWS)
    for symbol in (BTC, ETH):
        driver.hear(accepted("book", symbol, 1, depth=10), book("snapshot", BIDS, ASKS, CHECKSUM, symbol))
    outputs = driver.hear(book("update", bids=["45283.4 9"], checked=1))
    assert [(gap.symbol, gap.channel, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "orderbooks", "checksum")]
    first, second = sent(outputs)
    assert (first["method"], first["params"]) == ("unsubscribe", {"channel": "book", "symbol": [BTC], "depth": 10})
    assert (second["method"], second["params"]["symbol"], second["params"]["snapshot"]) == ("subscribe", [BTC], True)
    assert of(driver.hear(book("update", bids=["45283.4 9"], checked=1)), Book) == [], "nothing is shown while in doubt"
    assert driver.book(ETH).state is BookState.SYNCED
    again = driver.hear(accepted("book", BTC, second["req_id"], depth=10), book("snapshot", BIDS, ASKS, CHECKSUM))
    assert [view.symbol for view in of(again, Book)] == [BTC]


def test_a_cross_is_an_error_even_where_the_checksum_fits() -> None:
    driver = synced()
    outputs = driver.hear(book("update", ["45285.2 1"], checked=checksum(["45285.2 1", *BIDS], ASKS)))
    assert [gap.reason for gap in of(outputs, Gap)] == ["crossed"]


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_packed_frame_gives_all_its_trades() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    first, second, third = of(driver.hear(trades("update", 5, 6, 7)), Trade)
    assert (first.id, second.id, third.id) == ("5", "6", "7")
    assert (first.price, first.amount, first.side) == ("78568.60", "0.00004", "sell")
    assert (first.timestamp, first.received) == (1787744046075373, RECEIVED)


def test_the_trades_of_a_snapshot_are_past_and_never_live() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    outputs = driver.hear(trades("snapshot", 3, 4), trades("update", 5))
    assert [trade.id for trade in of(outputs, Trade)] == ["5"]
    assert [event["snapshot"] for event in raw(Kraken, trades("snapshot", 3, 4)).events] == [True, True]


def test_a_jump_of_trade_ids_is_a_gap() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    (gap,) = of(driver.hear(trades("update", 5), trades("update", 8)), Gap)
    assert (gap.first_missing, gap.last_missing) == ("6", "7")


def test_a_trade_that_cannot_be_read_is_missing() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    outputs = driver.hear(trades("update", 5), trades("update", 6).replace(b"78568.60", b"{}"), trades("update", 7))
    assert len(of(outputs, FrameError)) == 1
    (gap,) = of(outputs, Gap)
    assert (gap.first_missing, gap.last_missing) == ("6", "6")


def test_trade_ids_that_go_on_prove_a_reconnect_whole() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    driver.hear(trades("update", 5))
    driver.reconnect()
    assert of(driver.hear(trades("update", 6)), Gap) == []


def test_a_ticker_takes_what_is_there() -> None:
    fields = b'"bid":105944.20,"bid_qty":2.5,"ask":null,"ask_qty":3e-05,"last":105899.40,"volume":163.0,"volume_usd":1'
    message = b'{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD",%s,"timestamp":"2022-12-25T09:30:59.1Z"}]}'
    (ticker,) = of(Driver(Kraken, [("tickers", BTC)]).hear(message % fields), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == ("105944.20", "2.5", None, "0.00003")
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == ("105899.40", "163.0", 1671960659100000)


# The connection -----------------------------------------------------------------------------------------------------


def status(system: str) -> dict[str, Any]:
    """Keys in the order of 2024, and an id that needs all of its 64 bits."""
    data = {"api_version": "v2", "connection_id": 14949390454975033707, "system": system, "version": "2.0.8"}
    return {"channel": "status", "data": [data], "type": "update"}


def test_heartbeats_pongs_and_good_health_say_nothing() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    pong = {"method": "pong", "req_id": 42, "time_in": "x", "time_out": "y"}
    assert driver.hear(status("online"), {"channel": "heartbeat"}, pong, {"method": "pong", "result": {"warnings": []}}) == []


def test_a_maintenance_is_told_and_ends_with_a_new_connection() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    (error,) = of(driver.hear(status("maintenance")), VenueError)
    assert "maintenance" in str(error)
    assert of(driver.hear(status("post_only")), VenueError)
    (reconnect,) = of(driver.hear(status("online")), Reconnect)
    assert reconnect.after == 5.0
    assert driver.hear(status("online")) == []


def test_a_maintenance_belongs_to_its_connection() -> None:
    driver = Driver(Kraken, [("trades", BTC)])
    driver.hear(status("maintenance"))
    driver.reconnect()
    assert driver.hear(status("online")) == []


def test_a_ping_is_sent_before_the_venue_would_hang_up() -> None:
    outputs = Driver(Kraken, []).wait(20.0)
    assert Send('{"method":"ping"}') in outputs
    assert of(outputs, Reconnect) == []


def test_silence_ends_a_connection() -> None:
    assert of(Driver(Kraken, []).wait(30.0), Reconnect)


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"[]", b"x", b"\xff", {}, {"channel": "book"}, {"channel": "never"}, {"channel": 5}),
        book("update", bids=["x 1"]),
        book("update", bids=["1 null"]),
        book("update", bids=['"1e" 1']),
        book("update", bids=["true 1"]),
        book("update", bids=["[] 1"]),
        book("replace", bids=["1 1"]),
        book("update", timestamp="yesterday"),
        trades("update", 5).replace(b'"sell"', b'"none"'),
        trades("update", 5).replace(b'"trade_id":5', b'"trade_id":"5"'),
        trades("update", 5).replace(b"78568.60", b"{}"),
        trades("update", 5).replace(b'"trade_id":5', b'"trade_id":99999999999999999999'),
        {"method": "subscribe", "result": [], "success": True},
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Kraken, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trades("update", 5)), Trade)


def test_channels_of_no_interest_are_passed_over() -> None:
    for channel in ("ohlc", "level3", "instrument"):
        assert Driver(Kraken, []).hear({"channel": channel, "type": "snapshot", "data": {}}) == []


# REST ---------------------------------------------------------------------------------------------------------------


def pair(**fields: Any) -> dict[str, Any]:
    return {"altname": "XBTUSD", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1, "lot_decimals": 8} | fields


def test_instruments_are_named_as_on_the_websocket() -> None:
    result = {
        "XXBTZUSD": pair(wsname="XBT/USD", status="online", tick_size="0.1"),
        "XXDGXXBT": pair(wsname="XDG/XBT"),
        "AAPLxUSD": pair(wsname="AAPLx/USD", status="post_only"),
        "XXBTZUSD.d": pair(),
    }
    dollar, doge, stock = Kraken.parse_instruments(frame({"error": [], "result": result}))
    assert (dollar.symbol, dollar.native, dollar.price_step, dollar.amount_step) == (BTC, BTC, "0.1", "0.00000001")
    assert (doge.symbol, doge.active, doge.state, doge.price_step) == ("DOGE/BTC", True, "online", "0.1")
    assert (stock.symbol, stock.active, stock.state) == ("AAPLx/USD", True, "post_only")


@pytest.mark.parametrize(
    ("native", "symbol"),
    [
        *(("BTC/USD", "BTC/USD"), ("XBT/USD", "BTC/USD"), ("XDG/XBT", "DOGE/BTC"), ("AAPLx/USD", "AAPLx/USD")),
        *(("XXBTZUSD", "BTC/USD"), ("XETHXXBT", "ETH/BTC"), ("XXDGXXBT", "DOGE/BTC"), ("USDTZUSD", "USDT/USD")),
        *(
            ("XBTUSDT", "BTC/USDT"),
            ("XBTUSD", "BTC/USD"),
            ("XTZUSD", "XTZ/USD"),
            ("XDGEUR", "DOGE/EUR"),
            ("LINKUSDT", "LINK/USDT"),
        ),
        *(("ETHXBT", "ETH/BTC"), ("last", None)),
    ],
)
def test_names_by_rule(native: str, symbol: str | None) -> None:
    assert Kraken.canonical(native) == symbol


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Kraken.native("BTC/USD:USD")


def test_rest_trades_come_under_a_key_of_their_own() -> None:
    body = (
        b'{"error":[],"result":{"XXBTZUSD":[["105433.60000","0.00027625",1762795433.9717445,"b","l","",10218208],'
        b'["105410.1","0.00005000",1762795457,"s","m","",10218209]],"last":"1762795616311265000"}}'
    )
    bought, sold = raw_answer(Kraken, ("trades", ""), body).events
    assert (bought["symbol"], bought["native"], bought["id"], bought["side"]) == (BTC, "XXBTZUSD", "10218208", "buy")
    assert (bought["timestamp"], sold["timestamp"]) == (1762795433971744, 1762795457000000)
    assert (sold["side"], sold["amount"], sold["snapshot"]) == ("sell", "0.00005000", True)
    assert Kraken.shape(orjson.loads(body)) == "trades"


def test_a_rest_book_is_a_view_and_no_base_of_changes() -> None:
    side = [["105433.60000", "0.5", 1762795433]]
    body = {"error": [], "result": {"XBTUSDT": {"asks": side, "bids": []}}}
    (event,) = raw_answer(Kraken, ("view", "XBTUSDT"), body).events
    assert (event["type"], event["symbol"], event["asks"]) == ("book", "BTC/USDT", [("105433.60000", "0.5")])
    assert Kraken.shape(body) == "view"
    driver = Driver(Kraken, [("orderbooks", BTC)])
    assert driver.answer(("view", BTC), body) == []
    assert driver.book(BTC).state is BookState.WAITING


@pytest.mark.parametrize("error", ["EGeneral:Too many requests", "EQuery:Unknown asset pair"])
def test_an_error_in_the_body_is_a_fetch_error(error: str) -> None:
    with pytest.raises(FetchError, match=error):
        Kraken.parse_instruments(frame({"error": [error]}))
    (told,) = of(Driver(Kraken, []).answer(("trades", "XBTUSD"), {"error": [error]}), FetchError)
    assert str(told) == error
