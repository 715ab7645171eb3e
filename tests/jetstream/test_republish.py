"""What is stored goes out again, for any NATS client; once, whatever dies, and never in the way of storing."""

import asyncio
from pathlib import Path
from time import time_ns
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from adapters.events import Event, Gap, Trade
from master.jetstream.republish import Republisher
from master.jetstream.settings import Republish
from tests.jetstream.making import Source, sections, until_stored
from tests.jetstream.nats import Server, client, engine, needs_server, until_empty
from tests.master.making import STREAM, batch, trade
from tests.master.running import process, running
from tests.waiting import until

pytestmark = needs_server

KEPT: dict[str, Any] = {"republish": {"keep": {"max_gb": 0.1}}}


async def test_any_client_hears_markets_by_wildcard(data: Path, nats: Server) -> None:
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    async with client(nats) as other:
        await other.client.subscribe("market.*.btc-usd.trade", cb=hear)
        await other.client.flush()
        async with (
            running(data, sections=sections(nats, republish={})),
            engine(nats.access, exchanges=("kraken", "okx")) as one,
        ):
            Source(one, "kraken", "okx").tell(200)
            await until(lambda: len(heard) == 40, "every fifth of 200")
    assert {each.subject for each in heard} == {"market.kraken.btc-usd.trade", "market.okx.btc-usd.trade"}
    trades = [msgspec.json.decode(each.data, type=Trade) for each in heard]
    assert {each.symbol for each in trades} == {"BTC/USD"}
    for exchange in ("kraken", "okx"):
        numbers = [int(each.id) for each in trades if each.exchange == exchange]
        assert numbers == sorted(set(numbers))
    assert len({each.headers["Nats-Msg-Id"] for each in heard if each.headers}) == 40
    positions = [int(each.headers["Cm-Position"]) for each in heard if each.headers]
    assert len(set(positions)) == 40


async def test_prices_go_out_too(data: Path, nats: Server) -> None:
    prices = {
        "record_seconds": 1.0,
        "feeds": [{"feed": {"name": "BTC/USD"}, "sources": [{"exchange": "kraken", "symbol": "BTC/USD"}]}],
    }
    config = sections(nats, republish={}) | {"prices": prices}
    heard: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    async def hear(message: Msg) -> None:
        if not heard.done():
            heard.set_result(message)

    async with client(nats) as other, running(data, sections=config), engine(nats.access) as one:
        await other.client.subscribe("market.prices.>", cb=hear)
        put = one.outbox.open("kraken", lambda _: None)
        for number in range(1, 4):
            put(_trade_of_now(number))
        async with asyncio.timeout(20.0):
            message = await heard
    assert message.subject == "market.prices.btc-usd.price"


def _trade_of_now(number: int) -> Trade:
    now = time_ns() // 1000
    return Trade("kraken", "BTC/USD", now, now, str(number), "100", "1", "buy")


async def test_a_master_that_is_killed_leaves_nothing_out(data: Path, nats: Server) -> None:
    """What was stored and not yet published when it died is given again by the queue, and its id tells what was."""
    async with engine(nats.access) as one, client(nats) as other:
        source = Source(one)
        with process(data, sections(nats, **KEPT)) as (started, _):
            source.tell(3000)
            await until_stored(1, data)
            started.kill()
        async with running(data, sections=sections(nats, **KEPT)):
            await until_stored(source.told, data)
            await until_empty(other)
        info = await other.js.stream_info("market", subjects_filter="market.kraken.*.trade")
        assert sum((info.state.subjects or {}).values()) == source.told


# Of the queue alone -------------------------------------------------------------------------------------------------------


class Ear:
    """Stands where a link and its connection would, and answers when it may."""

    def __init__(self) -> None:
        self.client = self
        self.heard: list[tuple[str, Event]] = []
        self.may_confirm = asyncio.Event()

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        self.heard.append((headers["Nats-Msg-Id"], msgspec.json.decode(payload, type=Event)))

    async def flush(self, _: float) -> None:
        await self.may_confirm.wait()


async def test_a_slow_connection_leaves_out_what_has_no_room_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("master.jetstream.republish.MOST_WAITING", 3)
    republisher, ear = Republisher(Republish()), Ear()
    position = 100
    for seq in range(1, 9):
        if seq == 6:  # there is room again
            ear.may_confirm.set()
            publishing = asyncio.create_task(republisher.run(ear))  # type: ignore[arg-type]
            await until(lambda: republisher.published == 3)
        republisher.hear(batch(seq), [trade(seq)], position + seq)
    await until(lambda: republisher.through(STREAM) == 8)
    publishing.cancel()
    told = [event.id if isinstance(event, Trade) else event for _, event in ear.heard]
    gap = next(each for each in told if isinstance(each, Gap))
    assert told == ["1", "2", "3", gap, "6", "7", "8"]
    assert (gap.channel, gap.first_missing, gap.last_missing) == ("republish", "104", "105")
    assert (republisher.published, republisher.left_out) == (6, 2)


async def test_what_was_not_confirmed_is_published_again_under_the_same_ids() -> None:
    republisher, deaf, ear = Republisher(Republish()), Ear(), Ear()
    republisher.hear(batch(1, trade(1), trade(2)), [trade(1), trade(2)], 1)
    first = asyncio.create_task(republisher.run(deaf))  # type: ignore[arg-type]
    await until(lambda: len(deaf.heard) == 2)
    first.cancel()
    assert republisher.through(STREAM) == 0
    ear.may_confirm.set()
    second = asyncio.create_task(republisher.run(ear))  # type: ignore[arg-type]
    await until(lambda: republisher.through(STREAM) == 1)
    second.cancel()
    assert ear.heard == deaf.heard
    assert [name for name, _ in ear.heard] == [f"{STREAM.hex()}:1:0", f"{STREAM.hex()}:1:1"]


async def test_what_is_given_again_goes_out_again_once_in_a_life() -> None:
    republisher, ear = Republisher(Republish()), Ear()
    ear.may_confirm.set()
    publishing = asyncio.create_task(republisher.run(ear))  # type: ignore[arg-type]
    for _ in range(2):
        republisher.again(batch(7))
        await until(lambda: republisher.through(STREAM) == 7)
    republisher.hear(batch(8), [trade(8)], 5)
    republisher.again(batch(8))
    await until(lambda: republisher.through(STREAM) == 8)
    publishing.cancel()
    assert [event.id for _, event in ear.heard if isinstance(event, Trade)] == ["7", "8"]
