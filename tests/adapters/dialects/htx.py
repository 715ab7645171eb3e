"""How HTX writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from decimal import Decimal
from typing import Any, ClassVar
from zlib import compressobj, decompress

from orjson import Fragment

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows


def bare(number: str) -> Fragment:
    """A number as the venue's Java writes it: 5.0, 2.0E-4, 1.2E7."""
    value = Decimal(number)
    if value and not Decimal("0.001") <= value < 10_000_000:
        mantissa, _, exponent = f"{value.normalize():E}".partition("E")
        return Fragment(f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent)}")
    plain = f"{value.normalize():f}"
    return Fragment(plain if "." in plain else f"{plain}.0")


class Htx(Registered):
    """Frames are packed; a book is asked for on the connection of its changes."""

    name = "htx"
    counts_trades = True
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"trade.detail": "trades", "mbp.150": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "").lower()

    def coded(self, data: bytes) -> bytes:
        packer = compressobj(level=1, wbits=31)
        return packer.compress(data) + packer.flush()

    def decoded(self, frame: bytes) -> bytes:
        """Some recordings hold texts."""
        return decompress(frame, wbits=31) if frame.startswith(b"\x1f\x8b") else frame

    def read(self, frame: Any) -> Asked:
        if "pong" in frame:
            return Asked("other")
        operation = next(name for name in ("sub", "unsub", "req") if name in frame)
        market, native, what = frame[operation].split(".", 2)
        assert market == "market"
        if operation == "req":
            return Asked("other", self.channels[what], (native,), frame["id"])
        return Asked("subscribe" if operation == "sub" else "unsubscribe", self.channels[what], (native,), frame["id"])

    def _topic(self, channel: Channel, native: str) -> str:
        return f"market.{native}.{named(self.channels, channel)}"

    def _refusal(self, asked: Asked) -> Message:
        words = f"invalid topic {self._topic(asked.channel, asked.natives[0])}"
        return {"status": "error", "ts": self.millis, "id": asked.request, "err-code": "bad-request", "err-msg": words}

    def acks(self, asked: Asked) -> list[Message]:
        (native,) = asked.natives
        if native not in self.markets:
            return [self._refusal(asked)]
        return [{"id": asked.request, "status": "ok", "subbed": self._topic(asked.channel, native), "ts": self.millis}]

    def ended(self, asked: Asked) -> list[Message]:
        (native,) = asked.natives
        return [{"id": asked.request, "status": "ok", "unsubbed": self._topic(asked.channel, native), "ts": self.millis}]

    def pong(self, asked: Asked) -> list[Message]:
        """A book that is asked for; an answer to the venue's ping gets none."""
        if not asked.natives:
            return []
        (native,) = asked.natives
        if native not in self.markets:
            return [self._refusal(asked)]
        market = self.markets[native]
        book = {"seqNum": market.sequence} | self._sides(market, *market.best(150))
        about = {"id": asked.request, "rep": self._topic("orderbooks", native), "status": "ok", "ts": self.millis}
        return [about | {"data": book}]

    def _sides(self, market: Market, bids: Rows, asks: Rows) -> dict[str, Any]:
        rows = {"bids": market.rows(bids), "asks": market.rows(asks)}
        return {name: [[bare(price), bare(amount)] for price, amount in each] for name, each in rows.items()}

    def _on(self, channel: Channel, market: Market, tick: Message) -> Message:
        return {"ch": self._topic(channel, market.native), "ts": self.millis, "tick": tick}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        data = [
            {
                **{"id": Fragment(f"{deal.number}255757567432481012345"), "ts": self.millis, "tradeId": deal.number},
                **{"amount": bare(market.amount(deal.amount)), "price": bare(market.price(deal.price)), "direction": deal.side},
            }
            for deal in deals
        ]
        self.random.shuffle(data)
        return [self._on("trades", market, {"id": deals[-1].number, "ts": self.millis, "data": data})]

    def change(self, market: Market, move: Move) -> Message:
        sides = self._sides(market, move.bids, move.asks)
        for name in [name for name, rows in sides.items() if not rows]:
            if self.random.random() < 0.5:
                sides[name] = None
            else:
                del sides[name]
        return self._on("orderbooks", market, {"seqNum": move.last, "prevSeqNum": move.previous} | sides)

    def ticker(self, market: Market) -> Message:
        prices = {"bid": market.best_bid, "ask": market.best_ask, "close": market.last_price, "lastPrice": market.last_price}
        tick: dict[str, Any] = {name: bare(market.price(price)) for name, price in prices.items()}
        rest = {"bidSize": 0.036, "askSize": Fragment("5.0E-4"), "amount": Fragment("1.2E7"), "vol": 6.87, "count": 448737}
        return self._on("tickers", market, tick | rest)

    def others(self) -> list[Message]:
        best = {"seqId": 155441231856, "ask": 101.9, "askSize": 0.7, "bid": None, "bidSize": None, "symbol": "btcusdt"}
        day = {"id": 311070770838, "low": 99.1, "high": 102.5, "open": 100.0, "close": 101.7, "vol": 8.18, "amount": 26897.1}
        book = {"bids": [[101.7, 1.5]], "asks": [[101.9, 0.5]], "version": 155386874272, "ts": self.millis}
        frames = {"bbo": best, "detail": day, "kline.1min": day, "depth.step1": book}
        frames |= {"mbp.refresh.5": {"seqNum": 7, "bids": [[101.7, 1.5]], "asks": []}}
        failed = {"status": "error", "ts": self.millis, "err-code": "internal-error", "err-msg": "try again"}
        data = [{"ch": f"market.btcusdt.{what}", "ts": self.millis, "tick": tick} for what, tick in frames.items()]
        return [{"ping": self.millis}, failed, *data]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        orders = [
            {
                "id": deal.number,
                "ts": deal.micros // 1000,
                "data": [
                    {
                        **{"id": Fragment(f"{deal.number}2557"), "ts": deal.micros // 1000, "trade-id": deal.number},
                        **{"amount": bare(market.amount(deal.amount)), "price": bare(market.price(deal.price))},
                        **{"direction": deal.side},
                    }
                ],
            }
            for deal in reversed(deals)
        ]
        return {"status": "ok", "ts": self.millis, "ch": f"market.{market.native}.trade.detail", "data": orders}

    def answers(self) -> dict[tuple[str, ...], Message]:
        deal = {
            "id": Fragment("102523573486255757567432481"),
            "ts": 1630994963173,
            "trade-id": 102523573486,
            "amount": 0.006754,
        }
        deals = {"id": 136107843051, "ts": 1630994963173, "data": [deal | {"price": 52648.62, "direction": "buy"}]}
        book = {"bids": [[29805.62, 0.309487]], "asks": [], "version": 155671698426, "ts": 1654253116701}
        market = {"symbol": "btcusdt", "base-currency": "btc", "quote-currency": "usdt", "state": "online"}
        common = {"status": "ok", "ts": 1654253117316}
        return {
            ("trades", "btcusdt"): common | {"ch": "market.btcusdt.trade.detail", "data": [deals]},
            ("view", "btcusdt"): common | {"ch": "market.btcusdt.depth.step0", "tick": book},
            ("instruments",): common | {"data": [market | {"price-precision": 2, "amount-precision": 6}]},
        }

    def problems(self) -> list[Message]:
        return [
            {"status": "error", "err-code": "invalid-parameter", "err-msg": "invalid symbol"},
            {"status": "maintain"},
        ]
