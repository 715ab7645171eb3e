"""The pulse: rates from tallies by hand, lags of what a real journal made durable."""

import asyncio
from collections import Counter
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import pytest

from adapters.events import Book, Event, Gap
from master.ingest import Ingest
from master.journal import Journal, recover
from master.live.market import Market
from master.live.pulse import LAGS, QUIET_AFTER, SAMPLES, SILENT_AFTER, Pulse
from master.protocol import Receiver
from master.tally import Tally
from tests.master.making import NOON, trade
from tests.master.running import door
from tests.waiting import until


def tally(trades: int = 0, books: int = 0, gaps: int = 0, last: int = NOON) -> Tally:
    return Tally(Counter({"Trade": trades, "Book": books, "Gap": gaps}), last)


def now() -> int:
    return time_ns() // 1000


def of(report: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in report if each["exchange"] == name)


class TestRates:
    def test_what_came_between_two_samples(self) -> None:
        tallies = {"kraken": tally(1000, 500)}
        pulse = Pulse(tallies, Market())
        pulse.sample(NOON, 50.0)
        assert pulse.events_per_second == 0.0
        assert pulse.history()["time"] == []
        tallies["kraken"].rows.update(Trade=30, Book=10)
        tallies["okx"] = tally(books=4)
        pulse.sample(NOON + 2_000_000, 52.0)
        assert pulse.events_per_second == 22.0
        kraken = of(pulse.exchanges(NOON), "kraken")
        assert (kraken["events_per_second"], kraken["trades_per_second"]) == (20.0, 15.0)
        assert of(pulse.exchanges(NOON), "okx")["events_per_second"] == 2.0
        pulse.sample(NOON + 3_000_000, 53.0)
        assert pulse.events_per_second == 0.0

    def test_the_masters_own_is_nobodys(self) -> None:
        tallies = {"": tally(), "kraken": tally()}
        pulse = Pulse(tallies, Market())
        pulse.sample(NOON, 1.0)
        tallies[""].rows.update(Price=64)
        pulse.sample(NOON, 2.0)
        assert pulse.events_per_second == 0.0
        assert [each["exchange"] for each in pulse.exchanges(NOON)] == ["kraken"]


class TestHistory:
    def test_columns_are_of_one_length(self) -> None:
        """Also of an exchange that came later."""
        tallies = {"kraken": tally()}
        pulse = Pulse(tallies, Market())
        for second in range(4):
            if second == 2:
                tallies["okx"] = tally(7)
            pulse.sample(NOON + second, float(second))
        assert pulse.history() == {
            "step": 1.0,
            "time": [NOON + 1, NOON + 2, NOON + 3],
            "events_per_second": [0.0, 7.0, 0.0],
            "lag_ms": [None] * 3,
            "exchanges": {
                "kraken": {"events_per_second": [0.0] * 3, "lag_ms": [None] * 3},
                "okx": {"events_per_second": [0.0, 7.0, 0.0], "lag_ms": [None] * 3},
            },
        }

    def test_of_the_last_ten_minutes(self) -> None:
        tallies = {"kraken": tally()}
        pulse = Pulse(tallies, Market())
        for second in range(SAMPLES + 5):
            tallies["kraken"].rows["Trade"] += second
            pulse.sample(second, float(second))
        history = pulse.history()
        assert history["time"] == list(range(5, SAMPLES + 5))
        assert history["events_per_second"] == history["exchanges"]["kraken"]["events_per_second"] == history["time"]


