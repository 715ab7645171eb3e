"""MEXC: protobuf in binary frames, a failure that says code 0, thirty streams, versions that chain from a REST snapshot."""

import base64
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

import simulator
from simulator.instruments import ASSETS, QUIET_PAIR
from simulator.protobuf import integer, message, text
from tests.simulator.support import CAPTURES, Client, Json, call, connect, get

WS = "wbs-api.mexc.com/ws"
REST = "api.mexc.com/api/v3"
DEALS = "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"
DEPTH = "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"
TOUCH = "spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT"
LIMIT = "spot@public.limit.depth.v3.api.pb@BTCUSDT@5"
KLINE = "spot@public.kline.v3.api.pb@BTCUSDT@Min1"
DAY = "spot@public.miniTicker.v3.api.pb@BTCUSDT@UTC+8"
LEVEL = ("price", "quantity")
BODIES: dict[int, tuple[str, ...]] = {
    303: ("asks", "bids", "eventType", "version", "lastOrderCreateTime"),
    308: ("interval", "start", "open", "close", "high", "low", "volume", "amount", "end"),
    309: ("symbol", "price", "rate", "zonedRate", "high", "low", "volume", "quantity", "a", "b", "c", "d"),
    313: ("asks", "bids", "eventType", "fromVersion", "toVersion", "lastOrderCreateTime"),
    314: ("deals", "eventType"),
    315: ("bidPrice", "bidQuantity", "askPrice", "askQuantity", "version", "lastOrderCreateTime"),
}
WRAPPER = {1: "channel", 3: "symbol", 4: "symbolId", 5: "createTime", 6: "sendTime"}
ROWS = {"asks": LEVEL, "bids": LEVEL, "deals": ("price", "quantity", "tradeType", "time", "tradeId")}


def number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, Json]]:
    """Number and value of the fields of a message, in order."""
    at = 0
    while at < len(data):
        tag, at = number(data, at)
        value, at = number(data, at)
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            assert tag & 7 == 0, "the venue has no other wire types"
            yield tag >> 3, value


def named(data: bytes, names: tuple[str, ...]) -> dict[str, Json]:
    """A message by the names of its fields; repeated ones are lists."""
    found: dict[str, Json] = {}
    for field, value in fields(data):
        name = names[field - 1]
        if name in ROWS:
            found.setdefault(name, []).append(named(value, ROWS[name]))
        else:
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def decoded(data: bytes) -> dict[str, Json]:
    """A data frame as section 6 of the sheet reads it."""
    frame: dict[str, Json] = {}
    for field, value in fields(data):
        if field in BODIES:
            frame["body"] = named(value, BODIES[field])
        else:
            frame[WRAPPER[field]] = value.decode() if isinstance(value, bytes) else value
    return frame


def shape(frame: Json) -> Json:
    """Keys in order and kinds of values; lists by their first row."""
    if isinstance(frame, dict):
        return [(key, shape(value)) for key, value in frame.items()]
    return shape(frame[0]) if isinstance(frame, list) else type(frame).__name__


def captured(contains: str) -> bytes:
    """The first captured frame of a channel."""
    for file in ("spot-frames.ndjson", "spot-frames-2.ndjson", "spot-aggre-reencoded.ndjson"):
        path = CAPTURES / "mexc" / file
        if not path.exists():
            pytest.skip(f"no captures at {CAPTURES}")
        for line in path.read_text().splitlines():
            data = base64.b64decode(json.loads(line).get("b64", ""))
            if contains.encode() in data:
                return data
    raise AssertionError(contains)


async def subscribe(client: Client, *names: str, identity: int = 1) -> Json:
    await client.send({"method": "SUBSCRIPTION", "params": list(names), "id": identity})
    return await client.until(lambda answer: answer["id"] == identity)


async def data(client: Client, name: str) -> dict[str, Json]:
    """The next frame of a channel."""
    while True:
        raw = (await client.text()).encode("latin-1")
        if raw[0] == 0x0A and (frame := decoded(raw))["channel"] == name:
            return frame


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self, snapshot: Json) -> None:
        self.last = snapshot["lastUpdateId"]
        self.sides = {name: {float(p): float(q) for p, q in snapshot[name]} for name in ("bids", "asks")}
        self.begun = False

    def apply(self, delta: Json) -> None:
        first, last = int(delta["fromVersion"]), int(delta["toVersion"])
        if last <= self.last:
            return
        assert first == self.last + 1 if self.begun else first <= self.last + 1, "gap"
        self.begun = True
        for name, side in self.sides.items():
            for row in delta.get(name, []):
                price, quantity = float(row["price"]), float(row["quantity"])
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)
        self.last = last

    def top(self, name: str, depth: int) -> list[tuple[float, float]]:
        return sorted(self.sides[name].items(), reverse=name == "bids")[:depth]


