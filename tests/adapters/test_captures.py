"""Every adapter against traffic that its venue really sent: each expected fact, and each recorded session from end to end."""

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import msgspec
import orjson
import pytest

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.book_sync import BookState
from adapters.decode import Decoded, Line, Replay, decode_raw, identify, read
from adapters.events import Event, Gap
from adapters.kraken import Kraken
from adapters.okx import Okx
from adapters.symbols import Instrument
from tests.adapters.dialects import DIALECTS
from tests.adapters.driving import VIEWS, Driver, every_channel, of, sent

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
"""Beside the repository; they are not part of it, since not all of them may be published."""

pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"no captures at {CAPTURES}")

Fact = dict[str, Any]
Told = dict[str, Any]

EVENTS = {"trade": "trade", "bbo": "ticker", "ticker": "ticker"}
OTHER_DATA = {
    "candle": "candles are not collected",
    "funding": "funding is not collected",
    "liquidation": "liquidations are not collected",
    "deriv_ticker": "derivatives are not collected",
    "option_summary": "derivatives are not collected",
    "meta": "names the venue and a time only",
}
OTHER_MARKETS = ("linear", "inverse", "quanto", "option", "perp", "future")
"""File names begin with the market; these are not spot."""
RETIRED = {
    **{
        ("bitfinex", "spot-single", case): "the recorder put an object where the wire has the number of the channel"
        for case in (
            *("trade/spot_te", "trade/spot_tu", "trade/spot_snapshot", "trade/swap_te", "trade/swap_tu", "trade/swap_snapshot"),
            *("l2_event/spot_snapshot", "l2_event/spot_update", "l3_event/spot_snapshot", "l3_event/spot_update"),
            *("candlestick/spot_snapshot", "candlestick/spot_update", "ticker/spot"),
        )
    },
    **{
        ("gateio", "spot-single", case): "method and params are those of the API before v4, whose addresses are gone"
        for case in (
            *("trade/spot_20210916", "l2_event/spot_snapshot_20200916", "l2_event/spot_update_20210916"),
            "ticker/spot_sample_2",
        )
    },
    ("okx", "spot-single", "l2_topk/spot_2"): 'the "table" form is that of the API before v5, which is switched off',
}
KNOWN_ERRORS: dict[tuple[str, str], str] = {}
"""(venue, recording) to the one error that its replay may report, and why."""


def lines_of(path: Path) -> list[Line]:
    return read(path.read_text(encoding="utf-8").splitlines())


def adapter_of(path: Path) -> type[ExchangeAdapter]:
    return registry.adapter(path.parent.name)


def files(pattern: str) -> list[Path]:
    found = [path for name in registry.NAMES for path in sorted((CAPTURES / name).glob(pattern))]
    return [path for path in found if not path.name.startswith(OTHER_MARKETS)]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name.partition('.')[0]}"


# Facts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in registry.NAMES if name != "kucoin"])  # which has renamed some assets since
def test_names_are_read_by_rule_as_the_venue_lists_them(name: str) -> None:
    """A recording may come without its list of markets."""
    adapter = registry.adapter(name)
    listed = [each for path in files("*.ndjson") if path.parent.name == name for each in listed_in(adapter, path)]
    assert [each.native for each in listed if adapter.canonical(each.native) != each.symbol] == []


def listed_in(adapter: type[ExchangeAdapter], path: Path) -> list[Instrument]:
    lines = [line for line in lines_of(path) if line.kind == "http" and identify(adapter, line) == ("instruments",)]
    return [each for line in lines for each in adapter.parse_instruments(line.data)]


def is_number(fact: object, told: object) -> bool:
    """Whether a number of the wire was told; what the source computed itself is not on the wire."""
    if isinstance(fact, dict):
        return True
    return isinstance(told, str) and Decimal(str(fact)) == Decimal(told)


def are_levels(fact: list[list[Any]], told: list[tuple[str, str]]) -> bool:
    return len(fact) == len(told) and all(
        is_number(expected[0], level[0]) and is_number(expected[1], level[1])
        for expected, level in zip(fact, told, strict=True)
    )


def has_side(fact: Fact, event: Told, side: str) -> bool:
    told = event[side]
    if f"n_{side}" in fact and int(fact[f"n_{side}"]) != len(told):
        return False
    at = fact.get(f"{side}_at", {})
    if not all(int(index) < len(told) and are_levels([level], [told[int(index)]]) for index, level in at.items()):
        return False
    return side not in fact or are_levels(fact[side], told)


