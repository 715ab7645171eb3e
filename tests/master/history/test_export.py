"""Export: the files that other tools read, read by those tools; and what a person sees who asks for them."""

import gzip
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import pytest

from adapters.events import Book, BookDelta, Event, Gap, Liquidation, Ticker, Trade
from master.__main__ import main
from master.history.tardis import COLUMNS
from master.lake import seal
from tests.master.making import DAY, NOON, batch, write_segment

ABOUT = ("kraken", "btc/USD:usd")
NEXT = NOON // DAY * DAY + DAY + 1_000_000
"""A second into the next day."""
PARTS = "kraken_{}_2025-11-26_BTC-USD_USD.{}"

EVENTS: list[Event] = [
    Book(*ABOUT, NOON - 9, NOON, [("100.10", "0.5000"), ("99.0", "2")], [("100.20", "1"), ("101", "7")], 1),
    Ticker(*ABOUT, NOON - 8, NOON + 1, "100.10", "0.5000", "100.20", None, "100.15", "6"),
    Ticker(*ABOUT, NOON - 7, NOON + 2, last="100.15"),
    Trade(*ABOUT, NOON - 6, NOON + 30, 'a,"1', "100.20", "0.10000000", "buy"),
    Trade(*ABOUT, None, NOON + 20, "2", "100.1", "0.00000001", "unknown", "backfill"),
    BookDelta(*ABOUT, NOON + 30, NOON + 40, [("100.10", "0"), ("100.05", "3")], [("101", "8.50")], 2, 1),
    Book(*ABOUT, NOON + 30, NOON + 40, [("100.05", "3")], [("100.20", "1")], 2),
    Gap(*ABOUT, None, NOON + 60, "orderbooks", "checksum", None, None, NOON + 50, None),
    Book(
        *ABOUT,
        NOON + 70,
        NOON + 80,
        [("98", "1"), ("97", "1"), ("96", "1"), ("95", "1.25")],
        [("99", "1"), ("102", "1"), ("103", "1"), ("104", "1.75")],
        9,
    ),
    Liquidation(*ABOUT, NOON + 85, NOON + 90, "L1", "98", "3", "sell"),
    BookDelta(*ABOUT, NOON + 91, NOON + 95, [("98", "2")], [], 10, 9),
]
LAST = {98.0: 2.0, 97.0: 1.0, 96.0: 1.0, 95.0: 1.25}, {99.0: 1.0, 102.0: 1.0, 103.0: 1.0, 104.0: 1.75}
TOMORROW: list[Event] = [
    BookDelta(*ABOUT, NEXT, NEXT, [], [("102", "0")], 11, 10),
    Trade("binance", "ETH/USDT", NEXT, NEXT, "3", "1", "1", "sell"),
]
ROWS = {"trades": 2, "incremental_book_L2": 20, "book_ticker": 1, "quotes": 5, "liquidations": 1}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A day in the lake, and a little of the next in the journal."""
    data = tmp_path / "data"
    seal(write_segment(data / "journal", 1, [batch(1, *EVENTS)]), data / "lake")
    write_segment(data / "journal", 2, [batch(2, *TOMORROW)])
    return data


def run(data: Path, out: Path, form: str = "tardis-csv", *more: str) -> int:
    return main(["export", "--data", str(data), "--out", str(out), "--format", form, *more])


def lines(file: Path) -> list[str]:
    return gzip.decompress(file.read_bytes()).decode().splitlines()


class TestFiles:
    def test_one_for_each_type_market_and_day(self, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(data, tmp_path / "out") == 0
        told = capfd.readouterr()
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert (
            {Path(line).name for line in told.out.splitlines()}
            == names
            == {
                *(PARTS.format(kind, "csv.gz") for kind in COLUMNS),
                "kraken_incremental_book_L2_2025-11-27_BTC-USD_USD.csv.gz",
                "kraken_quotes_2025-11-27_BTC-USD_USD.csv.gz",
                "binance_trades_2025-11-27_ETH-USDT.csv.gz",
            }
        )
        assert told.err == "8 files, 40 rows\n"

    def test_trades_line_by_line(self, data: Path, tmp_path: Path) -> None:
        run(data, tmp_path, "tardis-csv", "--type", "trades", "--exchange", "kraken")
        assert lines(tmp_path / PARTS.format("trades", "csv.gz")) == [
            "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
            f"kraken,BTC/USD:USD,{NOON + 20},{NOON + 20},2,unknown,100.1,0.00000001",
            f'kraken,BTC/USD:USD,{NOON - 6},{NOON + 30},"a,""1",buy,100.20,0.10000000',
        ]

    def test_best_prices_line_by_line(self, data: Path, tmp_path: Path) -> None:
        run(data, tmp_path, "tardis-csv", "--type", "book_ticker,quotes", "--end", "2025-11-27")
        assert lines(tmp_path / PARTS.format("book_ticker", "csv.gz")) == [
            "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
            f"kraken,BTC/USD:USD,{NOON - 8},{NOON + 1},,100.20,100.10,0.5000",
        ]
        assert [line.split(",")[3:] for line in lines(tmp_path / PARTS.format("quotes", "csv.gz"))[1:]] == [
            [str(NOON), "1", "100.20", "100.10", "0.5000"],
            [str(NOON + 40), "1", "100.20", "100.05", "3"],
            [str(NOON + 50), "", "", "", ""],
            [str(NOON + 80), "1", "99", "98", "1"],
            [str(NOON + 95), "1", "99", "98", "2"],
        ]

    def test_the_next_day_begins_with_the_book_of_the_one_before(self, data: Path, tmp_path: Path) -> None:
        """Also where only the next day is asked for."""
        chosen = ["--type", "incremental_book_L2", "--start", "2025-11-27"]
        assert run(data, tmp_path, "tardis-csv", *chosen) == 0
        (file,) = tmp_path.glob("*.csv.gz")
        *snapshot, change = (line.split(",") for line in lines(file)[1:])
        assert {(row[4], row[3]) for row in snapshot} == {("true", str(NOON // DAY * DAY + DAY))}
        levels = [{float(row[6]): float(row[7]) for row in snapshot if row[5] == side} for side in ("bid", "ask")]
        assert tuple(levels) == LAST
        assert change[4:] == ["false", "ask", "102", "0"]

    def test_from_the_last_view_where_there_are_only_views(self, tmp_path: Path) -> None:
        views = [Book(*ABOUT, at, at, [(f"{at}", "1")], [], at) for at in (NOON, NOON + 10, NOON + 20)]
        write_segment(tmp_path / "journal", 1, [batch(1, *views)])
        assert run(tmp_path, tmp_path / "out", "tardis-csv", "--start", "2025-11-26T12:00:00.000015") == 0
        rows = lines(tmp_path / "out" / PARTS.format("incremental_book_L2", "csv.gz"))[1:]
        assert [row.split(",")[3:] for row in rows] == [
            [str(NOON + 15), "true", "bid", str(NOON + 10), "1"],
            [str(NOON + 20), "false", "bid", str(NOON + 20), "1"],
            [str(NOON + 20), "false", "bid", str(NOON + 10), "0"],
        ]

    def test_an_exchange_has_the_name_that_readers_know_it_by(self, tmp_path: Path) -> None:
        write_segment(tmp_path / "journal", 1, [batch(1, Trade("okx", "BTC/USDT", NOON, NOON, "1", "1", "2", "sell"))])
        assert run(tmp_path, tmp_path / "out", "tardis-csv", "--exchange", "okx") == 0
        assert lines(tmp_path / "out" / "okex_trades_2025-11-26_BTC-USDT.csv.gz")[1].startswith("okex,BTC/USDT,")

    def test_a_file_that_cannot_be_finished_is_not_there(self, data: Path, tmp_path: Path) -> None:
        """A folder stands where the file should: nothing half-written is left, and the old is as it was."""
        taken = tmp_path / "out" / PARTS.format("trades", "csv.gz")
        taken.mkdir(parents=True)
        assert run(data, tmp_path / "out", "tardis-csv", "--type", "trades", "--exchange", "kraken") == 1
        assert list((tmp_path / "out").iterdir()) == [taken]

    def test_again_is_harmless(self, data: Path, tmp_path: Path) -> None:
        assert run(data, tmp_path / "out") == run(data, tmp_path / "out") == 0
        assert len(list((tmp_path / "out").iterdir())) == 8


class TestErrors:
    """A line that says what to do; never a traceback."""

    def test_nothing_found(self, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(data, tmp_path, "parquet", "--exchange", "mtgox") == 1
        told = capfd.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert "nothing of that" in told.err

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--type", "trades,candles"], "--type: unknown: candles; known: trades, incremental_book_L2"),
            (["--start", "yesterday"], "--start: a time is expected, such as 2026-01-31T12:00, not 'yesterday'"),
            (["--end", "26/11/2025"], "--end: a time is expected"),
        ],
    )
    def test_what_cannot_be_meant(
        self, more: list[str], said: str, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert run(data, tmp_path / "out", "parquet", *more) == 2
        assert said in capfd.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_no_data(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(tmp_path / "none", tmp_path) == 1
        assert "--data names it" in capfd.readouterr().err

    def test_a_folder_that_cannot_be_made(self, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").touch()
        assert run(data, tmp_path / "file" / "out") == 1
        assert "Not a directory" in capfd.readouterr().err


def read_by_pandas(file: Path) -> list[tuple[Any, ...]]:
    pandas = import_module("pandas")
    frame = pandas.read_parquet(file) if file.suffix == ".parquet" else pandas.read_csv(file, dtype={"id": str})
    assert str(frame.dtypes["local_timestamp"]) == "int64"
    return [tuple(None if pandas.isna(value) else value for value in row) for row in frame.itertuples(index=False)]


def read_by_polars(file: Path) -> list[tuple[Any, ...]]:
    polars = import_module("polars")
    frame = (
        polars.read_parquet(file)
        if file.suffix == ".parquet"
        else polars.read_csv(file, schema_overrides={"id": polars.String})
    )
    assert frame.schema["local_timestamp"] == polars.Int64
    rows: list[tuple[Any, ...]] = frame.rows()
    return rows


def read_by_duckdb(file: Path) -> list[tuple[Any, ...]]:
    kinds = ", types = {'id': 'VARCHAR'}" if "_trades_" in file.name or "_liquidations_" in file.name else ""
    source = f"read_parquet('{file}')" if file.suffix == ".parquet" else f"read_csv('{file}'{kinds})"
    return duckdb.sql(f"FROM {source}").fetchall()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first day as both CSV and Parquet."""
    folder = tmp_path_factory.mktemp("exported")
    write_segment(folder / "data" / "journal", 1, [batch(1, *EVENTS)])
    for form in ("tardis-csv", "parquet"):
        run(folder / "data", folder / "out", form)
    return folder / "out"


