"""KuCoin: tokens, a book with rows of price "0", unknown symbols that stay silent, the errors of its limits."""

import json
from collections import Counter
from urllib.parse import urlsplit

import pytest

import simulator
from simulator import Simulator
from simulator.instruments import QUIET_PAIR
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded

API = "api.kucoin.com"
LEVEL2 = f"{API}/api/v1/market/orderbook/level2_100"


async def address(sim: Simulator) -> str:
    """A new address with a new token."""
    data = (await call(sim, f"{API}/api/v1/bullet-public", "POST"))["data"]
    server = data["instanceServers"][0]
    parts = urlsplit(server["endpoint"])
    assert f"http://{parts.netloc}" == sim.url, "whoever comes by path is sent back here"
    return f"{parts.path.lstrip('/')}?token={data['token']}&connectId=me"


async def subscribe(client: Client, topic: str, identity: int = 1) -> None:
    await client.send({"id": identity, "type": "subscribe", "topic": topic, "privateChannel": False, "response": True})


async def data(client: Client, topic: str) -> Json:
    return (await client.until(lambda message: message.get("topic") == topic))["data"]


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self, snapshot: Json) -> None:
        self.last = int(snapshot["sequence"])
        self.sides = {name: dict(snapshot[name]) for name in ("bids", "asks")}
        self.begun = False

    def apply(self, delta: Json) -> None:
        if delta["sequenceEnd"] <= self.last:
            return
        if self.begun:
            assert delta["sequenceStart"] == self.last + 1, "gap"
        assert delta["sequenceStart"] <= self.last + 1, "the snapshot does not bridge"
        self.begun = True
        for name, side in self.sides.items():
            for price, size, sequence in delta["changes"][name]:
                if int(sequence) <= self.last or price == "0":
                    continue
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size
        self.last = delta["sequenceEnd"]

    def top(self, name: str, depth: int) -> list[list[str]]:
        ranked = sorted(self.sides[name].items(), key=lambda row: float(row[0]), reverse=name == "bids")
        return [list(row) for row in ranked[:depth]]


async def test_book_ends_equal_to_the_truth() -> None:
    async with simulator.serve(["kucoin"], seed=11, rate=2000) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, "/market/level2:BTC-USDT")
        waiting = [await data(client, "/market/level2:BTC-USDT") for _ in range(5)]
        book = Book((await call(sim, f"{LEVEL2}?symbol=BTC-USDT"))["data"])
        assert len(book.sides["bids"]) == 100
        for delta in waiting:
            book.apply(delta)
        for _ in range(200):
            book.apply(await data(client, "/market/level2:BTC-USDT"))
        sim.pause()
        true = sim.book("kucoin", "BTC/USDT", 20)
        while book.last < int(str(true["sequence"])):
            book.apply(await data(client, "/market/level2:BTC-USDT"))
        assert [book.top("bids", 20), book.top("asks", 20)] == [true["bids"], true["asks"]]


async def test_a_third_of_the_rows_has_price_zero_as_recorded() -> None:
    rows: Counter[bool] = Counter()
    async with simulator.serve(["kucoin"], rate=3000) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, "/market/level2:BTC-USDT")
        while rows.total() < 1000:
            changes = (await data(client, "/market/level2:BTC-USDT"))["changes"]
            rows.update(row[0] == "0" for row in changes["asks"] + changes["bids"])
            assert all(row[1] == "0" for row in changes["asks"] + changes["bids"] if row[0] == "0")
    assert 0.25 < rows[True] / rows.total() < 0.42


