"""Gate: full books that chain, deltas that need REST, one bad pair that fails a frame, times as text with a fraction."""

import json
import time
from decimal import Decimal
from itertools import pairwise

import pytest

import simulator
from simulator.gateio_feeds import REFRESH, TRADE_IDS, FullBook
from simulator.instruments import QUIET_PAIR
from tests.simulator.support import Client, Json, call, connect, eventually, form, get, recorded, refused
from tests.simulator.test_market import BEGIN, market

WS = "api.gateio.ws/ws/v4/"
REST = "api.gateio.ws/api/v4/spot"


def request(channel: str, *payload: str, event: str = "subscribe", **more: Json) -> Json:
    return {"time": int(time.time()), **more, "channel": channel, "event": event, "payload": list(payload)}


def update(channel: str) -> Json:
    return lambda message: message.get("channel") == channel and message.get("event") == "update"


async def answered(client: Client, message: Json) -> Json:
    """Send a request and return its answer."""
    await client.send(message)
    return await client.until(lambda answer: answer.get("event") == message["event"])


class Book:
    """A book as section 7 of the sheet builds it: levels by price, the worst beyond the depth dropped."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.last = 0
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"b": {}, "a": {}}

    def full(self, data: Json, sequence: int) -> None:
        self.last = sequence
        for name, rows in zip("ba", data, strict=True):
            self.sides[name] = {Decimal(price): (price, size) for price, size in rows}

    def change(self, data: Json) -> None:
        for name, side in self.sides.items():
            for price, size in data.get(name, ()):
                side.pop(Decimal(price), None)
                if size != "0":
                    side[Decimal(price)] = (price, size)
            for price in sorted(side, reverse=name == "b")[self.depth :]:
                del side[price]
        self.last = data["u"]

    def apply(self, data: Json) -> None:
        """A push of spot.obu."""
        if data.get("full"):
            self.full((data["b"], data["a"]), data["u"])
        else:
            assert data["U"] == self.last + 1, "gap"
            self.change(data)

    def rows(self) -> list[list[list[str]]]:
        return [[list(self.sides[name][price]) for price in sorted(self.sides[name], reverse=name == "b")] for name in "ba"]


# ------------------------------------------------------------------------ books


@pytest.mark.parametrize("depth", [50, 400])
async def test_a_full_book_chains_and_ends_equal_to_the_truth(depth: int) -> None:
    async with simulator.serve(["gateio"], seed=3, rate=6000, time_scale=4) as sim, connect(sim, WS) as client:
        await answered(client, request("spot.obu", f"ob.BTC_USDT.{depth}"))
        book = Book(depth)
        for _ in range(40):
            book.apply((await client.until(update("spot.obu")))["result"])
            assert [len(side) for side in book.rows()] == [depth, depth]
        sim.pause()
        true = sim.book("gateio", "BTC/USDT", depth)
        while book.last < int(str(true["sequence"])):
            book.apply((await client.until(update("spot.obu")))["result"])
        assert book.rows() == [true["bids"], true["asks"]]


async def test_bare_ids_come_where_no_level_is_in_the_window() -> None:
    async with simulator.serve(["gateio"], rate=60) as sim, connect(sim, WS) as client:
        await answered(client, request("spot.obu", "ob.BTC_USDT.50"))
        await client.until(lambda message: "result" in message and "U" in message["result"] and "b" not in message["result"])


async def test_a_late_subscriber_meets_the_chain_of_the_others() -> None:
    async with simulator.serve(["gateio"], seed=9, rate=6000) as sim, connect(sim, WS) as early:
        await answered(early, request("spot.obu", "ob.BTC_USDT.400"))
        first, second = Book(400), Book(400)
        first.apply((await early.until(update("spot.obu")))["result"])
        async with connect(sim, WS) as late:
            await answered(late, request("spot.obu", "ob.BTC_USDT.400"))
            for _ in range(3):
                second.apply((await late.until(update("spot.obu")))["result"])
        while first.last < second.last:
            first.apply((await early.until(update("spot.obu")))["result"])
        assert first.rows() == second.rows()


def test_a_full_book_comes_again() -> None:
    m = market()
    feed = FullBook(50, 0.02, "spot.obu", m)
    whole = []
    for turn in range(4):
        feed.note(m.step(BEGIN + turn))
        (push,) = feed.flush(BEGIN + turn * REFRESH // 2)
        whole.append("full" in json.loads(push)["result"])
    assert whole == [False, False, True, False]


@pytest.mark.parametrize(("interval", "depth"), [("100ms", 100), ("20ms", 20)])
async def test_deltas_are_aligned_with_rest(interval: str, depth: int) -> None:
    channel = "spot.order_book_update"
    async with simulator.serve(["gateio"], seed=4, rate=4000) as sim, connect(sim, WS) as client:
        await answered(client, request(channel, "BTC_USDT", interval))
        waiting = [(await client.until(update(channel)))["result"] for _ in range(3)]
        snapshot = await call(sim, f"{REST}/order_book?currency_pair=BTC_USDT&limit={depth}&with_id=true")
        book = Book(depth)
        book.full((snapshot["bids"], snapshot["asks"]), snapshot["id"])
        true: Json = None
        while true is None or book.rows() != [true["bids"], true["asks"]]:
            data = waiting.pop(0) if waiting else (await client.until(update(channel)))["result"]
            assert (data["l"], data.get("full")) == (str(depth), None)
            if data["u"] <= snapshot["id"]:
                continue
            assert data["U"] <= snapshot["id"] + 1 if book.last == snapshot["id"] else data["U"] == book.last + 1
            book.change(data)
            if true is None and book.last > snapshot["id"] + 2000:
                sim.pause()
                true = sim.book("gateio", "BTC/USDT", depth)


async def test_levels_pushed_out_of_the_deltas_are_deleted_as_recorded() -> None:
    """A reader that never truncates has no level too many."""
    channel = "spot.order_book_update"
    async with simulator.serve(["gateio"], seed=4, rate=4000) as sim, connect(sim, WS) as client:
        sim.pause()
        await answered(client, request(channel, "BTC_USDT", "20ms"))
        asks = {row[0] for row in (await call(sim, f"{REST}/order_book?currency_pair=BTC_USDT&limit=20"))["asks"]}
        sim.resume()
        for _ in range(40):
            for price, size in (await client.until(update(channel)))["result"]["a"]:
                (asks.discard if size == "0" else asks.add)(price)
            assert len(asks) == 20


async def test_a_large_rest_book_is_an_old_one() -> None:
    async with simulator.serve(["gateio"], rate=4000) as sim, connect(sim, WS) as client:
        await answered(client, request("spot.trades", "BTC_USDT"))
        path = f"{REST}/order_book?currency_pair=BTC_USDT&with_id=true&limit="
        before = [(await call(sim, f"{path}{limit}"))["id"] for limit in (100, 101)]
        await client.until(lambda message: message.get("result", {}).get("id", 0) > TRADE_IDS + before[0])
        after = [(await call(sim, f"{path}{limit}"))["id"] for limit in (100, 101)]
        assert after[0] > before[0]
        assert after[1] == before[1]


async def test_a_stale_snapshot_does_not_bridge_and_a_stale_full_book_does_not_chain() -> None:
    async with simulator.serve(["gateio"], rate=4000) as sim, connect(sim, WS) as client:
        await answered(client, request("spot.order_book_update", "BTC_USDT", "100ms"))
        first = (await client.until(update("spot.order_book_update")))["result"]
        sim.arm("gateio:stale_snapshot")
        old = await call(sim, f"{REST}/order_book?currency_pair=BTC_USDT&limit=100&with_id=true")
        assert old["id"] + 1 < first["U"]
        sim.arm("gateio:stale_snapshot")
        await answered(client, request("spot.obu", "ob.BTC_USDT.50"))
        full, delta = [(await client.until(update("spot.obu")))["result"] for _ in range(2)]
        assert delta["U"] > full["u"] + 1
        await answered(client, request("spot.obu", "ob.BTC_USDT.50", event="unsubscribe"))
        await answered(client, request("spot.obu", "ob.BTC_USDT.50"))
        await client.until(lambda message: message.get("result", {}).get("full"))
        full, delta = [(await client.until(update("spot.obu")))["result"] for _ in range(2)]
        assert delta["U"] == full["u"] + 1


@pytest.mark.parametrize(
    ("channel", "payload"), [("spot.obu", ["ob.BTC_USDT.50"]), ("spot.order_book_update", ["BTC_USDT", "20ms"])]
)
async def test_a_gap_breaks_the_chain_once(channel: str, payload: list[str]) -> None:
    async with simulator.serve(["gateio"], rate=3000, faults=["gateio:gap"]) as sim, connect(sim, WS) as client:
        await answered(client, request(channel, *payload))
        rows = [(await client.until(update(channel)))["result"] for _ in range(20)]
        assert sum(later["U"] != earlier["u"] + 1 for earlier, later in pairwise(rows)) == len(sim.fired()) == 1


# ----------------------------------------------------------------------- trades


async def test_trades_are_the_true_ones_with_ids_of_venue_and_market() -> None:
    async with simulator.serve(["gateio"], seed=12, rate=3000) as sim, connect(sim, WS) as client:
        await answered(client, request("spot.trades", "ETH_USDT"))
        rows = [(await client.until(update("spot.trades")))["result"] for _ in range(150)]
        true = sim.trades("gateio", "ETH/USDT", after=rows[0]["id"] - 1)[: len(rows)]
        assert [(r["id"], r["price"], r["amount"], r["side"], Decimal(r["create_time_ms"]) * 1000) for r in rows] == [
            (t["id"], t["price"], t["amount"], t["side"], t["timestamp"]) for t in true
        ]
        markets = [row["id_market"] for row in rows]
        assert markets == list(range(markets[0], markets[0] + len(markets)))
        assert rows[-1]["id"] - rows[0]["id"] > len(rows)
        assert all("." in row["create_time_ms"] for row in rows)
        past = await call(sim, f"{REST}/trades?currency_pair=ETH_USDT&limit=1000")
        known = {row["id"]: row for row in past}
        assert all(known[str(row["id"])]["sequence_id"] == str(row["id_market"]) for row in rows)


async def test_past_trades_are_newest_first_by_page_time_and_id() -> None:
    async with simulator.serve(["gateio"]) as sim:
        sim.pause()
        path = f"{REST}/trades?currency_pair=BTC_USDT"
        true = [str(trade["id"]) for trade in sim.trades("gateio", "BTC/USDT")][::-1]

        async def ids(query: str) -> list[str]:
            return [row["id"] for row in await call(sim, f"{path}&{query}")]

        assert await ids("limit=30") + await ids("limit=30&page=2") == true[:60]
        assert await ids(f"limit=30&last_id={true[29]}") == true[30:60]
        assert await ids(f"limit=30&reverse=true&last_id={true[60]}") == true[30:60]
        times = {trade["id"]: int(str(trade["timestamp"])) // 1_000_000 for trade in sim.trades("gateio", "BTC/USDT")}
        begin, end = times[int(true[60])], times[int(true[20])]
        assert await ids(f"limit=1000&from={begin}&to={end}") == [one for one in true if begin <= times[int(one)] <= end]
        status, body, _ = await get(sim, f"{path}&limit=1000&page=102")
        assert (status, json.loads(body)["label"]) == (400, "INVALID_PARAM_VALUE")


# ------------------------------------------------------------------------ forms

LATER = {"time_ms", "l", "range", "id_market"}
"""What frames of 2021 to 2023 had not yet."""

SHEET = {
    "spot.trades": """{"time":1606292218,"time_ms":1606292218231,"channel":"spot.trades","event":"update","result":{"id":
        309143071,"create_time":1606292218,"create_time_ms":"1606292218213.4578","side":"sell","currency_pair":"GT_USDT",
        "amount":"16.47","price":"0.4705","range":"2390902-2390902","id_market":917144}}""",
    "spot.obu": """{"channel":"spot.obu","event":"update","result":{"t":1747054612673,"full":true,"s":"ob.BTC_USDT.50","u":
        73777715168,"b":[["104027.1","0.509"]],"a":[["104027.2","0.446"]]},"time_ms":1747054612848}""",
    "spot.order_book_update": """{"time":1606294781,"time_ms":1606294781236,"channel":"spot.order_book_update","event":"update",
        "result":{"t":1606294781123,"l":"100","e":"depthUpdate","E":1606294781,"s":"BTC_USDT","U":48776301,"u":48776306,
        "b":[["19137.74","0.0001"]],"a":[["19137.75","0.6135"]]}}""",
    "spot.order_book": """{"time":1606295412,"time_ms":1606295412213,"channel":"spot.order_book","event":"update","result":{"t":
        1606295412123,"lastUpdateId":48791820,"s":"BTC_USDT","l":"5","bids":[["19079.55","0.0195"]],
        "asks":[["19080.24","0.1638"]]}}""",
}
CHANNELS = [
    ("spot.trades", ["BTC_USDT"]),
    ("spot.obu", ["ob.BTC_USDT.50"]),
    ("spot.order_book_update", ["BTC_USDT", "100ms"]),
    ("spot.order_book", ["BTC_USDT", "10", "100ms"]),
    ("spot.book_ticker", ["BTC_USDT"]),
    ("spot.tickers", ["BTC_USDT"]),
]


async def pushed(channel: str, payload: list[str]) -> str:
    """The first push of a channel, with levels on both sides where it is a book."""
    async with simulator.serve(["gateio"], rate=4000, time_scale=20) as sim, connect(sim, WS) as client:
        await answered(client, request(channel, *payload))
        await client.until(lambda message: update(channel)(message) and [] not in message["result"].values())
        assert " " not in client.texts[-1]
        return client.texts[-1]


@pytest.mark.parametrize(("channel", "payload"), [row for row in CHANNELS if row[0] in SHEET])
async def test_channels_have_the_form_of_the_sheet(channel: str, payload: list[str]) -> None:
    assert form(await pushed(channel, payload)) == form(SHEET[channel])


@pytest.mark.parametrize(("channel", "payload"), [row for row in CHANNELS if row[0] != "spot.obu"])
@pytest.mark.parametrize("file", ["session", "single", "frames-2023"])
async def test_channels_have_the_recorded_form(channel: str, payload: list[str], file: str) -> None:
    frames = list(recorded(f"gateio/spot-{file}.ndjson", f'"channel":"{channel}","event":"update"'))
    if not frames:
        pytest.skip(f"no {channel} in {file}")
    ours = json.loads(await pushed(channel, payload))
    for real in frames:
        if [] not in json.loads(real)["result"].values():
            assert form(older(ours, json.loads(real))) == form(real)


def older(ours: Json, real: Json) -> str:
    """Our frame without the keys that were added after the recording."""
    top = {key: value for key, value in ours.items() if key in real or key not in LATER}
    return json.dumps(top | {"result": {k: v for k, v in ours["result"].items() if k in real["result"] or k not in LATER}})


async def test_ack_and_error_have_the_form_of_the_sheet() -> None:
    ack = """{"time":1717595231,"time_ms":1717595231793,"id":1,"conn_id":"x28838ac31473dcbb","trace_id":"x","channel":
        "spot.trades","event":"subscribe","payload":["BTC_USDT"],"result":{"status":"success"},"requestId":"x"}"""
    error = """{"time":1790134507,"time_ms":1790134507715,"conn_id":"x8b9b24f2d19b4d6b","channel":"spot.order_book_update",
        "event":"subscribe","payload":["NOPE_USD","100ms"],"error":{"code":2,"message":"unknown currency pair: NOPE_USD"},
        "result":{"status":"fail"}}"""
    async with simulator.serve(["gateio"]) as sim, connect(sim, WS) as client:
        ours = await answered(client, request("spot.trades", "BTC_USDT", id=1))
        assert [(key, type(value)) for key, value in ours.items()] == [(k, type(v)) for k, v in json.loads(ack).items()]
        assert ours["trace_id"] == ours["requestId"]
        ours = await answered(client, request("spot.order_book_update", "NOPE_USD", "100ms"))
        assert [(key, type(value)) for key, value in ours.items()] == [(k, type(v)) for k, v in json.loads(error).items()]
        assert ours["error"] == json.loads(error)["error"]


# ------------------------------------------------------------ requests and ends


async def test_one_bad_pair_fails_the_whole_frame() -> None:
    async with simulator.serve(["gateio"], rate=3000) as sim, connect(sim, WS) as client:
        answer = await answered(client, request("spot.trades", "BTC_USDT", "btc_usdt", "ETH_USDT"))
        assert answer["error"] == {"code": 2, "message": "unknown currency pair: btc_usdt"}
        assert sim.stats()["gateio"]["subscriptions"] == 0
        answer = await answered(client, request("spot.trades", "BTC_USDT", "ETH_USDT", id=8578128440611119318))
        assert (answer["id"], answer["result"]) == (8578128440611119318, {"status": "success"})
        assert sim.stats()["gateio"]["subscriptions"] == 2
        await answered(client, request("spot.trades", "BTC_USDT", event="unsubscribe"))
        assert sim.stats()["gateio"]["subscriptions"] == 1


async def test_the_new_book_twice_is_an_error_and_other_channels_are_acknowledged_again() -> None:
    async with simulator.serve(["gateio"]) as sim, connect(sim, WS) as client:
        for expected in (None, {"code": 2, "message": "Alert sub ob.BTC_USDT.50"}):
            assert (await answered(client, request("spot.obu", "ob.BTC_USDT.50"))).get("error") == expected
        for _ in range(2):
            assert "error" not in await answered(client, request("spot.tickers", "BTC_USDT"))


@pytest.mark.parametrize("message", [{"channel": "spot.trades"}, [], request("spot.trades", "BTC_USDT") | {"time": 1}])
async def test_what_is_no_request_is_refused(message: Json) -> None:
    await check_refused(message, 1)


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        ("spot.trades", ()),
        ("spot.nonsense", ("BTC_USDT",)),
        ("spot.obu", ("ob.BTC_USDT.50", "ob.ETH_USDT.50")),
        ("spot.obu", ("ob.BTC_USDT.20",)),
        ("spot.order_book_update", ("BTC_USDT", "50ms")),
        ("spot.order_book", ("BTC_USDT", "7", "100ms")),
        ("spot.order_book_update", ("BTC_USDT", "ETH_USDT", "100ms")),
    ],
)
async def test_bad_requests(channel: str, payload: tuple[str, ...]) -> None:
    await check_refused(request(channel, *payload), 2)


async def check_refused(message: Json, code: int) -> None:
    async with simulator.serve(["gateio"]) as sim, connect(sim, WS) as client:
        await client.send(message)
        answer = await client.json()
        assert (answer["error"]["code"], answer["result"]) == (code, {"status": "fail"})


async def test_ping_has_its_pong_and_what_is_not_json_has_no_answer() -> None:
    async with simulator.serve(["gateio"]) as sim, connect(sim, WS) as client:
        await client.send("nonsense")
        await client.send({"time": int(time.time()), "channel": "spot.ping"})
        pong = await client.json()
        assert {key: pong[key] for key in ("channel", "event", "error", "result")} == {
            "channel": "spot.pong",
            "event": "",
            "error": None,
            "result": None,
        }
        assert pong["time"] == pong["time_ms"] // 1000


async def test_a_quiet_connection_is_cut_sooner_without_a_subscription() -> None:
    async with simulator.serve(["gateio"], facts={"gateio": {"mute": 0.6}}) as sim:
        clock = sim.exchanges["gateio"].clock
        lives = []
        for payload in ([], [QUIET_PAIR.replace("/", "_")]):
            async with connect(sim, WS) as client:
                began = clock.now()
                if payload:
                    await answered(client, request("spot.trades", *payload))
                assert (await client.closed()).code == 1006
                lives.append(clock.now() - began)
        assert 0.25 < lives[0] < 0.55 < lives[1]


async def test_pings_keep_a_quiet_connection() -> None:
    facts = {"gateio": {"mute": 0.3, "messages": 10**6}}
    async with simulator.serve(["gateio"], facts=facts) as sim, connect(sim, WS) as client:
        clock = sim.exchanges["gateio"].clock
        end = clock.now() + 0.7
        while clock.now() < end:
            await client.send({"time": int(time.time()), "channel": "spot.ping"})
            await client.json()


async def test_halted_and_quiet_pairs_are_acknowledged_and_silent() -> None:
    async with simulator.serve(["gateio"], rate=3000) as sim, connect(sim, WS) as client:
        quiet = QUIET_PAIR.replace("/", "_")
        assert (await answered(client, request("spot.trades", "LUNA_USDT", quiet)))["result"] == {"status": "success"}
        await answered(client, request("spot.trades", "BTC_USDT"))
        pairs = {(await client.until(update("spot.trades")))["result"]["currency_pair"] for _ in range(30)}
        assert pairs == {"BTC_USDT"}


async def test_an_upgrade_is_announced() -> None:
    async with simulator.serve(["gateio"]) as sim, connect(sim, WS) as client:
        sim.arm("gateio:maintenance=60")
        notice = await client.until(update("spot.system"))
        assert notice["result"] == {
            "type": "upgrade",
            "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
        }
        assert (await client.closed()).code == 1012


async def test_the_final_slash_belongs_to_the_address() -> None:
    async with simulator.serve(["gateio"], facts={"gateio": {"connects": 1}}) as sim, connect(sim, WS):
        assert (await refused(sim, WS)).status == 429
    async with simulator.serve(["gateio"]) as sim:
        assert (await refused(sim, WS.rstrip("/"))).status == 404


# ------------------------------------------------------------------------- rest


async def test_rest_answers_have_the_recorded_forms() -> None:
    async with simulator.serve(["gateio"]) as sim:
        book = f"{REST}/order_book?currency_pair=BTC_USDT"
        for path, file, contains in (
            (f"{REST}/tickers?currency_pair=BTC_USDT", "spot-rest", '"change_utc0"'),
            (book, "spot-single", '{"current"'),
        ):
            assert form((await get(sim, path))[1]) == form(next(recorded(f"gateio/{file}.ndjson", contains)))
        real = json.loads(next(recorded("gateio/spot-session.ndjson", '{"id":')))
        assert set(real) <= set(await call(sim, f"{book}&with_id=true"))
        ours = {row["id"]: row for row in await call(sim, f"{REST}/currency_pairs")}
        for file in ("spot-instruments", "spot-rest"):
            rows = {row["id"]: row for row in json.loads(next(recorded(f"gateio/{file}.ndjson", '"trade_status"')))}
            assert list(ours["BTC_USDT"])[: len(rows["BTC_USDT"])] == list(rows["BTC_USDT"])
        assert "min_base_amount" not in ours["ADA_USDT"]
        assert (ours["BTC_USDT"]["precision"], ours["BTC_USDT"]["amount_precision"]) == (1, 6)
        assert [ours[name]["trade_status"] for name in ("BTC_USDT", "LUNA_USDT")] == ["tradable", "untradable"]
        assert (await call(sim, f"{REST}/time"))["server_time"] > 1_600_000_000_000


async def test_rest_windows_belong_to_the_endpoint() -> None:
    async with simulator.serve(["gateio"], facts={"gateio": {"rest": 2}}) as sim:
        path = f"{REST}/order_book?currency_pair=BTC_USDT"
        answers = [await get(sim, path) for _ in range(3)]
        assert [status for status, _, _ in answers] == [200, 200, 429]
        assert [headers["x-gate-ratelimit-requests-remain"] for _, _, headers in answers] == ["1", "0", "0"]
        assert answers[0][2]["x-gate-ratelimit-limit"] == "2"
        assert 0 <= int(answers[0][2]["x-gate-ratelimit-reset-timestamp"]) - time.time() <= 11
        assert json.loads(answers[2][1])["label"] == "TOO_MANY_REQUESTS"
        assert (await get(sim, f"{REST}/time"))[0] == 200
        await eventually(lambda: sim.stats()["gateio"]["limited"] == {"rest": 1})


@pytest.mark.parametrize(
    ("path", "status", "label"),
    [
        ("order_book?currency_pair=FOO_USDT", 400, "INVALID_CURRENCY_PAIR"),
        ("order_book?currency_pair=BTC_USDT&limit=1001", 400, "INVALID_PARAM_VALUE"),
        ("trades?currency_pair=BTC_USDT&limit=x", 400, "INVALID_PARAM_VALUE"),
        ("nonsense", 404, "404 page not found"),
    ],
)
async def test_rest_errors(path: str, status: int, label: str) -> None:
    async with simulator.serve(["gateio"]) as sim:
        given, body, _ = await get(sim, f"{REST}/{path}")
        assert given == status
        assert label in body