def test_the_encoder_writes_the_frames_of_the_sheet() -> None:
    """Section 6 has two frames byte by byte."""
    deal = text(1, "93220.00") + text(2, "0.04438243") + integer(3, 2) + integer(4, 1736409765051)
    deals = message(1, deal, text(5, "505979017439002624X1")) + text(2, DEALS.removesuffix("@BTCUSDT"))
    frame = text(1, DEALS) + text(3, "BTCUSDT") + integer(6, 1736409765052) + message(314, deals)
    assert frame.hex() == (
        "0a2f73706f74407075626c69632e61676772652e6465616c732e76332e6170692e7062403130306d7340425443555344541a0742544355534454"
        "30bca9d9d0c432d213600a350a0839333232302e3030120a302e3034343338323433180220bba9d9d0c4322a143530353937393031373433393030"
        "323632345831122773706f74407075626c69632e61676772652e6465616c732e76332e6170692e7062403130306d73"
    )
    bid = message(2, text(1, "92877.58"), text(2, "0.00000000"))
    versions = text(4, "10589632359") + text(5, "10589632359")
    depth = message(313, bid, text(3, DEPTH.removesuffix("@BTCUSDT")), versions)
    frame = text(1, DEPTH) + text(3, "BTCUSDT") + integer(6, 1736411507002) + depth
    assert frame.hex() == (
        "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a0742544355534454"
        "30bad2c3d1c432ca135b12160a0839323837372e3538120a302e30303030303030301a2773706f74407075626c69632e61676772652e6465707468"
        "2e76332e6170692e7062403130306d73220b31303538393633323335392a0b3130353839363332333539"
    )


def test_the_encoder_leaves_out_what_is_zero() -> None:
    assert (integer(3, 0), text(2, ""), message(1)) == (b"", b"", b"\x0a\x00")
    assert integer(1, -1) == b"\x08" + b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize("name", [DEALS, LIMIT, TOUCH, KLINE])
async def test_channels_have_the_recorded_form(name: str) -> None:
    real = decoded(captured(name))
    async with simulator.serve(["mexc"], rate=3000, time_scale=20) as sim, connect(sim, WS) as client:
        await subscribe(client, name)
        assert shape(await data(client, name)) == shape(real)


async def test_depth_has_the_documented_form() -> None:
    real = decoded(captured("aggre.depth"))
    async with simulator.serve(["mexc"], rate=3000, time_scale=20) as sim, connect(sim, WS) as client:
        await subscribe(client, DEPTH)
        ours = await data(client, DEPTH)
        assert list(ours) == list(real)
        assert list(ours["body"]) == [*real["body"], "lastOrderCreateTime"], "added in 2026"


async def test_book_ends_equal_to_the_truth() -> None:
    async with simulator.serve(["mexc"], seed=21, rate=3000, time_scale=4) as sim, connect(sim, WS) as client:
        await subscribe(client, DEPTH)
        waiting = [(await data(client, DEPTH))["body"] for _ in range(2)]
        book = Book(await call(sim, f"{REST}/depth?symbol=BTCUSDT&limit=1000"))
        assert len(book.sides["bids"]) == 1000
        for delta in waiting:
            book.apply(delta)
        for _ in range(10):
            book.apply((await data(client, DEPTH))["body"])
        sim.pause()
        true = sim.book("mexc", "BTC/USDT", 100)
        while book.last < int(str(true["sequence"])):
            book.apply((await data(client, DEPTH))["body"])
        for name in ("bids", "asks"):
            rows: Json = true[name]
            assert book.top(name, 100) == [(float(p), float(q)) for p, q in rows]


async def follow(client: Client, book: Book, frames: int) -> None:
    for _ in range(frames):
        book.apply((await data(client, DEPTH))["body"])


@pytest.mark.parametrize("fault", ["stale_snapshot", "gap"])
async def test_a_stale_snapshot_and_a_gap_break_the_chain(fault: str) -> None:
    async with simulator.serve(["mexc"], rate=3000, time_scale=4) as sim, connect(sim, WS) as client:
        await subscribe(client, DEPTH)
        await data(client, DEPTH)
        if fault == "stale_snapshot":
            sim.arm("mexc:stale_snapshot")
        book = Book(await call(sim, f"{REST}/depth?symbol=BTCUSDT&limit=1000"))
        if fault == "gap":
            book.apply((await data(client, DEPTH))["body"])
            sim.arm("mexc:gap")
        with pytest.raises(AssertionError):
            await follow(client, book, 20)
        assert [record["fault"] for record in sim.fired()] == [fault]


