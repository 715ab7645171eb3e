"""HTX: what its file makes of each kind of message, and of each trap of its fact sheet."""

import gzip
from typing import Any

import orjson
import pytest

from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Connect, Fetch, Reconnect, Send
from adapters.errors import BookError, FetchError, FrameError, NumberError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.htx import Htx
from adapters.live import Output
from adapters.subscriptions import State
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"


def packed(message: object) -> bytes:
    return gzip.compress(frame(message), mtime=0)


def push(what: str, tick: bytes, native: str = "btcusdt") -> bytes:
    """Data of a topic, its numbers as they stand."""
    return gzip.compress(
        b'{"ch":"market.%s.%s","ts":1630994963200,"tick":%s}' % (native.encode(), what.encode(), tick), mtime=0
    )


def trades(*rows: tuple[int, bytes, bytes]) -> bytes:
    """Rows of tradeId, price and amount."""
    data = b",".join(
        b'{"id":%d236887569077664,"ts":1630994963173,"tradeId":%d,"amount":%s,"price":%s,"direction":"sell"}'
        % (number, number, amount, price)
        for number, price, amount in rows
    )
    return push("trade.detail", b'{"id":169231,"ts":1630994963173,"data":[%s]}' % data)


def trade(number: int) -> bytes:
    return trades((number, b"52648.62", b"0.006754"))


def change(sequence: int, previous: int, bids: bytes = b"[[10.0,7.0]]", native: str = "btcusdt") -> bytes:
    return push("mbp.150", b'{"seqNum":%d,"prevSeqNum":%d,"bids":%s}' % (sequence, previous, bids), native)


def snapshot(sequence: int, native: str = "btcusdt", request: object = "3") -> bytes:
    book = {"seqNum": sequence, "bids": [[10.0, 1.5], [9.0, 2.0]], "asks": [[11.0, 1.0]]}
    return packed({"id": request, "rep": f"market.{native}.mbp.150", "status": "ok", "ts": 1630994963100, "data": book})


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Htx, [("orderbooks", BTC), ("orderbooks", ETH)], options)
    for native in ("btcusdt", "ethusdt"):
        driver.hear(change(100, 99, native=native), snapshot(100, native))
    return driver


def books_asked_for(outputs: list[Output]) -> list[str]:
    return [each["req"] for each in sent(outputs) if "req" in each]


def refusal(request: object, code: str = "bad-request") -> bytes:
    words = "invalid topic market.nopeusdt.trade.detail"
    return packed({"status": "error", "ts": 1630994963200, "id": request, "err-code": code, "err-msg": words})


# Connections and subscriptions --------------------------------------------------------------------------------------


def test_changes_of_books_have_an_address_of_their_own() -> None:
    assert Driver(Htx, [("trades", BTC), ("tickers", BTC)]).began == [Connect("wss://api.huobi.pro/ws")]
    assert Driver(Htx, [("orderbooks", BTC)]).began == [Connect("wss://api.huobi.pro/feed")]


def test_a_frame_names_one_topic() -> None:
    assert sent(Driver(Htx, every_channel(BTC, ETH)).connected) == [
        {"sub": "market.btcusdt.trade.detail", "id": "1"},
        {"sub": "market.ethusdt.trade.detail", "id": "2"},
        {"sub": "market.btcusdt.mbp.150", "id": "3"},
        {"sub": "market.ethusdt.mbp.150", "id": "4"},
        {"sub": "market.btcusdt.ticker", "id": "5"},
        {"sub": "market.ethusdt.ticker", "id": "6"},
    ]
    deep = Driver(Htx, [("orderbooks", BTC)], BookOptions(depth=151))
    assert sent(deep.connected)[0]["sub"] == "market.btcusdt.mbp.400"


def test_a_ping_is_answered_with_its_number_outside_the_limit() -> None:
    assert Driver(Htx, []).hear(packed({"ping": 1790134045107})) == [Send('{"pong":1790134045107}', cost=0)]


def test_a_connection_without_pings_is_dead() -> None:
    driver = Driver(Htx, [("trades", BTC)])
    for _ in range(10):
        driver.hear(packed({"ping": 1}))
        assert of(driver.wait(5.0), Reconnect) == []
    assert of(driver.wait(21.0), Reconnect)


