"""How Bitrue writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

import gzip
from typing import Any, ClassVar

from orjson import Fragment

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move


class Bitrue(Registered):
    """Whole books without a number: one that is lost shows in nothing, and the next one takes its place."""

    name = "bitrue"
    proves_books = False
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"trade_ticker": "trades", "depth_step0": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "").lower()

    def coded(self, data: bytes) -> bytes:
        return gzip.compress(data, mtime=0)

    def decoded(self, frame: bytes) -> bytes:
        return gzip.decompress(frame) if frame.startswith(b"\x1f\x8b") else frame

    def read(self, frame: Any) -> Asked:
        if "pong" in frame:
            return Asked("other")
        native, channel = frame["params"]["cb_id"], frame["params"]["channel"]
        name = channel.removeprefix(f"market_{native}_")
        asked = Asked("subscribe" if frame["event"] == "sub" else "unsubscribe", self.channels[name], (native,))
        self.requests += 1
        return Asked(asked.operation, asked.channel, asked.natives, str(self.requests))

    requests = 0

    def acks(self, asked: Asked) -> list[Message]:
        (native,) = asked.natives
        about = {"channel": self._topic(asked.channel, native), "cb_id": native, "event_rep": "subed"}
        return [about | {"status": "ok" if native in self.markets else "fail", "ts": self.millis}]

    def _topic(self, channel: Channel, native: str) -> str:
        return f"market_{native}_{named(self.channels, channel)}"

    def _on(self, channel: Channel, market: Market, **tick: Message) -> Message:
        return {"channel": self._topic(channel, market.native), "ts": self.millis, "tick": tick}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        rows = [
            {
                **{"id": deal.number, "price": Fragment(market.price(deal.price)), "vol": Fragment(market.amount(deal.amount))},
                **{"amount": Fragment("472.07373000000000000000000000000000"), "side": deal.side.upper()},
                **{"ts": self.millis - 3, "ds": "2021-05-19 16:27:24"},
            }
            for deal in deals
        ]
        return [self._on("trades", market, data=rows[::-1])]

    def snapshot(self, market: Market) -> Message:
        bids, asks = market.best(100)
        sides = {
            name: [[price, Fragment(amount) if self.random.random() < 0.5 else amount] for price, amount in market.rows(rows)]
            for name, rows in (("buys", bids), ("asks", asks))
        }
        return self._on("orderbooks", market, **sides)

    def change(self, market: Market, move: Move) -> Message:
        return self.snapshot(market)

    def ticker(self, market: Market) -> Message:
        prices = {"close": market.last_price, "high": market.best_ask, "low": market.best_bid, "open": market.best_bid}
        day = {name: Fragment(market.price(price)) for name, price in prices.items()}
        return self._on("tickers", market, **day, vol=Fragment("429024.8"), amount=0, rose=Fragment("0.0262"))

    def others(self) -> list[Message]:
        market = self.markets["btcusdt"]
        day = {"amount": 1448711.193, "rose": 0.0262, "close": 3.435, "vol": 429024.8, "high": 3.435, "low": 3.317}
        candle = {"id": 1621412820, "close": 1.7439, "vol": 28616.74, "amount": 49855.950209}
        row = {"id": 7, "price": 1.7439, "amount": 472.07373, "side": "BUY", "vol": 270.7, "ts": self.millis}
        return [
            {"ping": self.millis},
            {"ping": str(self.millis)},
            {"channel": "market_btcusdt_trade_ticker", "tick": day},
            {"channel": "market_btcusdt_kline_1min", "ts": self.millis, "tick": candle},
            {"event_rep": "rep", "cb_id": "btcusdt", "status": "ok", "channel": "market_btcusdt_trade_ticker", "data": [row]},
            {"ts": self.millis, "tick": {"buys": [], "asks": [["40199.75", 0.1]]}},
            self.snapshot(market) | {"channel": "market_btcusdt_depth_step2"},
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        return [
            {
                **{"id": deal.number, "price": market.price(deal.price), "qty": market.amount(deal.amount)},
                **{"time": deal.micros // 1000 - 3, "isBuyerMaker": deal.side == "sell"},
            }
            for deal in deals
        ]

    def answers(self) -> dict[tuple[str, ...], Message]:
        filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.01", "priceScale": 2}]
        filters += [{"filterType": "LOT_SIZE", "minVal": "10.0", "stepSize": "0.0001", "volumeScale": 4}]
        listed = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "btc", "quoteAsset": "usdt", "filters": filters}
        row = {"id": 28457, "price": "4.00000100", "qty": "12.0", "time": 1499865549590, "isBuyerMaker": True}
        merged = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781, "T": 1498793709153, "m": True}
        return {
            ("view", "BTCUSDT"): {"lastUpdateId": 1027024, "bids": [["4.0", "431", []]], "asks": [["4.1", "12", []]]},
            ("trades", "BTCUSDT"): [row],
            ("aggregates", "BTCUSDT"): [merged],
            ("instruments",): {"timezone": "UTC", "symbols": [listed]},
        }

    def problems(self) -> list[Message]:
        return [{"code": -1121, "msg": "Invalid symbol."}, {"code": 1, "msg": "System is under maintenance."}]
