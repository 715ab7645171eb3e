"""Bitstamp: one channel a frame, a book of REST and deltas that only a time aligns, `1E-8`, the call to reconnect."""

import json
from decimal import Decimal
from itertools import pairwise
from typing import cast

import pytest

import simulator
from simulator import Simulator
from simulator.bitstamp_feeds import LiveTrades
from simulator.instruments import QUIET_PAIR
from simulator.market import Market, Step, Trade
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded, refused

WS = "ws.bitstamp.net"
REST = "www.bitstamp.net/api/v2"
BOOK = f"{REST}/order_book/btcusd/"


async def subscribe(client: Client, channel: str, event: str = "bts:subscribe") -> None:
    await client.send({"event": event, "data": {"channel": channel}})


async def data(client: Client, channel: str) -> Json:
    """The data of the next frame of a channel."""
    return (await client.until(lambda message: message["channel"] == channel and message["event"][:4] != "bts:"))["data"]


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self, snapshot: Json) -> None:
        self.last = int(snapshot["microtimestamp"])
        self.sides = {name: dict(snapshot[name]) for name in ("bids", "asks")}

    def apply(self, delta: Json) -> None:
        if int(delta["microtimestamp"]) <= self.last:
            return
        self.last = int(delta["microtimestamp"])
        for name, side in self.sides.items():
            for price, amount in delta[name]:
                if Decimal(amount):
                    side[price] = amount
                else:
                    side.pop(price, None)

    def rows(self) -> dict[str, list[list[str]]]:
        return {
            name: [list(row) for row in sorted(side.items(), key=lambda row: Decimal(row[0]), reverse=name == "bids")]
            for name, side in self.sides.items()
        }


def truth(sim: Simulator) -> Json:
    book = sim.book("bitstamp", "BTC/USD", 1 << 20)
    return {name: book[name] for name in ("bids", "asks")}


async def test_book_ends_equal_to_the_truth() -> None:
    async with simulator.serve(["bitstamp"], seed=8, rate=5000) as sim, connect(sim, WS) as client:
        await subscribe(client, "diff_order_book_btcusd")
        waiting = [await data(client, "diff_order_book_btcusd") for _ in range(3)]
        snapshot = await call(sim, BOOK)
        assert int(snapshot["microtimestamp"]) >= int(waiting[0]["microtimestamp"])
        book = Book(snapshot)
        for delta in waiting:
            book.apply(delta)
        for _ in range(8):
            book.apply(await data(client, "diff_order_book_btcusd"))
        sim.pause()
        while book.rows() != truth(sim):
            book.apply(await data(client, "diff_order_book_btcusd"))


