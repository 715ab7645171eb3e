"""Questions about what was stored: every row once, wherever it is kept, as the venue said it."""

import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from msgspec.structs import replace

from adapters.events import Book, Event, Gap, Price, Ticker, Trade
from master.history.answers import Answers
from master.history.questions import INTERVALS, Question, QuestionError, decode_cursor
from master.lake import LakeError, seal
from master.segments import path_of, position
from tests.master.making import NOON, batch, trade, write_segment
from tests.master.test_lake import Keeping

ABOUT = ("kraken", "BTC/USD", NOON - 250, NOON)
EVENTS: dict[str, Event] = {
    "trades": Trade(*ABOUT, "T-1", "100.10", "0.50000000", "sell", "backfill"),
    "books": Book(*ABOUT, [("100.10", "0.5000"), ("100.0", "1")], [("100.20", "0.00000001")], 17),
    "tickers": Ticker(*ABOUT, "1.0", "2.00", None, "4.5", "5", "6.000"),
    "prices": Price("", "BTC/USD", None, NOON, "71287.34", "weighted_median", 6, 1, 2.5, 0.97),
    "gaps": Gap(*ABOUT, "trades", "sequence", "11", "13", NOON - 5, NOON),
}
MINUTE = 60_000_000
HOUR = 60 * MINUTE