class TestReaders:
    @pytest.mark.parametrize("read", [read_by_pandas, read_by_polars, read_by_duckdb])
    @pytest.mark.parametrize("kind", COLUMNS)
    def test_each_type_as_csv_and_as_parquet_is_the_same(self, read: Any, kind: str, exported: Path) -> None:
        from_csv = read(exported / PARTS.format(kind, "csv.gz"))
        assert len(from_csv) == ROWS[kind]
        assert read(exported / PARTS.format(kind, "parquet")) == from_csv
        assert from_csv[0][:2] == ("kraken", "BTC/USD:USD")
        assert all(isinstance(row[2], int) and isinstance(row[3], int) for row in from_csv)

    def test_hftbacktest_has_our_book_at_the_end(self, exported: Path) -> None:
        """Also where a book came back with more levels than it had: of a second snapshot it would not keep them."""
        tardis = pytest.importorskip("hftbacktest.data.utils.tardis")
        types = pytest.importorskip("hftbacktest.types")
        names = ("trades", "incremental_book_L2")  # trades first: that is how it wants them
        files = [str(exported / PARTS.format(kind, "csv.gz")) for kind in names]
        events = tardis.convert(files, buffer_size=1000, ss_buffer_size=100)
        sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        trades = 0
        for event in events[events["ev"] & types.LOCAL_EVENT == types.LOCAL_EVENT]:
            side, action = sides[int(event["ev"] & types.BUY_EVENT != types.BUY_EVENT)], event["ev"] & 0xFF
            if action == types.DEPTH_CLEAR_EVENT:
                side.clear()
            elif action in (types.DEPTH_EVENT, types.DEPTH_SNAPSHOT_EVENT):
                side[float(event["px"])] = float(event["qty"])
            trades += action == types.TRADE_EVENT
        assert tuple({price: amount for price, amount in side.items() if amount} for side in sides) == LAST
        assert trades == 2

    def test_nautilus_trader_has_our_book_at_the_end(self, exported: Path) -> None:
        """Where it is installed: it wants an older pandas and uvloop than this project's other tests."""
        loaders = pytest.importorskip("nautilus_trader.adapters.tardis.loaders", reason="nautilus_trader is not installed")
        model = pytest.importorskip("nautilus_trader.model")
        loader = loaders.TardisCSVDataLoader(price_precision=2, size_precision=8)
        book = model.book.OrderBook(model.InstrumentId.from_str("BTC/USD:USD.KRAKEN"), model.enums.BookType.L2_MBP)
        for delta in loader.load_deltas(exported / PARTS.format("incremental_book_L2", "csv.gz")):
            book.apply_delta(delta)
        sides = (book.bids(), book.asks())
        assert tuple({float(level.price): float(level.size()) for level in side} for side in sides) == LAST
        trades = loader.load_trades(exported / PARTS.format("trades", "csv.gz"))
        assert [(str(trade.price), str(trade.size)) for trade in trades] == [("100.10", "0.00000001"), ("100.20", "0.10000000")]
        assert len(loader.load_quotes(exported / PARTS.format("quotes", "csv.gz"))) == ROWS["quotes"]


def test_as_a_command(data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "master",
        "export",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--format",
        "parquet",
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 8)
