"""Binance.US: where it is not Binance: older weights, numeric ids, no warning, trades with order ids."""

import asyncio
import json

import aiohttp
import pytest

import simulator
from tests.simulator.support import Json, call, connect, form, get, recorded
from tests.simulator.test_binance import Book, of, subscribe

STREAM = "stream.binance.us:9443/stream"
REST = "api.binance.us/api/v3"


async def test_book_ends_equal_to_the_truth() -> None:
    async with simulator.serve(["binanceus"], seed=3, rate=3000, time_scale=4) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "btcusd@depth@100ms")
        first = json.loads(await of(client, "depthUpdate"))["data"]
        book = Book(await call(sim, f"{REST}/depth?symbol=BTCUSD&limit=1000"))
        book.apply(first)
        for _ in range(6):
            book.apply((await client.json())["data"])
        sim.pause()
        true = sim.book("binanceus", "BTC/USD", 200)
        while book.last < int(str(true["sequence"])):
            book.apply((await client.json())["data"])
        assert book.top(200) == {"bids": true["bids"], "asks": true["asks"]}


async def test_trades_are_the_true_ones_and_name_two_orders() -> None:
    async with simulator.serve(["binanceus"], seed=4, rate=3000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "ethusdt@trade")
        rows = [json.loads(await of(client, "trade"))["data"] for _ in range(100)]
        true = sim.trades("binanceus", "ETH/USDT", after=rows[0]["t"] - 1)[: len(rows)]
        assert [(r["t"], r["p"], r["q"], "sell" if r["m"] else "buy") for r in rows] == [
            (t["id"], t["price"], t["amount"], t["side"]) for t in true
        ]
        assert list(rows[0]) == ["e", "E", "s", "t", "p", "q", "b", "a", "T", "m", "M"], "as documented"
        assert all(row["b"] != row["a"] for row in rows)


@pytest.mark.parametrize(
    ("stream", "event"),
    [("omgbusd@aggTrade", "aggTrade"), ("omgbusd@depth@100ms", "depthUpdate"), ("omgbusd@kline_1m", "kline")],
)
async def test_streams_have_the_recorded_form(stream: str, event: str) -> None:
    ours = stream.replace("omgbusd", "btcusdt")
    frames = recorded("binanceus/spot-session.ndjson", f'"{stream}"')
    real = next(text for text in frames if '"b":[],' not in text and '"a":[]' not in text)
    async with simulator.serve(["binanceus"], rate=2000, time_scale=20) as sim, connect(sim, STREAM) as client:
        await subscribe(client, ours)
        assert form(await of(client, event)) == form(real)


async def test_book_ticker_has_the_recorded_form() -> None:
    real = next(recorded("binanceus/spot-session.ndjson", "@bookTicker"))
    async with simulator.serve(["binanceus"], rate=2000) as sim, connect(sim, STREAM) as client:
        await subscribe(client, "btcusdt@bookTicker")
        await client.until(lambda message: message.get("stream") == "btcusdt@bookTicker")
        assert form(client.texts[-1]) == form(real)


async def test_exchange_info_has_the_recorded_form_and_the_old_permissions() -> None:
    real = json.loads(next(recorded("binanceus/spot-instruments.ndjson", "exchangeFilters")))
    async with simulator.serve(["binanceus"]) as sim:
        info = await call(sim, f"{REST}/exchangeInfo?symbolStatus=BREAK")
        rows = {row["symbol"]: row for row in info["symbols"]}
        wanted = next(row for row in real["symbols"] if row["symbol"] == "BTCUSDT")
        assert list(rows["BTCUSDT"]) == list(wanted)
        assert [list(f) for f in rows["BTCUSDT"]["filters"]] == [list(f) for f in wanted["filters"]]
        assert (rows["BTCUSDT"]["permissions"], rows["BTCUSDT"]["status"]) == (["SPOT"], "TRADING")
        assert rows["LUNAUSD"]["status"] == "BREAK"
        assert {"BTCUSD", "ETHUSDT", "SOLUSD", "ADAUSDT", "ETHBTC", "BTCUSDC"} <= rows.keys()
        assert info["rateLimits"] == real["rateLimits"]
        assert [row["symbol"] for row in (await call(sim, f"{REST}/exchangeInfo?symbol=BTCUSD"))["symbols"]] == ["BTCUSD"]


