"""How Crypto.com writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows


class Cryptocom(Registered):
    name = "cryptocom"
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "book": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "_")

    def read(self, frame: Any) -> Asked:
        if frame["method"] == "public/respond-heartbeat":
            assert type(frame["id"]) is int
            return Asked("other")
        parameters = frame["params"]
        topics = [topic.split(".") for topic in parameters["channels"]]
        (name,) = {topic[0] for topic in topics}
        if name == "book":
            assert {topic[2] for topic in topics} <= {"10", "50"}
            if frame["method"] == "subscribe":
                assert parameters["book_subscription_type"] == "SNAPSHOT_AND_UPDATE"
                assert parameters["book_update_frequency"] in (10, 100)
        return Asked(frame["method"], self.channels[name], tuple(topic[1] for topic in topics), str(frame["id"]))

    def _topic(self, channel: Channel, native: str) -> str:
        return f"{named(self.channels, channel)}.{native}" + (".10" if channel == "orderbooks" else "")

    def acks(self, asked: Asked) -> list[Message]:
        acks = [self._ack(asked, native) for native in asked.natives]
        known = [self.markets[native] for native in asked.natives if native in self.markets]
        recent = [(market, [*market.deals.values()][-3:]) for market in known if asked.channel == "trades"]
        return acks + [batch for market, deals in recent if deals for batch in self.trades(market, deals)]

    def _ack(self, asked: Asked, native: str) -> Message:
        topic = self._topic(asked.channel, native)
        ack = {"id": int(asked.request), "method": "subscribe", "code": 0}
        if native not in self.markets:
            return ack | {"code": 40003, "message": "Unknown symbol", "channel": topic}
        if asked.channel == "tickers" and self.random.random() < 0.5:
            return ack | {"result": {"instrument_name": native, "subscription": topic, "channel": "ticker"}}
        return ack | {"channel": topic}

    def ended(self, asked: Asked) -> list[Message]:
        return [{"id": int(asked.request), "method": "unsubscribe", "code": 0}]

    def _on(self, channel: Channel, market: Market, *data: Message, kind: str = "") -> Message:
        about = {"instrument_name": market.native, "subscription": self._topic(channel, market.native)}
        result = about | {"channel": kind or named(self.channels, channel), "data": data}
        return {"id": self.random.choice((-1, -1, 1)), "method": "subscribe", "code": 0, "result": result}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        rows = [
            {
                **{"d": f"17820324376718{deal.number:05d}", "t": self.millis, "p": market.price(deal.price)},
                **{"q": market.amount(deal.amount), "s": deal.side.upper(), "i": market.native, "m": "4611686018731788404"},
            }
            for deal in deals
        ]
        return [self._on("trades", market, *reversed(rows))]

    def trade_number(self, identifier: str) -> int:
        return int(identifier) - 1782032437671800000

    def _rows(self, market: Market, rows: Rows) -> list[list[str]]:
        return [[price, amount, "0" if not float(amount) else "3"] for price, amount in market.rows(rows)]

    def _sides(self, market: Market, bids: Rows, asks: Rows) -> Message:
        return {"asks": self._rows(market, asks), "bids": self._rows(market, bids)}

    def _numbers(self, market: Market) -> dict[str, int]:
        return {"t": self.millis, "tt": self.millis - 50, "u": market.sequence, "cs": -1183713967}

    def snapshot(self, market: Market) -> Message:
        return self._on("orderbooks", market, self._sides(market, *market.best(1000)) | self._numbers(market))

    def change(self, market: Market, move: Move) -> Message:
        update = {"update": self._sides(market, move.bids, move.asks), "pu": move.previous}
        return self._on("orderbooks", market, update | self._numbers(market), kind="book.update")

    def ticker(self, market: Market) -> Message:
        prices = {"a": market.last_price, "b": market.best_bid, "k": market.best_ask}
        data: dict[str, Any] = {name: market.price(price) for name, price in prices.items()}
        data |= {"i": market.native, "bs": "0.27217", "ks": None, "h": None, "v": "2657.5053", "vv": "1", "oi": "0"}
        return self._on("tickers", market, data | {"t": self.millis})

    def others(self) -> list[Message]:
        market = self.markets["BTC_USDT"]
        candle = self._on("tickers", market, {"o": "1", "c": "2", "t": self.millis}, kind="candlestick")
        return [
            {"id": self.millis, "method": "public/heartbeat", "code": 0},
            {"id": self.millis, "method": "public/heartbeat"},
            candle,
            {"id": -1, "method": "subscribe", "code": 42901, "message": "TOO_MANY_REQUESTS"},
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows = [
            {
                **{"d": f"17820324376718{deal.number:05d}", "t": deal.micros // 1000, "p": market.price(deal.price)},
                **{"q": market.amount(deal.amount), "s": deal.side, "i": market.native},
            }
            for deal in reversed(deals)
        ]
        return self._answer("get-trades", *rows)

    def answers(self) -> dict[tuple[str, ...], Message]:
        market = {"symbol": "BTC_USDT", "inst_type": "CCY_PAIR", "base_ccy": "BTC", "quote_ccy": "USDT", "tradable": True}
        market |= {"price_tick_size": "0.01", "qty_tick_size": "0.00001", "contract_size": "1"}
        trade = {"s": "sell", "p": "63958.47", "q": "0.04333", "t": 1782032437671, "tn": "1782032437671850129"}
        return {
            ("trades", "BTC_USDT"): self._answer("get-trades", trade | {"d": "1782032437671850129", "i": "BTC_USDT"}),
            ("instruments",): self._answer("get-instruments", market),
        }

    @staticmethod
    def _answer(method: str, *data: Message) -> Message:
        return {"id": -1, "method": f"public/{method}", "code": 0, "result": {"data": data}}

    def problems(self) -> list[Message]:
        return [{"code": 40004, "message": "Missing or invalid argument"}, {"code": 42901, "message": "TOO_MANY_REQUESTS"}]
