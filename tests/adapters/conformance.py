"""What every adapter must keep to, whatever its venue does: a made-up exchange that speaks a venue's dialect, a
line with faults to it, and a checker that sees every output.

A new venue brings a Dialect (dialects/) and nothing else.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import Any, Literal

import orjson

from adapters.book import BookOptions
from adapters.effects import Answer, Connect, Effect, Fetch, Reconnect, Send
from adapters.errors import AdapterError, FetchError
from adapters.events import Channel, Gap, Levels, Trade
from adapters.live import Output
from adapters.subscriptions import State
from tests.adapters.checker import Checker
from tests.adapters.dialect import BEGAN, SYMBOLS, Dialect, Message
from tests.adapters.market import SHOWN, Market, joined

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
        self.position = 0
        self._answers: list[tuple[float, tuple[str, ...], Answer | FetchError]] = []
        self._is_open = False
        self.refusals = 0
        self._start()

    @property
    def micros(self) -> int:
        return BEGAN + round((self.now - 1000.0) * 1_000_000)

    # The line.

    def _start(self) -> None:
        self.take(self.adapter.start(self.now))
        while not self._is_open:
            self.wait(0.1)
        self.wait(self.adapter.venue.asked_after)

    def lose(self, reason: str = "reset by peer") -> None:
        """The connection ends, with all that was on its way; another is made."""
        self._is_open = False
        self._coming.clear()
        self.take(self.adapter.lost(1006, reason, self.now))
        self.wait(0.5)
        self._start()

    def take(self, outputs: list[Output]) -> None:
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
            self._answers.append((self.now + self.random.choice((0.02, 0.2, 0.6)), effect.key, self._answer(effect)))
        elif isinstance(effect, Connect) and not self._is_open:
            self._is_open = True
            self._say(self.dialect.opened())
            self.take(self.adapter.connected(self.now))
        elif isinstance(effect, Reconnect):
            self.lose(effect.reason)

    def _answer(self, fetch: Fetch) -> Answer | FetchError:
        request = fetch.request
        if self.refusals:
            self.refusals -= 1
            return FetchError("HTTP 500")
        if fetch.key[0] == "backfill":
            return self._past(fetch.key[1])
        address, _, query = request.url.partition("?")
        path = "/" + address.split("/", 3)[3]
        values = dict(each.split("=") for each in query.split("&") if each)
        named = {*values.values(), *path.split("/")}
        if named & {each.native for each in self.adapter.subscriptions} - set(self.dialect.markets):
            return FetchError("HTTP 400: no such market")
        native = next((native for native in self.dialect.markets if native in named), "")
        return Answer(200, orjson.dumps(self.dialect.answer(path, native)), self.micros)

    def _past(self, native: str) -> Answer:
        """All trades of a market up to now, or as many as an answer has."""
        market, history = self.dialect.markets[native], self.adapter.venue.history
        assert history is not None
        deals = list(market.deals.values())[-history.rows :]
        return Answer(200, orjson.dumps(self.dialect.past(market, deals)), self.micros)

    def _say(self, messages: Iterable[Message]) -> None:
        self._coming.extend(map(self.dialect.packed, messages))

    # Time.

    def wait(self, seconds: float) -> None:
        """Time passes, and answers come."""
        self.now += seconds
        while due := [each for each in self._answers if each[0] <= self.now]:
            self._answers.remove(due[0])
            _, key, answer = due[0]
            came = answer if isinstance(answer, FetchError) else Answer(answer.status, answer.body, self.micros)
            self.take(self.adapter.fetched(key, came, self.now))
        self.take(self.adapter.tick(self.now))

    def deliver(self) -> None:
        """All frames that are on their way arrive, or what the line makes of them."""
        while self._coming:
            frame = self._coming.popleft()
            position, self.position = self.position, self.position + 1
            for arriving in self.line(position, frame):
                self.arrive(arriving)
            self.wait(0.01)

    def arrive(self, frame: bytes) -> None:
        self.arrived.append(frame)
        self.take(self.adapter.receive(frame, self.micros))

    def step(self) -> None:
        """Something happens at the exchange, and is told to whom it was promised."""
        self._tell_time()
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
                if self.dialect.subscribed:
                    self._say([self.random.choice(self.dialect.others())])
        self.deliver()

    def _tell_time(self) -> None:
        self.dialect.micros = self.micros
        for market in self.dialect.markets.values():
            market.micros = self.micros

    def deal_unheard(self, count: int) -> list[int]:
        """Trades that nobody is told of now; their numbers."""
        self._tell_time()
        return [market.deal().number for market in self.dialect.markets.values() for _ in range(count)]

    def tell_book(self, market: Market) -> None:
        """The moves that were held back, as one change, where it is subscribed."""
        held = self.dialect.held[market.native]
        if held and ("orderbooks", market.native) in self.dialect.subscribed:
            self._say([self.dialect.change(market, joined(held))])
        held.clear()

    def run(self, steps: int) -> None:
        self.deliver()
        for _ in range(steps):
            self.wait(0.05)
            self.step()

    def trade_once_more(self) -> None:
        """A trade of every market: what numbers its trades shows by it whether any were missed."""
        self._tell_time()
        for market in self.dialect.markets.values():
            if ("trades", market.native) in self.dialect.subscribed:
                self._say(self.dialect.trades(market, [market.deal()]))
        self.deliver()

    # What is demanded in the end.

    @property
    def is_well(self) -> bool:
        """Whether every book is in step and shown as it now is, and everything else subscribed."""
        subscriptions = [each for each in self.adapter.subscriptions if each.native in self.dialect.markets]
        if not self.truthful:  # a lie may have refused what is there, or numbered a trade far ahead of those that follow
            subscriptions = [each for each in subscriptions if each.state is not State.REJECTED and each.channel != "trades"]
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
            self.wait(0.5)

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


WRONG: list[Any] = [None, True, 0, -1, 7, 1.5, 2**63, 10**30, [], [[]], [0], {}, {"x": 1}]
WRONG += ["", "x", "0", "-1", "1e5", "1,5", "٣", "null", "9" * 40, "BTC/USDT"]
"""What takes the place of each value of a frame in turn."""


def wrong_values(message: Any) -> Iterator[Callable[[], Any]]:
    """How to make the message with each value, at any depth, replaced by each wrong one, and each key or item left out."""
    for path in _paths(message):
        for value in WRONG:
            yield partial(_replaced, message, path, value)
        if path:
            yield partial(_without, message, path)


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


class WrongValues:
    """Goes through all wrong values of each kind of message, one with each fresh message of that kind."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._counts: dict[str, int] = {}

    def __call__(self, frame: bytes) -> bytes | None:
        try:
            message = orjson.loads(self._dialect.decoded(frame))
        except orjson.JSONDecodeError:
            return None
        kind = shape_of(message)
        position = self._counts.get(kind, 0)
        self._counts[kind] = position + 1
        wrong = [*wrong_values(message)]
        return self._dialect.coded(written(wrong[position * 7919 % len(wrong)]()))


def shape_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{shape_of(each)}" for key, each in sorted(value.items())) + "}"
    return f"[{shape_of(value[0])}]" if isinstance(value, list) and value else type(value).__name__


def written(message: Any) -> bytes:
    """As JSON, also with a number that is larger than 64 bits."""
    return json.dumps(message, ensure_ascii=False).encode()
