"""SQL on the command line: the lake's views, answered as a table, CSV, JSON lines or Parquet."""

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import duckdb

from master.lake import connect
from master.ledger import question

Format = Literal["table", "csv", "json", "parquet"]

_COPY = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet, COMPRESSION zstd"}
_OF_LEDGER = re.compile(r"gaps|completeness|show|describe|summarize|information_schema|duckdb_|pg_", re.IGNORECASE)
"""Questions that may be about what the ledger has made, or about what views there are."""
_NARROWEST = 100
_MOST_ROWS = 1000


class QueryError(Exception):
    """The question cannot be answered, and why."""


def answer(data: Path, sql: str, form: Format) -> None:
    """Write the answer to standard output. Raises QueryError, and BrokenPipeError where nobody reads on."""
    _answer(data, lambda connection: connection.sql(sql), form, with_ledger=bool(_OF_LEDGER.search(sql)))


def answer_ledger(data: Path, chosen: Mapping[str, str | None], form: Format) -> None:
    """The same for the ledger of what is chosen (`ledger.question`)."""
    _answer(data, partial(question, chosen=chosen), form, with_ledger=True)


def _answer(
    data: Path,
    ask: Callable[[duckdb.DuckDBPyConnection], duckdb.DuckDBPyRelation | None],
    form: Format,
    *,
    with_ledger: bool,
) -> None:
    if not data.is_dir():
        raise QueryError(f"{data}: there is no such data directory; --data names it")
    try:
        with connect(data, with_ledger=with_ledger) as connection:
            relation = ask(connection)
            if relation is None:
                raise QueryError("only questions are answered: SELECT, DESCRIBE, SHOW TABLES, SUMMARIZE ...")
            if form == "table":
                relation.show(max_width=max(_NARROWEST, shutil.get_terminal_size().columns), max_rows=_MOST_ROWS)
            else:
                relation.create_view("answer")
                _copy(connection, form)
    except BrokenPipeError:
        raise
    except (duckdb.Error, OSError) as error:
        raise QueryError(str(error)) from error


def _copy(connection: duckdb.DuckDBPyConnection, form: Format) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "answer")
        connection.execute(f"COPY answer TO '{file}' ({_COPY[form]})")
        with file.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)
            sys.stdout.buffer.flush()
