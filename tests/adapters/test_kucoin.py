"""KuCoin: what its file makes of each kind of message, and of each trap of its fact sheet."""

from typing import Any

import orjson
import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Connect, Fetch, Reconnect, Send
from adapters.errors import FetchError, FrameError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.kucoin import Kucoin
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"
WELCOME = {"id": "conn-1", "type": "welcome"}


def push(topic: str, data: object, subject: str = "subject") -> dict[str, Any]:
    return {"topic": topic, "type": "message", "subject": subject, "data": data}


def match(identifier: str, **changed: Any) -> dict[str, Any]:
    data = {"makerOrderId": "a", "price": "67523.0", "sequence": "11067996711960577", "side": "buy", "size": "0.00300"}
    data |= {"symbol": "BTC-USDT", "takerOrderId": "b", "time": "1729843222921123456", "tradeId": identifier, "type": "match"}
    return push("/market/match:BTC-USDT", data | changed, "trade.l3match")


def level2(
    start: int,
    end: int,
    bids: list[list[str]] | None = None,
    asks: list[list[str]] | None = None,
    native: str = "BTC-USDT",
    **more: Any,
) -> dict[str, Any]:
    data = {"changes": {"asks": asks or [], "bids": bids or []}, "sequenceStart": start, "sequenceEnd": end, "symbol": native}
    return push(f"/market/level2:{native}", data | more, "trade.l2update")


def answer(data: object, code: str = "200000") -> dict[str, Any]:
    return {"code": code, "data": data}


def snapshot(sequence: int = 100) -> dict[str, Any]:
    bids, asks = [["10.0", "1.50"], ["9.0", "2"]], [["11.0", "1"], ["12.0", "3"]]
    return answer({"time": 1729176273859, "sequence": str(sequence), "bids": bids, "asks": asks})


def welcomed(*wanted: Any, options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Kucoin, wanted, options)
    driver.hear(WELCOME)
    return driver


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = welcomed(("orderbooks", BTC), ("orderbooks", ETH), options=options)
    for native in ("BTC-USDT", "ETH-USDT"):
        driver.hear(level2(101, 101, native=native))
        driver.answer(("book", native), snapshot())
    return driver


# Token, welcome, subscriptions ------------------------------------------------------------------------------------------


def test_a_token_is_fetched_and_tells_where_to_connect() -> None:
    driver = Driver(Kucoin, [("trades", BTC)])
    (fetch,) = of(driver.began, Fetch)
    assert (fetch.request.method, fetch.request.url) == ("POST", "https://api.kucoin.com/api/v1/bullet-public")
    server = {"endpoint": "wss://elsewhere.example/endpoint", "pingInterval": 18000, "pingTimeout": 10000, "encrypt": True}
    (connect,) = of(driver.answer(fetch.key, answer({"token": "2neA==.x/y", "instanceServers": [server]})), Connect)
    address, _, query = connect.url.partition("?")
    assert address == "wss://elsewhere.example/endpoint"
    assert query.startswith("token=2neA%3D%3D.x%2Fy&connectId=")


def test_every_connection_has_a_token_of_its_own() -> None:
    driver = Driver(Kucoin, [("trades", BTC)])
    assert [fetch.key for fetch in of(driver.reconnect(), Fetch)] == [("token",)]


@pytest.mark.parametrize(
    "body", [answer({"token": "x", "instanceServers": []}), answer(None, "429000"), answer({"token": 5}), b"<html>"]
)
def test_without_a_token_the_connection_is_tried_again(body: object) -> None:
    adapter = Kucoin([("trades", BTC)])
    adapter.start(0.0)
    outputs = Driver.answer(unopened(adapter), ("token",), body)
    assert of(outputs, FetchError)
    assert of(outputs, Reconnect)


def unopened(adapter: Kucoin) -> Driver:
    """A driver whose connection was asked for and is not open."""
    driver = Driver(Kucoin, [])
    driver.adapter = adapter
    return driver


def test_nothing_is_subscribed_before_the_welcome() -> None:
    driver = Driver(Kucoin, every_channel(BTC, ETH))
    assert sent(driver.connected) == []
    trades, books, tickers = sent(driver.hear(WELCOME))
    assert trades == {
        "id": "1",
        "type": "subscribe",
        "topic": "/market/match:BTC-USDT,ETH-USDT",
        "privateChannel": False,
        "response": True,
    }
    assert (books["topic"], tickers["topic"]) == ("/market/level2:BTC-USDT,ETH-USDT", "/market/ticker:BTC-USDT,ETH-USDT")