@pytest.mark.parametrize("request_id", ["2", 2])
def test_an_answer_bears_the_id_of_its_request(request_id: object) -> None:
    driver = Driver(Htx, every_channel(BTC))
    driver.hear(packed({"id": request_id, "status": "ok", "subbed": "market.btcusdt.mbp.150", "ts": 1630994963200}))
    assert [each.channel for each in driver.adapter.subscriptions if each.state is State.ACKED] == ["orderbooks"]


def test_a_refused_topic_is_rejected_alone() -> None:
    driver = Driver(Htx, [("trades", "NOPE/USDT"), ("trades", BTC)])
    (status,) = of(driver.hear(refusal("1")), Status)
    assert status.detail == "trades: invalid topic market.nopeusdt.trade.detail (bad-request)"
    driver.hear(trade(1))
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 1, State.LIVE: 1}


def test_another_error_is_passing() -> None:
    driver = Driver(Htx, [("trades", BTC)])
    assert of(driver.hear(refusal("1", "internal-error")), VenueError)
    assert [each["sub"] for each in sent(driver.wait(12.0))] == ["market.btcusdt.trade.detail"]


def test_a_suspended_market_is_acknowledged_and_silent() -> None:
    driver = Driver(Htx, [("tickers", BTC)])
    driver.hear(packed({"id": "1", "status": "ok", "subbed": "market.btcusdt.ticker", "ts": 1}))
    for _ in range(7):
        driver.hear(packed({"ping": 1}))
        assert sent(driver.wait(5.0)) == [], "it is not asked for again"
    assert driver.adapter.subscriptions.counts() == {State.QUIET: 1}
    (status,) = of(driver.adapter.listed({}, driver.now), Status)
    assert status.detail == "tickers: htx does not list BTC/USDT"


# Books --------------------------------------------------------------------------------------------------------------


def test_a_book_is_asked_for_on_its_own_connection_at_the_first_change() -> None:
    driver = Driver(Htx, [("orderbooks", BTC)], DELTAS)
    outputs = driver.hear(change(100, 99))
    assert sent(outputs) == [{"req": "market.btcusdt.mbp.150", "id": "2"}]
    assert of(outputs, Fetch) == []
    (base,) = of(driver.hear(change(103, 100, b"[[10.0,8.0]]"), snapshot(100)), Book)
    assert (base.bids, base.sequence) == ([("10.0", "8.0"), ("9.0", "2.0")], 103)
    (delta,) = of(driver.hear(change(104, 103, b"[[9.0,0.0]]")), BookDelta)
    assert (delta.bids, delta.previous, delta.sequence, delta.timestamp) == ([("9.0", "0")], 103, 104, 1630994963200000)


def test_a_book_that_does_not_move_is_asked_for_as_well() -> None:
    driver = Driver(Htx, [("orderbooks", BTC)])
    driver.hear(packed({"id": "1", "status": "ok", "subbed": "market.btcusdt.mbp.150", "ts": 1}))
    assert books_asked_for(driver.wait(7.0)) == ["market.btcusdt.mbp.150"]
    assert [view.sequence for view in of(driver.hear(snapshot(100)), Book)] == [100]


def test_changes_before_the_snapshot_are_dropped() -> None:
    driver = Driver(Htx, [("orderbooks", BTC)])
    (view,) = of(driver.hear(change(90, 89), change(100, 90), change(101, 100, b"[[9.0,5.0]]"), snapshot(100)), Book)
    assert (view.sequence, view.bids) == (101, [("10.0", "1.5"), ("9.0", "5.0")])


def test_a_snapshot_that_changes_do_not_reach_is_asked_for_again() -> None:
    driver = Driver(Htx, [("orderbooks", BTC)])
    assert of(driver.hear(change(100, 99), snapshot(90)), Book) == []
    assert driver.book("btcusdt").state is BookState.RECOVERING
    assert books_asked_for(driver.wait(5.0)) == ["market.btcusdt.mbp.150"]
    assert [view.sequence for view in of(driver.hear(change(101, 100), snapshot(100)), Book)] == [101]


