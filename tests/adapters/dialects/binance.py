"""How Binance writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered
from tests.adapters.market import Deal, Market, Move


class Binance(Registered):
    name = "binance"
    counts_trades = True
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "depth": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def read(self, frame: Any) -> Asked:
        natives, streams = zip(*(stream.split("@")[:2] for stream in frame["params"]), strict=True)
        (stream,) = set(streams)
        return Asked(
            "subscribe" if frame["method"] == "SUBSCRIBE" else "unsubscribe",
            self.channels[stream],
            tuple(native.upper() for native in natives),
            str(frame["id"]),
        )

    def acks(self, asked: Asked) -> list[Message]:
        return [{"result": None, "id": int(asked.request)}]

    ended = acks

    def _on(self, stream: str, market: Market, data: dict[str, Any]) -> Message:
        common = {"e": data.pop("e"), "E": self.millis, "s": market.native}
        return {"stream": f"{market.native.lower()}@{stream}", "data": common | data}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        return [
            self._on(
                "trade",
                market,
                {
                    **{"e": "trade", "t": deal.number, "p": market.price(deal.price), "q": market.amount(deal.amount)},
                    **{"T": self.millis - 1, "m": deal.side == "sell", "M": True},
                },
            )
            for deal in deals
        ]

    def change(self, market: Market, move: Move) -> Message:
        rows = {"b": market.rows(move.bids), "a": market.rows(move.asks)}
        return self._on("depth@100ms", market, {"e": "depthUpdate", "U": move.first, "u": move.last} | rows)

    def ticker(self, market: Market) -> Message:
        ours = {"c": market.price(market.last_price), "b": market.price(market.best_bid), "a": market.price(market.best_ask)}
        sizes = {"Q": "10", "B": "1.5", "A": "2", "v": "10000", "q": "990000", "n": 18151}
        return self._on("ticker", market, {"e": "24hrTicker", "p": "0.15", "w": "99.1", "o": "99", "h": "101"} | ours | sizes)

    def others(self) -> list[Message]:
        mini = {"e": "24hrMiniTicker", "E": self.millis, "s": "BTCUSDT", "c": "99.5", "v": "10"}
        candle = {"e": "kline", "E": self.millis, "s": "BTCUSDT", "k": {"t": 1, "T": 2, "o": "1", "x": False}}
        best = {"u": 400900217, "s": "BTCUSDT", "b": "25.35", "B": "31.21", "a": "25.36", "A": "40.66"}
        view = {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": [["0.0026", "100"]]}
        return [
            {"stream": "btcusdt@bookTicker", "data": best},
            {"stream": "btcusdt@depth5", "data": view},
            {"stream": "btcusdt@kline_1m", "data": candle},
            {"stream": "!miniTicker@arr", "data": [mini]},
            {"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": None},
            {"result": ["btcusdt@trade"], "id": 3000},
        ]

    def answer(self, path: str, native: str) -> Message:
        market = self.markets[native]
        bids, asks = market.best(100)
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
        steps = [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}, {"filterType": "LOT_SIZE", "stepSize": "0.00001"}]
        listed = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": steps}
        row = {"id": 28457, "price": "4.00000100", "qty": "12.0", "time": 1499865549590, "isBuyerMaker": True}
        merged = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781, "T": 1498793709153, "m": True}
        return {
            ("book", "BTCUSDT"): self.answer("/api/v3/depth", "BTCUSDT"),
            ("trades", "BTCUSDT"): [row],
            ("aggregates", "BTCUSDT"): [merged],
            ("instruments",): {"timezone": "UTC", "symbols": [listed]},
        }

    def problems(self) -> list[Message]:
        return [{"code": -1121, "msg": "Invalid symbol."}, {"code": -1003, "msg": "Too many requests; IP banned until 1700."}]
