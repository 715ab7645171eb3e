"""How Gate writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

import orjson

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows, window_move

DEPTH = 50


class Gateio(Registered):
    """A book is a window of its best levels. Frames without the time of day are refused."""

    name = "gateio"
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {
        "spot.trades": "trades",
        "spot.obu": "orderbooks",
        "spot.tickers": "tickers",
    }

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "_")

    def opened(self) -> list[Message]:
        self.windows: dict[str, tuple[Rows, Rows]] = {}
        return super().opened()

    def read(self, frame: Any) -> Asked:
        if frame["channel"] == "spot.ping":
            return Asked("other")
        channel, payload = self.channels[frame["channel"]], frame["payload"]
        if channel == "orderbooks":
            (topic,) = payload
            prefix, native, depth = topic.split(".")
            assert (prefix, depth) == ("ob", str(DEPTH))
            payload = [native]
        return Asked(frame["event"], channel, tuple(payload), str(frame["id"]))

    def hear(self, frame: str | bytes) -> list[Message]:
        self.is_late = abs(orjson.loads(frame)["time"] - self.micros // 1_000_000) > 60
        self.before = frozenset(self.subscribed)
        return super().hear(frame)

    def _on(self, channel: str, event: str, **more: Any) -> Message:
        return {"time": self.millis // 1000, "time_ms": self.millis, "channel": channel, "event": event, **more}

    def pong(self, asked: Asked) -> list[Message]:
        return [self._on("spot.pong", "", error=None, result=None)]

    def _answer(self, event: str, asked: Asked, complaint: str | None) -> Message:
        natives = [f"ob.{each}.{DEPTH}" for each in asked.natives] if asked.channel == "orderbooks" else [*asked.natives]
        about = {"id": int(asked.request), "conn_id": "d7de96d8", "payload": natives, "requestId": "789a534f"}
        status: dict[str, Any] = {"result": {"status": "success"}}
        if complaint is not None:
            status = {"error": {"code": 2, "message": complaint}, "result": {"status": "fail"}}
        return self._on(named(self.channels, asked.channel), event, **about, **status)

    def acks(self, asked: Asked) -> list[Message]:
        """One answer a frame: one bad pair is the end of all."""
        unknown = [native for native in asked.natives if native not in self.markets]
        again = [native for native in asked.natives if (asked.channel, native) in self.before]
        complaint = None
        if self.is_late:
            complaint = "request time expired"
        elif unknown:
            complaint = f"unknown currency pair: {unknown[0]}"
        elif again:
            complaint = f"Alert sub ob.{again[0]}.{DEPTH}"
        return [self._answer("subscribe", asked, complaint)]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._answer("unsubscribe", asked, None)]

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        return [
            self._on(
                "spot.trades",
                "update",
                result={
                    **{"id": deal.number, "create_time": self.millis // 1000, "create_time_ms": f"{self.millis}.4578"},
                    **{"side": deal.side, "currency_pair": market.native, "amount": market.amount(deal.amount)},
                    **{"price": market.price(deal.price), "range": "2390902-2390902", "id_market": deal.number - 400},
                },
            )
            for deal in deals
        ]

    def snapshot(self, market: Market) -> Message | None:
        if ("orderbooks", market.native) in self.before:
            return None
        self.windows[market.native] = market.best(DEPTH)
        bids, asks = self.windows[market.native]
        rows = {"b": market.rows(bids), "a": market.rows(asks)}
        book = {"t": self.millis, "full": True, "s": f"ob.{market.native}.{DEPTH}", "u": market.sequence} | rows
        return {"channel": "spot.obu", "event": "update", "result": book, "time_ms": self.millis}

    def change(self, market: Market, move: Move) -> Message:
        before, after = self.windows[market.native], market.best(DEPTH)
        self.windows[market.native] = after
        rows = {name: market.rows(rows) for name, rows in zip("ba", window_move(before, after), strict=True)}
        if self.random.random() < 0.5:
            rows = {name: each for name, each in rows.items() if each}
        numbers = {"t": self.millis, "s": f"ob.{market.native}.{DEPTH}", "U": move.first, "u": move.last}
        return {"channel": "spot.obu", "event": "update", "result": numbers | rows, "time_ms": self.millis}

    def ticker(self, market: Market) -> Message:
        prices = {"last": market.last_price, "lowest_ask": market.best_ask, "highest_bid": market.best_bid}
        data = {name: market.price(price) for name, price in prices.items()}
        rest = {"change_percentage": "3.66", "base_volume": "2811.3042155865", "quote_volume": "53441606.52411221"}
        return self._on("spot.tickers", "update", result={"currency_pair": market.native} | data | rest)

    def others(self) -> list[Message]:
        best = {"t": self.millis, "u": 48733182, "s": "BTC_USDT", "b": "101.7", "B": "0.0003341504", "a": "", "A": ""}
        rows = {"b": [["101.7", "0"]], "a": []}
        change = {"t": self.millis, "e": "depthUpdate", "s": "ETC_USDT", "U": 48776301, "u": 48776306} | rows
        view = {"t": self.millis, "lastUpdateId": 48791820, "s": "BTC_USDT", "bids": [["101.6", "1"]], "asks": []}
        candle = {"t": "1606292580", "v": "2362.32035", "c": "19128.1", "n": "1m_BTC_USDT", "w": True}
        return [
            self._on("spot.pong", "", error=None, result=None),
            self._on("spot.book_ticker", "update", id=None, error=None, result=best),
            self._on("spot.order_book_update", "update", result=change),
            self._on("spot.order_book", "update", result=view),
            self._on("spot.candlesticks", "update", result=candle),
            {"time": self.millis // 1000, "channel": "spot.trades", "event": "subscribe", "result": {"status": "success"}},
            self._on("spot.tickers", "subscribe", error={"code": 3, "message": "server error"}, result={"status": "fail"}),
        ]

    def answer(self, path: str, native: str) -> Message:
        if path != "/api/v4/spot/time":
            return super().answer(path, native)
        return {"server_time": self.millis}

    def past(self, market: Market, deals: list[Deal]) -> Message:
        return [
            {
                **{"id": str(deal.number), "create_time": str(deal.micros // 1_000_000), "side": deal.side},
                **{"create_time_ms": f"{deal.micros // 1000}.4578", "currency_pair": market.native, "sequence_id": "1"},
                **{"amount": market.amount(deal.amount), "price": market.price(deal.price)},
            }
            for deal in reversed(deals)
        ]

    def answers(self) -> dict[tuple[str, ...], Message]:
        deal = {"id": "1232893232", "create_time": "1548000000", "create_time_ms": "1634673259378.105", "side": "buy"}
        deal |= {"currency_pair": "BTC_USDT", "amount": "0.15", "price": "0.03", "sequence_id": "588018"}
        book = {"id": 6358770031, "current": 1634345973275, "update": 1634345973271, "asks": [["2.2241", "12449.8"]]}
        market = {"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "fee": "0.2", "amount_precision": 4, "precision": 1}
        return {
            ("time",): {"server_time": 1597026383085},
            ("book", "BTC_USDT"): book | {"bids": []},
            ("trades", "BTC_USDT"): [deal],
            ("instruments",): [market | {"trade_status": "tradable", "sell_start": 0, "buy_start": 0}],
        }

    def problems(self) -> list[Message]:
        return [
            {"label": "INVALID_CURRENCY_PAIR", "message": "Invalid currency pair BTC_NOPE"},
            {"label": "TOO_MANY_REQUESTS", "message": "Request Rate limit Exceeded"},
        ]
