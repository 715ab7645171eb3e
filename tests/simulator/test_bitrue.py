"""Bitrue: two sockets of gzip frames, pings that are echoed, books that are always whole, trades among tickers."""

import base64
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import aiohttp
import pytest

import simulator
from simulator import Simulator
from simulator.instruments import QUIET_PAIR
from tests.simulator import support
from tests.simulator.support import CAPTURES, Client, Json, call, form, get, refused

BOOKS, KLINES = "ws.bitrue.com/market/ws", "ws.bitrue.com/kline-api/ws"
REST = "openapi.bitrue.com/api/v1"


class Zipped(Client):
    """A client of frames that are all gzip."""

    async def text(self) -> str:
        data = (await super().text()).encode("latin-1")
        self.texts[-1] = gzip.decompress(data).decode()
        return self.texts[-1]


@asynccontextmanager
async def connect(sim: Simulator, path: str) -> AsyncIterator[Zipped]:
    async with support.connect(sim, path) as client:
        yield Zipped(client.socket)


def recorded(file: str, contains: str) -> Iterator[str]:
    """Received frames that contain a text, unzipped."""
    path = CAPTURES / "bitrue" / file
    if not path.exists():
        pytest.skip(f"no captures at {CAPTURES}")
    for line in path.read_text().splitlines():
        frame = json.loads(line)
        text = gzip.decompress(base64.b64decode(frame["b64"])).decode() if "b64" in frame else ""
        if contains in text:
            yield text


def request(channel: str, name: str = "btcusdt", event: str = "sub", **more: Json) -> Json:
    return {"event": event, "params": {"cb_id": name, "channel": f"market_{name}_{channel}", **more}}


async def tick(client: Client, channel: str) -> Json:
    """What the next data frame of a channel holds."""
    return (await client.until(lambda message: message.get("channel") == channel and "tick" in message))["tick"]


@pytest.mark.parametrize(("path", "channel"), [(BOOKS, "simple_depth_step0"), (KLINES, "depth_step0")])
async def test_books_are_whole_and_end_equal_to_the_truth(path: str, channel: str) -> None:
    async with simulator.serve(["bitrue"], seed=41, rate=3000, time_scale=10) as sim, connect(sim, path) as client:
        await client.send(request(channel))
        for _ in range(5):
            book = await tick(client, f"market_btcusdt_{channel}")
            assert len(book["buys"]) == len(book["asks"]) == 40
        sim.pause()
        true: Json = sim.book("bitrue", "BTC/USDT", 40)
        await client.send(request(channel))
        await client.until(lambda message: "event_rep" in message)
        book = await tick(client, f"market_btcusdt_{channel}")
        for name, rows in (("buys", true["bids"]), ("asks", true["asks"])):
            assert [[price, Decimal(str(size))] for price, size in book[name]] == [[p, Decimal(s)] for p, s in rows]


async def test_trades_are_the_true_ones_newest_first() -> None:
    async with simulator.serve(["bitrue"], seed=42, rate=3000) as sim, connect(sim, KLINES) as client:
        await client.send(request("trade_ticker"))
        rows: list[Json] = []
        while len(rows) < 150:
            message = json.loads(await client.text(), parse_float=Decimal)
            rows += reversed(message.get("tick", {}).get("data", []))
        ids = [row["id"] for row in rows]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        true = sim.trades("bitrue", "BTC/USDT", after=ids[0] - 1)[: len(ids)]
        assert [(r["price"], Decimal(r["vol"]), r["side"].lower(), r["ts"]) for r in rows] == [
            (Decimal(str(t["price"])), Decimal(str(t["amount"])), t["side"], int(str(t["timestamp"])) // 1000) for t in true
        ]
        assert all(row["amount"] == row["price"] * row["vol"] for row in rows), "vol is the size, amount its worth"


async def test_a_lost_trade_shows_in_the_ids() -> None:
    async with simulator.serve(["bitrue"], rate=3000, faults=["bitrue:trade_gap"]) as sim, connect(sim, KLINES) as client:
        await client.send(request("trade_ticker"))
        ids: list[int] = []
        while len(ids) < 100:
            ids += [row["id"] for row in reversed((await client.json()).get("tick", {}).get("data", []))]
        assert sum(later != earlier + 1 for earlier, later in pairwise(ids)) == 1, "the day among the trades is left alone"


@pytest.mark.parametrize(
    ("path", "channel", "file", "contains"),
    [
        (KLINES, "trade_ticker", "spot-trade-frames.ndjson", '"data"'),
        (KLINES, "trade_ticker", "spot-trade-frames.ndjson", '"rose"'),
        (KLINES, "ticker", "spot-klineapi-docs.ndjson", '"rose"'),
        (KLINES, "kline_1min", "spot-klineapi-docs.ndjson", '"id":1621412820'),
        (BOOKS, "simple_depth_step0", "spot-market-docs.ndjson", '"buys"'),
    ],
)
async def test_channels_have_the_recorded_form(path: str, channel: str, file: str, contains: str) -> None:
    real = next(recorded(file, contains))
    keys = json.loads(real)["tick"].keys()
    async with simulator.serve(["bitrue"], rate=3000, time_scale=20) as sim, connect(sim, path) as client:
        await client.send(request(channel))
        await client.until(lambda message: message.get("tick", {}).keys() == keys)
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1].partition('"ds"')[0]