async def test_deals_are_the_true_ones_several_in_a_frame() -> None:
    async with simulator.serve(["mexc"], seed=22, rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, DEALS)
        frames = [(await data(client, DEALS))["body"]["deals"] for _ in range(10)]
        rows = [row for frame in frames for row in frame]
        ids = [[int(part.removesuffix("X0")) for part in row["tradeId"].split("_")] for row in rows]
        true = sim.trades("mexc", "BTC/USDT", after=ids[0][0] - 1)[: len(rows)]
        assert [
            (i[0], float(r["price"]), float(r["quantity"]), r["tradeType"], r["time"]) for i, r in zip(ids, rows, strict=True)
        ] == [
            (
                t["id"],
                float(str(t["price"])),
                float(str(t["amount"])),
                1 if t["side"] == "buy" else 2,
                int(str(t["timestamp"])) // 1000,
            )
            for t in true
        ]
        assert any(len(frame) > 1 for frame in frames)
        assert all(second == first + 1 for first, second in ids)
        assert any(later[0] > earlier[0] + 2 for earlier, later in pairwise(ids)), "not consecutive"


async def test_numbers_are_trimmed_in_deals_and_padded_in_books() -> None:
    async with simulator.serve(["mexc"], rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, DEALS, LIMIT)
        limit = (await data(client, LIMIT))["body"]
        assert {len(row["price"].partition(".")[2]) for row in limit["asks"] + limit["bids"]} == {2}
        assert {len(row["quantity"].partition(".")[2]) for row in limit["asks"] + limit["bids"]} == {8}
        rows = [row for _ in range(10) for row in (await data(client, DEALS))["body"]["deals"]]
        assert not any("." in row[name] and row[name][-1] in ".0" for row in rows for name in ("price", "quantity"))


async def test_views_and_tickers_show_the_market() -> None:
    async with simulator.serve(["mexc"], rate=2000) as sim, connect(sim, WS) as client:
        await subscribe(client, DAY)
        day = (await data(client, DAY))["body"]
        assert float(day["low"]) <= float(day["price"]) <= float(day["high"])
        sim.pause()
        true: Json = sim.book("mexc", "BTC/USDT", 5)
        await subscribe(client, LIMIT, identity=2)
        limit = (await data(client, LIMIT))["body"]
        assert {name: [[row["price"], row["quantity"]] for row in limit[name]] for name in ("bids", "asks")} == {
            "bids": true["bids"],
            "asks": true["asks"],
        }
        assert limit["version"] == str(true["sequence"])
        await subscribe(client, TOUCH, identity=3)
        touch = (await data(client, TOUCH))["body"]
        assert [float(touch[name]) for name in ("bidPrice", "bidQuantity")] == [float(text) for text in true["bids"][0]]
        assert [float(touch[name]) for name in ("askPrice", "askQuantity")] == [float(text) for text in true["asks"][0]]


async def test_ack_repeats_the_names_and_pong_is_text() -> None:
    async with simulator.serve(["mexc"]) as sim, connect(sim, WS) as client:
        assert await subscribe(client, DEALS, DEPTH, identity=7) == {"id": 7, "code": 0, "msg": f"{DEALS},{DEPTH}"}
        await client.send({"method": "PING"})
        await client.until(lambda answer: answer == {"id": 0, "code": 0, "msg": "PONG"})
        await client.send({"method": "UNSUBSCRIPTION", "params": [DEALS, DEPTH], "id": 8})
        await client.until(lambda answer: answer == {"id": 8, "code": 0, "msg": f"{DEALS},{DEPTH}"})
        assert sim.stats()["mexc"]["subscriptions"] == 0
        await client.send("nonsense")
        await client.until(lambda answer: answer["msg"] == "msg format invalid")


@pytest.mark.parametrize(
    "name",
    [
        DEALS.replace("BTCUSDT", "FOOUSDT"),
        DEALS.replace("BTCUSDT", "btcusdt"),
        "spot@public.deals.v3.api.pb@BTCUSDT",
        "spot@public.increase.depth.v3.api.pb@BTCUSDT",
        LIMIT.replace("@5", "@7"),
        "nonsense",
    ],
)
async def test_a_failure_says_code_0(name: str) -> None:
    async with simulator.serve(["mexc"]) as sim, connect(sim, WS) as client:
        answer = await subscribe(client, name)
        assert answer == {"id": 1, "code": 0, "msg": f"Not Subscribed successfully! [{name}].  Reason： Blocked! "}
        mixed = await subscribe(client, DEALS, name, identity=2)
        assert mixed["msg"].startswith(f"{DEALS},Not Subscribed successfully! [{name}]")
        assert await data(client, DEALS)


