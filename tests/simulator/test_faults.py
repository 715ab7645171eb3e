"""Every fault has the effect it says, is recorded, and hits nobody else."""

import asyncio
import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

import simulator
from simulator import Simulator
from simulator.faults import FORMS
from tests.simulator import test_bitrue, test_gateio, test_kraken, test_kucoin
from tests.simulator.support import Client, Json, call, connect, eventually, get, parsed, refused

BINANCE = "stream.binance.com/stream?streams=btcusdt@depth@100ms/btcusdt@trade"
DEPTH = "stream.binance.com/stream?streams=btcusdt@depth@100ms"
TRADES = "stream.binance.com/ws/btcusdt@trade"
VENUES = (
    "binance",
    "kraken",
    "okx",
    "kucoin",
    "binanceus",
    "mexc",
    "cryptocom",
    "bitrue",
    "bybit",
    "bitget",
    "gateio",
    "coinbase",
    "bitstamp",
    "htx",
)
PATHS = {
    "binance": "stream.binance.com/stream",
    "kraken": "ws.kraken.com/v2",
    "okx": "ws.okx.com/ws/v5/public",
    "binanceus": "stream.binance.us:9443/stream",
    "mexc": "wbs-api.mexc.com/ws",
    "cryptocom": "stream.crypto.com/exchange/v1/market",
    "bitrue": "ws.bitrue.com/kline-api/ws",
    "bybit": "stream.bybit.com/v5/public/spot",
    "bitget": "ws.bitget.com/v2/ws/public",
    "gateio": "api.gateio.ws/ws/v4/",
    "coinbase": "ws-feed.exchange.coinbase.com/",
    "bitstamp": "ws.bitstamp.net/",
    "htx": "api.huobi.pro/ws",
}


async def path_of(sim: Simulator, exchange: str) -> str:
    """The address of a venue's public socket."""
    if exchange == "kucoin":
        return await test_kucoin.address(sim)
    return PATHS[exchange]


def request(exchange: str, pair: str) -> Json:
    """The subscription to the trades of a pair."""
    dashed = pair.replace("/", "-")
    return {
        "binance": {"method": "SUBSCRIBE", "params": [f"{pair.replace('/', '').lower()}@trade"], "id": 1},
        "kraken": {"method": "subscribe", "params": {"channel": "trade", "symbol": [pair]}},
        "okx": {"op": "subscribe", "args": [{"channel": "trades", "instId": dashed}]},
        "bitget": {"op": "subscribe", "args": [{"instType": "SPOT", "channel": "trade", "instId": pair.replace("/", "")}]},
        "bybit": {"op": "subscribe", "args": [f"publicTrade.{pair.replace('/', '')}"]},
        "kucoin": {"id": "1", "type": "subscribe", "topic": f"/market/match:{dashed}", "response": True},
        "bitrue": test_bitrue.request("trade_ticker", pair.replace("/", "").lower()),
        "cryptocom": {"id": 1, "method": "subscribe", "params": {"channels": [f"trade.{pair.replace('/', '_')}"]}},
        "mexc": {
            "method": "SUBSCRIPTION",
            "params": [f"spot@public.aggre.deals.v3.api.pb@10ms@{pair.replace('/', '')}"],
            "id": 1,
        },
        "binanceus": {"method": "SUBSCRIBE", "params": [f"{pair.replace('/', '').lower()}@trade"], "id": 1},
        "coinbase": {"type": "subscribe", "product_ids": [dashed], "channels": ["matches"]},
        "bitstamp": {"event": "bts:subscribe", "data": {"channel": f"live_trades_{pair.replace('/', '').lower()}"}},
        "gateio": test_gateio.request("spot.trades", pair.replace("/", "_")),
        "htx": {"sub": f"market.{pair.replace('/', '').lower()}.trade.detail", "id": "1"},
    }[exchange]


def fired(sim: Simulator, fault: str) -> Callable[[], int]:
    return lambda: sum(record["fault"] == fault for record in sim.fired())


# -------------------------------------------------------------- hits on frames


@pytest.mark.parametrize(("spec", "code"), [("binance:drop", 1006), ("binance:drop=1012", 1012)])
async def test_drop_ends_one_connection(spec: str, code: int) -> None:
    async with simulator.serve(["binance"], rate=3000, faults=[spec]) as sim:
        async with connect(sim, TRADES) as client:
            assert (await client.closed()).code == code
        async with connect(sim, TRADES) as client:  # the next one is left alone
            for _ in range(50):
                await client.json()
        assert fired(sim, "drop")() == 1


