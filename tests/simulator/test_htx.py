"""HTX: gzip frames, pings in JSON, books whose snapshot is asked for, numbers as Java prints them, silent topics."""

import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulator
from simulator import Simulator
from simulator.faults import FORMS
from simulator.htx_feeds import double, merged
from simulator.instruments import QUIET_PAIR
from tests.simulator import support
from tests.simulator.support import CAPTURES, Client, Json, call, eventually, form, get, refused

WS, FEED = "api.huobi.pro/ws", "api.huobi.pro/feed"
REST = "api.huobi.pro"
MUTE = {"htx": {"heartbeat": None}}  # no pings: this client does not answer them


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
    """Recorded frames, unzipped."""
    path = CAPTURES / "htx" / file
    if not path.exists():
        pytest.skip(f"no captures at {CAPTURES}")
    for line in path.read_text().splitlines():
        frame = json.loads(line)
        text = gzip.decompress(base64.b64decode(frame["b64"])).decode() if "b64" in frame else frame.get("raw", "")
        if contains in text:
            yield text


async def data(client: Client, topic: str) -> Json:
    return (await client.until(lambda message: message.get("ch") == topic))["tick"]


def numbers(rows: Json) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(str(price)), Decimal(str(amount))) for price, amount in rows]


def truth(sim: Simulator, depth: int) -> list[list[tuple[Decimal, Decimal]]]:
    true = sim.book("htx", "BTC/USDT", depth)
    return [numbers(true["bids"]), numbers(true["asks"])]


# ------------------------------------------------------------------------ books


class Book:
    """A book as section 7 of the sheet builds it: the worst levels beyond the depth are dropped."""

    def __init__(self, snapshot: Json, depth: int) -> None:
        self.depth = depth
        self.last = snapshot["seqNum"]
        self.sides = {name: dict(numbers(snapshot[name])) for name in ("bids", "asks")}

    def apply(self, tick: Json) -> None:
        if tick["prevSeqNum"] < self.last:
            return
        assert tick["prevSeqNum"] == self.last, "gap"
        for name, side in self.sides.items():
            for price, size in numbers(tick.get(name, [])):
                side[price] = size
                if not size:
                    del side[price]
            for price in sorted(side, reverse=name == "bids")[self.depth :]:
                del side[price]
        self.last = tick["seqNum"]

    def rows(self) -> list[list[tuple[Decimal, Decimal]]]:
        return [sorted(side.items(), reverse=name == "bids") for name, side in self.sides.items()]


@pytest.mark.parametrize("depth", [5, 20, 150, 400])
async def test_a_book_is_aligned_with_the_snapshot_and_ends_equal_to_the_truth(depth: int) -> None:
    topic = f"market.btcusdt.mbp.{depth}"
    async with simulator.serve(["htx"], seed=3, rate=4000, time_scale=4, facts=MUTE) as sim, connect(sim, FEED) as client:
        await client.send({"sub": topic, "id": "1"})
        waiting = [await data(client, topic) for _ in range(3)]
        await client.send({"req": topic, "id": "2"})
        while "rep" not in (message := await client.json()):
            waiting.append(message["tick"])
        assert list(message) == ["id", "rep", "status", "data"]
        book = Book(message["data"], depth)
        assert waiting[-1]["seqNum"] == book.last, "the snapshot is the book as the last frame left it"
        for tick in waiting:
            book.apply(tick)
        for _ in range(10):
            book.apply(await data(client, topic))
            assert [len(side) for side in book.rows()] == [depth, depth]
        sim.pause()
        while book.rows() != truth(sim, depth):
            book.apply(await data(client, topic))


async def test_a_stale_snapshot_is_not_in_the_chain() -> None:
    topic = "market.btcusdt.mbp.150"
    async with simulator.serve(["htx"], rate=4000) as sim, connect(sim, FEED) as client:
        await client.send({"sub": topic, "id": "1"})
        first = await data(client, topic)
        sim.arm("htx:stale_snapshot")
        for stale in (True, False):
            await client.send({"req": topic, "id": "2"})
            snapshot = (await client.until(lambda message: "rep" in message))["data"]
            assert (snapshot["seqNum"] < first["prevSeqNum"]) is stale


