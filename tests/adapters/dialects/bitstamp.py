"""How Bitstamp writes, for the conformance suite: from its fact sheet and captures, not from its adapter."""

from typing import Any, ClassVar

from orjson import Fragment

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move


class Bitstamp(Registered):
    """Nothing but times orders the changes of a book, so that a lost one shows only when the book is fetched again."""

    name = "bitstamp"
    proves_books = False
    channels: ClassVar[dict[str, Channel]] = {
        "live_trades": "trades",
        "diff_order_book": "orderbooks",
        "order_book": "tickers",
    }
    requests = 0
    latest = 0

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "").lower()

    def read(self, frame: Any) -> Asked:
        event = frame["event"].removeprefix("bts:")
        if event == "heartbeat":
            return Asked("other")
        self.requests += 1
        name = next(name for name in self.channels if frame["data"]["channel"].startswith(f"{name}_"))
        native = frame["data"]["channel"].removeprefix(f"{name}_")
        return Asked(event, self.channels[name], (native,), str(self.requests))

    def pong(self, asked: Asked) -> list[Message]:
        return [{"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}]

    def _answer(self, event: str, asked: Asked) -> list[Message]:
        return [{"event": event, "channel": f"{named(self.channels, asked.channel)}_{asked.natives[0]}", "data": {}}]

    def acks(self, asked: Asked) -> list[Message]:
        return self._answer("bts:subscription_succeeded", asked)

    def ended(self, asked: Asked) -> list[Message]:
        return self._answer("bts:unsubscription_succeeded", asked)

    def _times(self) -> dict[str, str]:
        """No two messages have the same."""
        self.latest = max(self.latest + 1, self.micros)
        return {"timestamp": str(self.latest // 1_000_000), "microtimestamp": str(self.latest)}

    def _on(self, name: str, market: Market, event: str, data: dict[str, Any]) -> Message:
        return {"data": self._times() | data, "channel": f"{name}_{market.native}", "event": event}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        return [
            self._on(
                "live_trades",
                market,
                "trade",
                {
                    **{"id": deal.number, "type": int(deal.side == "sell"), "price_str": market.price(deal.price)},
                    **{"price": Fragment(market.price(deal.price)), "amount_str": self._exponent(market.amount(deal.amount))},
                    **{"amount": 0.014140160000000001, "buy_order_id": 1443875737346049, "sell_order_id": 1443875731320832},
                },
            )
            for deal in deals
        ]

    def _exponent(self, number: str) -> str:
        """As an amount now and then is written: 1E-8."""
        if self.random.random() < 0.7:
            return number
        digits, places = number.replace(".", "").lstrip("0"), len(number.partition(".")[2])
        return f"{digits}E-{places}"

    def change(self, market: Market, move: Move) -> Message:
        sides = {"bids": market.rows(move.bids), "asks": market.rows(move.asks)}
        present = {name: rows for name, rows in sides.items() if rows or self.random.random() < 0.5}
        return self._on("diff_order_book", market, "data", present)

    def ticker(self, market: Market) -> Message:
        bids, asks = market.best(100)
        return self._on("order_book", market, "data", {"bids": market.rows(bids), "asks": market.rows(asks)})

    def others(self) -> list[Message]:
        market = next(iter(self.markets.values()))
        order = {"id": 1496011283275781, "id_str": "1496011283275781", "order_type": 0, "amount": 7.9201, "price": 31483.1}
        detail = {"bids": [["31524.50", "0.364", "1443875737346049"]], "asks": []}
        return [
            {"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}},
            {"event": "bts:connection_established"},
            {"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad subscription string."}},
            self._on("live_orders", market, "order_created", order),
            self._on("detail_order_book", market, "data", detail),
        ]

    def answer(self, path: str, native: str) -> Message:
        market = self.markets[native]
        bids, asks = market.best(1000)
        return self._times() | {"bids": market.rows(bids), "asks": market.rows(asks)}

    def past(self, market: Market, deals: list[Deal]) -> Message:
        return [
            {
                **{"date": str(deal.micros // 1_000_000), "tid": str(deal.number), "price": market.price(deal.price)},
                **{"type": str(int(deal.side == "sell")), "amount": market.amount(deal.amount)},
            }
            for deal in reversed(deals)
        ]

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"date": "1560481868", "tid": "90574283", "price": "8194.79", "type": "1", "amount": "0.00288599"}
        day = {"ask": "2211.00", "bid": "2188.97", "last": "2211.00", "volume": "213.268", "vwap": "2189.80"}
        market = {"name": "BTC/USDT", "market_symbol": "btcusdt", "base_currency": "BTC", "base_decimals": 8}
        market |= {"counter_currency": "USDT", "counter_decimals": 2, "trading": "Enabled", "market_type": "SPOT"}
        return {
            ("book", "btcusdt"): self.answer("/api/v2/order_book/btcusdt/", "btcusdt"),
            ("trades", "btcusdt"): [trade],
            ("ticker", "btcusdt"): day | {"timestamp": "1643640186"},
            ("instruments",): [market],
        }

    def problems(self) -> list[Message]:
        return [
            {"error": "Not found."},
            {"status": "error", "reason": {"__all__": ["Invalid market"]}, "code": "API0005"},
            {"code": "400.002", "reason": "Request rate limit exceeded."},
        ]
