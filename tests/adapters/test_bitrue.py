"""Bitrue: what its file makes of each kind of message, and of each trap of its fact sheet."""

import gzip
from typing import Any

import orjson
import pytest

from adapters.bitrue import Bitrue
from adapters.book_sync import BookState
from adapters.effects import Connect, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"


def packed(message: object) -> bytes:
    return gzip.compress(frame(message), mtime=0)


def push(name: str, native: str = "btcusdt", **tick: Any) -> dict[str, Any]:
    return {"channel": f"market_{native}_{name}", "ts": 1663815268584, "tick": tick}


def row(number: int, **changed: Any) -> dict[str, Any]:
    deal = {"id": number, "price": 0.006277, "amount": 0.00520991, "side": "BUY", "vol": 0.83, "ts": 1621426164263}
    return deal | {"ds": "2021-05-19 20:09:24"} | changed


def deals(*rows: dict[str, Any]) -> bytes:
    return packed(push("trade_ticker", data=list(rows)))


def book(native: str = "btcusdt", bid: str = "18619.40", name: str = "simple_depth_step0") -> bytes:
    buys, asks = [[bid, "0.0013"], ["1000.00", "0.0020"]], [["18620.32", "0.0220"], ["606500.00", "0.0001"]]
    return packed(push(name, native, buys=buys, asks=asks))


def subed(topic: str, status: str = "ok") -> bytes:
    reply = {"channel": topic, "cb_id": "btcusdt", "event_rep": "subed", "status": status, "ts": 1663815268584}
    return packed(reply)


# Connection, heartbeats, subscriptions --------------------------------------------------------------------------------


def test_books_alone_come_from_the_documented_address_and_the_rest_from_the_older_one() -> None:
    books = Driver(Bitrue, [("orderbooks", BTC)])
    assert books.began == [Connect("wss://ws.bitrue.com/market/ws")]
    assert [each["params"]["channel"] for each in sent(books.connected)] == ["market_btcusdt_simple_depth_step0"]
    for driver in (Driver(Bitrue, [("trades", BTC)]), Driver(Bitrue, [("tickers", BTC)])):
        assert driver.began == [Connect("wss://ws.bitrue.com/kline-api/ws")]
        (request,) = sent(driver.connected)
        assert request["params"]["channel"] in ("market_btcusdt_trade_ticker", "market_btcusdt_ticker")


def test_where_channels_share_a_connection_the_older_address_has_the_books_too() -> None:
    driver = Driver(Bitrue, every_channel(BTC))
    assert driver.began == [Connect("wss://ws.bitrue.com/kline-api/ws")]
    names = ["trade_ticker", "depth_step0", "ticker"]
    assert [each["params"]["channel"] for each in sent(driver.connected)] == [f"market_btcusdt_{name}" for name in names]


def test_a_frame_names_one_pair() -> None:
    first, second = sent(Driver(Bitrue, [("trades", BTC), ("trades", ETH)]).connected)
    assert first == {"event": "sub", "params": {"cb_id": "btcusdt", "channel": "market_btcusdt_trade_ticker"}}
    assert second["params"]["cb_id"] == "ethusdt"


@pytest.mark.parametrize("value", ["1663815268584", '"1663815268584"'], ids=["bare", "quoted"])
@pytest.mark.parametrize("pack", [packed, frame], ids=["packed", "text"])
def test_a_ping_is_answered_with_its_value_as_it_is(value: str, pack: Any) -> None:
    (pong,) = of(Driver(Bitrue, []).hear(pack(f'{{"ping":{value}}}'.encode())), Send)
    assert pong.frame == f'{{"pong":{value}}}'


def test_pings_of_the_venue_keep_a_quiet_connection() -> None:
    driver = Driver(Bitrue, [("trades", BTC)])
    for _ in range(4):
        assert of(driver.wait(60.0), Reconnect) == []
        driver.hear(packed({"ping": 1663815268584}))
    assert of(driver.wait(91.0), Reconnect)


def test_an_answer_names_its_channel_and_any_status_but_ok_is_a_refusal() -> None:
    driver = Driver(Bitrue, every_channel(BTC))
    driver.hear(subed("market_btcusdt_trade_ticker"))
    (status,) = of(driver.hear(subed("market_btcusdt_ticker", "error")), Status)
    assert (status.symbol, status.state, status.detail) == (BTC, "rejected", "tickers: answered with status 'error'")
    states = {each.channel: each.state for each in driver.adapter.subscriptions}
    assert states == {"trades": State.ACKED, "orderbooks": State.REQUESTED, "tickers": State.REJECTED}