async def test_a_side_without_changes_is_left_out() -> None:
    async with simulator.serve(["htx"], rate=60) as sim, connect(sim, FEED) as client:
        await client.send({"sub": "market.btcusdt.mbp.150", "id": "1"})
        await client.until(lambda message: "tick" in message and ("bids" in message["tick"]) != ("asks" in message["tick"]))


@pytest.mark.parametrize(
    ("channel", "depth", "number"),
    [("depth.step0", 150, "version"), ("mbp.refresh.5", 5, "seqNum"), ("mbp.refresh.20", 20, "seqNum")],
)
async def test_whole_books_are_the_truth_and_their_number_rises(channel: str, depth: int, number: str) -> None:
    topic = f"market.btcusdt.{channel}"
    async with simulator.serve(["htx"], rate=3000, time_scale=20, facts=MUTE) as sim, connect(sim, WS) as client:
        await client.send({"sub": topic, "id": 1})
        ticks = [await data(client, topic) for _ in range(5)]
        sim.pause()
        while [numbers(ticks[-1]["bids"]), numbers(ticks[-1]["asks"])] != truth(sim, depth):
            ticks.append(await data(client, topic))
        assert ticks[-1][number] == sim.book("htx", "BTC/USDT")["sequence"]
        assert all(later[number] > earlier[number] for earlier, later in pairwise(ticks[1:]))


def test_merged_levels_keep_their_sum_and_never_cross() -> None:
    assert merged([(1009, 1), (1001, 2), (999, 4)], 10, up=False) == [(1000, 3), (990, 4)]
    assert merged([(1010, 1), (1011, 2), (1019, 4)], 10, up=True) == [(1010, 1), (1020, 6)]


async def test_a_gap_breaks_the_chain_once() -> None:
    topic = "market.btcusdt.mbp.150"
    async with (
        simulator.serve(["htx"], rate=3000, time_scale=5, facts=MUTE, faults=["htx:gap"]) as sim,
        connect(sim, FEED) as client,
    ):
        await client.send({"sub": topic, "id": "1"})
        ticks = [await data(client, topic) for _ in range(14)]
        assert sum(later["prevSeqNum"] != earlier["seqNum"] for earlier, later in pairwise(ticks)) == len(sim.fired()) == 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_corrupt_frame_cannot_be_unzipped_or_holds_no_json(form: str) -> None:
    async with simulator.serve(["htx"], rate=3000) as sim, support.connect(sim, WS) as client:
        await client.send({"sub": "market.btcusdt.bbo", "id": "1"})
        await client.text()
        sim.arm(f"htx:corrupt={form}")
        wrong: list[type[Exception]] = []
        after = 0
        while after < 60:
            after += len(wrong)
            try:
                json.loads(gzip.decompress((await client.text()).encode("latin-1")))
            except (OSError, EOFError, zlib.error, ValueError) as error:
                wrong.append(type(error))
        assert len(wrong) == len(sim.fired()) == 1
        assert issubclass(wrong[0], ValueError) == (form == "json")


# ----------------------------------------------------------------------- trades


