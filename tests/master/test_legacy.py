"""The wire of older collectors, as they speak it, becomes the same events as ours, with source "legacy" and without ids."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import Book, Ticker, Trade
from master.legacy import LegacyError, decode

MILLIS = 1_764_158_400_123
RECEIVED = 1_764_158_400_200_000
ABOUT = ("binance", "BTC/USDT", MILLIS * 1000, RECEIVED)
COMMON = {"exchange": "binance", "symbol": "BTC/USDT", "timestamp": MILLIS}

TRADE = {"type": "trade", **COMMON, "price": "91234.50", "amount": "0.00100000", "side": "sell"}
BOOK = {"type": "book", **COMMON, "asks": [["2", "1.0"]], "bids": [["1", "0.50"], ["0.5", "3"]]}
TICKER = {"type": "ticker", **COMMON, "bid": "1.0", "ask": "2.0", "last": "1.50", "vol_24h": "1234.5"}


def frame(message: object) -> str:
    return json.dumps(message)


def test_a_trade() -> None:
    assert decode(frame(TRADE), RECEIVED) == Trade(*ABOUT, "", "91234.50", "0.00100000", "sell", "legacy")


def test_a_book() -> None:
    assert decode(frame(BOOK), RECEIVED) == Book(*ABOUT, [("1", "0.50"), ("0.5", "3")], [("2", "1.0")], None)


def test_a_ticker() -> None:
    assert decode(frame(TICKER), RECEIVED) == Ticker(*ABOUT, bid="1.0", ask="2.0", last="1.50", volume_24h="1234.5")


@pytest.mark.parametrize("absent", [None, ""])
def test_a_ticker_with_holes(absent: str | None) -> None:
    assert decode(frame({**TICKER, "bid": absent, "vol_24h": absent}), RECEIVED) == Ticker(*ABOUT, ask="2.0", last="1.50")
    assert decode(frame({"type": "ticker", **COMMON}), RECEIVED) == Ticker(*ABOUT)


def test_numbers_leave_as_plain_text() -> None:
    traded = decode(frame({**TRADE, "amount": "1e-7", "price": "1.5E3"}), RECEIVED)
    assert isinstance(traded, Trade)
    assert (traded.price, traded.amount) == ("1500", "0.0000001")


def test_bytes_are_read_as_text() -> None:
    assert isinstance(decode(frame(TRADE).encode(), RECEIVED), Trade)


@pytest.mark.parametrize("ping", ['{"op":"ping"}', '{"op": "ping", "ts": 5}'])
def test_a_heartbeat_is_nothing(ping: str) -> None:
    assert decode(ping, RECEIVED) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ping",
        "[]",
        {"op": "pong"},
        {"type": "dance"},
        {"type": "trade", **COMMON},
        {**TRADE, "price": "free"},
        {**TRADE, "price": 1.5},
        {**TRADE, "side": "long"},
        {**TRADE, "timestamp": "now"},
        {**TRADE, "timestamp": -1},
        {**TRADE, "timestamp": 10**17},
        {**TRADE, "timestamp": 10**30},
        {**BOOK, "bids": [["1"]]},
        {**BOOK, "bids": [["1", "x"]]},
        {**TICKER, "last": "?"},
    ],
)
def test_anything_else_is_one_kind_of_error(wrong: object) -> None:
    with pytest.raises(LegacyError):
        decode(wrong if isinstance(wrong, str) else frame(wrong), RECEIVED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([TRADE, BOOK, TICKER]), st.sampled_from([*TRADE, "asks", "bids", "last"]), json_values)
def test_one_odd_value_is_read_or_refused_and_nothing_else(message: dict[str, Any], key: str, value: object) -> None:
    try:
        event = decode(frame({**message, key: value}), RECEIVED)
    except LegacyError:
        return
    assert event is not None
    assert event.timestamp is not None
    assert 0 <= event.timestamp < 2**63
