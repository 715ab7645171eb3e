"""How Coinbase writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered
from tests.adapters.market import Deal, Market, Move, Rows

MAKERS = {"buy": "sell", "sell": "buy"}


class Coinbase(Registered):
    """Both feeds as if on one connection: trades as the Exchange feed writes them, without a number, and the rest as Advanced
    Trade does, which counts all its messages.
    """

    name = "coinbase"
    counts_trades = True
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"matches": "trades", "level2": "orderbooks", "ticker": "tickers"}
    requests = 0

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def opened(self) -> list[Message]:
        super().opened()
        self.number = 0
        return []

    def packed(self, message: Message) -> bytes:
        """Each message of Advanced Trade gets its number when it leaves."""
        if "channel" in message:
            message = {"channel": message["channel"], "timestamp": self._nanos, "sequence_num": self.number} | message
            self.number += 1
        return super().packed(message)

    @property
    def _iso(self) -> str:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @property
    def _nanos(self) -> str:
        """With up to nine digits, their trailing zeros trimmed."""
        whole, _, fraction = self._iso.rstrip("Z").partition(".")
        fraction = (fraction + self.random.choice(("", "125", "118"))).rstrip("0")
        return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"

    def read(self, frame: Any) -> Asked:
        if frame.get("channel") == "heartbeats" or frame.get("channels") == ["heartbeat"]:
            return Asked("other")
        self.requests += 1
        (name,) = frame["channels"] if "channels" in frame else [frame["channel"]]
        assert ("channels" in frame) == (name == "matches"), "each channel at its own feed"
        return Asked(frame["type"], self.channels[name], tuple(frame["product_ids"]), str(self.requests))

    def pong(self, asked: Asked) -> list[Message]:
        return [self._on("subscriptions", {"subscriptions": {"heartbeats": ["heartbeats"]}}), self._heartbeat()]

    def hear(self, frame: str | bytes) -> list[Message]:
        """The Exchange feed refuses a frame with an unknown product whole; Advanced Trade takes what it knows."""
        before = self.subscribed.copy()
        replies = super().hear(frame)
        if any(reply.get("type") == "error" for reply in replies):
            self.subscribed = before
        return replies

    def acks(self, asked: Asked) -> list[Message]:
        unknown = [native for native in asked.natives if native not in self.markets]
        if asked.channel == "trades" and unknown:
            reason = f"{unknown[0]} is not a valid product"
            return [{"type": "error", "message": "Failed to subscribe", "reason": reason}]
        self.subscribed |= {(asked.channel, native) for native in asked.natives if native not in unknown}
        old = [self._last_match(self.markets[native]) for native in asked.natives] if asked.channel == "trades" else []
        return [*old, self._set(asked.channel)]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._set(asked.channel)]

    def _set(self, channel: Channel) -> Message:
        """All that is subscribed on a feed."""
        names = {name: [native for each, native in self.subscribed if each == kind] for name, kind in self.channels.items()}
        if channel == "trades":
            matches = {"name": "matches", "product_ids": sorted(names["matches"]), "account_ids": None}
            return {"type": "subscriptions", "channels": [matches]}
        products = {name: sorted(natives) for name, natives in names.items() if natives and name != "matches"}
        return self._on("subscriptions", {"subscriptions": products})

    def _on(self, channel: str, event: Any) -> Message:
        return {"channel": channel, "events": [event]}

    def _heartbeat(self) -> Message:
        counted = {"current_time": "2026-08-09 21:05:48.854840045 +0000 UTC m=+41691.260485341", "heartbeat_counter": 41691}
        return self._on("heartbeats", counted)

    def _match(self, market: Market, deal: Deal, kind: str) -> Message:
        return {
            **{"type": kind, "trade_id": deal.number, "maker_order_id": "0f35", "taker_order_id": "252b"},
            **{"side": MAKERS[deal.side], "size": market.amount(deal.amount), "price": market.price(deal.price)},
            **{"product_id": market.native, "sequence": 12038915443 + deal.number, "time": self._iso},
        }

    def _last_match(self, market: Market) -> Message:
        """The trade before, sent with each subscription."""
        old = market.deals[max(market.deals)] if market.deals else Deal(500, market.last_price, 100, "buy")
        return self._match(market, old, "last_match")

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        return [self._match(market, deal, "match") for deal in deals]

    def _book(self, market: Market, kind: str, bids: Rows, asks: Rows) -> Message:
        updates = [
            {"side": side, "event_time": self._iso, "price_level": price, "new_quantity": amount}
            for side, rows in (("bid", bids), ("offer", asks))
            for price, amount in market.rows(rows)
        ]
        return self._on("l2_data", {"type": kind, "product_id": market.native, "updates": updates})

    def snapshot(self, market: Market) -> Message | None:
        return self._book(market, "snapshot", *market.best(1000))

    def change(self, market: Market, move: Move) -> Message:
        return self._book(market, "update", move.bids, move.asks)

    def ticker(self, market: Market) -> Message:
        prices = {"price": market.last_price, "best_bid": market.best_bid, "best_ask": market.best_ask}
        ticker = {"type": "ticker", "product_id": market.native, "volume_24_h": "2867.54", "low_24_h": "64675.22"}
        ticker |= {name: market.price(price) for name, price in prices.items()}
        ticker |= {"best_bid_quantity": "0.20371215", "best_ask_quantity": "0.24290402"}
        return self._on("ticker", {"type": "update", "tickers": [ticker]})

    def others(self) -> list[Message]:
        candle = {"start": "1775521800", "high": "68950", "low": "68850", "product_id": "BTC-USDT"}
        old = {"trade_id": "400", "product_id": "BTC-USDT", "price": "1", "size": "2", "side": "BUY", "time": self._iso}
        order = {"price": "31572.35", "order_id": "5816ff12", "type": "open", "side": "sell", "product_id": "BTC-USDT"}
        return [
            self._heartbeat(),
            self._on("candles", {"type": "update", "candles": [candle]}),
            self._on("market_trades", {"type": "snapshot", "trades": [old]}),
            {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": "BTC-USDT", "time": self._iso},
            {"type": "error", "message": "slow consumer"},
            order,
        ]

    def past(self, market: Market, deals: list[Deal]) -> Message:
        return [self._match(market, deal, "match") for deal in reversed(deals)]

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"trade_id": 995098663, "price": "68923.67", "size": "0.00064", "side": "sell", "time": self._iso}
        last = trade | {"trade_id": "995098663", "product_id": "BTC-USDT", "side": "SELL", "bid": "", "ask": ""}
        book = {"bids": [["0.1135", "35", 1]], "asks": [["0.1137", "10113.4", 4]], "sequence": 406959136, "time": self._iso}
        rows = {"bids": [{"price": "68923.66", "size": "0.17"}], "asks": [{"price": "68923.67", "size": "0.16"}]}
        market = {"product_id": "BTC-USDT", "base_currency_id": "BTC", "quote_currency_id": "USDT", "product_type": "SPOT"}
        market |= {"status": "online", "price_increment": "0.01", "base_increment": "0.00000001", "alias": ""}
        return {
            ("trades", "BTC-USDT"): [trade],
            ("market_trades", "BTC-USDT"): {"trades": [last], "best_bid": "68923.66"},
            ("view", "BTC-USDT"): book,
            ("pricebook", "BTC-USDT"): {"pricebook": {"product_id": "BTC-USDT", "time": self._iso} | rows},
            ("instruments",): {"products": [market | {"trading_disabled": False, "is_disabled": False}], "num_products": 1},
        }

    def problems(self) -> list[Message]:
        return [
            {"message": "NotFound"},
            {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]},
            {"error": "unknown", "code": 13, "message": "product is not known"},
        ]
