"""Collectors that speak the old form, one JSON message a frame: what they send is stored like everything else."""

import asyncio
import json
from pathlib import Path

import pytest

from master import ingest
from master.ingest import Ingest
from master.journal import Journal, recover
from master.protocol import (
    Receiver,
    Refused,
)
from tests.disk import Disk
from tests.master.making import NOON, STREAM, batch, trade
from tests.master.running import KEY, Address, ask, collector, door, running, stranger, told

MILLIS = NOON // 1000
COMMON = {"exchange": "binance", "symbol": "BTC/USDT", "timestamp": MILLIS}


class TestLegacy:
    async def test_what_it_sends_is_stored(self, master: Address, data: Path) -> None:
        async with stranger(master) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            for message in (
                {"type": "trade", **COMMON, "price": "1.50", "amount": "2", "side": "buy"},
                {"op": "ping"},
                {"type": "book", **COMMON, "asks": [["2", "1"]], "bids": [["1", "1"]]},
                {"type": "ticker", **COMMON, "last": "1.50"},
            ):
                await one.socket.send(json.dumps(message))
            await told(master, lambda health: health["stored"] == 3)
        assert ask(data, "SELECT source, id, price_text, epoch_ms(timestamp) FROM trades") == [("legacy", "", "1.50", MILLIS)]
        assert ask(data, "SELECT asks[1].price_text FROM books") == [("2",)]
        assert ask(data, "SELECT last_text FROM tickers") == [("1.50",)]

    async def test_a_frame_that_cannot_be_read_costs_itself(self, master: Address, data: Path) -> None:
        async with stranger(master) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            await one.socket.send("nonsense")
            await one.socket.send(json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "buy"}))
            await told(master, lambda health: health["stored"] == 1)
        assert (await master.health())["refused"] == {"legacy": 1}

    async def test_beside_a_new_one(self, master: Address, data: Path) -> None:
        async with stranger(master) as old, collector(master, STREAM) as new:
            await old.socket.send(f"key={KEY}&role=collector")
            await old.socket.send(json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "sell"}))
            await new.send(batch(1))
            await new.acked(STREAM, 1)
            await told(master, lambda health: health["stored"] == 2)
        assert ask(data, "SELECT source, count(*) FROM trades GROUP BY 1 ORDER BY 1") == [("legacy", 1), ("live", 1)]

    async def test_a_disk_that_refuses_costs_nothing_that_was_taken(
        self, disk: Disk, master: Address, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody will send it again: it waits here, and its sender is sent away until there is room."""
        monkeypatch.setattr(ingest, "JOURNAL_RETRY", 0.1)
        message = json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "buy"})
        async with stranger(master) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            await one.socket.send(message)
            await told(master, lambda health: health["stored"] == 1)
            disk.is_full = True
            await one.socket.send(message)
            await told(master, lambda health: health["status"] == "failing")
            await one.socket.send(message)
            assert (await one.hear(Refused)).retry
            assert await one.closed() == 1013
        disk.is_full = False
        await told(master, lambda health: health["status"] == "ok")
        await told(master, lambda health: health["journal"]["pending"] == 0)
        assert ask(data, "SELECT count(*) FROM trades") == [(2,)]

    async def test_what_waits_for_company_at_the_end_is_stored(self, data: Path) -> None:
        data.mkdir()
        inside = Ingest(door(data), Receiver(), data / "dead-letters")
        kept = Journal(data, recover(data), inside.committed, lambda _: None, roll_bytes=1 << 20, roll_seconds=3600)
        committing = asyncio.create_task(inside.run(kept))
        await asyncio.sleep(0)
        inside.record([trade(1)])
        await inside.close()
        kept.stop()
        await committing
        kept.close()
        assert inside.stored == 1

    async def test_stored_also_if_the_master_ends_at_once(self, data: Path) -> None:
        async with running(data) as found, stranger(found) as one:
            await one.socket.send(f"key={KEY}&role=collector")
            await one.socket.send(json.dumps({"type": "trade", **COMMON, "price": "1", "amount": "2", "side": "buy"}))
            await told(found, lambda health: health["exchanges"])
        assert ask(data, "SELECT count(*) FROM trades") == [(1,)]