async def test_stall_is_silence_on_an_open_socket_and_what_falls_into_it_is_lost() -> None:
    async with simulator.serve(["binance"], rate=3000) as sim, connect(sim, TRADES) as client:
        await client.json()
        sim.arm("binance:stall=0.4")
        await eventually(fired(sim, "stall"))
        loop = asyncio.get_running_loop()
        silences, ids, before = [0.0], [], loop.time()
        while max(silences) < 0.3:
            ids.append((await client.json())["t"])
            silences.append(loop.time() - before)
            before = loop.time()
        ids.append((await client.json())["t"])
        assert any(later - earlier > 20 for earlier, later in pairwise(ids))
        assert sim.fired()[-1]["symbol"] == "BTC/USDT"


async def test_gap_leaves_out_one_book_message() -> None:
    async with (
        simulator.serve(["binance"], rate=3000, faults=["binance:gap"], time_scale=5) as sim,
        connect(sim, DEPTH) as client,
    ):
        last, gaps = 0, []
        for _ in range(14):
            data = (await client.json())["data"]
            if last and data["U"] != last + 1:
                gaps.append((last, data["U"]))
            last = data["u"]
        assert len(gaps) == fired(sim, "gap")() == 1
        record = sim.fired()[0]
        assert (record["exchange"], record["symbol"], record["channel"]) == ("binance", "BTC/USDT", "btcusdt@depth@100ms")
        assert isinstance(record["time"], int)


async def test_gap_can_name_its_pair() -> None:
    path = "stream.binance.com/stream?streams=btcusdt@depth@100ms/ethusdt@depth@100ms"
    faults = ["binance:gap=ETH/USDT@0.05"]
    async with simulator.serve(["binance"], rate=3000, faults=faults, time_scale=10) as sim, connect(sim, path):
        await eventually(lambda: fired(sim, "gap")() >= 2)
        assert {record["symbol"] for record in sim.fired()} == {"ETH/USDT"}


async def test_trade_gap_leaves_out_one_trade() -> None:
    async with simulator.serve(["binance"], rate=3000, faults=["binance:trade_gap"]) as sim, connect(sim, TRADES) as client:
        ids = [(await client.json())["t"] for _ in range(60)]
        assert sum(later != earlier + 1 for earlier, later in pairwise(ids)) == 1
        assert ids[-1] - ids[0] == len(ids)


async def test_a_fault_hits_one_of_two_clients() -> None:
    async with simulator.serve(["binance"], rate=3000) as sim, connect(sim, TRADES) as one, connect(sim, TRADES) as two:
        await one.json()
        await two.json()
        sim.arm("binance:trade_gap")
        await eventually(fired(sim, "trade_gap"))
        struck = int(str(sim.fired()[0]["time"])) // 1000
        holes = []
        for client in (one, two):
            trades = [json.loads(client.texts[0])]
            while trades[-1]["T"] <= struck:
                trades.append(await client.json())
            trades.append(await client.json())
            holes.append(sum(later["t"] != earlier["t"] + 1 for earlier, later in pairwise(trades)))
        assert sorted(holes) == [0, 1]
        assert holes.index(1) + 1 == sim.fired()[0]["connection"]


async def test_repeat_sends_one_frame_twice() -> None:
    async with simulator.serve(["binance"], rate=3000, faults=["binance:repeat"]) as sim, connect(sim, BINANCE) as client:
        for _ in range(60):
            await client.text()
        assert sum(one == two for one, two in pairwise(client.texts)) == fired(sim, "repeat")() == 1


async def test_swap_exchanges_two_successive_frames() -> None:
    async with simulator.serve(["binance"], rate=3000, faults=["binance:swap"]) as sim, connect(sim, TRADES) as client:
        ids = [(await client.json())["t"] for _ in range(60)]
        assert [later - earlier for earlier, later in pairwise(ids) if later != earlier + 1] == [2, -1, 2]
        assert fired(sim, "swap")() == 1


@pytest.mark.parametrize("form", FORMS)
async def test_corrupt_garbles_one_frame(form: str) -> None:
    spec = f"binance:corrupt={form}"
    async with simulator.serve(["binance"], rate=3000, faults=[spec]) as sim, connect(sim, BINANCE) as client:
        for _ in range(60):
            await client.text()
        assert sum(parsed(text) is None for text in client.texts) == fired(sim, "corrupt")() == 1
        assert not client.socket.closed


