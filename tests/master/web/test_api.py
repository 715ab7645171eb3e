"""The routes over a real port: what each asks of the rooms, and what it answers."""

import asyncio
from pathlib import Path
from time import time_ns
from typing import Any

import aiohttp
import pytest

from adapters.events import Book, Gap, Ticker, Trade
from master.history.questions import Found, Question, QuestionError
from master.history.reader import BusyError, ReaderError, SlowError
from master.tls import trusting
from master.web.routes import MOST_FEEDS
from tests.master.making import NOON, STREAM, batch, trade
from tests.master.running import collector, running
from tests.master.serving import Echo, House, house, problem, serving
from tests.master.test_tls import authority
from tests.waiting import until

SECOND = 1_000_000


@pytest.fixture
def at(tmp_path: Path) -> House:
    return house(tmp_path / "data")


def now() -> int:
    return time_ns() // 1000


def told(at: House) -> int:
    """A market of everything: the moment at which it was told."""
    then = now()
    book = Book("kraken", "BTC/USD", None, then, [("99", "1"), ("98", "2")], [("101", "3")], 7)
    usd = [Trade(name, "BTC/USD", then, then, "1", "100.50", "2", "buy") for name in ("kraken", "coinbase", "bitstamp")]
    at.rooms.market.take([book, *usd, Ticker("okx", "ETH/USDT", None, then, "9", None, "10")], 1)
    return then


async def answer(client: aiohttp.ClientSession, path: str, **query: Any) -> Any:
    async with client.get(path, params=query) as found:
        assert (found.status, found.content_type) == (200, "application/json"), await found.text()
        return await found.json()


async def refusal(client: aiohttp.ClientSession, status: int, path: str, **query: Any) -> dict[str, Any]:
    async with client.get(path, params=query) as found:
        return await problem(found, status)


class TestMarket:
    async def test_all_sources_and_some(self, at: House) -> None:
        then = told(at)
        async with serving(at) as client:
            everything = await answer(client, "/v1/market")
            assert then <= everything["time"] <= now()
            assert len(everything["sources"]) == 4
            (kraken,) = (await answer(client, "/v1/market", symbol="BTC/USD", exchange="kraken"))["sources"]
            assert (await answer(client, "/v1/market", symbol="none"))["sources"] == []
        assert (kraken["trade"]["price"], kraken["best"]["bid"], kraken["book"]["levels"]) == ("100.50", "99", 3)

    async def test_which_markets_there_are(self, at: House) -> None:
        then = told(at)
        at.rooms.market.take([Book("okx", "BTC/USD", None, then, [("99", "1")], [("101", "3")], 1)], 9)
        at.rooms.market.take([Gap("okx", "BTC/USD", None, then, "orderbooks", "checksum")], 10)
        async with serving(at) as client:
            btc, eth = (await answer(client, "/v1/symbols"))["symbols"]
        assert btc == {
            "symbol": "BTC/USD",
            "exchanges": ["kraken", "coinbase", "bitstamp", "okx"],
            "books": ["kraken", "okx"],  # also one that is recovering
        }
        assert eth == {"symbol": "ETH/USDT", "exchanges": ["okx"], "books": []}

    async def test_a_book(self, at: House) -> None:
        told(at)
        async with serving(at) as client:
            book = await answer(client, "/v1/market/book", exchange="kraken", symbol="BTC/USD", depth=1)
        assert (book["bids"], book["asks"], book["sequence"]) == ([["99", "1"]], [["101", "3"]], 7)

    async def test_a_book_that_is_not_there_is_never_an_empty_one(self, at: House) -> None:
        then = told(at)
        async with serving(at) as client:
            known = {"exchange": "kraken", "symbol": "BTC/USD"}
            await refusal(client, 404, "/v1/market/book", exchange="kraken", symbol="BTC/EUR")
            assert (
                "pairs.orderbooks"
                in (await refusal(client, 404, "/v1/market/book", exchange="okx", symbol="ETH/USDT"))["change"]
            )
            at.rooms.market.take([Gap("kraken", "BTC/USD", None, then, "orderbooks", "checksum")], 10)
            absent = await answer(client, "/v1/market/book", **known)
            assert (absent["state"], absent["bids"], absent["asks"]) == ("recovering", None, None)
            assert "1 to 1000" in (await refusal(client, 400, "/v1/market/book", **known, depth=1001))["change"]