async def test_times_of_a_channel_rise_and_deletions_are_padded() -> None:
    async with simulator.serve(["bitstamp"], rate=3000, time_scale=5) as sim, connect(sim, WS) as client:
        await subscribe(client, "diff_order_book_ethusd")
        frames = [await data(client, "diff_order_book_ethusd") for _ in range(20)]
        times = [int(frame["microtimestamp"]) for frame in frames]
        assert all(later > earlier for earlier, later in pairwise(times))
        assert [int(frame["timestamp"]) for frame in frames] == [time // 1_000_000 for time in times]
        rows = [row for frame in frames for row in frame["bids"] + frame["asks"]]
        assert "0.00000000" in {amount for _, amount in rows}
        assert {(len(price.partition(".")[2]), len(amount.partition(".")[2])) for price, amount in rows} == {(2, 8)}


async def test_rest_lags_and_shows_the_same_book_for_a_while() -> None:
    async with simulator.serve(["bitstamp"], rate=5000) as sim, connect(sim, WS) as client:
        before = await call(sim, BOOK)
        await subscribe(client, "diff_order_book_btcusd")
        first = await data(client, "diff_order_book_btcusd")
        lagging = await call(sim, BOOK)
        assert lagging == before
        assert int(lagging["microtimestamp"]) < int(first["microtimestamp"]), "deltas in between are lost: ask again"
        exchange = sim.exchanges["bitstamp"]
        due = exchange.clock.now() + 1.0
        await eventually(lambda: exchange.clock.now() > due)
        assert int((await call(sim, BOOK))["microtimestamp"]) > int(first["microtimestamp"])


async def test_stale_snapshot_is_older_than_the_subscription() -> None:
    async with simulator.serve(["bitstamp"], rate=5000) as sim, connect(sim, WS) as client:
        await subscribe(client, "diff_order_book_btcusd")
        first = await data(client, "diff_order_book_btcusd")
        sim.arm("bitstamp:stale_snapshot")
        old, new = await call(sim, BOOK), await call(sim, BOOK)
        assert int(old["microtimestamp"]) < int(first["microtimestamp"]) <= int(new["microtimestamp"])
        assert old["bids"] != new["bids"]


async def test_trades_are_the_true_ones_and_their_ids_are_not_consecutive() -> None:
    async with simulator.serve(["bitstamp"], seed=9, rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "live_trades_ethusd")
        rows = [await data(client, "live_trades_ethusd") for _ in range(150)]
        true: Json = sim.trades("bitstamp", "ETH/USD", after=rows[0]["id"] - 1)[: len(rows)]
        for row, trade in zip(rows, true, strict=True):
            assert (row["id"], row["price_str"]) == (trade["id"], trade["price"])
            assert Decimal(row["amount_str"]) == Decimal(trade["amount"])
            assert (row["type"], int(row["microtimestamp"])) == (trade["side"] == "sell", trade["timestamp"] // 1000 * 1000)
        assert rows[0]["id"] + len(rows) < rows[-1]["id"]
        past = await call(sim, f"{REST}/transactions/ethusd/?time=hour")
        assert {row["tid"] for row in past} > {str(row["id"]) for row in rows}
        assert [int(row["tid"]) for row in past] == sorted((int(row["tid"]) for row in past), reverse=True)


async def test_the_smallest_amount_is_in_exponent_form() -> None:
    real = json.loads(next(recorded("bitstamp/spot-single.ndjson", '"1E-8"')))
    async with simulator.serve(["bitstamp"]) as sim:
        market = cast("Market", sim.exchanges["bitstamp"].market("BTC/USD"))
        trade = Trade(1, 60_000, 1, True, 1_000_000, 1, 1)
        (text,) = LiveTrades("live_trades_btcusd", market).note(Step([], [trade], 1, 1_000_000))
        ours = json.loads(text)
        assert ours["data"]["amount_str"] == real["data"]["amount_str"] == "1E-8"
        assert ours["data"]["amount"] == real["data"]["amount"] == 1e-8


@pytest.mark.parametrize(
    ("channel", "file", "contains"),
    [
        ("live_trades_ethusd", "spot-session.ndjson", '"event":"trade"'),
        ("diff_order_book_ethusd", "spot-session.ndjson", '"channel":"diff_order_book_ethusd","event":"data"'),
        ("order_book_ethusd", "spot-single.ndjson", '"channel":"order_book_btcusd"'),
        ("live_trades_ethusd", "spot-session.ndjson", '"bts:subscription_succeeded"'),
    ],
)
async def test_channels_have_the_recorded_form(channel: str, file: str, contains: str) -> None:
    real = next(raw for raw in recorded(f"bitstamp/{file}", contains) if whole(json.loads(raw)))
    event = json.loads(real)["event"]
    async with simulator.serve(["bitstamp"], rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, channel)
        await client.until(lambda message: message["event"] == event and whole(message))
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


def whole(message: Json) -> bool:
    """Both sides have rows, or it is no book."""
    return [] not in (message["data"].get("bids"), message["data"].get("asks"))


async def test_books_of_a_hundred_levels_are_whole_and_say_nothing_at_first() -> None:
    async with simulator.serve(["bitstamp"], rate=3000) as sim, connect(sim, WS) as client:
        quiet = QUIET_PAIR.replace("/", "").lower()
        for channel in (f"order_book_{quiet}", f"diff_order_book_{quiet}", "detail_order_book_btcusd", "order_book_btcusd"):
            await subscribe(client, channel)
        frame = await data(client, "order_book_btcusd")
        sim.pause()
        true = {name: side[:100] for name, side in truth(sim).items()}
        while {name: frame[name] for name in true} != true:
            frame = await data(client, "order_book_btcusd")
        detail = next(json.loads(text)["data"] for text in client.texts if '"detail_order_book_btcusd","event":"data"' in text)
        assert {len(row) for row in detail["bids"] + detail["asks"]} == {3}
        silent = [text for text in client.texts if quiet in text]
        assert all("subscription_succeeded" in text for text in silent)
        assert len(silent) == 2


async def test_acknowledgements_and_heartbeat() -> None:
    async with simulator.serve(["bitstamp"], rate=0.001) as sim, connect(sim, WS) as client:
        await subscribe(client, "live_trades_btcusd")
        assert await client.text() == '{"event":"bts:subscription_succeeded","channel":"live_trades_btcusd","data":{}}'
        await client.send({"event": "bts:heartbeat"})
        assert await client.text() == '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}'
        await subscribe(client, "live_trades_btcusd", "bts:unsubscribe")
        assert await client.text() == '{"event":"bts:unsubscription_succeeded","channel":"live_trades_btcusd","data":{}}'
        assert sim.stats()["bitstamp"]["subscriptions"] == 0


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ("nonsense", None, "Incorrect JSON format."),
        (["x"], None, "Incorrect JSON format."),
        ({"event": "bts:dance", "data": {"channel": "live_trades_btcusd"}}, None, "Bad subscription string."),
        ({"event": "bts:subscribe", "data": {"channel": ["live_trades_btcusd"]}}, None, "Bad subscription string."),
        ({"event": "bts:subscribe", "data": {"channel": "live_trades_BTCUSD"}}, None, "Invalid channel provided."),
        ({"event": "bts:subscribe", "data": {"channel": "live_trades_btc/usd"}}, None, "Invalid channel provided."),
        ({"event": "bts:subscribe", "data": {"channel": "ticker_btcusd"}}, None, "Invalid channel provided."),
        ({"event": "bts:subscribe", "data": {"channel": "private-my_orders_btcusd"}}, 4009, "Connection is unauthorized."),
    ],
)
async def test_errors_leave_the_socket_open(message: Json, code: int | None, text: str) -> None:
    async with simulator.serve(["bitstamp"]) as sim, connect(sim, WS) as client:
        await client.send(message)
        assert await client.json() == {"event": "bts:error", "channel": "", "data": {"code": code, "message": text}}
        await subscribe(client, "live_trades_btcusd")
        await client.until(lambda message: message["event"] == "bts:subscription_succeeded")


