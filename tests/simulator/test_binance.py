"""Binance: frames as recorded, a book that is built as the sheet says, errors and limits in the venue's own words."""

import asyncio
import itertools
import json

import aiohttp
import pytest

import simulator
from simulator import Simulator
from simulator.instruments import QUIET_PAIR
from tests.simulator.support import (
    Client,
    Json,
    call,
    connect,
    decimals,
    eventually,
    form,
    get,
    recorded,
    refused,
)

STREAM = "stream.binance.com:9443/stream"
RAW = "stream.binance.com/ws"
REST = "api.binance.com/api/v3"


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self, snapshot: Json) -> None:
        self.last = snapshot["lastUpdateId"]
        self.bids = dict(snapshot["bids"])
        self.asks = dict(snapshot["asks"])
        self.begun = False

    def apply(self, delta: Json) -> None:
        if delta["u"] <= self.last:
            return
        if not self.begun:
            assert delta["U"] <= self.last + 1 <= delta["u"], "the snapshot does not bridge"
            self.begun = True
        else:
            assert delta["U"] == self.last + 1, "gap"
        for side, rows in ((self.bids, delta["b"]), (self.asks, delta["a"])):
            for price, amount in rows:
                if float(amount) == 0:
                    side.pop(price, None)
                else:
                    side[price] = amount
        self.last = delta["u"]

    def top(self, depth: int) -> dict[str, list[list[str]]]:
        bids = sorted(self.bids.items(), key=lambda row: -float(row[0]))[:depth]
        asks = sorted(self.asks.items(), key=lambda row: float(row[0]))[:depth]
        return {"bids": [list(row) for row in bids], "asks": [list(row) for row in asks]}


def truth(sim: Simulator, symbol: str, depth: int) -> Json:
    book = sim.book("binance", symbol, depth)
    return {"bids": book["bids"], "asks": book["asks"]}


async def subscribe(client: Client, *names: str, identity: int = 1) -> None:
    await client.send({"method": "SUBSCRIBE", "params": list(names), "id": identity})
    assert await client.until(lambda message: "result" in message) == {"result": None, "id": identity}


async def of(client: Client, event: str) -> str:
    """The text of the next frame of an event."""
    await client.until(lambda message: message.get("data", message).get("e") == event)
    return client.texts[-1]


async def test_book_ends_equal_to_the_truth() -> None:
    async with simulator.serve(["binance"], seed=3, rate=3000, time_scale=4) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "btcusdt@depth@100ms")
        await client.until(lambda message: "data" in message)
        first = json.loads(client.texts[-1])["data"]
        book = Book(await call(sim, f"{REST}/depth?symbol=BTCUSDT&limit=1000"))
        assert len(book.bids) == 1000
        assert book.last >= first["U"] - 1
        book.apply(first)
        for _ in range(6):
            book.apply((await client.json())["data"])
        sim.pause()
        while book.last < int(str(sim.book("binance", "BTC/USDT")["sequence"])):
            book.apply((await client.json())["data"])
        assert book.top(200) == truth(sim, "BTC/USDT", 200)