def test_a_missed_change_asks_for_its_book_alone() -> None:
    driver = synced()
    outputs = driver.hear(change(105, 103)) + driver.wait(3.0)
    (gap,) = of(outputs, Gap)
    assert (gap.symbol, gap.reason, gap.first_missing, gap.last_missing) == (BTC, "sequence", "101", "103")
    assert books_asked_for(outputs) == ["market.btcusdt.mbp.150"]
    assert [view.symbol for view in of(driver.hear(change(101, 100, native="ethusdt")), Book)] == [ETH]
    assert [view.sequence for view in of(driver.hear(snapshot(105), change(106, 105)), Book)] == [105, 106]


def test_a_refused_book_is_asked_for_again() -> None:
    driver = Driver(Htx, [("orderbooks", BTC)])
    driver.hear(change(100, 99))
    assert of(driver.hear(refusal("2")), VenueError)
    assert driver.adapter.subscriptions.counts() == {State.LIVE: 1}
    assert books_asked_for(driver.wait(13.0)) == ["market.btcusdt.mbp.150"]


@pytest.mark.parametrize("rows", [b"", b',"bids":null,"asks":null', b',"bids":[],"asks":[]'])
def test_sides_without_rows_may_be_missing(rows: bytes) -> None:
    driver = synced()
    outputs = driver.hear(push("mbp.150", b'{"seqNum":104,"prevSeqNum":100%s}' % rows), change(105, 104))
    assert of(outputs, BookError) == []
    assert [view.sequence for view in of(outputs, Book)] == [104, 105]


def test_numbers_with_an_exponent_are_the_same_level() -> None:
    driver = synced()
    tick = b'{"seqNum":101,"prevSeqNum":100,"bids":[[1.0E1,0E-8],[9.5,9.2E-7]],"asks":[[1.1E+1,1.5e3]]}'
    (view,) = of(driver.hear(push("mbp.150", tick)), Book)
    assert view.bids == [("9.5", "0.00000092"), ("9.0", "2.0")]
    assert view.asks == [("11", "1500")]


@pytest.mark.parametrize("what", ["depth.step1", "depth.step5", "mbp.refresh.20"])
def test_some_levels_are_a_view_and_no_base_of_changes(what: str) -> None:
    message = push(what, b'{"bids":[[31638.9,2.4E-5]],"asks":null,"version":7,"seqNum":7,"ts":1653985338000}')
    (event,) = raw(Htx, message).events
    assert (event["type"], event["symbol"], event["sequence"], event["bids"]) == ("book", BTC, 7, [("31638.9", "0.000024")])
    assert event["timestamp"] == 1630994963200000
    driver = Driver(Htx, [("orderbooks", BTC)])
    driver.hear(message)
    assert driver.book("btcusdt").state is BookState.WAITING


def test_every_book_with_all_its_prices_replaces_the_one_before() -> None:
    driver = Driver(Htx, [("orderbooks", BTC)])
    first = push("depth.step0", b'{"bids":[[9.121E-7,92730.24]],"asks":[[9.2E-7,1]],"version":100182534697,"ts":1}')
    second = push("depth.step0", b'{"bids":[[9.0E-7,5]],"asks":[[9.2E-7,1]],"version":100182534699,"ts":1}')
    views = of(driver.hear(first, second), Book)
    assert [view.bids for view in views] == [[("0.0000009121", "92730.24")], [("0.00000090", "5")]]


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_trade_goes_by_its_short_id_and_has_the_takers_side() -> None:
    driver = Driver(Htx, [("trades", BTC)])
    outputs = driver.hear(trades((102357140867, b"9.2E-7", b"188358.0")), trades((102357140867, b"9.2E-7", b"188358.0")))
    (told,) = of(outputs, Trade)
    assert (told.id, told.price, told.amount, told.side) == ("102357140867", "0.00000092", "188358.0", "sell")
    assert (told.timestamp, told.received) == (1630994963173000, RECEIVED)
    assert driver.adapter.totals()["repeated"] == 1


def test_rows_of_a_frame_are_in_no_order() -> None:
    driver = Driver(Htx, [("trades", BTC)])
    row = (b"1.0", b"2.0")
    outputs = driver.hear(trades((7, *row), (5, *row), (6, *row)), trade(8))
    assert [told.id for told in of(outputs, Trade)] == ["5", "6", "7", "8"]
    assert of(outputs, Gap) == []


