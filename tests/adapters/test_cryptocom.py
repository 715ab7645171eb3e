"""Crypto.com: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import orjson
import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.cryptocom import Cryptocom
from adapters.effects import Connect, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USD", "ETH/USD"


def push(channel: str, *data: object, native: str = "BTC_USD", topic: str = "", number: int = -1) -> dict[str, Any]:
    about = {"instrument_name": native, "subscription": topic or f"{channel}.{native}", "channel": channel}
    return {"id": number, "method": "subscribe", "code": 0, "result": about | {"data": list(data)}}


def row(identifier: object = "1782032437671850129", **changed: Any) -> dict[str, Any]:
    fill = {"d": identifier, "t": 1782032437671, "p": "63958.47", "q": "0.04333", "s": "SELL", "i": "BTC_USD"}
    return fill | {"m": "4611686018731788404"} | changed


def snapshot(u: int | None = 100, native: str = "BTC_USD") -> dict[str, Any]:
    bids, asks = [["2749.60", "0.2008", "2"], ["2749.50", "1", "1"]], [["2749.62", "0.5", "2"]]
    book = {"asks": asks, "bids": bids, "t": 1790114273395, "tt": 1790114273346, "u": u, "cs": -1183713967}
    return push("book", book, native=native)


def update(u: int, pu: int, native: str = "BTC_USD", **sides: list[list[str]]) -> dict[str, Any]:
    times = {"t": 1790114273395, "tt": 1790114273346, "cs": -781431132}
    return push("book.update", {"update": {"asks": [], "bids": []} | sides, "u": u, "pu": pu} | times, native=native)


def asked(*wanted: Any, options: BookOptions = VIEWS) -> Driver:
    """A connection on which everything was asked for."""
    driver = Driver(Cryptocom, wanted, options)
    driver.wait(1.0)
    return driver


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = asked(("orderbooks", BTC), ("orderbooks", ETH), options=options)
    driver.hear(snapshot(), snapshot(native="ETH_USD"))
    return driver


# Connection, heartbeats, subscriptions --------------------------------------------------------------------------------


def test_nothing_is_asked_in_the_first_second_of_a_connection() -> None:
    driver = Driver(Cryptocom, every_channel(BTC, ETH))
    assert driver.began == [Connect("wss://stream.crypto.com/exchange/v1/market")]
    assert sent(driver.connected) == []
    trades, books, tickers = sent(driver.wait(1.0))
    assert trades == {"id": 1, "method": "subscribe", "params": {"channels": ["trade.BTC_USD", "trade.ETH_USD"]}}
    assert books["params"] == {
        "channels": ["book.BTC_USD.10", "book.ETH_USD.10"],
        "book_subscription_type": "SNAPSHOT_AND_UPDATE",
        "book_update_frequency": 100,
    }
    assert tickers["params"] == {"channels": ["ticker.BTC_USD", "ticker.ETH_USD"]}, "what is said of books is for books alone"
    assert sent(driver.reconnect()) == []
    assert len(sent(driver.wait(1.0))) == 3


@pytest.mark.parametrize(("view", "depth"), [(10, 10), (11, 50), (50, 50)])
def test_a_book_is_subscribed_at_the_depth_that_holds_the_view(view: int, depth: int) -> None:
    (frame,) = sent(Driver(Cryptocom, [("orderbooks", BTC)], BookOptions(depth=view)).wait(1.0))
    assert frame["params"]["channels"] == [f"book.BTC_USD.{depth}"]


def test_changes_of_more_than_fifty_levels_are_not_to_be_had() -> None:
    with pytest.raises(SymbolError, match="at most 50"):
        Cryptocom([("orderbooks", BTC)], BookOptions(depth=51))


@pytest.mark.parametrize("more", [{"code": 0}, {}], ids=["today", "older"])
def test_a_heartbeat_is_answered_with_its_own_id_as_an_integer(more: dict[str, int]) -> None:
    (answer,) = of(asked().hear({"id": 1587523073344, "method": "public/heartbeat"} | more), Send)
    assert answer.frame == '{"id":1587523073344,"method":"public/respond-heartbeat"}'


def test_heartbeats_keep_a_quiet_connection() -> None:
    driver = asked(("trades", BTC))
    for beat in range(5):
        assert of(driver.wait(30.0), Reconnect) == []
        driver.hear({"id": beat, "method": "public/heartbeat", "code": 0})
    assert of(driver.wait(71.0), Reconnect)


def acked(driver: Driver) -> set[tuple[str, str]]:
    return {(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED}


def test_an_acknowledgement_names_its_topic_in_either_of_two_places() -> None:
    driver = asked(*every_channel(BTC, ETH))
    driver.hear({"id": 2, "method": "subscribe", "code": 0, "channel": "book.BTC_USD.10"})
    about = {"instrument_name": "ETH_USD", "subscription": "ticker.ETH_USD", "channel": "ticker"}
    driver.hear({"id": 3, "method": "subscribe", "code": 0, "result": about})
    assert acked(driver) == {("orderbooks", BTC), ("tickers", ETH)}


def test_an_older_acknowledgement_names_its_request_alone() -> None:
    driver = asked(*every_channel(BTC, ETH))
    driver.hear({"id": 1, "code": 0, "method": "subscribe"})
    assert acked(driver) == {("trades", BTC), ("trades", ETH)}


def test_data_is_data_whatever_its_id() -> None:
    driver = asked(("trades", BTC))
    (trade,) = of(driver.hear(push("trade", row(), number=1)), Trade)
    assert trade.symbol == BTC
    assert driver.adapter.subscriptions.counts() == {State.LIVE: 1}


def test_a_topic_that_is_refused_does_not_stop_the_others() -> None:
    driver = asked(*every_channel(BTC, "NO/USD"))
    refusal = {"id": 2, "method": "subscribe", "code": 40003, "message": "Unknown symbol", "channel": "book.NO_USD.10"}
    (status,) = of(driver.hear(refusal, refusal), Status)
    assert (status.symbol, status.state, status.detail) == ("NO/USD", "rejected", "orderbooks: Unknown symbol (code 40003)")
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 1, State.REQUESTED: 5}


@pytest.mark.parametrize(
    ("message", "rejected"), [("invalid channel {trade.NO_USD}", {"NO/USD"}), ("Invalid request", {BTC, "NO/USD"})]
)
def test_a_refusal_without_a_topic_is_read_from_its_text_or_is_about_its_request(message: str, rejected: set[str]) -> None:
    driver = asked(("trades", BTC), ("trades", "NO/USD"))
    outputs = driver.hear({"id": 1, "method": "subscribe", "code": 10004, "message": message})
    assert {status.symbol for status in of(outputs, Status)} == rejected


@pytest.mark.parametrize("code", [40801, 42901, 50001, 9010001])
def test_a_passing_refusal_is_asked_again(code: int) -> None:
    driver = asked(("trades", BTC))
    assert of(
        driver.hear({"id": 1, "method": "subscribe", "code": code, "message": "x", "channel": "trade.BTC_USD"}), VenueError
    )
    assert [each["method"] for each in sent(driver.wait(15.0))] == ["subscribe"]


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_has_a_long_id_the_takers_side_and_milliseconds() -> None:
    outputs = asked(("trades", BTC)).hear(push("trade", row(), row("1782032437671850130", s="buy")))
    first, second = of(outputs, Trade)
    assert (first.id, first.price, first.amount, first.side) == ("1782032437671850129", "63958.47", "0.04333", "sell")
    assert (first.timestamp, first.received) == (1782032437671000, RECEIVED)
    assert second.side == "buy"
    assert of(outputs, Gap) == [], "no gap is read from ids that are not consecutive"


def test_a_batch_comes_newest_first_and_is_told_in_order_and_once() -> None:
    driver = asked(("trades", BTC))
    batch = push("trade", row("3", t=30), row("2", t=20), row("1", t=20))
    assert [trade.id for trade in of(driver.hear(batch), Trade)] == ["1", "2", "3"]
    driver.reconnect()
    driver.wait(1.0)
    again = push("trade", row("4", t=40), row("3", t=30))
    assert [trade.id for trade in of(driver.hear(again), Trade)] == ["4"], "what was missed comes with the subscription"


def test_fills_that_share_the_id_of_their_match_are_all_told() -> None:
    older = [{name: value for name, value in row("4611686018439397540", q=q).items() if name != "m"} for q in ("1", "2", "2")]
    driver = asked(("trades", BTC))
    outputs = driver.hear(push("trade", *older), push("trade", *older))
    assert [(trade.id, trade.amount) for trade in of(outputs, Trade)] == [
        ("4611686018439397540", "1"),
        ("4611686018439397540-1", "2"),
        ("4611686018439397540-2", "2"),
    ]


def test_numbers_were_bare_before() -> None:
    message = b'{"code":0,"method":"subscribe","result":{"instrument_name":"HOT_USDT","channel":"trade","data":[%s]}}'
    fill = b'{"dataTime":1,"d":2008994948736251682,"s":"SELL","p":0.013900,"q":1.5e-7,"t":1637709515137,"i":"HOT_USDT"}'
    (event,) = raw(Cryptocom, message % fill).events
    assert (event["id"], event["price"], event["amount"]) == ("2008994948736251682", "0.013900", "0.00000015")
    book = b'{"bids":[[0.013855,32626,1]],"asks":[[1.4e-2,0,0]],"t":1637709515137}'
    (event,) = raw(Cryptocom, (message % book).replace(b'"trade"', b'"book","depth":150')).events
    assert (event["bids"], event["asks"], event["sequence"]) == ([("0.013855", "32626")], [("0.014", "0")], None)


def test_a_ticker_may_lack_a_side() -> None:
    day = {"h": None, "l": "63120.85", "a": "63958.47", "c": "0.0092", "b": None, "bs": None, "k": "63962.65", "ks": "0.23532"}
    data = day | {"i": "BTC_USD", "v": "2657.5053", "vv": "169819487.92", "oi": "0", "t": 1782032455141}
    (ticker,) = of(asked(("tickers", BTC)).hear(push("ticker", data)), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == (None, None, "63962.65", "0.23532")
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == ("63958.47", "2657.5053", 1782032455141000)


# Books --------------------------------------------------------------------------------------------------------------


def test_each_change_names_the_one_before_and_numbers_are_far_apart() -> None:
    driver = synced(DELTAS)
    outputs = driver.hear(update(78795598253024, 100, bids=[["2749.60", "0", "0"]]), update(78795599000000, 78795598253024))
    first, second = of(outputs, BookDelta)
    assert (first.previous, first.sequence, first.bids) == (100, 78795598253024, [("2749.60", "0")])
    assert (second.previous, second.timestamp) == (78795598253024, 1790114273395000)


def test_a_quiet_book_says_so_with_an_empty_change() -> None:
    driver = synced()
    outputs = driver.hear(update(100, 100), update(105, 100))
    assert of(outputs, Gap) == []
    assert driver.book("BTC_USD").state is BookState.SYNCED


def test_a_broken_link_subscribes_that_book_anew_alone() -> None:
    driver = synced()
    outputs = driver.hear(update(106, 105), update(107, 106))
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "sequence")]
    end, begin = sent(outputs)
    assert (end["method"], end["params"]) == ("unsubscribe", {"channels": ["book.BTC_USD.10"]})
    assert (begin["method"], begin["params"]["book_subscription_type"]) == ("subscribe", "SNAPSHOT_AND_UPDATE")
    assert of(outputs, Book) == [], "nothing is shown while in doubt"
    assert driver.hear({"id": end["id"], "method": "unsubscribe", "code": 0}) == []
    assert [view.symbol for view in of(driver.hear(update(101, 100, "ETH_USD")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.hear(snapshot(200), update(201, 200)), Book)] == [200, 201]


def test_the_checksum_is_not_compared() -> None:
    message = update(101, 100, asks=[["2749.70", "1", "1"]])
    message["result"]["data"][0]["cs"] = 1
    assert of(synced().hear(message), Gap) == []


# What cannot be read, names, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["candlestick", "funding", "estimatedfunding", "mark", "index", "settlement"])
def test_channels_of_no_interest_are_passed_over(channel: str) -> None:
    assert asked().hear(push(channel, {"v": "0.0001", "t": 1})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"method": "never"}, {"method": "public/heartbeat"}),
        {"method": "public/heartbeat", "id": 2**63},
        *(push("never", {}), push("trade", {}), push("trade", row(s="none")), push("trade", row(t="soon"))),
        *(push("trade", row(p="free")), push("trade", row(q=None)), push("trade", row(-1)), push("ticker", [])),
        push("book.update", {"u": 1, "pu": 2}),
        update(101, 100, bids=[["1"]]),
        update(101, 100, bids=[["x", "1", "1"]]),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = asked(*every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(push("trade", row())), Trade)


@pytest.mark.parametrize("native", ["BTCUSD-PERP", "ETHUSD-230825", "BTCUSD-230825-CW30000", "BTCUSD-INDEX"])
def test_only_spot_has_a_symbol(native: str) -> None:
    assert raw(Cryptocom, push("trade", row(), native=native)).events[0]["symbol"] is None


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Cryptocom.native("BTC/USD:USD")


def answer(*data: object, code: int = 0, message: str = "") -> dict[str, Any]:
    return {"id": -1, "method": "public/x", "code": code, "message": message, "result": {"data": list(data)}}


def test_instruments_are_those_of_spot() -> None:
    spot = {"symbol": "BTC_USD", "inst_type": "CCY_PAIR", "base_ccy": "BTC", "quote_ccy": "USD", "tradable": True}
    spot |= {"price_tick_size": "0.01", "qty_tick_size": "0.00001", "contract_size": "1"}
    closed = spot | {"symbol": "OLD_USD", "base_ccy": "OLD", "tradable": False}
    perp = spot | {"symbol": "BTCUSD-PERP", "inst_type": "PERPETUAL_SWAP"}
    first, second = Cryptocom.parse_instruments(frame(answer(spot, closed, perp)))
    assert (first.symbol, first.native, first.active) == (BTC, "BTC_USD", True)
    assert (first.price_step, first.amount_step) == ("0.01", "0.00001")
    assert (second.symbol, second.active, second.state) == ("OLD/USD", False, "not tradable")
    assert Cryptocom.instruments_request().request.url == "https://api.crypto.com/exchange/v1/public/get-instruments"


def test_rest_trades_are_past_trades_in_lower_case() -> None:
    body = answer(row(s="sell", tn="1782032437671850129"))
    (event,) = raw_answer(Cryptocom, ("trades", "BTC_USD"), body).events
    assert (event["id"], event["side"], event["snapshot"]) == ("1782032437671850129", "sell", True)
    assert Cryptocom.shape(orjson.loads(orjson.dumps(body))) == "trades"


def test_a_book_of_rest_is_a_view_under_the_name_it_was_asked_by() -> None:
    book = {"asks": [["10.5", "1", "2"]], "bids": [["10.0", "3", "1"]], "t": 1654780033755}
    body = {"id": -1, "code": 0, "result": {"depth": 1, "instrument_name": "BTC_USD", "data": [book]}}
    (event,) = raw_answer(Cryptocom, ("view", "BTC_USD"), body).events
    assert (event["type"], event["symbol"], event["timestamp"]) == ("book", "BTC/USD", 1654780033755000)
    assert (event["bids"], event["asks"]) == ([("10.0", "3")], [("10.5", "1")])


def test_a_code_of_error_is_a_fetch_error() -> None:
    with pytest.raises(FetchError, match=r"Missing argument \(code 40004\)"):
        Cryptocom.parse_instruments(frame({"code": 40004, "message": "Missing argument"}))
