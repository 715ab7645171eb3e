"""Bitstamp: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.bitstamp import Bitstamp
from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Fetch, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USD", "ETH/USD"
AT = 1_641_343_691_000_000


def push(channel: str, event: str, **data: Any) -> dict[str, Any]:
    return {"data": data, "channel": channel, "event": event}


def trade(identifier: int, native: str = "btcusd", **changed: Any) -> dict[str, Any]:
    data = {"id": identifier, "timestamp": "1584642064", "amount": 0.014140160000000001, "amount_str": "0.01414016"}
    data |= {"price": 6294.77, "price_str": "6294.77", "type": 1, "microtimestamp": "1584642064685000"}
    return push(f"live_trades_{native}", "trade", **(data | {"buy_order_id": 1211625836466176} | changed))


def times(after: int) -> dict[str, str]:
    """The spellings of a time so many microseconds after AT."""
    return {"timestamp": str((AT + after) // 1_000_000), "microtimestamp": str(AT + after)}


def change(after: int, native: str = "btcusd", **sides: list[list[str]]) -> dict[str, Any]:
    return push(f"diff_order_book_{native}", "data", **times(after), **sides)


def snapshot(after: int, bid: str = "1") -> dict[str, Any]:
    return {**times(after), "bids": [["99.0", bid], ["98.0", "2.00000000"]], "asks": [["101.0", "1"], ["102.0", "3"]]}


def subscribed(*symbols: str, options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Bitstamp, [("orderbooks", symbol) for symbol in symbols or (BTC,)], options)
    for symbol in symbols or (BTC,):
        channel = f"diff_order_book_{Bitstamp.native(symbol)}"
        driver.hear({"event": "bts:subscription_succeeded", "channel": channel, "data": {}})
    return driver


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = subscribed(BTC, ETH, options=options)
    for native in ("btcusd", "ethusd"):
        driver.hear(change(10, native))
        driver.answer(("book", native), snapshot(20))
    return driver


def best_bid(driver: Driver) -> tuple[str, str]:
    assert driver.book("btcusd").state is BookState.SYNCED
    return driver.book("btcusd").book.view()[0][0]


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_each_channel_has_a_frame_of_its_own_and_names_are_lower_case() -> None:
    driver = Driver(Bitstamp, every_channel(BTC, ETH))
    assert [each["data"]["channel"] for each in sent(driver.connected)] == [
        *("live_trades_btcusd", "live_trades_ethusd"),
        *("diff_order_book_btcusd", "diff_order_book_ethusd"),
        *("order_book_btcusd", "order_book_ethusd"),
    ]
    assert {each["event"] for each in sent(driver.connected)} == {"bts:subscribe"}
    assert all(len(each.frame) < 512 for each in of(driver.connected, Send)), "more is refused with close 1009"


def test_an_acknowledgement_names_its_channel() -> None:
    driver = Driver(Bitstamp, every_channel(BTC, ETH))
    driver.hear({"event": "bts:subscription_succeeded", "channel": "order_book_ethusd", "data": {}})
    acked = [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED]
    assert acked == [("tickers", ETH)]


@pytest.mark.parametrize("code", [None, 4009])
def test_an_error_that_names_no_channel_is_the_venues(code: int | None) -> None:
    driver = Driver(Bitstamp, [("trades", BTC)])
    error = {"event": "bts:error", "channel": "", "data": {"code": code, "message": "Bad subscription string."}}
    assert [str(each) for each in of(driver.hear(error), VenueError)] == [f"Bad subscription string. (code {code})"]
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 1}
    assert [each["event"] for each in sent(driver.wait(12.0))] == ["bts:subscribe"], "and it is asked for again"


def test_an_error_that_names_its_channel_rejects_it() -> None:
    driver = Driver(Bitstamp, every_channel(BTC))
    error = {"event": "bts:error", "channel": "live_trades_btcusd", "data": {"code": 1, "message": "No."}}
    (status,) = of(driver.hear(error), Status)
    assert (status.symbol, status.state, status.detail) == (BTC, "rejected", "trades: No. (code 1)")


@pytest.mark.parametrize("data", ["", None])
def test_a_reconnect_is_asked_for_while_the_old_connection_serves(data: str | None) -> None:
    (reconnect,) = of(synced().hear({"event": "bts:request_reconnect", "channel": "", "data": data}), Reconnect)
    assert reconnect.overlap


def test_the_client_pings_in_json() -> None:
    driver = Driver(Bitstamp, [("trades", BTC)])
    assert {"event": "bts:heartbeat"} in sent(driver.wait(21.0))
    assert driver.hear({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}) == []
    assert of(driver.wait(40.0), Reconnect) == []
    assert of(driver.wait(46.0), Reconnect), "without any answer the connection is dead"


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_is_told_by_its_texts_and_in_microseconds() -> None:
    driver = Driver(Bitstamp, [("trades", BTC), ("trades", ETH)])
    outputs = driver.hear(trade(108637852), trade(108637899, "ethusd", type=0), trade(108637852))
    first, second = of(outputs, Trade)
    assert (first.symbol, first.id, first.price, first.amount) == (BTC, "108637852", "6294.77", "0.01414016")
    assert (first.side, first.timestamp, first.received) == ("sell", 1_584_642_064_685_000, RECEIVED)
    assert (second.symbol, second.side) == (ETH, "buy")
    assert of(outputs, Gap) == [], "one count of ids serves all markets"


def test_an_amount_may_have_an_exponent() -> None:
    (told,) = of(Driver(Bitstamp, [("trades", BTC)]).hear(trade(1, amount_str="1E-8")), Trade)
    assert told.amount == "0.00000001"


def test_the_best_levels_are_a_ticker_where_one_is_wanted_and_else_a_view() -> None:
    best = push("order_book_btcusd", "data", **snapshot(5))
    (ticker,) = of(Driver(Bitstamp, [("tickers", BTC)]).hear(best), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == ("99.0", "1", "101.0", "1")
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == (None, None, AT + 5)
    (one_sided,) = of(
        Driver(Bitstamp, [("tickers", BTC)]).hear(push("order_book_btcusd", "data", **times(5), bids=[], asks=[])), Ticker
    )
    assert (one_sided.bid, one_sided.ask) == (None, None)
    (event,) = raw(Bitstamp, best).events
    assert (event["type"], event["symbol"], event["sequence"], len(event["bids"])) == ("book", BTC, AT + 5, 2)
    driver = subscribed()
    driver.hear(best)
    assert driver.book("btcusd").state is BookState.WAITING, "no change refers to it"


# Books --------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_asked_for_at_the_first_change_and_older_changes_are_dropped() -> None:
    driver = subscribed(options=DELTAS)
    (fetch,) = of(driver.hear(change(10, bids=[["99.0", "7"]])), Fetch)
    assert fetch.request.url == "https://www.bitstamp.net/api/v2/order_book/btcusd/"
    assert of(driver.hear(change(20, bids=[["99.0", "8"]]), change(30, bids=[["99.0", "9"]])), Fetch) == []
    (base,) = of(driver.answer(fetch.key, snapshot(20)), Book)
    assert (base.bids[0], base.sequence) == (("99.0", "9"), AT + 30), "that of the snapshot's time is in it"
    assert driver.hear(change(30, bids=[["99.0", "1"]]), change(15, bids=[["99.0", "2"]])) == []
    (delta,) = of(driver.hear(change(40, asks=[["101.0", "0.00000000"]])), BookDelta)
    assert (delta.bids, delta.asks, delta.previous, delta.sequence) == ([], [("101.0", "0")], AT + 30, AT + 40)
    assert delta.timestamp == AT + 40


def test_rest_lags_behind_and_what_was_kept_waits_for_it() -> None:
    driver = subscribed()
    driver.hear(change(30, bids=[["99.0", "7"]]))
    assert driver.answer(("book", "btcusd"), snapshot(20)) == [], "what lies between is missing"
    (fetch,) = of(driver.wait(2.0), Fetch)
    driver.hear(change(50, bids=[["99.0", "9"]]))
    driver.answer(fetch.key, snapshot(40, bid="8"))
    assert best_bid(driver) == ("99.0", "9"), "the change after the late snapshot was not forgotten"


def test_a_market_at_rest_is_fetched_when_rest_had_the_time_to_catch_up() -> None:
    driver = subscribed()
    assert of(driver.wait(4.0), Fetch) == []
    (fetch,) = of(driver.wait(2.0), Fetch)
    driver.answer(fetch.key, snapshot(20))
    assert best_bid(driver) == ("99.0", "1")


def test_after_a_doubt_a_snapshot_must_have_caught_up_too() -> None:
    driver = synced()
    driver.wait(6.0)
    outputs = driver.hear(change(30, bids=[["150.0", "1"]]))
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "crossed")]
    assert [fetch.key for fetch in of(outputs, Fetch)] == [("book", "btcusd")]
    driver.answer(("book", "btcusd"), snapshot(25))
    assert driver.book("btcusd").state is BookState.RECOVERING, "older than the change that crossed it"
    driver.wait(3.0)
    driver.hear(change(40, bids=[["150.0", "0"]]))
    driver.answer(("book", "btcusd"), snapshot(35))
    assert best_bid(driver) == ("99.0", "1")


def test_an_unreadable_frame_puts_every_book_in_doubt_since_nothing_would_show_the_loss() -> None:
    driver = synced()
    outputs = driver.hear(b'{"data":{"microtimestamp":"16')
    assert len(of(outputs, FrameError)) == 1
    assert {(gap.symbol, gap.reason) for gap in of(outputs, Gap)} == {(BTC, "malformed"), (ETH, "malformed")}
    driver.answer(("book", "btcusd"), snapshot(15))
    assert driver.book("btcusd").state is BookState.RECOVERING, "it may be older than what was lost"


def test_a_frame_that_is_lost_before_the_snapshot_spoils_what_was_kept() -> None:
    driver = subscribed()
    driver.hear(change(30), b"{")
    driver.answer(("book", "btcusd"), snapshot(40))
    assert driver.book("btcusd").state is BookState.WAITING
    driver.hear(change(50, bids=[["99.0", "9"]]))
    driver.answer(("book", "btcusd"), snapshot(45))
    assert driver.book("btcusd").state is BookState.WAITING
    driver.answer(("book", "btcusd"), snapshot(50, bid="9"))
    assert best_bid(driver) == ("99.0", "9")


def test_a_book_is_renewed_now_and_then_since_nothing_shows_a_lost_change() -> None:
    driver = synced()
    fetches = [fetch for _ in range(91) for fetch in of([*driver.hear(change(30)), *driver.wait(1.0)], Fetch)]
    assert ("book", "btcusd") in [fetch.key for fetch in fetches]
    driver.hear(change(60))
    outputs = driver.answer(("book", "btcusd"), snapshot(60, bid="5"))
    assert of(outputs, Gap) == []
    assert best_bid(driver) == ("99.0", "5")


def test_a_side_without_a_change_may_be_left_out() -> None:
    driver = synced()
    driver.hear(change(30, bids=[["99.5", "1"]]))
    assert best_bid(driver) == ("99.5", "1")
    assert of(driver.hear(change(40)), FrameError) == []


def test_a_snapshot_of_2019_has_whole_seconds_and_counts_as_of_their_beginning() -> None:
    driver = subscribed()
    driver.hear(change(1_500_000), change(2_000_001, bids=[["99.0", "7"]]))
    old = {"timestamp": snapshot(2_900_000)["timestamp"], "bids": [["99.0", "1"]], "asks": []}
    (view,) = of(driver.answer(("book", "btcusd"), old), Book)
    assert (view.bids, view.sequence) == ([("99.0", "7")], AT + 2_000_001)


# Names, and what cannot be read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "symbol"),
    [
        *(("btcusd", BTC), ("1incheur", "1INCH/EUR"), ("usdtusd", "USDT/USD"), ("usdcusdt", "USDC/USDT")),
        *(("rlusdusd", "RLUSD/USD"), ("xrprlusd", "XRP/RLUSD"), ("btcusd-perp", None), ("usd", None)),
    ],
)
def test_names_are_cut_by_their_quote_and_only_spot_has_a_symbol(native: str, symbol: str | None) -> None:
    (event,) = raw(Bitstamp, trade(1, native)).events
    assert (event["native"], event["symbol"]) == (native, symbol)


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Bitstamp.native("BTC/USD:USD")


@pytest.mark.parametrize(
    "message",
    [
        {"event": "bts:connection_established"},
        {"event": "bts:unsubscription_succeeded", "channel": "live_trades_btcusd", "data": {}},
        push("live_orders_btcusd", "order_created", id=1, price=2.5),
        push("live_orders_btcusd", "order_deleted", id=1),
        push("detail_order_book_btcusd", "data", bids=[["1", "2", "3"]], asks=[]),
        push("funding_rate_btcusd-perp", "funding_rate_saved", market="btcusd-perp"),
    ],
)
def test_messages_of_no_interest_are_passed_over(message: object) -> None:
    assert Driver(Bitstamp, []).hear(message) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"event": 5}, {"event": "never"}, {"event": "data", "channel": "never_btcusd"}),
        trade(1, type=2),
        trade(1, type=True),
        trade(1, microtimestamp="soon"),
        trade(1, price_str=6294.77),
        trade(1, price_str="free"),
        {"event": "trade", "channel": "live_trades_btcusd", "data": ""},
        {"event": "trade", "channel": "order_book_btcusd", "data": {}},
        change(1, bids=[["1"]]),
        push("diff_order_book_btcusd", "data", bids=[]),
        push("order_book_btcusd", "data", **times(1), bids=[]),
        {"event": "bts:error", "channel": "", "data": ""},
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Bitstamp, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade(1)), Trade)


# REST ---------------------------------------------------------------------------------------------------------------


MARKET = {"name": "BTC/USD", "market_symbol": "btcusd", "base_currency": "BTC", "base_decimals": 8, "counter_currency": "USD"}
MARKET |= {"counter_decimals": 0, "minimum_order_value": "10", "trading": "Enabled", "market_type": "SPOT"}


def test_instruments_are_those_of_spot() -> None:
    halted = MARKET | {"name": "OLD/USD", "market_symbol": "oldusd", "trading": "Disabled"}
    perpetual = MARKET | {"name": "BTC/USD-PERP", "market_symbol": "btcusd-perp", "market_type": "PERPETUAL"}
    first, second = Bitstamp.parse_instruments(frame([MARKET, halted, perpetual]))
    assert (first.symbol, first.native, first.active) == (BTC, "btcusd", True)
    assert (first.price_step, first.amount_step) == ("1", "0.00000001")
    assert (second.symbol, second.active, second.state) == ("OLD/USD", False, "Disabled")


def test_the_older_list_of_instruments_is_read_too() -> None:
    row = {"name": "BTC/USD", "description": "Bitcoin / U.S. dollar", "url_symbol": "btcusd", "base_decimals": 8}
    row |= {"counter_decimals": 2, "minimum_order": "20.0 USD", "trading": "Enabled"}
    (market,) = Bitstamp.parse_instruments(frame([row]))
    assert (market.native, market.price_step) == ("btcusd", "0.01")


def test_rest_trades_are_past_trades_with_the_ids_of_the_socket() -> None:
    row = {"date": "1560481868", "tid": "108637852", "price": "8194.79", "type": "1", "amount": "0.00288599"}
    (event,) = raw_answer(Bitstamp, ("trades", "btcusd"), [row]).events
    assert (event["symbol"], event["id"], event["side"], event["snapshot"]) == (BTC, "108637852", "sell", True)
    assert event["timestamp"] == 1_560_481_868_000_000


def test_a_rest_ticker_has_the_last_price_and_the_volume() -> None:
    day = {"ask": "2211.00", "bid": "2188.97", "last": "2211.00", "volume": "213.268", "timestamp": "1643640186"}
    (event,) = raw_answer(Bitstamp, ("ticker", "btcusd"), day | {"vwap": "2189.80"}).events
    assert (event["bid"], event["last"], event["volume_24h"]) == ("2188.97", "2211.00", "213.268")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": "Not found."}, "Not found"),
        ({"status": "error", "reason": {"__all__": ["Invalid market"]}, "code": "API0005"}, "Invalid market.*API0005"),
        ({"code": "400.002", "reason": "Request rate limit exceeded."}, "rate limit exceeded"),
    ],
)
def test_a_complaint_is_a_fetch_error_in_the_venues_words_and_the_book_is_asked_for_again(body: object, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        Bitstamp.parse_instruments(frame(body))
    driver = subscribed()
    driver.hear(change(10))
    assert of(driver.answer(("book", "btcusd"), body), FetchError)
    assert [fetch.key for fetch in of(driver.wait(3.0), Fetch)] == [("book", "btcusd")]