@pytest.fixture(autouse=True, scope="module")
def few_at_once() -> Iterator[None]:
    """So that a handful of files is enough to be looked through step by step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("master.history.answers.FIRST_LOOK", 1)
        yield


def keep(data: Path, number: int, *events: Event, sealed: bool = False) -> None:
    path = write_segment(data / "journal", number, [batch(number, *events)])
    if sealed:
        seal(path, data / "lake")


def rows_of(answers: Answers, question: Question) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(answers.answer(question).body)["rows"]
    return told


def pages(answers: Answers, question: Question) -> Iterator[list[dict[str, Any]]]:
    """Page after page, as far as cursors lead."""
    while True:
        found = answers.answer(question)
        told = json.loads(found.body)
        assert (told["cursor"], len(told["rows"])) == (found.cursor, found.rows)
        yield told["rows"]
        if found.cursor is None:
            return
        question = replace(question, cursor=found.cursor)


def ids(rows: Sequence[dict[str, Any]]) -> list[int]:
    return [int(row["id"]) for row in rows]


# Rows ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
@pytest.mark.parametrize("table", EVENTS)
def test_a_row_is_the_event_as_it_was_told(tmp_path: Path, table: Any, sealed: bool) -> None:
    keep(tmp_path, 1, trade(1, symbol="X/Y"), EVENTS[table], sealed=sealed)
    (row,) = rows_of(Answers(tmp_path), Question(table, symbol="BTC/USD"))
    if table == "gaps":
        assert row.pop("repaired") == 0.0
    assert row == {**json.loads(msgspec.json.encode(EVENTS[table])), "position": position(1, 2)}
    assert list(row) == [*to_builtins(EVENTS[table]), "position"], "in the order of the schema"


@pytest.mark.parametrize("sealed", [False, True], ids=["journal", "parquet"])
def test_levels_are_pairs_of_text_of_their_own_book(tmp_path: Path, sealed: bool) -> None:
    views = [
        Book("a", f"S{number}", None, NOON + number, [(str(number), "1.0")] * number, [("9", "0.0")], None)
        for number in range(3)
    ]
    keep(tmp_path, 1, *views, sealed=sealed)
    rows = rows_of(Answers(tmp_path), Question("books"))
    assert [(row["bids"], row["asks"]) for row in rows] == [([[str(n), "1.0"]] * n, [["9", "0.0"]]) for n in range(3)]


def read_back(body: bytes, form: str) -> pa.Table:
    if form == "csv":
        return pyarrow.csv.read_csv(io.BytesIO(body))
    return pq.read_table(io.BytesIO(body)) if form == "parquet" else pa.ipc.open_stream(body).read_all()


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
@pytest.mark.parametrize("table", [*EVENTS, "candles"])
def test_columns_come_in_every_form(tmp_path: Path, table: Any, form: Any) -> None:
    keep(tmp_path, 1, *EVENTS.values(), sealed=True)
    interval = "1m" if table == "candles" else None
    found = Answers(tmp_path).answer(Question(table, symbol="BTC/USD", interval=interval, format=form))
    read = read_back(found.body, form)
    assert (read.num_rows, found.rows, found.last) == (1, 1, read["position"][0].as_py())
    (row,) = read.to_pylist()
    if table == "trades":
        assert (row["price"], row["side"], str(row["received"])[:19]) == (100.1, "sell", "2025-11-26 12:00:00")
    if table == "candles":
        assert (row["volume"], row["closed"], str(row["start"])[:19]) == (0.5, True, "2025-11-26 11:59:00")
    if table == "books":
        told = json.loads(row["asks"]) if form == "csv" else [list(level.values())[2:] for level in row["asks"]]
        assert told == [["100.20", "0.00000001"]]
    if form != "csv":
        assert row.get("price_text") in (None, "100.10", "71287.34")


# Pages --------------------------------------------------------------------------------------------------------------------


class TestPages:
    @pytest.fixture
    def answers(self, tmp_path: Path) -> Answers:
        """Ids 1 to 9, received a microsecond apart, in lake, lake and journal."""
        for number in (1, 2, 3):
            keep(tmp_path, number, *(trade(3 * number + each) for each in (-2, -1, 0)), sealed=number < 3)
        return Answers(tmp_path)

    def test_without_a_start_the_newest_and_then_back(self, answers: Answers) -> None:
        assert [ids(page) for page in pages(answers, Question("trades", limit=4))] == [[6, 7, 8, 9], [2, 3, 4, 5], [1]]

    def test_with_a_start_forward(self, answers: Answers) -> None:
        question = Question("trades", start=NOON + 2, end=NOON + 8, limit=3)
        assert [ids(page) for page in pages(answers, question)] == [[2, 3, 4], [5, 6, 7]], "the end is exclusive"

    def test_an_end_alone_goes_back_from_it(self, answers: Answers) -> None:
        assert [ids(page) for page in pages(answers, Question("trades", end=NOON + 4, limit=2))] == [[2, 3], [1]]

    def test_by_position(self, answers: Answers) -> None:
        found = answers.answer(Question("trades", after=position(1, 2), limit=3))
        assert (ids(json.loads(found.body)["rows"]), found.cursor, found.last) == ([3, 4, 5], None, position(2, 2))
        assert ids(rows_of(answers, Question("trades", after=position(2, 3), until=position(3, 2)))) == [7, 8]
        assert answers.answer(Question("trades", after=position(3, 3))).last is None

    def test_an_answer_without_rows_is_one(self, answers: Answers) -> None:
        found = answers.answer(Question("tickers"))
        assert (json.loads(found.body), found.rows, found.cursor, found.last) == ({"rows": [], "cursor": None}, 0, None, None)

    def test_a_cursor_stands_in_a_url_as_it_is(self, answers: Answers) -> None:
        cursor = answers.answer(Question("trades", limit=1)).cursor
        assert cursor is not None
        assert cursor.replace("-", "").replace("_", "").isalnum()


rooms = st.lists(st.lists(st.integers(0, 6), max_size=6), min_size=1, max_size=7)
"""Of each segment, when its trades were received."""


@settings(max_examples=15, deadline=None)
@given(rooms, st.integers(1, 7), st.booleans(), st.integers(0, 7), st.randoms(use_true_random=False))
def test_pages_hold_what_was_there_at_first_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, segments: list[list[int]], limit: int, forward: bool, sealed: int, random: Any
) -> None:
    """Also while rows come in between them, of that time too, and while segments are sealed."""
    data = tmp_path_factory.mktemp("data")
    number = 0
    wanted: list[tuple[int, int]] = []
    for segment, times in enumerate(segments, 1):
        events: list[Event] = []
        for at in times:
            number += 1
            events.append(trade(number, received=NOON + at))
            wanted.append((at, number))
        keep(data, segment, *(events or [EVENTS["tickers"]]), sealed=segment <= sealed and segment < len(segments))
    answers = Answers(data)
    told: list[int] = []
    newest = len(segments)
    waiting = list(range(min(sealed, newest - 1) + 1, newest + 1))
    for page in pages(answers, Question("trades", start=NOON if forward else None, limit=limit)):
        told = [*told, *ids(page)] if forward else [*ids(page), *told]
        newest += 1
        keep(data, newest, *(trade(1000 + newest, received=NOON + random.randint(0, 6)) for _ in range(3)))
        if waiting:
            seal(path_of(data / "journal", waiting.pop(0)), data / "lake")
    assert told == [number for _, number in sorted(wanted)]


def test_a_master_writes_rolls_and_seals_between_the_pages(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path)
    keeping.start()
    answers = Answers(tmp_path)
    try:
        for forward in (True, False) * 4:
            committed = keeping.committed
            told: list[int] = []
            for page in pages(answers, Question("trades", start=0 if forward else None, limit=1 + committed // 4)):
                told = [*told, *ids(page)] if forward else [*ids(page), *told]
            assert told == list(range(1, len(told) + 1))
            assert len(told) >= committed
            assert rows_of(answers, Question("gaps")) == []
            if forward:
                assert ids(rows_of(answers, Question("trades", after=0, limit=10_000))) == list(range(1, len(told) + 1)) or (
                    keeping.committed > len(told)
                )
    finally:
        keeping.stop()
    assert keeping.sealed > 3, "it was sealed meanwhile"


# Candles ------------------------------------------------------------------------------------------------------------------


NAMES = ("start", "open", "high", "low", "close", "volume", "trades", "position", "timestamp", "received")


def brute(trades: list[tuple[int, Trade]], size: int) -> list[dict[str, Any]]:
    """Candles as a person would make them, from (position, trade)."""
    placed = sorted((each.received if each.timestamp is None else each.timestamp, at, each) for at, each in trades)
    told = []
    for start, group in groupby(placed, key=lambda one: one[0] // size * size):
        of_bucket = list(group)
        prices = [Decimal(each.price) for *_, each in of_bucket]
        with localcontext(prec=100):
            volume = sum((Decimal(each.amount) for *_, each in of_bucket), Decimal())
        newest = (
            max(at for _, at, _ in of_bucket),
            max(at for at, *_ in of_bucket),
            max(each.received for *_, each in of_bucket),
        )
        values = (start, prices[0], max(prices), min(prices), prices[-1], volume, len(of_bucket), *newest)
        told.append(dict(zip(NAMES, values, strict=True)))
    return told


numbers = st.decimals("0.00000001", "99999", places=8).map(lambda value: f"{value:f}")
long_numbers = st.decimals("0", "1000000000000", places=18, allow_nan=False).map(lambda value: f"{value:f}")
ticks = st.one_of(st.integers(0, 5), st.integers(0, 200 * MINUTE))
made = st.builds(
    lambda exchange, at, lag, price, amount, source: Trade(
        exchange, "BTC/USD", None if lag is None else NOON + at, NOON + at + (lag or 0), "", price, amount, "buy", source
    ),
    *(st.sampled_from(["kraken", "okx"]), ticks, st.sampled_from([None, 0, 7, 90 * MINUTE])),
    *(numbers, st.one_of(numbers, long_numbers), st.sampled_from(["live", "backfill", "legacy"])),
)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(made, min_size=1, max_size=5), min_size=1, max_size=7),
    st.integers(0, 7),
    st.sampled_from([*INTERVALS]),
    st.sampled_from([None, "kraken"]),
    st.integers(1, 9),
    st.booleans(),
)
def test_candles_are_those_of_all_trades_however_late(
    tmp_path_factory: pytest.TempPathFactory,
    segments: list[list[Trade]],
    sealed: int,
    interval: str,
    exchange: str | None,
    limit: int,
    forward: bool,
) -> None:
    data = tmp_path_factory.mktemp("data")
    placed = []
    for number, trades in enumerate(segments, 1):
        keep(data, number, trade(1, symbol="ETH/USD"), *trades, sealed=number <= sealed)
        placed += [(position(number, at), each) for at, each in enumerate(trades, 2) if exchange in (None, each.exchange)]
    question = Question("candles", exchange, "BTC/USD", start=0 if forward else None, interval=interval, limit=limit)
    told: list[dict[str, Any]] = []
    for page in pages(Answers(data), question):
        assert len(page) <= limit
        told = [*told, *page] if forward else [*page, *told]
    numeric = {"open", "high", "low", "close", "volume"}
    wanted = brute(placed, INTERVALS[interval])
    assert [{key: Decimal(row[key]) if key in numeric else row[key] for key in NAMES} for row in told] == wanted
    assert all(
        (row["type"], row["exchange"], row["interval"], row["closed"]) == ("candle", exchange or "", interval, True)
        for row in told
    )


def test_a_candle_by_hand(tmp_path: Path) -> None:
    """Late trades open and close by their venue's time; text stays the venue's; the volume has no zeros at its end."""
    at = NOON + 5 * MINUTE
    told = [
        (at + 9, "11.50", "1.50"),
        (at + 1, "10.0", "0.000000000000000001"),
        (at + 9, "9.90", "0.5"),
        (at + MINUTE, "7", "3.000"),
    ]
    keep(
        tmp_path, 1, *(Trade("kraken", "BTC/USD", when, NOON + HOUR, "", price, amount, "buy") for when, price, amount in told)
    )
    first, second = rows_of(Answers(tmp_path), Question("candles", "kraken", "BTC/USD", start=NOON, interval="1m"))
    assert [first[name] for name in ("open", "high", "low", "close", "volume", "trades")] == [
        *("10.0", "11.50", "9.90", "9.90", "2.000000000000000001", 3),
    ]
    assert (first["start"], second["start"], second["volume"]) == (at, at + MINUTE, "3")


def test_candles_from_start_to_end_begin_within(tmp_path: Path) -> None:
    keep(tmp_path, 1, *(trade(number, received=NOON + number * MINUTE + 300) for number in range(5)))
    question = Question("candles", symbol="BTC/USD", interval="1m", start=NOON + 1, end=NOON + 3 * MINUTE)
    assert [row["start"] for row in rows_of(Answers(tmp_path), question)] == [NOON + MINUTE, NOON + 2 * MINUTE]


# Gaps and completeness ----------------------------------------------------------------------------------------------------


def test_gaps_of_a_market_are_all_that_touch_it(tmp_path: Path) -> None:
    def gap(exchange: str, symbol: str | None, reason: str) -> Gap:
        return Gap(exchange, symbol, None, NOON, "trades", reason, None, None, NOON - 10, NOON)

    kept = [gap("kraken", "BTC/USD", "1"), gap("kraken", None, "2"), gap("", None, "3"), gap("okx", "BTC/USD", "4")]
    keep(tmp_path, 1, *kept, gap("kraken", "ETH/USD", "5"))
    keep(tmp_path, 2, replace(kept[0], reason="backfilled", since=NOON - 5))
    answers = Answers(tmp_path)
    told = rows_of(answers, Question("gaps", "kraken", "BTC/USD"))
    assert [(row["reason"], row["repaired"]) for row in told] == [("1", 0.5), ("2", 0.25), ("3", 0.5 / 3), ("backfilled", None)]
    assert len(rows_of(answers, Question("gaps"))) == 6
    keep(tmp_path, 3, gap("okx", None, "6"))
    assert rows_of(answers, Question("gaps", "okx"))[-1]["reason"] == "6", "what came since is there"


def test_completeness_by_the_hour(tmp_path: Path) -> None:
    keep(tmp_path, 1, trade(1), Gap("kraken", "BTC/USD", None, NOON, "trades", "x", None, None, NOON - HOUR, NOON))
    answers = Answers(tmp_path)
    told = rows_of(answers, Question("completeness", exchange="kraken", limit=1))
    assert [(row["hour"], row["channel"], row["events"], row["missing_seconds"], row["complete"]) for row in told] == [
        (NOON - HOUR, "trades", 0, 3600.0, 0.0),
        (NOON, "trades", 1, 0.0, 1.0),
    ]
    assert len(rows_of(answers, Question("completeness", start=NOON))) == 1
    assert rows_of(answers, Question("completeness", end=NOON - HOUR)) == []


# Mistakes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "field"),
    [
        (Question("trades", limit=0), "limit"),
        (Question("trades", limit=10_001), "limit"),
        (Question("trades", limit=1_000_001, format="arrow"), "limit"),
        (Question("trades", start=2**64), "start"),
        (Question("trades", start=5, end=4), "end"),
        (Question("trades", interval="1m"), "interval"),
        (Question("trades", after=1, start=1), "start"),
        (Question("candles", symbol="BTC/USD"), "interval"),
        (Question("candles", symbol="BTC/USD", interval="2m"), "interval"),
        (Question("candles", interval="1m"), "symbol"),
        *((Question("trades", cursor=cursor), "cursor") for cursor in ("", "x", "ü", "e30", "bm8", "eyJhdCI6IngifQ")),
    ],
)
def test_a_mistake_names_its_field_and_what_to_change(tmp_path: Path, question: Question, field: str) -> None:
    with pytest.raises(QuestionError) as raised:
        Answers(tmp_path).answer(question)
    assert (raised.value.field, bool(raised.value.change)) == (field, True)


@pytest.mark.parametrize("text", ["x' OR true --", "$limit", "%", ""])
def test_a_name_is_never_sql(tmp_path: Path, text: str) -> None:
    keep(tmp_path, 1, trade(1))
    assert rows_of(Answers(tmp_path), Question("trades", exchange=text, symbol=text)) == []


def test_too_much_for_one_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, 1, *(trade(number) for number in range(100)))
    monkeypatch.setattr("master.history.forms.MOST_BYTES", 5000)
    assert len(rows_of(Answers(tmp_path), Question("trades", limit=10))) == 10
    for form in ("json", "parquet"):
        with pytest.raises(QuestionError, match="fewer rows"):
            Answers(tmp_path).answer(Question("trades", format=form))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    keep(tmp_path, 1, trade(1), sealed=True)
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(LakeError, match=file.name):
        Answers(tmp_path).answer(Question("trades"))


def test_a_file_whose_time_has_come_is_no_error(tmp_path: Path) -> None:
    for number in (1, 2):
        keep(tmp_path, number, trade(number), sealed=True)
    answers = Answers(tmp_path)
    assert ids(rows_of(answers, Question("trades"))) == [1, 2]
    next((tmp_path / "lake").rglob("*1.parquet")).unlink()
    assert ids(rows_of(answers, Question("trades"))) == [2]


@given(st.binary(max_size=40))
def test_no_text_is_a_cursor_by_chance(noise: bytes) -> None:
    with pytest.raises(QuestionError):
        decode_cursor(noise.decode("latin-1"))