async def test_trades_are_the_true_ones_in_no_order_within_a_frame() -> None:
    async with simulator.serve(["htx"], seed=12, rate=3000) as sim, connect(sim, WS) as client:
        await client.send({"sub": "market.ethusdt.trade.detail", "id": "1"})
        frames = [await data(client, "market.ethusdt.trade.detail") for _ in range(80)]
        assert any(len(frame["data"]) > 1 for frame in frames)
        assert [row["tradeId"] for frame in frames for row in frame["data"]] != sorted(
            row["tradeId"] for frame in frames for row in frame["data"]
        )
        rows = sorted((row for frame in frames for row in frame["data"]), key=lambda row: row["tradeId"])
        ids = [row["tradeId"] for row in rows]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        true = sim.trades("htx", "ETH/USDT", after=ids[0] - 1)[: len(ids)]
        assert [(*numbers([[r["price"], r["amount"]]])[0], r["direction"], r["ts"]) for r in rows] == [
            (*numbers([[t["price"], t["amount"]]])[0], t["side"], int(str(t["timestamp"])) // 1000) for t in true
        ]
        for frame in frames:
            assert all(str(row["id"]).startswith(str(frame["id"])) for row in frame["data"])
            assert all(24 <= len(str(row["id"])) <= 27 for row in frame["data"])


async def test_subscribers_get_the_last_trade_and_the_book_at_once() -> None:
    """Recorded: a trade of 42 seconds before the subscription is the first frame after the acknowledgement."""
    async with simulator.serve(["htx"], rate=0.001) as sim, connect(sim, WS) as client:
        for topic in ("trade.detail", "depth.step0"):
            await client.send({"sub": f"market.btcusdt.{topic}", "id": 1})
        messages = [await client.json() for _ in range(4)]
        assert ["subbed" in message for message in messages] == [True, False, True, False]
        last = messages[1]["tick"]["data"][0]
        assert last["tradeId"] == sim.trades("htx", "BTC/USDT")[-1]["id"]


async def test_past_trades_are_nested_newest_first() -> None:
    async with simulator.serve(["htx"]) as sim:
        sim.pause()
        orders = (await call(sim, f"{REST}/market/history/trade?symbol=btcusdt&size=50"))["data"]
        assert len(orders) == 50
        ids = [row["trade-id"] for order in orders for row in order["data"]]
        assert ids == [trade["id"] for trade in sim.trades("htx", "BTC/USDT")][::-1][: len(ids)]
        every = (await call(sim, f"{REST}/market/history/trade?symbol=btcusdt&size=2000"))["data"]
        assert sum(len(order["data"]) for order in every) == len(sim.trades("htx", "BTC/USDT"))


# ---------------------------------------------------------------------- numbers


@given(st.integers(0, 10**16), st.integers(0, 14))
def test_doubles_are_exact_and_as_java_prints_them(number: int, decimals: int) -> None:
    text, exact = double(decimals)(number), Decimal(number).scaleb(-decimals)
    assert Decimal(text) == exact
    mantissa, _, exponent = text.partition("E")
    assert bool(exponent) == (exact != 0 and not Decimal("0.001") <= exact < 10**7)
    whole, _, fraction = mantissa.partition(".")
    assert fraction == "0" or (fraction and fraction[-1] != "0")
    assert not exponent or whole in set("123456789")


@pytest.mark.parametrize(
    ("number", "decimals", "text"),
    [
        (92, 8, "9.2E-7"),
        (1883580, 1, "188358.0"),
        (0, 6, "0.0"),
        (1, 3, "0.001"),
        (11111111, 0, "1.1111111E7"),
        (5, 7, "5.0E-7"),
    ],
)
def test_doubles_as_recorded(number: int, decimals: int, text: str) -> None:
    assert double(decimals)(number) == text


# ------------------------------------------------------------------------ forms


@pytest.mark.parametrize(
    ("path", "topic", "file"),
    [
        (WS, "trade.detail", "spot-session.ndjson"),
        (WS, "trade.detail", "spot-single.ndjson"),
        (WS, "depth.step0", "spot-session.ndjson"),
        (WS, "depth.step1", "spot-single.ndjson"),
        (FEED, "mbp.20", "spot-single.ndjson"),
        (WS, "bbo", "spot-single.ndjson"),
        (WS, "detail", "spot-single.ndjson"),
    ],
)
async def test_topics_have_the_recorded_form(path: str, topic: str, file: str) -> None:
    real = next(text for text in recorded(file, '{"ch"') if json.loads(text)["ch"].split(".", 2)[2] == topic)
    name = f"market.btcusdt.{topic}"
    async with simulator.serve(["htx"], rate=3000, time_scale=20, facts=MUTE) as sim, connect(sim, path) as client:
        await client.send({"sub": name, "id": 1})
        await client.until(lambda message: message.get("ch") == name and len(message["tick"]) == len(json.loads(real)["tick"]))
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]


