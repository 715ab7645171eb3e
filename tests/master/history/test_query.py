"""Questions on the command line: the answer on standard output, or one message on standard error."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adapters.events import Gap
from master.__main__ import main
from master.history.query import QueryError, answer
from master.lake import seal
from tests.master.making import NOON, batch, trade, write_segment

TRADES = "SELECT id, price, price_text, received FROM trades ORDER BY position"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two trades in the lake, one in the journal."""
    seal(write_segment(tmp_path / "journal", 1, [batch(1, trade(1), trade(2))]), tmp_path / "lake")
    write_segment(tmp_path / "journal", 2, [batch(2, trade(3), Gap("kraken", None, None, NOON, "trades", 'a, "b"'))])
    return tmp_path


def ask(data: Path, sql: str, form: str = "table") -> int:
    return main(["query", sql, "--data", str(data), "--format", form])


class TestFormats:
    def test_a_table_for_people(self, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert ask(data, TRADES) == 0
        shown = capfd.readouterr().out
        assert all(word in shown for word in ("price_text", "101.50", "103.5", "2025-11-26 12:00:00"))

    def test_csv(self, data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        assert ask(data, TRADES, "csv") == 0
        assert capfdbinary.readouterr().out.decode().splitlines() == [
            "id,price,price_text,received",
            "1,101.5,101.50,2025-11-26 12:00:00.000001",
            "2,102.5,102.50,2025-11-26 12:00:00.000002",
            "3,103.5,103.50,2025-11-26 12:00:00.000003",
        ]

    def test_csv_quotes_what_needs_it(self, data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        ask(data, "SELECT reason, symbol FROM gaps", "csv")
        assert capfdbinary.readouterr().out.decode().splitlines() == ["reason,symbol", '"a, ""b""",']

    def test_json_is_one_object_a_line(self, data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        assert ask(data, TRADES, "json") == 0
        lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
        assert [(line["id"], line["price"], line["price_text"]) for line in lines] == [
            ("1", 101.5, "101.50"),
            ("2", 102.5, "102.50"),
            ("3", 103.5, "103.50"),
        ]

    def test_parquet(self, data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        assert ask(data, TRADES, "parquet") == 0
        found = pq.read_table(io.BytesIO(capfdbinary.readouterr().out))
        assert found.column_names == ["id", "price", "price_text", "received"]
        assert found["price_text"].to_pylist() == ["101.50", "102.50", "103.50"]

    @pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
    def test_an_answer_without_rows_is_an_answer(self, data: Path, form: str) -> None:
        assert ask(data, "SELECT * FROM candles", form) == 0

    @pytest.mark.parametrize(
        "sql", ["SHOW TABLES", "DESCRIBE trades", "SUMMARIZE trades", "SELECT 1;", "WITH a AS (SELECT 1) FROM a"]
    )
    def test_whatever_asks_is_answered(self, data: Path, sql: str, capfd: pytest.CaptureFixture[str]) -> None:
        assert ask(data, sql) == 0
        assert capfd.readouterr().out


class TestErrors:
    """A line or two that say what to do; never a traceback."""

    @pytest.mark.parametrize(
        ("sql", "hint"),
        [
            ("SELECT * FROM trade", "trades"),
            ("SELECT pirce FROM trades", "price"),
            ("SELEKT 1", "syntax error"),
            ("", "only questions are answered"),
            ("CREATE TABLE x (y INT)", "only questions are answered"),
            ("SELECT error('no')", "no"),
        ],
    )
    @pytest.mark.parametrize("form", ["table", "csv"])
    def test_a_question_that_cannot_be_answered(
        self, data: Path, sql: str, hint: str, form: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert ask(data, sql, form) == 1
        said = capfd.readouterr()
        assert hint in said.err
        assert "Traceback" not in said.err
        assert said.out == ""

    def test_no_data_there(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert ask(tmp_path / "nowhere", "SELECT 1") == 1
        assert "nowhere: there is no such data directory; --data names it" in capfd.readouterr().err

    def test_a_file_of_the_lake_that_is_broken_is_named(self, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (file,) = (data / "lake").rglob("*.parquet")
        file.write_bytes(b"PAR1 nonsense")
        assert ask(data, TRADES) == 1
        assert file.name in capfd.readouterr().err

    def test_a_journal_that_cannot_be_read(self, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (data / "journal" / "000000000003.journal").mkdir()
        assert ask(data, TRADES) == 1
        said = capfd.readouterr().err
        assert "000000000003.journal" in said
        assert "Traceback" not in said

    def test_an_unknown_format_is_refused_with_the_known(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            ask(data, "SELECT 1", "xml")
        assert "parquet" in capsys.readouterr().err

    def test_in_a_program_it_is_one_kind_of_error(self, data: Path) -> None:
        with pytest.raises(QueryError):
            answer(data, "SELECT * FROM nothing", "csv")


class TestAsACommand:
    def test_from_a_configuration(self, data: Path, tmp_path: Path) -> None:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"server": {"data": str(data)}}))
        command = [sys.executable, "-m", "master", "query", "SELECT count(*) AS n FROM trades", "--config", str(config)]
        done = subprocess.run([*command, "--format", "csv"], capture_output=True, text=True, timeout=30, check=True)
        assert (done.stdout, done.stderr) == ("n\n3\n", "")

    def test_whoever_reads_no_further_is_no_error(self, data: Path) -> None:
        """As in `... --format csv | head -1`."""
        command = [
            sys.executable,
            "-m",
            "master",
            "query",
            "SELECT * FROM range(1000000)",
            "--data",
            str(data),
            "--format",
            "csv",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"range\n"
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=30) == 0