def is_about(fact: Fact, event: Told) -> bool:
    """The market, where the message itself names it, and the time of what happened."""
    if fact.get("native") != "NONE" and any(name in fact and fact[name] != event[name] for name in ("symbol", "native")):
        return False
    if fact.get("ts_iso") is not None:
        return bool(event["timestamp"] == round(datetime.fromisoformat(fact["ts_iso"]).timestamp() * 1_000_000))
    return "ts_ms" not in fact or (event["timestamp"] is not None and event["timestamp"] // 1000 == int(fact["ts_ms"]))


def is_told(fact: Fact, event: Told) -> bool:
    if not is_about(fact, event):
        return False
    if fact["type"] == "book":
        sequence = fact.get("seq", fact.get("seq_to"))
        previous = fact.get("prev_seq") if not fact["snapshot"] else None
        return (
            event["type"] == ("book" if fact["snapshot"] else "book_delta")
            and (sequence is None or event["sequence"] == int(sequence))
            and (previous is None or event["previous"] == int(previous))
            and has_side(fact, event, "bids")
            and has_side(fact, event, "asks")
        )
    if fact["type"] == "trade":
        numbers = {"price": "price", "amount": "amount"}
    else:
        numbers = {name: name for name in ("bid", "bid_amount", "ask", "ask_amount", "last")} | {"volume": "volume_24h"}
    return (
        event["type"] == EVENTS[fact["type"]]
        and (fact["type"] != "trade" or all(fact[name] == event[name] for name in ("id", "side") if fact.get(name) is not None))
        and all(is_number(fact[name], event[told]) for name, told in numbers.items() if name in fact)
    )


def untold(facts: list[Fact], decoded: Decoded) -> Iterator[str]:
    """The facts that nothing among the events stands for. Each event stands for one; a ticker for its prices and its day."""
    events = list(decoded.events)
    for fact in facts:
        if fact["type"] in OTHER_DATA:
            continue
        if "n_in_message" in fact:
            trades = [event for event in decoded.events if event["type"] == "trade"]
            if len(trades) != int(fact["n_in_message"]) or not is_told(fact, trades[int(fact["index"])]):
                yield f"{fact}: {decoded}"
            continue
        found = next((event for event in events if is_told(fact, event)), None)
        if found is None:
            yield f"{fact}: {decoded}"
        elif found["type"] != "ticker":
            events.remove(found)


@pytest.mark.parametrize("path", files("*.expected.json"), ids=name_of)
def test_every_expected_fact_is_told(path: Path) -> None:
    expected = orjson.loads(path.read_bytes())
    venue, name = path.parent.name, path.name.removesuffix(".expected.json")
    lines = lines_of(path.with_name(f"{name}.ndjson"))
    told = {decoded.line: decoded for decoded in decode_raw(adapter_of(path), lines)}
    answerable = [number for number, line in enumerate(lines, 1) if line.kind in ("recv", "http")]
    assert len(answerable) == len(expected)
    missing = [
        f"line {number}: {each}"
        for number, entry in zip(answerable, expected, strict=True)
        if (venue, name, entry["case"]) not in RETIRED
        for each in untold(entry["facts"], told.get(number, Decoded(number, [], [])))
    ]
    assert missing == []


def test_what_is_excluded_is_still_there() -> None:
    for venue, name, case in RETIRED:
        path = CAPTURES / venue / f"{name}.expected.json"
        if path.exists():
            assert case in [entry["case"] for entry in orjson.loads(path.read_bytes())]


@pytest.mark.parametrize("path", files("*.ndjson"), ids=name_of)
def test_no_real_message_is_an_error(path: Path) -> None:
    """Every message that is excluded is unreadable for the reason given, and no other is."""
    retired = [reason for (venue, name, _), reason in RETIRED.items() if (venue, name) == (path.parent.name, path.stem)]
    errors = [error for decoded in decode_raw(adapter_of(path), lines_of(path)) for error in decoded.errors]
    unreadable = [error for error in errors if not error.startswith("refused")]
    assert len(unreadable) == len(retired), unreadable


# Spoilt messages ----------------------------------------------------------------------------------------------------

WRONG: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "", "x", "1e999", "\u0661", [], [[]], [None], {}, {"a": 1})


def spoilt(message: Any) -> Iterator[Any]:
    """The message with each of its values in turn replaced by a wrong one, or left out."""
    yield from WRONG
    if isinstance(message, dict):
        for key, value in message.items():
            yield {name: each for name, each in message.items() if name != key}
            yield from (message | {key: wrong} for wrong in spoilt(value))
    elif isinstance(message, list):
        for index, value in enumerate(message[:2]):
            yield from ([*message[:index], wrong, *message[index + 1 :]] for wrong in spoilt(value))