async def test_trades_are_the_true_ones() -> None:
    async with simulator.serve(["binance"], seed=4, rate=3000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "ethusdt@trade", "ethusdt@aggTrade")
        got: list[Json] = []
        merged: list[Json] = []
        while len(got) < 200:
            data = (await client.until(lambda message: "data" in message))["data"]
            (got if data["e"] == "trade" else merged).append(data)
        ids = [trade["t"] for trade in got]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        want = sim.trades("binance", "ETH/USDT", after=ids[0] - 1)[: len(ids)]
        assert [
            {"id": t["t"], "price": t["p"], "amount": t["q"], "side": "sell" if t["m"] else "buy", "timestamp": t["T"]}
            for t in got
        ] == [{**t, "timestamp": int(str(t["timestamp"])) // 1000} for t in want]
        for row in merged[:-1]:
            fills = [t for t in got if row["f"] <= t["t"] <= row["l"]]
            assert {t["p"] for t in fills} <= {row["p"]}
            if len(fills) == row["l"] - row["f"] + 1:
                assert sum(float(t["q"]) for t in fills) == pytest.approx(float(row["q"]))
        assert any(row["l"] > row["f"] for row in merged), "some orders meet several others at one price"


@pytest.mark.parametrize(
    ("stream", "event", "file", "contains"),
    [
        ("btcusdt@trade", "trade", "spot-session.ndjson", "@trade"),
        ("btcusdt@aggTrade", "aggTrade", "spot-single.ndjson", "@aggTrade"),
        ("btcusdt@depth@100ms", "depthUpdate", "spot-session.ndjson", "@depth"),
        ("ethusdt@ticker", "24hrTicker", "spot-single.ndjson", "@ticker"),
        ("btcusdt@kline_1m", "kline", "spot-single.ndjson", "@kline_1m"),
    ],
)
async def test_streams_have_the_recorded_form(stream: str, event: str, file: str, contains: str) -> None:
    real = next(recorded(f"binance/{file}", contains))
    async with simulator.serve(["binance"], rate=2000, time_scale=20) as sim, connect(sim, STREAM) as client:
        await subscribe(client, stream)
        ours = await of(client, event)
        assert form(ours) == form(real)
        assert " " not in ours


async def test_numbers_have_eight_decimals() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "dogeusdt@depth@100ms", "dogeusdt@trade", "dogeusdt@bookTicker")
        delta = json.loads(await of(client, "depthUpdate"))["data"]
        assert {decimals(token) for row in delta["b"] + delta["a"] for token in row} == {8}
        trade = json.loads(await of(client, "trade"))["data"]
        assert decimals(trade["p"]) == decimals(trade["q"]) == 8


async def test_book_ticker_and_partial_depth_show_the_touch() -> None:
    real = next(recorded("binance/spot-session.ndjson", "@bookTicker"))
    partial = next(recorded("binance/spot-single.ndjson", "@depth20"))
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "btcusdt@bookTicker", "btcusdt@depth20@100ms")
        await client.until(lambda message: message.get("stream") == "btcusdt@bookTicker")
        assert form(client.texts[-1]) == form(real)
        await client.until(lambda message: message.get("stream") == "btcusdt@depth20@100ms")
        assert form(client.texts[-1]) == form(partial)
        sim.pause()
        true = truth(sim, "BTC/USDT", 20)
        await eventually_shown(client, true)


async def eventually_shown(client: Client, true: Json) -> None:
    """Read until the last best prices and the last view are the true ones."""
    touch, view = None, None
    texts = list(client.texts)
    while view != true or touch != [true["bids"][0], true["asks"][0]]:
        data = json.loads(texts.pop(0) if texts else await client.text()).get("data", {})
        if "bids" in data:
            view = {"bids": data["bids"], "asks": data["asks"]}
        elif "b" in data:
            touch = [[data["b"], data["B"]], [data["a"], data["A"]]]


async def test_rest_answers_have_the_recorded_form() -> None:
    cases = {
        "depth?symbol=BTCUSDT&limit=10": "lastUpdateId",
        "trades?symbol=BTCUSDT&limit=10": "isBestMatch",
        "aggTrades?symbol=BTCUSDT&limit=10": '"f":',
        "klines?symbol=BTCUSDT&interval=1m&limit=5": "[[16349",
        "ticker/bookTicker?symbol=BTCUSDT": "bidPrice",
    }
    async with simulator.serve(["binance"]) as sim:
        for path, contains in cases.items():
            real = next(text for text in recorded("binance/fixtures.ndjson", contains) if "stream" not in text)
            _, ours, headers = await get(sim, f"{REST}/{path}")
            assert form(ours) == form(real), path
            assert int(headers["x-mbx-used-weight-1m"]) > 0


async def test_history_by_id_meets_the_stream() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "btcusdt@trade")
        first = json.loads(await of(client, "trade"))["data"]["t"]
        rows = await call(sim, f"{REST}/historicalTrades?symbol=BTCUSDT&fromId={first - 50}&limit=51")
        assert [row["id"] for row in rows] == list(range(first - 50, first + 1))
        merged = await call(sim, f"{REST}/aggTrades?symbol=BTCUSDT&limit=20")
        again = await call(sim, f"{REST}/aggTrades?symbol=BTCUSDT&fromId={merged[0]['a']}&limit=20")
        assert [row["a"] for row in again] == [row["a"] for row in merged]
        assert all(later["f"] == earlier["l"] + 1 for earlier, later in itertools.pairwise(merged))


