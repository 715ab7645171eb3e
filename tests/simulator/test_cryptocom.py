"""Crypto.com: heartbeats that must be answered, a book chained by pu, acknowledgements of three forms."""

import json
from itertools import pairwise

import pytest

import simulator
from simulator.cryptocom import Cryptocom
from simulator.instruments import ASSETS, QUIET_PAIR
from tests.simulator.support import Client, Json, call, connect, form, get, recorded

WS = "stream.crypto.com/exchange/v1/market"
REST = "api.crypto.com/exchange/v1/public"
DELTAS: Json = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 10}


async def subscribe(client: Client, *channels: str, identity: int = 1, **params: Json) -> None:
    await client.send({"id": identity, "method": "subscribe", "params": {"channels": list(channels), **params}})


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late in its first second a connection begins, requests are left: their limit has tests of its own."""
    monkeypatch.setattr(Cryptocom, "facts", Cryptocom.facts.changed({"messages": 100_000}))


def has_data(message: Json) -> bool:
    return "data" in message.get("result", {})


async def data(client: Client, subscription: str) -> Json:
    """The next result of a subscription that has data."""
    message = await client.until(lambda m: has_data(m) and m["result"]["subscription"] == subscription)
    return message["result"]


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self) -> None:
        self.last = 0
        self.sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def apply(self, result: Json) -> None:
        row = result["data"][0]
        changes = row
        if result["channel"] == "book":
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert row["pu"] == self.last, "gap"
            changes = row["update"]
        for name, side in self.sides.items():
            for price, size, orders in changes[name]:
                assert (size == "0") == (orders == "0")
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size
        self.last = row["u"]

    def rows(self, name: str) -> list[list[str]]:
        ranked = sorted(self.sides[name].items(), key=lambda row: float(row[0]), reverse=name == "bids")
        return [list(row) for row in ranked]


async def test_book_chains_and_ends_equal_to_the_truth_without_truncation() -> None:
    async with simulator.serve(["cryptocom"], seed=31, rate=4000) as sim, connect(sim, WS) as client:
        await subscribe(client, "book.BTC_USD.50", **DELTAS)
        book = Book()
        for _ in range(100):
            book.apply(await data(client, "book.BTC_USD.50"))
            assert len(book.rows("bids")) == len(book.rows("asks")) == 50
        sim.pause()
        true = sim.book("cryptocom", "BTC/USD", 50)
        while [book.rows("bids"), book.rows("asks")] != [true["bids"], true["asks"]]:
            book.apply(await data(client, "book.BTC_USD.50"))


async def test_a_late_subscriber_meets_the_chain_of_the_others() -> None:
    async with simulator.serve(["cryptocom"], seed=32, rate=4000) as sim, connect(sim, WS) as early:
        await subscribe(early, "book.BTC_USD.10", **DELTAS)
        first, second = Book(), Book()
        for _ in range(10):
            first.apply(await data(early, "book.BTC_USD.10"))
        async with connect(sim, WS) as late:
            await subscribe(late, "book.BTC_USD.10", **DELTAS)
            for _ in range(10):
                second.apply(await data(late, "book.BTC_USD.10"))
            while first.last < second.last:
                first.apply(await data(early, "book.BTC_USD.10"))
            assert first.sides == second.sides


async def follow(client: Client, book: Book, frames: int) -> None:
    for _ in range(frames):
        book.apply(await data(client, "book.BTC_USD.10"))


@pytest.mark.parametrize("fault", ["stale_snapshot", "gap", "swap"])
async def test_faults_of_books_break_the_chain(fault: str) -> None:
    async with simulator.serve(["cryptocom"], rate=4000, faults=[f"cryptocom:{fault}"]) as sim, connect(sim, WS) as client:
        await subscribe(client, "book.BTC_USD.10", **DELTAS)
        book = Book()
        with pytest.raises(AssertionError, match="gap"):
            await follow(client, book, 50)
        assert [record["fault"] for record in sim.fired()] == [fault]


async def test_trades_are_the_true_ones_after_a_batch_of_recent_ones() -> None:
    async with simulator.serve(["cryptocom"], seed=33, rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "trade.ETH_USD", identity=9)
        batch = await client.until(has_data)
        assert (batch["id"], len(batch["result"]["data"])) == (9, 100), "the first data carry the id of the request"
        ids = [int(row["d"]) for row in batch["result"]["data"]]
        assert ids == sorted(ids, reverse=True)
        rows: list[Json] = batch["result"]["data"][::-1]
        while len(rows) < 300:
            message = await client.until(has_data)
            assert message["id"] == -1
            assert len({row["i"] for row in message["result"]["data"]}) == 1
            rows += message["result"]["data"][::-1]
        true = sim.trades("cryptocom", "ETH/USD", after=int(rows[0]["d"]) - 1)[: len(rows)]
        assert [(int(r["d"]), r["p"], r["q"], r["s"].lower(), r["t"]) for r in rows] == [
            (t["id"], t["price"], t["amount"], t["side"], int(str(t["timestamp"])) // 1000) for t in true
        ]
        assert len(rows[0]["d"]) == 19
        assert int(rows[0]["d"]) > 1 << 53
        assert any(one["m"] == two["m"] for one, two in pairwise(rows)), "rows of one match share its id"


@pytest.mark.parametrize(
    ("channel", "contains"),
    [
        ("trade.BTC_USD", '"trade"'),
        ("ticker.BTC_USD", '"oi"'),
        ("book.BTC_USD.10", '"depth"'),
        ("candlestick.1m.BTC_USD", '"candlestick"'),
    ],
)
async def test_channels_have_the_recorded_form(channel: str, contains: str) -> None:
    real = next(recorded("cryptocom/spot-frames.ndjson", contains))
    async with simulator.serve(["cryptocom"], rate=3000, time_scale=20) as sim, connect(sim, WS) as client:
        await subscribe(client, channel)
        await client.until(lambda message: has_data(message) and message["id"] == -1)
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


async def test_acknowledgements_are_the_recorded_ones() -> None:
    book, ticker = (
        next(recorded("cryptocom/spot-frames.ndjson", text)) for text in ('"channel":"book.', '"channel":"ticker"}}')
    )
    async with simulator.serve(["cryptocom"], rate=0.001) as sim, connect(sim, WS) as client:
        await subscribe(client, "book.BTC_USD.10", "ticker.BTC_USD")
        acks = [text for text in [await client.text() for _ in range(4)] if not has_data(json.loads(text))]
        assert acks == [book, ticker]
        await client.send({"id": 2, "method": "unsubscribe", "params": {"channels": ["book.BTC_USD.10"]}})
        await client.until(lambda m: m == {"id": 2, "method": "unsubscribe", "code": 0, "channel": "book.BTC_USD.10"})
        assert sim.stats()["cryptocom"]["subscriptions"] == 1


async def test_a_delta_has_the_documented_form() -> None:
    async with simulator.serve(["cryptocom"], rate=3000) as sim, connect(sim, WS) as client:
        await subscribe(client, "book.BTC_USD.50", **DELTAS)
        await data(client, "book.BTC_USD.50")
        result = await data(client, "book.BTC_USD.50")
        row = result["data"][0]
        assert (result["channel"], result["depth"]) == ("book.update", 50)
        assert list(row) == ["update", "t", "tt", "u", "pu", "cs"]
        assert list(row["update"]) == ["asks", "bids"]
        assert -(1 << 31) <= row["cs"] < 1 << 31


async def test_a_book_that_does_not_change_says_so() -> None:
    name = QUIET_PAIR.replace("/", "_")
    async with simulator.serve(["cryptocom"], time_scale=20) as sim, connect(sim, WS) as client:
        await subscribe(client, f"book.{name}.10", **DELTAS)
        last = (await data(client, f"book.{name}.10"))["data"][0]["u"]
        for _ in range(2):
            row = (await data(client, f"book.{name}.10"))["data"][0]
            assert (row["update"], row["pu"], row["u"]) == ({"asks": [], "bids": []}, last, last)


async def test_whole_books_where_no_deltas_are_asked_for() -> None:
    async with simulator.serve(["cryptocom"], rate=3000, time_scale=10) as sim, connect(sim, WS) as client:
        await subscribe(client, "book.BTC_USD.150")
        for _ in range(3):
            result = await data(client, "book.BTC_USD.150")
            assert result["channel"] == "book"
            assert len(result["data"][0]["bids"]) == 150
        sim.pause()
        true = sim.book("cryptocom", "BTC/USD", 150)
        await subscribe(client, "book.BTC_USD.150", identity=2)
        await client.until(lambda message: message["id"] == 2)
        row = (await data(client, "book.BTC_USD.150"))["data"][0]
        assert [[price, size] for price, size, _ in row["asks"]] == true["asks"]


@pytest.mark.parametrize(
    ("channel", "params", "text"),
    [
        ("trade.FOO_USD", {}, "Unknown symbol"),
        ("trade.btc_usd", {}, "Unknown symbol"),
        ("nonsense.BTC_USD", {}, "Unrecognized channel"),
        ("book.BTC_USD.25", DELTAS, "Invalid depth"),
        ("book.BTC_USD.150", DELTAS, "Unsupported depth/interval combination"),
        ("book.BTC_USD.50", DELTAS | {"book_update_frequency": 20}, "Unsupported depth/interval combination"),
        ("book.BTC_USD.50", {"book_subscription_type": "DELTAS"}, "Invalid book_subscription_type"),
    ],
)
async def test_a_bad_channel_is_refused_and_harms_no_other(channel: str, params: Json, text: str) -> None:
    async with simulator.serve(["cryptocom"]) as sim, connect(sim, WS) as client:
        await subscribe(client, channel, "ticker.BTC_USD", identity=4, **params)
        error = await client.json()
        assert error == {"id": 4, "method": "subscribe", "code": 40003, "message": text, "channel": channel}
        await data(client, "ticker.BTC_USD")


async def test_other_errors() -> None:
    async with simulator.serve(["cryptocom"]) as sim, connect(sim, WS) as client:
        await client.send("nonsense")
        await client.send({"id": 1, "method": "public/nope"})
        assert await client.json() == {"id": 1, "method": "public/nope", "code": 40003, "message": "No such method"}
        await client.send({"id": 2, "method": "subscribe", "params": {}})
        assert (await client.json())["code"] == 40004


async def test_subscriptions_of_one_connection_are_limited() -> None:
    names = [f"{kind}.{base}_USD" for kind in ("trade", "ticker") for base in list(ASSETS)[:20]]
    facts = {"cryptocom": {"topics": 39}}
    async with simulator.serve(["cryptocom"], facts=facts) as sim, connect(sim, WS) as client:
        await subscribe(client, *names)
        error = await client.until(lambda message: message["code"])
        assert (error["code"], error["channel"]) == (40107, names[-1])
        assert sim.stats()["cryptocom"]["limited"] == {"topics": 1}


async def test_too_many_requests_are_answered_with_an_error() -> None:
    facts = {"cryptocom": {"messages": 3}}
    async with simulator.serve(["cryptocom"], facts=facts) as sim, connect(sim, WS) as client:
        for number in range(4):
            await client.send({"id": number, "method": "public/nope"})
        await client.until(lambda message: message["code"] == 42901)


async def test_the_first_second_has_only_what_is_left_of_it() -> None:
    async with simulator.serve(["cryptocom"], facts={"cryptocom": {"messages": 100}}) as sim:
        stamp = sim.exchanges["cryptocom"].clock.stamp
        before = stamp()
        async with connect(sim, WS) as client:
            first, last = before % 1_000_000 // 10_000, (stamp() - before + before % 1_000_000) // 10_000
            for number in range(101):
                await client.send({"id": number, "method": "public/nope"})
            await client.until(lambda message: message["code"] == 42901)
            answered = len(client.texts) - 1
            assert answered <= 100 - first or last >= 100
            assert answered >= 100 - last


async def test_heartbeats_are_answered_with_their_id_or_the_connection_ends() -> None:
    real = next(recorded("cryptocom/spot-frames.ndjson", "public/heartbeat"))
    facts = {"cryptocom": {"heartbeat": 0.6, "pong": 0.5}}
    async with simulator.serve(["cryptocom"], facts=facts) as sim:
        async with connect(sim, WS) as polite:
            for _ in range(3):
                beat = await polite.json()
                assert form(polite.texts[-1]) == form(real)
                await polite.send({"id": beat["id"], "method": "public/respond-heartbeat"})
        for wrong in (0, None):
            async with connect(sim, WS) as client:
                beat = await client.json()
                if wrong is None:
                    await client.socket.pong()
                else:
                    await client.send({"id": wrong, "method": "public/respond-heartbeat"})
                end = await client.closed()
                assert (end.code, len(client.texts)) == (1000, 1), "no other id, and no frame of pong, is an answer"


async def test_instruments() -> None:
    async with simulator.serve(["cryptocom"]) as sim:
        answer = await call(sim, f"{REST}/get-instruments")
        assert (answer["id"], answer["method"], answer["code"]) == (-1, "public/get-instruments", 0)
        rows = {row["symbol"]: row for row in answer["result"]["data"]}
        row = rows["BTC_USD"]
        assert (row["inst_type"], row["price_tick_size"], row["qty_tick_size"]) == ("CCY_PAIR", "0.01", "0.00001")
        assert (row["tradable"], rows["LUNA_USD"]["tradable"]) == (True, False)
        assert rows["BTCUSD-PERP"]["inst_type"] == "PERPETUAL_SWAP"
        assert {"BTC_USDT", "SOL_USD", "ETH_BTC"} <= rows.keys()


async def test_history_is_paged_backwards_by_time_in_either_unit() -> None:
    async with simulator.serve(["cryptocom"]) as sim:
        path = f"{REST}/get-trades?instrument_name=BTC_USD&count=50"
        rows = (await call(sim, path))["result"]["data"]
        assert len(rows) == 50
        assert {row["s"] for row in rows} == {"buy", "sell"}, "lower case here"
        older = (await call(sim, f"{path}&end_ts={rows[-1]['tn']}"))["result"]["data"]
        same = (await call(sim, f"{path}&end_ts={rows[-1]['t']}"))["result"]["data"]
        ids = [int(row["d"]) for row in rows]
        assert all(int(row["d"]) < min(ids) for row in older + same), "the end is exclusive"
        assert 0 < len(same) <= len(older)
        newer = (await call(sim, f"{path}&start_ts={rows[10]['tn']}&end_ts={rows[0]['tn']}"))["result"]["data"]
        assert [row["d"] for row in newer] == [row["d"] for row in rows if rows[10]["tn"] <= row["tn"] < rows[0]["tn"]]


async def test_rest_answers_errors_and_windows() -> None:
    async with simulator.serve(["cryptocom"], facts={"cryptocom": {"rest": 3, "rest_window": 60.0}}) as sim:
        sim.pause()
        book = (await call(sim, f"{REST}/get-book?instrument_name=BTC_USD&depth=10"))["result"]["data"][0]
        true = sim.book("cryptocom", "BTC/USD", 10)
        assert [[price, size] for price, size, _ in book["bids"]] == true["bids"]
        for path in ("get-tickers", "get-tickers?instrument_name=BTC_USD", "get-candlestick?instrument_name=BTC_USD"):
            assert (await call(sim, f"{REST}/{path}"))["result"]["data"], path
        status, body, _ = await get(sim, f"{REST}/get-book?instrument_name=FOO_USD")
        assert (status, json.loads(body)["code"]) == (400, 40004)
        assert (await get(sim, f"{REST}/nonsense"))[0] == 400
        answers = [await get(sim, f"{REST}/get-trades?instrument_name=BTC_USD") for _ in range(4)]
        assert [status for status, _, _ in answers] == [200] * 3 + [429]
        assert json.loads(answers[-1][1])["code"] == 42901
