"""Binance.US: what differs from Binance, and each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.binanceus import VENUE, BinanceUs
from adapters.book import BookOptions
from adapters.effects import Connect, Fetch, Reconnect
from adapters.errors import FetchError, FrameError, SymbolError
from adapters.events import Book, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import RECEIVED, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC = "BTC/USD"


def trade(number: int, **changed: Any) -> dict[str, Any]:
    data = {"e": "trade", "E": 1672515782136, "s": "BTCUSD", "t": number, "p": "0.00100", "q": "100", "b": 88, "a": 50}
    return {"stream": "btcusd@trade", "data": data | {"T": 1672515782134, "m": True, "M": True} | changed}


def depth(first: int, last: int, **sides: list[list[str]]) -> dict[str, Any]:
    data = {"e": "depthUpdate", "E": 1672515782136, "s": "BTCUSD", "U": first, "u": last, "b": [], "a": []}
    return {"stream": "btcusd@depth@100ms", "data": data | sides}


SNAPSHOT = {"lastUpdateId": 100, "bids": [["10.0", "1.50"], ["9.0", "2"]], "asks": [["11.0", "1"], ["12.0", "3"]]}


# What is asked for --------------------------------------------------------------------------------------------------


def test_streams_are_those_of_the_fork_at_its_own_address() -> None:
    driver = Driver(BinanceUs, every_channel(BTC, "ETH/USDT"))
    assert driver.began == [Connect("wss://stream.binance.us:9443/stream")]
    assert [each["params"] for each in sent(driver.connected)] == [
        ["btcusd@trade", "ethusdt@trade"],
        ["btcusd@depth@100ms", "ethusdt@depth@100ms"],
        ["btcusd@ticker", "ethusdt@ticker"],
    ]
    assert [each["id"] for each in sent(driver.connected)] == [1, 2, 3], "unsigned integers: text is refused"


def test_a_quiet_connection_is_asked_and_any_answer_keeps_it() -> None:
    driver = Driver(BinanceUs, [("trades", BTC)])
    driver.hear({"result": None, "id": 1})
    for _ in range(10):
        outputs = driver.wait(30.0)
        (question,) = sent(outputs)
        assert question["method"] == "LIST_SUBSCRIPTIONS"
        assert driver.hear({"result": ["btcusd@trade"], "id": question["id"]}) == []
        assert of(outputs, Reconnect) == [], "hours without a trade are nothing unusual"
    assert of(driver.wait(92.0), Reconnect), "without any answer the connection is dead"


def test_the_answer_to_that_question_acknowledges_nothing() -> None:
    driver = Driver(BinanceUs, every_channel(BTC))
    (question,) = [each for each in sent(driver.wait(9.0) + driver.wait(22.0)) if each["method"] == "LIST_SUBSCRIPTIONS"]
    driver.hear({"result": [], "id": question["id"]})
    assert driver.adapter.subscriptions.counts() == {State.REQUESTED: 3}


def test_a_refusal_is_printed_flat_or_nested() -> None:
    driver = Driver(BinanceUs, [("trades", BTC), ("tickers", BTC)])
    outputs = driver.hear(
        {"code": 2, "msg": "Invalid request", "id": 1}, {"error": {"code": 1, "msg": "Invalid value"}, "id": 2}
    )
    assert [status.detail for status in of(outputs, Status)] == [
        "trades: Invalid request (code 2)",
        "tickers: Invalid value (code 1)",
    ]


@pytest.mark.parametrize(("view", "limit", "weight"), [(20, 1000, 10), (1001, 5000, 50)])
def test_a_snapshot_costs_a_fifth_of_what_it_costs_at_binance(view: int, limit: int, weight: int) -> None:
    (fetch,) = of(Driver(BinanceUs, [("orderbooks", BTC)], BookOptions(depth=view)).hear(depth(1, 2)), Fetch)
    assert fetch.request.url == f"https://api.binance.us/api/v3/depth?symbol=BTCUSD&limit={limit}"
    assert fetch.weight == weight
    assert VENUE.limits.weight.count == 1200


def test_the_instrument_list_is_asked_for_without_parameters_of_binance() -> None:
    fetch = BinanceUs.instruments_request()
    assert (fetch.request.url, fetch.weight) == ("https://api.binance.us/api/v3/exchangeInfo", 10)


def test_instruments_tell_what_trades_now() -> None:
    market: dict[str, Any] = {
        "symbol": "BTCUSD",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USD",
        "permissions": ["SPOT"],
    }
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.0100", "tickSize": "0.0100"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00000100"},
        {"filterType": "MIN_NOTIONAL", "minNotional": "10.0000", "applyToMarket": True},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.00000000"},
    ]
    market |= {"filters": filters}
    halted = market | {"symbol": "OMGBUSD", "baseAsset": "OMG", "quoteAsset": "BUSD", "status": "BREAK"}
    first, second = BinanceUs.parse_instruments(frame({"symbols": [market, halted]}))
    assert (first.symbol, first.native, first.active) == (BTC, "BTCUSD", True)
    assert (first.price_step, first.amount_step) == ("0.0100", "0.00000100")
    assert (second.symbol, second.active, second.state) == ("OMG/BUSD", False, "BREAK")


# What is told -------------------------------------------------------------------------------------------------------


def test_a_trade_may_name_both_orders_and_a_jump_of_ids_is_a_gap() -> None:
    driver = Driver(BinanceUs, [("trades", BTC)])
    outputs = driver.hear(trade(7), trade(10, m=False))
    sold, bought = of(outputs, Trade)
    assert (sold.exchange, sold.symbol, sold.id, sold.price, sold.side) == ("binanceus", BTC, "7", "0.00100", "sell")
    assert (sold.timestamp, sold.received, bought.side) == (1672515782134000, RECEIVED, "buy")
    assert [(gap.first_missing, gap.last_missing) for gap in of(outputs, Gap)] == [("8", "9")]


def test_a_book_continues_its_snapshot_and_a_missed_change_is_a_gap() -> None:
    driver = Driver(BinanceUs, [("orderbooks", BTC)])
    driver.hear(depth(99, 101, b=[["10.0", "7"]]))
    (view,) = of(driver.answer(("book", "BTCUSD"), SNAPSHOT), Book)
    assert (view.bids, view.sequence) == ([("10.0", "7"), ("9.0", "2")], 101)
    (gap,) = of(driver.hear(depth(104, 105)), Gap)
    assert (gap.first_missing, gap.last_missing) == ("102", "103")


def test_a_day_ticker_has_everything_and_a_book_ticker_no_time() -> None:
    day = {"e": "24hrTicker", "E": 1672515782136, "s": "BTCUSD", "c": "25", "v": "10", "b": "24", "B": "1", "a": "26", "A": "2"}
    (ticker,) = of(Driver(BinanceUs, [("tickers", BTC)]).hear({"stream": "btcusd@ticker", "data": day}), Ticker)
    assert (ticker.bid, ticker.ask_amount, ticker.last, ticker.volume_24h) == ("24", "2", "25", "10")
    best = {"stream": "btcusd@bookTicker", "data": {"u": 4, "s": "BTCUSD", "b": "25.1", "B": "3", "a": "25.2", "A": "4"}}
    (event,) = raw(BinanceUs, best).events
    assert (event["exchange"], event["timestamp"], event["bid"]) == ("binanceus", None, "25.1")


def test_rest_trades_and_aggregates_are_past_trades() -> None:
    row = {"a": 26129, "p": "0.01633102", "q": "4.7", "f": 27781, "l": 27783, "T": 1498793709153, "m": True, "M": True}
    (event,) = raw_answer(BinanceUs, ("aggregates", "BTCUSD"), [row]).events
    assert (event["id"], event["side"], event["snapshot"]) == ("26129", "sell", True)
    assert BinanceUs.shape([row]) == "aggregates"


def test_a_refused_answer_is_a_fetch_error_in_the_venues_words() -> None:
    with pytest.raises(FetchError, match="Invalid symbol"):
        BinanceUs.parse_instruments(frame({"code": -1121, "msg": "Invalid symbol."}))


def test_names_are_those_of_spot_alone() -> None:
    assert BinanceUs.canonical("BTCUSDC") == "BTC/USDC"
    with pytest.raises(SymbolError, match="no spot market"):
        BinanceUs.native("BTC/USD:BTC")


@pytest.mark.parametrize("wrong", [b"", b"x", {}, {"e": "trade"}, trade(1, p=5), trade(1, t="7"), depth(1, 2, b=[["1"]])])
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(BinanceUs, [("trades", BTC)])
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade(1)), Trade)
