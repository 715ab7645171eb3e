"""OKX: a book chained by prevSeqId, merged and single trades, one answer per arg, the 30 seconds of silence."""

import json
from itertools import pairwise

import pytest

import simulator
from simulator.instruments import QUIET_PAIR
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded, refused

PUBLIC = "ws.okx.com:8443/ws/v5/public"
BUSINESS = "ws.okx.com/ws/v5/business"
REST = "www.okx.com/api/v5"


class Book:
    """A book as section 7 of the sheet builds it."""

    def __init__(self) -> None:
        self.last = 0
        self.sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def apply(self, message: Json) -> None:
        data = message["data"][0]
        if message["action"] == "snapshot":
            assert data["prevSeqId"] == -1
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert data["prevSeqId"] == self.last, "gap"
        for name, side in self.sides.items():
            for price, size, zero, orders in data[name]:
                assert zero == "0"
                assert (size == "0") == (orders == "0")
                if size == "0":
                    side.pop(price, None)
                else:
                    side[price] = size
        assert data["checksum"] == 0
        self.last = data["seqId"]

    def rows(self, name: str) -> list[list[str]]:
        ranked = sorted(self.sides[name].items(), key=lambda row: float(row[0]), reverse=name == "bids")
        return [list(row) for row in ranked]


def books(message: Json) -> bool:
    return "action" in message


async def subscribe(client: Client, *args: tuple[str, str], identity: str | None = None) -> None:
    request: Json = {} if identity is None else {"id": identity}
    await client.send(request | {"op": "subscribe", "args": [{"channel": c, "instId": i} for c, i in args]})


async def test_book_chains_and_ends_equal_to_the_truth_without_truncation() -> None:
    async with simulator.serve(["okx"], seed=8, rate=8000, time_scale=4) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("books", "BTC-USDT"))
        book = Book()
        for _ in range(12):
            book.apply(await client.until(books))
            assert len(book.rows("bids")) == len(book.rows("asks")) == 400
        sim.pause()
        true = sim.book("okx", "BTC/USDT", 400)
        while [book.rows("bids"), book.rows("asks")] != [true["bids"], true["asks"]]:
            book.apply(await client.until(books))


async def test_a_late_subscriber_meets_the_chain_of_the_others() -> None:
    async with simulator.serve(["okx"], seed=9, rate=8000, time_scale=4) as sim, connect(sim, PUBLIC) as early:
        await subscribe(early, ("books", "BTC-USDT"))
        first, second = Book(), Book()
        for _ in range(3):
            first.apply(await early.until(books))
        async with connect(sim, PUBLIC) as late:
            await subscribe(late, ("books", "BTC-USDT"))
            for _ in range(4):
                second.apply(await late.until(books))
            while first.last < second.last:
                first.apply(await early.until(books))
            assert first.sides == second.sides


async def test_merged_trades_cover_their_ids_and_single_ones_are_the_true_ones() -> None:
    async with simulator.serve(["okx"], seed=10, rate=3000) as sim:
        async with connect(sim, PUBLIC) as merged, connect(sim, BUSINESS) as single:
            await subscribe(merged, ("trades", "ETH-USDT"))
            await subscribe(single, ("trades-all", "ETH-USDT"))
            rows = [(await single.until(lambda message: "data" in message))["data"][0] for _ in range(100)]
            groups = [(await merged.until(lambda message: "data" in message))["data"][0] for _ in range(80)]
        ids = [int(row["tradeId"]) for row in rows]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        true = sim.trades("okx", "ETH/USDT", after=ids[0] - 1)[: len(ids)]
        assert [(row["px"], row["sz"], row["side"]) for row in rows] == [(t["price"], t["amount"], t["side"]) for t in true]
        for earlier, later in pairwise(groups):
            assert int(later["tradeId"]) - int(later["count"]) == int(earlier["tradeId"])
        assert any(int(row["count"]) > 1 for row in groups)
        assert not any("count" in row for row in rows)


