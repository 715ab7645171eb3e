"""What every adapter must keep to, whatever its venue does: a made-up exchange that speaks a venue's dialect, a faulty line to
it, and a checker that sees every output.

A new venue brings a Dialect (conformance_data.py) and nothing else.
"""

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, ClassVar, Literal

import msgspec
import orjson

from adapters.adapter import ExchangeAdapter
from adapters.book import BookOptions
from adapters.effects import Answer, Connect, Effect, Fetch, Reconnect, Request, Send
from adapters.errors import AdapterError, FetchError
from adapters.events import CHANNELS, Book, BookDelta, Channel, Event, Gap, Levels, Status, Ticker, Trade
from adapters.live import Output
from adapters.numbers import ZEROS
from adapters.subscriptions import State
from tests.adapters.market import SHOWN, Deal, Market, Move, joined

BEGAN = 1_700_000_000_000_000
PLAIN = re.compile(r"(?=\.?[0-9])[0-9]*\.?[0-9]*")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
UNKNOWN = "NOPE/USDT"
"""A pair that the made-up exchange does not have."""


@dataclass(frozen=True)
class Asked:
    """What one frame of a client asks for."""

    operation: Literal["subscribe", "unsubscribe", "other"]
    channel: Channel = "trades"
    natives: tuple[str, ...] = ()
    request: str = ""


class Dialect(ABC):
    """How one venue writes what is true of its markets: an independent witness of its adapter. One for each connection's world.

    `proves_books`: a frame that is lost, doubled or out of order never goes unnoticed in a book. `counts_trades`: nor among
    trades. `on_socket`: a book's snapshot comes with its subscription.
    """

    name: ClassVar[str]
    proves_books: ClassVar[bool] = True
    counts_trades: ClassVar[bool] = False
    on_socket: ClassVar[bool] = False
    loose: ClassVar[bool] = True

    def __init__(self, random: Random) -> None:
        self.random = random
        self.markets = {
            native: Market(native, symbol, random, self.loose) for symbol in SYMBOLS for native in [self.native(symbol)]
        }
        self.subscribed: set[tuple[Channel, str]] = set()
        self.held: dict[str, list[Move]] = {native: [] for native in self.markets}
        self.micros = BEGAN

    @property
    def millis(self) -> int:
        return self.micros // 1000

    # What a dialect brings.

    @property
    @abstractmethod
    def adapter(self) -> type[ExchangeAdapter]: ...

    @abstractmethod
    def native(self, symbol: str) -> str: ...

    @abstractmethod
    def read(self, frame: Any) -> Asked:
        """What a decoded frame of the client asks for."""

    @abstractmethod
    def acks(self, asked: Asked) -> list[str]:
        """The venue's answers to a subscription, refusals of unknown markets among them."""

    def ended(self, asked: Asked) -> list[str]:
        """The venue's answer to the end of a subscription."""
        return []

    @abstractmethod
    def trades(self, market: Market, deals: list[Deal]) -> list[str]: ...

    @abstractmethod
    def change(self, market: Market, move: Move) -> str: ...

    @abstractmethod
    def ticker(self, market: Market) -> str: ...

    def snapshot(self, market: Market) -> str:
        """The book, where it comes on the socket."""
        raise NotImplementedError

    @abstractmethod
    def others(self) -> list[str]:
        """Frames of every other kind that may come at any time."""

    @abstractmethod
    def answer(self, path: str, native: str) -> str | None:
        """The REST answer at a path."""

    @abstractmethod
    def answers(self) -> dict[tuple[str, ...], str]:
        """One answer of each kind that the adapter reads, instruments among them, by the key of its Fetch."""

    @abstractmethod
    def problems(self) -> list[str]:
        """How the venue's REST says that it will not."""

    def trade_id(self, number: int) -> str:
        return str(number)

    def trade_number(self, identifier: str) -> int:
        return int(identifier)

    # What most share.

    def opened(self) -> list[str]:
        """A new connection: what belongs to the old one is forgotten; the greeting."""
        self.subscribed.clear()
        for held in self.held.values():
            held.clear()
        return []

    def packed(self, text: str) -> bytes:
        """A frame as it leaves the venue."""
        return self.coded(text.encode())

    def coded(self, data: bytes) -> bytes:
        """As it goes over the wire."""
        return data

    def decoded(self, frame: bytes) -> bytes:
        return frame

    def hear(self, frame: str | bytes) -> list[str]:
        """What the venue says to a frame of the client."""
        try:
            asked = self.read(orjson.loads(frame))
        except orjson.JSONDecodeError:
            asked = self.read(frame)
        known = [native for native in asked.natives if native in self.markets]
        if asked.operation == "unsubscribe":
            self.subscribed -= {(asked.channel, native) for native in known}
            return self.ended(asked)
        if asked.operation != "subscribe":
            return self.pong(asked)
        replies = self.acks(asked)
        for native in known:
            self.subscribed.add((asked.channel, native))
            if asked.channel == "orderbooks" and self.on_socket:
                self.held[native].clear()
                replies.append(self.snapshot(self.markets[native]))
        return replies

    def pong(self, asked: Asked) -> list[str]:
        return []

    def levels(self, market: Market, rows: Iterable[tuple[int, int]], template: str) -> str:
        """Rows by a template of `%s` for price and amount, joined to a JSON array."""
        return "[" + ",".join(template % (market.price(price), market.amount(lots)) for price, lots in rows) + "]"


