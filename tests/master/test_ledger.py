"""The ledger: what is missing of each market and hour, and how much of it was filled since."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.events import Event, Gap
from master.__main__ import main
from master.lake import connect, seal
from tests.master.making import NOON, batch, trade, write_segment

SECOND = 1_000_000
HOUR = 3600 * SECOND


def gap(since: float | None, until: float | None, reason: str = "disconnected", **other: Any) -> Gap:
    """Of kraken's BTC/USD trades; times in seconds after noon, told at the end of the hole."""
    times = [None if each is None else NOON + round(each * SECOND) for each in (since, until)]
    first, last = other.get("first"), other.get("last")
    received = NOON + round(other.get("told", until or since or 0) * SECOND)
    about = (other.get("exchange", "kraken"), other.get("symbol", "BTC/USD"), None, received, other.get("channel", "trades"))
    return Gap(*about, reason, None if first is None else str(first), None if last is None else str(last), *times)


def filled(since: float, until: float, **other: Any) -> Gap:
    return gap(since, until, "backfilled", **other)


def keep(data: Path, *events: Event) -> None:
    write_segment(data / "journal", 1, [batch(1, *events)])


def ask(data: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(data) as connection:
        return connection.execute(sql).fetchall()


def repaired(data: Path) -> list[float | None]:
    return [share for (share,) in ask(data, "SELECT repaired FROM gaps ORDER BY position")]


def missing(data: Path, **where: str) -> list[tuple[Any, ...]]:
    """Hour of the day, missing seconds, missing ids and share complete of each row."""
    conditions = " AND ".join(f"{name} = '{value}'" for name, value in where.items()) or "true"
    wanted = "hour(hour), missing_seconds, missing_ids, complete"
    return ask(data, f"SELECT {wanted} FROM completeness WHERE {conditions} ORDER BY exchange, symbol, channel, hour")


class TestGaps:
    def test_a_hole_that_nobody_filled(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, 10))
        assert repaired(tmp_path) == [0.0]

    def test_a_hole_that_was_filled_and_the_record_that_says_so(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, 10), filled(0, 10, told=15))
        assert repaired(tmp_path) == [1.0, None]

    def test_parts_by_number(self, tmp_path: Path) -> None:
        parts = [filled(0, 2, first=1, last=2, told=15), filled(5, 10, first=6, last=10, told=16)]
        keep(tmp_path, gap(0, 10, first=1, last=10), *parts)
        assert repaired(tmp_path) == [0.7, None, None]

    def test_parts_by_time_that_overlap_count_once(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, 10), filled(0, 4, told=15), filled(2, 6, told=16))
        assert repaired(tmp_path)[0] == pytest.approx(0.6)

    def test_what_was_filled_before_fills_no_later_hole(self, tmp_path: Path) -> None:
        keep(tmp_path, filled(0, 10, first=1, last=9, told=5), gap(0, 10, first=1, last=9, told=20))
        assert repaired(tmp_path) == [None, 0.0]

    def test_other_markets_and_channels_are_others(self, tmp_path: Path) -> None:
        others = [filled(0, 10, symbol="ETH/USD"), filled(0, 10, exchange="okx"), filled(0, 10, channel="tickers")]
        keep(tmp_path, gap(0, 10), *others)
        assert repaired(tmp_path) == [0.0, None, None, None]

    def test_numbers_of_books_are_no_trades(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, 10, channel="orderbooks", first=1, last=10))
        assert missing(tmp_path) == [(12, 10.0, 0, pytest.approx(1 - 10 / 3600))]

    def test_of_no_market_it_is_filled_as_those_that_it_touches_are(self, tmp_path: Path) -> None:
        others = [trade(1), trade(1, symbol="ETH/USD")]
        keep(tmp_path, *others, gap(0, 10, symbol=None), filled(0, 10, told=20))
        assert repaired(tmp_path) == [0.5, None]

    def test_of_everything_what_one_exchange_filled_is_not_filled_on_another(self, tmp_path: Path) -> None:
        others = [trade(1), trade(1, exchange="okx")]
        keep(tmp_path, *others, gap(0, 10, exchange="", symbol=None), filled(0, 10, told=20))
        assert repaired(tmp_path) == [0.5, None]


