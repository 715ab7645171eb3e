"""Bybit: ten topics a frame, one answer for all of them, a book chained by `u` that a snapshot may replace at any time."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest

import simulator
from simulator.bybit import Bybit
from simulator.bybit_feeds import REPEAT, RESTART, TRADE_IDS, Best, OrderBook
from simulator.instruments import ACTIVITY, QUIET_PAIR
from simulator.market import Market
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded, refused
from tests.simulator.test_market import BEGIN

WS = "stream.bybit.com/v5/public/spot"
REST = "api.bybit.com/v5/market"


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self) -> None:
        self.last = self.seq = 0
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}

    def apply(self, message: Json) -> None:
        data = message["data"]
        if message["type"] == "snapshot":
            self.sides = {"b": {}, "a": {}}
        else:
            assert data["u"] == self.last + 1, "gap"
        assert data["u"] == 1 or data["seq"] > self.seq
        for name, side in self.sides.items():
            for price, size in data[name]:
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size
        self.last, self.seq = data["u"], data["seq"]

    def rows(self) -> list[list[list[str]]]:
        ranked = [sorted(self.sides[name].items(), key=lambda row: float(row[0]), reverse=name == "b") for name in self.sides]
        return [[list(row) for row in side] for side in ranked]


async def subscribe(client: Client, *topics: str, identity: str | None = None) -> None:
    request: Json = {} if identity is None else {"req_id": identity}
    await client.send(request | {"op": "subscribe", "args": list(topics)})


def of(topic: str) -> Callable[[Json], bool]:
    return lambda message: message.get("topic") == topic


def answer(message: Json) -> bool:
    return "success" in message


@pytest.mark.parametrize("depth", [50, 200, 1000])
async def test_book_chains_and_ends_equal_to_the_truth_without_truncation(depth: int) -> None:
    topic = f"orderbook.{depth}.BTCUSDT"
    async with simulator.serve(["bybit"], seed=8, rate=8000, time_scale=4) as sim, connect(sim, WS) as client:
        await subscribe(client, topic)
        book = Book()
        for _ in range(12):
            book.apply(await client.until(of(topic)))
            assert [len(side) for side in book.rows()] == [depth, depth]
        sim.pause()
        true = sim.book("bybit", "BTC/USDT", depth)
        while book.rows() != [true["bids"], true["asks"]]:
            book.apply(await client.until(of(topic)))


async def test_a_late_subscriber_meets_the_chain_of_the_others() -> None:
    topic = "orderbook.200.BTCUSDT"
    async with simulator.serve(["bybit"], seed=9, rate=8000, time_scale=4) as sim, connect(sim, WS) as early:
        await subscribe(early, topic)
        first, second = Book(), Book()
        for _ in range(3):
            first.apply(await early.until(of(topic)))
        async with connect(sim, WS) as late:
            await subscribe(late, topic)
            for _ in range(4):
                second.apply(await late.until(of(topic)))
            while first.last < second.last:
                first.apply(await early.until(of(topic)))
            assert first.sides == second.sides


def market() -> Market:
    return Market(Bybit.listing.instruments[0], "1", BEGIN)


def test_a_book_starts_anew_now_and_then_and_a_snapshot_replaces_it() -> None:
    m = market()
    feed = OrderBook(50, 0.02, "orderbook.50.BTCUSDT", m)
    book = Book()
    frames = list(feed.first(m.sequence, m.book, BEGIN))
    while len(frames) < RESTART + 5:
        feed.note(m.step(BEGIN + len(frames)))
        frames += feed.flush(BEGIN + len(frames))
    messages = [json.loads(frame) for frame in frames]
    for message in messages:
        book.apply(message)
    assert [number for number, message in enumerate(messages) if message["type"] == "snapshot"] == [0, RESTART]
    assert [message["data"]["u"] for message in messages[RESTART:]] == [1, 2, 3, 4, 5]
    price, amount = m.instrument.price_text, m.instrument.amount_text
    assert book.rows()[0] == [[price(ticks), amount(lots)] for ticks, lots in m.book.top(m.book.bids, 50)]


def test_the_best_price_is_sent_again_after_three_seconds_under_the_same_number() -> None:
    m = market()
    feed = Best("orderbook.1.BTCUSDT", m)
    (shown,) = feed.first(m.sequence, m.book, BEGIN)
    assert not feed.flush(BEGIN + REPEAT - 1)
    (again,) = feed.flush(BEGIN + REPEAT)
    assert json.loads(shown)["data"] == json.loads(again)["data"]
    best = (m.book.bids[-1], m.book.asks[-1])
    while (m.book.bids[-1], m.book.asks[-1]) == best:
        m.step(BEGIN)
    (moved,) = feed.flush(BEGIN + REPEAT + 1)
    assert json.loads(moved)["data"]["u"] == json.loads(again)["data"]["u"] + 1
    assert json.loads(moved)["type"] == "snapshot"


async def test_trades_are_the_true_ones_and_share_a_cross_sequence() -> None:
    async with simulator.serve(["bybit"], seed=10, rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "publicTrade.ETHUSDT")
        messages = [await client.until(of("publicTrade.ETHUSDT")) for _ in range(80)]
        rows = [row for message in messages for row in message["data"]]
        true = sim.trades("bybit", "ETH/USDT", after=int(rows[0]["i"]) - 1)[: len(rows)]
        assert [(int(r["i"]), r["p"], r["v"], r["S"].lower(), r["T"]) for r in rows] == [
            (t["id"], t["price"], t["amount"], t["side"], cast("int", t["timestamp"]) // 1000) for t in true
        ]
        assert all(len({row["seq"] for row in message["data"]}) == 1 for message in messages)
        assert any(len(message["data"]) > 1 for message in messages)
        assert all(later["data"][0]["seq"] > earlier["data"][0]["seq"] for earlier, later in pairwise(messages))
        sim.pause()
        past = (await call(sim, f"{REST}/recent-trade?category=spot&symbol=ETHUSDT"))["result"]["list"]
        assert len(past) == 60
        assert [int(row["execId"]) for row in past] == [t["id"] for t in reversed(sim.trades("bybit", "ETH/USDT")[-60:])]
        seqs = {row["i"]: str(row["seq"]) for row in rows}
        assert all(seqs.get(row["execId"], row["seq"]) == row["seq"] for row in past)
        assert int(past[0]["execId"]) > TRADE_IDS


@pytest.mark.parametrize(
    ("topic", "contains"),
    [
        ("publicTrade.BTCUSDT", '"publicTrade.BTCUSDT","ts"'),
        ("orderbook.200.BTCUSDT", '"type":"snapshot","data":{"s"'),
        ("orderbook.200.BTCUSDT", '"type":"delta"'),
        ("tickers.BTCUSDT", '"tickers.BTCUSDT","ts"'),
    ],
)
async def test_topics_have_the_recorded_form(topic: str, contains: str) -> None:
    real = json.loads(next(recorded("bybit/spot-session.ndjson", contains)))
    filled = _filled(real)
    async with simulator.serve(["bybit"], rate=3000, time_scale=2) as sim, connect(sim, WS) as client:
        await subscribe(client, topic)
        await client.until(lambda m: m.get("topic") == topic and m["type"] == real["type"] and _filled(m) == filled)
        assert form(client.texts[-1]) == form(json.dumps(real))
        assert " " not in client.texts[-1]


def _filled(message: Json) -> list[bool]:
    data = message["data"]
    return [bool(data[name]) for name in ("b", "a")] if "b" in data else []


async def test_numbers_are_in_their_shortest_form() -> None:
    async with simulator.serve(["bybit"], rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "orderbook.200.BTCUSDT")
        data = (await client.until(of("orderbook.200.BTCUSDT")))["data"]
        tokens = [token for row in data["b"] + data["a"] for token in row]
        assert not any("." in token and token[-1] in "0." for token in tokens)
        assert any("." not in token for token in tokens)


async def test_answers_have_the_recorded_form() -> None:
    ack, pong, error = recorded("bybit/control-frames.ndjson", "success")
    async with simulator.serve(["bybit"]) as sim, connect(sim, WS) as client:
        await subscribe(client, "orderbook.50.BTCUSDT", identity="sub1")
        await client.until(answer)
        assert form(client.texts[-1]) == form(ack)
        await client.send({"req_id": "p1", "op": "ping"})
        await client.until(answer)
        assert form(client.texts[-1]) == form(pong)
        assert json.loads(client.texts[-1])["op"] == "ping"
        await subscribe(client, "orderbook.50.NOSUCHSYM")
        ours = await client.until(answer)
        assert form(client.texts[-1]) == form(error)
        assert ours["ret_msg"] == json.loads(error)["ret_msg"]


async def test_first_data_comes_before_the_acknowledgement_or_after_it() -> None:
    orders: set[tuple[bool, bool]] = set()
    async with simulator.serve(["bybit"], rate=0.001) as sim:
        for _ in range(12):
            async with connect(sim, WS) as client:
                await subscribe(client, "tickers.BTCUSDT")
                orders.add(("topic" in await client.json(), "topic" in await client.json()))
    assert orders == {(True, False), (False, True)}


@pytest.mark.parametrize(
    ("topics", "text"),
    [
        ([f"publicTrade.{base}USDT" for base in (*ACTIVITY, "ADA", "BNB", "LTC", "XLM", "LINK", "DOT")], "args size >10"),
        (["publicTrade.BTCUSDT", "orderbook.50.FOOUSDT"], "Invalid symbol :[orderbook.50.FOOUSDT]"),
        (["publicTrade.BTCUSDT", "orderbook.500.BTCUSDT"], "Invalid topic: orderbook.500.BTCUSDT"),
        (["orderbook.50.btcusdt"], "Invalid symbol :[orderbook.50.btcusdt]"),
        (["publicTrade.ETHUSDT", "tickers.ETHUSDT"], "error:already subscribed,topic:tickers.ETHUSDT"),
    ],
)
async def test_one_bad_topic_fails_the_whole_frame(topics: list[str], text: str) -> None:
    async with simulator.serve(["bybit"]) as sim, connect(sim, WS) as client:
        await subscribe(client, "tickers.ETHUSDT", identity="1")
        await client.until(answer)
        await subscribe(client, *topics, identity="2")
        refusal = await client.until(lambda message: message.get("req_id") == "2")
        assert (refusal["success"], refusal["ret_msg"], refusal["op"]) == (False, text, "subscribe")
        assert sim.stats()["bybit"]["subscriptions"] == 1


async def test_the_topics_of_a_connection_have_a_length() -> None:
    async with simulator.serve(["bybit"]) as sim, connect(sim, WS) as client:
        await subscribe(client, "x" * 21_001)
        assert not (await client.until(answer))["success"]
        assert sim.stats()["bybit"]["limited"] == {"topics": 1}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("hello", "Failed to decode incoming data:"),
        ({"op": "dance"}, "error:invalid op"),
        ({"op": "subscribe"}, "Params Error"),
    ],
)
async def test_bad_requests(message: Json, text: str) -> None:
    async with simulator.serve(["bybit"]) as sim, connect(sim, WS) as client:
        await client.send(message)
        refusal = await client.json()
        assert not refusal["success"]
        assert refusal["ret_msg"].startswith(text)
        await client.send({"op": "ping"})
        assert list(await client.json()) == ["success", "ret_msg", "conn_id", "op"], "no req_id where none was given"


async def test_unsubscribe_is_acknowledged_and_the_quiet_pair_is_quiet() -> None:
    quiet = QUIET_PAIR.replace("/", "")
    async with simulator.serve(["bybit"], rate=1000) as sim, connect(sim, WS) as client:
        await subscribe(client, f"orderbook.50.{quiet}", "publicTrade.BTCUSDT")
        for _ in range(10):
            await client.until(of("publicTrade.BTCUSDT"))
        assert sum(quiet in text for text in client.texts) == 1, "a snapshot, and nothing more"
        await client.send({"op": "unsubscribe", "args": [f"orderbook.50.{quiet}", "publicTrade.BTCUSDT"]})
        assert (await client.until(lambda m: m.get("op") == "unsubscribe"))["success"]
        assert sim.stats()["bybit"]["subscriptions"] == 0


async def test_a_client_that_says_nothing_is_cut_off_though_data_flow() -> None:
    async with simulator.serve(["bybit"], rate=500, facts={"bybit": {"idle": 1.0}}) as sim, connect(sim, WS) as client:
        await subscribe(client, "publicTrade.BTCUSDT")
        assert (await client.closed()).code == 1006
        assert any("publicTrade" in text for text in client.texts)


async def test_only_spot_is_here_and_connections_are_limited() -> None:
    async with simulator.serve(["bybit"], facts={"bybit": {"connects": 2}}) as sim:
        assert (await refused(sim, "stream.bybit.com/v5/public/linear")).status == 404
        async with connect(sim, WS):
            assert (await refused(sim, WS)).status == 429


async def test_full_book_is_bridged_by_rest() -> None:
    topic = "orderbook.full.BTCUSDT"
    async with simulator.serve(["bybit"], seed=4, rate=4000, time_scale=4) as sim, connect(sim, WS) as client:
        await subscribe(client, topic)
        waiting = [await client.until(of(topic)) for _ in range(3)]
        assert {message["type"] for message in waiting} == {"delta"}
        snapshot = (await call(sim, f"{REST}/full_orderbook?category=spot&symbol=BTCUSDT"))["result"]
        book = Book()
        book.apply({"type": "snapshot", "data": snapshot})
        assert len(book.sides["b"]) > 1200
        assert book.last >= waiting[-1]["data"]["u"]
        sim.pause()
        true = sim.book("bybit", "BTC/USDT", 5000)
        while book.rows() != [true["bids"], true["asks"]]:
            message = await client.until(of(topic))
            if message["data"]["u"] > book.last:
                book.apply(message)


async def test_stale_snapshots_break_the_chain() -> None:
    topic = "orderbook.50.BTCUSDT"
    faults = ["bybit:stale_snapshot"]
    async with simulator.serve(["bybit"], rate=4000, faults=faults) as sim, connect(sim, WS) as client:
        await subscribe(client, topic)
        old = (await client.until(of(topic)))["data"]
        delta = await client.until(of(topic))
        assert delta["type"] == "delta"
        assert delta["data"]["u"] > old["u"] + 1
        await eventually(sim.fired)


async def test_rest_answers() -> None:
    real = next(recorded("bybit/instruments.ndjson", '"category":"spot"'))
    async with simulator.serve(["bybit"]) as sim:
        body = (await get(sim, f"{REST}/instruments-info?category=spot&status=Trading&limit=1000"))[1]
        assert form(body)[0] == form(real)[0]
        ours, theirs = json.loads(body), json.loads(real)
        assert list(ours) == list(theirs)
        assert list(ours["result"]) == list(theirs["result"]), "one page, no cursor"
        rows = {row["symbol"]: row for row in ours["result"]["list"]}
        for row in theirs["result"]["list"]:
            if row["symbol"] in {"BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT", "SHIBUSDT", "BTCEUR"}:
                mine = rows[row["symbol"]]
                assert list(mine) == list(row)
                assert mine["priceFilter"] == row["priceFilter"]
                assert mine["lotSizeFilter"].keys() == row["lotSizeFilter"].keys()
                assert mine["lotSizeFilter"]["basePrecision"] == row["lotSizeFilter"]["basePrecision"]
        assert "LUNAUSDT" not in rows
        assert len((await call(sim, f"{REST}/instruments-info?category=spot"))["result"]["list"]) == len(rows) + 3
        best = (await call(sim, f"{REST}/orderbook?category=spot&symbol=BTCUSDT"))["result"]
        assert (len(best["a"]), len(best["b"])) == (1, 1)
        assert list(best) == ["s", "a", "b", "ts", "u", "seq", "cts"]
        assert (await call(sim, f"{REST}/tickers?category=spot&symbol=BTCUSDT"))["result"]["list"][0]["bid1Price"]
        assert (await call(sim, f"{REST}/time"))["result"]["timeNano"].endswith("000")


async def test_rest_errors_and_their_count() -> None:
    async with simulator.serve(["bybit"], facts={"bybit": {"rest": 3}}) as sim:
        for query in ("category=spot&symbol=FOOUSDT", "category=moon&symbol=BTCUSDT", "symbol=BTCUSDT"):
            assert (await call(sim, f"{REST}/recent-trade?{query}"))["retCode"] == 10001
        status, body, _ = await get(sim, f"{REST}/time")
        assert (status, body) == (403, "access too frequent")
        await eventually(lambda: sim.stats()["bybit"]["limited"] == {"rest": 1})
