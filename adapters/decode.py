"""Recorded traffic (one JSON object a line, as the captures' README describes) to what the adapters make of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import orjson
from msgspec import Meta, Struct

from adapters.adapter import ExchangeAdapter
from adapters.book import BookOptions, Change, Snapshot, pairs
from adapters.effects import Answer, Effect, Fetch, Request
from adapters.errors import AdapterError, FrameError, SymbolError
from adapters.events import CHANNELS, Channel, Event, Side, Ticker
from adapters.live import Output
from adapters.numbers import plain
from adapters.symbols import Instrument, parse

_UNREADABLE = (AdapterError, msgspec.MsgspecError, orjson.JSONDecodeError, UnicodeDecodeError)
_TICKER_FIELDS = Ticker.__struct_fields__[4:]

Key = tuple[str, ...]
"""Which Fetch an answer belongs to: its kind, and the market's native name where it is about one."""


class Line(Struct):
    """One line of a recording. `raw` is text, `b64` the bytes of a binary frame."""

    kind: str
    ts: Annotated[float, Meta(ge=0, lt=1e11)] | None = None
    url: str | None = None
    status: int | None = None
    raw: str | None = None
    b64: bytes | None = None

    @property
    def data(self) -> bytes:
        return self.b64 if self.b64 is not None else (self.raw or "").encode()

    @property
    def received(self) -> int | None:
        """Microseconds UTC; None where the recording has no time."""
        return round(self.ts * 1_000_000) if self.ts is not None else None


class Decoded(Struct, omit_defaults=False):
    """What one input line gave. Events are plain objects: the fields of the schema and `native`."""

    line: int
    events: list[dict[str, Any]]
    errors: list[str]