# The checker -------------------------------------------------------------------------------------------------------------


class ViolationError(AssertionError):
    """An output that breaks the contract."""


def demand(condition: object, what: str, output: object) -> None:
    if not condition:
        raise ViolationError(f"{what}: {output!r:.600}")


class Checker:
    """Sees every output and rejects the first that breaks the contract.

    `markets`: the truth, where what came in was true, only perhaps not complete and not in order; None where frames were made
    to lie, so that only the form can be judged.
    """

    def __init__(self, adapter: ExchangeAdapter, dialect: Dialect, *, truthful: bool = True) -> None:
        self._venue = adapter.venue
        self._symbols = {subscription.symbol for subscription in adapter.subscriptions}
        self._dialect = dialect
        self._markets = {market.symbol: market for market in dialect.markets.values()} if truthful else None
        self._seen: dict[str, dict[str, None]] = {symbol: {} for symbol in self._symbols}
        self._sequences: dict[str, int | None] = {}
        self.last_view: dict[str, tuple[Levels, Levels]] = {}

    def see(self, output: Output, received: int) -> None:
        if isinstance(output, AdapterError):
            demand(str(output), "an error without a word", output)
        elif isinstance(output, Effect):
            self._effect(output)
        else:
            demand(isinstance(output, Event), "not an output", output)
            self._event(output, received)

    def _effect(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            demand(effect.frame and effect.cost >= 0, "an empty frame", effect)
        elif isinstance(effect, Fetch):
            demand(effect.key and effect.request.url.startswith("https://"), "a fetch of nothing", effect)
        elif isinstance(effect, Connect):
            demand(effect.url.startswith("wss://"), "no address of a websocket", effect)
        else:
            demand(effect.reason, "a reconnect without a reason", effect)

    def _event(self, event: Event, received: int) -> None:
        msgspec.json.encode(event)
        demand(event.exchange == self._venue.name, "another exchange", event)
        connection = isinstance(event, Gap) or (isinstance(event, Status) and event.scope == "connection")
        demand(event.symbol in self._symbols or (connection and event.symbol is None), "a market nobody wanted", event)
        demand(type(event.received) is int and 0 <= event.received <= received, "received in the future", event)
        self._time(event.timestamp, event)
        if isinstance(event, Trade):
            self._trade(event)
        elif isinstance(event, Book):
            self._book(event)
        elif isinstance(event, BookDelta):
            self._delta(event)
        elif isinstance(event, Ticker):
            self._ticker(event)
        elif isinstance(event, Gap):
            self._gap(event)
        elif isinstance(event, Status):
            demand(event.state, "no state", event)
            if event.scope == "book":
                self._sequences.pop(event.symbol or "", None)
        else:
            demand(condition=False, what="an event of no known kind", output=event)

    def _time(self, time: int | None, event: Event) -> None:
        demand(time is None or (type(time) is int and 0 <= time < 2**63), "not a time", event)
        if self._markets is not None and time is not None:
            demand(abs(time - event.received) < 60_000_000, "not microseconds of these days", event)

    def _number(self, text: str | None, event: Event) -> None:
        demand(text is not None and PLAIN.fullmatch(text), f"{text!r} is no plain decimal text", event)

    def _trade(self, trade: Trade) -> None:
        self._number(trade.price, trade)
        self._number(trade.amount, trade)
        demand(trade.side in ("buy", "sell", "unknown") and trade.source == "live", "no side", trade)
        seen = self._seen[trade.symbol]
        demand(trade.id and trade.id not in seen, "a trade told twice", trade)
        seen[trade.id] = None
        if self._markets is None:
            while len(seen) > 200:  # a lie may come again long after
                del seen[next(iter(seen))]
        else:
            market = self._markets[trade.symbol]
            deal = market.deals.get(self._dialect.trade_number(trade.id))
            told = (*market.read([(trade.price, trade.amount)])[0], trade.side)
            demand(deal and told == (deal.price, deal.amount, deal.side), "a trade that never was", trade)

    def _levels(self, levels: Levels, event: Event, *, descending: bool | None = None) -> None:
        for price, amount in levels:
            self._number(price, event)
            self._number(amount, event)
        prices = [float(price) for price, _ in levels]
        if descending is not None:
            ordered = all(a > b if descending else a < b for a, b in pairwise(prices))
            demand(ordered, "levels out of order", event)
            demand(not any(amount in ZEROS for _, amount in levels), "a level of nothing", event)
        else:
            demand(not any(amount in ZEROS and amount != "0" for _, amount in levels), "a removal that is not 0", event)

    def _book(self, book: Book) -> None:
        self._levels(book.bids, book, descending=True)
        self._levels(book.asks, book, descending=False)
        if self._venue.book.crossed_is_error and book.bids and book.asks:
            demand(float(book.bids[0][0]) < float(book.asks[0][0]), "crossed", book)
        self._sequences[book.symbol] = book.sequence
        view = (book.bids[:SHOWN], book.asks[:SHOWN])
        self.last_view[book.symbol] = view
        if self._markets is not None and self._dialect.proves_books:
            demand(self._markets[book.symbol].was(view, book.sequence), "a book that never was", book)

    def _delta(self, delta: BookDelta) -> None:
        self._levels(delta.bids, delta)
        self._levels(delta.asks, delta)
        demand(delta.symbol in self._sequences, "a change without a base", delta)
        demand(delta.previous == self._sequences[delta.symbol], "a change that does not follow", delta)
        self._sequences[delta.symbol] = delta.sequence

    def _ticker(self, ticker: Ticker) -> None:
        texts = [getattr(ticker, name) for name in ("bid", "bid_amount", "ask", "ask_amount", "last", "volume_24h")]
        for text in texts:
            if text is not None:
                self._number(text, ticker)

    def _gap(self, gap: Gap) -> None:
        demand(gap.channel in CHANNELS and gap.reason, "a hole in nothing", gap)
        demand((gap.first_missing is None) == (gap.last_missing is None), "half a range", gap)
        if gap.first_missing is not None and gap.channel == "trades":
            demand(int(gap.first_missing) <= int(gap.last_missing or ""), "a range that ends before it begins", gap)
        demand(gap.since is None or gap.until is None or gap.since <= gap.until, "a hole that ends before it begins", gap)
        if gap.reason == "renumbered":
            self._seen[gap.symbol or ""].clear()


# The world ---------------------------------------------------------------------------------------------------------------

Line = Callable[[int, bytes], list[bytes]]
"""What arrives of the venue's n-th frame."""


def whole(position: int, frame: bytes) -> list[bytes]:
    return [frame]


class World:
    """An exchange, a line to it, an adapter, and time. Everything in it follows from the seed."""

    def __init__(
        self,
        dialect: Callable[[Random], Dialect],
        seed: int,
        *,
        mode: Literal["views", "deltas"] = "views",
        truthful: bool = True,
        line: Line = whole,
        wanted: tuple[str, ...] = SYMBOLS,
    ) -> None:
        self.random = Random(seed)
        self.truthful = truthful
        self.dialect = dialect(self.random)
        channels: tuple[Channel, ...] = ("trades", "orderbooks", "tickers")
        pairs = [(channel, symbol) for channel in channels for symbol in wanted]
        self.adapter = self.dialect.adapter(pairs, BookOptions(depth=SHOWN, interval=0.0, mode=mode))
        self.checker = Checker(self.adapter, self.dialect, truthful=truthful)
        self.line = line
        self.now = 1000.0
        self.outputs: list[Output] = []
        self.arrived: list[bytes] = []
        self._coming: deque[bytes] = deque()
        self._position = 0
        self._answers: list[tuple[float, tuple[str, ...], Answer | FetchError]] = []
        self._is_open = False
        self.refusals = 0
        self._start()

    @property
    def micros(self) -> int:
        return BEGAN + round((self.now - 1000.0) * 1_000_000)

    # The line.

    def _start(self) -> None:
        self._take(self.adapter.start(self.now))
        while not self._is_open:
            self._pass(0.1)

    def lose(self, reason: str = "reset by peer") -> None:
        """The connection ends, with all that was on its way; another is made."""
        self._is_open = False
        self._coming.clear()
        self._take(self.adapter.lost(1006, reason, self.now))
        self._pass(0.5)
        self._start()

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.checker.see(output, self.micros)
            self.outputs.append(output)
            if isinstance(output, Effect):
                self._serve(output)

    def _serve(self, effect: Effect) -> None:
        self.dialect.micros = self.micros
        if isinstance(effect, Send) and self._is_open:
            self._say(self.dialect.hear(effect.frame))
        elif isinstance(effect, Fetch):
            self._answers.append((self.now + self.random.choice((0.02, 0.2, 0.6)), effect.key, self._answer(effect.request)))
        elif isinstance(effect, Connect) and not self._is_open:
            self._is_open = True
            self._say(self.dialect.opened())
            self._take(self.adapter.connected(self.now))
        elif isinstance(effect, Reconnect):
            self.lose(effect.reason)

    def _answer(self, request: Request) -> Answer | FetchError:
        if self.refusals:
            self.refusals -= 1
            return FetchError("HTTP 500")
        address, _, query = request.url.partition("?")
        path = "/" + address.split("/", 3)[3]
        values = dict(each.split("=") for each in query.split("&") if each)
        native = next((native for native in self.dialect.markets if native in values.values()), "")
        body = self.dialect.answer(path, native)
        assert body is not None, f"{self.dialect.name}: nothing answers {request.url}"
        return Answer(200, body.encode(), self.micros)

    def _say(self, texts: Iterable[str]) -> None:
        self._coming.extend(map(self.dialect.packed, texts))

    # Time.

    def _pass(self, seconds: float) -> None:
        """Time passes, and answers come."""
        self.now += seconds
        for due in sorted((each for each in self._answers if each[0] <= self.now), key=lambda each: each[0]):
            if due in self._answers:
                self._answers.remove(due)
                _, key, answer = due
                came = answer if isinstance(answer, FetchError) else Answer(answer.status, answer.body, self.micros)
                self._take(self.adapter.fetched(key, came, self.now))
        self._take(self.adapter.tick(self.now))

    def deliver(self) -> None:
        """All frames that are on their way arrive, or what the line makes of them."""
        while self._coming:
            frame = self._coming.popleft()
            position, self._position = self._position, self._position + 1
            for arriving in self.line(position, frame):
                self.arrive(arriving)
            self._pass(0.01)

    def arrive(self, frame: bytes) -> None:
        self.arrived.append(frame)
        self._take(self.adapter.receive(frame, self.micros))

    def step(self) -> None:
        """Something happens at the exchange, and is told to whom it was promised."""
        self.dialect.micros = self.micros
        market = self.random.choice(list(self.dialect.markets.values()))
        match self.random.choice(("book", "book", "book", "hold", "trades", "trades", "ticker", "other")):
            case "book":
                self.dialect.held[market.native].append(market.move())
                self.tell_book(market)
            case "hold":
                self.dialect.held[market.native].append(market.move())
            case "trades":
                deals = [market.deal() for _ in range(self.random.choice((1, 1, 3)))]
                if ("trades", market.native) in self.dialect.subscribed:
                    self._say(self.dialect.trades(market, deals))
            case "ticker":
                if ("tickers", market.native) in self.dialect.subscribed:
                    self._say([self.dialect.ticker(market)])
            case "other":
                self._say(self.dialect.others()[:1] if self._is_open and self.dialect.subscribed else [])
        self.deliver()

    def tell_book(self, market: Market) -> None:
        """The moves that were held back, as one change, where it is subscribed."""
        held = self.dialect.held[market.native]
        if held and ("orderbooks", market.native) in self.dialect.subscribed:
            self._say([self.dialect.change(market, joined(held))])
        held.clear()

    def run(self, steps: int) -> None:
        self.deliver()
        for _ in range(steps):
            self._pass(0.05)
            self.step()

    def trade_once_more(self) -> None:
        """A trade of every market: what numbers its trades shows by it whether any were missed."""
        for market in self.dialect.markets.values():
            if ("trades", market.native) in self.dialect.subscribed:
                self._say(self.dialect.trades(market, [market.deal()]))
        self.deliver()

    # What is demanded in the end.

    @property
    def is_well(self) -> bool:
        """Whether every book is in step and shown as it now is, and everything else subscribed."""
        subscriptions = list(self.adapter.subscriptions)
        if not self.truthful:  # a lie may have refused what is there
            subscriptions = [each for each in subscriptions if each.state is not State.REJECTED]
        if not self.adapter.is_settled or any(each.state is not State.LIVE for each in subscriptions):
            return False
        books = [self.dialect.markets[each.native] for each in subscriptions if each.channel == "orderbooks"]
        nothing: tuple[Levels, Levels] = ([], [])
        return all(market.is_now(self.checker.last_view.get(market.symbol, nothing)) for market in books)

    def recover(self, patience: float) -> float:
        """The line is whole again, and the exchange goes on: the seconds until all is well. Fails past `patience`."""
        self.line = whole
        began = self.now
        while True:
            for market in self.dialect.markets.values():
                self.dialect.micros = self.micros
                self.dialect.held[market.native].append(market.move())
                self.tell_book(market)
                if ("tickers", market.native) in self.dialect.subscribed:
                    self._say([self.dialect.ticker(market)])
            self.trade_once_more()
            if self.is_well:
                return self.now - began
            states = {f"{each.channel} {each.native}": each.state.value for each in self.adapter.subscriptions}
            assert self.now - began < patience, f"not well after {patience:.0f} s: {states}"
            self._pass(0.5)

    def told(self, kind: type[Any]) -> list[Any]:
        return [output for output in self.outputs if isinstance(output, kind)]

    def errors(self) -> list[AdapterError]:
        return self.told(AdapterError)

    def unaccounted(self) -> dict[str, set[int]]:
        """Trades between the first and the last that was told, by market, that were neither told nor told missing."""
        left = {}
        for market in self.dialect.markets.values():
            ids = {trade.id for trade in self.told(Trade) if trade.symbol == market.symbol}
            told = {self.dialect.trade_number(identifier) for identifier in ids}
            gaps = [gap for gap in self.told(Gap) if gap.symbol == market.symbol and gap.channel == "trades"]
            missing = {
                n for gap in gaps if gap.first_missing for n in range(int(gap.first_missing), int(gap.last_missing or 0) + 1)
            }
            left[market.symbol] = (
                {number for number in market.deals if told and min(told) < number < max(told)} - told - missing
            )
        return left


# Faults ------------------------------------------------------------------------------------------------------------------


def at(position: int, fault: str, random: Random) -> Line:
    """A line with one fault, at the venue's frame of a position."""
    kept: list[bytes] = []

    def line(number: int, frame: bytes) -> list[bytes]:
        if number == position + 1 and kept:
            return [frame, kept.pop()]
        if number != position:
            return [frame]
        match fault:
            case "drop":
                return []
            case "repeat":
                return [frame, frame]
            case "cut":
                return [frame[: random.randrange(len(frame))]]
            case "swap":
                kept.append(frame)
                return []
            case _:
                raise ValueError(fault)

    return line


WRONG: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        7,
        1.5,
        2**63,
        10**30,
        "",
        "x",
        "0",
        "-1",
        "1e5",
        "1,5",
        "٣",
        "null",
        "9" * 40,
        "BTC/USDT",
        [],
        [[]],
        [0],
        {},
    ),
    {"x": 1},
)
"""What takes the place of each value of a frame in turn."""


def wrong_values(message: Any) -> Iterator[Any]:
    """The message with each value, at any depth, replaced by each wrong one, and each key or item left out or doubled."""
    for path in _paths(message):
        for value in WRONG:
            yield _replaced(message, path, value)
        if path:
            yield _without(message, path)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _paths(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value[:2]):
            yield from _paths(each, (*path, index))


def _replaced(message: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(message) if isinstance(message, dict) else list(message)
    copy[path[0]] = _replaced(message[path[0]], path[1:], value)
    return copy


def _without(message: Any, path: tuple[Any, ...]) -> Any:
    copy = dict(message) if isinstance(message, dict) else list(message)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _without(message[path[0]], path[1:])
    return copy


def flipped(frame: bytes, random: Random) -> bytes:
    """One to three bytes of the frame are others."""
    damaged = bytearray(frame)
    for _ in range(random.choice((1, 1, 3))):
        damaged[random.randrange(len(damaged))] = random.choice(
            (random.randrange(256), ord(random.choice('0123456789"[]{},.-e')))
        )
    return bytes(damaged)
