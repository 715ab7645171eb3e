"""The suite itself: an adapter with a fault of each kind must fail it, and the checker must reject each wrong output."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec
import orjson
import pytest

from adapters.adapter import ExchangeAdapter
from adapters.binance import Binance as BinanceAdapter
from adapters.book import BookRule, Change
from adapters.effects import Connect, Effect, Reconnect, Send
from adapters.errors import FrameError
from adapters.events import Book, BookDelta, Channel, Gap, Ticker, Trade
from adapters.handler import Handler
from adapters.kraken import Kraken as KrakenAdapter
from adapters.live import Output
from tests.adapters.checker import Checker, ViolationError
from tests.adapters.conformance import World
from tests.adapters.dialect import BEGAN, Dialect
from tests.adapters.dialects.binance import Binance
from tests.adapters.dialects.kraken import Kraken
from tests.adapters.imaginary import Imaginary
from tests.adapters.imaginary_wire import Made
from tests.adapters.test_conformance import (
    test_one_fault_at_any_frame_is_survived_and_shows_no_wrong_book as one_fault,
)
from tests.adapters.test_conformance import test_the_connection_may_end_at_any_frame as one_end


class Deaf(BinanceAdapter):
    """Takes every change as the next one."""

    venue = replace(BinanceAdapter.venue, book=BookRule(chain=None, source="rest", limited=True))


class Unchecked(KrakenAdapter):
    venue = replace(KrakenAdapter.venue, book=BookRule(chain=None, source="socket", truncates=True, crossed="right"))


class Untruncated(KrakenAdapter):
    venue = replace(KrakenAdapter.venue, book=BookRule(chain=None, source="socket", crossed="right"))


class Forgetful(BinanceAdapter):
    """Tells trades whose numbers say nothing."""

    def parse(self, frame: bytes, say: Handler) -> None:
        super().parse(frame, Unnumbered(say))


class Unnumbered:
    def __init__(self, say: Handler) -> None:
        self._say = say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._say, name)

    def trade(self, native: str, number: int | str, *rest: Any) -> None:
        self._say.trade(native, str(number), *rest)


class Careless(BinanceAdapter):
    """Reads frames as if none could be wrong."""

    def parse(self, frame: bytes, say: Handler) -> None:
        message = orjson.loads(frame)
        if message.get("data", {}).get("e") == "depthUpdate":
            data = message["data"]
            say.change(data["s"], Change([], [], data["U"], data["u"], None, data["E"] * 1000))
        else:
            super().parse(frame, say)


class Unlinked(Imaginary):
    """Does not count the messages of its connection."""

    def _is_old(self, number: int, say: Handler) -> bool:
        return False


class Clinging(Imaginary):
    """Keeps the channel numbers of the connection before."""

    def connect(self) -> Effect:
        known = dict(self._open)
        connect = super().connect()
        self._open = known
        return connect

    def unsubscribe(self, channel: Channel, natives: list[str], request: str) -> None:
        return None

    def parse(self, frame: bytes, say: Handler) -> None:
        before = dict(self._open)
        super().parse(frame, say)
        self._open = {**self._open, **before}


def with_adapter(dialect: type[Dialect], adapter: type[ExchangeAdapter]) -> type[Dialect]:
    return type(dialect.__name__, (dialect,), {"adapter": adapter})


@pytest.mark.parametrize(
    ("dialect", "fault"),
    [
        (with_adapter(Binance, Deaf), "drop"),
        (with_adapter(Kraken, Unchecked), "drop"),
        (with_adapter(Binance, Forgetful), "drop"),
        (with_adapter(Binance, Careless), "repeat"),
        (with_adapter(Made, Unlinked), "drop"),
    ],
    ids=["no sequence", "no checksum", "no trade numbers", "no validation", "no count of messages"],
)
def test_the_suite_sees_an_adapter_that_does_not_check(dialect: type[Dialect], fault: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        one_fault(dialect, fault)


def test_the_suite_sees_an_adapter_that_keeps_what_fell_out_of_a_window() -> None:
    world = World(with_adapter(Kraken, Untruncated), 3)
    with pytest.raises(ViolationError, match="never was"):
        world.run(400)


def test_the_suite_sees_an_adapter_that_remembers_a_lost_connection() -> None:
    with pytest.raises(AssertionError):
        one_end(with_adapter(Made, Clinging))


def good() -> tuple[Checker, World]:
    world = World(Binance, 1)
    world.run(20)
    return world.checker, world


def replaced(kind: type[Any], **fields: Any) -> Callable[[World], Output]:
    """An output that the world really gave, with other fields."""
    return lambda world: msgspec.structs.replace(world.told(kind)[-1], **fields)


def trade(**fields: Any) -> Callable[[World], Output]:
    return replaced(Trade, id="999999", **fields)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(lambda world: "a string", id="no output"),
        pytest.param(lambda world: FrameError(""), id="an error without a word"),
        pytest.param(lambda world: Send(""), id="an empty frame"),
        pytest.param(lambda world: Connect("https://x"), id="no websocket"),
        pytest.param(lambda world: Reconnect(""), id="no reason"),
        pytest.param(replaced(Book, exchange="other"), id="another exchange"),
        pytest.param(replaced(Book, symbol="DOGE/USDT"), id="a market nobody wanted"),
        pytest.param(replaced(Book, symbol=None), id="no market"),
        pytest.param(replaced(Book, received=2**62), id="received in the future"),
        pytest.param(replaced(Book, received=1.5), id="a time that is no int"),
        pytest.param(replaced(Book, timestamp=1_700_000_000_000), id="milliseconds"),
        pytest.param(replaced(Book, timestamp=-1), id="before all time"),
        pytest.param(replaced(Book, bids=[("1", "1"), ("2", "1")]), id="worst first"),
        pytest.param(replaced(Book, bids=[("1", "1"), ("1.0", "1")]), id="a price twice"),
        pytest.param(replaced(Book, bids=[("100000", "1")]), id="crossed"),
        pytest.param(replaced(Book, bids=[("1", "0.00")]), id="a level of nothing"),
        pytest.param(replaced(Book, bids=[("1e1", "1")]), id="an exponent in a book"),
        pytest.param(replaced(Book, bids=[]), id="a side left out"),
        pytest.param(replaced(Book, sequence=1), id="another sequence"),
        pytest.param(lambda world: world.told(Trade)[0], id="a trade told twice"),
        pytest.param(replaced(Trade, id=""), id="no id"),
        pytest.param(trade(), id="a trade that never was"),
        pytest.param(trade(price="1e2"), id="an exponent"),
        pytest.param(trade(price="-1"), id="a sign"),
        pytest.param(trade(amount="٣"), id="digits of another script"),
        pytest.param(trade(amount=""), id="no number"),
        pytest.param(trade(side="bid"), id="no side"),
        pytest.param(trade(source="backfill"), id="no live trade"),
        pytest.param(replaced(Ticker, bid="x"), id="a ticker that is no number"),
        pytest.param(lambda world: gap(first_missing="5"), id="half a range"),
        pytest.param(lambda world: gap(first_missing="5", last_missing="4"), id="a range that ends before it begins"),
        pytest.param(lambda world: gap(since=10, until=9), id="a hole that ends before it begins"),
        pytest.param(lambda world: gap(channel="prices"), id="a hole in nothing"),
        pytest.param(
            lambda world: BookDelta("binance", "BTC/USDT", None, BEGAN, [], [], 5, 4), id="a change that does not follow"
        ),
    ],
)
def test_the_checker_rejects(output: Callable[[World], Output]) -> None:
    checker, world = good()
    with pytest.raises(ViolationError):
        checker.see(output(world), world.micros)


def gap(**fields: Any) -> Gap:
    return msgspec.structs.replace(Gap("binance", "BTC/USDT", None, BEGAN, "trades", "sequence"), **fields)


@pytest.mark.parametrize("mode", ["views", "deltas"])
def test_the_checker_takes_what_is_right(mode: Literal["views", "deltas"]) -> None:
    world = World(Binance, 1, mode=mode)
    world.run(20)
    world.checker.see(gap(first_missing="4", last_missing="5", since=9, until=9), world.micros)