async def test_exchange_info_lists_what_trades_and_what_does_not() -> None:
    async with simulator.serve(["binance"]) as sim:
        info = await call(sim, f"{REST}/exchangeInfo")
        rows = {row["symbol"]: row for row in info["symbols"]}
        assert rows["BTCUSDT"]["status"] == "TRADING"
        assert rows["LUNAUSDT"]["status"] == "BREAK"
        filters = {row["filterType"]: row for row in rows["BTCUSDT"]["filters"]}
        assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
        assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
        assert not any(row["quoteAsset"] == "USD" for row in rows.values())
        one = await call(sim, f'{REST}/exchangeInfo?symbols=["BTCUSDT","ETHUSDT"]&showPermissionSets=false')
        assert [row["symbol"] for row in one["symbols"]] == ["BTCUSDT", "ETHUSDT"]


async def test_unknown_symbols_are_granted_and_silent() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "foobar@trade", "BTCUSDT@trade", "btcusdt@nonsense", "lunausdt@depth@100ms")
        await client.send({"method": "LIST_SUBSCRIPTIONS", "id": 3})
        listed = await client.json()
        assert listed == {"result": ["foobar@trade", "BTCUSDT@trade", "btcusdt@nonsense", "lunausdt@depth@100ms"], "id": 3}
        await subscribe(client, "btcusdt@trade", identity=4)
        await of(client, "trade")
        assert {parsed["stream"] for text in client.texts if "stream" in (parsed := json.loads(text))} == {"btcusdt@trade"}


async def test_quiet_pair_never_moves() -> None:
    name = QUIET_PAIR.replace("/", "")
    async with simulator.serve(["binance"], rate=3000) as sim, connect(sim, STREAM) as client:
        before = await call(sim, f"{REST}/depth?symbol={name}")
        await subscribe(client, f"{name.lower()}@depth@100ms", f"{name.lower()}@trade", "btcusdt@depth@100ms")
        for _ in range(3):
            assert (await client.json())["stream"] == "btcusdt@depth@100ms"
        assert await call(sim, f"{REST}/depth?symbol={name}") == before


async def test_raw_streams_in_the_path_and_live_wrapping() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, f"{RAW}/btcusdt@trade") as client:
        assert (await client.json())["e"] == "trade"
        await client.send({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5})
        await client.until(lambda message: message == {"result": None, "id": 5})
        assert (await client.json())["stream"] == "btcusdt@trade"
        await client.send({"method": "GET_PROPERTY", "params": ["combined"], "id": 6})
        await client.until(lambda message: message == {"result": True, "id": 6})
        await client.send({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 7})
        await client.until(lambda message: message.get("id") == 7)
        assert sim.stats()["binance"]["subscriptions"] == 0


async def test_microseconds_on_request() -> None:
    path = "stream.binance.com/stream?streams=btcusdt@trade&timeUnit=MICROSECOND"
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, path) as client:
        assert len(str((await client.json())["data"]["T"])) == 16
        time = await call(sim, f"{REST}/time", headers={"X-MBX-TIME-UNIT": "MICROSECOND"})
        assert len(str(time["serverTime"])) == 16


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ("{", 3, "Invalid JSON"),
        ({"id": 1}, 2, "missing field `method`"),
        ({"method": "FOO", "id": 1}, 2, "unknown variant `FOO`"),
        ({"method": "SUBSCRIBE", "params": "x", "id": 1}, 2, "Invalid request"),
        ({"method": "SUBSCRIBE", "params": ["a"], "id": 1.5}, 2, "request ID"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "Invalid value type"),
        ({"method": "SET_PROPERTY", "params": ["nonsense", True], "id": 1}, 0, "Unknown property"),
    ],
)
async def test_bad_requests_are_answered_with_their_code(message: Json, code: int, text: str) -> None:
    async with simulator.serve(["binance"]) as sim, connect(sim, STREAM) as client:
        await client.send(message)
        error = (await client.json())["error"]
        assert error["code"] == code
        assert text in error["msg"]


async def test_more_than_five_messages_a_second_end_the_connection() -> None:
    async with simulator.serve(["binance"]) as sim, connect(sim, STREAM) as client:
        for number in range(6):
            await client.send({"method": "LIST_SUBSCRIPTIONS", "id": number})
        end = await client.closed()
        assert (end.code, end.reason) == (1008, "Too many requests")
        assert sim.stats()["binance"]["limited"] == {"messages": 1}


