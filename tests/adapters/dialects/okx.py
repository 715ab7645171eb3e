"""How Okx writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows


class Okx(Registered):
    name = "okx"
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"trades": "trades", "books": "orderbooks", "tickers": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def read(self, frame: Any) -> Asked:
        if frame == "ping":
            return Asked("other")
        (channel,) = {each["channel"] for each in frame["args"]}
        return Asked(frame["op"], self.channels[channel], tuple(each["instId"] for each in frame["args"]), frame["id"])

    def pong(self, asked: Asked) -> list[Message]:
        return ["pong"]

    def acks(self, asked: Asked) -> list[Message]:
        return [self._event("subscribe", asked, native) for native in asked.natives]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._event("unsubscribe", asked, native) for native in asked.natives]

    def _event(self, event: str, asked: Asked, native: str) -> Message:
        about = {"channel": named(self.channels, asked.channel), "instId": native}
        if native in self.markets:
            return {"id": asked.request, "event": event, "arg": about, "connId": "accb8e21"}
        complaint = f"Wrong URL or channel:{about['channel']},instId:{native} doesn't exist. Please use the correct URL."
        return {"id": asked.request, "event": "error", "code": "60018", "msg": complaint, "connId": "a4d3ae55"}

    def _on(self, channel: Channel, market: Market, *data: Message, **more: str) -> Message:
        return {"arg": {"channel": named(self.channels, channel), "instId": market.native}, **more, "data": data}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        data = [
            {
                **{"instId": market.native, "tradeId": str(deal.number), "px": market.price(deal.price)},
                **{"sz": market.amount(deal.amount), "side": deal.side, "ts": str(self.millis), "count": "1", "source": "0"},
            }
            for deal in deals
        ]
        return [self._on("trades", market, *data)]

    def _book(self, market: Market, bids: Rows, asks: Rows, previous: int) -> Message:
        sides = {
            name: [[price, amount, "0", "3"] for price, amount in market.rows(rows)]
            for name, rows in (("asks", asks), ("bids", bids))
        }
        return sides | {"ts": str(self.millis), "checksum": 0, "prevSeqId": previous, "seqId": market.sequence}

    def snapshot(self, market: Market) -> Message:
        return self._on("orderbooks", market, self._book(market, *market.best(400), -1), action="snapshot")

    def change(self, market: Market, move: Move) -> Message:
        return self._on("orderbooks", market, self._book(market, move.bids, move.asks, move.previous), action="update")

    def ticker(self, market: Market) -> Message:
        prices = {"last": market.last_price, "askPx": market.best_ask, "bidPx": market.best_bid}
        data = {name: market.price(price) for name, price in prices.items()}
        rest = {"lastSz": "0.1", "askSz": "", "bidSz": "5", "open24h": "90", "vol24h": "2222", "ts": str(self.millis)}
        return self._on("tickers", market, {"instType": "SPOT", "instId": market.native} | data | rest)

    def others(self) -> list[Message]:
        best: dict[str, Any] = {"asks": [["101.98", "415", "0", "13"]], "bids": [["101.97", "256", "0", "12"]]}
        best |= {"ts": str(self.millis), "seqId": 7}
        return [
            "pong",
            {"arg": {"channel": "bbo-tbt", "instId": "BTC-USDT"}, "data": [best]},
            {"arg": {"channel": "books5", "instId": "BTC-USDT"}, "data": [best | {"instId": "BTC-USDT"}]},
            {"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [["1597026360000", "8533.02", "8553.74", "0"]]},
            {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "abcd1234"},
            {"event": "error", "code": "60014", "msg": "Requests too frequent", "connId": "a4d3ae55"},
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows = [
            {
                **{
                    "instId": market.native,
                    "side": deal.side,
                    "sz": market.amount(deal.amount),
                    "px": market.price(deal.price),
                },
                **{"tradeId": str(deal.number), "ts": str(deal.micros // 1000)},
            }
            for deal in reversed(deals)
        ]
        return {"code": "0", "msg": "", "data": rows}

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"instId": "BTC-USDT", "side": "sell", "sz": "0.0001", "px": "102537.9", "tradeId": "7", "ts": "1747087163557"}
        book = {"asks": [["41006.8", "0.6", "0", "1"]], "bids": [["41006.3", "0.3", "0", "2"]], "ts": "1629966436396"}
        market = {"baseCcy": "BTC", "quoteCcy": "USDT", "instId": "BTC-USDT", "instType": "SPOT", "ctVal": "", "state": "live"}
        return {
            ("trades", "BTC-USDT"): {"code": "0", "msg": "", "data": [trade]},
            ("view", "BTC-USDT"): {"code": "0", "msg": "", "data": [book]},
            ("instruments",): {"code": "0", "msg": "", "data": [market | {"tickSz": "0.1", "lotSz": "0.00000001"}]},
        }

    def problems(self) -> list[Message]:
        return [
            {"code": "51001", "msg": "Instrument ID doesn't exist", "data": []},
            {"code": "50011", "msg": "Too Many Requests", "data": []},
        ]
