"""Kraken: the checksum of the sheet, a truncated book that fits it at every frame, answers per symbol, recorded forms."""

import asyncio
import json
import re
import zlib

import pytest

import simulator
from simulator import Simulator
from simulator.instruments import QUIET_PAIR
from simulator.kraken_feeds import checksum
from simulator.market import Book as TrueBook
from tests.simulator.support import Client, Json, call, connect, decimals, form, get, recorded, refused

WS = "ws.kraken.com/v2"
REST = "api.kraken.com/0/public"
# The vector of the sheet (section 7): BTC/USD, precision 1 and 8, asks then bids, best first.
ASKS = {
    "45285.2": "0.00100000", "45286.4": "1.54571953", "45286.6": "1.54571109", "45289.6": "1.54560911",
    "45290.2": "0.15890660", "45291.8": "1.54553491", "45294.7": "0.04454749", "45296.1": "0.35380000",
    "45297.5": "0.09945542", "45299.5": "0.18772827",
}  # fmt: skip
BIDS = {
    "45283.5": "0.10000000", "45283.4": "1.54582015", "45282.1": "0.10000000", "45281.0": "0.10000000",
    "45280.3": "1.54592586", "45279.0": "0.07990000", "45277.6": "0.03310103", "45277.5": "0.30000000",
    "45277.3": "1.54602737", "45276.6": "0.15445238",
}  # fmt: skip
VECTOR = 3310070434