async def test_pings_and_pongs_of_the_client_count_as_messages() -> None:
    async with simulator.serve(["binance"]) as sim, connect(sim, STREAM) as client:
        for _ in range(6):
            await client.socket.ping()
        assert (await client.closed()).code == 1008


async def test_streams_of_one_connection_are_limited() -> None:
    async with simulator.serve(["binance"]) as sim, connect(sim, STREAM) as client:
        await subscribe(client, *(f"s{n}usdt@trade" for n in range(1024)))
        await client.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 2})
        assert (await client.json())["error"]["code"] == 2


async def test_connects_of_one_address_are_limited() -> None:
    async with simulator.serve(["binance"], facts={"binance": {"connects": 2}}) as sim:
        for _ in range(2):
            async with connect(sim, STREAM):
                pass
        refusal = await refused(sim, STREAM)
        assert refusal.status == 429
        assert refusal.headers is not None
        assert int(refusal.headers["Retry-After"]) > 0
        assert sim.stats()["binance"]["limited"] == {"connects": 1}


async def test_unanswered_pings_end_the_connection() -> None:
    facts = {"binance": {"ping": 0.05, "pong": 0.2, "messages": 1000}}
    async with simulator.serve(["binance"], facts=facts) as sim:
        async with connect(sim, STREAM, autoping=False) as silent:
            message = await silent.socket.receive(2)
            assert message.type is aiohttp.WSMsgType.PING
            async with asyncio.timeout(2):
                while message.type is aiohttp.WSMsgType.PING:
                    message = await silent.socket.receive()
            assert silent.socket.close_code == 1008
        async with connect(sim, STREAM) as polite:  # answers by itself while it reads
            reader = asyncio.create_task(polite.closed())
            began = asyncio.get_running_loop().time()
            await eventually(lambda: asyncio.get_running_loop().time() - began > 0.4)
            assert not reader.done()
            reader.cancel()


async def test_session_end_is_announced() -> None:
    facts = {"binance": {"session": 0.3, "notice": 0.2}}
    async with simulator.serve(["binance"], facts=facts) as sim, connect(sim, STREAM) as client:
        notice = await client.json()
        assert notice["stream"] == "!serverShutdown"
        assert notice["data"]["e"] == "serverShutdown"
        assert (await client.closed()).code == 1001


async def test_weight_is_counted_refused_and_banned() -> None:
    async with simulator.serve(["binance"], facts={"binance": {"rest": 100}}) as sim:
        weights = {"limit=100": 5, "limit=500": 25, "limit=1000": 50}
        used = 0
        for query, weight in weights.items():
            status, _, headers = await get(sim, f"{REST}/depth?symbol=BTCUSDT&{query}")
            used += weight
            assert (status, int(headers["x-mbx-used-weight-1m"])) == (200, used)
        statuses = []
        for _ in range(12):
            status, body, headers = await get(sim, f"{REST}/depth?symbol=BTCUSDT&limit=5000")
            statuses.append(status)
            assert json.loads(body)["code"] == -1003
            assert int(headers["retry-after"]) > 0
        assert statuses == [429] * 10 + [418] * 2
        assert (await get(sim, f"{REST}/ping"))[0] == 418


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("depth?symbol=FOOBAR", 400, -1121),
        ("depth", 400, -1102),
        ("depth?symbol=BTCUSDT&limit=x", 400, -1100),
        ("klines?symbol=BTCUSDT&interval=7m", 400, -1120),
    ],
)
async def test_rest_errors(path: str, status: int, code: int) -> None:
    async with simulator.serve(["binance"]) as sim:
        got, body, _ = await get(sim, f"{REST}/{path}")
        assert (got, json.loads(body)["code"]) == (status, code)


async def test_historical_trades_are_not_on_the_data_host() -> None:
    async with simulator.serve(["binance"]) as sim:
        path = "api/v3/historicalTrades?symbol=BTCUSDT"
        assert (await get(sim, f"data-api.binance.vision/{path}"))[0] == 404
        assert (await get(sim, f"api.binance.com/{path}"))[0] == 200