class TestLags:
    def test_the_median_of_batches(self) -> None:
        pulse = Pulse({"kraken": tally(), "okx": tally()}, Market())
        pulse.sample(NOON, 1.0)
        for age in (1000, 2000, 60_000):
            pulse.hear([trade(1, received=now() - age * 1000)], 1)
        pulse.hear([trade(1, exchange="okx", received=now() - 1_000_000)], 4)
        pulse.sample(NOON, 2.0)
        report = pulse.exchanges(NOON)
        assert 2000 <= of(report, "kraken")["lag_ms"] < 50_000
        assert 1000 <= of(report, "okx")["lag_ms"] < 50_000
        assert 1000 <= pulse.history()["lag_ms"][0] < 2000 + 50_000
        pulse.sample(NOON, 3.0)
        assert of(pulse.exchanges(NOON), "kraken")["lag_ms"] is None

    def test_of_a_batch_the_event_in_its_middle(self) -> None:
        pulse = Pulse({"kraken": tally()}, Market())
        pulse.sample(NOON, 1.0)
        others = now() - 900_000_000
        pulse.hear([trade(1, received=others), trade(2, received=now()), trade(3, received=others)], 1)
        pulse.sample(NOON, 2.0)
        assert of(pulse.exchanges(NOON), "kraken")["lag_ms"] < 600_000

    def test_what_nobody_samples_does_not_grow(self) -> None:
        pulse = Pulse({"kraken": tally()}, Market())
        for _ in range(LAGS):
            pulse.hear([trade(1, received=now() - 3_600_000_000)], 1)
        for _ in range(LAGS):
            pulse.hear([trade(1, received=now())], 1)
        pulse.sample(NOON, 1.0)
        pulse.hear([], 1)  # a batch of nothing
        pulse.hear([Gap("", None, None, NOON, "delivery", "gone")], 1)
        pulse.sample(NOON, 2.0)
        assert pulse.history()["lag_ms"] == [None]


@pytest.mark.parametrize(
    ("age", "state"),
    [(QUIET_AFTER - 1, "ok"), (QUIET_AFTER, "quiet"), (SILENT_AFTER - 1, "quiet"), (SILENT_AFTER, "silent"), (-5, "ok")],
)
def test_states(age: int, state: str) -> None:
    (report,) = Pulse({"kraken": tally(last=NOON)}, Market()).exchanges(NOON + age)
    assert (report["state"], report["age"]) == (state, max(0, age) / 1e6)


def test_what_an_exchange_has() -> None:
    market = Market()
    books = [Book("kraken", symbol, None, NOON, [], [], None) for symbol in ("BTC/USD", "ETH/USD", "XRP/USD")]
    market.take([*books, trade(1, symbol="SOL/USD"), Gap("kraken", "XRP/USD", None, NOON, "orderbooks", "checksum")], 1)
    (report,) = Pulse({"kraken": tally(1, 3, 1)}, market).exchanges(NOON)
    assert {name: report[name] for name in ("symbols", "books", "books_recovering", "gaps")} == {
        **{"symbols": 4, "books": 2, "books_recovering": 1, "gaps": 1}
    }


async def test_market_and_pulse_hear_what_is_durable(tmp_path: Path) -> None:
    """Of a real journal, as the running master has them."""
    ingest = Ingest(door(tmp_path), Receiver(), tmp_path / "dead")
    journal = Journal(tmp_path, recover(tmp_path), ingest.committed, lambda _: None, roll_bytes=1 << 20, roll_seconds=60)
    market = Market()
    pulse = Pulse(ingest.exchanges, market)
    ingest.audience += [market.take, pulse.hear]
    committing = asyncio.create_task(ingest.run(journal))
    pulse.sample(now(), monotonic())
    events: list[Event] = [trade(number, received=now()) for number in range(20)]
    ingest.record(events)
    await until(lambda: ingest.stored == 20)
    sampling = asyncio.create_task(pulse.run())
    await until(lambda: pulse.events_per_second > 0)
    sampling.cancel()
    journal.stop()
    await committing
    assert len(market.source("kraken", "BTC/USD").window) == 20
    assert market.position > 20
    (report,) = pulse.exchanges(now())
    assert report["trades_per_second"] > 0
    assert 0 < report["lag_ms"] < 60_000