@pytest.mark.parametrize(
    ("path", "channel", "file", "contains"),
    [
        (PUBLIC, "bbo-tbt", "fixtures.ndjson", '"bbo-tbt"'),
        (PUBLIC, "tickers", "session.ndjson", '"tickers","instId":"BTC-USDT"},"data"'),
        (BUSINESS, "candle1m", "fixtures.ndjson", '"candle1D"'),
        (PUBLIC, "books", "fixtures.ndjson", '"snapshot"'),
        (PUBLIC, "books", "fixtures.ndjson", '"update"'),
    ],
)
async def test_channels_have_the_recorded_form(path: str, channel: str, file: str, contains: str) -> None:
    real = next(recorded(f"okx/{file}", contains))
    action = json.loads(real).get("action")
    async with simulator.serve(["okx"], rate=3000, time_scale=20) as sim, connect(sim, path) as client:
        await subscribe(client, (channel, "BTC-USDT"))
        await client.until(lambda message: "data" in message and message.get("action") == action)
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


async def test_books5_is_the_recorded_form_and_the_sequence() -> None:
    real = json.loads(next(recorded("okx/spot-single.ndjson", '"books5"')))
    async with simulator.serve(["okx"], rate=3000) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("books5", "BTC-USDT"))
        data = (await client.until(lambda message: "data" in message))["data"][0]
        assert list(data) == [*real["data"][0], "seqId"]
        assert len(data["asks"]) == len(data["bids"]) == 5


async def test_subscribers_get_the_last_trade_and_ticker_at_once() -> None:
    """Recorded: a trade of 26 seconds before the subscription is the first frame after the acknowledgement."""
    async with simulator.serve(["okx"], rate=0.001) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("trades", "BTC-USDT"), ("tickers", "BTC-USDT"))
        messages = [await client.json() for _ in range(4)]
        assert [message.get("event", message["arg"]["channel"]) for message in messages] == [
            "subscribe",
            "trades",
            "subscribe",
            "tickers",
        ]
        assert int(messages[1]["data"][0]["tradeId"]) == sim.trades("okx", "BTC/USDT")[-1]["id"]


async def test_numbers_are_in_their_shortest_form() -> None:
    async with simulator.serve(["okx"], rate=3000) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("books", "BTC-USDT"))
        data = (await client.until(books))["data"][0]
        tokens = [token for row in data["bids"] + data["asks"] for token in row[:2]]
        assert not any("." in token and token[-1] in "0." for token in tokens)
        assert any("." not in token for token in tokens)


async def test_one_answer_per_arg_and_a_bad_one_harms_no_other() -> None:
    async with simulator.serve(["okx"]) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("books", "FOO-USDT"), ("books", "BTC-USDT"), ("candle1m", "BTC-USDT"), identity="a1")
        wrong = await client.until(lambda message: "event" in message)
        assert (wrong["event"], wrong["code"], wrong["id"]) == ("error", "60018", "a1")
        assert wrong["msg"].startswith("Wrong URL or channel:books,instId:FOO-USDT doesn't exist.")
        ack = await client.until(lambda message: "event" in message)
        assert list(ack) == ["id", "event", "arg", "connId"]
        assert (ack["event"], ack["arg"]) == ("subscribe", {"channel": "books", "instId": "BTC-USDT"})
        assert (await client.until(lambda message: "event" in message))["code"] == "60018", "candles are on business"
        await subscribe(client, ("books-l2-tbt", "BTC-USDT"))
        assert (await client.until(lambda message: "event" in message))["code"] == "60011"


