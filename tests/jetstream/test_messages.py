"""What events are called on NATS, and how they look there."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.events import (
    Book,
    BookDelta,
    Candle,
    Event,
    Funding,
    Gap,
    Liquidation,
    OpenInterest,
    Price,
    Ticker,
    Trade,
)
from master.jetstream import market_pb2
from master.jetstream.envelope import encoder
from master.jetstream.subjects import KINDS, batches_of, exchange_of, of_batch, of_event, token

AT = 1_764_158_400_000_000
EVENTS: list[Event] = [
    Trade("kraken", "BTC/USD", AT - 7, AT, "T1", "100.50", "0.10", "buy"),
    Book("okx", "BTC/USDT:USDT", None, AT, [("1.0", "2"), ("0.9", "1")], [("1.1", "2")], 7),
    BookDelta("okx", "BTC/USDT", AT, AT, [("1.0", "0")], [], None, None),
    Ticker("okx", "BTC/USDT", AT, AT, "1", None, "2", None, "1.5", None),
    Candle("okx", "BTC/USDT", AT, AT, "1m", AT, "1", "2", "0.5", "1.5", "10", None, True),
    Funding("okx", "BTC/USDT:USDT", AT, AT, "0.0001", AT + 1, None, "3"),
    OpenInterest("okx", "BTC/USDT:USDT", AT, AT, "12"),
    Liquidation("okx", "BTC/USDT:USDT", AT, AT, "L1", "1", "2", "sell"),
    Gap("okx", None, None, AT, "trades", "sequence", "1", None, AT, None),
    Price("", "BTC/USD", AT, AT, "100.1", "median", 5, 1, 1.5, 0.75),
]
SUBJECTS = [
    "market.kraken.btc-usd.trade",
    "market.okx.btc-usdt-usdt.l2_orderbook",
    "market.okx.btc-usdt.l2_delta",
    "market.okx.btc-usdt.ticker",
    "market.okx.btc-usdt.candle",
    "market.okx.btc-usdt-usdt.funding_rate",
    "market.okx.btc-usdt-usdt.open_interest",
    "market.okx.btc-usdt-usdt.liquidation",
    "market.okx._.gap",
    "market.prices.btc-usd.price",
]


def test_there_is_one_of_each_kind() -> None:
    assert {type(each) for each in EVENTS} == set(KINDS)


@pytest.mark.parametrize(("event", "subject"), list(zip(EVENTS, SUBJECTS, strict=True)))
def test_subjects(event: Event, subject: str) -> None:
    assert of_event(event) == subject


@given(st.text())
def test_a_token_is_always_one_part_of_a_subject(text: str) -> None:
    made = token(text)
    assert made
    assert not set(made) & set(".*> \t\r\n\0")


def test_batches_are_found_by_exchange() -> None:
    assert of_batch("okx", 1) == "batch.okx.1"
    assert exchange_of("batch.okx.1") == "okx"
    assert batches_of("okx") == "batch.okx.*"


@pytest.mark.parametrize("event", EVENTS)
def test_json_is_that_of_the_wire(event: Event) -> None:
    assert msgspec.json.decode(encoder("json")(event), type=Event) == event


@pytest.mark.parametrize("event", EVENTS)
def test_protobuf_says_the_same(event: Event) -> None:
    """Read back field by field with the generated classes alone; what is None is absent."""
    message = market_pb2.Event.FromString(encoder("protobuf")(event))
    kind = message.WhichOneof("body")
    assert kind == KINDS[type(event)]
    body = getattr(message, kind)
    told: dict[str, Any] = msgspec.structs.asdict(event)
    for name, value in told.items():
        place = message if name in ("exchange", "symbol", "timestamp", "received") else body
        if value is None:
            assert not place.HasField(name)
        elif name in ("bids", "asks"):
            assert [(each.price, each.amount) for each in getattr(place, name)] == value
        else:
            assert getattr(place, name) == value