async def test_trades_are_the_true_ones_and_their_ids_are_not_consecutive() -> None:
    async with simulator.serve(["kucoin"], seed=12, rate=3000) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, "/market/match:ETH-USDT")
        rows = [await data(client, "/market/match:ETH-USDT") for _ in range(150)]
        first = int(rows[0]["tradeId"])
        true = sim.trades("kucoin", "ETH/USDT", after=first - 1)[: len(rows)]
        assert [(int(r["tradeId"]), r["price"], r["size"], r["side"], int(r["time"]) // 1000) for r in rows] == [
            (t["id"], t["price"], t["amount"], t["side"], t["timestamp"]) for t in true
        ]
        assert first + len(rows) < int(rows[-1]["tradeId"])
        past = (await call(sim, f"{API}/api/v1/market/histories?symbol=ETH-USDT"))["data"]
        assert len(past) == 100
        assert {row["sequence"] for row in past} & {row["tradeId"] for row in rows}


@pytest.mark.parametrize(
    ("topic", "file", "contains"),
    [
        ("/market/match:BTC-USDT", "docs.ndjson", "/market/match"),
        ("/market/level2:BTC-USDT", "docs.ndjson", "/market/level2:"),
        ("/spotMarket/level1:BTC-USDT", "docs.ndjson", "/spotMarket/level1:"),
        ("/spotMarket/level2Depth5:BTC-USDT", "docs.ndjson", "/spotMarket/level2Depth5:"),
        ("/spotMarket/level2Depth50:BTC-USDT", "docs.ndjson", "/spotMarket/level2Depth50:"),
        ("/market/candles:BTC-USDT_1min", "docs.ndjson", "/market/candles:"),
        ("/market/ticker:all", "docs.ndjson", "/market/ticker:all"),
    ],
)
async def test_topics_have_the_recorded_form(topic: str, file: str, contains: str) -> None:
    real = next(recorded(f"kucoin/{file}", contains))
    empty = [not side for side in _sides(json.loads(real))]
    async with simulator.serve(["kucoin"], rate=3000, time_scale=20) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, topic)
        await client.until(lambda message: message.get("topic") == topic and [not side for side in _sides(message)] == empty)
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


def _sides(message: Json) -> list[Json]:
    changes = message["data"].get("changes", {})
    return [changes.get("asks"), changes.get("bids")]


async def test_snapshot_is_nested_with_bare_numbers() -> None:
    real = json.loads(next(recorded("kucoin/spot-single.ndjson", "/market/snapshot")))["data"]["data"]
    async with simulator.serve(["kucoin"], rate=3000, time_scale=20) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, "/market/snapshot:BTC-USDT")
        ours = (await data(client, "/market/snapshot:BTC-USDT"))["data"]
        assert {"averagePrice", "buy", "sell", "lastTradedPrice", "vol", "volValue", "datetime"} <= ours.keys() & real.keys()
        assert '"high":65' in client.texts[-1]
        assert "0000000000000000," in client.texts[-1]


async def test_welcome_ack_and_pong() -> None:
    async with simulator.serve(["kucoin"]) as sim, connect(sim, await address(sim)) as client:
        assert await client.text() == '{"id":"me","type":"welcome"}'
        await subscribe(client, "/market/match:BTC-USDT", 15)
        assert await client.text() == '{"id":"15","type":"ack"}', "a numeric id comes back as text"
        await client.send({"id": "9", "type": "ping"})
        pong = await client.until(lambda message: message.get("type") == "pong")
        assert (pong["id"], len(str(pong["timestamp"]))) == ("9", 16)
        await client.send({"id": "16", "type": "unsubscribe", "topic": "/market/match:BTC-USDT", "response": True})
        await client.until(lambda message: message == {"id": "16", "type": "ack"})
        assert sim.stats()["kucoin"]["subscriptions"] == 0


async def test_a_token_lets_in_once_and_not_for_ever() -> None:
    expired = '{"type":"error","code":401,"data":"token is expired"}'
    async with simulator.serve(["kucoin"]) as sim:
        path = await address(sim)
        async with connect(sim, path) as client:
            assert (await client.json())["type"] == "welcome"
        for wrong in (path, path.partition("?")[0], path.partition("?")[0] + "?token=made-up"):
            async with connect(sim, wrong) as client:
                assert await client.text() == expired
                await client.closed()
    async with simulator.serve(["kucoin"], facts={"kucoin": {"token": 0.01}}) as sim:
        path = await address(sim)
        born = sim.exchanges["kucoin"].clock.now()
        await eventually(lambda: sim.exchanges["kucoin"].clock.now() > born + 0.02)
        async with connect(sim, path) as client:
            assert await client.text() == expired


async def test_the_host_header_gets_the_real_address() -> None:
    async with simulator.serve(["kucoin"]) as sim:
        answer = await call(sim, "api/v1/bullet-public", "POST", headers={"Host": API})
        server = answer["data"]["instanceServers"][0]
        assert server == {
            "endpoint": "wss://ws-api-spot.kucoin.com/",
            "encrypt": True,
            "protocol": "websocket",
            "pingInterval": 18000,
            "pingTimeout": 10000,
        }


async def test_unknown_symbols_are_acknowledged_and_silent_unknown_topics_are_not() -> None:
    async with simulator.serve(["kucoin"], rate=2000) as sim, connect(sim, await address(sim)) as client:
        quiet = QUIET_PAIR.replace("/", "-")
        await subscribe(client, f"/market/match:FOO-USDT,LUNA-USDT,{quiet}", 2)
        await client.until(lambda message: message == {"id": "2", "type": "ack"})
        await subscribe(client, "/x:BTC-USDT", 3)
        error = await client.until(lambda message: message.get("type") == "error")
        assert error == {"id": "3", "type": "error", "code": 404, "data": "topic /x:BTC-USDT is not found"}
        await subscribe(client, "/market/match:BTC-USDT", 4)
        for _ in range(20):
            await data(client, "/market/match:BTC-USDT")
        assert not any("FOO" in text or "LUNA" in text or quiet in text for text in client.texts)


