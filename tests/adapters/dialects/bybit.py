"""How Bybit writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from random import Random
from typing import Any, ClassVar

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered
from tests.adapters.market import SHOWN, Deal, Market, Move, Rows

FIRST_UPDATE = 10**9
"""Far from the numbers of a market's own updates: a message counts as one, however many it holds."""


class Bybit(Registered):
    name = "bybit"
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {
        "publicTrade": "trades",
        "orderbook.200": "orderbooks",
        "tickers": "tickers",
        "orderbook.1": "tickers",
    }

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.updates = dict.fromkeys(self.markets, FIRST_UPDATE)

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def read(self, frame: Any) -> Asked:
        request = frame.get("req_id", "")
        if frame["op"] == "ping":
            return Asked("other", request=request)
        assert len(frame["args"]) <= 10
        topics = [topic.rsplit(".", 1) for topic in frame["args"]]
        (channel,) = {self.channels[topic] for topic, _ in topics}
        natives = tuple(dict.fromkeys(native for _, native in topics))
        assert {tuple(each) for each in topics} == {
            (topic, native) for topic, kind in self.channels.items() if kind == channel for native in natives
        }
        return Asked(frame["op"], channel, natives, request)

    def _reply(self, operation: str, asked: Asked, complaint: str = "") -> Message:
        reply = {"success": not complaint, "ret_msg": complaint or operation, "conn_id": "d967ikkn0ine3iqmjc30-koqj"}
        return reply | ({"req_id": asked.request} if asked.request else {}) | {"op": operation}

    def pong(self, asked: Asked) -> list[Message]:
        return [self._reply("ping", asked) | {"ret_msg": "pong"}]

    def hear(self, frame: str | bytes) -> list[Message]:
        """A frame with one bad topic is refused as a whole, and nothing of it is subscribed."""
        before = set(self.subscribed)
        replies = super().hear(frame)
        if replies[0]["success"]:
            return replies
        self.subscribed = before
        return replies[:1]

    def acks(self, asked: Asked) -> list[Message]:
        topic = next(topic for topic, channel in self.channels.items() if channel == asked.channel)
        unknown = [f"{topic}.{native}" for native in asked.natives if native not in self.markets]
        return [self._reply("subscribe", asked, f"Invalid symbol :[{','.join(unknown)}]" if unknown else "")]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._reply("unsubscribe", asked)]

    def _on(self, topic: str, native: str, kind: str, data: Message, **more: int) -> Message:
        return {"topic": f"{topic}.{native}", "ts": self.millis, "type": kind, "data": data} | more

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        rows = [
            {
                **{"i": str(deal.number), "T": self.millis - 1, "p": market.price(deal.price), "v": market.amount(deal.amount)},
                **{"S": deal.side.capitalize(), "seq": 112488547164, "s": market.native, "BT": False, "RPI": False},
            }
            for deal in deals
        ]
        return [self._on("publicTrade", market.native, "snapshot", rows)]

    def _book(self, market: Market, kind: str, bids: Rows, asks: Rows) -> Message:
        update = self.updates[market.native] = self.updates[market.native] + 1
        best_bids, best_asks = market.best(SHOWN)
        market.past[update] = (dict(best_bids), dict(best_asks))
        data = {"s": market.native, "b": market.rows(bids), "a": market.rows(asks), "u": update, "seq": 7961638724}
        return self._on("orderbook.200", market.native, kind, data, cts=self.millis - 2)

    def snapshot(self, market: Market) -> Message:
        return self._book(market, "snapshot", *market.best(200))

    def change(self, market: Market, move: Move) -> Message:
        return self._book(market, "delta", move.bids, move.asks)

    def ticker(self, market: Market) -> Message:
        if self.random.random() < 0.5:
            day = {"symbol": market.native, "lastPrice": market.price(market.last_price), "volume24h": "2953.835931"}
            return self._on("tickers", market.native, "snapshot", day | {"usdIndexPrice": ""}, cs=112488546160)
        bids, asks = market.best(1)
        data = {"s": market.native, "b": market.rows(bids), "a": market.rows(asks), "u": 77, "seq": 7961638724}
        return self._on("orderbook.1", market.native, "snapshot", data, cts=self.millis)

    def others(self) -> list[Message]:
        candle = {"start": 1672324800000, "interval": "5", "open": "16649.5", "confirm": False}
        return [
            {"success": True, "ret_msg": "pong", "conn_id": "0970e817-a", "req_id": "100001", "op": "ping"},
            {"req_id": "1", "op": "pong", "args": ["1675418560633"], "conn_id": "x"},
            self._on("kline.5", "BTCUSDT", "snapshot", [candle]),
            self._on("orderbook.rpi", "BTCUSDT", "delta", {"s": "BTCUSDT", "b": [["1", "2", "3"]], "a": [], "u": 5, "seq": 6}),
            {"success": False, "ret_msg": "error:invalid op", "conn_id": "x", "request": {}},
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows = [
            {
                **{"execId": str(deal.number), "symbol": market.native, "price": market.price(deal.price), "seq": "7"},
                **{"size": market.amount(deal.amount), "side": deal.side.capitalize(), "time": str(deal.micros // 1000 - 1)},
            }
            for deal in reversed(deals)
        ]
        return self._answer({"category": "spot", "list": rows})

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"execId": "2290000001189048101", "symbol": "BTCUSDT", "price": "27450.50", "size": "0.005", "side": "Buy"}
        trades = {"category": "spot", "list": [trade | {"time": "1709891679000", "isBlockTrade": False}]}
        book = {"s": "BTCUSDT", "b": [["27450.50", "1.5"]], "a": [["27451.00", "1.2"]], "ts": 1709891679000, "u": 12, "seq": 9}
        spot: dict[str, Any] = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"}
        spot |= {"lotSizeFilter": {"basePrecision": "0.000001"}, "priceFilter": {"tickSize": "0.1"}}
        linear = spot | {"contractType": "LinearPerpetual", "lotSizeFilter": {"qtyStep": "0.1"}}
        return {
            ("trades", "BTCUSDT"): self._answer(trades),
            ("view", "BTCUSDT"): self._answer(book),
            ("instruments",): self._answer({"category": "spot", "list": [spot, linear]}),
        }

    def _answer(self, result: Message) -> Message:
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.millis}

    def problems(self) -> list[Message]:
        return [
            {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}, "retExtInfo": {}, "time": 1672053054358},
            {"retCode": 10006, "retMsg": "Too many visits!", "result": {}},
        ]