def test_garbage_of_a_packed_frame_is_inside_its_gzip() -> None:
    text = b'{"ch":"market.btcusdt.trade.detail"}'
    garbled = gzip.decompress(FORMS["json"](gzip.compress(text), Random(1))[2:])
    assert len(garbled) == len(text)
    assert parsed(garbled.decode()) is None


async def test_bad_checksum_is_wrong_once_and_the_book_goes_on() -> None:
    async with simulator.serve(["kraken"], rate=3000) as sim, connect(sim, test_kraken.WS) as client:
        await test_kraken.subscribe(client, "book", "BTC/USD", depth=10)
        book, wrong, frames = test_kraken.Book(10), 0, 0
        while frames < 100:
            text = await client.text()
            if '"channel":"book","type"' not in text:
                continue
            frames += 1
            if frames == 5:
                sim.arm("kraken:bad_checksum=BTC/USD")
            try:
                book.apply(text)
            except AssertionError:
                wrong += 1
        assert wrong == fired(sim, "bad_checksum")() == 1


async def test_bad_checksum_only_where_there_is_one() -> None:
    async with simulator.serve(["binance", "kraken"]) as sim:
        with pytest.raises(ValueError, match="binance has no checksum"):
            sim.arm("binance:bad_checksum")
        sim.arm("*:bad_checksum")
        del sim.exchanges["kraken"]
        with pytest.raises(ValueError, match="no checksum"):
            sim.arm("*:bad_checksum")


async def test_a_fault_with_seconds_strikes_again_and_again_until_it_is_cleared() -> None:
    async with (
        simulator.serve(["binance"], rate=3000, faults=["binance:trade_gap@0.05"]) as sim,
        connect(sim, TRADES) as client,
    ):
        await eventually(lambda: fired(sim, "trade_gap")() >= 3)
        sim.clear()
        count = fired(sim, "trade_gap")()
        while len(client.texts) < 300:
            await client.text()
        assert fired(sim, "trade_gap")() == count


# ------------------------------------------------------------------- snapshots


async def test_stale_rest_snapshot_does_not_bridge_and_the_next_one_does() -> None:
    path = "api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
    async with simulator.serve(["binance"], rate=3000) as sim, connect(sim, DEPTH) as client:
        first = (await client.json())["data"]
        sim.arm("binance:stale_snapshot")
        old, new = await call(sim, path), await call(sim, path)
        assert old["lastUpdateId"] < first["U"] - 1
        assert new["lastUpdateId"] >= first["U"] - 1
        assert old["bids"] != new["bids"], "an old book, not the present one under an old number"
        assert fired(sim, "stale_snapshot")() == 1


async def test_stale_kucoin_snapshot() -> None:
    async with simulator.serve(["kucoin"], rate=2000) as sim, connect(sim, await test_kucoin.address(sim)) as client:
        await test_kucoin.subscribe(client, "/market/level2:BTC-USDT")
        first = await test_kucoin.data(client, "/market/level2:BTC-USDT")
        sim.arm("kucoin:stale_snapshot=BTC/USDT")
        assert (await call(sim, f"{test_kucoin.LEVEL2}?symbol=ETH-USDT"))["code"] == "200000"
        assert not sim.fired()
        old = (await call(sim, f"{test_kucoin.LEVEL2}?symbol=BTC-USDT"))["data"]
        assert int(old["sequence"]) + 1 < first["sequenceStart"]


