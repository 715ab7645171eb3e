"""Binance: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.binance import Binance
from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Fetch, Reconnect
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC = "BTC/USDT"


def trade(number: int, **changed: Any) -> dict[str, Any]:
    data = {"e": "trade", "E": 1672515782136, "s": "BTCUSDT", "t": number, "p": "0.00100", "q": "100", "T": 1672515782134}
    return {"stream": "btcusdt@trade", "data": data | {"m": True, "M": True} | changed}


def depth(first: int, last: int, native: str = "BTCUSDT", **sides: list[list[str]]) -> dict[str, Any]:
    data = {"e": "depthUpdate", "E": 1672515782136, "s": native, "U": first, "u": last, "b": [], "a": []}
    return {"stream": f"{native.lower()}@depth@100ms", "data": data | sides}


SNAPSHOT = {"lastUpdateId": 100, "bids": [["10.0", "1.50"], ["9.0", "2"]], "asks": [["11.0", "1"], ["12.0", "3"]]}


def synced(options: BookOptions = VIEWS, *symbols: str) -> Driver:
    driver = Driver(Binance, [("orderbooks", symbol) for symbol in symbols or [BTC]], options)
    for symbol in symbols or [BTC]:
        native = Binance.native(symbol)
        driver.hear(depth(100, 101, native))
        driver.answer(("book", native), SNAPSHOT)
    return driver


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_stream_names_are_lower_case_and_share_a_frame_for_each_channel() -> None:
    driver = Driver(Binance, every_channel(BTC, "ETH/BTC"))
    assert [each["params"] for each in sent(driver.connected)] == [
        ["btcusdt@trade", "ethbtc@trade"],
        ["btcusdt@depth@100ms", "ethbtc@depth@100ms"],
        ["btcusdt@ticker", "ethbtc@ticker"],
    ]
    assert [each["id"] for each in sent(driver.connected)] == [1, 2, 3]


def test_a_frame_names_at_most_200_streams() -> None:
    driver = Driver(Binance, [("trades", f"A{number}/USDT") for number in range(401)])
    assert [len(each["params"]) for each in sent(driver.connected)] == [200, 200, 1]


def test_an_acknowledgement_is_about_all_of_its_request() -> None:
    driver = Driver(Binance, every_channel(BTC, "ETH/BTC"))
    driver.hear({"result": None, "id": 1})
    states = {(each.channel, each.symbol): each.state for each in driver.adapter.subscriptions}
    assert states[("trades", BTC)] == states[("trades", "ETH/BTC")] == State.ACKED
    assert states[("tickers", BTC)] == State.REQUESTED


@pytest.mark.parametrize(
    "refusal",
    [{"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, {"code": 2, "msg": "Invalid request", "id": 1}],
    ids=["nested", "flat"],
)
def test_a_refusal_names_the_pairs_of_its_request_with_the_reason(refusal: object) -> None:
    driver = Driver(Binance, [("trades", BTC), ("tickers", BTC)])
    (status,) = of(driver.hear(refusal), Status)
    assert (status.symbol, status.state) == (BTC, "rejected")
    assert status.detail == "trades: Invalid request (code 2)"


def test_an_error_that_names_no_request_is_the_venues() -> None:
    assert of(Driver(Binance, []).hear({"error": {"code": 3, "msg": "Invalid JSON"}, "id": None}), VenueError)


def test_an_unknown_symbol_is_acknowledged_and_struck_by_the_instrument_list() -> None:
    driver = Driver(Binance, [("orderbooks", "NO/USDT")])
    driver.hear({"result": None, "id": 1})
    (status,) = of(driver.adapter.listed({}, driver.now), Status)
    assert status.detail == "orderbooks: binance does not list NO/USDT"
    assert of(driver.wait(120.0), Fetch) == [], "a rejected book is not asked for"


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Binance.native("BTC/USDT:USDT")


# Trades -------------------------------------------------------------------------------------------------------------


def test_a_trade_has_the_takers_side_the_time_of_the_trade_and_its_number_text() -> None:
    driver = Driver(Binance, [("trades", BTC)])
    sold, bought = of(driver.hear(trade(7), trade(8, m=False)), Trade)
    assert (sold.symbol, sold.id, sold.price, sold.amount, sold.side) == (BTC, "7", "0.00100", "100", "sell")
    assert (sold.timestamp, sold.received) == (1672515782134000, RECEIVED)
    assert bought.side == "buy"


def test_a_jump_of_trade_ids_is_a_gap_and_a_repeat_is_nothing() -> None:
    driver = Driver(Binance, [("trades", BTC)])
    outputs = driver.hear(trade(7), trade(7), trade(10))
    (gap,) = of(outputs, Gap)
    assert (gap.channel, gap.reason, gap.first_missing, gap.last_missing) == ("trades", "sequence", "8", "9")
    assert [each.id for each in of(outputs, Trade)] == ["7", "10"]


def test_rest_trades_are_past_trades() -> None:
    row = {"id": 28457, "price": "4.00000100", "qty": "12.0", "time": 1499865549590, "isBuyerMaker": True}
    (event,) = raw_answer(Binance, ("trades", "BTCUSDT"), [row]).events
    assert (event["id"], event["side"], event["snapshot"], event["timestamp"]) == ("28457", "sell", True, 1499865549590000)
    driver = Driver(Binance, [("trades", BTC)])
    assert driver.answer(("trades", "BTCUSDT"), [row]) == []


# Tickers ------------------------------------------------------------------------------------------------------------


def test_tickers_come_whole_from_the_day_ticker_and_singly_or_in_lists() -> None:
    day = {
        "e": "24hrTicker",
        "E": 1672515782136,
        "s": "BTCUSDT",
        "c": "25",
        "v": "1e4",
        "b": "24",
        "B": "1",
        "a": "26",
        "A": "2",
    }
    mini = {"e": "24hrMiniTicker", "E": 1672515782136, "s": "ETHUSDT", "c": "1.10", "v": "5"}
    driver = Driver(Binance, [("tickers", BTC), ("tickers", "ETH/USDT")])
    first, second, third = of(driver.hear(day, {"stream": "!ticker@arr", "data": [day, mini]}), Ticker)
    assert (first.bid, first.bid_amount, first.ask, first.ask_amount) == ("24", "1", "26", "2")
    assert (first.last, first.volume_24h) == ("25", "10000")
    assert second.symbol == BTC
    assert (third.symbol, third.bid, third.last) == ("ETH/USDT", None, "1.10")
    assert len(of(driver.hear([day, mini]), Ticker)) == 2, "as on a connection to /ws, which wraps nothing"


def test_a_best_price_is_a_ticker_without_a_time() -> None:
    best = {"stream": "btcusdt@bookTicker", "data": {"u": 4, "s": "BTCUSDT", "b": "25.1", "B": "3", "a": "25.2", "A": "4"}}
    (event,) = raw(Binance, best).events
    assert (event["type"], event["timestamp"], event["ask_amount"]) == ("ticker", None, "4")


# Books --------------------------------------------------------------------------------------------------------------


def test_a_book_is_asked_for_at_its_first_change_and_continues_its_snapshot() -> None:
    driver = Driver(Binance, [("orderbooks", BTC)], DELTAS)
    (fetch,) = of(driver.hear(depth(99, 101, b=[["10.0", "7"]])), Fetch)
    assert fetch.request.url == "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
    assert fetch.weight == 50
    (base,) = of(driver.answer(("book", "BTCUSDT"), SNAPSHOT), Book)
    assert base.bids == [("10.0", "7"), ("9.0", "2")]
    assert base.sequence == 101
    (delta,) = of(driver.hear(depth(102, 104, a=[["11.0", "0.000"], ["10.5", "1"]])), BookDelta)
    assert (delta.asks, delta.previous, delta.sequence) == ([("11.0", "0"), ("10.5", "1")], 101, 104)


@pytest.mark.parametrize(("view", "limit", "weight"), [(20, 1000, 50), (1000, 1000, 50), (1001, 5000, 250)])
def test_a_snapshot_is_as_deep_as_the_view_needs(view: int, limit: int, weight: int) -> None:
    driver = Driver(Binance, [("orderbooks", BTC)], BookOptions(depth=view))
    (fetch,) = of(driver.hear(depth(1, 2)), Fetch)
    assert f"limit={limit}" in fetch.request.url
    assert fetch.weight == weight


def test_a_snapshot_older_than_the_first_change_is_asked_for_again() -> None:
    driver = Driver(Binance, [("orderbooks", BTC)])
    driver.hear(depth(105, 106))
    outputs = driver.answer(("book", "BTCUSDT"), SNAPSHOT)
    assert of(outputs, Book) == []
    assert of(driver.wait(5.0), Fetch)


def test_old_changes_are_dropped_and_absent_levels_may_be_deleted() -> None:
    driver = synced()
    assert of(driver.hear(depth(90, 101, b=[["10.0", "0"]])), Book) == []
    (view,) = of(driver.hear(depth(102, 102, b=[["1.0", "0.00"]])), Book)
    assert view.bids[0] == ("10.0", "1.50")


def test_a_missed_change_resyncs_its_book_alone() -> None:
    driver = synced(VIEWS, BTC, "ETH/USDT")
    outputs = driver.hear(depth(105, 106)) + driver.wait(3.0)
    (gap,) = of(outputs, Gap)
    assert (gap.symbol, gap.reason, gap.first_missing, gap.last_missing) == (BTC, "sequence", "102", "104")
    assert [fetch.key for fetch in of(outputs, Fetch)] == [("book", "BTCUSDT")]
    assert of(driver.hear(depth(102, 103, "ETHUSDT")), Book)
    assert driver.book("BTCUSDT").state is BookState.RECOVERING


def test_depth_views_have_no_name_but_that_of_their_stream() -> None:
    view = {"stream": "ethusdt@depth20", "data": {"lastUpdateId": 17, "bids": [["1782.0", "6.4"]], "asks": []}}
    (event,) = raw(Binance, view).events
    assert (event["type"], event["symbol"], event["sequence"]) == ("book", "ETH/USDT", 17)


# Everything else ----------------------------------------------------------------------------------------------------


def test_an_announced_shutdown_is_a_reconnect() -> None:
    assert of(Driver(Binance, []).hear({"e": "serverShutdown", "E": 1770123456789}), Reconnect)


@pytest.mark.parametrize(
    "wrong", [b"", b"x", b"[]x", {}, {"e": "trade"}, trade(1, p=5), trade(1, t="7"), depth(1, 2, b=[["1"]])]
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Binance, [("trades", BTC)])
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade(1)), Trade)


def test_kinds_of_no_interest_are_passed_over() -> None:
    assert Driver(Binance, []).hear({"e": "kline", "E": 1, "s": "BTCUSDT", "k": {}}) == []


def test_instruments_tell_what_trades_and_in_which_steps() -> None:
    market = {"symbol": "这是USDT", "status": "TRADING", "baseAsset": "这是", "quoteAsset": "USDT"}
    steps = [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}, {"filterType": "LOT_SIZE", "stepSize": "0.10"}]
    halted = {**market, "symbol": "OLDUSDT", "baseAsset": "OLD", "status": "BREAK", "filters": []}
    first, second = Binance.parse_instruments(frame({"symbols": [market | {"filters": steps}, halted]}))
    assert (first.symbol, first.native, first.active) == ("这是/USDT", "这是USDT", True)
    assert (first.price_step, first.amount_step) == ("0.01", "0.10")
    assert (second.symbol, second.active, second.state) == ("OLD/USDT", False, "BREAK")


def test_a_refused_snapshot_is_a_fetch_error_and_asked_for_later() -> None:
    driver = Driver(Binance, [("orderbooks", BTC)])
    driver.hear(depth(1, 2))
    assert of(driver.answer(("book", "BTCUSDT"), {"code": -1121, "msg": "Invalid symbol."}), FetchError)
    assert of(driver.wait(5.0), Fetch)
