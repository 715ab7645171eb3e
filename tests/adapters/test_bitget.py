"""Bitget: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import pytest

from adapters.bitget import Bitget
from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Connect, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"
MILLIS = 1695710946294
SNAPSHOT_CHECKSUM, CHANGED_CHECKSUM = -1879340076, -520186628


def about(channel: str, native: str = "BTCUSDT") -> dict[str, str]:
    return {"instType": "SPOT", "channel": channel, "instId": native}


def push(argument: dict[str, str], *rows: object, action: str = "snapshot") -> dict[str, Any]:
    return {"action": action, "arg": argument, "data": list(rows), "ts": MILLIS + 5}


def trade(number: str, action: str = "update", **changed: Any) -> dict[str, Any]:
    row = {"ts": str(MILLIS), "price": "26293.40", "size": "0.0013", "side": "buy", "tradeId": number}
    return push(about("trade"), row | changed, action=action)


def book(
    action: str,
    sequence: int | None,
    previous: int | None,
    bids: list[list[str]] | None = None,
    asks: list[list[str]] | None = None,
    *,
    native: str = "BTCUSDT",
    checksum: int | None = 0,
) -> dict[str, Any]:
    row: dict[str, Any] = {"asks": asks or [], "bids": bids or [], "ts": str(MILLIS)}
    if checksum is not None:
        row["checksum"] = checksum
    if sequence is not None:
        row |= {"seq": sequence, "pseq": previous}
    return push(about("books", native), row, action=action)


def snapshot(sequence: int | None = 100, native: str = "BTCUSDT", checksum: int | None = 0) -> dict[str, Any]:
    bids, asks = [["26274.8", "0.0009"], ["26274.7", "0.0027"]], [["26274.9", "0.0009"], ["26275.0", "0.0500"]]
    return book("snapshot", sequence, 0, bids, asks, native=native, checksum=checksum)


def update(
    sequence: int | None, previous: int | None, price: str = "26274.8", native: str = "BTCUSDT", checksum: int | None = 0
) -> dict[str, Any]:
    return book("update", sequence, previous, [[price, "1.50"]], native=native, checksum=checksum)


def synced(options: BookOptions = VIEWS, sequence: int | None = 100) -> Driver:
    driver = Driver(Bitget, [("orderbooks", BTC), ("orderbooks", ETH)], options)
    driver.hear(snapshot(sequence), snapshot(sequence, "ETHUSDT"))
    return driver


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_a_frame_names_all_pairs_of_a_channel() -> None:
    driver = Driver(Bitget, every_channel(BTC, ETH))
    assert driver.began == [Connect("wss://ws.bitget.com/v2/ws/public")]
    trades, books, tickers = sent(driver.connected)
    assert trades == {"op": "subscribe", "args": [about("trade"), about("trade", "ETHUSDT")]}
    assert {each["channel"] for each in books["args"]} == {"books"}
    assert {each["channel"] for each in tickers["args"]} == {"ticker"}


def test_each_argument_is_acknowledged_by_itself() -> None:
    driver = Driver(Bitget, every_channel(BTC, ETH))
    assert driver.hear({"event": "subscribe", "arg": about("trade", "ETHUSDT")}) == []
    acked = [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED]
    assert acked == [("trades", ETH)]


def test_a_refusal_names_its_argument_and_harms_no_other() -> None:
    driver = Driver(Bitget, every_channel(BTC, "FOO/USDT"))
    refusal = {"event": "error", "arg": about("books", "FOOUSDT"), "code": 30001, "msg": "instId:FOOUSDT doesn't exist"}
    (status,) = of(driver.hear(refusal), Status)
    assert (status.symbol, status.state) == ("FOO/USDT", "rejected")
    assert status.detail == "orderbooks: instId:FOOUSDT doesn't exist (code 30001)"
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 1, State.REQUESTED: 5}


@pytest.mark.parametrize("message", [{"arg": about("trade"), "code": 30006}, {"code": "30007"}, {"code": 30016}])
def test_a_passing_refusal_and_one_that_names_nothing_are_asked_again(message: dict[str, Any]) -> None:
    driver = Driver(Bitget, [("trades", BTC)])
    assert of(driver.hear({"event": "error", "msg": "x"} | message), VenueError)
    assert [each["op"] for each in sent(driver.wait(15.0))] == ["subscribe"]


def test_the_end_of_a_subscription_changes_nothing() -> None:
    driver = synced()
    assert driver.hear({"event": "unsubscribe", "arg": about("books")}) == []
    assert driver.book("BTCUSDT").state is BookState.SYNCED


# Books --------------------------------------------------------------------------------------------------------------


def test_each_change_names_the_one_before() -> None:
    first, second = of(synced(DELTAS).hear(update(105, 100), update(106, 105, "26274.7")), BookDelta)
    assert (first.previous, first.sequence, first.bids) == (100, 105, [("26274.8", "1.50")])
    assert (second.previous, second.sequence, second.timestamp) == (105, 106, MILLIS * 1000)


@pytest.mark.parametrize("previous", [105, 0], ids=["a loss", "a restart"])
def test_a_broken_chain_resubscribes_that_book_alone(previous: int) -> None:
    driver = synced()
    outputs = driver.hear(update(106, previous))
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [(BTC, "sequence")]
    assert [(each["op"], each["args"]) for each in sent(outputs)] == [
        ("unsubscribe", [about("books")]),
        ("subscribe", [about("books")]),
    ]
    assert of(outputs, Book) == [], "nothing is shown while in doubt"
    assert [view.symbol for view in of(driver.hear(update(101, 100, native="ETHUSDT")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.hear(snapshot(200), update(201, 200)), Book)] == [200, 201]


def test_a_sequence_needs_all_of_its_bits() -> None:
    above = 1304314508780744705
    driver = Driver(Bitget, [("orderbooks", BTC)], VIEWS)
    outputs = driver.hear(snapshot(above), update(above + 1, above))
    assert [view.sequence for view in of(outputs, Book)] == [above, above + 1]
    assert of(driver.hear(update(above + 3, above + 2)), Gap)


@pytest.mark.parametrize("sequence", [100, None], ids=["today", "2024, without a sequence"])
def test_a_checksum_is_compared_where_there_is_one(sequence: int | None) -> None:
    last, previous = (None, None) if sequence is None else (101, 100)
    for checksum, reasons in ((CHANGED_CHECKSUM, []), (0, []), (None, []), (SNAPSHOT_CHECKSUM, ["checksum"])):
        outputs = synced(sequence=sequence).hear(update(last, previous, checksum=checksum))
        assert [gap.reason for gap in of(outputs, Gap)] == reasons
    driver = Driver(Bitget, [("orderbooks", BTC)], VIEWS)
    assert of(driver.hear(snapshot(sequence, checksum=SNAPSHOT_CHECKSUM)), Book)


def test_a_checksum_covers_25_levels_of_one_side_too() -> None:
    bids = [[str(100 - level), "1"] for level in range(30)]
    for depth in (1, 5, 20, 100):
        driver = Driver(Bitget, [("orderbooks", BTC)], BookOptions(depth=depth, interval=0.0))
        driver.hear(book("snapshot", 1, 0, bids))
        assert of(driver.hear(book("update", 2, 1, [["75", "2"]], checksum=1790511916)), Gap) == []
        assert of(driver.hear(book("update", 3, 2, [["76", "2"]], checksum=1790511916)), Gap)


def test_a_snapshot_replaces_the_book_at_any_time() -> None:
    (view,) = of(synced().hear(book("snapshot", 7, 0, [["9", "1"]], [["11", "2"]])), Book)
    assert (view.sequence, view.bids, view.asks) == (7, [("9", "1")], [("11", "2")])


def test_a_level_of_size_zero_goes_also_where_it_never_was() -> None:
    (view,) = of(synced().hear(book("update", 101, 100, [["26274.8", "0"], ["1.1", "0"]])), Book)
    assert view.bids == [("26274.7", "0.0027")]


@pytest.mark.parametrize("channel", ["books5", "books15"])
def test_few_levels_are_a_view_and_no_base_of_changes(channel: str) -> None:
    view = push(about(channel), {"asks": [["26274.9", "0.0009"]], "bids": [], "checksum": 0, "ts": str(MILLIS)})
    (event,) = raw(Bitget, view).events
    assert (event["type"], event["symbol"], event["asks"]) == ("book", BTC, [("26274.9", "0.0009")])
    driver = Driver(Bitget, [("orderbooks", BTC)])
    driver.hear(view)
    assert driver.book("BTCUSDT").state is BookState.WAITING


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_has_the_takers_side_and_no_gap_is_read_from_its_id() -> None:
    outputs = Driver(Bitget, [("trades", BTC)]).hear(trade("7"), trade("9", side="sell"), trade("9", side="sell"))
    first, second = of(outputs, Trade)
    assert (first.id, first.price, first.amount, first.side) == ("7", "26293.40", "0.0013", "buy")
    assert (first.timestamp, first.received, second.side) == (MILLIS * 1000, RECEIVED, "sell")
    assert of(outputs, Gap) == []


def test_the_trades_of_a_snapshot_are_past_and_never_live() -> None:
    driver = Driver(Bitget, [("trades", BTC)])
    assert [each.id for each in of(driver.hear(trade("7", "snapshot"), trade("8")), Trade)] == ["8"]
    assert raw(Bitget, trade("7", "snapshot")).events[0]["snapshot"]


def test_a_ticker_may_lack_a_side() -> None:
    row = {"instId": "BTCUSDT", "lastPr": "2200.10", "bidPr": "1792", "bidSz": "0.0084", "askPr": "", "baseVolume": "12.50"}
    (ticker,) = of(Driver(Bitget, [("tickers", BTC)]).hear(push(about("ticker"), row | {"ts": str(MILLIS)})), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == ("1792", "0.0084", None, None)
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == ("2200.10", "12.50", MILLIS * 1000)


def test_the_best_prices_are_a_ticker() -> None:
    (event,) = raw(Bitget, push(about("books1"), {"asks": [["26274.9", "0.5"]], "bids": [], "ts": str(MILLIS)})).events
    assert (event["type"], event["bid"], event["ask"], event["ask_amount"]) == ("ticker", None, "26274.9", "0.5")


# The unified API ------------------------------------------------------------------------------------------------------


def unified(topic: str, **more: str) -> dict[str, str]:
    return {"instType": "spot", "topic": topic, "symbol": "BTCUSDT"} | more


def test_the_unified_api_calls_the_same_by_other_names() -> None:
    deal = {"p": "100000", "S": "buy", "T": "1736348770627", "v": "0.00118", "i": "12609036", "L": "12345", "isRPI": "no"}
    (trade,) = raw(Bitget, push(unified("publicTrade"), deal, action="update")).events
    assert (trade["symbol"], trade["id"], trade["price"], trade["amount"]) == (BTC, "12609036", "100000", "0.00118")
    row = {"a": [["99756.7", "23.9"]], "b": [["99756.6", "0.01"]], "pseq": 7, "seq": 9, "ts": "1746698732562"}
    (change,) = raw(Bitget, push(unified("books"), row, action="update")).events
    assert (change["type"], change["sequence"], change["previous"]) == ("book_delta", 9, 7)
    for topic, kind in (("books1", "ticker"), ("books50", "book")):
        (event,) = raw(Bitget, push(unified(topic), row | {"maxDepth": "50"})).events
        assert (event["type"], event["timestamp"]) == (kind, 1746698732562000)
    day = {"bid1Price": "99999", "bid1Size": "186.1", "ask1Price": "100000", "lastPrice": "100000", "volume24h": "37.7"}
    (ticker,) = raw(Bitget, push(unified("ticker"), day)).events
    assert (ticker["bid"], ticker["bid_amount"], ticker["last"], ticker["volume_24h"]) == ("99999", "186.1", "100000", "37.7")
    assert ticker["timestamp"] == (MILLIS + 5) * 1000
    assert raw(Bitget, push(unified("kline", interval="1D"), {"open": "1"})).events == []


# Names, the connection, what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("market", ["USDT-FUTURES", "usdt-futures", "COIN-FUTURES"])
def test_a_derivative_of_the_same_name_is_not_its_spot_market(market: str) -> None:
    message = trade("1")
    message["arg"] = about("trade") | {"instType": market}
    assert [event["symbol"] for event in raw(Bitget, message).events] == [None]
    assert of(Driver(Bitget, [("trades", BTC)]).hear(message), Trade) == []


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Bitget.native("BTC/USDT:USDT")


def test_ping_and_pong_are_words() -> None:
    driver = Driver(Bitget, [])
    assert Send("ping", cost=0) in driver.wait(21.0)
    assert driver.hear(b"pong") == []
    assert of(driver.wait(31.0), Reconnect) == []
    assert of(driver.wait(46.0), Reconnect), "without any pong the connection is dead"


@pytest.mark.parametrize("channel", ["candle1m", "candle1Dutc", "liquidation"])
def test_channels_of_no_interest_are_passed_over(channel: str) -> None:
    assert Driver(Bitget, []).hear(push(about(channel), ["anything"])) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"arg": 5}, {"arg": {}}, {"event": "never"}, push(about("never"))),
        {"arg": about("trade"), "action": "update"},
        trade("1", side="none"),
        trade("1", ts="soon"),
        trade("1", ts="99999999999999999999"),
        trade("1", price=42219.9),
        trade("1", price="free"),
        book("replace", 101, 100),
        {"arg": about("books"), "data": book("update", 101, 100)["data"]},
        book("update", 101, 100, [["1"]]),
        book("update", 101, 100, checksum=2**40),
        push(about("ticker"), []),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Bitget, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade("1")), Trade)


# REST ---------------------------------------------------------------------------------------------------------------


def answer(data: object, code: str = "00000", text: str = "success") -> dict[str, Any]:
    return {"code": code, "msg": text, "requestTime": MILLIS, "data": data}


def test_instruments_have_steps_by_their_precisions() -> None:
    spot = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "online"}
    spot |= {"pricePrecision": "2", "quantityPrecision": "6", "quotePrecision": "6"}
    halted = spot | {"symbol": "OLDUSDT", "baseCoin": "OLD", "status": "halt", "pricePrecision": "0"}
    body = answer([spot, halted])
    first, second = Bitget.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.active) == (BTC, "BTCUSDT", True)
    assert (first.price_step, first.amount_step) == ("0.01", "0.000001")
    assert (second.symbol, second.active, second.state, second.price_step) == ("OLD/USDT", False, "halt", "1")
    assert Bitget.shape(body) == "instruments"


def test_rest_trades_are_past_trades() -> None:
    row = {"symbol": "BTCUSDT", "tradeId": "1", "side": "sell", "price": "26293.4", "size": "1", "ts": str(MILLIS)}
    (event,) = raw_answer(Bitget, ("trades", "BTCUSDT"), answer([row])).events
    assert (event["id"], event["symbol"], event["side"], event["snapshot"]) == ("1", BTC, "sell", True)
    assert Driver(Bitget, [("trades", BTC)]).answer(("trades", "BTCUSDT"), answer([row])) == []


def test_a_rest_book_is_a_view_and_no_base_of_changes() -> None:
    body = answer({"asks": [["26274.9", "0.0009"]], "bids": [], "ts": str(MILLIS)})
    (event,) = raw_answer(Bitget, ("view", "BTCUSDT"), body).events
    assert (event["type"], event["symbol"], event["timestamp"]) == ("book", BTC, MILLIS * 1000)
    driver = Driver(Bitget, [("orderbooks", BTC)])
    assert driver.answer(("view", "BTCUSDT"), body) == []
    assert driver.book("BTCUSDT").state is BookState.WAITING


def test_a_code_of_error_is_a_fetch_error() -> None:
    with pytest.raises(FetchError, match="Parameter does not exist"):
        Bitget.parse_instruments(frame(answer(None, "40034", "Parameter does not exist")))
    assert of(Driver(Bitget, []).answer(("view", "BTCUSDT"), b"<html>busy</html>"), FetchError)
