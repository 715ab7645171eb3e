"""How Kraken writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from zlib import crc32

from orjson import Fragment

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import SHOWN, Deal, Market, Move, Rows, window_move


class Kraken(Registered):
    """Numbers are bare, and padded to the pair's precision; a book is proved by a checksum, and cut to its depth."""

    name = "kraken"
    counts_trades = True
    on_socket = True
    loose = False
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "book": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol

    def opened(self) -> list[Message]:
        super().opened()
        self.windows = {native: market.best(SHOWN) for native, market in self.markets.items()}
        return [self._status("online")]

    def _status(self, system: str) -> Message:
        status = {"version": "2.0.10", "system": system, "api_version": "v2", "connection_id": 14949390454975033707}
        return {"channel": "status", "type": "update", "data": [status]}

    @property
    def _iso(self) -> str:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def read(self, frame: Any) -> Asked:
        if frame["method"] == "ping":
            return Asked("other")
        channel = self.channels[frame["params"]["channel"]]
        return Asked(frame["method"], channel, tuple(frame["params"]["symbol"]), str(frame["req_id"]))

    def pong(self, asked: Asked) -> list[Message]:
        return [{"method": "pong", "time_in": self._iso, "time_out": self._iso}]

    def hear(self, frame: str | bytes) -> list[Message]:
        """A market that is subscribed already is refused, and no snapshot comes."""
        self.before = frozenset(self.subscribed)
        return super().hear(frame)

    def acks(self, asked: Asked) -> list[Message]:
        return [self._answer("subscribe", asked, native) for native in asked.natives]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._answer("unsubscribe", asked, native) for native in asked.natives]

    def _answer(self, method: str, asked: Asked, native: str) -> Message:
        common = {"method": method, "time_in": self._iso, "time_out": self._iso, "req_id": int(asked.request)}
        refusal = None if native in self.markets else f"Currency pair not supported {native}"
        if method == "subscribe" and (asked.channel, native) in self.before:
            refusal = "Already subscribed"
        if refusal is not None:
            return {"error": refusal, "success": False, "symbol": native} | common
        depth = {"depth": SHOWN} if asked.channel == "orderbooks" else {}
        result = {"channel": named(self.channels, asked.channel), "snapshot": True, "symbol": native} | depth
        return {"result": result, "success": True} | common

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        data = [
            {
                **{"symbol": market.native, "side": deal.side, "price": Fragment(market.price(deal.price))},
                **{"qty": Fragment(market.amount(deal.amount)), "ord_type": "market"},
                **{"trade_id": deal.number, "timestamp": self._iso},
            }
            for deal in deals
        ]
        return [{"channel": "trade", "type": "update", "data": data}]

    def _book(self, market: Market, kind: str, bids: Rows, asks: Rows) -> Message:
        best_bids, best_asks = market.best(10)
        digits = "".join(f"{price}{lots}" for price, lots in [*best_asks, *best_bids])
        sides = {
            name: [{"price": Fragment(price), "qty": Fragment(amount)} for price, amount in market.rows(rows)]
            for name, rows in (("bids", bids), ("asks", asks))
        }
        proof = {"checksum": crc32(digits.encode()), "timestamp": self._iso}
        return {"channel": "book", "type": kind, "data": [{"symbol": market.native} | sides | proof]}

    def snapshot(self, market: Market) -> Message | None:
        if ("orderbooks", market.native) in self.before:
            return None
        self.windows[market.native] = market.best(SHOWN)
        return self._book(market, "snapshot", *self.windows[market.native])

    def change(self, market: Market, move: Move) -> Message:
        before, after = self.windows[market.native], market.best(SHOWN)
        self.windows[market.native] = after
        return self._book(market, "update", *window_move(before, after))

    def ticker(self, market: Market) -> Message:
        prices = {"bid": market.best_bid, "ask": market.best_ask, "last": market.last_price}
        data: dict[str, Any] = {name: Fragment(market.price(price)) for name, price in prices.items()}
        data |= {"bid_qty": 1.5, "ask_qty": Fragment("0.0000001"), "volume": Fragment("163.28908096"), "change_pct": 0.24}
        return {"channel": "ticker", "type": "update", "data": [{"symbol": market.native, "timestamp": self._iso} | data]}

    def others(self) -> list[Message]:
        past = {"symbol": "BTC/USDT", "side": "buy", "price": 118832.9, "qty": 0.004, "trade_id": 3, "timestamp": self._iso}
        return [
            {"channel": "heartbeat"},
            self._status("online"),
            {"channel": "trade", "type": "snapshot", "data": [past]},
            {"channel": "ohlc", "type": "update", "data": [{"symbol": "BTC/USDT", "open": 1.0, "interval": 1}]},
            {"error": "Exceeded msg rate", "method": "subscribe", "success": False},
            {"Error": "Exceeded msg rate"},
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        rows = [
            [
                *(market.price(deal.price), market.amount(deal.amount), Fragment(f"{deal.micros / 1e6:.6f}")),
                *(deal.side[0], "m", "", deal.number),
            ]
            for deal in deals
        ]
        return {"error": [], "result": {"XBTUSDT": rows, "last": "0"}}

    def answers(self) -> dict[tuple[str, ...], Message]:
        trades = [["105433.60000", "0.00027625", Fragment("1762795433.9717445"), "b", "l", "", 10218208]]
        pair = {"altname": "XBTUSDT", "wsname": "XBT/USDT", "base": "XXBT", "quote": "USDT", "pair_decimals": 1}
        pair |= {"lot_decimals": 8, "ordermin": "0.00005", "tick_size": "0.1", "status": "online"}
        book = {"asks": [["105.1", "1.5", 1762795433]], "bids": [["105.0", "2", 1]]}
        return {
            ("trades", "XBTUSDT"): {"error": [], "result": {"XBTUSDT": trades, "last": "1762795616311265000"}},
            ("view", "XBTUSDT"): {"error": [], "result": {"XBTUSDT": book}},
            ("instruments",): {"error": [], "result": {"XBTUSDT": pair}},
        }

    def problems(self) -> list[Message]:
        return [{"error": ["EGeneral:Too many requests"]}, {"error": ["EQuery:Unknown asset pair"]}]