async def test_the_ticker_has_day_best_prices_and_last_trade() -> None:
    async with simulator.serve(["htx"], rate=3000) as sim, connect(sim, WS) as client:
        await client.send({"sub": "market.btcusdt.ticker", "id": 1})
        tick = await data(client, "market.btcusdt.ticker")
        assert tick["low"] <= tick["lastPrice"] == tick["close"] <= tick["high"]
        assert tick["bid"] < tick["ask"]
        assert tick["count"] > 100


async def test_every_frame_is_gzip_and_ids_come_back_as_they_were() -> None:
    acks = {json.loads(text)["id"]: text for text in recorded("spot-session.ndjson", '"subbed"')}
    async with simulator.serve(["htx"]) as sim, support.connect(sim, WS) as client:
        for identity in (1, "1"):
            await client.send({"sub": f"market.{QUIET_PAIR.replace('/', '').lower()}.trade.detail", "id": identity})
            frame = (await client.text()).encode("latin-1")
            assert frame[:4] == b"\x1f\x8b\x08\x00"
            ack = gzip.decompress(frame).decode()
            assert json.loads(ack)["id"] == identity
            if identity == 1:
                assert form(ack) == form(acks[1])


# ------------------------------------------------------------ requests and ends


async def test_unknown_topics_are_refused_and_halted_or_rejected_ones_are_silent() -> None:
    async with simulator.serve(["htx"], rate=3000, faults=["htx:reject=DOGE/USDT"]) as sim, connect(sim, WS) as client:
        for symbol in ("nopeusdt", "BTCUSDT", "lunausdt", "dogeusdt", "btcusdt"):
            await client.send({"sub": f"market.{symbol}.bbo", "id": symbol})
        answers: dict[str, Json] = {}
        while len(answers) < 5:
            message = await client.until(lambda message: "id" in message)
            answers[message["id"]] = message
        assert list(answers["nopeusdt"]) == ["status", "ts", "id", "err-code", "err-msg"]
        assert answers["nopeusdt"]["err-msg"] == "invalid topic market.nopeusdt.bbo"
        assert {name: answer["status"] for name, answer in answers.items()} == {
            "nopeusdt": "error",
            "BTCUSDT": "error",
            "lunausdt": "ok",
            "dogeusdt": "ok",
            "btcusdt": "ok",
        }
        for _ in range(20):
            await data(client, "market.btcusdt.bbo")
        assert not any('"ch":"market.doge' in text for text in client.texts)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (WS, {"sub": "market.btcusdt.mbp.150"}),
        (FEED, {"sub": "market.btcusdt.trade.detail"}),
        (FEED, {"sub": "market.btcusdt.mbp.30"}),
        (WS, {"req": "market.btcusdt.bbo"}),
        (WS, {"unsub": "market.btcusdt.bbo"}),
        (WS, {"sub": 5}),
        (WS, {"op": "ping"}),
        (WS, "nonsense"),
    ],
)
async def test_bad_requests(path: str, message: Json) -> None:
    async with simulator.serve(["htx"]) as sim, connect(sim, path) as client:
        await client.send(message)
        answer = await client.json()
        assert (answer["status"], answer["err-code"]) == ("error", "bad-request")


async def test_unsubscribe() -> None:
    async with simulator.serve(["htx"], rate=1000) as sim, connect(sim, WS) as client:
        await client.send({"sub": "market.btcusdt.bbo", "id": 1})
        await client.send({"unsub": "market.btcusdt.bbo", "id": 2})
        answer = await client.until(lambda message: message.get("id") == 2)
        assert list(answer) == ["id", "status", "unsubbed", "ts"]
        assert sim.stats()["htx"]["subscriptions"] == 0


async def test_subscriptions_of_a_second_are_limited() -> None:
    async with simulator.serve(["htx"], facts={"htx": {"operations": 2}}) as sim, connect(sim, WS) as client:
        for number in range(3):
            await client.send({"sub": "market.lunausdt.bbo", "id": number})
        await client.until(lambda message: message.get("id") == 2 and message["status"] == "error")
        assert sim.stats()["htx"]["limited"] == {"operations": 1}


