"""Bitget: two protocols for one market, a book chained by pseq under a checksum, the text ping, what a socket bears."""

import json
from collections.abc import Callable
from itertools import chain, pairwise, zip_longest
from typing import cast
from zlib import crc32

import pytest

import simulator
from simulator.bitget_feeds import SEQUENCES
from simulator.feeds import interleaved
from simulator.instruments import QUIET_PAIR
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded, refused

CLASSIC = "ws.bitget.com/v2/ws/public"
UNIFIED = "ws.bitget.com/v3/ws/public"
REST = "api.bitget.com/api/v2"

BOTH = pytest.mark.parametrize("path", [CLASSIC, UNIFIED])


def arg(path: str, channel: str, symbol: str, kind: str = "SPOT") -> Json:
    if path == CLASSIC:
        return {"instType": kind, "channel": channel, "instId": symbol}
    return {"instType": kind.lower(), "topic": channel, "symbol": symbol}


def trades(path: str) -> str:
    return "trade" if path == CLASSIC else "publicTrade"


async def subscribe(client: Client, *args: Json, operation: str = "subscribe") -> None:
    await client.send({"op": operation, "args": list(args)})


def of(channel: str) -> Callable[[Json], bool]:
    return lambda m: "action" in m and channel in m["arg"].values()


def event(message: Json) -> bool:
    return "event" in message


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self) -> None:
        self.last = 0
        self.sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def apply(self, message: Json) -> None:
        data = message["data"][0]
        if message["action"] == "snapshot":
            assert (data["pseq"], data["checksum"]) == (0, 0)
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert data["pseq"] == self.last, "gap"
        for name, side in self.sides.items():
            for price, size in data[name if name in data else name[0]]:
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size
        self.last = data["seq"]
        assert data["checksum"] in {0, self.checksum()}, "checksum"

    def rows(self) -> list[list[list[str]]]:
        ranked = [sorted(side.items(), key=lambda row: float(row[0]), reverse=n == "bids") for n, side in self.sides.items()]
        return [[list(row) for row in side] for side in ranked]

    def checksum(self) -> int:
        bids, asks = self.rows()
        turns = chain.from_iterable(chain.from_iterable(zip_longest(bids[:25], asks[:25], fillvalue=[])))
        unsigned = crc32(":".join(turns).encode())
        return unsigned - (1 << 32) if unsigned >> 31 else unsigned


@BOTH
async def test_book_chains_fits_its_checksums_and_ends_equal_to_the_truth(path: str) -> None:
    depth = 500 if path == CLASSIC else 1000
    async with simulator.serve(["bitget"], seed=8, rate=8000, time_scale=4) as sim, connect(sim, path) as client:
        await subscribe(client, arg(path, "books", "BTCUSDT"))
        book = Book()
        for _ in range(12):
            message = await client.until(of("books"))
            book.apply(message)
            assert [len(side) for side in book.rows()] == [depth, depth]
            assert (message["data"][0]["checksum"] != 0) == (message["action"] == "update")
        assert book.last > 2**53
        sim.pause()
        true = sim.book("bitget", "BTC/USDT", depth)
        while book.rows() != [true["bids"], true["asks"]]:
            book.apply(await client.until(of("books")))
        assert book.last <= SEQUENCES + cast("int", true["sequence"])


def test_the_longer_side_of_a_checksum_goes_on_alone() -> None:
    assert interleaved(["1:2", "3:4"], ["5:6"]) == crc32(b"1:2:5:6:3:4") - (crc32(b"1:2:5:6:3:4") >> 31 << 32)


async def test_a_late_subscriber_meets_the_chain_of_the_others() -> None:
    wanted = arg(CLASSIC, "books", "BTCUSDT")
    async with simulator.serve(["bitget"], seed=9, rate=8000, time_scale=4) as sim, connect(sim, CLASSIC) as early:
        await subscribe(early, wanted)
        first, second = Book(), Book()
        for _ in range(3):
            first.apply(await early.until(of("books")))
        async with connect(sim, CLASSIC) as late:
            await subscribe(late, wanted)
            for _ in range(4):
                second.apply(await late.until(of("books")))
            while first.last < second.last:
                first.apply(await early.until(of("books")))
            assert first.sides == second.sides