def test_answers_to_nothing_of_ours_change_nothing() -> None:
    driver = Driver(Bitrue, every_channel(BTC))
    gone = {"event_rep": "unsubed", "channel": "market_btcusdt_ticker", "status": "ok", "ts": 1}
    assert driver.hear(packed(gone), subed("market_btcusdt_kline_1min")) == []
    assert of(driver.hear(packed(gone | {"event_rep": "rep", "status": "error"})), VenueError)


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_the_amount_of_a_trade_is_its_vol_and_rows_come_newest_first() -> None:
    driver = Driver(Bitrue, [("trades", BTC)])
    outputs = driver.hear(deals(row(20482764), row(20482763, side="SELL", ts=1621426160884)))
    first, second = of(outputs, Trade)
    assert (first.id, first.side, first.timestamp) == ("20482763", "sell", 1621426160884000)
    assert (second.id, second.price, second.amount, second.side) == ("20482764", "0.006277", "0.83", "buy")
    assert second.received == RECEIVED


def test_rows_that_come_again_are_told_once_and_no_gap_is_read_from_ids() -> None:
    driver = Driver(Bitrue, [("trades", BTC)])
    outputs = driver.hear(deals(row(8), row(7)), deals(row(15), row(8)))
    assert [trade.id for trade in of(outputs, Trade)] == ["7", "8", "15"]
    assert of(outputs, Gap) == []


def test_numbers_keep_their_many_decimals_and_lose_their_exponents() -> None:
    tokens = b'"id":7,"price":1.743900,"vol":2.7E-7,"amount":472.07373000000000000000000000000000,"side":"BUY","ts":1'
    message = b'{"channel":"market_adausdt_trade_ticker","ts":2,"tick":{"data":[{%s}]}}' % tokens
    (event,) = raw(Bitrue, packed(message)).events
    assert (event["symbol"], event["price"], event["amount"]) == ("ADA/USDT", "1.743900", "0.00000027")


def test_the_channel_of_trades_carries_the_day_as_well() -> None:
    day: dict[str, Any] = {
        "amount": 1448711.193,
        "rose": 0.0262,
        "close": 3.435,
        "vol": 429024.8,
        "high": 3.435,
        "low": 3.317,
        "open": 3.347,
    }
    driver = Driver(Bitrue, [("trades", BTC)])
    assert driver.hear(packed({"channel": "market_btcusdt_trade_ticker", "tick": day})) == [], "no trade, and no error"
    (ticker,) = of(Driver(Bitrue, [("tickers", BTC)]).hear(packed(push("ticker", **day))), Ticker)
    assert (ticker.last, ticker.volume_24h, ticker.bid, ticker.timestamp) == ("3.435", "429024.8", None, 1663815268584000)


def test_a_list_of_trades_that_was_asked_for_is_past() -> None:
    reply = {"event_rep": "rep", "cb_id": "btcusdt", "status": "ok", "channel": "market_btcusdt_trade_ticker", "data": [row(7)]}
    (event,) = raw(Bitrue, packed(reply)).events
    assert (event["id"], event["amount"], event["snapshot"]) == ("7", "0.83", True)
    assert Driver(Bitrue, [("trades", BTC)]).hear(packed(reply)) == []


# Books --------------------------------------------------------------------------------------------------------------


def test_every_book_is_whole_and_far_away_levels_are_none_the_worse() -> None:
    driver = Driver(Bitrue, [("orderbooks", BTC)])
    first, second = of(driver.hear(book(), book(bid="18619.50")), Book)
    assert first.bids == [("18619.40", "0.0013"), ("1000.00", "0.0020")]
    assert (first.asks[-1], first.sequence, first.timestamp) == (("606500.00", "0.0001"), None, 1663815268584000)
    assert second.bids == [("18619.50", "0.0013"), ("1000.00", "0.0020")], "what is not in it is gone"


def test_readers_of_changes_are_told_what_differs() -> None:
    driver = Driver(Bitrue, [("orderbooks", BTC)], DELTAS)
    driver.hear(book())
    (delta,) = of(driver.hear(book(bid="18619.50")), BookDelta)
    assert (delta.bids, delta.asks) == ([("18619.40", "0"), ("18619.50", "0.0013")], [])


def test_a_book_of_the_older_address_has_bare_amounts() -> None:
    message = b'{"channel":"market_adausdt_depth_step0","ts":1,"tick":{"buys":[["0.15579",1.1E+2]],"asks":[]}}'
    (event,) = raw(Bitrue, packed(message)).events
    assert (event["type"], event["bids"], event["asks"]) == ("book", [("0.15579", "110")], [])


@pytest.mark.parametrize("name", ["depth_step1", "depth_step2"])
def test_prices_that_were_put_together_are_a_view(name: str) -> None:
    driver = Driver(Bitrue, every_channel(BTC))
    driver.hear(book(name=name))
    assert driver.book("btcusdt").state is BookState.WAITING
    assert raw(Bitrue, book(name=name)).events[0]["type"] == "book"


def test_a_book_that_was_asked_for_names_no_market() -> None:
    (event,) = raw(Bitrue, packed({"ts": 1621419599417, "tick": {"buys": [], "asks": [["40199.75", 0.1]]}})).events
    assert (event["native"], event["asks"]) == (None, [("40199.75", "0.1")])