class TestCompleteness:
    def test_data_without_holes_is_complete(self, tmp_path: Path) -> None:
        keep(tmp_path, trade(1), trade(2))
        assert ask(tmp_path, "SELECT * EXCLUDE hour FROM completeness") == [
            ("kraken", "BTC/USD", "trades", 2, 0, 0.0, 0, 0, 1.0)
        ]

    def test_a_hole_is_divided_among_its_hours(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(3000, 7560, first=5, last=24))
        assert missing(tmp_path) == [
            (12, 600.0, 20, pytest.approx(5 / 6)),
            (13, 3600.0, 0, 0.0),
            (14, 360.0, 0, 0.9),
        ]

    def test_holes_that_overlap_count_once_and_what_was_filled_not_at_all(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, 100), gap(50, 200), filled(20, 60), filled(190, 300))
        assert missing(tmp_path) == [(12, 150.0, 0, pytest.approx(1 - 150 / 3600))]

    def test_holes_and_those_that_were_filled_wholly(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, 10), gap(20, 30), filled(0, 10, told=40))
        assert ask(tmp_path, "SELECT holes, repaired FROM completeness") == [(2, 1)]

    def test_an_open_hole_ends_with_the_next_data(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, None, told=1), trade(1, received=NOON + 60 * SECOND), trade(2, received=NOON + 90 * SECOND))
        assert missing(tmp_path) == [(12, 60.0, 0, pytest.approx(1 - 60 / 3600))]

    def test_or_lasts_until_now(self, tmp_path: Path) -> None:
        keep(tmp_path, gap(0, None, told=1))
        rows = missing(tmp_path)
        assert len(rows) > 24
        assert rows[1][1:] == (3600.0, 0, 0.0)

    def test_a_hole_of_a_channel_touches_all_its_markets_and_no_other(self, tmp_path: Path) -> None:
        others = [trade(1), trade(1, symbol="ETH/USD"), trade(1, exchange="okx")]
        keep(tmp_path, *others, gap(500, 501, channel="tickers"), gap(0, 10, symbol=None))
        told = ask(tmp_path, "SELECT exchange, symbol, channel, missing_seconds FROM completeness ORDER BY ALL")
        assert told == [
            ("kraken", "BTC/USD", "tickers", 1.0),
            ("kraken", "BTC/USD", "trades", 10.0),
            ("kraken", "ETH/USD", "trades", 10.0),
            ("okx", "BTC/USD", "trades", 0.0),
        ]

    def test_a_hole_of_the_delivery_touches_everything_and_has_no_known_length(self, tmp_path: Path) -> None:
        keep(tmp_path, trade(1), trade(1, exchange="okx"), gap(None, 5, exchange="", symbol=None, channel="delivery"))
        assert ask(tmp_path, "SELECT exchange, holes, missing_seconds FROM completeness ORDER BY ALL") == [
            ("kraken", 1, 0.0),
            ("okx", 1, 0.0),
        ]

    def test_over_parquet_too(self, tmp_path: Path) -> None:
        seal(write_segment(tmp_path / "journal", 1, [batch(1, gap(0, 10))]), tmp_path / "lake")
        write_segment(tmp_path / "journal", 2, [batch(2, filled(0, 5, told=20))])
        assert missing(tmp_path) == [(12, 5.0, 0, pytest.approx(1 - 5 / 3600))]


spans = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60), st.booleans()), max_size=12)


@settings(max_examples=15, deadline=None)
@given(spans)
def test_missing_seconds_are_those_in_a_hole_and_not_filled(tmp_path_factory: pytest.TempPathFactory, told: list[Any]) -> None:
    data = tmp_path_factory.mktemp("lake")
    keep(data, trade(1), *(filled(at, at + size) if is_filled else gap(at, at + size) for at, size, is_filled in told))
    lost = {second for at, size, is_filled in told if not is_filled for second in range(at, at + size)}
    got = {second for at, size, is_filled in told if is_filled for second in range(at, at + size)}
    ((seconds,),) = ask(data, "SELECT missing_seconds FROM completeness WHERE hour(hour) = 12")
    assert seconds == len(lost - got)


class TestCommand:
    def shown(self, data: Path, capfdbinary: pytest.CaptureFixture[bytes], *options: str) -> list[dict[str, Any]]:
        assert main(["gaps", "--data", str(data), "--format", "json", *options]) == 0
        return [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        keep(tmp_path, trade(1), gap(3000, 7560), trade(1, exchange="okx", symbol="ETH/USD"))
        return tmp_path

    def test_every_row(self, data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        rows = self.shown(data, capfdbinary)
        assert [(row["exchange"], row["missing_seconds"]) for row in rows] == [
            *(("kraken", 600.0), ("kraken", 3600.0), ("kraken", 360.0)),
            ("okx", 0.0),
        ]

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            (("--exchange", "kraken"), 3),
            (("--symbol", "ETH/USD"), 1),
            (("--since", "2025-11-26T13:30"), 2),
            (("--until", "2025-11-26T13:00", "--exchange", "kraken"), 1),
            (("--exchange", "x' OR true --"), 0),
        ],
    )
    def test_what_is_chosen(
        self, data: Path, capfdbinary: pytest.CaptureFixture[bytes], options: tuple[str, ...], count: int
    ) -> None:
        assert len(self.shown(data, capfdbinary, *options)) == count

    def test_a_time_that_is_none_is_one_message(self, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["gaps", "--data", str(data), "--since", "yesterday"]) == 1
        assert "yesterday" in capfd.readouterr().err
