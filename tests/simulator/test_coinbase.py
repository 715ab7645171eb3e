"""Coinbase: two feeds on two hosts, the maker's side, frames that one connection numbers, the five seconds to subscribe."""

import json
from decimal import Decimal
from itertools import pairwise

import aiohttp
import pytest

import simulator
from simulator import Simulator
from simulator.coinbase_feeds import short, stamp
from simulator.instruments import QUIET_PAIR
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded, refused
from tests.waiting import until

EXCHANGE = "ws-feed.exchange.coinbase.com"
ADVANCED = "advanced-trade-ws.coinbase.com"
API = "api.exchange.coinbase.com"
BROKERAGE = "api.coinbase.com/api/v3/brokerage"


class Book:
    """A book as section 7 of the sheet builds it, of either feed."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"bids": {}, "asks": {}}

    def apply(self, message: Json) -> None:
        if message.get("type") == "snapshot":
            self.sides = {name: {Decimal(p): Decimal(a) for p, a in message[name]} for name in self.sides}
        for side, price, amount in message.get("changes", ()):
            self._set({"buy": "bids", "sell": "asks"}[side], price, amount)
        for event in message.get("events", ()):
            if event["type"] == "snapshot":
                self.sides = {"bids": {}, "asks": {}}
            for row in event["updates"]:
                self._set({"bid": "bids", "offer": "asks"}[row["side"]], row["price_level"], row["new_quantity"])

    def _set(self, side: str, price: str, amount: str) -> None:
        if Decimal(amount):
            self.sides[side][Decimal(price)] = Decimal(amount)
        else:
            self.sides[side].pop(Decimal(price), None)

    def rows(self) -> dict[str, list[tuple[Decimal, Decimal]]]:
        return {name: sorted(side.items(), reverse=name == "bids") for name, side in self.sides.items()}


def true_book(sim: Simulator, symbol: str) -> Json:
    book: Json = sim.book("coinbase", symbol, 1 << 20)
    return {name: [(Decimal(price), Decimal(amount)) for price, amount in book[name]] for name in ("bids", "asks")}


async def subscribe(client: Client, channel: str, *products: str, kind: str = "subscribe") -> None:
    """To either feed: each has its own word for the channel."""
    await client.send({"type": kind, "product_ids": products, "channels": [channel], "channel": channel})


def held(message: Json) -> dict[str, list[str]]:
    """What an acknowledgement lists."""
    if "channels" in message:
        return {row["name"]: row["product_ids"] for row in message["channels"]}
    rows: dict[str, list[str]] = message["events"][0]["subscriptions"]
    return rows


def acknowledged(message: Json) -> bool:
    return "subscriptions" in {message.get("type"), message.get("channel")}


@pytest.mark.parametrize(("host", "channel"), [(EXCHANGE, "level2_batch"), (ADVANCED, "level2")])
async def test_book_is_whole_and_ends_equal_to_the_truth_for_all(host: str, channel: str) -> None:
    async with simulator.serve(["coinbase"], seed=8, rate=8000) as sim, connect(sim, host) as early, connect(sim, host) as late:
        books = [Book(), Book()]
        for client, book in zip((early, late), books, strict=True):
            await subscribe(client, channel, "BTC-USD")
            book.apply(await client.until(lambda message: "snapshot" in json.dumps(message)))
            assert len(book.sides["bids"]) > 1200
            for _ in range(5):
                book.apply(await client.until(changes))
        sim.pause()
        for client, book in zip((early, late), books, strict=True):
            while book.rows() != true_book(sim, "BTC/USD"):
                book.apply(await client.until(changes))


def changes(message: Json) -> bool:
    return bool({"l2update", "l2_data"} & {message.get("type"), message.get("channel")})


async def test_matches_are_the_true_trades_with_the_makers_side() -> None:
    async with simulator.serve(["coinbase"], seed=9, rate=3000) as sim, connect(sim, EXCHANGE) as client:
        await subscribe(client, "matches", "ETH-USD")
        assert acknowledged(await client.json())
        last = await client.json()
        rows = [await client.json() for _ in range(100)]
        assert [row["type"] for row in (last, *rows)] == ["last_match", *["match"] * 100]
        assert [row["trade_id"] for row in rows] == list(range(last["trade_id"] + 1, last["trade_id"] + 101))
        true: Json = sim.trades("coinbase", "ETH/USD", after=last["trade_id"])[:100]
        taker = {"buy": "sell", "sell": "buy"}
        for row, trade in zip(rows, true, strict=True):
            assert (Decimal(row["price"]), Decimal(row["size"])) == (Decimal(trade["price"]), Decimal(trade["amount"]))
            assert (taker[row["side"]], row["time"]) == (trade["side"], stamp(trade["timestamp"]))


async def test_market_trades_are_newest_first_with_the_makers_side() -> None:
    async with simulator.serve(["coinbase"], seed=10, rate=3000) as sim, connect(sim, ADVANCED) as client:
        await subscribe(client, "market_trades", "ETH-USD")
        frames = [await client.until(lambda message: message["channel"] == "market_trades") for _ in range(5)]
        assert [frame["events"][0]["type"] for frame in frames] == ["snapshot", *["update"] * 4]
        pages = [frame["events"][0]["trades"] for frame in frames]
        assert len(pages[0]) == min(100, len(sim.trades("coinbase", "ETH/USD")))
        rows = [row for page in pages for row in reversed(page)]
        first = int(rows[0]["trade_id"])
        assert [int(row["trade_id"]) for row in rows] == list(range(first, first + len(rows)))
        true: Json = sim.trades("coinbase", "ETH/USD", after=first - 1)[: len(rows)]
        for row, trade in zip(rows, true, strict=True):
            assert (Decimal(row["price"]), Decimal(row["size"])) == (Decimal(trade["price"]), Decimal(trade["amount"]))
            assert (row["side"], row["time"]) == ({"buy": "SELL", "sell": "BUY"}[trade["side"]], short(trade["timestamp"]))


async def test_ticker_of_the_exchange_feed_has_the_takers_side() -> None:
    async with simulator.serve(["coinbase"], rate=3000) as sim, connect(sim, EXCHANGE) as client:
        await client.send({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "ticker"]})
        sides: dict[int, dict[str, str]] = {}
        while sum(len(pair) == 2 for pair in sides.values()) < 20:
            message = await client.until(lambda message: "trade_id" in message)
            sides.setdefault(message["trade_id"], {})[message["type"]] = message["side"]
        pairs = [pair for pair in sides.values() if "ticker" in pair and "match" in pair]
        assert pairs
        assert all(pair["ticker"] != pair["match"] for pair in pairs)


@pytest.mark.parametrize(
    ("host", "channel", "file", "contains"),
    [
        (EXCHANGE, "matches", "exchange-session.ndjson", '"type":"last_match"'),
        (EXCHANGE, "matches", "exchange-session.ndjson", '"type":"match"'),
        (EXCHANGE, "level2_batch", "exchange-session.ndjson", '"type":"snapshot"'),
        (EXCHANGE, "level2_batch", "exchange-session.ndjson", '"type":"l2update"'),
        (ADVANCED, "market_trades", "advanced-session.ndjson", '"type":"snapshot","trades"'),
        (ADVANCED, "market_trades", "advanced-session.ndjson", '"type":"update","trades"'),
        (ADVANCED, "ticker", "advanced-session.ndjson", '"type":"update","tickers"'),
        (ADVANCED, "level2", "advanced-level2-fullsnapshot.ndjson", '"type":"snapshot"'),
        (ADVANCED, "level2", "advanced-session.ndjson", '"l2_data"'),
        (ADVANCED, "candles", "advanced-session.ndjson", '"type":"snapshot","candles"'),
        (ADVANCED, "heartbeats", "advanced-session.ndjson", '"heartbeat_counter"'),
        (ADVANCED, "heartbeats", "advanced-session.ndjson", '"channel":"subscriptions"'),
    ],
)
async def test_channels_have_the_recorded_form(host: str, channel: str, file: str, contains: str) -> None:
    real = next(recorded(f"coinbase/{file}", contains))
    async with simulator.serve(["coinbase"], rate=3000, time_scale=5) as sim, connect(sim, host) as client:
        await subscribe(client, channel, "BTC-USD")
        while contains not in await client.text():
            pass
        ours = client.texts[-1]
        if "subscriptions" in contains:
            assert list(json.loads(ours)) == list(json.loads(real))
        else:
            assert form(ours) == form(real)
        assert " " not in ours or channel == "heartbeats"


async def test_ticker_has_the_recorded_form_and_the_sizes_that_are_newer() -> None:
    real = json.loads(next(recorded("coinbase/exchange-session.ndjson", '"type":"ticker"')))
    async with simulator.serve(["coinbase"], rate=3000) as sim, connect(sim, EXCHANGE) as client:
        await subscribe(client, "ticker", "BTC-USD")
        ours = await client.until(lambda message: message["type"] == "ticker")
        assert [key for key in ours if key not in {"best_bid_size", "best_ask_size"}] == list(real)
        assert len(ours["volume_24h"].partition(".")[2]) == 8


async def test_books_are_padded_on_one_feed_and_everything_is_trimmed_on_the_other() -> None:
    async with simulator.serve(["coinbase"]) as sim, connect(sim, EXCHANGE) as padded, connect(sim, ADVANCED) as trimmed:
        await subscribe(padded, "level2_batch", "BTC-USD")
        rows = (await padded.until(lambda message: message["type"] == "snapshot"))["bids"]
        assert {(len(p.partition(".")[2]), len(a.partition(".")[2])) for p, a in rows} == {(2, 8)}
        await subscribe(trimmed, "level2", "BTC-USD")
        updates = (await trimmed.json())["events"][0]["updates"]
        tokens = [row[key] for row in updates for key in ("price_level", "new_quantity")]
        assert not any("." in token and token[-1] in "0." for token in tokens)
        prices = [(row["side"], float(row["price_level"])) for row in updates]
        assert prices == sorted(prices, key=lambda row: -row[1] if row[0] == "bid" else 10**9 + row[1])


async def test_one_counter_numbers_all_frames_of_a_connection() -> None:
    async with simulator.serve(["coinbase"], rate=3000) as sim, connect(sim, ADVANCED) as one, connect(sim, ADVANCED) as two:
        for client in (one, two):
            for channel in ("market_trades", "level2", "ticker", "heartbeats"):
                await subscribe(client, channel, "BTC-USD", "ETH-USD")
        for client in (one, two):
            await client.until(lambda message: message["channel"] == "heartbeats")
            frames = [json.loads(text) for text in client.texts]
            assert [frame["sequence_num"] for frame in frames] == list(range(len(frames)))
            assert len({frame["channel"] for frame in frames}) == 5


async def test_a_frame_that_is_lost_leaves_a_hole_in_the_numbers() -> None:
    async with simulator.serve(["coinbase"], rate=3000, faults=["coinbase:gap"]) as sim, connect(sim, ADVANCED) as client:
        await subscribe(client, "level2", "BTC-USD")
        numbers = [(await client.json())["sequence_num"] for _ in range(20)]
        assert [later - earlier for earlier, later in pairwise(numbers) if later != earlier + 1] == [2]


async def test_acknowledgements_list_everything_and_come_first_or_last() -> None:
    async with simulator.serve(["coinbase"], rate=0.001) as sim:
        async with connect(sim, EXCHANGE) as client:
            channels = ["heartbeat", {"name": "level2_batch", "product_ids": ["ETH-USD"]}]
            await client.send({"type": "subscribe", "product_ids": ["BTC-USD"], "channels": channels})
            ack = await client.json()
            assert ack["channels"][0] == {"name": "heartbeat", "product_ids": ["BTC-USD"], "account_ids": None}
            assert held(ack) == {"heartbeat": ["BTC-USD"], "level2_50": ["ETH-USD"]}
            assert (await client.json())["type"] == "snapshot"
            await client.send({"type": "unsubscribe", "channels": ["heartbeat"]})
            assert held(await client.until(acknowledged)) == {"level2_50": ["ETH-USD"]}
        async with connect(sim, ADVANCED) as client:
            await subscribe(client, "level2", "BTC-USD", "ETH-USD")
            snapshots = [await client.json() for _ in range(2)]
            assert [frame["events"][0]["product_id"] for frame in snapshots] == ["BTC-USD", "ETH-USD"]
            assert held(await client.json()) == {"level2": ["BTC-USD", "ETH-USD"]}
            await subscribe(client, "heartbeats")
            assert held(await client.until(acknowledged)) == {"heartbeats": ["heartbeats"], "level2": ["BTC-USD", "ETH-USD"]}
            await subscribe(client, "level2", "BTC-USD", kind="unsubscribe")
            assert held(await client.until(acknowledged)) == {"heartbeats": ["heartbeats"], "level2": ["ETH-USD"]}


async def test_dollar_coin_books_are_the_dollar_books_of_advanced_trade() -> None:
    async with simulator.serve(["coinbase"]) as sim:
        async with connect(sim, ADVANCED) as client:
            await subscribe(client, "level2", "BTC-USDC")
            assert (await client.json())["events"][0]["product_id"] == "BTC-USD"
        async with connect(sim, EXCHANGE) as client:
            await subscribe(client, "matches", "BTC-USDC")
            assert (await client.json())["reason"] == "BTC-USDC is not a valid product"
        rows = {row["product_id"]: row for row in (await call(sim, f"{BROKERAGE}/market/products"))["products"]}
        assert (rows["BTC-USDC"]["alias"], rows["BTC-USD"]["alias_to"]) == ("BTC-USD", ["BTC-USDC"])


@pytest.mark.parametrize(
    ("host", "message", "words"),
    [
        (EXCHANGE, "nonsense", "Malformed JSON"),
        (EXCHANGE, ["x"], "Malformed JSON"),
        (EXCHANGE, {"type": "dance"}, "Type has to be either subscribe or unsubscribe"),
        (EXCHANGE, {"type": "subscribe", "channels": ["matches"]}, '"reason":" is not a valid product"'),
        (EXCHANGE, {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["x"]}, "x is not a valid channel"),
        (EXCHANGE, {"type": "subscribe", "product_ids": ["BTC-USD"]}, "is not a valid channel"),
        (EXCHANGE, {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["level2"]}, "now require authentication"),
        (EXCHANGE, {"type": "subscribe", "product_ids": ["BTC-USD", "FOO-USD"], "channels": ["matches"]}, "FOO-USD is not"),
        (ADVANCED, "nonsense", "Malformed JSON"),
        (ADVANCED, {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "user"}, "authentication failure"),
        (ADVANCED, {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": []}, "invalid channel"),
        (ADVANCED, {"type": "subscribe", "product_ids": ["BTC-USD", "FOO-USD"], "channel": "level2"}, "invalid product id"),
    ],
)
async def test_errors_refuse_the_whole_frame(host: str, message: Json, words: str) -> None:
    async with simulator.serve(["coinbase"]) as sim, connect(sim, host) as client:
        await client.send(message)
        assert (await client.json())["type"] == "error"
        assert words in client.texts[-1]
        assert sim.stats()["coinbase"]["subscriptions"] == 0


@pytest.mark.parametrize("host", [EXCHANGE, ADVANCED])
async def test_who_does_not_subscribe_in_time_is_sent_away(host: str) -> None:
    async with simulator.serve(["coinbase"], facts={"coinbase": {"unused": 0.3}}) as sim:
        async with connect(sim, host) as client:
            assert (await client.closed()).code == 1008
        async with connect(sim, host) as client:
            await subscribe(client, "ticker", "BTC-USD")
            exchange = sim.exchanges["coinbase"]
            due = exchange.clock.now() + 0.5
            await eventually(lambda: exchange.clock.now() > due)
            assert sim.stats()["coinbase"]["connections"] == 1


async def test_quiet_channels_end_without_heartbeats_and_only_on_advanced_trade() -> None:
    quiet, facts = QUIET_PAIR.replace("/", "-"), {"coinbase": {"mute": 2.0, "heartbeat": 0.1}}
    async with (
        simulator.serve(["coinbase"], facts=facts) as sim,
        connect(sim, ADVANCED) as silent,
        connect(sim, ADVANCED) as beating,
        connect(sim, EXCHANGE) as other,
    ):
        await subscribe(other, "level2_batch", quiet)
        await subscribe(beating, "level2", quiet)
        await subscribe(beating, "heartbeats")
        await subscribe(silent, "level2", quiet)
        await silent.closed()
        frames = [await beating.until(lambda message: message["channel"] == "heartbeats") for _ in range(5)]
        counters = [frame["events"][0]["heartbeat_counter"] for frame in frames]
        assert counters == list(range(counters[0], counters[0] + 5))
        assert counters[0] > 0
        await until(lambda: sim.stats()["coinbase"]["connections"] == 2, "the other two stay")


async def test_heartbeat_of_the_exchange_feed_tells_the_last_trade_id_also_where_nothing_trades() -> None:
    async with simulator.serve(["coinbase"], rate=2000, time_scale=10) as sim, connect(sim, EXCHANGE) as client:
        await subscribe(client, "heartbeat", "BTC-USD", QUIET_PAIR.replace("/", "-"))
        await client.until(lambda message: message.get("product_id") == QUIET_PAIR.replace("/", "-"))
        beat = await client.until(lambda message: message.get("product_id") == "BTC-USD")
        assert list(beat) == ["type", "sequence", "last_trade_id", "product_id", "time"]
        sim.pause()
        last = sim.trades("coinbase", "BTC/USD")[-1]["id"]
        await client.until(lambda message: message.get("last_trade_id") == last)


async def test_connects_and_messages_are_limited_by_address() -> None:
    async with simulator.serve(["coinbase"]) as sim:
        async with connect(sim, ADVANCED) as one, connect(sim, ADVANCED) as two:
            for client in (one, two):
                for _ in range(5):
                    await subscribe(client, "heartbeats")
            error = await two.until(lambda message: message.get("type") == "error")
            assert error["message"] == "rate limit exceeded"
            async with aiohttp.ClientSession() as session:
                sockets = [await session.ws_connect(f"{sim.url}/{EXCHANGE}") for _ in range(6)]
                assert (await refused(sim, EXCHANGE)).status == 429
                for socket in sockets:
                    await socket.close()
        assert sim.stats()["coinbase"]["limited"] == {"messages": 2, "connects": 1}


@pytest.mark.parametrize("path", [f"{EXCHANGE}/ws", API, "api.coinbase.com"])
async def test_only_the_feeds_are_sockets(path: str) -> None:
    async with simulator.serve(["coinbase"]) as sim:
        assert (await refused(sim, path)).status == 404


def test_times_of_advanced_trade_are_trimmed() -> None:
    assert [short(time) for time in (1_500_000, 50_000_000, 1)] == [
        "1970-01-01T00:00:01.5Z",
        "1970-01-01T00:00:50Z",
        "1970-01-01T00:00:00.000001Z",
    ]
    assert stamp(1_500_000) == "1970-01-01T00:00:01.500000Z"


async def test_trades_are_paged_by_their_cursor() -> None:
    async with simulator.serve(["coinbase"], facts={"coinbase": {"rest": 1000}}) as sim:
        sim.pause()
        _, body, headers = await get(sim, f"{API}/products/BTC-USD/trades?limit=30")
        rows = json.loads(body)
        newest = rows[0]["trade_id"]
        while "cb-after" in headers:
            _, body, headers = await get(sim, f"{API}/products/BTC-USD/trades?limit=30&after={headers['cb-after']}")
            rows += json.loads(body)
        true: Json = sim.trades("coinbase", "BTC/USD")
        assert [row["trade_id"] for row in reversed(rows)] == [trade["id"] for trade in true]
        assert all(row["side"] != trade["side"] for row, trade in zip(reversed(rows), true, strict=True))
        newer = await call(sim, f"{API}/products/BTC-USD/trades?before={newest - 5}")
        assert [row["trade_id"] for row in newer] == list(range(newest, newest - 5, -1))


async def test_rest_answers_and_their_forms() -> None:
    async with simulator.serve(["coinbase"]) as sim:
        sim.pause()
        for path, file, contains in (
            (f"{API}/products", "exchange-products.ndjson", '"id"'),
            (f"{API}/products/BTC-USD/book?level=2", "spot-single.ndjson", '"auction_mode"'),
            (f"{BROKERAGE}/market/products", "advanced-products.ndjson", '"products"'),
            (f"{BROKERAGE}/market/product_book?product_id=BTC-USD&limit=5", "fixtures.ndjson", '"pricebook"'),
            (f"{BROKERAGE}/market/products/BTC-USD/ticker?limit=3", "fixtures.ndjson", '"best_bid":"68923.66"'),
            (f"{BROKERAGE}/market/products/BTC-USD/candles?granularity=ONE_MINUTE", "fixtures.ndjson", '{"candles"'),
        ):
            real, ours = json.loads(next(recorded(f"coinbase/{file}", contains))), await call(sim, path)
            assert keys(real) <= keys(ours), path
        book = await call(sim, f"{API}/products/BTC-USD/book?level=2")
        true = true_book(sim, "BTC/USD")
        assert {name: [(Decimal(row[0]), Decimal(row[1])) for row in book[name]] for name in true} == true
        rows = {row["id"]: row for row in await call(sim, f"{API}/products")}
        assert (rows["BTC-USD"]["quote_increment"], rows["BTC-USD"]["base_increment"]) == ("0.01", "0.00000001")
        assert (rows["LUNA-USD"]["status"], rows["LUNA-USD"]["trading_disabled"]) == ("delisted", True)
        assert (rows["FTT-EUR"]["status"], rows["FTT-EUR"]["trading_disabled"]) == ("online", True)
        candles = await call(sim, f"{API}/products/BTC-USD/candles?granularity=60")
        assert [row[0] for row in candles] == sorted((row[0] for row in candles), reverse=True)
        assert all(low <= opened <= high and low <= close <= high for _, low, high, opened, close, _ in candles)
        for path in ("time", "products/BTC-USD", "products/BTC-USD/ticker", "products/BTC-USD/stats"):
            assert await call(sim, f"{API}/{path}"), path
        assert await call(sim, f"{BROKERAGE}/time")


def keys(value: Json) -> set[str]:
    """All keys of an answer, those of the first row of its lists too."""
    if isinstance(value, list):
        return keys(value[0]) if value else set()
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


async def test_answers_of_advanced_trade_are_a_second_old_unless_asked_otherwise() -> None:
    path = f"{BROKERAGE}/market/product_book?product_id=BTC-USD"
    async with simulator.serve(["coinbase"], rate=3000) as sim:
        first = await call(sim, path)
        await eventually(lambda: first["last"] != sim.trades("coinbase", "BTC/USD")[-1]["price"])
        assert await call(sim, path) == first
        assert await call(sim, path, headers={"Cache-Control": "no-cache"}) != first


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{API}/products/FOO-USD/book", '{"message":"NotFound"}'),
        (f"{BROKERAGE}/market/products/FOO-USD", '"code":404'),
        (f"{API}/time", '{"message":"Public rate limit exceeded"}'),
        (f"{BROKERAGE}/time", '{"errors":[{"id":"rate_limit_exceeded","message":"Too many requests"}]}'),
    ],
)
async def test_rest_errors_and_allowance(path: str, words: str) -> None:
    async with simulator.serve(["coinbase"], facts={"coinbase": {"rest": 3, "rest_window": 30.0}}) as sim:
        answers = [await get(sim, path) for _ in range(4)]
        assert [status for status, _, _ in answers][3] == 429
        assert words in answers[0][1] or words in answers[3][1]
        assert sim.stats()["coinbase"]["limited"] == {"rest": 1}
