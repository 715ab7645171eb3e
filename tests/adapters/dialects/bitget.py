"""How Bitget writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from itertools import chain, zip_longest
from typing import Any, ClassVar
from zlib import crc32

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows


class Bitget(Registered):
    name = "bitget"
    on_socket = True
    loose = False
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "books": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def read(self, frame: Any) -> Asked:
        if frame == "ping":
            return Asked("other")
        (channel,) = {each["channel"] for each in frame["args"]}
        assert {each["instType"] for each in frame["args"]} == {"SPOT"}
        natives = tuple(each["instId"] for each in frame["args"])
        return Asked(frame["op"], self.channels[channel], natives, f"{channel} {natives}")

    def pong(self, asked: Asked) -> list[Message]:
        return ["pong"]

    def _about(self, channel: Channel, native: str) -> Message:
        return {"instType": "SPOT", "channel": named(self.channels, channel), "instId": native}

    def acks(self, asked: Asked) -> list[Message]:
        said: list[Message] = []
        for native in asked.natives:
            about = self._about(asked.channel, native)
            if native in self.markets:
                said.append({"event": "subscribe", "arg": about})
            else:
                complaint = f"instType:SPOT,channel:{about['channel']},instId:{native} doesn't exist"
                said.append({"event": "error", "arg": about, "code": 30001, "msg": complaint, "op": "subscribe"})
        if asked.channel == "trades":
            row = {"ts": str(self.millis), "price": "99.5", "size": "1", "side": "buy", "tradeId": "3"}
            said += [self._on("trades", native, "snapshot", row) for native in asked.natives if native in self.markets]
        return said

    def ended(self, asked: Asked) -> list[Message]:
        return [{"event": "unsubscribe", "arg": self._about(asked.channel, native)} for native in asked.natives]

    def _on(self, channel: Channel, native: str, action: str, *rows: Message) -> Message:
        return {"action": action, "arg": self._about(channel, native), "data": list(rows), "ts": self.millis}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        rows = [
            {
                **{"ts": str(self.millis - 3), "price": market.price(deal.price), "size": market.amount(deal.amount)},
                **{"side": deal.side, "tradeId": str(deal.number)},
            }
            for deal in deals
        ]
        return [self._on("trades", market.native, "update", *rows)]

    def _book(self, market: Market, action: str, bids: Rows, asks: Rows, previous: int) -> Message:
        row = {"asks": market.rows(asks), "bids": market.rows(bids), "ts": str(self.millis), "seq": market.sequence}
        row |= {"pseq": previous, "checksum": 0}
        if action == "update" and self.random.random() < 0.7:
            best = [[":".join(level) for level in market.rows(side)] for side in market.best(25)]
            crc = crc32(":".join(filter(None, chain(*zip_longest(*best)))).encode())
            row |= {"checksum": crc - (crc >> 31 << 32)}
        return self._on("orderbooks", market.native, action, row)

    def snapshot(self, market: Market) -> Message:
        return self._book(market, "snapshot", *market.best(500), 0)

    def change(self, market: Market, move: Move) -> Message:
        return self._book(market, "update", move.bids, move.asks, move.previous)

    def ticker(self, market: Market) -> Message:
        prices = {"lastPr": market.last_price, "askPr": market.best_ask, "bidPr": market.best_bid}
        row = {"instId": market.native} | {name: market.price(price) for name, price in prices.items()}
        rest = {"open24h": "0.00", "bidSz": "0.0084", "askSz": "", "baseVolume": "12.5", "ts": str(self.millis)}
        return self._on("tickers", market.native, "snapshot", row | rest)

    def others(self) -> list[Message]:
        about = {"instType": "SPOT", "instId": "BTCUSDT"}
        book: dict[str, Any] = {"asks": [["102.9", "0.1"]], "bids": [["98.1", "2"]], "checksum": 0, "ts": str(self.millis)}
        candle = ["1695672780000", "2200.1", "2200.1", "2200.1", "2200.1", "0", "0", "0"]
        return [
            "pong",
            {"action": "snapshot", "arg": about | {"channel": "books5"}, "data": [book], "ts": self.millis},
            {"action": "snapshot", "arg": about | {"channel": "books1"}, "data": [book | {"bids": []}], "ts": self.millis},
            {"action": "snapshot", "arg": about | {"channel": "candle1W"}, "data": [candle], "ts": self.millis},
            {"event": "error", "code": 30006, "msg": "too many requests"},
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows = [
            {
                **{"symbol": market.native, "tradeId": str(deal.number), "side": deal.side, "price": market.price(deal.price)},
                **{"size": market.amount(deal.amount), "ts": str(deal.micros // 1000 - 3)},
            }
            for deal in reversed(deals)
        ]
        return self._answer(rows)

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"symbol": "BTCUSDT", "tradeId": "1", "side": "sell", "price": "26293.4", "size": "1", "ts": "1695709835822"}
        book = {"asks": [["26274.9", "0.0009"]], "bids": [["26274.8", "0.0009"]], "ts": "1695710946294"}
        market = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "online"}
        return {
            ("trades", "BTCUSDT"): self._answer([trade]),
            ("view", "BTCUSDT"): self._answer(book),
            ("instruments",): self._answer([market | {"pricePrecision": "2", "quantityPrecision": "6", "quotePrecision": "6"}]),
        }

    def _answer(self, data: Message) -> Message:
        return {"code": "00000", "msg": "success", "requestTime": self.millis, "data": data}

    def problems(self) -> list[Message]:
        return [
            {"code": "40034", "msg": "Parameter does not exist", "requestTime": 1695806875837, "data": None},
            {"code": "429", "msg": "Too Many Requests"},
        ]
