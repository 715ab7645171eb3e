"""How Binance.US writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move


class BinanceUs(Registered):
    name = "binanceus"
    counts_trades = True
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "depth@100ms": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def read(self, frame: Any) -> Asked:
        assert type(frame["id"]) is int
        assert frame["id"] >= 0, "an unsigned integer, and no text"
        if frame["method"] == "LIST_SUBSCRIPTIONS":
            return Asked("other", request=str(frame["id"]))
        about = [stream.partition("@") for stream in frame["params"]]
        (stream,) = {stream for _, _, stream in about}
        natives = tuple(name.upper() for name, _, _ in about)
        return Asked(
            "subscribe" if frame["method"] == "SUBSCRIBE" else "unsubscribe", self.channels[stream], natives, str(frame["id"])
        )

    def pong(self, asked: Asked) -> list[Message]:
        streams = [f"{native.lower()}@{named(self.channels, channel)}" for channel, native in sorted(self.subscribed)]
        return [{"result": streams, "id": int(asked.request)}]

    def acks(self, asked: Asked) -> list[Message]:
        return [{"result": None, "id": int(asked.request)}]

    ended = acks

    def _on(self, channel: Channel, market: Market, event: str, **data: Any) -> Message:
        stream = f"{market.native.lower()}@{named(self.channels, channel)}"
        return {"stream": stream, "data": {"e": event, "E": self.millis, "s": market.native, **data}}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        return [
            self._on(
                "trades",
                market,
                "trade",
                **{"t": deal.number, "p": market.price(deal.price), "q": market.amount(deal.amount), "b": 88, "a": 50},
                **{"T": self.millis - 1, "m": deal.side == "sell", "M": True},
            )
            for deal in deals
        ]

    def change(self, market: Market, move: Move) -> Message:
        rows = {"b": market.rows(move.bids), "a": market.rows(move.asks)}
        return self._on("orderbooks", market, "depthUpdate", U=move.first, u=move.last, **rows)

    def ticker(self, market: Market) -> Message:
        prices = {"c": market.last_price, "b": market.best_bid, "a": market.best_ask}
        ours = {name: market.price(price) for name, price in prices.items()}
        return self._on("tickers", market, "24hrTicker", p="-0.2", Q="10", B="1.5", A="2", v="10000", q="99000", **ours)

    def others(self) -> list[Message]:
        best = {"u": 77819472, "s": "BTCUSDT", "b": "13.76640000", "B": "30.28000000", "a": "13.79520000", "A": "31.57"}
        mini = {"e": "24hrMiniTicker", "E": self.millis, "s": "BTCUSDT", "c": "99.5", "v": "10"}
        return [
            {"stream": "btcusdt@bookTicker", "data": best},
            {"stream": "btcusdt@depth20", "data": {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": []}},
            {"stream": "btcusdt@kline_1m", "data": {"e": "kline", "E": self.millis, "s": "BTCUSDT", "k": {"i": "1m"}}},
            {"stream": "!miniTicker@arr", "data": [mini]},
            {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer", "id": None},
        ]

    def answer(self, path: str, native: str) -> Message:
        market = self.markets[native]
        bids, asks = market.best(1000)
        return {"lastUpdateId": market.sequence, "bids": market.rows(bids), "asks": market.rows(asks)}

    def past(self, market: Market, deals: list[Deal]) -> Message:
        return [
            {
                **{"id": deal.number, "price": market.price(deal.price), "qty": market.amount(deal.amount)},
                **{"time": deal.micros // 1000 - 1, "isBuyerMaker": deal.side == "sell"},
            }
            for deal in deals
        ]

    def answers(self) -> dict[tuple[str, ...], Message]:
        steps = [{"filterType": "PRICE_FILTER", "tickSize": "0.0100"}, {"filterType": "LOT_SIZE", "stepSize": "0.00000100"}]
        listed = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "permissions": ["SPOT"]}
        row = {"id": 28457, "price": "4.00000100", "qty": "12.0", "time": 1499865549590, "isBuyerMaker": False}
        merged = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27783, "T": 1498793709153, "m": True}
        return {
            ("book", "BTCUSDT"): self.answer("/api/v3/depth", "BTCUSDT"),
            ("trades", "BTCUSDT"): [row],
            ("aggregates", "BTCUSDT"): [merged],
            ("instruments",): {"timezone": "UTC", "symbols": [listed | {"filters": steps}]},
        }

    def problems(self) -> list[Message]:
        return [{"code": -1121, "msg": "Invalid symbol."}, {"code": -1003, "msg": "Too much request weight used."}]