async def test_stale_socket_snapshots_break_the_chain_or_the_checksum() -> None:
    faults = ["okx:stale_snapshot", "kraken:stale_snapshot"]
    async with simulator.serve(["okx", "kraken"], rate=4000, faults=faults) as sim:
        async with connect(sim, "ws.okx.com/ws/v5/public") as client:
            await client.send({"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]})
            snapshot = (await client.until(lambda message: message.get("action") == "snapshot"))["data"][0]
            update = (await client.until(lambda message: message.get("action") == "update"))["data"][0]
            assert update["prevSeqId"] > snapshot["seqId"]
        async with connect(sim, test_kraken.WS) as client:
            await test_kraken.subscribe(client, "book", "BTC/USD", depth=10)
            book = test_kraken.Book(10)
            with pytest.raises(AssertionError):
                await follow(client, book)


async def follow(client: Client, book: test_kraken.Book) -> None:
    """Apply book frames for ever."""
    while True:
        text = await client.text()
        if '"channel":"book","type"' in text:
            book.apply(text)


# ------------------------------------------------------------- what stands still


@pytest.mark.parametrize("exchange", VENUES)
async def test_rejected_pairs_are_unknown_in_the_venues_own_way(exchange: str) -> None:
    pair = "DOGE/USD" if exchange == "kraken" else "DOGE/USDT"
    facts = {exchange: {"messages": 100_000}}  # of Crypto.com's calendar second hardly anything may be left
    async with simulator.serve([exchange], rate=3000, facts=facts, faults=[f"{exchange}:reject={pair}"]) as sim:
        async with connect(sim, await path_of(sim, exchange)) as client:
            await client.send(request(exchange, pair))
            await client.send(request(exchange, "BTC/USD" if exchange == "kraken" else "BTC/USDT"))
            while len(client.texts) < 30:
                await client.text()
        text = "\n".join(client.texts)
        refusals = {
            "kraken": "Currency pair not supported DOGE/USD",
            "okx": '"code":"60018"',
            "mexc": "Not Subscribed successfully!",
            "cryptocom": "Unknown symbol",
            "coinbase": "DOGE-USDT is not a valid product",
            "bybit": "Invalid symbol :[publicTrade.DOGEUSDT]",
            "bitget": '"code":30001',
            "gateio": "unknown currency pair: DOGE_USDT",
        }
        assert refusals.get(exchange, "") in text
        for echo in (
            '"symbol":"DOGE/USD","time_in"',
            '"reason":"DOGE',
            '"payload":["DOGE_USDT"]',
            '"instId":"DOGEUSDT"},"code"',
        ):
            text = text.replace(echo, "")
        assert '"DOGE' not in text
        paths = {
            "binance": "api.binance.com/api/v3/depth?symbol=DOGEUSDT",
            "kraken": "api.kraken.com/0/public/Depth?pair=XDGUSD",
            "okx": "www.okx.com/api/v5/market/books?instId=DOGE-USDT",
            "bybit": "api.bybit.com/v5/market/orderbook?category=spot&symbol=DOGEUSDT",
            "bitget": "api.bitget.com/api/v2/spot/market/orderbook?symbol=DOGEUSDT",
            "kucoin": "api.kucoin.com/api/v1/market/orderbook/level2_20?symbol=DOGE-USDT",
            "binanceus": "api.binance.us/api/v3/depth?symbol=DOGEUSDT",
            "mexc": "api.mexc.com/api/v3/depth?symbol=DOGEUSDT",
            "cryptocom": "api.crypto.com/exchange/v1/public/get-book?instrument_name=DOGE_USDT",
            "bitrue": "openapi.bitrue.com/api/v1/depth?symbol=DOGEUSDT",
            "coinbase": "api.exchange.coinbase.com/products/DOGE-USDT/book",
            "bitstamp": "www.bitstamp.net/api/v2/order_book/dogeusdt/",
            "gateio": "api.gateio.ws/api/v4/spot/order_book?currency_pair=DOGE_USDT",
            "htx": "api.huobi.pro/market/depth?symbol=dogeusdt&type=step0",
        }
        errors = {
            "binance": "-1121",
            "kraken": "EQuery:Unknown asset pair",
            "okx": "51001",
            "bybit": "Not supported symbols",
            "bitget": "40034",
            "kucoin": "200003",
            "binanceus": "-1121",
            "mexc": "-1121",
            "cryptocom": "40004",
            "bitrue": "-1121",
            "coinbase": "NotFound",
            "bitstamp": "Not found.",
            "gateio": "INVALID_CURRENCY_PAIR",
            "htx": "invalid symbol",
        }
        assert errors[exchange] in (await get(sim, paths[exchange]))[1]


async def test_slow_delays_answers_and_frames_in_order() -> None:
    async with simulator.serve(["binance"], rate=2000, faults=["binance:slow=150"]) as sim, connect(sim, TRADES) as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await get(sim, "api.binance.com/api/v3/ping")
        assert loop.time() - began >= 0.15
        rows = [await client.json() for _ in range(30)]
        stamp = sim.exchanges["binance"].clock.stamp
        late = stamp() // 1000 - (await client.json())["T"]
        assert late >= 140
        assert [row["t"] for row in rows] == list(range(rows[0]["t"], rows[0]["t"] + 30))
        sim.clear()
        while stamp() // 1000 - (await client.json())["T"] > 100:
            assert len(client.texts) < 2000


@pytest.mark.parametrize(("spec", "status"), [("refuse", 503), ("refuse=429", 429), ("refuse=451", 451)])
async def test_refuse_answers_new_connections_with_its_status(spec: str, status: int) -> None:
    async with simulator.serve(["binance"], faults=[f"binance:{spec}"]) as sim:
        for _ in range(2):
            refusal = await refused(sim, TRADES)
            assert refusal.status == status
            assert refusal.headers is not None
            assert ("Retry-After" in refusal.headers) == (status in {429, 503})
        assert fired(sim, "refuse")() == 2
        sim.clear()
        async with connect(sim, TRADES) as client:
            await client.json()


async def test_refuse_now_and_then() -> None:
    async with simulator.serve(["binance"]) as sim:
        sim.arm("binance:refuse=429@0.01")
        clock = sim.exchanges["binance"].clock
        due = clock.now() + 0.02
        await eventually(lambda: clock.now() > due)
        assert (await refused(sim, TRADES)).status == 429
        sim.clear()
        async with connect(sim, TRADES) as client:
            await client.json()


@pytest.mark.parametrize("exchange", [name for name in VENUES if name != "kraken"])
async def test_maintenance_in_the_venues_own_form(exchange: str) -> None:
    async with simulator.serve([exchange], rate=1000) as sim:
        path = await path_of(sim, exchange)
        async with connect(sim, path) as client:
            await client.send(request(exchange, "BTC/USDT"))
            await client.text()
            sim.arm(f"{exchange}:maintenance=60")
            end = await client.closed()
            assert end.code == (1013 if exchange == "cryptocom" else 1012)
            words = {"binance": "serverShutdown", "okx": '"code":"64008"'}
            words |= {"bitstamp": "bts:request_reconnect"}
            assert words.get(exchange, "") in client.texts[-1]
        assert (await refused(sim, path)).status == 503
        calls = {
            "binance": ("api.binance.com/api/v3/time", "-1008"),
            "okx": ("www.okx.com/api/v5/public/time", "50001"),
            "bybit": ("api.bybit.com/v5/market/time", "10016"),
            "bitget": ("api.bitget.com/api/v2/public/time", "45001"),
            "kucoin": ("api.kucoin.com/api/v1/status", '"status":"close"'),
            "binanceus": ("api.binance.us/api/v3/time", "-1008"),
            "mexc": ("api.mexc.com/api/v3/time", '"code":503'),
            "cryptocom": ("api.crypto.com/exchange/v1/public/get-instruments", "9010001"),
            "bitrue": ("openapi.bitrue.com/api/v1/time", "System is under maintenance."),
            "coinbase": ("api.exchange.coinbase.com/time", "Service unavailable"),
            "bitstamp": ("www.bitstamp.net/api/v2/ticker/", "under scheduled maintenance"),
            "gateio": ("api.gateio.ws/api/v4/spot/time", "TOO_BUSY"),
            "htx": ("api.huobi.pro/v1/common/timestamp", "gateway-internal-error"),
        }
        asked, word = calls[exchange]
        assert word in (await get(sim, asked))[1]
        sim.clear()
        async with connect(sim, await path_of(sim, exchange)) as client:
            await client.send(request(exchange, "BTC/USDT"))
            await client.text()


async def test_maintenance_ends_by_itself() -> None:
    async with simulator.serve(["binance"]) as sim:
        async with connect(sim, TRADES) as client:
            sim.arm("binance:maintenance=0.3")
            await client.closed()
        exchange = sim.exchanges["binance"]
        await eventually(lambda: exchange.clock.now() >= exchange.closed_until)
        async with connect(sim, TRADES) as client:
            await client.json()


async def test_all_exchanges_at_once() -> None:
    async with simulator.serve(["binance", "okx"], rate=3000, faults=["*:drop"]) as sim:
        for exchange in ("binance", "okx"):
            async with connect(sim, await path_of(sim, exchange)) as client:
                await client.send(request(exchange, "BTC/USDT"))
                assert (await client.closed()).code == 1006
        assert {record["exchange"] for record in sim.fired()} == {"binance", "okx"}