def test_a_welcome_that_does_not_come_ends_the_connection() -> None:
    driver = Driver(Kucoin, [("trades", BTC)])
    (reconnect,) = of(driver.wait(12.0), Reconnect)
    assert reconnect.reason == "no welcome within 10 s"
    assert of(welcomed(("trades", BTC)).wait(12.0), Reconnect) == []


def test_a_frame_names_at_most_100_symbols() -> None:
    driver = Driver(Kucoin, [("trades", f"A{number}/USDT") for number in range(201)])
    assert [each["topic"].count(",") + 1 for each in sent(driver.hear(WELCOME))] == [100, 100, 1]


def test_an_acknowledgement_is_about_all_of_its_request() -> None:
    driver = welcomed(*every_channel(BTC, ETH))
    driver.hear({"id": "1", "type": "ack"}, {"id": "77", "type": "ack"})
    assert [(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED] == [
        ("trades", BTC),
        ("trades", ETH),
    ]


@pytest.mark.parametrize("code", [400, 403, 404, 406, 415])
def test_a_refusal_names_the_pairs_of_its_request_with_the_reason(code: int) -> None:
    driver = welcomed(*every_channel(BTC))
    (status,) = of(driver.hear({"id": "2", "type": "error", "code": code, "data": "topic /x is not found"}), Status)
    assert (status.symbol, status.state) == (BTC, "rejected")
    assert status.detail == f'orderbooks: "topic /x is not found" (code {code})'


def test_a_refused_token_is_a_reconnect() -> None:
    (reconnect,) = of(welcomed().hear({"type": "error", "code": 401, "data": "token is expired"}), Reconnect)
    assert "token is expired" in reconnect.reason


def test_haste_is_no_refusal() -> None:
    driver = welcomed(("trades", BTC))
    assert of(driver.hear({"id": "1", "type": "error", "code": 509, "data": "too frequent"}), VenueError)
    assert [each["topic"] for each in sent(driver.wait(15.0)) if each["type"] == "subscribe"] == ["/market/match:BTC-USDT"]


def test_an_unknown_symbol_is_acknowledged_and_struck_by_the_instrument_list() -> None:
    driver = welcomed(("orderbooks", "NO/USDT"))
    driver.hear({"id": "1", "type": "ack"})
    (status,) = of(driver.adapter.listed({}, driver.now), Status)
    assert status.detail == "orderbooks: kucoin does not list NO/USDT"
    assert of(driver.wait(120.0), Fetch) == [], "a rejected book is not asked for"


def test_the_client_pings_in_json() -> None:
    driver = welcomed()
    pings = of(driver.wait(40.0), Send)
    assert [orjson.loads(ping.frame)["type"] for ping in pings] == ["ping", "ping"]
    assert len({ping.frame for ping in pings}) == 2, "each has an id of its own"
    assert driver.hear({"id": "1", "type": "pong", "timestamp": 1700000000000000}, {"id": "2", "type": "pong"}) == []


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_has_the_takers_side_and_a_time_in_nanoseconds() -> None:
    driver = welcomed(("trades", BTC))
    outputs = driver.hear(
        match("11067996711960577"), match("5c24c5da03aa673885cd67aa", side="sell"), match("11067996711960577")
    )
    first, second = of(outputs, Trade)
    assert (first.id, first.price, first.amount, first.side) == ("11067996711960577", "67523.0", "0.00300", "buy")
    assert (first.timestamp, first.received) == (1729843222921123, RECEIVED)
    assert (second.id, second.side) == ("5c24c5da03aa673885cd67aa", "sell")
    assert of(outputs, Gap) == [], "no gap is read from ids that are not consecutive"


TICKER = {"sequence": "14691455768", "price": "67220", "size": "0.1", "bestBid": "67218.6", "bestBidSize": "0.010"}


@pytest.mark.parametrize("time", ["time", "Time"])
def test_a_ticker_spells_its_time_in_two_ways(time: str) -> None:
    data = TICKER | {"bestAsk": None, "bestAskSize": None, time: 1729757723612}
    (ticker,) = of(welcomed(("tickers", BTC)).hear(push("/market/ticker:BTC-USDT", data, "trade.ticker")), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.last) == ("67218.6", "0.010", None, "67220")
    assert ticker.timestamp == 1729757723612000


def test_the_ticker_of_all_names_its_market_in_the_subject() -> None:
    (ticker,) = of(welcomed(("tickers", ETH)).hear(push("/market/ticker:all", TICKER, "ETH-USDT")), Ticker)
    assert ticker.symbol == ETH


def test_a_best_price_names_its_market_in_the_topic() -> None:
    data = {"asks": ["68145.8", "0.51987471"], "bids": [], "timestamp": 1729816058766}
    (event,) = raw(Kucoin, push("/spotMarket/level1:BTC-USDT", data)).events
    assert (event["symbol"], event["bid"], event["ask"], event["ask_amount"]) == (BTC, None, "68145.8", "0.51987471")


def test_the_snapshot_of_a_day_is_nested_twice_and_has_bare_numbers() -> None:
    day = b'"datetime":1548388122031,"buy":1.1E-7,"sell":null,"lastTradedPrice":0.000120,"vol":27514.34842000'
    data = b'{"sequence":"1545896669291","data":{"symbol":"KCS-BTC",%s,"changePrice":-1e-05}}' % day
    message = b'{"type":"message","topic":"/market/snapshot:BTC","subject":"trade.snapshot","data":%s}' % data
    (event,) = raw(Kucoin, message).events
    assert (event["symbol"], event["bid"], event["ask"]) == ("KCS/BTC", "0.00000011", None)
    assert (event["last"], event["volume_24h"], event["timestamp"]) == ("0.000120", "27514.34842000", 1548388122031000)


# Books --------------------------------------------------------------------------------------------------------------


def test_a_book_is_asked_for_at_its_first_change_and_continues_its_snapshot() -> None:
    driver = welcomed(("orderbooks", BTC), options=DELTAS)
    (fetch,) = of(driver.hear(level2(101, 102, [["10.0", "7.0", "102"]])), Fetch)
    assert fetch.request.url == "https://api.kucoin.com/api/v1/market/orderbook/level2_100?symbol=BTC-USDT"
    assert fetch.weight == 4
    (base,) = of(driver.answer(("book", "BTC-USDT"), snapshot()), Book)
    assert (base.bids, base.sequence) == ([("10.0", "7.0"), ("9.0", "2")], 102)
    (delta,) = of(driver.hear(level2(103, 105, asks=[["11.0", "0", "105"]], time=1729816425625)), BookDelta)
    assert (delta.asks, delta.previous, delta.sequence) == ([("11.0", "0")], 102, 105)
    assert delta.timestamp == 1729816425625000


def test_rows_that_the_snapshot_holds_already_are_left_out_at_alignment() -> None:
    driver = welcomed(("orderbooks", BTC))
    driver.hear(level2(98, 102, [["10.0", "5", "99"], ["9.0", "4", "101"]], [["11.0", "0", "100"]]))
    (view,) = of(driver.answer(("book", "BTC-USDT"), snapshot()), Book)
    assert view.bids == [("10.0", "1.50"), ("9.0", "4")]
    assert view.asks == [("11.0", "1"), ("12.0", "3")]


def test_a_row_at_price_zero_only_moves_the_sequence() -> None:
    driver = synced(DELTAS)
    (delta,) = of(driver.hear(level2(102, 102, [["0", "0", "102"]])), BookDelta)
    assert (delta.bids, delta.sequence) == ([], 102)
    assert of(driver.hear(level2(103, 103)), Gap) == []


def test_the_sequence_of_a_row_is_no_link_of_the_chain() -> None:
    driver = synced()
    (view,) = of(driver.hear(level2(102, 110, [["9.5", "1", "110"]])), Book)
    assert view.bids[1] == ("9.5", "1")


def test_a_missed_change_resyncs_its_book_alone() -> None:
    driver = synced()
    outputs = driver.hear(level2(105, 106)) + driver.wait(3.0)
    (gap,) = of(outputs, Gap)
    assert (gap.symbol, gap.reason, gap.first_missing, gap.last_missing) == (BTC, "sequence", "102", "104")
    assert [fetch.key for fetch in of(outputs, Fetch)] == [("book", "BTC-USDT")]
    assert [view.symbol for view in of(driver.hear(level2(102, 102, native="ETH-USDT")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.answer(("book", "BTC-USDT"), snapshot(104)), Book)] == [106]


def test_a_book_is_known_within_the_hundred_levels_of_its_snapshot() -> None:
    driver = welcomed(("orderbooks", BTC), options=BookOptions(depth=100, interval=0.0))
    driver.hear(level2(101, 101))
    sides = {"bids": [[str(1000 - step), "1"] for step in range(100)], "asks": [[str(1001 + step), "1"] for step in range(3)]}
    driver.answer(("book", "BTC-USDT"), answer({"sequence": "100", **sides}))
    beyond = [["900", "5", "102"]], [["2000", "5", "102"]]
    (view,) = of(driver.hear(level2(102, 102, *beyond)), Book)
    assert ("900", "5") not in view.bids, "beyond the hundredth bid nothing is known"
    assert view.asks[-1] == ("2000", "5"), "a side with fewer levels is whole"


def test_fewer_levels_of_rest_are_a_view() -> None:
    (event,) = raw_answer(Kucoin, ("view", "BTC-USDT"), snapshot()).events
    assert (event["type"], event["sequence"], event["timestamp"]) == ("book", 100, 1729176273859000)
    driver = welcomed(("orderbooks", BTC))
    assert driver.answer(("view", "BTC-USDT"), snapshot()) == []


@pytest.mark.parametrize("topic", ["/spotMarket/level2Depth5", "/spotMarket/level2Depth50"])
def test_the_best_levels_are_a_view(topic: str) -> None:
    data = {"asks": [["67996.7", "1.14213262"]], "bids": [["67996.6", "0.3"]], "timestamp": 1729822226746}
    (event,) = raw(Kucoin, push(f"{topic}:BTC-USDT", data, "level2")).events
    assert (event["type"], event["symbol"], event["sequence"]) == ("book", BTC, None)
    driver = welcomed(("orderbooks", BTC))
    driver.hear(push(f"{topic}:BTC-USDT", data, "level2"))
    assert driver.book("BTC-USDT").state is BookState.WAITING


# Names, what cannot be read, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("native", "symbol"), [("BTC3L-USDT", "BTC3L/USDT"), ("XBTUSDTM", None), ("USDS", None)])
def test_names_by_rule(native: str, symbol: str | None) -> None:
    assert Kucoin.canonical(native) == symbol


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Kucoin.native("BTC/USDT:USDT")


@pytest.mark.parametrize(
    "topic",
    [
        *("/market/candles:BTC-USDT_1min", "/callauction/callauctionData:BTC-USDT", "/callauction/level2Depth50:BTC-USDT"),
        *("/indicator/index:USDT-BTC", "/indicator/markPrice:USDT-BTC", "/spotMarket/level3:BTC-USDT"),
    ],
)
def test_topics_of_no_interest_are_passed_over(topic: str) -> None:
    assert welcomed().hear(push(topic, {"anything": 1})) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"type": "never"}, {"type": "message"}, {"type": "message", "topic": 5}),
        push("/market/never:BTC-USDT", {}),
        push("/market/match:BTC-USDT", None),
        match("1", side="none"),
        match("1", time="soon"),
        match("1", time="99999999999999999999"),
        match("1", price="free"),
        match("1", tradeId=7),
        level2(101, 101, [["1", "2"]]),
        level2(101, 101, [["1", "2", "x"]]),
        push("/spotMarket/level1:BTC-USDT", {"asks": [["1", "2"]], "bids": [], "timestamp": 1}),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = welcomed(*every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(match("1")), Trade)