def test_a_missing_number_is_a_gap() -> None:
    driver = Driver(Htx, [("trades", BTC)])
    (gap,) = of(driver.hear(trade(7), trade(10)), Gap)
    assert (gap.first_missing, gap.last_missing) == ("8", "9")


def test_the_last_trade_that_comes_with_a_subscription_is_told_once_and_shows_what_was_missed() -> None:
    driver = Driver(Htx, [("trades", BTC)])
    driver.hear(trade(7))
    driver.reconnect()
    assert of(driver.hear(trade(7)), Trade) == []
    driver.reconnect()
    outputs = driver.hear(trade(9))
    assert [(gap.reason, gap.first_missing, gap.last_missing) for gap in of(outputs, Gap)] == [("disconnected", "8", "8")]
    assert [told.id for told in of(outputs, Trade)] == ["9"]


def test_a_side_that_is_empty_is_unknown() -> None:
    data = b'{"data":[{"id":1,"ts":1,"tradeId":5,"amount":1,"price":2,"direction":""}]}'
    (told,) = of(Driver(Htx, [("trades", BTC)]).hear(push("trade.detail", data)), Trade)
    assert told.side == "unknown"


def test_a_ticker_has_best_prices_the_last_and_the_volume_in_the_base() -> None:
    best = b'"bid":52732.88,"bidSize":0.036,"ask":52732.89,"askSize":5.0E-4'
    day = b'"open":51732,"close":52735.63,"amount":1.325E4,"vol":6.8E8'
    (ticker,) = of(Driver(Htx, [("tickers", BTC)]).hear(push("ticker", b"{%s,%s}" % (day, best))), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == ("52732.88", "0.036", "52732.89", "0.00050")
    assert (ticker.last, ticker.volume_24h, ticker.timestamp) == ("52735.63", "13250", 1630994963200000)


def test_a_best_price_may_lack_a_side() -> None:
    tick = b'{"seqId":155441231856,"ask":31764.09,"askSize":0.794873,"bid":null,"quoteTime":1654031600064,"symbol":"btcusdt"}'
    (event,) = raw(Htx, push("bbo", tick)).events
    assert (event["bid"], event["bid_amount"], event["ask"], event["last"]) == (None, None, "31764.09", None)


# Names, what cannot be read, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "symbol"), [("btcusdt", BTC), ("yfihusd", "YFI/HUSD"), ("nestht", "NEST/HT"), ("htusdt", "HT/USDT"), ("x", None)]
)
def test_names_by_rule(native: str, symbol: str | None) -> None:
    assert Htx.canonical(native) == symbol


def test_a_derivative_never_gets_the_name_of_its_spot_market() -> None:
    with pytest.raises(SymbolError, match="no spot market"):
        Htx.native("BTC/USDT:USDT")


@pytest.mark.parametrize("what", ["kline.1min", "kline.1mon"])
def test_candles_are_passed_over(what: str) -> None:
    assert Driver(Htx, []).hear(push(what, b'{"id":1654081320,"open":31545.71}')) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", b"\x1f\x8b", packed(b""), packed({}), packed({"id": "1", "status": "ok"})),
        trade(1)[:-9],
        packed({"ch": "trade.detail"}),
        packed({"ch": "market.btcusdt.never", "tick": {}}),
        packed({"rep": "market.btcusdt.nothing", "id": "1", "status": "ok", "data": {}}),
        push("trade.detail", b"null"),
        push("trade.detail", b'{"data":[{"id":1,"ts":1,"amount":1,"price":2,"direction":"buy"}]}'),
        push("mbp.150", b'{"seqNum":101,"bids":[[10.0,1.0]]}'),
        push("mbp.150", b'{"seqNum":101,"prevSeqNum":100,"bids":[[10.0]]}'),
        push("mbp.150", b'{"seqNum":101,"prevSeqNum":100,"bids":[["10.0","1"]]}'),
        push("mbp.150", b'{"seqNum":101,"prevSeqNum":100,"bids":[[10.0,null]]}'),
        push("ticker", b'{"bid":"high"}'),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: bytes) -> None:
    driver = Driver(Htx, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(trade(1)), Trade)