@BOTH
async def test_trades_are_the_true_ones_after_a_snapshot_of_the_last(path: str) -> None:
    async with simulator.serve(["bitget"], seed=10, rate=3000) as sim, connect(sim, path) as client:
        await subscribe(client, arg(path, trades(path), "ETHUSDT"))
        messages = [await client.until(of(trades(path))) for _ in range(60)]
        assert [message["action"] for message in messages] == ["snapshot"] + ["update"] * 59
        assert len(messages[0]["data"]) == 50
        rows = [row for message in messages for row in reversed(message["data"])]
        names = ("tradeId", "price", "size", "side", "ts") if path == CLASSIC else ("i", "p", "v", "S", "T")
        seen = [[row[name] for name in names] for row in rows]
        true = sim.trades("bitget", "ETH/USDT", after=int(seen[0][0]) - 1)[: len(seen)]
        assert seen == [
            [str(t["id"]), t["price"], t["amount"], t["side"], str(cast("int", t["timestamp"]) // 1000)] for t in true
        ]
        assert any(len(message["data"]) > 1 for message in messages[1:])


@pytest.mark.parametrize(("channel", "contains"), [("trade", '"trade"'), ("books5", '"books5"'), ("ticker", '"ticker"')])
async def test_classic_channels_have_the_documented_form(channel: str, contains: str) -> None:
    real = next(recorded("bitget/spot-docs.ndjson", contains))
    async with simulator.serve(["bitget"]) as sim, connect(sim, CLASSIC) as client:
        await subscribe(client, arg(CLASSIC, channel, "BTCUSDT"))
        await client.until(of(channel))
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


@pytest.mark.parametrize("channel", ["publicTrade", "ticker", "books1"])
async def test_unified_channels_have_the_documented_fields(channel: str) -> None:
    real = json.loads(next(recorded("bitget/unified-docs.ndjson", f'"{channel}"')))
    async with simulator.serve(["bitget"]) as sim, connect(sim, UNIFIED) as client:
        await subscribe(client, arg(UNIFIED, channel, "BTCUSDT"))
        ours = await client.until(of(channel))
        assert ours.keys() == real.keys()
        assert ours["data"][0].keys() == real["data"][0].keys() - {"maxDepth"}
        kinds = ({name: form(json.dumps(row[name])) for name in ours["data"][0]} for row in (ours["data"][0], real["data"][0]))
        assert next(kinds) == next(kinds)


async def test_books_of_the_two_protocols_are_one() -> None:
    async with simulator.serve(["bitget"], rate=0.001) as sim, connect(sim, CLASSIC) as old, connect(sim, UNIFIED) as new:
        await subscribe(old, arg(CLASSIC, "books15", "BTCUSDT"), arg(CLASSIC, "books", "BTCUSDT"))
        await subscribe(new, arg(UNIFIED, "books50", "BTCUSDT"), arg(UNIFIED, "books", "BTCUSDT"))
        best = (await old.until(of("books15")))["data"][0]
        more = (await new.until(of("books50")))["data"][0]
        assert (len(best["asks"]), len(more["a"])) == (15, 50)
        assert more["b"][:15] == best["bids"]
        classic, unified = await old.until(of("books")), await new.until(of("books"))
        assert classic["data"][0]["seq"] == unified["data"][0]["seq"]
        assert unified["data"][0]["a"][:500] == classic["data"][0]["asks"]


async def test_numbers_are_padded_to_the_precision_of_the_pair() -> None:
    async with simulator.serve(["bitget"]) as sim, connect(sim, CLASSIC) as client:
        await subscribe(client, arg(CLASSIC, "books", "BTCUSDT"))
        data = (await client.until(of("books")))["data"][0]
        assert {len(price.partition(".")[2]) for price, _ in data["bids"]} == {2}
        assert {len(size.partition(".")[2]) for _, size in data["bids"]} == {6}


async def test_one_answer_per_arg_and_a_bad_one_harms_no_other() -> None:
    async with simulator.serve(["bitget"]) as sim:
        async with connect(sim, CLASSIC) as client:
            wrong, right = arg(CLASSIC, "trade", "FOOUSDT"), arg(CLASSIC, "trade", "BTCUSDT")
            await subscribe(client, wrong, {"instType": "SPOT"}, right)
            missing = "instType:SPOT,channel:trade,instId:FOOUSDT doesn't exist"
            assert await client.until(event) == {"event": "error", "arg": wrong, "code": 30001, "msg": missing}
            assert (await client.until(event))["code"] == 30016
            assert await client.until(event) == {"event": "subscribe", "arg": right}
            await subscribe(client, right, operation="unsubscribe")
            assert await client.until(event) == {"event": "unsubscribe", "arg": right}
            assert sim.stats()["bitget"]["subscriptions"] == 0
        async with connect(sim, UNIFIED) as client:
            await subscribe(client, arg(UNIFIED, "books15", "BTCUSDT"))
            error = await client.until(event)
            assert list(error) == ["event", "code", "msg"], "no arg here"
            assert error["msg"] == json.dumps(arg(UNIFIED, "books15", "BTCUSDT"), separators=(",", ":")) + " doesn't exist"


@BOTH
async def test_another_market_type_is_acknowledged_and_silent(path: str) -> None:
    wrong = arg(path, trades(path), "BTCUSDT", "USDT-FUTURES")
    async with simulator.serve(["bitget"], rate=2000) as sim, connect(sim, path) as client:
        await subscribe(client, wrong, arg(path, trades(path), "ETHUSDT"))
        assert await client.json() == {"event": "subscribe", "arg": wrong}
        for _ in range(20):
            await client.until(of(trades(path)))
        assert not any("BTCUSDT" in text for text in client.texts[1:])
        await subscribe(client, arg(path, trades(path), "BTCUSDT", "OTHER"))
        assert (await client.until(event))["code"] == 30001


async def test_the_quiet_pair_is_quiet() -> None:
    quiet = QUIET_PAIR.replace("/", "")
    async with simulator.serve(["bitget"], rate=1000) as sim, connect(sim, CLASSIC) as client:
        await subscribe(client, arg(CLASSIC, "books", quiet), arg(CLASSIC, "trade", "BTCUSDT"))
        for _ in range(20):
            await client.until(of("trade"))
        assert sum(quiet in text and "action" in text for text in client.texts) == 1


async def test_text_ping_is_answered_and_silence_ends_the_connection_though_data_flow() -> None:
    async with simulator.serve(["bitget"], rate=500, facts={"bitget": {"idle": 0.3}}) as sim, connect(sim, CLASSIC) as client:
        await client.send("ping")
        assert await client.text() == "pong"
        await subscribe(client, arg(CLASSIC, "trade", "BTCUSDT"))
        await client.closed()
        assert any('"update"' in text for text in client.texts)


async def test_messages_are_limited_and_pings_count() -> None:
    async with simulator.serve(["bitget"], facts={"bitget": {"messages": 3}}) as sim, connect(sim, CLASSIC) as client:
        for _ in range(4):
            await client.send("ping")
        await client.closed()
        assert client.texts[:3] == ["pong"] * 3
        assert json.loads(client.texts[3]) == {"event": "error", "code": 30007, "msg": "request over limit,connection close"}


async def test_requests_and_channels_are_limited() -> None:
    facts = {"bitget": {"operations": 2, "topics": 2}}
    async with simulator.serve(["bitget"], facts=facts) as sim, connect(sim, CLASSIC) as client:
        await subscribe(client, *[arg(CLASSIC, "ticker", f"{base}USDT") for base in ("BTC", "ETH", "SOL")])
        assert [(await client.until(event))["event"] for _ in range(3)] == ["subscribe", "subscribe", "error"]
        for _ in range(2):
            await subscribe(client, arg(CLASSIC, "ticker", "BTCUSDT"))
        assert (await client.until(lambda m: m.get("code") == 30006))["msg"] == "request too many"
        assert sim.stats()["bitget"]["limited"] == {"topics": 1, "operations": 1}


async def test_too_many_books_in_one_frame_drop_the_unified_socket() -> None:
    bases = list(dict.fromkeys(i.base for i in simulator.Simulator(["bitget"]).exchanges["bitget"].instruments.values()))
    async with simulator.serve(["bitget"]) as sim:
        for count, path in ((24, UNIFIED), (25, CLASSIC)):
            async with connect(sim, path) as client:
                await subscribe(client, *[arg(path, "books", f"{base}USDT") for base in bases[:count]])
                assert [(await client.until(event))["event"] for _ in range(count)] == ["subscribe"] * count
        async with connect(sim, UNIFIED) as client:
            await subscribe(client, *[arg(UNIFIED, "books", f"{base}USDT") for base in bases[:25]])
            assert (await client.closed()).code == 1006


@pytest.mark.parametrize(
    ("message", "code"),
    [("nonsense", 30002), ({"op": "dance", "args": []}, 30002), ({"op": "subscribe"}, 30003), (["x"], 30002)],
)
async def test_bad_requests(message: Json, code: int) -> None:
    async with simulator.serve(["bitget"]) as sim, connect(sim, CLASSIC) as client:
        await client.send(message)
        assert (await client.json())["code"] == code
        await subscribe(client, *[arg(CLASSIC, "trade", "BTCUSDT")] * 80)
        assert (await client.json())["code"] == 30003, "more than 4096 bytes"


async def test_connections_are_limited_and_v1_is_off() -> None:
    async with simulator.serve(["bitget"], facts={"bitget": {"connects": 2}}) as sim:
        assert (await refused(sim, "ws.bitget.com/spot/v1/stream")).status == 404
        async with connect(sim, CLASSIC):
            assert (await refused(sim, CLASSIC)).status == 429


async def follow(client: Client, book: Book) -> None:
    """Apply book frames for ever."""
    while True:
        book.apply(await client.until(of("books")))


@pytest.mark.parametrize(("fault", "broken"), [("gap", "gap"), ("bad_checksum", "checksum"), ("stale_snapshot", "gap")])
async def test_faults_show_in_the_book(fault: str, broken: str) -> None:
    faults = [f"bitget:{fault}"]
    async with simulator.serve(["bitget"], rate=4000, time_scale=4, faults=faults) as sim, connect(sim, CLASSIC) as client:
        await subscribe(client, arg(CLASSIC, "books", "BTCUSDT"))
        with pytest.raises(AssertionError, match=broken):
            await follow(client, Book())
        assert [record["fault"] for record in sim.fired()] == [fault]


async def test_rest_answers() -> None:
    real = json.loads(next(recorded("bitget/spot-rest.ndjson", "BTCUSDT")))
    async with simulator.serve(["bitget"], rate=2000) as sim, connect(sim, CLASSIC) as client:
        body = await call(sim, f"{REST}/spot/public/symbols")
        assert list(body) == list(real)
        rows = {row["symbol"]: row for row in body["data"]}
        for row in real["data"][:2]:
            assert rows[row["symbol"]] == row
        assert (rows["LUNAUSDT"]["status"], rows["WAVESUSDT"]["status"]) == ("offline", "halt")
        await subscribe(client, arg(CLASSIC, "trade", "BTCUSDT"))
        for _ in range(40):
            await client.until(of("trade"))
        sim.pause()
        true = [str(t["id"]) for t in sim.trades("bitget", "BTC/USDT")]
        fills = (await call(sim, f"{REST}/spot/market/fills?symbol=BTCUSDT"))["data"]
        assert [row["tradeId"] for row in fills] == true[:-101:-1]
        page = f"{REST}/spot/market/fills-history?symbol=BTCUSDT&limit=20"
        newest = (await call(sim, page))["data"]
        older = (await call(sim, f"{page}&idLessThan={newest[-1]['tradeId']}"))["data"]
        assert [row["tradeId"] for row in newest + older] == true[:-41:-1]
        assert all(int(later["ts"]) <= int(earlier["ts"]) for earlier, later in pairwise(newest + older))
        start = older[-1]["ts"]
        assert all(row["ts"] >= start for row in (await call(sim, f"{page}&startTime={start}"))["data"])
        book = (await call(sim, f"{REST}/spot/market/orderbook?symbol=BTCUSDT&type=step0&limit=150"))["data"]
        assert [book["bids"], book["asks"]] == [sim.book("bitget", "BTC/USDT", 150)[name] for name in ("bids", "asks")]
        assert (await call(sim, f"{REST}/spot/market/tickers?symbol=BTCUSDT"))["data"][0]["lastPr"]
        assert (await call(sim, f"{REST}/public/time"))["data"]["serverTime"]


async def test_rest_errors_and_their_counts() -> None:
    async with simulator.serve(["bitget"], facts={"bitget": {"rest": 2}}) as sim:
        status, body, _ = await get(sim, f"{REST}/spot/market/fills?symbol=FOOUSDT")
        assert (status, json.loads(body)["code"]) == (400, "40034")
        answers = [await get(sim, f"{REST}/public/time") for _ in range(3)]
        assert [(status, json.loads(body)["code"]) for status, body, _ in answers] == [(200, "00000")] * 2 + [(429, "429")]
        assert (await get(sim, f"{REST}/nonsense"))[0] == 404
        await eventually(lambda: sim.stats()["bitget"]["limited"] == {"rest": 1})