def read(lines: Iterable[str]) -> list[Line]:
    """Raises FrameError, naming the line that is no line of a recording."""
    decoder = msgspec.json.Decoder(Line)
    read: list[Line] = []
    for number, line in enumerate(lines, 1):
        try:
            read.append(decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise FrameError(f"line {number}: {error}") from error
    return read


def identify(adapter: type[ExchangeAdapter], line: Line) -> Key | None:
    """The key of the Fetch that an `http` line answers, by its url, else by its shape; None where it is of no interest."""
    if line.url is not None:
        try:
            parts = urlsplit(line.url)
        except ValueError:
            return None
        for path, (kind, parameter) in adapter.endpoints.items():
            if (named := _named(path, parts.path)) is not None:
                return (kind, *(parse_qs(parts.query).get(parameter, [""]) if parameter else named))
        return None
    try:
        shape = adapter.shape(orjson.loads(line.data))
    except orjson.JSONDecodeError:
        return None
    if shape is None:
        return None
    is_about_a_market = any("{}" in path or parameter for path, (kind, parameter) in adapter.endpoints.items() if kind == shape)
    return (shape, "") if is_about_a_market else (shape,)


def _named(pattern: str, path: str) -> list[str] | None:
    """The market's name in a path that ends as the pattern does, where the pattern has a `{}` for it; None: another path."""
    found = re.search(re.escape(pattern.rstrip("/")).replace(r"\{\}", "([^/]+)") + "/?$", path)
    return None if found is None else list(found.groups())


def instruments_in(adapter: type[ExchangeAdapter], lines: Iterable[Line]) -> dict[str, Instrument]:
    """Every market that an instrument answer among the lines lists, by canonical symbol."""
    found: dict[str, Instrument] = {}
    for line in lines:
        if line.kind == "http" and identify(adapter, line) == ("instruments",):
            with suppress(*_UNREADABLE):
                found.update((each.symbol, each) for each in adapter.parse_instruments(line.data))
    return found


class Symbols:
    """Native to canonical: by the instruments of the file, else by the venue's rule for names."""

    def __init__(self, adapter: type[ExchangeAdapter], instruments: Mapping[str, Instrument]) -> None:
        self._by_rule = adapter.canonical
        self._listed = {each.native: each.symbol for each in instruments.values()}

    def __call__(self, native: str) -> str | None:
        return self._listed.get(native) or (self._by_rule(native) if native else None)


class RawHandler:
    """Implements Handler without memory: what a frame itself says, whoever asked for it."""

    def __init__(self, name: str, symbols: Symbols) -> None:
        self.received: int | None = None
        self.events: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._name = name
        self._symbols = symbols

    def _event(self, kind: str, native: str, timestamp: int | None, **fields: Any) -> None:
        symbol = self._symbols(native)
        common = {"type": kind, "exchange": self._name, "symbol": symbol, "native": native or None, "timestamp": timestamp}
        self.events.append(common | {"received": self.received} | fields)

    def trade(self, native: str, number: int | str, price: str, amount: str, side: Side, timestamp: int | None) -> None:
        fields = {"id": str(number), "price": plain(price), "amount": plain(amount), "side": side, "source": "live"}
        self._event("trade", native, timestamp, **fields)

    def past_trade(self, native: str, number: int | str, price: str, amount: str, side: Side, timestamp: int | None) -> None:
        self.trade(native, number, price, amount, side, timestamp)
        self.events[-1]["snapshot"] = True

    def merged(self, native: str, first: int, last: int) -> None:
        pass

    def snapshot(self, native: str, snapshot: Snapshot) -> None:
        bids, asks = pairs(snapshot.bids), pairs(snapshot.asks)
        self._event("book", native, snapshot.timestamp, bids=bids, asks=asks, sequence=snapshot.sequence)

    view = snapshot

    def change(self, native: str, change: Change) -> None:
        bids, asks = pairs(change.bids), pairs(change.asks)
        fields = {"bids": bids, "asks": asks, "sequence": change.last, "previous": change.previous}
        self._event("book_delta", native, change.timestamp, **fields)

    def ticker(self, native: str, timestamp: int | None, fields: Mapping[str, str | None]) -> None:
        present = {name: plain(text) for name, text in fields.items() if text}
        self._event("ticker", native, timestamp, **(dict.fromkeys(_TICKER_FIELDS) | present))

    def acked(
        self,
        *,
        channel: Channel | None = None,
        native: str | None = None,
        request: str | None = None,
        depth: int | None = None,
    ) -> None:
        pass

    def refused(
        self, reason: str, *, channel: Channel | None = None, native: str | None = None, request: str | None = None
    ) -> None:
        self.errors.append(f"refused: {' '.join(filter(None, (channel, native, reason)))}")

    def missed(self, first: int, last: int) -> None:
        self.errors.append(f"missed: messages {first} to {last}")

    def paused(self) -> None:
        pass

    def welcomed(self) -> None:
        pass

    def effect(self, effect: Effect) -> None:
        pass

    def error(self, error: AdapterError) -> None:
        self.errors.append(f"{type(error).__name__}: {error}")


def decode_raw(adapter_class: type[ExchangeAdapter], lines: list[Line]) -> Iterator[Decoded]:
    """What each frame itself says: a snapshot is a `book`, a change a `book_delta`, with no state required."""
    adapter = adapter_class([])
    symbols = Symbols(adapter_class, instruments_in(adapter_class, lines))
    for number, line in enumerate(lines, 1):
        say = RawHandler(adapter.venue.name, symbols)
        say.received = line.received
        try:
            if line.kind == "recv":
                adapter.parse(line.data, say)
            elif line.kind == "http" and (key := identify(adapter_class, line)) is not None:
                if key == ("instruments",):
                    adapter.parse_instruments(line.data)
                else:
                    adapter.parse_answer(key, line.data, say)
        except _UNREADABLE as error:
            say.errors.append(f"{type(error).__name__}: {error}")
        if say.events or say.errors:
            yield Decoded(number, say.events, say.errors)


def markets_in(adapter_class: type[ExchangeAdapter], lines: list[Line], instruments: Mapping[str, Instrument]) -> list[str]:
    """Every canonical spot symbol that data of the recording is about, in order of appearance."""
    names = Symbols(adapter_class, instruments)
    seen: dict[str, None] = {}
    for decoded in decode_raw(adapter_class, lines):
        for event in decoded.events:
            symbol = event["symbol"]
            if symbol is not None and _is_spot(symbol) and names(event["native"]) == symbol:
                seen[symbol] = None
    return list(seen)


def _is_spot(symbol: str) -> bool:
    try:
        return parse(symbol).is_spot
    except SymbolError:
        return False


def as_recorded(adapter_class: type[ExchangeAdapter], lines: list[Line]) -> type[ExchangeAdapter]:
    """The adapter for a recording: where books now come on the socket, and the recording of an older channel has them from
    REST, changes continue those."""
    rule = adapter_class.venue.book
    answers = {key[0] for line in lines if line.kind == "http" and (key := identify(adapter_class, line)) is not None}
    if rule.source == "rest" or rule.chain is None or "book" not in answers:
        return adapter_class

    class FromRest(adapter_class):  # type: ignore[misc, valid-type]
        venue = replace(adapter_class.venue, book=replace(rule, source="rest"))

        def book_request(self, native: str) -> Fetch:
            return Fetch(("book", native), Request(""))

    return FromRest


class Replay:
    """The full adapter over a recording: connected from the start, every spot symbol wanted, answers given when asked for."""

    def __init__(self, adapter_class: type[ExchangeAdapter], lines: list[Line], depth: int, interval: float = 0.0) -> None:
        adapter_class = as_recorded(adapter_class, lines)
        instruments = instruments_in(adapter_class, lines)
        symbols = markets_in(adapter_class, lines, instruments)
        listed = {symbol: instruments[symbol] for symbol in symbols if symbol in instruments}
        wanted = [(channel, symbol) for symbol in symbols for channel in CHANNELS]
        self.adapter = adapter_class(wanted, BookOptions(depth, interval), listed or None)
        self._class = adapter_class
        self._lines = lines
        self._native = {each.symbol: each.native for each in self.adapter.subscriptions}
        self._asked: dict[Key, None] = {}
        self._kept: dict[Key, Line] = {}
        self._now = 0.0

    def __iter__(self) -> Iterator[Decoded]:
        began = next((line.ts for line in self._lines if line.ts is not None), 0.0)
        self._answer(self.adapter.start(self._now))
        self._answer(self.adapter.connected(self._now))
        self._tell_depths()
        for number, line in enumerate(self._lines, 1):
            self._now = max(self._now, (line.ts or began) - began)
            outputs = self._answer(self.adapter.tick(self._now))
            if line.kind == "recv":
                outputs += self._answer(self.adapter.receive(line.data, line.received or 0))
            elif line.kind == "http":
                outputs += self._http(line)
            if decoded := self._decoded(number, line, outputs):
                yield decoded

    def _tell_depths(self) -> None:
        """A recording was made at its own depth. Where the venue truncates and no acknowledgement names it, snapshots tell."""
        if not self.adapter.venue.book.truncates:
            return
        for decoded in decode_raw(self._class, self._lines):
            for event in decoded.events:
                if event["type"] == "book":
                    deepest = min(max(len(event["bids"]), len(event["asks"])), self.adapter.venue.depths[-1])
                    depth = self.adapter.venue.depth_for(deepest)
                    self.adapter.live.acked(channel="orderbooks", native=event["native"], depth=depth)

    def _http(self, line: Line) -> list[Output]:
        key = identify(self._class, line)
        if key is None:
            return []
        asked = next((each for each in self._asked if each == key or (key[-1] == "" and each[0] == key[0])), None)
        if asked is None:
            self._kept[key] = line
            return []
        del self._asked[asked]
        return self._give(asked, line)

    def _give(self, key: Key, line: Line) -> list[Output]:
        return self._answer(self.adapter.fetched(key, Answer(line.status or 200, line.data, line.received or 0), self._now))

    def _answer(self, outputs: list[Output]) -> list[Output]:
        """What is asked for is given from what was kept, or noted; returns everything that came of it."""
        told: list[Output] = []
        for output in outputs:
            told.append(output)
            if isinstance(output, Fetch):
                kept = self._kept.pop(output.key, None)
                if kept is not None:
                    told += self._give(output.key, kept)
                else:
                    self._asked[output.key] = None
        return told

    def _decoded(self, number: int, line: Line, outputs: list[Output]) -> Decoded | None:
        events, errors = [], []
        for output in outputs:
            if isinstance(output, AdapterError):
                errors.append(f"{type(output).__name__}: {output}")
            elif isinstance(output, Event):
                event = msgspec.to_builtins(output) | {"native": self._native.get(output.symbol or "")}
                events.append(event if line.ts is not None else event | {"received": None})
        return Decoded(number, events, errors) if events or errors else None


def decode(adapter_class: type[ExchangeAdapter], lines: list[Line], depth: int) -> Iterator[Decoded]:
    """What the full adapter makes of a recording, with a view of `depth` levels after every change of a book."""
    return iter(Replay(adapter_class, lines, depth))