async def test_unknown_markets_are_acknowledged_and_silent() -> None:
    async with simulator.serve(["bitstamp"], rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "live_trades_foousd")
        await subscribe(client, "live_trades_btcusd")
        for _ in range(20):
            await data(client, "live_trades_btcusd")
        assert sum("foousd" in text for text in client.texts) == 1


async def test_one_subscription_too_many_and_a_frame_too_long_end_the_connection() -> None:
    async with simulator.serve(["bitstamp"], facts={"bitstamp": {"topics": 2}}) as sim:
        async with connect(sim, WS) as client:
            for market in ("btcusd", "ethusd", "ethusd", "xrpusd"):
                await subscribe(client, f"live_trades_{market}")
            assert (await client.closed()).code == 1006
            assert sum("subscription_succeeded" in text for text in client.texts) == 3
        async with connect(sim, WS) as client:
            await subscribe(client, "live_trades_" + "x" * 700)
            end = await client.closed()
            assert (end.code, end.reason) == (1009, "read limited at 513 bytes")
        assert sim.stats()["bitstamp"]["limited"] == {"topics": 1, "frame": 1}


async def test_a_planned_end_is_announced() -> None:
    facts = {"bitstamp": {"session": 0.5, "notice": 0.3}}
    async with simulator.serve(["bitstamp"], facts=facts) as sim, connect(sim, WS) as client:
        call_back = await client.json()
        assert call_back == {"event": "bts:request_reconnect", "channel": "", "data": ""}
        await client.closed()


