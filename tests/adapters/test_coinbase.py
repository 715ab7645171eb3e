"""Coinbase: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.book_sync import BookState
from adapters.coinbase import Coinbase
from adapters.effects import Connect, Reconnect
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Channel, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USD", "ETH/USD"
EXCHANGE, ADVANCED = "wss://ws-feed.exchange.coinbase.com", "wss://advanced-trade-ws.coinbase.com"
AT = "2026-08-09T21:05:48.618125631Z"
MICROS = 1_786_309_548_618_125


def match(number: int, kind: str = "match", **changed: Any) -> dict[str, Any]:
    message = {"type": kind, "trade_id": number, "maker_order_id": "0f35", "taker_order_id": "252b", "side": "sell"}
    message |= {"size": "0.00513192", "price": "9314.78", "product_id": "BTC-USD", "sequence": 12038915443}
    return message | {"time": "2020-01-31T20:03:41.158814Z"} | changed


def advanced(number: int | None, channel: str, *events: Any) -> dict[str, Any]:
    message = {"channel": channel, "timestamp": AT, "events": list(events)}
    return message if number is None else message | {"sequence_num": number}


def level2(
    number: int,
    kind: str = "update",
    bids: list[tuple[str, str]] | None = None,
    asks: list[tuple[str, str]] | None = None,
    native: str = "BTC-USD",
) -> dict[str, Any]:
    rows = [
        {"side": side, "event_time": "1970-01-01T00:00:00Z", "price_level": price, "new_quantity": amount}
        for side, levels in (("bid", bids or []), ("offer", asks or []))
        for price, amount in levels
    ]
    return advanced(number, "l2_data", {"type": kind, "product_id": native, "updates": rows})


def snapshot(number: int, native: str = "BTC-USD") -> dict[str, Any]:
    return level2(number, "snapshot", [("65083.66", "0.2"), ("65062", "1")], [("65083.67", "0.24290402")], native)


def trades(number: int, kind: str, *identifiers: int) -> dict[str, Any]:
    row = {"product_id": "BTC-USD", "price": "65083.67", "size": "0.01034361", "time": "2026-08-09T21:05:48.35161Z"}
    rows = [row | {"trade_id": str(identifier), "side": "SELL"} for identifier in identifiers]
    return advanced(number, "market_trades", {"type": kind, "trades": rows})


def synced() -> Driver:
    driver = Driver(Coinbase, [("orderbooks", BTC), ("orderbooks", ETH)], DELTAS)
    driver.hear(snapshot(0), snapshot(1, "ETH-USD"))
    return driver


# Connections and subscriptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channel", "address"), [("trades", EXCHANGE), ("orderbooks", ADVANCED), ("tickers", ADVANCED)])
def test_the_channel_of_a_connection_decides_its_feed(channel: Channel, address: str) -> None:
    driver = Driver(Coinbase, [(channel, BTC), (channel, ETH)])
    assert driver.began == [Connect(address)]
    assert Connect(address) in driver.reconnect()


def test_a_frame_names_all_products_of_a_channel_in_the_form_of_its_feed() -> None:
    both = ["BTC-USD", "ETH-USD"]
    assert sent(Driver(Coinbase, every_channel(BTC, ETH)).connected) == [
        {"type": "subscribe", "product_ids": both, "channels": ["matches"]},
        {"type": "subscribe", "product_ids": both, "channel": "level2"},
        {"type": "subscribe", "product_ids": both, "channel": "ticker"},
    ]


def test_an_acknowledgement_is_the_full_set_of_its_feed() -> None:
    driver = Driver(Coinbase, every_channel(BTC, ETH))
    matches = {"name": "matches", "product_ids": ["BTC-USD"], "account_ids": None}
    driver.hear({"type": "subscriptions", "channels": [{"name": "heartbeat", "product_ids": ["ETH-USD"]}, matches]})
    driver.hear(advanced(0, "subscriptions", {"subscriptions": {"heartbeats": ["heartbeats"], "level2": ["ETH-USD"]}}))
    acked = [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED]
    assert acked == [("trades", BTC), ("orderbooks", ETH)]


def test_an_acknowledgement_may_come_after_the_first_data() -> None:
    driver = synced()
    driver.hear(advanced(2, "subscriptions", {"subscriptions": {"level2": ["BTC-USD", "ETH-USD"]}}))
    assert driver.adapter.subscriptions.counts() == {State.LIVE: 2}
    assert sent(driver.wait(20.0)) == [], "and nothing is asked for again"


def test_an_invalid_product_is_rejected_and_the_rest_of_its_frame_asked_for_again() -> None:
    driver = Driver(Coinbase, [("trades", BTC), ("trades", "FOO/USD")])
    reason = "FOO-USD is not a valid product"
    (status,) = of(driver.hear({"type": "error", "message": "Failed to subscribe", "reason": reason}), Status)
    assert (status.symbol, status.state) == ("FOO/USD", "rejected")
    assert status.detail == f"trades: Failed to subscribe: {reason}"
    assert [each["product_ids"] for each in sent(driver.wait(15.0))] == [["BTC-USD"]]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "error", "message": "authentication failure"},
        {"type": "error", "message": "Authentication Failed", "reason": '{"message":"Invalid API Key"}'},
        {"type": "error", "message": "Failed to subscribe", "reason": " is not a valid product"},
        {"type": "error"},
    ],
)
def test_an_error_that_names_no_product_is_the_venues(message: dict[str, str]) -> None:
    driver = Driver(Coinbase, [("trades", BTC)])
    (error,) = of(driver.hear(message), VenueError)
    assert str(error).startswith(message.get("message", "an error"))
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 1}


@pytest.mark.parametrize(
    ("channel", "ping"),
    [
        ("trades", {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["heartbeat"]}),
        ("orderbooks", {"type": "subscribe", "channel": "heartbeats"}),
    ],
)
def test_heartbeats_keep_a_quiet_connection_alive(channel: Channel, ping: dict[str, Any]) -> None:
    driver = Driver(Coinbase, [(channel, BTC), (channel, ETH)])
    beat = {"current_time": "2026-08-09 21:05:48.854840045 +0000 UTC m=+41691.260485341", "heartbeat_counter": 41691}
    driver.hear(advanced(0, "subscriptions", {"subscriptions": {"level2": ["BTC-USD", "ETH-USD"]}}))
    assert ping in sent(driver.wait(26.0)), "before the venue closes a quiet channel, after 60 to 90 s"
    assert driver.hear(advanced(1, "heartbeats", beat), {"type": "heartbeat", "last_trade_id": 20}) == []
    assert of(driver.wait(50.0), Reconnect) == []
    assert of(driver.wait(61.0), Reconnect), "without any the connection is dead"


# Trades -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("maker", "taker"), [("sell", "buy"), ("buy", "sell")])
def test_the_side_of_a_match_is_the_makers(maker: str, taker: str) -> None:
    (trade,) = of(Driver(Coinbase, [("trades", BTC)]).hear(match(82047307, side=maker)), Trade)
    assert (trade.id, trade.price, trade.amount, trade.side) == ("82047307", "9314.78", "0.00513192", taker)
    assert (trade.timestamp, trade.received) == (1_580_501_021_158_814, RECEIVED)


def test_trades_are_counted_without_holes() -> None:
    outputs = Driver(Coinbase, [("trades", BTC)]).hear(match(7), match(8), match(8), match(11))
    assert [trade.id for trade in of(outputs, Trade)] == ["7", "8", "11"]
    (gap,) = of(outputs, Gap)
    assert (gap.first_missing, gap.last_missing) == ("9", "10")


def test_the_last_match_of_a_subscription_is_an_old_trade() -> None:
    driver = Driver(Coinbase, [("trades", BTC)])
    assert driver.hear(match(6, "last_match")) == []
    (event,) = raw(Coinbase, match(6, "last_match")).events
    assert (event["id"], event["side"], event["snapshot"]) == ("6", "buy", True)


def test_the_side_of_advanced_trades_is_the_makers_too_and_the_newest_comes_first() -> None:
    driver = Driver(Coinbase, [("trades", BTC)])
    outputs = driver.hear(trades(0, "snapshot", 6, 5), trades(1, "update", 8, 7), trades(2, "update", 9, 10))
    assert [(trade.id, trade.side) for trade in of(outputs, Trade)] == [(each, "buy") for each in ("7", "8", "9", "10")]
    assert of(outputs, Gap) == []
    assert [event["snapshot"] for event in raw(Coinbase, trades(0, "snapshot", 6, 5)).events] == [True, True]


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-08-09T21:05:48.35161Z", 1_786_309_548_351_610),
        ("2026-08-09T21:05:48Z", 1_786_309_548_000_000),
        ("2026-08-09T21:05:48.618125631Z", 1_786_309_548_618_125),
        ("2026-08-09T21:05:48.6Z", 1_786_309_548_600_000),
    ],
)
def test_times_have_any_number_of_digits(text: str, micros: int) -> None:
    (event,) = raw(Coinbase, match(1, time=text)).events
    assert event["timestamp"] == micros


# Books --------------------------------------------------------------------------------------------------------------------


def test_a_book_comes_with_its_subscription_and_its_amounts_are_absolute() -> None:
    driver = Driver(Coinbase, [("orderbooks", BTC)], DELTAS)
    driver.hear(snapshot(0))
    gone = [("65083.66", "0"), ("1.1", "0.00000000")]
    (delta,) = of(driver.hear(level2(1, bids=gone, asks=[("65083.67", "0.25")])), BookDelta)
    assert (delta.bids, delta.asks) == ([("65083.66", "0"), ("1.1", "0")], [("65083.67", "0.25")])
    assert delta.timestamp == MICROS, "that of the message: the levels' own may be of 1970"
    assert driver.book("BTC-USD").book.view() == ([("65062", "1")], [("65083.67", "0.25")])


def test_a_snapshot_may_be_very_large() -> None:
    bids = [(f"{60_000 - step / 100:.2f}", "1") for step in range(30_000)]
    data = frame(level2(0, "snapshot", bids, [("60000.01", "1")]))
    assert len(data) > 2**21
    driver = Driver(Coinbase, [("orderbooks", BTC)])
    (view,) = of(driver.hear(data), Book)
    assert (view.bids[0], len(view.bids)) == (("60000.00", "1"), 5)
    assert len(driver.book("BTC-USD").book.bids.levels) == 30_000


def test_a_missing_message_puts_every_book_of_the_connection_in_doubt() -> None:
    driver = synced()
    outputs = driver.hear(level2(4, bids=[("65083.66", "3")]))
    assert [status.detail for status in of(outputs, Status) if status.scope == "connection"] == ["messages 2 to 3"]
    assert {(gap.symbol, gap.reason) for gap in of(outputs, Gap)} == {(BTC, "sequence"), (ETH, "sequence")}
    frames = sent(outputs)
    assert [(each["type"], each["product_ids"]) for each in frames] == [
        *(("unsubscribe", ["BTC-USD"]), ("subscribe", ["BTC-USD"])),
        *(("unsubscribe", ["ETH-USD"]), ("subscribe", ["ETH-USD"])),
    ]
    driver.hear(snapshot(5), snapshot(6, "ETH-USD"))
    assert {driver.book(native).state for native in ("BTC-USD", "ETH-USD")} == {BookState.SYNCED}


def test_messages_of_every_kind_are_counted_and_those_of_the_exchange_are_not() -> None:
    driver = synced()
    beat, candles = advanced(2, "heartbeats", {"heartbeat_counter": 1}), advanced(3, "candles", {"candles": []})
    outputs = driver.hear(beat, candles, match(1), level2(4, bids=[("65083.66", "3")]))
    assert of(outputs, Gap) == []
    assert of(outputs, BookDelta)


def test_a_message_that_cannot_be_read_is_one_that_was_missed() -> None:
    driver = synced()
    outputs = driver.hear(advanced(2, "l2_data", {"type": "update", "product_id": "BTC-USD", "updates": [{"side": "none"}]}))
    assert len(of(outputs, FrameError)) == 1
    assert {gap.symbol for gap in of(driver.hear(advanced(3, "candles")), Gap)} == {BTC, ETH}


def test_a_repeat_is_passed_over_and_going_back_is_a_broken_connection() -> None:
    driver = synced()
    assert driver.hear(snapshot(1, "ETH-USD")) == []
    (reconnect,) = driver.hear(snapshot(0))
    assert isinstance(reconnect, Reconnect)


def test_the_count_begins_anew_with_each_connection_and_at_nought() -> None:
    driver = synced()
    driver.reconnect()
    assert next(status.state for status in of(driver.hear(snapshot(1)), Status)) == "missed"


def test_frames_for_themselves_have_no_order() -> None:
    for number in (7, 3, None):
        (event,) = raw(Coinbase, advanced(number, "ticker", {"tickers": [{"product_id": "BTC-USD"}]})).events
        assert event["type"] == "ticker"


def test_a_crossed_book_is_subscribed_anew() -> None:
    driver = synced()
    outputs = driver.hear(level2(2, bids=[("70000", "1")]))
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "crossed")]
    assert [each["type"] for each in sent(outputs)] == ["unsubscribe", "subscribe"]


def test_books_of_the_exchange_feed_are_read_too() -> None:
    book = {"type": "snapshot", "product_id": "BTC-USD", "bids": [["10101.10", "0.45"]], "asks": [["10102.55", "0.5"]]}
    (event,) = raw(Coinbase, book).events
    assert (event["type"], event["bids"], event["timestamp"]) == ("book", [("10101.10", "0.45")], None)
    changes = [["buy", "10101.80000000", "0.162567"], ["sell", "10102.55", "0.000000"]]
    update = {"type": "l2update", "product_id": "BTC-USD", "time": "2019-08-14T20:42:27.265Z", "changes": changes}
    (event,) = raw(Coinbase, update).events
    assert (event["type"], event["timestamp"]) == ("book_delta", 1_565_815_347_265_000)
    assert (event["bids"], event["asks"]) == ([("10101.80000000", "0.162567")], [("10102.55", "0")])
    (event,) = raw(Coinbase, update | {"time": "0001-01-01T00:00:00.000000Z"}).events
    assert event["timestamp"] is None, "the change counts, its time does not"


# Tickers ------------------------------------------------------------------------------------------------------------------


def test_a_ticker_has_the_best_prices_with_their_amounts() -> None:
    ticker = {"type": "ticker", "product_id": "BTC-USD", "price": "65086.18", "volume_24_h": "2867.54532609"}
    ticker |= {"best_bid": "65083.66", "best_ask": "65083.67", "best_bid_quantity": "0.2", "best_ask_quantity": "0.24"}
    (told,) = of(Driver(Coinbase, [("tickers", BTC)]).hear(advanced(0, "ticker", {"tickers": [ticker]})), Ticker)
    assert (told.bid, told.bid_amount, told.ask, told.ask_amount) == ("65083.66", "0.2", "65083.67", "0.24")
    assert (told.last, told.volume_24h, told.timestamp) == ("65086.18", "2867.54532609", MICROS)


def test_a_ticker_of_the_exchange_feed_lacked_amounts_in_2021() -> None:
    ticker = {"type": "ticker", "sequence": 1, "product_id": "BTC-USD", "price": "29940.91", "volume_24h": "27783.7"}
    ticker |= {"best_bid": "29940.90", "best_ask": "29940.91", "side": "buy", "time": "2022-06-02T09:20:54.127011Z"}
    (event,) = raw(Coinbase, ticker).events
    assert (event["bid"], event["bid_amount"], event["ask"]) == ("29940.90", None, "29940.91")
    (event,) = raw(Coinbase, ticker | {"best_bid_size": "0.5"}).events
    assert event["bid_amount"] == "0.5"


# Names, and what cannot be read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "symbol"),
    [("BTC-USD", BTC), ("USDT-USDC", "USDT/USDC"), ("BIT-28FEB25-CDE", None), ("BTC-PERP-INTX", None), ("BTC", None)],
)
def test_only_spot_has_a_symbol(native: str, symbol: str | None) -> None:
    (event,) = raw(Coinbase, match(1, product_id=native)).events
    assert (event["native"], event["symbol"]) == (native, symbol)


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Coinbase.native("BTC/USD:USD")


@pytest.mark.parametrize("kind", ["received", "open", "done", "change", "activate", "status", "rfq_match"])
def test_messages_of_no_interest_are_passed_over(kind: str) -> None:
    order = {"price": "31572.35", "order_id": "5816ff12", "type": kind, "side": "sell", "reason": "filled"}
    assert Driver(Coinbase, []).hear(order) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"type": "never"}, {"channel": "never"}, {"channel": 5}, {"type": "match"}),
        match(1, side="none"),
        match(1, time="soon"),
        match(1, price=9314.78),
        match(1, price="free"),
        match(-1),
        {"channel": "market_trades", "timestamp": AT},
        advanced(None, "ticker", {"tickers": {}}),
        advanced(None, "l2_data", {"type": "replace", "product_id": "BTC-USD", "updates": []}),
        advanced(-1, "heartbeats"),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Coinbase, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(match(1)), Trade)


# REST ---------------------------------------------------------------------------------------------------------------------


def product(native: str, **changed: Any) -> dict[str, Any]:
    base, _, quote = native.partition("-")
    row: dict[str, Any] = {"product_id": native, "base_currency_id": base, "quote_currency_id": quote, "product_type": "SPOT"}
    row |= {"status": "online", "price_increment": "0.01", "base_increment": "0.00000001", "quote_increment": "0.01"}
    row |= {"is_disabled": False, "trading_disabled": False, "alias": "", "alias_to": []}
    return row | changed


def listed(*products: dict[str, Any]) -> list[tuple[str, bool, str]]:
    found = Coinbase.parse_instruments(frame({"products": list(products), "num_products": len(products)}))
    return [(each.symbol, each.active, each.state) for each in found]


def test_instruments_are_those_of_spot_that_trade() -> None:
    rows = [product("BTC-USD"), product("OLD-USD", status="delisted"), product("X-EUR", trading_disabled=True)]
    future = product("BIT-28FEB25-CDE", product_type="FUTURE")
    assert listed(*rows, future) == [
        (BTC, True, "online"),
        ("OLD/USD", False, "delisted"),
        ("X/EUR", False, "trading disabled"),
    ]
    (market,) = Coinbase.parse_instruments(frame({"products": rows[:1]}))
    assert (market.native, market.price_step, market.amount_step) == ("BTC-USD", "0.01", "0.00000001")


def test_another_name_of_a_book_is_rejected_and_the_book_is_named() -> None:
    rows = [product("BTC-USD", alias_to=["BTC-USDC"]), product("BTC-USDC", alias="BTC-USD"), product("USDT-USDC")]
    instruments = {each.symbol: each for each in Coinbase.parse_instruments(frame({"products": rows}))}
    driver = Driver(Coinbase, [("orderbooks", BTC), ("orderbooks", "BTC/USDC"), ("orderbooks", "USDT/USDC")])
    (status,) = of(driver.adapter.listed(instruments, driver.now), Status)
    assert (status.symbol, status.state) == ("BTC/USDC", "rejected")
    assert status.detail.endswith("coinbase does not trade it now (another name of BTC-USD)")


def test_rest_trades_have_the_makers_side_too() -> None:
    row = {"trade_id": 5, "side": "sell", "size": "1.5", "price": "9314.78", "time": "2020-01-31T20:03:41.158814Z"}
    (event,) = raw_answer(Coinbase, ("trades", "BTC-USD"), [row]).events
    assert (event["symbol"], event["side"], event["snapshot"]) == (BTC, "buy", True)
    ours = row | {"trade_id": "5", "side": "BUY", "product_id": "ETH-USD", "bid": "", "ask": ""}
    (event,) = raw_answer(Coinbase, ("market_trades", ""), {"trades": [ours], "best_bid": "1"}).events
    assert (event["symbol"], event["side"]) == (ETH, "sell")


def test_rest_books_are_views() -> None:
    book = {"bids": [["0.1135", "35", 1]], "asks": [], "sequence": 406959136, "auction_mode": False}
    (event,) = raw_answer(Coinbase, ("view", ""), book).events
    assert (event["type"], event["symbol"], event["bids"], event["sequence"]) == ("book", None, [("0.1135", "35")], 406959136)
    priced = {"product_id": "BTC-USD", "bids": [{"price": "68923", "size": "0.05"}], "asks": [], "time": AT}
    (event,) = raw_answer(Coinbase, ("pricebook", "BTC-USD"), {"pricebook": priced}).events
    assert (event["symbol"], event["bids"], event["timestamp"]) == (BTC, [("68923", "0.05")], MICROS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"message": "NotFound"}, "NotFound"),
        ({"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, "Too many requests"),
        ({"error": "unknown", "code": 13, "message": "no such thing"}, "unknown; no such thing"),
    ],
)
def test_a_complaint_is_a_fetch_error_in_the_venues_words(body: object, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        Coinbase.parse_instruments(frame(body))
    assert of(Driver(Coinbase, []).answer(("view", "BTC-USD"), body), FetchError)