async def test_topics_are_limited_per_frame_and_per_connection() -> None:
    async with simulator.serve(["kucoin"]) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, "/market/match:" + ",".join(f"A{n}-USDT" for n in range(101)))
        error = await client.until(lambda message: message.get("type") == "error")
        assert (error["code"], error["data"]) == (509, "exceed max subscription count limitation of 100 per time")
        for part in range(4):
            await subscribe(client, "/market/match:" + ",".join(f"A{part}X{n}-USDT" for n in range(76)))
        error = await client.until(lambda message: message.get("type") == "error")
        assert (error["code"], error["data"]) == (509, "exceed max subscription count limitation of 300 per session")


async def test_too_many_messages_are_answered_with_an_error() -> None:
    async with (
        simulator.serve(["kucoin"], facts={"kucoin": {"messages": 3}}) as sim,
        connect(sim, await address(sim)) as client,
    ):
        for number in range(4):
            await client.send({"id": str(number), "type": "ping"})
        assert (await client.until(lambda message: message.get("type") == "error"))["code"] == 509


async def test_a_client_that_says_nothing_is_sent_away_though_it_answers_pings() -> None:
    facts = {"kucoin": {"idle": 0.3}}
    async with simulator.serve(["kucoin"], rate=500, facts=facts) as sim, connect(sim, await address(sim)) as client:
        await subscribe(client, "/market/match:BTC-USDT")
        await client.socket.ping()
        end = await client.closed()
        assert (end.code, end.reason) == (1000, "Bye")


async def test_rest_pool_and_its_headers() -> None:
    async with simulator.serve(["kucoin"], facts={"kucoin": {"rest": 10}}) as sim:
        _, _, headers = await get(sim, f"{LEVEL2}?symbol=BTC-USDT")
        assert (headers["gw-ratelimit-limit"], headers["gw-ratelimit-remaining"]) == ("10", "6")
        assert 0 < int(headers["gw-ratelimit-reset"]) <= 30_000
        await get(sim, f"{LEVEL2}?symbol=BTC-USDT")
        status, body, headers = await get(sim, f"{LEVEL2}?symbol=BTC-USDT")
        assert (status, json.loads(body)["code"], headers["gw-ratelimit-remaining"]) == (429, "429000", "0")


async def test_rest_answers() -> None:
    real = next(recorded("kucoin/spot-single.ndjson", '"sequence":"1630423725254"'))
    async with simulator.serve(["kucoin"]) as sim:
        assert form((await get(sim, f"{LEVEL2}?symbol=BTC-USDT"))[1]) == form(real)
        rows = {row["symbol"]: row for row in (await call(sim, f"{API}/api/v2/symbols"))["data"]}
        assert (rows["BTC-USDT"]["enableTrading"], rows["LUNA-USDT"]["enableTrading"]) == (True, False)
        assert (rows["BTC-USDT"]["priceIncrement"], rows["BTC-USDT"]["baseIncrement"]) == ("0.1", "0.00000001")
        old = json.loads(next(recorded("kucoin/spot-instruments.ndjson", "REQ-ETH")))["data"][0]
        assert list((await call(sim, f"{API}/api/v1/symbols"))["data"][0]) == list(old)
        status, body, _ = await get(sim, f"{API}/api/v3/market/orderbook/level2?symbol=BTC-USDT")
        assert (status, json.loads(body)["code"]) == (401, "400001")
        assert (await call(sim, f"{LEVEL2}?symbol=FOO-USDT"))["code"] == "200003"
        candles = (await call(sim, f"{API}/api/v1/market/candles?symbol=BTC-USDT&type=1min"))["data"]
        assert [len(row) for row in candles] == [7] * len(candles)
        assert all(float(row[4]) <= float(row[1]) <= float(row[3]) for row in candles), "open, close, high, low"
        assert int(candles[0][0]) > int(candles[-1][0])
        assert (await call(sim, f"{API}/api/v1/market/allTickers"))["data"]["ticker"]
        assert (await call(sim, f"{API}/api/v1/status"))["data"]["status"] == "open"
        assert (await call(sim, f"{API}/api/v1/timestamp"))["data"] > 1_600_000_000_000
