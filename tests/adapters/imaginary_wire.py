"""The dialect of the venue that does not exist: what its adapter (imaginary.py) must understand."""

from typing import Any, ClassVar
from zlib import compressobj, decompress

from orjson import Fragment

from adapters.adapter import ExchangeAdapter
from adapters.events import Channel
from tests.adapters.dialect import Asked, Dialect, Message, named
from tests.adapters.imaginary import Imaginary
from tests.adapters.market import Deal, Market, Move, Rows, text


class Made(Dialect):
    """See imaginary.py."""

    name = "imaginary"
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"deals": "trades", "book": "orderbooks", "best": "tickers"}

    @property
    def adapter(self) -> type[ExchangeAdapter]:
        return Imaginary

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "_")

    def opened(self) -> list[Message]:
        super().opened()
        self.number = 0
        self.numbers: dict[tuple[Channel, str], int] = {}
        self.free = self.random.sample(range(1, 40), 39)  # another connection gives the same numbers to others
        self.unanswered: list[float] = []
        return []

    def packed(self, message: Message) -> bytes:
        """Each message gets its number when it leaves."""
        assert isinstance(message, dict)
        self.number += 1
        return super().packed({"n": self.number} | message)

    def coded(self, data: bytes) -> bytes:
        packer = compressobj(level=1, wbits=31)
        return packer.compress(data) + packer.flush()

    def decoded(self, frame: bytes) -> bytes:
        return decompress(frame, wbits=31)

    def read(self, frame: Any) -> Asked:
        if "pong" in frame:
            if frame["pong"] in self.unanswered:
                self.unanswered.remove(frame["pong"])
            return Asked("other")
        if frame["do"] == "open":
            return Asked("subscribe", self.channels[frame["what"]], tuple(frame["markets"]), frame["request"])
        about = [key for key, number in self.numbers.items() if number in frame["channels"]]
        (channel,) = {channel for channel, _ in about}
        return Asked("unsubscribe", channel, tuple(native for _, native in about), frame["request"])

    def acks(self, asked: Asked) -> list[Message]:
        said: list[Message] = []
        for native in asked.natives:
            about = {"request": asked.request, "what": named(self.channels, asked.channel), "market": native}
            if native in self.markets:
                number = self.numbers[(asked.channel, native)] = self.free.pop()
                self.free.insert(0, number)
                said.append(about | {"channel": number})
            else:
                said.append(about | {"refused": "there is no such market"})
        return said

    def ended(self, asked: Asked) -> list[Message]:
        return [{"request": asked.request, "ended": [self.numbers[(asked.channel, native)] for native in asked.natives]}]

    def _bare(self, number: str) -> Fragment:
        """A number as a bare token, with an exponent now and then."""
        if self.random.random() < 0.5:
            return Fragment(number)
        digits, places = number.replace(".", "").lstrip("0") or "0", len(number.partition(".")[2])
        return Fragment(f"{digits}{self.random.choice('eE')}-{places}")

    @property
    def _seconds(self) -> Fragment:
        return self._bare(text(self.micros, 6))

    def _rows(self, market: Market, rows: Rows) -> list[list[Fragment]]:
        return [[self._bare(price), self._bare(amount)] for price, amount in market.rows(rows)]

    def _on(self, channel: Channel, market: Market, **part: Message) -> Message:
        return {"t": self._seconds, "on": self.numbers[(channel, market.native)], **part}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        rows = [
            [self.trade_id(deal.number), *self._rows(market, [(deal.price, deal.amount)])[0], deal.side[0], self._seconds]
            for deal in deals
        ]
        return [self._on("trades", market, deals=rows)]

    def snapshot(self, market: Market) -> Message:
        bids, asks = market.best(1000)
        return self._on("orderbooks", market, book={"b": self._rows(market, bids), "a": self._rows(market, asks)})

    def change(self, market: Market, move: Move) -> Message:
        sides = {"b": self._rows(market, move.bids), "a": self._rows(market, move.asks)}
        return self._on("orderbooks", market, diff=sides)

    def ticker(self, market: Market) -> Message:
        bid, ask = self._rows(market, [(market.best_bid, 15), (market.best_ask, 15)])
        return self._on("tickers", market, best={"bid": bid, "ask": ask, "last": self._bare(market.price(market.last_price))})

    def others(self) -> list[Message]:
        self.unanswered.append(self.micros / 1_000_000)
        return [{"ping": self.micros / 1_000_000}]

    def answers(self) -> dict[tuple[str, ...], Message]:
        market = {"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "open": True, "tick": 0.01, "lot": Fragment("1e-4")}
        return {
            ("trades", "BTC_USDT"): {"deals": [["1f5-x", Fragment("1.0005e2"), Fragment("1E-4"), "b", Fragment("1.7e9")]]},
            ("instruments",): {"markets": [market]},
        }

    def problems(self) -> list[Message]:
        return [{"problem": "slow down"}]

    def trade_id(self, number: int) -> str:
        return f"{number:x}-x"

    def trade_number(self, identifier: str) -> int:
        return int(identifier.removesuffix("-x"), 16)
