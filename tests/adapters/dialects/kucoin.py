"""How Kucoin writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

from orjson import Fragment

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered
from tests.adapters.market import Deal, Market, Move


class Kucoin(Registered):
    name = "kucoin"
    channels: ClassVar[dict[str, Channel]] = {
        "/market/match": "trades",
        "/market/level2": "orderbooks",
        "/market/ticker": "tickers",
    }

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def opened(self) -> list[Message]:
        super().opened()
        return [{"id": "conn-1", "type": "welcome"}]

    def read(self, frame: Any) -> Asked:
        if frame["type"] == "ping":
            return Asked("other", request=frame["id"])
        topic, _, natives = frame["topic"].partition(":")
        return Asked(frame["type"], self.channels[topic], tuple(natives.split(",")), frame["id"])

    def pong(self, asked: Asked) -> list[Message]:
        return [{"id": asked.request, "type": "pong", "timestamp": self.micros}]

    def acks(self, asked: Asked) -> list[Message]:
        return [{"id": asked.request, "type": "ack"}]

    ended = acks

    def _on(self, topic: str, subject: str, **data: Any) -> Message:
        return {"topic": topic, "type": "message", "subject": subject, "data": data}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        topic = f"/market/match:{market.native}"
        own = {"symbol": market.native, "time": str(self.micros * 1000), "type": "match", "makerOrderId": "671b5007"}
        return [
            self._on(
                topic,
                "trade.l3match",
                **(own | {"price": market.price(deal.price), "size": market.amount(deal.amount)}),
                **{"side": deal.side, "tradeId": str(deal.number), "sequence": str(deal.number)},
            )
            for deal in deals
        ]

    def change(self, market: Market, move: Move) -> Message:
        sides = {
            name: [[*row, str(number)] for row, number in zip(market.rows(rows), numbers, strict=True)]
            for name, rows, numbers in (("asks", move.asks, move.ask_numbers), ("bids", move.bids, move.bid_numbers))
        }
        if self.random.random() < 0.3:
            sides["asks"].append(["0", self.random.choice(("0", "1")), str(move.last)])  # a row that only moves the sequence on
        sequences = {"sequenceStart": move.first, "sequenceEnd": move.last}
        topic = f"/market/level2:{market.native}"
        return self._on(topic, "trade.l2update", changes=sides, symbol=market.native, time=self.millis, **sequences)

    def ticker(self, market: Market) -> Message:
        prices = {"price": market.last_price, "bestBid": market.best_bid, "bestAsk": market.best_ask}
        data = {name: market.price(price) for name, price in prices.items()}
        sizes = {"sequence": "14691455768", "size": "0.00004316", "bestBidSize": "0.01", "bestAskSize": "1.9"}
        return self._on(f"/market/ticker:{market.native}", "trade.ticker", **data, **sizes, time=self.millis)

    def others(self) -> list[Message]:
        view = {"asks": [["67996.7", "1.1"]], "bids": [["67996.6", "0.3"]], "timestamp": self.millis}
        best = {"asks": ["101.8", "0.5"], "bids": ["101.7", "1.2"], "timestamp": self.millis}
        day = {"symbol": "BTC-USDT", "buy": Fragment("2.63E-6"), "sell": Fragment("3e-6"), "vol": Fragment("91.50")}
        return [
            {"id": "1545910590801", "type": "pong", "timestamp": self.micros},
            self._on("/market/ticker:all", "BTC-USDT", bestAsk="101.7", price="101", Time=self.millis),
            self._on("/spotMarket/level2Depth5:BTC-USDT", "level2", **view),
            self._on("/spotMarket/level1:BTC-USDT", "level1", **best),
            self._on("/market/snapshot:BTC-USDT", "trade.snapshot", sequence="17", data=day | {"datetime": self.millis}),
            self._on("/market/candles:BTC-USDT_1hour", "trade.candles.update", symbol="BTC-USDT", candles=["1"], time=1),
            {"id": "9", "type": "error", "code": 509, "data": "too frequent"},
        ]

    def answer(self, path: str, native: str) -> Message:
        if path == "/api/v1/bullet-public":
            server = {"endpoint": "wss://ws-api-spot.kucoin.com/", "encrypt": True, "pingInterval": 18000, "pingTimeout": 10000}
            return {"code": "200000", "data": {"token": "2neAiuYvAU61abc.xyz==", "instanceServers": [server]}}
        market = self.markets[native]
        bids, asks = market.best(100)
        data = {"time": self.millis, "sequence": str(market.sequence), "bids": market.rows(bids), "asks": market.rows(asks)}
        return {"code": "200000", "data": data}

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows = [
            {
                **{"sequence": str(deal.number), "price": market.price(deal.price), "size": market.amount(deal.amount)},
                **{"side": deal.side, "time": deal.micros * 1000},
            }
            for deal in deals
        ]
        return {"code": "200000", "data": rows}

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"sequence": "10976028", "price": "67122", "size": "0.000025", "side": "buy", "time": 1729177117877000000}
        market = {"symbol": "BTC-USDT", "baseCurrency": "BTC", "quoteCurrency": "USDT", "enableTrading": True}
        return {
            ("token",): self.answer("/api/v1/bullet-public", ""),
            ("book", "BTC-USDT"): self.answer("/api/v1/market/orderbook/level2_100", "BTC-USDT"),
            ("trades", "BTC-USDT"): {"code": "200000", "data": [trade]},
            ("instruments",): {"code": "200000", "data": [market | {"baseIncrement": "0.00000001", "priceIncrement": "0.1"}]},
        }

    def problems(self) -> list[Message]:
        return [{"code": "400100", "msg": "symbol not exists"}, {"code": "429000", "msg": "Too Many Requests"}]
