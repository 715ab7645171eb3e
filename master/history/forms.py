"""The forms of an answer: JSON as the schema has it, CSV, Parquet and Arrow."""

import io
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from master.history.questions import MOST_BYTES, QuestionError
from master.tables import LEVELS


def body(found: pa.Table, form: str, cursor: str | None, tag: Any) -> bytes:
    """Raises QuestionError where it would be too large."""
    told = b"" if found.nbytes > MOST_BYTES else _json(found, cursor, tag) if form == "json" else _FORMS[form](found)
    if max(len(told), found.nbytes) > MOST_BYTES:
        raise QuestionError("limit", f"ask for fewer rows: {found.num_rows} are more than {MOST_BYTES >> 20} MiB")
    return told


def _json(found: pa.Table, cursor: str | None, tag: Any) -> bytes:
    """Events as the schema has them: numbers are their text, times integers, levels pairs."""
    names = [name for name in found.column_names if not name.endswith("_text")]
    texts = {name: f"{name}_text" for name in names if f"{name}_text" in found.column_names}
    columns = [_values(found[texts.get(name, name)]) for name in names]
    rows = [*map(_row(tag, *names), *columns)]
    return msgspec.json.encode({"rows": rows, "cursor": cursor})


@cache
def _row(tag: Any, *names: str) -> type[msgspec.Struct]:
    """One object of an answer: to make and write out a dict of each costs ten times as much."""
    return msgspec.defstruct("Row", names, tag_field=tag and "type", tag=tag, gc=False)


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    if pa.types.is_timestamp(column.type):
        return cast(list[Any], column.cast(pa.int64()).to_pylist())
    if column.type == LEVELS:
        return _pairs(column)
    return cast(list[Any], column.to_pylist())


def _pairs(column: pa.ChunkedArray) -> list[list[tuple[str, str]]]:
    """Levels as (price, amount) pairs of text."""
    told = []
    for chunk in column.chunks:
        levels = chunk.flatten()
        pairs = zip(levels.field("price_text").to_pylist(), levels.field("amount_text").to_pylist(), strict=True)
        told += [[*islice(pairs, count)] for count in pc.list_value_length(chunk).to_pylist()]
    return told


def _csv(found: pa.Table) -> bytes:
    """Levels stand as JSON in their field."""
    for place, field in enumerate(found.schema):
        if field.type == LEVELS:
            texts = [msgspec.json.encode(view).decode() for view in _pairs(found[field.name])]
            found = found.set_column(place, field.name, pa.array(texts, pa.string()))
    file = io.BytesIO()
    pyarrow.csv.write_csv(found, file)
    return file.getvalue()


def _parquet(found: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(found, file, compression="zstd")
    return file.getvalue()


def _arrow(found: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, found.schema) as writer:
        writer.write_table(found)
    return file.getvalue()


_FORMS: dict[str, Callable[[pa.Table], bytes]] = {"csv": _csv, "parquet": _parquet, "arrow": _arrow}