async def test_sizes_are_bare_numbers_on_the_second_socket() -> None:
    real = json.loads(next(recorded("spot-klineapi-docs.ndjson", "depth_step0")))
    async with simulator.serve(["bitrue"]) as sim, connect(sim, KLINES) as client:
        await client.send(request("depth_step0"))
        ack = await client.json()
        assert list(ack) == list(real)
        assert (ack["cb_id"], ack["event_rep"], ack["status"]) == ("btcusdt", "subed", "ok")
        message = await client.json()
        assert list(message) == ["channel", "ts", "tick"]
        assert {(type(price), type(size) is str) for price, size in message["tick"]["buys"]} == {(str, False)}


async def test_every_frame_is_binary() -> None:
    async with simulator.serve(["bitrue"], rate=2000) as sim, support.connect(sim, KLINES) as client:
        await client.send(request("trade_ticker"))
        for _ in range(10):
            message = await client.socket.receive(5)
            assert message.type is aiohttp.WSMsgType.BINARY
            assert message.data[:2] == b"\x1f\x8b"


async def test_answers_to_req() -> None:
    real = next(recorded("spot-klineapi-docs.ndjson", '"rep"'))
    async with simulator.serve(["bitrue"]) as sim, connect(sim, KLINES) as client:
        sim.pause()
        await client.send(request("trade_ticker", event="req", top=30))
        answer = await client.json()
        assert form(client.texts[-1]) == form(real)
        true = sim.trades("bitrue", "BTC/USDT")[-30:]
        assert [row["id"] for row in answer["data"]] == [trade["id"] for trade in reversed(true)]
        assert len(client.texts[-1].partition('"amount":')[2].partition(",")[0].partition(".")[2]) == 32
        await client.send(request("depth_step0", event="req"))
        assert list(await client.json()) == ["ts", "tick"], "nothing says which"
        assert sim.stats()["bitrue"]["subscriptions"] == 0


@pytest.mark.parametrize(
    "message",
    [
        request("trade_ticker", "foousdt"),
        request("trade_ticker", "BTCUSDT"),
        request("simple_depth_step0"),
        request("depth_step9"),
        request("nonsense"),
        {"event": "sub", "params": {"cb_id": "ethusdt", "channel": "market_btcusdt_ticker"}},
        {"event": "sub", "params": {"cb_id": "btcusdt", "channel": ["market_btcusdt_ticker", "market_ethusdt_ticker"]}},
        {"event": "nonsense"},
        "nonsense",
    ],
)
async def test_what_is_not_understood_has_no_answer(message: Json) -> None:
    async with simulator.serve(["bitrue"]) as sim, connect(sim, KLINES) as client:
        await client.send(message)
        await client.send(request("ticker"))
        assert (await client.json())["channel"] == "market_btcusdt_ticker"


async def test_unsubscribe_has_no_answer_either() -> None:
    async with simulator.serve(["bitrue"], rate=2000) as sim, connect(sim, KLINES) as client:
        await client.send(request("trade_ticker"))
        await tick(client, "market_btcusdt_trade_ticker")
        await client.send(request("trade_ticker", event="unsub"))
        await client.send(request("ticker"))
        await client.until(lambda message: message.get("channel") == "market_btcusdt_ticker")
        assert all('"event_rep":"subed"' in text or '"tick"' in text for text in client.texts)
        assert sim.stats()["bitrue"]["subscriptions"] == 1


async def test_the_quiet_pair_has_one_book() -> None:
    name = QUIET_PAIR.replace("/", "").lower()
    async with simulator.serve(["bitrue"], rate=2000, time_scale=10) as sim, connect(sim, BOOKS) as client:
        await client.send(request("simple_depth_step0", name))
        await client.send(request("simple_depth_step0"))
        for _ in range(10):
            await tick(client, "market_btcusdt_simple_depth_step0")
        assert sum(f'"market_{name}' in text and "tick" in text for text in client.texts) == 1


@pytest.mark.parametrize(("path", "kind"), [(BOOKS, str), (KLINES, int)])
async def test_pings_are_echoed_or_the_connection_ends(path: str, kind: type) -> None:
    facts = {"bitrue": {"heartbeat": 0.1, "pong": 0.3}}
    async with simulator.serve(["bitrue"], facts=facts) as sim:
        async with connect(sim, path) as polite:
            for _ in range(8):
                ping = (await polite.json())["ping"]
                assert type(ping) is kind
                await polite.send({"pong": ping})
        for wrong in ({"pong": 0}, {"ping": 1}):
            async with connect(sim, path) as client:
                await client.json()
                await client.send(wrong)
                await client.closed()
                assert len(client.texts) < 8