class TestPrices:
    async def test_a_price_and_what_it_is_made_of(self, at: House) -> None:
        told(at)
        async with serving(at) as client:
            assert [each["feed"] for each in (await answer(client, "/v1/feeds"))["feeds"]] == ["BTC/USD", "ETH/USD"]
            price = await answer(client, "/v1/price", feed="BTC/USD")
            absent = await answer(client, "/v1/price", feed="ETH/USD")
            live = await answer(client, "/v1/prices/live")
            assert "/v1/feeds" in (await refusal(client, 404, "/v1/price", feed="XYZ/USD"))["change"]
        assert (price["price"], price["reason"], len(price["used"])) == (100.5, None, 3)
        assert absent["price"] is None
        assert absent["reason"]
        assert [(row["feed"], row["price"]) for row in live["prices"]] == [("BTC/USD", 100.5), ("ETH/USD", None)]
        assert at.rooms.usage.prices == {"priced": 2, "absent": 2}

    async def test_as_a_value_provider_of_the_ftso(self, at: House) -> None:
        told(at)
        btc, none = {"category": 1, "name": "BTC/USD"}, {"category": 1, "name": "NONE/USD"}
        async with serving(at) as client:
            async with client.post("/feed-values/42", json={"feeds": [btc, none]}) as found:
                assert await found.json() == {"votingRoundId": 42, "data": [{"feed": btc, "value": 100.5}, {"feed": none}]}
            async with client.post("/feed-values/", json={"feeds": [btc]}) as found:
                assert await found.json() == {"data": [{"feed": btc, "value": 100.5}]}
            async with client.post("/volumes/", params={"window": 60}, json={"feeds": [btc]}) as found:
                (row,) = (await found.json())["data"]
        assert row["feed"] == btc
        assert {(each["exchange"], each["volume"]) for each in row["volumes"]} == {
            ("kraken", 201.0),
            ("coinbase", 201.0),
            ("bitstamp", 201.0),
        }

    @pytest.mark.parametrize(
        ("path", "body", "says"),
        [
            ("/feed-values/", b"", "body"),
            ("/feed-values/", b"[]", "Expected `object`"),
            ("/feed-values/", b'{"feeds":[{"category":"1","name":"BTC/USD"}]}', "$.feeds[0].category"),
            ("/feed-values/", b'{"feeds":[{"category":1,"name":"\\udc00"}]}', "surrogate"),
            ("/feed-values/x", b'{"feeds":[]}', "votingRoundId: 'x'"),
            ("/feed-values/-1", b'{"feeds":[]}', "votingRoundId: '-1'"),
            ("/volumes/?window=3601", b'{"feeds":[]}', "window: '3601'"),
            ("/volumes/?window=0", b'{"feeds":[]}', "window: '0'"),
        ],
    )
    async def test_a_request_that_is_none(self, at: House, path: str, body: bytes, says: str) -> None:
        async with serving(at) as client, client.post(path, data=body) as found:
            assert says in (await problem(found, 400))["detail"]

    async def test_no_more_feeds_than_the_master_has_time_for(self, at: House) -> None:
        feeds = [{"category": 1, "name": "A/USD"}] * MOST_FEEDS
        async with serving(at) as client:
            async with client.post("/feed-values/", json={"feeds": feeds}) as found:
                assert found.status == 200
            async with client.post("/feed-values/", json={"feeds": [*feeds, *feeds[:1]]}) as found:
                assert str(MOST_FEEDS) in (await problem(found, 400))["change"]


