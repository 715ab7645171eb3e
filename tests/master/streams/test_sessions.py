"""Streams to consumers: what they subscribe to, and what they hear. With a running master and real sockets."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from adapters.events import Book, BookDelta, Event, Funding, Gap, Liquidation, Price, Ticker, Trade
from master.lake import expire, seal
from master.segments import segments_in
from master.streams import fanout, outlet, resume, sessions
from master.streams.consumers import MOST_TOPICS
from tests.master.making import NOON, STREAM, batch, trade
from tests.master.running import collector, running
from tests.master.streaming import consumer, rig
from tests.waiting import until

OTHER = bytes(range(2, 18))


def book(number: int, symbol: str = "BTC/USD") -> Book:
    return Book("kraken", symbol, None, NOON + number, [("100.50", str(number))], [("101", "2")], number)


def ticker(number: int, symbol: str = "BTC/USD") -> Ticker:
    return Ticker("kraken", symbol, None, NOON + number, last=str(number))


def gap(symbol: str | None = "BTC/USD", channel: str = "orderbooks") -> Gap:
    return Gap("kraken", symbol, None, NOON, channel, "disconnected")


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in events]


class TestStreams:
    async def test_trades_come_as_they_are_stored_with_their_positions(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            answer = await one.subscribe("trades:kraken:BTC/USD")
            assert (answer["streams"], answer["views"]) == (["trades:kraken:BTC/USD"], [])
            await source.send(batch(1, trade(1), trade(2, exchange="okx"), trade(3)))
            found = await one.hear("events")
            start = int(answer["cursor"])
            assert [(each["id"], each["position"] - start) for each in found["events"]] == [("1", 1), ("3", 3)]
            assert int(found["cursor"]) == start + 3
            first = found["events"][0]
            assert first.pop("position") == start + 1
            assert first == json.loads(batch(1).body.tobytes())[0], "as the collector has sent it"

    async def test_what_overlaps_is_told_once_and_what_is_taken_back_not_at_all(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            await one.subscribe("trades:kraken:*", "trades:*:BTC/USD")
            await source.send(batch(1, trade(1), trade(2, exchange="okx"), trade(3, exchange="okx", symbol="ETH/USD")))
            assert sorted(ids(await one.events(2))) == ["1", "2"]
            await one.say("unsubscribe", topics=["trades:*:BTC/USD"])
            assert (await one.hear("unsubscribed"))["topics"] == ["trades:*:BTC/USD"]
            await source.send(batch(2, trade(4), trade(5, exchange="okx")))
            assert ids(await one.events(1)) == ["4"]

    async def test_every_channel(self, tmp_path: Path) -> None:
        funding = Funding("kraken", "BTC/USD", None, NOON, "0.0001")
        liquidation = Liquidation("kraken", "BTC/USD", None, NOON, "7", "1", "2", "sell")
        delta = BookDelta("kraken", "BTC/USD", None, NOON, [("1", "0")], [], 2, 1)
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            channels = ("funding", "liquidations", "book_deltas")
            await one.subscribe(*(f"{channel}:kraken:BTC/USD" for channel in channels))
            await source.send(batch(1, trade(1), book(1), delta, funding, liquidation, gap(), gap(channel="trades"), book(2)))
            found = await one.events(6)
            # By market and channel within a message; a gap is a message of its own, between what was before and after it.
            assert sorted(each["type"] for each in found[:4]) == ["book", "book_delta", "funding", "liquidation"]
            assert [each["type"] for each in found[4:]] == ["gap", "book"]

    async def test_a_gap_of_a_whole_connection_is_told_once_to_whom_it_concerns(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            await one.subscribe("gaps:kraken:BTC/USD", "book_deltas:kraken:*")
            await source.send(batch(1, gap("ETH/USD", "trades"), gap(None), gap(channel="trades")))
            assert [each["symbol"] for each in await one.events(2)] == [None, "BTC/USD"]

    @pytest.mark.parametrize("most", [1, 400, 1 << 20])
    async def test_a_cursor_is_of_all_that_was_told_and_of_nothing_else(self, most: int) -> None:
        with patch.object(fanout, "FRAME_BYTES", most):
            async with rig() as here, here.consumer() as one:
                await one.subscribe("trades:*:*", "gaps:*:*")
                here.tell(trade(1), trade(2, exchange="okx"), gap(), book(1), trade(3), trade(4), gap(), trade(5), book(2))
                told: list[int] = []
                while len(told) < 7:
                    found = await one.hear("events")
                    told += (positions := [each["position"] for each in found["events"]])
                    if len(told) < 7:
                        assert max(positions) == int(found["cursor"])
                    assert sorted(told) == [at for at in (1, 2, 3, 5, 6, 7, 8) if at <= int(found["cursor"])]

    async def test_an_admin_may_too_and_a_collector_may_not(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, consumer(master, "admin") as one, consumer(master, "collector") as other:
            await one.subscribe("trades:*:*")
            await other.say("subscribe", topics=["trades:*:*"])
            assert [each["op"] for each in await other.rest()] == ["refused"]
            assert other.socket.close_code == 1008

    async def test_a_quiet_stream_gets_newer_cursors(self, tmp_path: Path) -> None:
        with patch.object(outlet, "IDLE", 0.05):
            async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
                start = int((await one.subscribe("trades:okx:*"))["cursor"])
                await source.send(batch(1, trade(1), trade(2)))
                found = await one.hear("events")
                assert (found["events"], int(found["cursor"])) == ([], start + 2)


class TestCommands:
    @pytest.mark.parametrize(
        ("op", "fields", "code"),
        [
            ("subscribe", {"topics": ["trade:kraken:BTC/USD"]}, "topic"),
            ("subscribe", {"topics": ["trades:kraken:*", "trades"]}, "topic"),
            ("subscribe", {"topics": []}, "topic"),
            ("subscribe", {"topics": [f"trades:x:{n}" for n in range(MOST_TOPICS + 1)]}, "too_many_topics"),
            ("subscribe", {"topics": ["trades:*:*"], "cursor": "yesterday"}, "cursor"),
            ("subscribe", {"topics": ["trades:*:*"], "cursor": "-1"}, "cursor"),
            ("subscribe", {"topics": ["books:*:*"], "cursor": "1"}, "cursor"),
            ("subscribe", {"topics": ["books:*:*"], "conflate_ms": -1}, "conflate_ms"),
            ("unsubscribe", {"topics": ["trades:*:*"]}, "not_subscribed"),
        ],
    )
    async def test_a_wrong_one_is_refused_whole_and_the_session_goes_on(
        self, tmp_path: Path, op: str, fields: dict[str, Any], code: str
    ) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            answer = await one.refused(op, **fields)
            assert answer["code"] == code
            assert answer["change"]
            await source.send(batch(1))
            await source.acked(STREAM, 1)
            number = await one.say("ping")
            assert (await one.hear("pong"))["id"] == number, "and nothing of it was done"

    @pytest.mark.parametrize("frame", ["", "{}", '{"op":"subscribe","id":1,"topic":["trades:*:*"]}', '{"op":"ack"}', b"\x00"])
    async def test_what_is_no_command_is_told_so(self, tmp_path: Path, frame: str | bytes) -> None:
        async with running(tmp_path) as master, consumer(master) as one:
            await one.socket.send(frame)
            answer = await one.hear("error")
            assert (answer["id"], answer["code"]) == (None, "malformed")

    async def test_a_cursor_goes_with_the_first_streams(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, consumer(master) as one:
            cursor = (await one.subscribe("trades:*:*"))["cursor"]
            assert (await one.refused("subscribe", topics=["gaps:*:*"], cursor=cursor))["code"] == "cursor"

    async def test_a_message_that_is_too_large_ends_the_session(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, consumer(master) as one:
            await one.socket.send("x" * 70_000)
            assert await one.rest() == []
            assert one.socket.close_code == 1009


class TestViews:
    async def test_the_present_state_first(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            price = Price("", "BTC/USD", None, NOON, "100.5", "median", 3, 0, 1.0, 0.9)
            await source.send(batch(1, book(1), ticker(1), book(2), book(3, "ETH/USD"), price))
            await source.acked(STREAM, 1)
            answer = await one.subscribe("books:kraken:*", "tickers:okx:*", "prices:BTC/USD", "trades:*:*")
            assert answer["views"] == ["books:kraken:*", "tickers:okx:*", "prices:BTC/USD"]
            assert answer["streams"] == ["trades:*:*"]
            shown = await one.hear("snapshot")
            assert not shown["more"]
            assert [(each["symbol"], each.get("sequence", each.get("price"))) for each in shown["events"]] == [
                ("BTC/USD", 2),
                ("ETH/USD", 3),
                ("BTC/USD", "100.5"),
            ]
            await source.send(batch(2, book(4)))
            found = await one.hear("views")
            assert ([each["sequence"] for each in found["events"]], found["conflated"]) == ([4], 0)

    async def test_of_nothing_the_snapshot_is_empty(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, consumer(master) as one:
            await one.subscribe("books:*:*")
            assert (await one.hear("snapshot"))["events"] == []

    async def test_a_burst_is_one_state(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            await one.subscribe("books:kraken:*", conflate_ms=100)
            await one.hear("snapshot")
            await source.send(batch(1, *map(book, range(1, 11)), book(50, "ETH/USD")))
            found = await one.hear("views")
            assert [each["sequence"] for each in found["events"]] == [10, 50]
            assert found["conflated"] == 9

    @pytest.mark.parametrize("doubt", [gap(None), Gap("", None, None, NOON, "delivery", "overflow")])
    async def test_a_book_in_doubt_is_absent(self, tmp_path: Path, doubt: Gap) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
            await source.send(batch(1, book(1), book(2, "ETH/USD")))
            await source.acked(STREAM, 1)
            await one.subscribe("books:kraken:*")
            assert len((await one.hear("snapshot"))["events"]) == 2
            await source.send(batch(2, doubt))
            shown = (await one.hear("views"))["events"]
            assert [(each["type"], each["symbol"]) for each in shown] == [("gap", "BTC/USD"), ("gap", "ETH/USD")]
            await source.send(batch(3, book(3)))
            assert [each["type"] for each in (await one.hear("views"))["events"]] == ["book"]

    async def test_a_large_snapshot_comes_in_parts(self, tmp_path: Path) -> None:
        with patch.object(outlet, "FRAME_BYTES", 500):
            async with running(tmp_path) as master, collector(master, STREAM) as source, consumer(master) as one:
                await source.send(batch(1, *(book(n, f"{n}/USD") for n in range(10))))
                await source.acked(STREAM, 1)
                await one.subscribe("books:kraken:*")
                parts = [await one.hear("snapshot")]
                while parts[-1]["more"]:
                    parts.append(await one.hear("snapshot"))
                assert len(parts) > 3
                assert [each["sequence"] for part in parts for each in part["events"]] == list(range(10))


class TestSlow:
    async def test_one_is_sent_away_with_a_cursor_and_delays_nobody(self) -> None:
        wide = [Liquidation("kraken", "BTC/USD", None, NOON, str(n), "9" * 2000, "1", "buy") for n in range(100)]
        async with rig() as here:
            async with here.consumer() as slow, here.consumer() as quick:
                await slow.subscribe("liquidations:*:*")
                await quick.subscribe("trades:*:*")
                told = 0
                with patch.object(outlet, "MOST_QUEUED", 1 << 20):
                    while not here.fanout.figures.slow:
                        here.tell(*wide, trade(told))
                        assert ids(await quick.events(1)) == [str(told)], "at once"
                        told += len(wide)
                rest = await slow.rest()
                assert (rest[-1]["op"], rest[-1]["reason"]) == ("bye", "too slow")
                assert rest[-1]["cursor"] == rest[-2]["cursor"]
                assert slow.socket.close_code == 1013
                await until(lambda: len(here.fanout.clients) == 1)
            heard = [each["position"] for message in rest[:-1] for each in message["events"]]
            async with here.consumer() as again:
                await again.subscribe("liquidations:*:*", cursor=rest[-1]["cursor"])
                assert len(heard) < told
                heard += [each["position"] for each in await again.events(told - len(heard))]
            assert heard == sorted(set(heard))

    async def test_one_that_reads_nothing_is_cut_off(self) -> None:
        wide = [Liquidation("kraken", "BTC/USD", None, NOON, str(n), "9" * 2000, "1", "buy") for n in range(100)]
        with patch.object(outlet, "LEAVE_WITHIN", 0.1):
            async with rig() as here, here.consumer() as slow:
                await slow.subscribe("liquidations:*:*")
                while here.fanout.clients:
                    here.tell(*wide)
                    await asyncio.sleep(0)
                assert here.fanout.figures.slow == 1

    async def test_of_views_only_the_newest_waits(self) -> None:
        async with rig() as here, here.consumer() as slow:
            await slow.subscribe("books:*:*")
            await slow.hear("snapshot")
            deep = book(0)
            deep.bids = [("9" * 1000, "1")] * 1000
            for number in range(1, 60):  # 60 MB, were all of them to wait
                here.tell(*(replace(deep, sequence=number) for _ in range(2)))
                here.fanout.flush()
                await asyncio.sleep(0)
            shown = [await slow.hear("views")]
            while shown[-1]["events"][-1]["sequence"] < 59:
                shown.append(await slow.hear("views"))
            assert len(shown) < 59
            assert sum(len(each["events"]) + each["conflated"] for each in shown) == 2 * 59
            assert here.fanout.figures.conflated == sum(each["conflated"] for each in shown)


class TestResume:
    async def test_pages_of_several_tables_come_in_order(self) -> None:
        with patch.object(resume, "PAGE", 3):
            async with rig() as here:
                for number in range(20):
                    here.tell(trade(number), *([gap()] * (number % 3)), book(number), trade(number, exchange="okx"))
                async with here.consumer() as one:
                    await one.subscribe("trades:kraken:*", "gaps:*:*", cursor="5")
                    wanted = [at for at, event in here.past.told if at > 5 and _is_wanted(event)]
                    assert [each["position"] for each in await one.events(len(wanted))] == wanted
                    assert here.past.asked > 10

    async def test_what_comes_meanwhile_follows(self) -> None:
        async with rig() as here:
            here.tell(*map(trade, range(100)))
            here.past.hold()
            async with here.consumer() as one:
                await one.subscribe("trades:*:*", cursor="0")
                for number in range(100, 102):  # while the past is read, and while its end is
                    await until(lambda: here.past.waiting)
                    here.tell(trade(number))
                    here.fanout.flush()
                    here.past.go_on()
                here.past.release()
                assert ids(await one.events(102)) == [str(n) for n in range(102)]

    async def test_what_is_no_longer_kept_is_told(self) -> None:
        async with rig() as here:
            here.tell(*map(trade, range(10)))
            here.past.gone = 4
            async with here.consumer() as one:
                await one.subscribe("trades:*:*", cursor="2")
                lost = await one.hear("gap")
                assert (lost["after"], lost["until"], lost["reason"]) == ("2", "4", "older than what is kept")
                assert ids(await one.events(6)) == [str(n) for n in range(4, 10)]

    async def test_a_cursor_of_another_master_is_told_so(self) -> None:
        async with rig() as here, here.consumer() as one:
            here.tell(trade(1))
            await one.subscribe("trades:*:*", cursor="77")
            lost = await one.hear("gap")
            assert (lost["after"], lost["until"]) == ("77", "1")
            here.tell(trade(2))
            assert ids(await one.events(1)) == ["2"]

    async def test_a_past_that_is_busy_is_asked_again(self) -> None:
        async with rig() as here, here.consumer() as one:
            here.tell(trade(1))
            here.past.failures = 2
            await one.subscribe("trades:*:*", cursor="0")
            assert ids(await one.events(1)) == ["1"]

    async def test_a_past_that_cannot_be_read_ends_the_session_with_the_cursor(self) -> None:
        with patch.object(sessions, "LONGEST_WAIT", 0.01):
            async with rig() as here, here.consumer() as one:
                here.tell(trade(1))
                here.past.failures = 100
                await one.subscribe("trades:*:*", cursor="0")
                assert (await one.rest())[-1]["cursor"] == "0"
                assert one.socket.close_code == 1013

    async def test_a_slow_one_reads_a_long_past_at_its_own_pace(self) -> None:
        wide = [Liquidation("kraken", "BTC/USD", None, NOON, str(n), "9" * 20_000, "1", "buy") for n in range(1000)]
        async with rig() as here:
            here.tell(*wide)  # 20 MB, of which 8 may wait
            async with here.consumer() as one:
                await one.subscribe("liquidations:*:*", cursor="0")
                assert ids(await one.events(1000)) == [str(n) for n in range(1000)]
            assert not here.fanout.figures.slow

    async def test_the_master_ends_with_last_words(self, tmp_path: Path) -> None:
        async with AsyncExitStack() as outside:
            async with running(tmp_path) as master, collector(master, STREAM) as source:
                one = await outside.enter_async_context(consumer(master))
                await one.subscribe("trades:*:*")
                await source.send(batch(1))
                found = await one.hear("events")
            assert await one.rest() == [{"op": "bye", "reason": "the master ends", "cursor": found["cursor"]}]

    @pytest.mark.parametrize("seals", [False, True])
    async def test_over_a_restart_and_a_sealed_segment(self, tmp_path: Path, seals: bool) -> None:
        told: list[str] = []
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            async with consumer(master) as one:
                await one.subscribe("trades:*:*")
                await source.send(batch(1, trade(1), trade(2)))
                found = await one.hear("events")
                told += ids(found["events"])
            await source.send(batch(2, trade(3), trade(4)))
            await source.acked(STREAM, 2)
        if seals:
            await _seal_all(tmp_path)
        async with running(tmp_path) as master, consumer(master) as one:
            await one.subscribe("trades:*:*", cursor=found["cursor"])
            told += ids(await one.events(2))
            async with collector(master, OTHER) as source:
                await source.send(batch(1, trade(5), stream=OTHER))
                told += ids(await one.events(1))
        assert told == ["1", "2", "3", "4", "5"]

    async def test_retention_is_told(self, tmp_path: Path) -> None:
        async with running(tmp_path) as master, collector(master, STREAM) as source:
            await source.send(batch(1, trade(1)))
            await source.acked(STREAM, 1)
        await _seal_all(tmp_path)
        async with running(tmp_path) as master, consumer(master) as one:
            await one.subscribe("trades:*:*", cursor="0")
            assert ids(await one.events(1)) == ["1"], "all of it is there"
        assert expire(tmp_path / "lake", oldest_day="2030-01-01", max_bytes=1 << 40) == 1
        async with running(tmp_path) as master, consumer(master) as one:
            await one.subscribe("trades:*:*", cursor="0")
            assert (await one.hear("gap"))["reason"] == "older than what is kept"


async def _seal_all(data: Path) -> None:
    """What was stored so far; the newest segment, which stays, is an empty one."""
    async with running(data):
        pass
    for segment in segments_in(data / "journal")[:-1]:
        seal(segment, data / "lake")


def _is_wanted(event: Event) -> bool:
    return isinstance(event, Gap) or (isinstance(event, Trade) and event.exchange == "kraken")
