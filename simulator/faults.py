"""Faults on order: what can be asked for, when it strikes, and what it did.

A spec is `VENUE:FAULT[=VALUE][@EVERY_SECONDS]`, VENUE may be `*`. Standing faults (reject, slow, refuse without @) hold from
then on; the others strike once at the first opportunity, or again every so many seconds. Which frame and which client are
hit is drawn from a seeded generator.
"""

from __future__ import annotations

import gzip
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from simulator.connection import BINARY, frame

if TYPE_CHECKING:
    from simulator.connection import Connection
    from simulator.feeds import Feed

Value = float | int | str | None

ANY = frozenset({"book", "trade", "view", "ticker", "candle"})
GZIP = b"\x1f\x8b"
SPREAD = 8  # how many frames may pass before a fault strikes
FIRED = 10_000  # records kept


def _number(low: float, high: float) -> Callable[[str], Value]:
    def parse(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError(f"must be between {low:g} and {high:g}")
        return int(number) if number.is_integer() else number

    return parse


def _pair(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9]+/[A-Z0-9]+", text):
        raise ValueError("must be a pair such as DOGE/USDT")
    return text


def _form(text: str) -> str:
    if text not in FORMS:
        raise ValueError(f"must be one of {', '.join(FORMS)}")
    return text


@dataclass(frozen=True, slots=True)
class Kind:
    """One fault: the kinds of feed it hits (none: not a matter of frames), its value, and how it is spelled in help."""

    text: str
    feeds: frozenset[str] = frozenset()
    value: Callable[[str], Value] | None = None
    default: Value = None
    required: bool = False
    repeats: bool = True


BOOK, TRADE = frozenset({"book"}), frozenset({"trade"})
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "drop": Kind("drop[=CODE]", ANY, _number(1000, 4999)),
        "stall": Kind("stall[=SECONDS]", ANY, _number(0, 86400), 60),
        "gap": Kind("gap[=PAIR]", BOOK, _pair),
        "trade_gap": Kind("trade_gap[=PAIR]", TRADE, _pair),
        "repeat": Kind("repeat", ANY),
        "swap": Kind("swap", BOOK | TRADE),
        "corrupt": Kind("corrupt[=cut|json|bytes]", ANY, _form),
        "bad_checksum": Kind("bad_checksum[=PAIR]", BOOK, _pair),
        "stale_snapshot": Kind("stale_snapshot[=PAIR]", value=_pair),
        "reject": Kind("reject=PAIR", value=_pair, required=True, repeats=False),
        "slow": Kind("slow=MS", value=_number(0, 60_000), required=True, repeats=False),
        "refuse": Kind("refuse[=STATUS]", value=_number(400, 599), default=503),
        "maintenance": Kind("maintenance[=SECONDS]", value=_number(0, 86400), default=30),
    }
)
GRAMMAR = "VENUE:FAULT[=VALUE][@EVERY_SECONDS] with FAULT one of " + ", ".join(kind.text for kind in KINDS.values())


@dataclass(frozen=True, slots=True)
class Spec:
    """A fault that was asked for, at one exchange or at all (`*`)."""

    exchange: str
    fault: str
    value: Value
    every: float | None


def parse(text: str, exchanges: Collection[str]) -> Spec:
    """Read a spec. ValueError, in one line, says what is accepted."""
    match = re.fullmatch(r"([a-z*_]+):([a-z_]+)(?:=([^@]+))?(?:@([0-9.]+))?", text)
    if not match:
        raise ValueError(f"bad fault {text!r}: expected {GRAMMAR}")
    exchange, fault, value, every = match.groups()
    kind = KINDS.get(fault)
    if kind is None:
        raise ValueError(f"unknown fault {fault!r} in {text!r}: expected {GRAMMAR}")
    if exchange != "*" and exchange not in exchanges:
        raise ValueError(f"unknown exchange {exchange!r} in {text!r}: running are {', '.join(exchanges)}")
    if (value is not None and kind.value is None) or (value is None and kind.required):
        raise ValueError(f"bad fault {text!r}: it is written {kind.text}")
    if every is not None and not kind.repeats:
        raise ValueError(f"bad fault {text!r}: {fault} holds from the start, it does not repeat")
    try:
        parsed = kind.default if value is None or kind.value is None else kind.value(value)
        seconds = None if every is None else float(every)
    except ValueError as error:
        raise ValueError(f"bad fault {text!r}: {kind.text}, {error}") from None
    if seconds is not None and seconds <= 0:
        raise ValueError(f"bad fault {text!r}: seconds after @ must be above 0")
    return Spec(exchange, fault, parsed, seconds)


