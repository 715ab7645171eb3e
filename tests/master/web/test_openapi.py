"""The OpenAPI document: it has every route and no other, and schemathesis finds no answer that it does not tell of."""

import asyncio
import re
from importlib import import_module
from pathlib import Path
from time import time_ns
from typing import Any

import msgspec
import pytest
import requests
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, Phase, given, settings

from adapters.events import Book, Candle, Gap, Price, Ticker, Trade
from master.history.questions import INTERVALS, Found, Question
from master.web.api import application
from master.web.endpoint import parameters
from master.web.routes import MEDIA, ROUTES, PastCandles
from tests.master.making import NOON, trade
from tests.master.serving import Echo, House, house, serving

ROWS = {
    "trades": trade(1),
    "books": Book("kraken", "BTC/USD", None, NOON, [("99", "1")], [("101", "3")], 7),
    "tickers": Ticker("okx", "ETH/USDT", None, NOON, "9"),
    "candles": Candle("", "BTC/USD", NOON, NOON, "1m", NOON, "1", "2", "1", "2", "0.5", 2, True),
    "prices": Price("", "BTC/USD", None, NOON, "100.5", "median", 3, 1, 0.5, 0.9),
    "gaps": Gap("kraken", None, None, NOON, "trades", "restart"),
}
FEEDS = {"feeds": [{"category": 1, "name": "BTC/USD"}]}
HOUR = {
    **{"exchange": "kraken", "symbol": "BTC/USD", "channel": "trades", "hour": NOON, "events": 5, "holes": 1},
    **{"repaired": 1, "missing_seconds": 0.5, "missing_ids": 0, "complete": 1.0},
}


class Shelf(Echo):
    """A reader that has one row of everything."""

    async def ask(self, question: Question) -> Found:
        if question.table == "completeness":
            return Found(msgspec.json.encode({"rows": [HOUR]}), 1)
        row = {**msgspec.to_builtins(ROWS[question.table]), "position": 1}
        return Found(msgspec.json.encode({"rows": [row], "cursor": None}), 1)


@pytest.fixture
def at(tmp_path: Path) -> House:
    made = house(tmp_path / "data", Shelf())
    then = time_ns() // 1000
    book = Book("kraken", "BTC/USD", None, then, [("99", "1")], [("101", "3")], 7)
    trades = [Trade(name, "BTC/USD", then, then, "1", "100.50", "2", "buy") for name in ("kraken", "coinbase", "bitstamp")]
    made.rooms.market.take([book, *trades, Ticker("okx", "ETH/USDT", None, then, "9", None, "10")], 1)
    for second in range(3):
        made.rooms.pulse.sample(then + second, float(second))
    return made


async def test_every_route_is_in_it_and_no_other(at: House) -> None:
    app = application(at.rooms, at.gate())
    served = {(route.method.lower(), route.resource.canonical) for route in app.router.routes() if route.resource}
    async with serving(at) as client, client.get("/openapi.json") as answer:
        document = await answer.json()
    told = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert told == {each for each in served if each[0] != "head"}
    assert document["openapi"] == "3.1.0"


async def test_it_says_where_a_key_is_needed(at: House) -> None:
    for needs_key in (True, False):
        async with serving(at, at.gate(needs_key=needs_key)) as client, client.get("/openapi.json") as answer:
            paths = (await answer.json())["paths"]
        assert ("security" in paths["/v1/price"]["get"]) == needs_key
        assert "security" not in paths["/health/live"]["get"]


def test_every_parameter_says_what_it_takes() -> None:
    for route in ROUTES:
        for name, field in parameters(route.asked).items():
            assert field.type.__metadata__[0].description, (route.path, name)
        assert set(re.findall(r"{(\w+)}", route.path)) <= parameters(route.asked).keys()


def test_intervals_are_those_of_the_candles() -> None:
    assert parameters(PastCandles)["interval"].type.__origin__.__args__ == tuple(INTERVALS)
    assert list(MEDIA) == ["json", "csv", "parquet", "arrow"]


async def test_no_question_gets_an_answer_that_it_does_not_tell_of(at: House) -> None:
    server = TestServer(application(at.rooms, at.gate()))
    await server.start_server()
    try:
        await asyncio.to_thread(ask_everything, str(server.make_url("")).rstrip("/"))
    finally:
        await server.close()
    asked = {route for route, _ in at.rooms.usage.requests}
    assert asked >= {route.path for route in ROUTES}
    assert {status for route, status in at.rooms.usage.requests if route != "none"} >= {200, 400, 404}


RIGHT: dict[str, dict[str, Any]] = {
    "/v1/market/book": {"query": {"exchange": "kraken", "symbol": "BTC/USD"}},
    "/v1/price": {"query": {"feed": "BTC/USD"}},
    "/v1/candles": {"query": {"symbol": "BTC/USD"}},
    "/feed-values/{votingRoundId}": {"path_parameters": {"votingRoundId": 1}, "body": FEEDS},
    "/feed-values/": {"body": FEEDS},
    "/volumes/": {"body": FEEDS},
}
"""What is asked of those routes of which nothing right can be guessed."""


def ask_everything(url: str) -> None:
    """What is right, what the document allows, and what it does not."""
    schemathesis = import_module("schemathesis")  # takes a third of a second, and nobody else needs it
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            right = RIGHT.get(operation.path, {})
            if "body" in right:
                right = {**right, "media_type": "application/json"}
            assert operation.Case(**right).call_and_validate(session=session).status_code == 200

            @settings(max_examples=4, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
            def ask(case: Any) -> None:
                case.call_and_validate(session=session)

            ask()