class Book:
    """A book as section 7 of the sheet builds it, from the untouched number tokens."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}

    def apply(self, text: str) -> None:
        """Apply a book frame, cut to the depth, compare the checksum."""
        if '"type":"snapshot"' in text:
            self.bids.clear()
            self.asks.clear()
        for name, side in (("bids", self.bids), ("asks", self.asks)):
            listed = re.search(rf'"{name}":\[(.*?)\]', text)
            assert listed
            for price, amount in re.findall(r'"price":([0-9.]+),"qty":([0-9.]+)', listed[1]):
                if float(amount) == 0:
                    side.pop(price, None)
                else:
                    side[price] = amount
            for price in self.ranked(name)[self.depth :]:
                del side[price]
        check = re.search(r'"checksum":(\d+)', text)
        assert check
        assert self.checksum() == int(check[1])

    def ranked(self, name: str) -> list[str]:
        return sorted(self.bids if name == "bids" else self.asks, key=float, reverse=name == "bids")

    def checksum(self) -> int:
        asks = [(price, self.asks[price]) for price in self.ranked("asks")[:10]]
        bids = [(price, self.bids[price]) for price in self.ranked("bids")[:10]]
        return zlib.crc32("".join(digits(token) for row in asks + bids for token in row).encode())

    def rows(self, name: str) -> list[list[str]]:
        side = self.bids if name == "bids" else self.asks
        return [[price, side[price]] for price in self.ranked(name)]


def digits(token: str) -> str:
    return token.replace(".", "").lstrip("0")


async def subscribe(client: Client, channel: str, *symbols: str, **params: Json) -> None:
    await client.send({"method": "subscribe", "params": {"channel": channel, "symbol": list(symbols), **params}, "req_id": 7})


def test_checksum_vector_of_the_sheet() -> None:
    client = Book(10)
    client.asks, client.bids = ASKS, BIDS
    assert client.checksum() == VECTOR
    levels = {-int(digits(p)): int(digits(q)) for p, q in client.asks.items()}
    levels |= {int(digits(p)): int(digits(q)) for p, q in client.bids.items()}
    assert checksum(TrueBook(levels)) == VECTOR


def test_client_book_fits_every_recorded_checksum() -> None:
    frames = list(recorded("kraken/spot-v2-book.ndjson", '"channel":"book","type"'))
    book = Book(10)
    for text in frames:
        book.apply(text)
    assert len(frames) > 50


@pytest.mark.parametrize("depth", [10, 25, 100, 1000])
async def test_book_fits_at_every_frame_and_ends_equal_to_the_truth(depth: int) -> None:
    async with simulator.serve(["kraken"], seed=5, rate=6000) as sim, connect(sim, WS) as client:
        await subscribe(client, "book", "BTC/USD", depth=depth)
        book = Book(depth)
        count = 0
        while count < 300:
            text = await client.text()
            if '"channel":"book","type"' in text:
                book.apply(text)
                count += 1
        sim.pause()
        true = sim.book("kraken", "BTC/USD", depth)
        while [book.rows("bids"), book.rows("asks")] != [true["bids"], true["asks"]]:
            text = await client.text()
            if '"channel":"book","type"' in text:
                book.apply(text)
        assert len(book.bids) == depth


async def test_levels_pushed_out_of_the_window_are_not_deleted() -> None:
    async with simulator.serve(["kraken"], seed=6, rate=10_000) as sim, connect(sim, WS) as client:
        await subscribe(client, "book", "BTC/USD", depth=10)
        book, overfull, came_back = Book(10), 0, 0
        for _ in range(400):
            text = await client.text()
            if '"channel":"book","type":"update"' not in text:
                if '"type":"snapshot"' in text:
                    book.apply(text)
                continue
            before = set(book.bids) | set(book.asks)
            data = json.loads(text)["data"][0]
            gone = sum(row["qty"] == 0 for row in data["bids"] + data["asks"])
            new = len(set(re.findall(r'"price":([0-9.]+)', text)) - before)
            overfull += new > gone
            came_back += bool(gone and new)
            book.apply(text)
        assert overfull > 10
        assert came_back > 10


async def test_trades_are_the_true_ones_one_order_a_frame() -> None:
    async with simulator.serve(["kraken"], seed=7, rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "trade", "ETH/USD", snapshot=True)
        first = await client.until(lambda message: message.get("channel") == "trade")
        assert (first["type"], len(first["data"])) == ("snapshot", 50)
        last = first["data"][-1]["trade_id"]
        rows: list[Json] = []
        widest = 0
        while len(rows) < 150:
            data = (await client.until(lambda message: message.get("channel") == "trade"))["data"]
            assert len({row["side"] for row in data}) == 1
            widest = max(widest, len(data))
            rows += data
        assert [row["trade_id"] for row in rows] == list(range(last + 1, last + 1 + len(rows)))
        true = sim.trades("kraken", "ETH/USD", after=last)[: len(rows)]
        assert [(r["side"], f"{r['price']:.2f}", f"{r['qty']:.8f}") for r in rows] == [
            (t["side"], t["price"], t["amount"]) for t in true
        ]
        assert widest > 1


@pytest.mark.parametrize(
    ("channel", "params", "file", "contains"),
    [
        ("book", {"depth": 10}, "spot-v2-book.ndjson", '"channel":"book","type":"snapshot"'),
        ("book", {"depth": 10}, "spot-v2-book.ndjson", '"channel":"book","type":"update"'),
        ("trade", {}, "spot-v2-trade.ndjson", "BTC/USDT"),
        ("ticker", {}, "fixtures.ndjson", '"channel":"ticker","type"'),
        ("ohlc", {"interval": 1}, "fixtures.ndjson", '"channel":"ohlc","type"'),
    ],
)
async def test_channels_have_the_recorded_form(channel: str, params: Json, file: str, contains: str) -> None:
    real = next(recorded(f"kraken/{file}", contains))
    kind = json.loads(real)["type"]
    async with simulator.serve(["kraken"], rate=3000, time_scale=20) as sim, connect(sim, WS) as client:
        await subscribe(client, channel, "BTC/USD", **params)
        sides = [bool(json.loads(real)["data"][0].get(side)) for side in ("bids", "asks")]

        def same(message: Json) -> bool:
            if message.get("channel") != channel or message.get("type") != kind:
                return False
            return [bool(message["data"][0].get(side)) for side in ("bids", "asks")] == sides

        await client.until(same)
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


async def test_control_frames_have_the_recorded_form() -> None:
    status = next(recorded("kraken/spot-v2-book.ndjson", '"channel":"status"'))
    ack = next(recorded("kraken/spot-v2-book.ndjson", '"method":"subscribe","result"'))
    error = next(recorded("kraken/spot-v2-errors.ndjson", "depth"))
    async with simulator.serve(["kraken"]) as sim, connect(sim, WS) as client:
        assert form(await client.text()) == form(status)
        await client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 10}})
        assert form(await client.text()) == form(ack)
        await client.send({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 27}})
        await client.until(lambda message: "error" in message)
        assert form(client.texts[-1]) == form(error)
        assert json.loads(client.texts[-1])["error"] == json.loads(error)["error"]


async def test_numbers_are_padded_to_the_precision_of_the_pair() -> None:
    async with simulator.serve(["kraken"], rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "book", "BTC/USD", depth=100)
        await client.until(lambda message: message.get("channel") == "book")
        rows = re.findall(r'"price":([0-9.]+),"qty":([0-9.]+)', client.texts[-1])
        assert {decimals(price) for price, _ in rows} == {1}
        assert {decimals(amount) for _, amount in rows} == {8}
        await client.until(lambda message: message.get("type") == "update")
        while '"qty":0.00000000' not in client.texts[-1]:
            await client.text()


async def test_one_answer_per_symbol_and_a_bad_one_harms_no_other() -> None:
    async with simulator.serve(["kraken"]) as sim, connect(sim, WS) as client:
        await subscribe(client, "trade", "BTC/USD", "FOO/USD", "BTCUSD", "ETH/USD", "BTC/USD")
        answers = [await client.until(lambda message: "success" in message) for _ in range(5)]
        assert [answer["success"] for answer in answers] == [True, False, False, True, False]
        assert answers[1]["error"] == "Currency pair not supported FOO/USD"
        assert answers[1]["symbol"] == "FOO/USD"
        assert answers[2]["error"] == "Currency pair not in ISO 4217-A3 format BTCUSD"
        assert answers[4]["error"] == "Already subscribed"
        assert all(answer["req_id"] == 7 for answer in answers)


async def test_a_second_depth_needs_an_unsubscribe() -> None:
    async with simulator.serve(["kraken"], rate=1000) as sim, connect(sim, WS) as client:
        await subscribe(client, "book", "BTC/USD", depth=10)
        await client.until(lambda message: message.get("channel") == "book")
        await subscribe(client, "book", "BTC/USD", depth=100)
        assert (await client.until(lambda message: message.get("success") is False))["error"] == "Already subscribed"
        params = {"channel": "book", "symbol": ["BTC/USD"], "depth": 10}
        await client.send({"method": "unsubscribe", "params": params})
        await client.until(lambda message: message.get("method") == "unsubscribe" and message["success"])
        await subscribe(client, "book", "BTC/USD", depth=100)
        snapshot = await client.until(lambda message: message.get("channel") == "book")
        assert len(snapshot["data"][0]["bids"]) == 100


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ("nonsense", "Malformed request"),
        ({"method": "dance"}, "Event(s) not found"),
        ({"method": "subscribe", "params": {"channel": "gossip", "symbol": ["BTC/USD"]}}, "Event(s) not found"),
        ({"method": "subscribe", "params": {"channel": "trade"}}, "Malformed request"),
        (
            {"method": "subscribe", "params": {"channel": "ohlc", "symbol": ["BTC/USD"], "interval": 7}},
            "Subscription ohlc interval not supported",
        ),
    ],
)
async def test_bad_requests(request_: Json, error: str) -> None:
    async with simulator.serve(["kraken"]) as sim, connect(sim, WS) as client:
        await client.send(request_)
        assert (await client.until(lambda message: "error" in message))["error"] == error


async def test_ping_is_answered_and_heartbeats_come_once_subscribed() -> None:
    async with simulator.serve(["kraken"], facts={"kraken": {"heartbeat": 0.05}}) as sim, connect(sim, WS) as client:
        await client.send({"method": "ping", "req_id": 101})
        pong = await client.until(lambda message: message.get("method") == "pong")
        assert form(json.dumps(pong)) == form(next(recorded("kraken/fixtures.ndjson", "pong")))
        assert not any("heartbeat" in text for text in client.texts)
        await subscribe(client, "trade", QUIET_PAIR)
        for _ in range(3):
            await client.until(lambda message: message == {"channel": "heartbeat"})


async def test_a_maintenance_leaves_heartbeats_until_it_is_over() -> None:
    async with simulator.serve(["kraken"], rate=2000, facts={"kraken": {"heartbeat": 0.05}}) as sim, connect(sim, WS) as client:
        await subscribe(client, "trade", "BTC/USD")
        await client.until(lambda message: message.get("channel") == "trade")
        sim.arm("kraken:maintenance=600")
        await client.until(lambda message: message.get("channel") == "status")
        assert '"system":"maintenance"' in client.texts[-1]
        assert (await refused(sim, WS)).status == 503
        assert "EService:Unavailable" in (await get(sim, f"{REST}/Time"))[1]
        await client.until(lambda message: message == {"channel": "heartbeat"})
        sim.clear()
        while (message := await client.json()) == {"channel": "heartbeat"}:
            pass
        assert message["data"][0]["system"] == "online"


async def test_silence_ends_a_connection_without_subscription() -> None:
    async with simulator.serve(["kraken"], facts={"kraken": {"mute": 0.2}}) as sim, connect(sim, WS) as client:
        assert (await client.closed()).code == 1000


async def test_too_many_messages_are_answered() -> None:
    async with simulator.serve(["kraken"], facts={"kraken": {"messages": 3}}) as sim, connect(sim, WS) as client:
        for _ in range(4):
            await client.send({"method": "ping"})
        await client.until(lambda message: message == {"Error": "Exceeded msg rate"})
        assert not client.socket.closed


async def test_instrument_channel_agrees_with_asset_pairs() -> None:
    async with simulator.serve(["kraken"]) as sim, connect(sim, WS) as client:
        await client.send({"method": "subscribe", "params": {"channel": "instrument"}})
        data = (await client.until(lambda message: message.get("channel") == "instrument"))["data"]
        pairs = {pair["symbol"]: pair for pair in data["pairs"]}
        rows = (await call(sim, f"{REST}/AssetPairs"))["result"]
        names = {row["wsname"].replace("XBT", "BTC").replace("XDG", "DOGE"): row for row in rows.values()}
        assert names.keys() == pairs.keys()
        for symbol, row in names.items():
            assert (row["pair_decimals"], row["status"]) == (pairs[symbol]["price_precision"], pairs[symbol]["status"])
        assert pairs["LUNA/USD"]["status"] == "cancel_only"
        assert rows["XXBTZUSD"]["altname"] == "XBTUSD"
        assert "XBTUSDT" in rows
        assert rows["XDGUSD"]["base"] == "XXDG"


async def test_rest_has_the_recorded_form() -> None:
    async with simulator.serve(["kraken"], facts={"kraken": {"rest": 100}}) as sim:
        for name in ("Time", "SystemStatus", "Trades", "OHLC"):
            query = "?pair=XBTUSDT" if name in {"Trades", "OHLC"} else ""
            texts = {
                "Time": "rfc1123",
                "SystemStatus": '"status":"online","timestamp"',
                "Trades": '"last":"',
                "OHLC": '"last":17',
            }
            real = next(recorded("kraken/spot-rest.ndjson", texts[name]))
            assert form((await get(sim, f"{REST}/{name}{query}"))[1]) == form(real), name
        trades = (await call(sim, f"{REST}/Trades?pair=XBTUSDT"))["result"]["XBTUSDT"]
        assert decimals(trades[0][0]) == 5


async def test_trades_by_since_are_complete_and_do_not_repeat() -> None:
    async with simulator.serve(["kraken"], facts={"kraken": {"rest": 100}}) as sim:
        sim.pause()
        since, ids = "0", []
        for _ in range(100):
            result = (await call(sim, f"{REST}/Trades?pair=XBTUSD&since={since}&count=7"))["result"]
            page = [row[6] for row in result["XXBTZUSD"]]
            ids += page
            since = result["last"]
            if not page:
                break
        assert ids == [trade["id"] for trade in sim.trades("kraken", "BTC/USD")]


async def test_rest_limit_and_errors_come_in_the_body() -> None:
    async with simulator.serve(["kraken"]) as sim:
        status, body, _ = await get(sim, f"{REST}/Depth?pair=FOOUSD")
        assert (status, body) == (200, '{"error":["EQuery:Unknown asset pair"]}')
        answers = await asyncio.gather(*(get(sim, f"{REST}/Time") for _ in range(8)))
        assert [answer[0] for answer in answers] == [200] * 8
        assert '{"error":["EGeneral:Too many requests"]}' in {answer[1] for answer in answers}
        assert stats(sim)["limited"]


def stats(sim: Simulator) -> dict[str, object]:
    return sim.stats()["kraken"]