def test_instruments_of_both_versions() -> None:
    market = {"symbol": "BCHSV-USDT", "name": "BSV-USDT", "baseCurrency": "BCHSV", "quoteCurrency": "USDT"}
    market |= {"baseIncrement": "0.0001", "priceIncrement": "0.01"}
    body = answer([market | {"enableTrading": True, "st": False, "tradingStartTime": None}, market | {"enableTrading": False}])
    first, second = Kucoin.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.active) == ("BCHSV/USDT", "BCHSV-USDT", True)
    assert (first.price_step, first.amount_step) == ("0.01", "0.0001")
    assert (second.active, second.state) == (False, "trading disabled")
    assert Kucoin.shape(body) == "instruments"


def test_rest_trades_are_past_trades_with_the_ids_of_the_stream() -> None:
    row = {"sequence": "10976028003549185", "price": "67122", "size": "0.000025", "side": "buy", "time": 1729177117877000000}
    (event,) = raw_answer(Kucoin, ("trades", "BTC-USDT"), answer([row])).events
    assert (event["id"], event["timestamp"], event["snapshot"]) == ("10976028003549185", 1729177117877000, True)
    assert welcomed(("trades", BTC)).answer(("trades", "BTC-USDT"), answer([row])) == []
    assert Kucoin.shape(answer([row])) == "trades"


def test_a_code_of_error_is_a_fetch_error_whatever_http_says() -> None:
    driver = synced()
    driver.hear(level2(105, 106))
    driver.wait(3.0)
    assert of(driver.answer(("book", "BTC-USDT"), {"code": "400100", "msg": "no"}), FetchError)
    assert of(driver.wait(10.0), Fetch), "and the book is asked for again"


@pytest.mark.parametrize(
    ("body", "kind"), [(snapshot(), "book"), (answer({"token": "x", "instanceServers": []}), "token"), (answer([]), None)]
)
def test_answers_are_known_by_their_shape(body: object, kind: str | None) -> None:
    assert Kucoin.shape(body) == kind