async def test_repeated_subscriptions_are_acknowledged_again_and_unsubscribe_is_too() -> None:
    async with simulator.serve(["okx"], rate=1000) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("trades", "BTC-USDT"))
        await subscribe(client, ("trades", "BTC-USDT"))
        for _ in range(2):
            await client.until(lambda message: message.get("event") == "subscribe")
        await client.send({"op": "unsubscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]})
        await client.until(lambda message: message.get("event") == "unsubscribe")
        assert sim.stats()["okx"]["subscriptions"] == 0


async def test_text_ping_is_answered_and_silence_ends_the_connection() -> None:
    async with simulator.serve(["okx"], facts={"okx": {"mute": 0.3}}) as sim, connect(sim, PUBLIC) as client:
        await client.send("ping")
        assert await client.text() == "pong"
        end = await client.closed()
        assert (end.code, end.reason) == (4004, "No data received in 30s.")


async def test_a_book_that_does_not_change_has_a_heartbeat() -> None:
    async with simulator.serve(["okx"], facts={"okx": {"heartbeat": 0.2}}) as sim, connect(sim, PUBLIC) as client:
        await subscribe(client, ("books", QUIET_PAIR.replace("/", "-")))
        last = (await client.until(books))["data"][0]["seqId"]
        for _ in range(2):
            message = await client.until(books)
            data = message["data"][0]
            assert message["action"] == "update"
            assert (data["bids"], data["asks"], data["prevSeqId"], data["seqId"]) == ([], [], last, last)


async def test_connects_operations_and_arguments_are_limited() -> None:
    async with simulator.serve(["okx"], facts={"okx": {"operations": 2}}) as sim:
        async with connect(sim, PUBLIC) as client:
            for _ in range(3):
                await subscribe(client, ("trades", "BTC-USDT"))
            assert (await client.until(lambda message: message.get("event") == "error"))["code"] == "60014"
        async with connect(sim, PUBLIC) as client:
            await subscribe(client, *[("trades", "BTC-USDT")] * 2000)
            assert (await client.until(lambda message: message.get("event") == "error"))["code"] == "60012"
        async with connect(sim, PUBLIC):
            assert (await refused(sim, PUBLIC)).status == 429
        limited = sim.stats()["okx"]["limited"]
        assert limited == {"operations": 1, "connects": 1}


@pytest.mark.parametrize("message", ["nonsense", {"op": "dance", "args": []}, {"op": "subscribe"}, ["x"]])
async def test_bad_requests(message: Json) -> None:
    async with simulator.serve(["okx"]) as sim, connect(sim, PUBLIC) as client:
        await client.send(message)
        assert (await client.json())["code"] == "60012"


async def test_history_is_paged_backwards_by_id() -> None:
    async with simulator.serve(["okx"]) as sim:
        sim.pause()
        newest = (await call(sim, f"{REST}/market/history-trades?instId=BTC-USDT"))["data"]
        ids = [int(row["tradeId"]) for row in newest]
        assert ids == list(range(ids[0], ids[0] - len(ids), -1))
        while True:
            page = (await call(sim, f"{REST}/market/history-trades?instId=BTC-USDT&after={ids[-1]}&limit=37"))["data"]
            if not page:
                break
            ids += [int(row["tradeId"]) for row in page]
        assert ids[::-1] == [trade["id"] for trade in sim.trades("okx", "BTC/USDT")][-len(ids) :]
        assert len(ids) == len(sim.trades("okx", "BTC/USDT"))


async def test_rest_answers_and_their_forms() -> None:
    async with simulator.serve(["okx"]) as sim:
        for path, file, contains in (
            ("market/books?instId=BTC-USDT&sz=3", "spot-single.ndjson", '"asks":[["29692.5"'),
            (
                "market/trades?instId=BTC-USDT&limit=5",
                "fixtures.ndjson",
                '"code":"0","msg":"","data":[{"instId":"BTC-USDT","side"',
            ),
        ):
            real = json.loads(next(recorded(f"okx/{file}", contains)))["data"][0]
            ours = (await call(sim, f"{REST}/{path}"))["data"][0]
            assert set(real) <= set(ours), path
        rows = {row["instId"]: row for row in (await call(sim, f"{REST}/public/instruments?instType=SPOT"))["data"]}
        assert rows["BTC-USDT"]["tickSz"] == "0.1"
        assert rows["BTC-USDT"]["lotSz"] == "0.00000001"
        assert rows["LUNA-USDT"]["state"] == "suspend"
        assert not any(name.endswith("-USD") for name in rows)
        full = (await call(sim, f"{REST}/market/books-full?instId=BTC-USDT&sz=5000"))["data"][0]
        assert len(full["bids"]) > 1200
        assert len(full["bids"][0]) == 3
        for path in (
            "market/candles?instId=BTC-USDT",
            "market/ticker?instId=BTC-USDT",
            "public/time",
            "market/tickers?instType=SPOT",
        ):
            assert (await call(sim, f"{REST}/{path}"))["data"], path


async def test_rest_windows_and_errors() -> None:
    async with simulator.serve(["okx"]) as sim:
        assert (await call(sim, f"{REST}/market/books?instId=FOO-USDT"))["code"] == "51001"
        answers = [await get(sim, f"{REST}/market/books-full?instId=BTC-USDT") for _ in range(11)]
        assert [status for status, _, _ in answers] == [200] * 10 + [429]
        assert json.loads(answers[-1][1])["code"] == "50011"
        await eventually(lambda: sim.stats()["okx"]["limited"] == {"rest": 1})