@pytest.mark.parametrize("number", [b'"52648.62"', b"-1.0", b"null", b"1E999999", b"[]"])
def test_what_is_no_number_is_missing_and_the_next_trade_shows_it(number: bytes) -> None:
    driver = Driver(Htx, [("trades", BTC)])
    outputs = driver.hear(trade(1), trades((2, number, b"1.0")), trade(3))
    assert len(of(outputs, NumberError)) == 1
    assert [(gap.first_missing, gap.last_missing) for gap in of(outputs, Gap)] == [("2", "2")]


def test_a_recording_of_texts_is_read_as_well() -> None:
    assert of(Driver(Htx, [("trades", BTC)]).hear(gzip.decompress(trade(1))), Trade)


def answer(**parts: object) -> dict[str, Any]:
    return {"status": "ok", "ts": 1654253117316} | parts


def test_instruments_of_which_some_are_offline() -> None:
    market = {"symbol": "yeebtc", "base-currency": "yee", "quote-currency": "btc", "price-precision": 10, "amount-precision": 2}
    body = answer(data=[market | {"state": "online"}, market | {"state": "offline"}])
    first, second = Htx.parse_instruments(frame(body))
    assert (first.symbol, first.native, first.price_step, first.amount_step) == ("YEE/BTC", "yeebtc", "0.0000000001", "0.01")
    assert [(each.active, each.state) for each in (first, second)] == [(True, "online"), (False, "offline")]
    assert Htx.shape(body) == "instruments"


def test_what_was_asked_for_once_is_no_base_of_changes_and_no_news() -> None:
    row = {"id": 1, "tradeId": 7, "price": 1.0, "amount": 2e-3, "direction": "buy", "ts": 1489474082831}
    answers = {"depth.step0": {"bids": [[1, 2]], "asks": [[2, 3]]}, "trade.detail": [row], "kline.1min": []}
    driver = Driver(Htx, every_channel("BTC/USDT"))
    for what, data in answers.items():
        answer = packed({"rep": f"market.btcusdt.{what}", "status": "ok", "id": "1", "data": data})
        events = raw(Htx, answer).events
        assert [(event["type"], event.get("snapshot")) for event in events] == {
            "depth.step0": [("book", None)],
            "trade.detail": [("trade", True)],
            "kline.1min": [],
        }[what]
        assert driver.hear(answer) == []


def test_rest_trades_are_past_trades_with_the_ids_of_the_stream() -> None:
    row = (
        b'"id":102357140867236887569077664,"ts":1630994963173,"trade-id":7,"amount":1.98E-4,"price":58911.07,"direction":"buy"'
    )
    body = b'{"status":"ok","ch":"market.btcusdt.trade.detail","ts":1,"data":[{"id":1,"ts":1,"data":[{%s}]}]}' % row
    (event,) = raw_answer(Htx, ("trades", ""), body).events
    assert (event["symbol"], event["id"], event["amount"], event["snapshot"]) == (BTC, "7", "0.000198", True)
    assert Driver(Htx, [("trades", BTC)]).answer(("trades", "btcusdt"), body) == []
    assert Htx.shape({"data": [{"data": [{"trade-id": 7}]}]}) == "trades"


def test_a_rest_book_is_a_view_that_names_its_market() -> None:
    tick = {"bids": [[29805.62, 0.3]], "asks": [], "version": 155671698426, "ts": 1654253116701}
    body = answer(ch="market.btcusdt.depth.step0", tick=tick)
    (event,) = raw_answer(Htx, ("view", ""), body).events
    assert (event["symbol"], event["sequence"], event["timestamp"]) == (BTC, 155671698426, 1654253117316000)
    assert Htx.shape(body) == "view"


def test_a_status_of_error_is_a_fetch_error_in_the_venues_words() -> None:
    body = orjson.dumps({"status": "error", "err-code": "invalid-parameter", "err-msg": "invalid symbol"})
    with pytest.raises(FetchError, match=r"invalid symbol \(invalid-parameter\)"):
        Htx.parse_instruments(body)
