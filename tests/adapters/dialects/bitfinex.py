"""How Bitfinex writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from itertools import chain, zip_longest
from typing import Any, ClassVar
from zlib import crc32

from orjson import Fragment

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows

FLAGS = 32768 + 65536 + 131072
WINDOW = 25


class Bitfinex(Registered):
    """Bare numbers; a number for each channel, which the acknowledgement tells, and for each message; a checksum of books."""

    name = "bitfinex"
    on_socket = True
    loose = False
    channels: ClassVar[dict[str, Channel]] = {"trades": "trades", "book": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        base, _, quote = symbol.replace("USDT", "UST").partition("/")
        return f"t{base}{quote}" if len(base) == 3 else f"t{base}:{quote}"

    def opened(self) -> list[Message]:
        super().opened()
        self.number = 0
        self.numbers: dict[tuple[Channel, str], int] = {}
        self.free = self.random.sample(range(200_000, 240_000), 1000)
        self.windows: dict[str, tuple[Rows, Rows]] = {}
        return [{"event": "info", "version": 2, "serverId": "083bd8d4-aca7", "platform": {"status": 1}}]

    def packed(self, message: Message) -> bytes:
        """Arrays get their number when they leave, and their time."""
        if isinstance(message, list):
            self.number += 1
            message = [*message, self.number, self.millis]
        return super().packed(message)

    def hear(self, frame: str | bytes) -> list[Message]:
        """A channel that is subscribed already is refused by its number, and no snapshot comes."""
        self.before = frozenset(self.subscribed)
        return super().hear(frame)

    def read(self, frame: Any) -> Asked:
        if frame["event"] == "subscribe":
            channel = self.channels[frame["channel"]]
            if channel == "orderbooks":
                assert (frame["prec"], frame["freq"], frame["len"]) == ("P0", "F0", str(WINDOW))
            return Asked("subscribe", channel, (frame["symbol"],), frame["subId"])
        if frame["event"] == "unsubscribe":
            about = [about for about, number in self.numbers.items() if number == frame["chanId"]]
            return Asked("unsubscribe", about[0][0], (about[0][1],)) if about else Asked("other", request="unsubscribe")
        assert frame in ({"event": "conf", "flags": FLAGS}, {"event": "ping"})
        return Asked("other", request=frame["event"])

    def pong(self, asked: Asked) -> list[Message]:
        match asked.request:
            case "ping":
                return [{"event": "pong", "ts": self.millis}]
            case "conf":
                return [{"event": "conf", "status": "OK", "flags": FLAGS}]
        return [{"event": "error", "msg": "unsubscribe: invalid", "code": 10400, "chanId": 1}]

    def acks(self, asked: Asked) -> list[Message]:
        (native,) = asked.natives
        key, name = (asked.channel, native), named(self.channels, asked.channel)
        about = {"channel": name, "symbol": native, "subId": asked.request}
        if native not in self.markets:
            return [{"event": "error", "msg": "symbol: invalid", "code": 10300} | about]
        if key in self.before:
            return [{"event": "error", "msg": "subscribe: dup", "code": 10301, "chanId": self.numbers[key]} | about]
        number = self.numbers[key] = self.free.pop()
        more = {"prec": "P0", "freq": "F0", "len": str(WINDOW)} if name == "book" else {}
        said: list[Message] = [{"event": "subscribed", "chanId": number, "pair": native[1:]} | about | more]
        return [*said, [number, [[3, self.millis, -0.5, 99.5]]]] if name == "trades" else said

    def ended(self, asked: Asked) -> list[Message]:
        number = self.numbers.pop((asked.channel, asked.natives[0]))
        return [{"event": "unsubscribed", "status": "OK", "chanId": number}]

    # Numbers as JavaScript writes them: no trailing zeros, and small ones with an exponent.

    def _price(self, market: Market, ticks: int) -> str:
        return market.price(ticks).rstrip("0").rstrip(".")

    def _amount(self, market: Market, lots: int) -> str:
        sign, lots = ("-", -lots) if lots < 0 else ("", lots)
        return sign + ("1e-4" if lots == 1 else market.amount(lots).rstrip("0").rstrip("."))

    def _row(self, market: Market, price: int, lots: int, sign: int) -> list[Any]:
        count, amount = (self.random.randint(1, 5), self._amount(market, sign * lots)) if lots else (0, str(sign))
        return [Fragment(self._price(market, price)), count, Fragment(amount)]

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        number = self.numbers[("trades", market.native)]
        rows: list[Message] = []
        for deal in deals:
            amount = self._amount(market, deal.amount if deal.side == "buy" else -deal.amount)
            rows.append([deal.number, self.millis, Fragment(amount), Fragment(self._price(market, deal.price))])
        return [[number, word, row] for word in ("te", "tu") for row in rows]

    def snapshot(self, market: Market) -> Message | None:
        if ("orderbooks", market.native) in self.before:
            return None
        bids, asks = self.windows[market.native] = market.best(WINDOW)
        rows = [self._row(market, *level, 1) for level in bids] + [self._row(market, *level, -1) for level in asks]
        return [self.numbers[("orderbooks", market.native)], rows]

    def change(self, market: Market, move: Move) -> Message:
        """What leaves the window is removed, what comes back into it is told: one row, or the grouped form of many."""
        number = self.numbers[("orderbooks", market.native)]
        before, after = self.windows[market.native], market.best(WINDOW)
        self.windows[market.native] = after
        rows = []
        for sign, old, new in zip((1, -1), before, after, strict=True):
            rows += [self._row(market, *level, sign) for level in new if level not in old]
            rows += [self._row(market, price, 0, sign) for price in dict(old).keys() - dict(new).keys()]
        if not rows:
            return [number, "hb"]
        return [number, rows[0] if len(rows) == 1 else rows]

    def _checksum(self, market: Market) -> Message:
        sides = [
            [f"{self._price(market, price)}:{self._amount(market, sign * lots)}" for price, lots in levels]
            for sign, levels in zip((1, -1), self.windows[market.native], strict=True)
        ]
        crc = crc32(":".join(filter(None, chain(*zip_longest(*sides)))).encode())
        return [self.numbers[("orderbooks", market.native)], "cs", crc - (crc >> 31 << 32)]

    def ticker(self, market: Market) -> Message:
        prices = (market.best_bid, market.best_ask, market.last_price)
        bid, ask, last = (Fragment(self._price(market, price)) for price in prices)
        return [self.numbers[("tickers", market.native)], [bid, 60157.36, ask, 19203.4, -1674, -0.0529, last, 488.04, 3.1, 2]]

    def others(self) -> list[Message]:
        heartbeats: list[Message] = [[number, "hb"] for number in self.numbers.values()]
        books = [native for channel, native in self.subscribed if channel == "orderbooks"]
        checksums = [self._checksum(self.markets[native]) for native in sorted(books)]
        candles = {"event": "subscribed", "channel": "candles", "chanId": 7, "key": "trade:1m:tBTCUSD"}
        return [*heartbeats, *checksums, *checksums, candles, {"event": "pong", "ts": self.millis, "cid": 1234}]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows: list[Message] = []
        for deal in deals:
            amount = self._amount(market, deal.amount if deal.side == "buy" else -deal.amount)
            rows.append([deal.number, deal.micros // 1000, Fragment(amount), Fragment(self._price(market, deal.price))])
        return rows

    def answers(self) -> dict[tuple[str, ...], Message]:
        return {
            ("trades", "tBTCUST"): [[401597395, 1574694478808, 0.005, 7245.3], [401597394, 1574694478807, -1, 7245]],
            ("view", "tBTCUST"): [[23144, 3, 0.87789], [23325, 5, -0.00297898]],
            ("instruments",): [["BTCUST"]],
        }

    def problems(self) -> list[Message]:
        return [["error", 11010, "ratelimit: error"], {"code": 503, "error": "temporarily_unavailable"}]
