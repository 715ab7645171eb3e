"""Bitfinex: channel ids of each connection, every trade twice, one sequence for all frames, a checksum now and then."""

import json
from collections.abc import Callable
from itertools import chain, pairwise, zip_longest
from typing import cast
from zlib import crc32

import pytest

import simulator
from simulator.bitfinex import Bitfinex
from simulator.bitfinex_feeds import BULK_UPDATES, OB_CHECKSUM, SEQ_ALL, TIMESTAMP, Books, checksum, number
from simulator.instruments import QUIET_PAIR, Instrument
from simulator.market import Book as Levels
from simulator.market import Market
from tests.simulator.support import Client, Json, Number, call, connect, eventually, form, get, parsed, recorded, refused
from tests.simulator.test_market import BEGIN

WS = "api-pub.bitfinex.com/ws/2"
REST = "api-pub.bitfinex.com/v2"


class Book:
    """A book as section 7 of the sheet builds it, number tokens kept."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.sides: dict[bool, dict[str, str]] = {True: {}, False: {}}
        self.begun = False

    def apply(self, payload: Json) -> None:
        rows = payload if isinstance(payload[0], list) else [payload]
        for price, count, amount in rows:
            bid = not amount.startswith("-")
            if count == "0":
                assert amount in {"1", "-1"}
                del self.sides[bid][price]
            else:
                self.sides[bid][price] = amount
            assert len(self.sides[bid]) <= self.length

    def ranked(self, bid: bool) -> list[tuple[str, str]]:
        return sorted(self.sides[bid].items(), key=lambda row: float(row[0]), reverse=bid)

    def rows(self) -> list[list[list[str]]]:
        return [[[price, amount.lstrip("-")] for price, amount in self.ranked(bid)] for bid in (True, False)]

    def checksum(self) -> int:
        turns = zip_longest(self.ranked(True)[:25], self.ranked(False)[:25], fillvalue=())
        unsigned = crc32(":".join(chain.from_iterable(chain.from_iterable(turns))).encode())
        return unsigned - (1 << 32) if unsigned >> 31 else unsigned


def read(text: str) -> Json:
    """A frame with its number tokens as they stand."""
    return json.loads(text, parse_float=Number, parse_int=Number)


async def subscribe(client: Client, channel: str, symbol: str, **options: object) -> Json:
    """Subscribe, and return the answer."""
    await client.send({"event": "subscribe", "channel": channel, "symbol": symbol, **options})
    return await client.until(lambda m: isinstance(m, dict) and m["event"] in {"subscribed", "error"})


async def book(client: Client, symbol: str, length: int, **options: object) -> Json:
    return await subscribe(client, "book", symbol, prec="P0", freq="F0", len=str(length), **options)


async def conf(client: Client, flags: int) -> None:
    await client.send({"event": "conf", "flags": flags})
    await client.until(lambda m: m == {"event": "conf", "status": "OK", "flags": flags})


async def array(client: Client, kind: str = "") -> Json:
    """The next array frame, number tokens kept; of a kind (te, tu, hb, cs) where one is named."""
    await client.until(lambda m: isinstance(m, list) and (not kind or m[1] == kind))
    return read(client.texts[-1])


def event(code: int) -> Callable[[Json], bool]:
    return lambda m: isinstance(m, dict) and m.get("code") == code


# ------------------------------------------------------------------------ books


@pytest.mark.parametrize("length", [1, 25, 100, 250])
async def test_book_never_holds_more_than_its_length_and_ends_equal_to_the_truth(length: int) -> None:
    async with simulator.serve(["bitfinex"], seed=8, rate=4000) as sim, connect(sim, WS) as client:
        await book(client, "tBTCUSD", length)
        reader = Book(length)
        for _ in range(600):
            reader.apply((await array(client))[1])
        sim.pause()
        true = sim.book("bitfinex", "BTC/USD", length)
        while reader.rows() != [true["bids"], true["asks"]]:
            reader.apply((await array(client))[1])


@pytest.mark.parametrize("flags", [OB_CHECKSUM, OB_CHECKSUM | BULK_UPDATES])
async def test_checksums_fit_the_tokens_of_the_book(flags: int) -> None:
    async with simulator.serve(["bitfinex"], seed=3, rate=3000, time_scale=20) as sim, connect(sim, WS) as client:
        await conf(client, flags)
        await book(client, "tBTCUSD", 100)
        reader, sums, bulks = Book(100), 0, 0
        while sums < 8:
            frame = await array(client)
            if frame[1] == "cs":
                assert int(frame[2]) == reader.checksum()
                sums += 1
            elif frame[1] != "hb":
                bulks += sums > 0 and isinstance(frame[1][0], list)
                reader.apply(frame[1])
        assert (bulks > 0) == bool(flags & BULK_UPDATES)


async def test_no_flag_no_checksum_and_a_still_book_has_none_either() -> None:
    quiet = "t" + QUIET_PAIR.replace("/USDT", "UST")
    async with simulator.serve(["bitfinex"], rate=3000, time_scale=50) as sim:
        async with connect(sim, WS) as plain:
            await book(plain, "tBTCUSD", 25)
            while len(plain.texts) < 500:
                await plain.text()
            assert not any('"cs"' in text for text in plain.texts)
        async with connect(sim, WS) as still:
            await conf(still, OB_CHECKSUM)
            await book(still, quiet, 25)
            await array(still, "hb")
            await array(still, "hb")
            assert not any('"cs"' in text for text in still.texts)


def test_checksum_of_the_sheet() -> None:
    """Section 7: the mini vector, asks with their minus sign, the shorter side ends first."""
    listed = Bitfinex.listing.instruments[0]
    instrument = Instrument("BTC", "USD", 73648, 1, 8, number(1), number(8))
    levels = {73648: 435480200, -73649: 42028976, 73647: 288831, -73650: 25000000}
    assert checksum(instrument, Levels(levels), 25) == 1427301231
    assert listed.price_text(65000) == "65000"


@pytest.mark.parametrize(
    ("decimals", "value", "text"),
    [(8, 11, "1.1e-7"), (8, 70, "7e-7"), (8, 100, "0.000001"), (8, 110, "0.0000011"), (8, 1, "1e-8"), (0, 7365, "7365"),
     (1, 73650, "7365"), (8, 0, "0"), (8, 48403686, "0.48403686"), (4, 1, "0.0001")],
)  # fmt: skip
def test_numbers_are_written_as_javascript_writes_them(decimals: int, value: int, text: str) -> None:
    assert number(decimals)(value) == text


def test_the_view_of_one_level_is_checked_over_that_level() -> None:
    market = Market(Bitfinex.listing.instruments[0], "1", BEGIN)
    feed = Books(1, OB_CHECKSUM, ("book", "tBTCUSD", "P0", "F0", "1"), market)
    reader = Book(1)
    reader.apply(read(feed.first(market.book)))
    for tick in range(400):
        for payload in feed.note(market.step(BEGIN + tick)):
            reader.apply(read(str(payload)))
    (last,) = feed.flush(BEGIN)
    assert last == f'"cs",{reader.checksum()}'


# --------------------------------------------------------------- flags and frames


async def test_one_sequence_numbers_all_frames_of_a_connection() -> None:
    async with simulator.serve(["bitfinex"], rate=2000, time_scale=30) as sim, connect(sim, WS) as client:
        await conf(client, SEQ_ALL | OB_CHECKSUM)
        for channel in ("book", "trades", "ticker"):
            await subscribe(client, channel, "tBTCUSD")
        await subscribe(client, "trades", "tETHUSD")
        while not all(any(f'"{kind}"' in text for text in client.texts) for kind in ("te", "tu", "cs", "hb")):
            await client.text()
        frames = [json.loads(text) for text in client.texts if text.startswith("[")]
        assert [frame[-1] for frame in frames] == list(range(1, len(frames) + 1))
        assert len({frame[0] for frame in frames}) == 4


async def test_time_comes_after_the_sequence() -> None:
    async with simulator.serve(["bitfinex"], rate=2000) as sim, connect(sim, WS) as client:
        await conf(client, SEQ_ALL | TIMESTAMP)
        await book(client, "tBTCUSD", 25)
        frames = [await array(client) for _ in range(20)]
        assert [int(frame[2]) for frame in frames] == list(range(1, 21))
        assert all(len(frame[3]) == 13 for frame in frames)
        assert all(int(later[3]) >= int(earlier[3]) for earlier, later in pairwise(frames))


@pytest.mark.parametrize("kind", ["gap", "trade_gap"])
async def test_a_lost_frame_shows_in_the_sequence(kind: str) -> None:
    async with simulator.serve(["bitfinex"], rate=2000, faults=[f"bitfinex:{kind}"]) as sim, connect(sim, WS) as client:
        await conf(client, SEQ_ALL)
        await subscribe(client, "trades" if kind == "trade_gap" else "book", "tBTCUSD")
        numbers = [int((await array(client))[-1]) for _ in range(60)]
        assert sum(later != earlier + 1 for earlier, later in pairwise(numbers)) == 1


async def test_bad_checksum_hits_a_checksum() -> None:
    faults = ["bitfinex:bad_checksum"]
    async with simulator.serve(["bitfinex"], rate=2000, time_scale=50, faults=faults) as sim, connect(sim, WS) as client:
        await conf(client, OB_CHECKSUM)
        await book(client, "tBTCUSD", 25)
        reader = Book(25)
        fits: list[bool] = []
        while len(fits) < 20:
            frame = await array(client)
            if frame[1] == "cs":
                fits.append(int(frame[2]) == reader.checksum())
            elif frame[1] != "hb":
                reader.apply(frame[1])
        assert fits.count(False) == len(sim.fired()) == 1


async def test_a_stale_snapshot_is_an_old_book() -> None:
    faults = ["bitfinex:stale_snapshot"]
    async with simulator.serve(["bitfinex"], rate=0.001, faults=faults) as sim, connect(sim, WS) as client:
        await book(client, "tBTCUSD", 25)
        old = (await array(client))[1]
        assert [[row[0], row[2]] for row in old[:25]] != sim.book("bitfinex", "BTC/USD", 25)["bids"]
        assert sim.fired()[0]["fault"] == "stale_snapshot"


# ---------------------------------------------------------------- trades, tickers


async def test_every_trade_comes_twice_after_the_last_thirty() -> None:
    async with simulator.serve(["bitfinex"], seed=5, rate=2000) as sim, connect(sim, WS) as client:
        await subscribe(client, "trades", "tETHUSD")
        first = (await array(client))[1]
        frames = [await array(client) for _ in range(200)]
        assert len(first) == 30
        assert all(int(newer[0]) > int(older[0]) for newer, older in pairwise(first))
        executed, updated = ([frame[2] for frame in frames if frame[1] == kind] for kind in ("te", "tu"))
        assert executed[: len(updated)] == updated
        rows = first[::-1] + executed
        true = sim.trades("bitfinex", "ETH/USD", after=int(rows[0][0]) - 1)[: len(rows)]
        assert [(int(i), int(ms), amount.lstrip("-"), price) for i, ms, amount, price in rows] == [
            (t["id"], cast("int", t["timestamp"]) // 1000, t["amount"], t["price"]) for t in true
        ]
        assert ["sell" if row[2].startswith("-") else "buy" for row in rows] == [t["side"] for t in true]
        assert int(rows[-1][0]) - int(rows[0][0]) > len(rows), "ids are not consecutive"


@pytest.mark.parametrize(
    ("channel", "contains"),
    [("trades", "[232960,[[670002570"), ("book", "[225206,[["), ("book", "[225206,[215350,0,1]"), ("ticker", "[232950,[")],
)
async def test_frames_have_the_recorded_form(channel: str, contains: str) -> None:
    real = next(recorded("bitfinex/spot-session.ndjson", contains))
    async with simulator.serve(["bitfinex"], rate=2000) as sim, connect(sim, WS) as client:
        await conf(client, SEQ_ALL)
        await subscribe(client, channel, "tBTCUSD", **({"len": "100"} if channel == "book" else {}))
        nested = isinstance(json.loads(real)[1][0], list)
        await client.until(lambda m: isinstance(m, list) and isinstance(m[1], list) and isinstance(m[1][0], list) == nested)
        assert form(client.texts[-1]) == form(real)
        assert " " not in client.texts[-1]
        rows = read(client.texts[-1])[1]
        assert {len(row) for row in rows if isinstance(row, list)} <= {len(row) for row in json.loads(real)[1] if nested}
        assert nested or len(rows) == len(json.loads(real)[1])


@pytest.mark.parametrize("kind", ["te", "tu"])
async def test_single_trades_have_the_recorded_form(kind: str) -> None:
    real = json.loads(next(recorded("bitfinex/spot-single.ndjson", f'"{kind}"')))
    async with simulator.serve(["bitfinex"], rate=2000) as sim, connect(sim, WS) as client:
        ack = await subscribe(client, "trades", "tBTCUST")
        frame = await array(client, kind)
        assert form(json.dumps([1, *json.loads(client.texts[-1])[1:]])) == form(json.dumps([1, *real[1:]]))
        assert int(frame[0]) == ack["chanId"]


async def test_ticker_sizes_are_sums() -> None:
    async with simulator.serve(["bitfinex"], rate=0.001) as sim, connect(sim, WS) as client:
        await subscribe(client, "ticker", "tBTCUSD")
        row = (await array(client))[1]
        true = cast("dict[str, list[list[str]]]", sim.book("bitfinex", "BTC/USD", 25))
        assert [row[0], row[2]] == [true["bids"][0][0], true["asks"][0][0]]
        assert float(row[1]) == pytest.approx(sum(float(amount) for _, amount in true["bids"]))


# ---------------------------------------------------------------------- protocol


async def test_welcome_and_acknowledgements_have_the_recorded_form() -> None:
    file = "bitfinex/spot-session.ndjson"
    async with simulator.serve(["bitfinex"]) as sim, connect(sim, WS) as client:
        assert form(await client.text()) == form(next(recorded(file, '"info"')))
        ack = await subscribe(client, "ticker", "tDOGE:USD")
        assert form(client.texts[-1]) == form(next(recorded(file, '"channel":"ticker","chanId"')))
        assert (ack["symbol"], ack["pair"]) == ("tDOGE:USD", "DOGE:USD")
        await book(client, "tBTCUSD", 100)
        assert form(client.texts[-1]) == form(next(recorded(file, '"channel":"book","chanId"')))
        assert (await subscribe(client, "trades", "BTCUST", subId="me"))["symbol"] == "tBTCUST", "the t may be missing"
        assert json.loads(client.texts[-1])["subId"] == "me"


async def test_channel_ids_belong_to_the_connection() -> None:
    async with simulator.serve(["bitfinex"], rate=2000) as sim, connect(sim, WS) as one, connect(sim, WS) as two:
        first, second = await book(one, "tBTCUSD", 25), await book(two, "tBTCUSD", 25)
        assert first["chanId"] != second["chanId"]
        assert {int((await array(one))[0]) for _ in range(50)} == {first["chanId"]}
        assert {int((await array(two))[0]) for _ in range(50)} == {second["chanId"]}
        await one.send({"event": "unsubscribe", "chanId": first["chanId"]})
        done = {"event": "unsubscribed", "status": "OK", "chanId": first["chanId"]}
        await one.until(lambda m: m == done)
        assert (await book(one, "tBTCUSD", 25))["event"] == "subscribed"
        assert sim.stats()["bitfinex"]["subscriptions"] == 2


async def test_ping_is_answered() -> None:
    async with simulator.serve(["bitfinex"]) as sim, connect(sim, WS) as client:
        await client.send({"event": "ping", "cid": 1234})
        pong = await client.until(lambda m: m["event"] == "pong")
        assert (list(pong), pong["cid"]) == (["event", "ts", "cid"], 1234)


@pytest.mark.parametrize(
    ("wanted", "text", "code"),
    [
        ({"channel": "trades", "symbol": "tQQQUSD"}, "symbol: invalid", 10300),
        ({"channel": "nope", "symbol": "tBTCUSD"}, "channel: unknown", 10300),
        ({"channel": "book", "symbol": "tBTCUSD", "len": "7"}, "length: invalid", 10300),
        ({"channel": "book", "symbol": "tBTCUSD", "prec": "P9"}, "precision: invalid", 10300),
        ({"channel": "trades", "symbol": "tLUNA:USD"}, "symbol: invalid", 10300),
    ],
)
async def test_refused_subscriptions_name_what_was_asked(wanted: dict[str, str], text: str, code: int) -> None:
    async with simulator.serve(["bitfinex"]) as sim, connect(sim, WS) as client:
        await client.send({"event": "subscribe"} | wanted)
        error = await client.until(lambda m: m["event"] == "error")
        assert error == wanted | {"event": "error", "msg": text, "code": code}


async def test_what_else_is_refused_and_what_is_not_answered() -> None:
    async with simulator.serve(["bitfinex"]) as sim, connect(sim, WS) as client:
        ack = await subscribe(client, "trades", "tBTCUSD")
        again = await subscribe(client, "trades", "tBTCUSD")
        assert (again["msg"], again["code"], again["chanId"]) == ("subscribe: dup", 10301, ack["chanId"])
        await client.send({"event": "unsubscribe", "chanId": 1})
        assert (await client.until(event(10400)))["msg"] == "unsubscribe: invalid"
        await client.send("nonsense")
        await client.send(["x"])
        await client.send({"event": "subscribe", "channel": "status", "key": "deriv:tNOPEF0:USTF0"})
        count = len(client.texts)
        await client.send({"event": "nope"})
        assert (await client.until(event(10000)))["msg"] == "event: invalid (nope)"
        assert len(client.texts) == count + 1


async def test_channels_of_a_connection_are_limited() -> None:
    async with simulator.serve(["bitfinex"], rate=0.001) as sim, connect(sim, WS) as client:
        bases = "BTC ETH XRP SOL LTC XLM DOT TRX BCH UNI FIL ETC ICP".split()  # noqa: SIM905
        channels = [(channel, f"t{base}USD") for base in bases for channel in ("trades", "book")]
        answers = [await subscribe(client, *channel) for channel in channels]
        assert [answer["event"] for answer in answers] == ["subscribed"] * 25 + ["error"]
        assert (answers[-1]["msg"], answers[-1]["code"]) == ("subscribe: limit", 10305)
        assert sim.stats()["bitfinex"]["limited"] == {"topics": 1}
        assert len({answer["chanId"] for answer in answers[:25]}) == 25


async def test_heartbeats_come_on_every_channel_and_a_socket_without_any_is_cut_off() -> None:
    async with simulator.serve(["bitfinex"], rate=500, time_scale=100) as sim:
        async with connect(sim, WS) as client:
            acks = [await subscribe(client, "trades", symbol) for symbol in ("tBTCUSD", "tXTZUST")]
            for ack in acks:
                await client.until(lambda m, ack=ack: m == [ack["chanId"], "hb"])  # type: ignore[misc]
        async with connect(sim, WS) as client:
            assert (await client.closed()).code == 1006


async def test_connections_are_limited_and_there_is_one_path() -> None:
    async with simulator.serve(["bitfinex"], facts={"bitfinex": {"connects": 2}}) as sim:
        assert (await refused(sim, "api-pub.bitfinex.com/ws/1")).status == 404
        async with connect(sim, WS):
            assert (await refused(sim, WS)).status == 429


async def test_a_maintenance_is_a_pause_and_the_socket_stays() -> None:
    async with simulator.serve(["bitfinex"], rate=2000) as sim, connect(sim, WS) as client:
        await conf(client, SEQ_ALL)
        await subscribe(client, "trades", "tBTCUSD")
        sim.arm("bitfinex:maintenance=600")
        await client.until(event(20060))
        before = json.loads(next(text for text in reversed(client.texts) if text.startswith("[")))[-1]
        assert (await refused(sim, WS)).status == 503
        assert (await get(sim, f"{REST}/platform/status"))[:2] == (200, "[0]")
        assert (await get(sim, f"{REST}/tickers?symbols=ALL"))[1] == '["error",20060,"maintenance"]'
        sim.clear()
        assert event(20061)(await client.json()), "silence until the end"
        assert int((await array(client))[-1]) > before + 1, "what fell into it is lost"
        assert await call(sim, f"{REST}/platform/status") == [1]


async def test_a_planned_end_is_a_restart() -> None:
    facts = {"bitfinex": {"session": 0.2, "notice": 0.1}}
    async with simulator.serve(["bitfinex"], facts=facts) as sim, connect(sim, WS) as client:
        await client.until(event(20051))
        assert (await client.closed()).code == 1001


async def test_rejected_pairs_are_unknown() -> None:
    async with simulator.serve(["bitfinex"], faults=["bitfinex:reject=DOGE/USDT"]) as sim, connect(sim, WS) as client:
        assert (await subscribe(client, "trades", "tDOGE:UST"))["msg"] == "symbol: invalid"
        assert (await subscribe(client, "trades", "tDOGE:USD"))["event"] == "subscribed"


# -------------------------------------------------------------------------- rest


async def test_lists_have_the_venues_names() -> None:
    labels = "pub:info:pair,pub:info:pair:futures,pub:map:currency:sym,pub:list:currency,pub:nonsense"
    real = json.loads(next(recorded("bitfinex/spot-instruments.ndjson", "AAVE:USD")))[0]
    async with simulator.serve(["bitfinex"]) as sim:
        pairs, futures, names, currencies, unknown = await call(sim, f"{REST}/conf/{labels}")
        listed = {row[0] for row in pairs}
        assert {"BTCUSD", "BTCUST", "ETHBTC", "AVAX:USD", "ALGUSD", "ATOUSD", "UDCUSD", "USTUSD", "DOGE:UST"} <= listed
        assert {name for name in real if name[:3] in {"BTC", "ETH"} and name[3:] in {"USD", "UST", "EUR", "BTC"}} <= listed
        assert pairs[0][1][3:5] == ["0.00004", "2000.0"]
        assert [row[0] for row in futures] == ["BTCF0:USTF0"]
        assert ["UST", "USDt"] in names
        assert "UST" in currencies
        assert unknown == []
        assert (await call(sim, f"{REST}/conf/pub:list:pair:exchange"))[0] == [row[0] for row in pairs]


async def test_rest_books_trades_and_tickers() -> None:
    real = next(recorded("bitfinex/spot-single.ndjson", "[[23144,3"))
    async with simulator.serve(["bitfinex"], rate=2000) as sim, connect(sim, WS) as client:
        await subscribe(client, "trades", "tDOGE:UST")
        await array(client, "te")
        sim.pause()
        _, body, _ = await get(sim, f"{REST}/book/tBTCUSD/P0?len=100")
        assert form(body) == form(real)
        assert len(json.loads(body)) == 200
        true = sim.trades("bitfinex", "DOGE/USDT")
        newest = await call(sim, f"{REST}/trades/tDOGE:UST/hist?limit=10")
        assert [row[0] for row in newest] == [t["id"] for t in true[:-11:-1]]
        start = newest[-1][1]
        oldest = await call(sim, f"{REST}/trades/tDOGE:UST/hist?start={start}&sort=1&limit=3")
        assert [row[0] for row in oldest] == [t["id"] for t in true if cast("int", t["timestamp"]) // 1000 >= start][:3]
        assert not await call(sim, f"{REST}/trades/tDOGE:UST/hist?end=5")
        rows = await call(sim, f"{REST}/tickers?symbols=tBTCUSD,tNOPE")
        assert [(row[0], len(row)) for row in rows] == [("tBTCUSD", 11)]
        assert len(await call(sim, f"{REST}/ticker/tBTCUSD")) == 10
        assert len(await call(sim, f"{REST}/tickers?symbols=ALL")) >= 2


async def test_rest_errors_and_their_counts() -> None:
    async with simulator.serve(["bitfinex"], facts={"bitfinex": {"rest": 2}}) as sim:
        for path in ("trades/tNOPE/hist", "book/tBTCUSD/P1"):
            status, body, _ = await get(sim, f"{REST}/{path}")
            assert (status, json.loads(body)[:2]) == (500, ["error", 10020])
        answers = [await get(sim, f"{REST}/platform/status") for _ in range(3)]
        assert [(status, body) for status, body, _ in answers] == [
            (200, "[1]"),
            (200, "[1]"),
            (429, '["error",11010,"ratelimit: error"]'),
        ]
        assert parsed((await get(sim, f"{REST}/nonsense"))[1])[0] == "error"
        await eventually(lambda: sim.stats()["bitfinex"]["limited"] == {"rest": 1})
