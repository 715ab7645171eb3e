"""One life of a worker after the other against a real master: its spool, its place, and a disk that comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collector import spool as spool_module
from collector.engine import FencedError
from collector.master_pool import MasterPool
from collector.spool import Spool, SpoolTakenError
from master import backoff
from master.segments import segments_in
from tests.collector.making import trade
from tests.disk import room_for
from tests.master.running import KEY, ask, ids, process, running
from tests.waiting import until

SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD")
NOWHERE = "ws://127.0.0.1:9"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other quickly."""
    monkeypatch.setattr(backoff.Backoff, "after_failure", lambda *_: 0.01)
    monkeypatch.setattr(spool_module, "RETRY_AFTER", 0.05)


class Worker:
    def __init__(self, url: str, folder: Path, lanes: int, adopts: tuple[Path, ...]) -> None:
        adopted = tuple(Spool(each) for each in adopts)
        self.spool = Spool(folder)
        self.pool = MasterPool(
            url, KEY, "host-0", lanes, spool=self.spool, adopted=adopted, quota=1 << 30, exchanges=("kraken",)
        )
        self.put = self.pool.outbox.open("kraken", lambda _: None)

    async def tell(self, first: int, last: int) -> None:
        """Trades of these numbers, by turns of several markets, a few at a time."""
        for number in range(first, last + 1):
            self.put(trade(number, SYMBOLS[number % len(SYMBOLS)]))
            if number % 50 == 0:
                await asyncio.sleep(0)
        self.pool.outbox.flush()
        await self.spool._is_idle.wait()


@asynccontextmanager
async def worker(url: str, folder: Path, lanes: int = 3, adopts: tuple[Path, ...] = ()) -> AsyncIterator[Worker]:
    one = Worker(url, folder, lanes, adopts)
    running_pool = asyncio.create_task(one.pool.run())
    await asyncio.sleep(0)
    try:
        yield one
    finally:
        running_pool.cancel()
        await asyncio.gather(running_pool, return_exceptions=True)
        await one.pool.close()


def all_in_order(data: Path, last: int) -> None:
    assert sorted(ids(data)) == list(range(1, last + 1))
    for symbol in SYMBOLS:
        of_market = ids(data, f"symbol = '{symbol}'")
        assert of_market == sorted(of_market)
    assert ask(data, "SELECT count(*) FROM gaps") == [(0,)]


async def test_three_lives_without_a_master_and_one_with(tmp_path: Path) -> None:
    """Each with other lanes; the first under a name that is no more."""
    data, gone, mine = tmp_path / "data", tmp_path / "gone-0", tmp_path / "host-0"
    for folder, lanes, first in ((gone, 5, 1), (mine, 3, 501), (mine, 2, 1001)):
        async with worker(NOWHERE, folder, lanes) as one:
            await one.tell(first, first + 499)
    async with running(data) as master, worker(master.url, mine, 4, (gone,)) as one:
        await one.tell(1501, 2000)
        assert await one.pool.outbox.drain(10.0)
        assert one.pool.outbox.acked_events == {"kraken": 2000}
        await until(lambda: not segments_in(gone), "the folder of the other is left")
        await Spool(gone).close()
    all_in_order(data, 2000)


async def test_a_life_that_the_master_knows_in_part(tmp_path: Path) -> None:
    data, mine = tmp_path / "data", tmp_path / "host-0"
    async with running(data) as master:
        async with worker(master.url, mine) as one:
            await one.tell(1, 300)
            await until(lambda: one.pool.outbox.acked_events.total() > 0, "some of it is acknowledged")
            await one.tell(301, 600)
        async with worker(master.url, mine) as two:
            known = await asyncio.wait_for(asyncio.shield(two.pool.known), 5)
            assert set(known) == {"kraken"}
            last = two.pool.known_of("kraken").trades
            assert max(int(each.id) for each in last.values()) == 600, "on disk or with the master"
            await two.tell(601, 700)
            assert await two.pool.outbox.drain(10.0)
    all_in_order(data, 700)


async def test_a_newer_process_takes_the_place(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data) as master:
        old = MasterPool(master.url, KEY, "host-0", 3)
        ended = asyncio.create_task(old.run())
        await until(lambda: old.live == 3, "it has its place")
        async with worker(master.url, tmp_path / "host-0") as new:
            with pytest.raises(FencedError, match="a newer process has taken the place of worker host-0"):
                await asyncio.wait_for(ended, 10)
            await new.tell(1, 10)
            assert await new.pool.outbox.drain(10.0)


async def storms(one: Worker) -> int:
    """Three times the disk has no room for a while: how many trades were told."""
    last = 0
    for _ in range(3):
        await one.tell(last + 1, last + 500)
        await until(lambda: one.spool.trouble is None and one.pool.outbox.held_events == 0, "all is well")
        with room_for(2000):
            await one.tell(last + 501, last + 700)
            await until(lambda: one.spool.trouble, "the disk refuses")
            await one.tell(last + 701, last + 800)
        await one.tell(last + 801, last + 900)
        last += 900
    return last


async def test_a_disk_that_refuses_and_takes_again_in_the_flow(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with process(data) as (_, master):  # of its own, since it must not share our limits
        async with worker(master.url, tmp_path / "host-0") as one:
            last = await storms(one)
            assert await one.pool.outbox.drain(10.0)
        all_in_order(data, last)


async def test_two_processes_never_own_one_spool(tmp_path: Path) -> None:
    async with worker(NOWHERE, tmp_path / "host-0"):
        with pytest.raises(SpoolTakenError):
            Spool(tmp_path / "host-0")