async def test_other_paths_are_refused() -> None:
    async with simulator.serve(["bitrue"]) as sim:
        assert (await refused(sim, "ws.bitrue.com/ws")).status == 404


async def test_rest_answers_have_the_documented_form() -> None:
    cases = {
        "depth?symbol=BTCUSDT&limit=5": "lastUpdateId",
        "trades?symbol=BTCUSDT&limit=5": "isBestMatch",
        "aggTrades?symbol=BTCUSDT&limit=5": '"f":',
        "market/kline?symbol=BTCUSDT&scale=15m": "KLINE_15MIN",
        "ticker/24hr?symbol=BTCUSDT": "weightedAvgPrice",
        "ticker/bookTicker?symbol=BTCUSDT": "bidQty",
        "ticker/price?symbol=BTCUSDT": '"symbol":"LTCBTC","price"',
    }
    async with simulator.serve(["bitrue"]) as sim:
        for path, contains in cases.items():
            real = next(support.recorded("bitrue/spot-rest-docs.ndjson", contains))
            assert form((await get(sim, f"{REST}/{path}"))[1]) == form(real), path
        real = next(support.recorded("bitrue/spot-rest-docs.ndjson", "exchangeFilters"))
        info = await call(sim, f"{REST}/exchangeInfo")
        assert list(info) == list(json.loads(real))
        documented = json.loads(real)["symbols"][0]
        rows = {row["symbol"]: row for row in info["symbols"]}
        assert list(rows["BTCUSDT"]) == list(documented)
        assert [list(f) for f in rows["BTCUSDT"]["filters"]] == [list(f) for f in documented["filters"]]
        assert (rows["BTCUSDT"]["baseAsset"], rows["BTCUSDT"]["status"]) == ("btc", "TRADING")
        assert rows["LUNAUSDT"]["status"] == "HALT"


async def test_snapshots_by_rest_have_levels_of_three_and_a_time_for_a_number() -> None:
    async with simulator.serve(["bitrue"]) as sim:
        sim.pause()
        book = await call(sim, f"{REST}/depth?symbol=BTCUSDT&limit=1000")
        true: Json = sim.book("bitrue", "BTC/USDT", 1000)
        assert book["bids"] == [[price, amount, []] for price, amount in true["bids"]]
        assert abs(book["lastUpdateId"] - sim.exchanges["bitrue"].clock.stamp() // 1000) < 60_000


async def test_history() -> None:
    async with simulator.serve(["bitrue"]) as sim:
        sim.pause()
        rows = await call(sim, "www.bitrue.com/api/v1/trades?symbol=BTCUSDT&limit=30")
        true = sim.trades("bitrue", "BTC/USDT")[-30:]
        assert [(r["id"], r["price"], r["qty"], r["isBuyerMaker"]) for r in rows] == [
            (t["id"], t["price"], t["amount"], t["side"] == "sell") for t in true
        ]
        path = f"{REST}/historicalTrades?symbol=BTCUSDT&fromId={rows[0]['id']}&limit=5"
        status, body, _ = await get(sim, path)
        assert (status, json.loads(body)["code"]) == (401, -1022)
        assert await call(sim, path, headers={"X-MBX-APIKEY": "key"}) == rows[:5]
        merged = await call(sim, f"{REST}/aggTrades?symbol=BTCUSDT&limit=50")
        assert all(later["f"] == earlier["l"] + 1 for earlier, later in pairwise(merged))
        assert {row["m"] for row in merged} == {True}, "unreliable"
        begin = merged[0]["T"]
        status, body, _ = await get(sim, f"{REST}/aggTrades?symbol=BTCUSDT&startTime={begin}&endTime={begin + 3_600_000}")
        assert (status, json.loads(body)["code"]) == (412, -1127)


async def test_rest_errors_and_weights() -> None:
    async with simulator.serve(["bitrue"], facts={"bitrue": {"rest": 60}}) as sim:
        for path, code in (("depth?symbol=FOO", -1121), ("depth", -1102), ("depth?symbol=BTCUSDT&limit=7", -1100)):
            status, body, _ = await get(sim, f"{REST}/{path}")
            assert (status, json.loads(body)["code"]) == (412, code)
        statuses = [(await get(sim, f"{REST}/depth?symbol=BTCUSDT&limit=1000"))[0] for _ in range(17)]
        assert statuses == [200] * 5 + [429] * 10 + [418] * 2
        assert (await get(sim, f"{REST}/ticker/24hr"))[0] == 418
        assert (await get(sim, f"{REST}/nonsense"))[0] == 404