@dataclass(slots=True)
class Armed:
    """A fault that waits: for its time, then for `skip` more frames."""

    spec: Spec
    due: float
    skip: int


class Faults:
    """The faults of one exchange. Times are monotonic seconds, except in the records."""

    def __init__(self, exchange: str, seed: str, checksum: re.Pattern[bytes] | None, stamp: Callable[[], int]) -> None:
        self.random = Random(seed)  # noqa: S311
        self.fired: deque[dict[str, object]] = deque(maxlen=FIRED)
        self.rejected: set[str] = set()
        self.delay = 0.0
        self.hot = False
        """Whether frames may be disturbed now: the fast path of publishing asks only this."""
        self._exchange = exchange
        self._checksum = checksum
        self._stamp = stamp
        self._refuse: Spec | None = None
        self._armed: list[Armed] = []
        self._swapped: dict[tuple[Connection, Feed], bytes] = {}

    def arm(self, spec: Spec, now: float) -> None:
        """Let a fault wait or, when it is a standing one, hold. ValueError where the venue cannot have it."""
        if spec.fault == "bad_checksum" and self._checksum is None:
            raise ValueError(f"{self._exchange} has no checksum in its books")
        if spec.fault == "reject":
            self.rejected.add(str(spec.value))
        elif spec.fault == "slow":
            self.delay = float(spec.value or 0) / 1000
        elif spec.fault == "refuse" and spec.every is None:
            self._refuse = spec
            return
        else:
            self._armed.append(Armed(spec, now + (spec.every or 0.0), self.random.randrange(SPREAD)))
            self._heat()
            return
        self.record(spec, str(spec.value) if spec.fault == "reject" else "")

    def clear(self) -> None:
        """Disarm everything and end what stands; a frame held back to be swapped goes out."""
        self._armed.clear()
        for (connection, _), data in self._swapped.items():
            connection.write(data)
        self._swapped.clear()
        self.rejected.clear()
        self.delay = 0.0
        self._refuse = None
        self._heat()

    def refusal(self, now: float) -> int | None:
        """The HTTP status that meets a new connection now, if one does."""
        armed = self._next("refuse", now)
        if armed:
            self._spend(armed, now)
        spec = armed.spec if armed else self._refuse
        if spec is None:
            return None
        self.record(spec)
        return int(spec.value or 503)

    def maintenance(self, now: float) -> float | None:
        """Seconds of a maintenance that begins now, if one is due."""
        armed = self._next("maintenance", now)
        if armed is None:
            return None
        self._spend(armed, now)
        self.record(armed.spec)
        return float(armed.spec.value or 0)

    def stale(self, symbol: str, now: float) -> bool:
        """Whether the snapshot that is asked for now is to be an old one."""
        armed = self._next("stale_snapshot", now, symbol)
        if armed is None:
            return False
        self._spend(armed, now)
        self.record(armed.spec, symbol)
        return True

    def strike(self, feed: Feed, payload: str | bytes, now: float) -> tuple[Spec, Connection] | None:
        """The fault that hits this payload of a feed, and the client it hits."""
        for armed in self._armed:
            spec = armed.spec
            hits = feed.kind in KINDS[spec.fault].feeds and armed.due <= now and feed.subscribers
            if spec.fault in {"gap", "trade_gap", "bad_checksum"} and spec.value not in {None, feed.market.symbol}:
                hits = False
            if spec.fault == "bad_checksum" and not self._has_checksum(payload):
                hits = False
            if hits and armed.skip:
                armed.skip -= 1
            elif hits:
                self._spend(armed, now)
                victim = self.random.choice(list(feed.subscribers))
                self.record(spec, feed.market.symbol, feed.name, victim.number)
                return spec, victim
        return None

    def disturbed(self, spec: Spec, connection: Connection, feed: Feed, message: str | bytes) -> list[bytes]:
        """What the hit client gets instead of one frame."""
        whole = frame(message)
        if spec.fault == "repeat":
            return [whole, whole]
        if spec.fault == "swap":
            self._swapped[connection, feed] = whole
            self._heat()
        elif spec.fault == "corrupt":
            form = str(spec.value or self.random.choice(tuple(FORMS)))
            return [FORMS[form](message, self.random)]
        elif spec.fault == "bad_checksum" and self._checksum:
            data = message.encode() if isinstance(message, str) else message
            wrong = self._checksum.sub(lambda match: match[1] + b"%d" % (int(match[2]) ^ 0x5A5A5A5A), data)
            return [frame(wrong.decode() if isinstance(message, str) else wrong)]
        elif spec.fault == "stall":
            connection.stall(float(spec.value or 0))
        elif spec.fault == "drop" and spec.value:
            connection.close(int(spec.value))
        elif spec.fault == "drop":
            connection.abort()
        return []

    def held(self, connection: Connection, feed: Feed) -> list[bytes]:
        """The frame that was held back to be swapped with the one that goes out now."""
        data = self._swapped.pop((connection, feed), None)
        self._heat()
        return [data] if data else []

    def forget(self, connection: Connection) -> None:
        """A client has gone."""
        for key in [key for key in self._swapped if key[0] is connection]:
            del self._swapped[key]
        self._heat()

    def _has_checksum(self, payload: str | bytes) -> bool:
        data = payload.encode() if isinstance(payload, str) else payload
        return self._checksum is not None and self._checksum.search(data) is not None

    def record(self, spec: Spec, symbol: str = "", channel: str = "", client: int | None = None) -> None:
        """Write down that a fault struck, or that a standing one holds."""
        entry: dict[str, object] = {"exchange": self._exchange, "fault": spec.fault, "value": spec.value}
        entry |= {"symbol": symbol or None, "channel": channel or None, "connection": client, "time": self._stamp()}
        self.fired.append(entry)

    def _next(self, fault: str, now: float, symbol: str = "") -> Armed | None:
        for armed in self._armed:
            wanted = armed.spec.value in {None, symbol} or not symbol
            if armed.spec.fault == fault and armed.due <= now and wanted:
                return armed
        return None

    def _spend(self, armed: Armed, now: float) -> None:
        if armed.spec.every:
            armed.due = now + armed.spec.every
            armed.skip = self.random.randrange(SPREAD)
        else:
            self._armed.remove(armed)
        self._heat()

    def _heat(self) -> None:
        self.hot = bool(self._swapped) or any(KINDS[armed.spec.fault].feeds for armed in self._armed)


def _cut(message: str | bytes, random: Random) -> bytes:
    return frame(message[: random.randrange(1, max(2, len(message) - 1))])


def _broken(message: str | bytes, random: Random) -> bytes:
    """As long as before, but not JSON any more: the structure is scrambled, inside its gzip where it is packed."""
    if isinstance(message, bytes) and message.startswith(GZIP):
        return frame(gzip.compress(_scrambled(gzip.decompress(message), random)))
    if isinstance(message, bytes):
        return frame(_scrambled(message, random))
    return frame(_scrambled(message.encode(), random).decode(errors="replace"))


def _scrambled(text: bytes, random: Random) -> bytes:
    scrambled = bytearray(text)
    for _ in range(4):
        scrambled[random.randrange(len(scrambled))] = random.choice(b'{}[]:,"')
    scrambled[0] = ord("}")
    return bytes(scrambled)


def _noise(message: str | bytes, random: Random) -> bytes:
    return frame(random.randbytes(min(len(message), 512)), BINARY)


FORMS: Mapping[str, Callable[[str | bytes, Random], bytes]] = MappingProxyType({"cut": _cut, "json": _broken, "bytes": _noise})