async def test_thirty_streams_a_connection() -> None:
    names = [f"spot@public.aggre.deals.v3.api.pb@100ms@{base}USDT" for base in list(ASSETS)[:31]]
    async with simulator.serve(["mexc"]) as sim, connect(sim, WS) as client:
        answer = await subscribe(client, *names)
        assert answer["msg"].startswith(",".join(names[:30]) + ",Not Subscribed successfully!")
        assert f"[{names[30]}]" in answer["msg"]
        assert (await subscribe(client, names[3], identity=2))["msg"] == names[3], "what is there already does not count"
        assert sim.stats()["mexc"]["limited"] == {"topics": 1}


async def test_without_subscription_or_without_traffic_the_connection_ends() -> None:
    facts = {"mexc": {"unused": 0.2, "mute": 0.5, "messages": 10**6}}
    async with simulator.serve(["mexc"], rate=0.001, facts=facts) as sim:
        clock = sim.exchanges["mexc"].clock
        async with connect(sim, WS) as client:
            await subscribe(client, "nonsense")
            await client.closed()
        began = clock.now()
        async with connect(sim, WS) as client:
            await subscribe(client, DEALS.replace("BTCUSDT", QUIET_PAIR.replace("/", "")))
            while clock.now() < began + 0.8:
                await client.send({"method": "PING"})
                await client.until(lambda answer: answer["msg"] == "PONG")
            await client.closed()
            assert clock.now() > began + 1.0, "a PONG is traffic too"


async def test_too_many_messages_end_the_connection() -> None:
    async with simulator.serve(["mexc"], facts={"mexc": {"messages": 3}}) as sim, connect(sim, WS) as client:
        for _ in range(4):
            await client.send({"method": "PING"})
        assert (await client.closed()).code == 1008


async def test_instruments() -> None:
    async with simulator.serve(["mexc"]) as sim:
        rows = {row["symbol"]: row for row in (await call(sim, f"{REST}/exchangeInfo"))["symbols"]}
        row = rows["BTCUSDT"]
        assert (row["status"], row["quotePrecision"], row["baseSizePrecision"]) == ("1", 2, "0.00000001")
        assert (rows["LUNAUSDT"]["status"], rows["FTTUSDT"]["status"]) == ("2", "3")
        assert (rows["LEOUSDT"]["status"], rows["LEOUSDT"]["isSpotTradingAllowed"]) == ("1", False), "live, but not by API"
        assert {"BTCUSDC", "BTCEUR", "ETHBTC"} <= rows.keys()
        names = (await call(sim, f"{REST}/defaultSymbols"))["data"]
        assert "BTCUSDT" in names
        assert "LEOUSDT" not in names


async def test_trades_by_rest_have_no_ids() -> None:
    async with simulator.serve(["mexc"]) as sim:
        sim.pause()
        rows = await call(sim, f"{REST}/trades?symbol=BTCUSDT&limit=20")
        true = sim.trades("mexc", "BTC/USDT")[-20:]
        assert [(r["id"], r["price"], r["qty"], r["isBuyerMaker"]) for r in reversed(rows)] == [
            (None, t["price"], t["amount"], t["side"] == "sell") for t in true
        ]
        begin, end = rows[-1]["time"], rows[0]["time"]
        span = await call(sim, f"{REST}/aggTrades?symbol=BTCUSDT&startTime={begin}&endTime={end}")
        assert [row["p"] for row in span[:20]] == [row["price"] for row in rows]
        assert {row[name] for row in span for name in "afl"} == {None}
        assert (await get(sim, f"{REST}/aggTrades?symbol=BTCUSDT&startTime={begin}"))[0] == 400


async def test_rest_answers_errors_and_windows() -> None:
    async with simulator.serve(["mexc"], facts={"mexc": {"rest": 3}}) as sim:
        for path in ("klines?symbol=BTCUSDT&interval=60m", "ticker/24hr?symbol=BTCUSDT", "ticker/bookTicker", "time", "ping"):
            assert await call(sim, f"{REST}/{path}") is not None
        status, body, _ = await get(sim, f"{REST}/depth?symbol=FOOUSDT")
        assert (status, json.loads(body)["code"]) == (400, -1121)
        answers = [await get(sim, f"{REST}/depth?symbol=BTCUSDT") for _ in range(14)]
        assert [status for status, _, _ in answers] == [200] * 2 + [429] * 10 + [418] * 2, "each call has its own window"
        assert int(answers[-1][2]["retry-after"]) > 0