async def test_unanswered_pings_end_the_connection() -> None:
    facts = {"bitstamp": {"ping": 0.1, "pong": 0.2}}
    async with simulator.serve(["bitstamp"], facts=facts) as sim:
        async with connect(sim, WS, autoping=False) as client:
            end = False
            while not end:
                end = (await client.socket.receive(5.0)).type.name in {"CLOSE", "CLOSED", "CLOSING"}
        async with connect(sim, WS) as client:
            exchange = sim.exchanges["bitstamp"]
            due = exchange.clock.now() + 0.6
            await subscribe(client, "live_trades_btcusd")
            while exchange.clock.now() < due:
                await client.text()


@pytest.mark.parametrize("path", ["www.bitstamp.net", f"{WS}/ws"])
async def test_only_one_address_is_a_socket(path: str) -> None:
    async with simulator.serve(["bitstamp"]) as sim:
        assert (await refused(sim, path)).status == 404


async def test_rest_answers_and_their_forms() -> None:
    async with simulator.serve(["bitstamp"]) as sim:
        sim.pause()
        for path, file, contains in (
            ("order_book/btcusd", "spot-session.ndjson", '"bids": [["3802.90"'),
            ("transactions/btcusd/?time=hour", "spot-rest.ndjson", '"tid"'),
            ("ticker/btcusd/", "spot-rest.ndjson", '"open_24"'),
            ("ohlc/btcusd/?step=60&limit=5", "spot-rest.ndjson", '"ohlc"'),
        ):
            real, (_, ours, _) = next(recorded(f"bitstamp/{file}", contains)), await get(sim, f"{REST}/{path}")
            assert keys(json.loads(ours)) == keys(json.loads(real)), path
            assert ('": "' in ours) == ("order_book" in path)
        pairs = json.loads(next(recorded("bitstamp/spot-instruments.ndjson", '"url_symbol"')))
        assert list((await call(sim, f"{REST}/trading-pairs-info/"))[0]) == list(pairs[0])
        rows = {row["market_symbol"]: row for row in await call(sim, f"{REST}/markets/")}
        assert (rows["btcusd"]["counter_decimals"], rows["btcusd"]["base_decimals"]) == (0, 8)
        assert (rows["btcusd"]["trading"], rows["lunausd"]["trading"]) == ("Enabled", "Disabled")
        book = await call(sim, BOOK)
        assert {name: book[name] for name in ("bids", "asks")} == truth(sim)
        assert {len(row) for row in (await call(sim, f"{BOOK}?group=2"))["bids"]} == {3}
        candles = (await call(sim, f"{REST}/ohlc/btcusd/?step=60&limit=5&exclude_current_candle=true"))["data"]["ohlc"]
        assert [int(later["timestamp"]) - int(earlier["timestamp"]) for earlier, later in pairwise(candles)] == [60] * 4
        assert await call(sim, f"{REST}/ticker/")


def keys(value: Json) -> Json:
    """The keys of an answer in order, lists by their first row."""
    if isinstance(value, list):
        return [keys(value[0])]
    return [(key, keys(item)) for key, item in value.items()] if isinstance(value, dict) else None


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("order_book/foousd/", 404, '{"error":"Not found."}'),
        ("nonsense/", 404, "Not found."),
        ("order_book/btcusd/?group=7", 400, '"code":"API0005"'),
        ("transactions/btcusd/?time=week", 400, "Invalid time."),
        ("ohlc/btcusd/?step=61", 400, "Invalid step or limit."),
    ],
)
async def test_rest_errors(path: str, status: int, words: str) -> None:
    async with simulator.serve(["bitstamp"]) as sim:
        answer = await get(sim, f"{REST}/{path}")
        assert (answer[0], words in answer[1]) == (status, True)


async def test_rest_is_limited() -> None:
    async with simulator.serve(["bitstamp"], facts={"bitstamp": {"rest": 2}}) as sim:
        answers = [await get(sim, f"{REST}/ticker/btcusd/") for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 429]
        assert json.loads(answers[2][1])["code"] == "400.002"
        assert sim.stats()["bitstamp"]["limited"] == {"rest": 1}
