"""MEXC: what its file makes of each kind of message, and of each trap of its fact sheet."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters import mexc_pb2
from adapters.book import BookOptions
from adapters.book_sync import BookState
from adapters.effects import Fetch, Reconnect
from adapters.errors import FetchError, FrameError, NumberError, SymbolError, VenueError
from adapters.events import Book, BookDelta, Gap, Status, Ticker, Trade
from adapters.mexc import VENUE, Mexc
from adapters.subscriptions import State
from tests.adapters.dialects.mexc import encode
from tests.adapters.driving import DELTAS, RECEIVED, VIEWS, Driver, every_channel, frame, of, raw, raw_answer, sent

BTC, ETH = "BTC/USDT", "ETH/USDT"
DEALS, DEPTH, BEST = (f"spot@public.aggre.{name}.v3.api.pb@100ms" for name in ("deals", "depth", "bookTicker"))

# Frames of the fact sheet (section 6), made by classes of the venue itself.
SHEET_TRADE = (
    "0a2f73706f74407075626c69632e61676772652e6465616c732e76332e6170692e7062403130306d7340425443555344541a074254435553445430bc"
    "a9d9d0c432d213600a350a0839333232302e3030120a302e3034343338323433180220bba9d9d0c4322a143530353937393031373433393030323632"
    "345831122773706f74407075626c69632e61676772652e6465616c732e76332e6170692e7062403130306d73"
)
SHEET_DEPTH = (
    "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a074254435553445430ba"
    "d2c3d1c432ca135b12160a0839323837372e3538120a302e30303030303030301a2773706f74407075626c69632e61676772652e64657074682e7633"
    "2e6170692e7062403130306d73220b31303538393633323335392a0b3130353839363332333539"
)


def push(stream: str, native: str = "BTCUSDT", **body: Any) -> bytes:
    return encode({"channel": f"{stream}@{native}", "symbol": native, "sendTime": 1736411507002, **body})


def deal(identifier: str | None = "1X0_2X0", **changed: Any) -> dict[str, Any]:
    row = {"price": "93220.00", "quantity": "0.04438243", "tradeType": 2, "time": 1736411507001, "tradeId": identifier}
    return row | changed


def deals(*rows: dict[str, Any], native: str = "BTCUSDT") -> bytes:
    return push(DEALS, native, aggreDeals={"deals": list(rows)})


def levels(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"price": price, "quantity": quantity} for price, quantity in rows]


def depth(
    first: object,
    last: object,
    bids: list[tuple[str, str]] | None = None,
    asks: list[tuple[str, str]] | None = None,
    native: str = "BTCUSDT",
) -> bytes:
    sides = {"asks": levels(asks or []), "bids": levels(bids or [])}
    return push(DEPTH, native, aggreDepths=sides | {"from": first, "to": last})


SNAPSHOT = {"lastUpdateId": 100, "bids": [["10.0", "1.50"], ["9.0", "2"]], "asks": [["11.0", "1"], ["12.0", "3"]]}


def synced(options: BookOptions = VIEWS) -> Driver:
    driver = Driver(Mexc, [("orderbooks", BTC), ("orderbooks", ETH)], options)
    for native in ("BTCUSDT", "ETHUSDT"):
        driver.hear(depth("101", "101", native=native))
        driver.answer(("book", native), SNAPSHOT)
    return driver


def reply(text: str, code: int = 0, number: int = 0) -> dict[str, Any]:
    return {"id": number, "code": code, "msg": text}


# Protobuf -----------------------------------------------------------------------------------------------------------


def test_the_classes_are_those_of_the_definition_beside_them() -> None:
    definition = (Path(mexc_pb2.__file__).parent / "mexc.proto").read_text(encoding="utf-8")
    parts = re.split(r"^message (\w+) ", definition, flags=re.MULTILINE)[1:]
    written = {name: re.findall(r"(\w+) = (\d+);", body) for name, body in zip(parts[::2], parts[1::2], strict=True)}
    made = mexc_pb2.DESCRIPTOR.message_types_by_name
    assert written == {name: [(field.name, str(field.number)) for field in message.fields] for name, message in made.items()}
    assert ("publicAggreDeals", "314") in written["PushDataV3ApiWrapper"]


def test_a_frame_of_the_venue_is_a_trade() -> None:
    (trade,) = of(Driver(Mexc, [("trades", BTC)]).hear(bytes.fromhex(SHEET_TRADE)), Trade)
    assert (trade.symbol, trade.id, trade.price, trade.amount) == (BTC, "505979017439002624X1", "93220.00", "0.04438243")
    assert (trade.side, trade.timestamp, trade.received) == ("sell", 1736409765051000, RECEIVED)


def test_a_frame_of_the_venue_is_a_change() -> None:
    (event,) = raw(Mexc, bytes.fromhex(SHEET_DEPTH)).events
    assert (event["type"], event["native"], event["bids"], event["asks"]) == ("book_delta", "BTCUSDT", [("92877.58", "0")], [])
    assert event["sequence"] == 10589632359


def test_what_the_venue_adds_is_passed_over() -> None:
    more = encode({"anything": "new", "deep": {"er": 1}})
    assert of(Driver(Mexc, [("trades", BTC)]).hear(deals(deal(tomorrow="x")) + more), Trade)


def test_a_message_without_a_body_or_with_one_of_no_interest_is_nothing() -> None:
    kline = push("spot@public.kline.v3.api.pb@BTCUSDT@Min1", kline={"interval": "Min1", "windowStart": 1790281200})
    assert Driver(Mexc, every_channel(BTC)).hear(push(DEALS), kline, push(DEALS) + b"\xc2\x13\x00") == []


def test_the_market_is_named_by_the_channel_where_the_message_does_not() -> None:
    bare = encode({"channel": f"{DEALS}@BTCUSDT", "aggreDeals": {"deals": [deal()]}})
    view = encode({"channel": "spot@public.limit.depth.v3.api.pb@BTCUSDT@5", "limitDepths": {"version": "7"}})
    assert [raw(Mexc, each).events[0]["native"] for each in (bare, view)] == ["BTCUSDT", "BTCUSDT"]


# Subscriptions ------------------------------------------------------------------------------------------------------


def test_a_frame_names_at_most_thirty_topics_as_a_connection_does() -> None:
    driver = Driver(Mexc, [("trades", f"A{number}/USDT") for number in range(31)])
    first, second = sent(driver.connected)
    assert (first["method"], len(first["params"]), first["params"][0], first["id"]) == (
        "SUBSCRIPTION",
        30,
        f"{DEALS}@A0USDT",
        1,
    )
    assert len(second["params"]) == 1
    assert VENUE.limits.topics_per_connection == 30
    assert max(VENUE.per_connection.values()) == 30


def test_an_acknowledgement_repeats_its_topics_and_its_id_may_be_zero() -> None:
    driver = Driver(Mexc, every_channel(BTC, ETH))
    driver.hear(reply(f"{DEALS}@BTCUSDT,{DEALS}@ETHUSDT"), reply(f"{BEST}@BTCUSDT", number=3))
    acked = {(each.channel, each.symbol) for each in driver.adapter.subscriptions if each.state is State.ACKED}
    assert acked == {("trades", BTC), ("trades", ETH), ("tickers", BTC)}


def test_a_refusal_has_the_code_of_success() -> None:
    driver = Driver(Mexc, every_channel(BTC, "FOO/USDT"))
    text = f"Not Subscribed successfully! [{DEALS}@FOOUSDT].  Reason： Blocked! "
    (status,) = of(driver.hear(reply(text)), Status)
    assert (status.symbol, status.state) == ("FOO/USDT", "rejected")
    assert status.detail == f"trades: {text.strip()} (code 0)"
    assert driver.adapter.subscriptions.counts() == {State.REJECTED: 1, State.REQUESTED: 5}


def test_a_refusal_that_names_no_topic_is_about_its_request() -> None:
    driver = Driver(Mexc, every_channel(BTC))
    (status,) = of(driver.hear(reply("msg format invalid", code=1, number=2)), Status)
    assert status.detail == "orderbooks: msg format invalid (code 1)"
    assert of(driver.hear(reply("too many connections", code=2)), VenueError)


def test_the_client_pings_in_json_and_the_answer_keeps_the_connection() -> None:
    driver = Driver(Mexc, [("trades", BTC)])
    for _ in range(5):
        outputs = driver.wait(20.0)
        assert {"method": "PING"} in sent(outputs)
        assert of(outputs, Reconnect) == []
        assert driver.hear(reply("PONG")) == []
    assert of(driver.wait(61.0), Reconnect), "the venue gives up after 60 s"


def test_a_connection_lives_for_a_day() -> None:
    assert Driver(Mexc, []).adapter.ends_at == 24 * 3600.0


# Trades and tickers -------------------------------------------------------------------------------------------------


def test_a_frame_has_several_trades_and_a_replay_tells_none_twice() -> None:
    driver = Driver(Mexc, [("trades", BTC)])
    both = deals(deal(), deal("3X0_4X0", tradeType=1))
    outputs = driver.hear(both, both)
    assert [(trade.id, trade.side) for trade in of(outputs, Trade)] == [("1X0_2X0", "sell"), ("3X0_4X0", "buy")]
    assert of(outputs, Gap) == [], "no gap is read from ids that are not consecutive"


def test_trades_without_ids_are_told_apart_by_their_place_in_the_frame() -> None:
    driver = Driver(Mexc, [("trades", BTC)])
    twins = deals(deal(None), deal(None))
    outputs = driver.hear(twins, twins)
    first, second = of(outputs, Trade)
    assert first.id == "1736411507001-93220.00-0.04438243-sell-0"
    assert second.id == "1736411507001-93220.00-0.04438243-sell-1"


def test_best_prices_are_the_ticker_and_the_day_is_read_as_well() -> None:
    best = {"bidPrice": "84270", "bidQuantity": "0.006387", "askPrice": "84270.01", "askQuantity": "5.4"}
    (ticker,) = of(Driver(Mexc, [("tickers", BTC)]).hear(push(BEST, aggreBookTicker=best)), Ticker)
    assert (ticker.bid, ticker.bid_amount, ticker.ask, ticker.ask_amount) == ("84270", "0.006387", "84270.01", "5.4")
    assert (ticker.timestamp, ticker.last) == (1736411507002000, None)
    day = {"symbol": "ETHUSDT", "price": "36474.74", "volume": "375173478.65", "quantity": "10557.72895"}
    (event,) = raw(Mexc, push("spot@public.miniTicker.v3.api.pb", miniTicker=day)).events
    assert (event["symbol"], event["last"], event["volume_24h"]) == (ETH, "36474.74", "10557.72895")


def test_a_batch_of_best_prices_is_as_many_tickers() -> None:
    best = {"bidPrice": "1", "bidQuantity": "2", "askPrice": "3", "askQuantity": "4"}
    batch = push("spot@public.bookTicker.batch.v3.api.pb", batch={"items": [best, best | {"bidPrice": "2"}], "version": "7"})
    assert [event["bid"] for event in raw(Mexc, batch).events] == ["1", "2"]


# Books --------------------------------------------------------------------------------------------------------------


def test_a_book_is_asked_for_at_its_first_change_and_continues_its_snapshot() -> None:
    driver = Driver(Mexc, [("orderbooks", BTC)], DELTAS)
    (fetch,) = of(driver.hear(depth("99", "101", [("10.0", "7")])), Fetch)
    assert fetch.request.url == "https://api.mexc.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
    (base,) = of(driver.answer(("book", "BTCUSDT"), SNAPSHOT), Book)
    assert (base.bids, base.sequence) == ([("10.0", "7"), ("9.0", "2")], 101)
    (delta,) = of(driver.hear(depth("102", "104", asks=[("11.0", "0.00000000")])), BookDelta)
    assert (delta.asks, delta.previous, delta.sequence, delta.timestamp) == ([("11.0", "0")], 101, 104, 1736411507002000)


def test_a_snapshot_that_lags_is_asked_for_again() -> None:
    driver = Driver(Mexc, [("orderbooks", BTC)])
    driver.hear(depth("105", "106"))
    assert of(driver.answer(("book", "BTCUSDT"), SNAPSHOT), Book) == []
    assert of(driver.wait(5.0), Fetch)
    driver.hear(depth("107", "108"))
    (view,) = of(driver.answer(("book", "BTCUSDT"), SNAPSHOT | {"lastUpdateId": 106}), Book)
    assert view.sequence == 108


def test_a_missed_version_resyncs_its_book_alone() -> None:
    driver = synced()
    outputs = driver.hear(depth("105", "106")) + driver.wait(3.0)
    (gap,) = of(outputs, Gap)
    assert (gap.symbol, gap.reason, gap.first_missing, gap.last_missing) == (BTC, "sequence", "102", "104")
    assert [fetch.key for fetch in of(outputs, Fetch)] == [("book", "BTCUSDT")]
    assert of(driver.hear(depth("102", "103", native="ETHUSDT")), Book)


def test_the_best_levels_are_a_view_and_no_base_of_changes() -> None:
    sides = {"asks": levels([("84270.01", "5.42169969")]), "bids": levels([("84270.00", "0.00638700")]), "version": "17"}
    view = push("spot@public.limit.depth.v3.api.pb", limitDepths=sides)
    (event,) = raw(Mexc, view).events
    assert (event["type"], event["sequence"], event["bids"]) == ("book", 17, [("84270.00", "0.00638700")])
    driver = Driver(Mexc, [("orderbooks", BTC)])
    driver.hear(view)
    assert driver.book("BTCUSDT").state is BookState.WAITING


# What cannot be read, names, REST -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", b"x", b"[]", b"\xff", {}, {"id": 0, "code": 0}, bytes.fromhex(SHEET_TRADE)[:-1], encode({"symbol": "BTCUSDT"})),
        *(deals(deal(tradeType=3)), deals(deal(time=-1)), deals(deal(time=10**15)), deals(deal(price="free"))),
        *(
            deals(deal(price="")),
            deals(deal(quantity="-1")),
            depth("", "7"),
            depth("x", "7"),
            depth("7", "9" * 19),
            depth(7, 8),
        ),
    ],
)
def test_what_cannot_be_read_is_one_error_and_the_stream_goes_on(wrong: object) -> None:
    driver = Driver(Mexc, every_channel(BTC))
    assert len(of(driver.hear(wrong), FrameError)) == 1
    assert of(driver.hear(deals(deal())), Trade)


def test_names_are_those_of_spot_alone() -> None:
    assert Mexc.canonical("BTCUSDC") == "BTC/USDC"
    with pytest.raises(SymbolError, match="no spot market"):
        Mexc.native("BTC/USDT:USDT")


def test_instruments_tell_what_is_online_and_in_which_steps() -> None:
    market = {"symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT", "baseAssetPrecision": 8}
    market |= {"quotePrecision": 2, "baseSizePrecision": "0.000001", "isSpotTradingAllowed": False, "st": False}
    paused = market | {"symbol": "OLDUSDT", "baseAsset": "OLD", "status": "2", "baseSizePrecision": "0"}
    first, second = Mexc.parse_instruments(frame({"symbols": [market, paused]}))
    assert (first.symbol, first.native, first.active) == (BTC, "BTCUSDT", True), "API trading is another matter"
    assert (first.price_step, first.amount_step) == ("0.01", "0.000001")
    assert (second.active, second.state, second.amount_step) == (False, "2", "0.00000001")
    with pytest.raises(NumberError):
        Mexc.parse_instruments(frame({"symbols": [market | {"quotePrecision": -2}]}))


@pytest.mark.parametrize("identifier", [None, "505979017439002624X1"])
def test_rest_trades_are_past_trades_and_may_lack_an_id(identifier: str | None) -> None:
    row = {"id": identifier, "price": "23", "qty": "0.478468", "time": 1640830579240, "isBuyerMaker": True, "isBestMatch": True}
    (event,) = raw_answer(Mexc, ("trades", "BTCUSDT"), [row]).events
    assert event["id"] == identifier or event["id"] == "1640830579240-23-0.478468-sell-0"
    assert (event["side"], event["snapshot"], event["timestamp"]) == ("sell", True, 1640830579240000)
    merged = {"a": None, "f": None, "l": None, "p": "46782.67", "q": "0.0038", "T": 1641380483000, "m": False, "M": True}
    (event,) = raw_answer(Mexc, ("aggregates", "BTCUSDT"), [merged]).events
    assert (event["side"], event["price"]) == ("buy", "46782.67")


def test_a_refused_answer_is_a_fetch_error_in_the_venues_words() -> None:
    driver = synced()
    driver.hear(depth("105", "106"))
    (error,) = of(driver.answer(("book", "BTCUSDT"), {"code": 30000, "msg": "symbol suspended"}), FetchError)
    assert str(error) == "symbol suspended (code 30000)"
    assert of(driver.wait(10.0), Fetch), "and the book is asked for again"
    assert Mexc.shape(orjson.loads(orjson.dumps(SNAPSHOT))) == "book"