def test_a_crossed_book_is_subscribed_anew_alone() -> None:
    driver = Driver(Bitrue, [("orderbooks", BTC), ("orderbooks", ETH)], VIEWS)
    driver.hear(book(), book("ethusdt"))
    outputs = driver.hear(book(bid="20000"))
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "crossed")]
    assert [(each["event"], each["params"]["cb_id"]) for each in sent(outputs)] == [("unsub", "btcusdt"), ("sub", "btcusdt")]
    assert driver.book("ethusdt").state is BookState.SYNCED
    assert len(of(driver.hear(book()), Book)) == 1


def test_a_book_that_stands_still_is_subscribed_anew_and_one_that_moves_is_not() -> None:
    driver = Driver(Bitrue, [("orderbooks", BTC), ("orderbooks", ETH)])
    driver.hear(book(), book("ethusdt"))
    outputs = []
    for _ in range(10):
        outputs += driver.wait(10.0) + driver.hear(book("ethusdt"))
    assert {each["params"]["cb_id"] for each in sent(outputs)} == {"btcusdt"}
    assert of(outputs, Gap) == [], "a quiet market is no fault"


# What cannot be read, names, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\x1f\x8b", deals(row(1))[:-1], deals(row(1)) + b"x", packed({}), packed({"ping": "soon"})),
        *(
            packed({"ping": [1]}),
            packed({"tick": {}}),
            packed(push("never")),
            packed(push("ticker")),
            subed("market_btcusdt_x"),
        ),
        *(deals(row(1, side="none")), deals(row(1, price="free")), deals(row(-1)), deals(row(1, ts="soon"))),
        *(packed(push("depth_step0", buys=[])), packed(push("depth_step0", buys=[["1"]], asks=[]))),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Bitrue, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(deals(row(1))), Trade)


def test_candles_are_passed_over() -> None:
    candle: dict[str, Any] = {
        "amount": 49855.950209,
        "close": 1.7439,
        "vol": 28616.74,
        "high": 1.7445,
        "low": 1.7406,
        "id": 1621412820,
    }
    assert Driver(Bitrue, every_channel(BTC)).hear(packed(push("kline_1min", **candle))) == []


@pytest.mark.parametrize(("native", "symbol"), [("xlmeth", "XLM/ETH"), ("e_btcusdt", None), ("usdt", None)])
def test_only_spot_has_a_symbol(native: str, symbol: str | None) -> None:
    (event,) = raw(Bitrue, book(native)).events
    assert (event["native"], event["symbol"]) == (native, symbol)


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Bitrue.native("BTC/USDT:USDT")


def test_instruments_have_assets_in_lower_case_and_steps_in_two_forms() -> None:
    price, lot = {"filterType": "PRICE_FILTER", "priceScale": 2}, {"filterType": "LOT_SIZE", "minVal": "10.0", "volumeScale": 4}
    market = {"symbol": "ETHBTC", "status": "TRADING", "baseAsset": "eth", "quoteAsset": "btc", "filters": [price, lot]}
    halted = market | {"symbol": "OLDBTC", "baseAsset": "old", "status": "HALT"}
    halted |= {"filters": [price | {"tickSize": "0.05"}, lot | {"stepSize": "0.5"}]}
    first, second = Bitrue.parse_instruments(frame({"symbols": [market, halted]}))
    assert (first.symbol, first.native, first.active) == ("ETH/BTC", "ethbtc", True)
    assert (first.price_step, first.amount_step) == ("0.01", "0.0001")
    assert (second.active, second.state, second.price_step, second.amount_step) == (False, "HALT", "0.05", "0.5")


@pytest.mark.parametrize(
    ("more", "side"), [({"isBuyerMaker": True}, "sell"), ({"isBuyer": True, "isMaker": True}, "buy"), ({}, "unknown")]
)
def test_rest_trades_come_in_two_forms(more: dict[str, bool], side: str) -> None:
    row = {"id": 28457, "price": "4.00000100", "qty": "12.0", "time": 1499865549590} | more
    (event,) = raw_answer(Bitrue, ("trades", "LTCBTC"), [row]).events
    assert (event["native"], event["id"], event["side"], event["snapshot"]) == ("ltcbtc", "28457", side, True)


def test_aggregates_have_no_side_and_a_rest_book_is_a_view() -> None:
    merged = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781, "T": 1498793709153, "m": True}
    assert raw_answer(Bitrue, ("aggregates", "BTCUSDT"), [merged]).events[0]["side"] == "unknown"
    depth = {"lastUpdateId": 1635474910177, "bids": [["4.0", "431", []]], "asks": [["4.2", "12", []]]}
    (event,) = raw_answer(Bitrue, ("view", "BTCUSDT"), depth).events
    assert (event["native"], event["bids"], event["sequence"]) == ("btcusdt", [("4.0", "431")], None), "that number is a time"
    assert Bitrue.shape(orjson.loads(orjson.dumps(depth))) == "view"


def test_a_refused_answer_is_a_fetch_error_in_the_venues_words() -> None:
    with pytest.raises(FetchError, match=r"System is under maintenance\. \(code 1\)"):
        Bitrue.parse_instruments(frame({"code": 1, "msg": "System is under maintenance."}))
    assert of(Driver(Bitrue, []).answer(("view", "BTCUSDT"), b"<html>busy</html>"), FetchError)