@pytest.mark.parametrize(("identity", "taken"), [("one", False), (-1, False), (7, True), (None, True)])
async def test_ids_are_unsigned_integers(identity: Json, taken: bool) -> None:
    async with simulator.serve(["binanceus"]) as sim, connect(sim, STREAM) as client:
        await client.send({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": identity})
        answer = await client.until(lambda message: "stream" not in message)
        if taken:
            assert answer == {"result": None, "id": identity}
        else:
            assert answer["error"]["code"] == 2
            assert sim.stats()["binanceus"]["subscriptions"] == 0


async def test_times_are_milliseconds_whatever_is_asked_for() -> None:
    path = f"{STREAM}?streams=btcusdt@trade&timeUnit=MICROSECOND"
    async with simulator.serve(["binanceus"], rate=2000) as sim, connect(sim, path) as client:
        assert len(str((await client.json())["data"]["T"])) == 13
        time = await call(sim, f"{REST}/time", headers={"X-MBX-TIME-UNIT": "MICROSECOND"})
        assert len(str(time["serverTime"])) == 13


async def test_a_session_ends_without_a_warning() -> None:
    facts = {"binanceus": {"session": 0.3, "notice": 0.2}}
    async with simulator.serve(["binanceus"], facts=facts) as sim, connect(sim, STREAM) as client:
        assert (await client.closed()).code == 1001
        assert client.texts == []


async def test_unanswered_pings_end_the_connection() -> None:
    facts = {"binanceus": {"ping": 0.05, "pong": 0.2, "messages": 1000}}
    async with simulator.serve(["binanceus"], facts=facts) as sim, connect(sim, STREAM, autoping=False) as client:
        async with asyncio.timeout(5):
            while (await client.socket.receive()).type is aiohttp.WSMsgType.PING:
                pass
        assert client.socket.close_code == 1008


async def test_weights_are_the_older_ones() -> None:
    weights = {
        "depth?symbol=BTCUSD&limit=100": 1,
        "depth?symbol=BTCUSD&limit=500": 5,
        "depth?symbol=BTCUSD&limit=1000": 10,
        "depth?symbol=BTCUSD&limit=5000": 50,
        "exchangeInfo": 10,
        "trades?symbol=BTCUSD": 1,
        "aggTrades?symbol=BTCUSD": 1,
        "klines?symbol=BTCUSD&interval=1m": 1,
        "ticker/24hr": 40,
        "ticker/24hr?symbol=BTCUSD": 1,
        "ticker/bookTicker": 2,
        "ticker/bookTicker?symbol=BTCUSD": 1,
    }
    async with simulator.serve(["binanceus"], facts={"binanceus": {"rest": 150}}) as sim:
        used = 0
        for path, weight in weights.items():
            status, _, headers = await get(sim, f"{REST}/{path}")
            used += weight
            assert (status, int(headers["x-mbx-used-weight-1m"])) == (200, used), path
        statuses = [(await get(sim, f"{REST}/depth?symbol=BTCUSD&limit=5000"))[0] for _ in range(12)]
        assert statuses == [429] * 10 + [418] * 2


async def test_history_by_id_needs_a_key_and_by_time_an_hour() -> None:
    async with simulator.serve(["binanceus"]) as sim:
        path = f"{REST}/historicalTrades?symbol=BTCUSDT&limit=5"
        status, body, _ = await get(sim, path)
        assert (status, json.loads(body)["code"]) == (401, -2014)
        assert len(await call(sim, path, headers={"X-MBX-APIKEY": "key"})) == 5
        now = (await call(sim, f"{REST}/time"))["serverTime"]
        day = f"{REST}/aggTrades?symbol=BTCUSDT&startTime={now - 86_400_000}&endTime={now}"
        status, body, _ = await get(sim, day)
        assert (status, json.loads(body)["code"]) == (400, -1127)
        assert await call(sim, f"{REST}/aggTrades?symbol=BTCUSDT&startTime={now - 600_000}&endTime={now}")