class Refusing(Echo):
    """One that has no answer."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def ask(self, question: Question) -> Found:
        raise self.error


class TestPast:
    @pytest.mark.parametrize("table", ["trades", "books", "tickers", "candles", "prices", "gaps"])
    async def test_what_is_asked(self, tmp_path: Path, table: str) -> None:
        reader = Echo()
        query = {"symbol": "BTC/USD", "start": "2025-11-26T12:00:00Z", "end": NOON + 1, "limit": 5, "cursor": "abc"}
        async with serving(house(tmp_path / "data", reader)) as client:
            assert await answer(client, f"/v1/{table}", **query) == {"rows": [], "cursor": None}
        interval = "1m" if table == "candles" else None
        assert reader.questions == [
            Question(table, None, "BTC/USD", NOON, NOON + 1, 5, "abc", interval, "json"),  # type: ignore[arg-type]
        ]

    @pytest.mark.parametrize(
        ("form", "content_type"),
        [
            ("csv", "text/csv"),
            ("parquet", "application/vnd.apache.parquet"),
            ("arrow", "application/vnd.apache.arrow.stream"),
        ],
    )
    async def test_other_formats_have_their_cursor_beside_them(self, tmp_path: Path, form: str, content_type: str) -> None:
        async with (
            serving(house(tmp_path / "data", Echo(b"bytes", "next"))) as client,
            client.get("/v1/trades", params={"format": form}) as found,
        ):
            assert (found.status, found.content_type, await found.read()) == (200, content_type, b"bytes")
            assert found.headers["X-Next-Cursor"] == "next"

    async def test_the_ledger(self, tmp_path: Path) -> None:
        reader = Echo(b'{"rows":[]}')
        async with serving(house(tmp_path / "data", reader)) as client:
            assert await answer(client, "/v1/completeness", exchange="kraken", since=NOON) == {"rows": []}
        assert reader.questions == [Question("completeness", "kraken", None, NOON, None, 10_000)]

    @pytest.mark.parametrize(
        ("path", "query", "change"),
        [
            ("/v1/candles", {}, "symbol: a symbol"),
            ("/v1/candles", {"symbol": "BTC/USD", "interval": "2m"}, "1s, 1m, 5m, 15m, 1h, 4h, 1d"),
            ("/v1/trades", {"interval": "1m"}, "known here"),
            ("/v1/trades", {"limit": 0}, "rows, from 1 to 10000 for json"),
            ("/v1/trades", {"format": "xml"}, "json, csv, parquet, arrow"),
            ("/v1/trades", {"start": "yesterday"}, "ISO-8601 such as"),
            ("/v1/completeness", {"since": "2025-13-01"}, "ISO-8601 such as"),
        ],
    )
    async def test_a_question_that_is_none(self, at: House, path: str, query: dict[str, Any], change: str) -> None:
        async with serving(at) as client:
            assert change in (await refusal(client, 400, path, **query))["change"]

    @pytest.mark.parametrize(
        ("error", "status", "outcome", "change"),
        [
            (QuestionError("cursor", "give one as the answer before had it"), 400, "refused", "cursor: give one"),
            (BusyError("32 questions wait already"), 503, "busy", "fewer questions at once"),
            (SlowError("no answer within 30 s"), 504, "slow", "a shorter time"),
            (ReaderError("what answers questions has died"), 503, "failed", "ask again"),
        ],
    )
    async def test_no_answer(self, tmp_path: Path, error: Exception, status: int, outcome: str, change: str) -> None:
        at = house(tmp_path / "data", Refusing(error))
        async with serving(at) as client:
            assert change in (await refusal(client, status, "/v1/trades"))["change"]
        assert at.rooms.usage.queries == {("trades", outcome): 1}
        assert not at.rooms.usage.query_seconds, "only what was answered has taken its time"

    async def test_a_slow_question_delays_nobody(self, tmp_path: Path) -> None:
        class Slow(Echo):
            def __init__(self) -> None:
                super().__init__()
                self.may_end = asyncio.Event()

            async def ask(self, question: Question) -> Found:
                self.questions.append(question)
                await self.may_end.wait()
                return self.found

        reader = Slow()
        async with serving(house(tmp_path / "data", reader)) as client:
            asking = asyncio.create_task(answer(client, "/v1/trades"))
            await until(lambda: reader.questions)
            assert await answer(client, "/health/live") == {"status": "ok"}
            assert not asking.done()
            reader.may_end.set()
            assert (await asking)["rows"] == []


class TestTheMasterItself:
    async def test_health_is_of_the_whole_and_ready_is_for_the_next_question(self, at: House) -> None:
        async with serving(at) as client:
            assert (await answer(client, "/health"))["status"] == "ok"
            assert await answer(client, "/health/ready") == {"status": "ok"}
            at.ingest.trouble = "no space left"
            async with client.get("/health") as found:
                assert (found.status, (await found.json())["trouble"]) == (503, "no space left")
            assert "no space left" in (await refusal(client, 503, "/health/ready"))["detail"]
            assert await answer(client, "/health/live") == {"status": "ok"}, "it would not help to start it again"
            at.ingest.trouble = None
            at.rooms.reader.is_up = False  # type: ignore[misc]
            assert "questions" in (await refusal(client, 503, "/health/ready"))["detail"]

    async def test_status(self, at: House) -> None:
        at.rooms.pulse.sample(NOON, 1.0)
        at.rooms.pulse.sample(NOON + SECOND, 2.0)
        async with serving(at) as client:
            status = await answer(client, "/v1/status")
            history = await answer(client, "/v1/status/history")
        assert (status["status"], status["stored"], status["exchanges"], status["events_per_second"]) == ("ok", 0, [], 0.0)
        assert history == {
            **{"step": 1.0, "time": [NOON + SECOND], "events_per_second": [0.0], "lag_ms": [None], "exchanges": {}}
        }

    async def test_requests_are_counted_by_route_and_never_by_path(self, at: House) -> None:
        async with serving(at) as client:
            async with client.post("/feed-values/7", json={"feeds": []}) as found:
                assert found.status == 200
            for number in range(3):
                await refusal(client, 404, f"/guess/{number}")
            async with client.get("/metrics") as found:
                text = await found.text()
                assert found.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert at.rooms.usage.requests == {("/feed-values/{votingRoundId}", 200): 1, ("none", 404): 3, ("/metrics", 200): 1}
        assert 'master_http_requests_total{route="none",status="404"} 3.0' in text


async def test_in_a_master_that_runs(tmp_path: Path) -> None:
    """What a collector sends is there as soon as it is acknowledged."""
    then = now()
    async with running(tmp_path / "data") as master, collector(master, STREAM) as one:
        await one.send(batch(1, trade(1, received=then)))
        await one.acked(STREAM, 1)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{master.http_port}") as client:
            (source,) = (await answer(client, "/v1/market"))["sources"]
            assert source["trade"]["id"] == "1"
            assert "price" in await answer(client, "/v1/price", feed="BTC/USD")
            (status,) = (await answer(client, "/v1/status"))["exchanges"]
            assert (status["exchange"], status["state"], status["symbols"]) == ("kraken", "ok", 1)
            past = await answer(client, "/v1/trades", symbol="BTC/USD")
            assert [(row["id"], row["price"], row["received"]) for row in past["rows"]] == [("1", "101.50", then)]
            (candle,) = (await answer(client, "/v1/candles", symbol="BTC/USD", interval="1d"))["rows"]
            assert (candle["open"], float(candle["volume"]), candle["trades"]) == ("101.50", 0.1, 1)
            assert (await answer(client, "/v1/trades", start=then + 1))["rows"] == []
            assert len((await answer(client, "/v1/trades", start="2025-01-01", end=then + 1))["rows"]) == 1
            (hour,) = (await answer(client, "/v1/completeness", since="2025-01-01"))["rows"]
            assert (hour["exchange"], hour["channel"], hour["events"]) == ("kraken", "trades", 1)
            assert "10000" in (await refusal(client, 400, "/v1/trades", limit=10_001))["change"]
            wrong = await refusal(client, 400, "/v1/completeness", since="2025-02-01", until="2025-01-01")
            assert (wrong["detail"], wrong["change"]) == ("until is not as it can be", "until: not before where it begins")


async def test_with_a_certificate_it_is_https(tmp_path: Path) -> None:
    ours = authority(tmp_path / "tls")
    cert, key = ours.certify("first")
    server: dict[str, Any] = {"tls_cert": str(cert), "tls_key": str(key), "http": {"auth": True}}
    async with running(tmp_path / "data", **server) as master:
        async with aiohttp.ClientSession(f"https://localhost:{master.http_port}") as client:
            async with client.get("/health/live", ssl=trusting(ours.ca)) as found:
                assert found.status == 200
            async with client.get("/health", ssl=trusting(ours.ca)) as found:
                await problem(found, 401)
        async with aiohttp.ClientSession(f"http://localhost:{master.http_port}") as plain:
            with pytest.raises(aiohttp.ClientError):
                await plain.get("/health/live")