async def test_pings_that_are_answered_keep_the_connection() -> None:
    facts = {"htx": {"heartbeat": 0.05, "pong": 0.3}}
    async with simulator.serve(["htx"], facts=facts) as sim, connect(sim, WS) as client:
        for _ in range(12):
            assert (await client.text()).startswith('{"ping":1')
            await client.send({"pong": json.loads(client.texts[-1])["ping"]})


@pytest.mark.parametrize("pong", [None, {"pong": 1}, {"action": "pong"}])
async def test_a_ping_without_its_number_back_ends_the_connection(pong: Json) -> None:
    facts = {"htx": {"heartbeat": 0.05, "pong": 0.3}}
    async with simulator.serve(["htx"], facts=facts) as sim, connect(sim, WS) as client:
        await client.text()
        if pong:
            await client.send(pong)
        await client.socket.pong()
        end = await client.closed()
        assert (end.code, end.reason) == (1003, "ping check expired")
        assert sum('"ping"' in text for text in client.texts) > 1


async def test_paths_and_connects() -> None:
    async with simulator.serve(["htx"], facts={"htx": {"connects": 2}}) as sim:
        assert (await refused(sim, "api.huobi.pro/ws/v2")).status == 404
        async with connect(sim, FEED):
            assert (await refused(sim, WS)).status == 429


# ------------------------------------------------------------------------- rest


async def test_rest_answers_have_the_recorded_forms() -> None:
    async with simulator.serve(["htx"]) as sim:
        real = next(recorded("spot-single.ndjson", '"status":"ok"'))
        assert form((await get(sim, f"{REST}/market/depth?symbol=btcusdt&type=step0&depth=5"))[1]) == form(real)
        rows = {row["symbol"]: row for row in json.loads(next(recorded("spot-instruments.ndjson", "btcusdt")))["data"]}
        ours = {row["symbol"]: row for row in (await call(sim, f"{REST}/v1/common/symbols"))["data"]}
        assert set(ours["btcusdt"]) <= set(rows["btcusdt"])
        for key in ("price-precision", "amount-precision", "state"):
            assert ours["btcusdt"][key] == rows["btcusdt"][key]
            assert ours["ethusdt"][key] == rows["ethusdt"][key]
        assert ours["lunausdt"]["state"] == "offline"
        short = {row["sc"]: row for row in (await call(sim, f"{REST}/v2/settings/common/symbols"))["data"]}
        assert (short["btcusdt"]["tpp"], short["btcusdt"]["tap"], short["btcusdt"]["bc"]) == (2, 6, "btc")
        assert (await call(sim, f"{REST}/v1/common/timestamp"))["data"] > 1_600_000_000_000
        tickers = (await call(sim, f"{REST}/market/tickers"))["data"]
        assert [row["symbol"] for row in tickers] == ["btcusdt"]
        step1 = (await call(sim, f"{REST}/market/depth?symbol=btcusdt&type=step1"))["tick"]
        assert len(step1["bids"]) == 20
        assert all(round(price * 10) == round(price * 10, 6) for price, _ in step1["bids"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("market/depth?symbol=foousdt&type=step0", "invalid symbol"),
        ("market/depth?symbol=btcusdt&type=step9", "invalid type"),
        ("market/history/trade?symbol=btcusdt&size=2001", "invalid size, valid range: [1,2000]"),
    ],
)
async def test_rest_errors(path: str, message: str) -> None:
    async with simulator.serve(["htx"]) as sim:
        answer = await call(sim, f"{REST}/{path}")
        assert (answer["status"], answer["err-code"], answer["err-msg"]) == ("error", "invalid-parameter", message)


async def test_rest_is_limited() -> None:
    async with simulator.serve(["htx"], facts={"htx": {"rest": 2}}) as sim:
        answers = [await get(sim, f"{REST}/v1/common/timestamp") for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 429]
        await eventually(lambda: sim.stats()["htx"]["limited"] == {"rest": 1})