@pytest.mark.parametrize("path", [path for path in files("*.ndjson") if path.stat().st_size < 20_000], ids=name_of)
def test_a_spoilt_message_is_at_most_a_typed_error(path: Path) -> None:
    adapter_class = adapter_of(path)
    driver = Driver(adapter_class, every_channel("BTC/USDT", "BTC/USD"))
    distinct = {line.data[:40]: line for line in lines_of(path) if line.kind in ("recv", "http")}
    speaker = DIALECTS[path.parent.name](Random(0))
    for line in distinct.values():
        key = identify(adapter_class, line) if line.kind == "http" else None
        if key == ("instruments",):
            continue
        for message in spoilt(json.loads(speaker.decoded(line.data) if line.kind == "recv" else line.data)):
            data = json.dumps(message).encode()
            for output in driver.answer(key, data) if key is not None else driver.hear(speaker.coded(data)):
                if isinstance(output, Event):
                    orjson.dumps(msgspec.to_builtins(output))  # whatever came in, what goes out can be written


# Recorded sessions --------------------------------------------------------------------------------------------------

RECORDINGS = sorted({*files("*session*.ndjson"), *files("spot-v2-book*.ndjson")})


@pytest.mark.parametrize("path", RECORDINGS, ids=name_of)
def test_a_recorded_session_is_followed_without_a_gap(path: Path) -> None:
    replay = Replay(adapter_of(path), lines_of(path), depth=10)
    decoded = list(replay)
    known = KNOWN_ERRORS.get((path.parent.name, path.stem))
    assert [error for each in decoded for error in each.errors if error != known] == []
    assert [event for each in decoded for event in each.events if event["type"] == "gap"] == []
    views = {event["symbol"] for each in decoded for event in each.events if event["type"] == "book"}
    books = [book for book in replay.adapter.live.books.values() if book.symbol in views]
    assert books
    assert {book.state for book in books} == {BookState.SYNCED}


def signed_crc32(text: str) -> int:
    return (crc32(text.encode()) ^ 2**31) - 2**31


def test_okx_books_of_2022_have_the_checksums_that_the_venue_sent_then() -> None:
    path = CAPTURES / "okx" / "session.ndjson"
    lines = lines_of(path)
    verified = 0
    for decoded in Replay(Okx, lines, depth=25):
        for event in decoded.events:
            if event["type"] != "book":
                continue
            rows = zip(event["bids"], event["asks"], strict=True)
            text = ":".join(part for bid, ask in rows for part in (*bid, *ask))
            (book,) = orjson.loads(lines[decoded.line - 1].data)["data"]
            assert book["checksum"] == signed_crc32(text)
            verified += 1
    assert verified == sum(b'"BTC-USDT"' in line.data and b'"checksum"' in line.data for line in lines) > 90


# Kraken proves its books by checksum alone: what follows shows that each one is really compared ----------------------


def kraken_recording() -> tuple[list[bytes], list[int]]:
    """All frames, and the positions of those that change the book."""
    frames = [line.data for line in lines_of(CAPTURES / "kraken" / "spot-v2-book.ndjson") if line.kind == "recv"]
    return frames, [index for index, data in enumerate(frames) if b'"book","type":"update"' in data]


def kraken_driver() -> Driver:
    return Driver(Kraken, [("orderbooks", "BTC/USD")], VIEWS)


def test_each_checksum_of_kraken_is_compared() -> None:
    frames, changes = kraken_recording()
    assert len(changes) > 50
    for changed in changes:
        head, _, tail = frames[changed].partition(b'"checksum":')
        wrong = head + b'"checksum":1' + tail.lstrip(b"0123456789")
        outputs = kraken_driver().hear(*frames[:changed], wrong)
        assert [gap.reason for gap in of(outputs, Gap)] == ["checksum"]


def test_one_altered_amount_is_one_gap_and_one_recovery() -> None:
    frames, changes = kraken_recording()
    altered = changes[len(changes) // 2]
    data = orjson.loads(frames[altered])
    row = (data["data"][0]["bids"] or data["data"][0]["asks"])[-1]
    assert row["qty"]
    frames[altered] = frames[altered].replace(f"{row['qty']:.8f}".encode(), b"0.12345678")
    driver = kraken_driver()
    outputs = driver.hear(*frames)
    assert [(gap.symbol, gap.reason) for gap in of(outputs, Gap)] == [("BTC/USD", "checksum")]
    assert [each["method"] for each in sent(outputs)] == ["unsubscribe", "subscribe"]
    assert driver.book("BTC/USD").state is BookState.RECOVERING
