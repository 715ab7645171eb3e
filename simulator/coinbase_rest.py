"""Coinbase: public REST of Exchange and of Advanced Trade, each with its own allowance per address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from simulator.coinbase_feeds import maker, native, percent, short, stamp
from simulator.instruments import Instrument, Text, rescaled, shortest, trimmed
from simulator.limits import Bucket
from simulator.market import Candle, Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

EXCHANGE_API, ADVANCED_API = "api.exchange.coinbase.com", "api.coinbase.com"
BROKERAGE = "/api/v3/brokerage"
CACHED = 1.0  # seconds a public answer of Advanced Trade is shown again (section 8)
SECONDS = {60: 1, 300: 5, 900: 15, 3600: 60, 21_600: 360, 86_400: 1440}
GRANULARITIES = {
    "ONE_MINUTE": 1, "FIVE_MINUTE": 5, "FIFTEEN_MINUTE": 15, "THIRTY_MINUTE": 30, "ONE_HOUR": 60, "TWO_HOUR": 120,
    "FOUR_HOUR": 240, "SIX_HOUR": 360, "ONE_DAY": 1440,
}  # fmt: skip

ADVANCED_PRODUCT: Mapping[str, object] = MappingProxyType(
    {
        "product_id": "", "price": "", "price_percentage_change_24h": "", "volume_24h": "",
        "volume_percentage_change_24h": "0", "base_increment": "", "quote_increment": "", "quote_min_size": "1",
        "quote_max_size": "150000000", "base_min_size": "", "base_max_size": "3400", "base_name": "", "quote_name": "",
        "watched": False, "is_disabled": False, "new": False, "status": "", "cancel_only": False, "limit_only": False,
        "post_only": False, "trading_disabled": False, "auction_mode": False, "product_type": "SPOT",
        "quote_currency_id": "", "base_currency_id": "", "fcm_trading_session_details": None, "mid_market_price": "",
        "alias": "", "alias_to": [], "base_display_symbol": "", "quote_display_symbol": "", "view_only": False,
        "price_increment": "", "display_name": "", "product_venue": "CBE", "approximate_quote_24h_volume": "",
        "new_at": "2023-01-01T00:00:00Z", "market_cap": "", "base_cbrn": "", "quote_cbrn": "", "product_cbrn": "",
        "icon_color": "", "icon_url": "", "display_name_overwrite": "", "is_alpha_testing": False, "about_description": "",
        "best_bid_price": "", "best_ask_price": "", "high_24h": "", "low_24h": "",
    }
)  # fmt: skip
"""The keys of an Advanced Trade product in their order; what differs is laid over them."""


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self.names = {**symbols, **aliases}  # of Advanced Trade
        self._buckets: dict[tuple[bool, str], Bucket] = {}
        self._cache: dict[tuple[str, str], tuple[float, Answer]] = {}
        self._products: dict[str, Callable[[Market, Call], Answer]] = {
            "book": self._book,
            "trades": self._trades,
            "candles": self._candles,
            "ticker": self._ticker,
            "stats": self._stats,
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Ten calls a second and fifteen at once, for each of the two."""
        facts, advanced = self.exchange.facts, call.host == ADVANCED_API
        full = Bucket(facts.rest, facts.rest / facts.rest_window)
        if not self._buckets.setdefault((advanced, call.address), full).take(now):
            self.exchange.limited["rest"] += 1
            if advanced:
                return Answer.json({"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, 429)
            return Answer.json({"message": "Public rate limit exceeded"}, 429)
        try:
            return self._cached(call, now) if advanced else self._exchange(call)
        except RefusalError as error:
            if advanced:
                return Answer.json({"error": error.text, "code": error.code, "message": error.text}, error.code)
            return Answer.json({"message": error.text}, error.code)

    # --------------------------------------------------------------- Exchange

    def _exchange(self, call: Call) -> Answer:
        time = self.exchange.clock.stamp()
        match call.path.strip("/").split("/"):
            case ["time"]:
                return Answer.json({"iso": stamp(time)[:-4] + "Z", "epoch": time // 1000 / 1000})
            case ["products"]:
                return Answer.json([_product(instrument) for instrument in self.exchange.instruments.values()])
            case ["products", name]:
                return Answer.json(_product(self._market(name, self.symbols).instrument))
            case ["products", name, what] if what in self._products:
                return self._products[what](self._market(name, self.symbols), call)
        raise RefusalError("NotFound", 404)

    def _book(self, market: Market, call: Call) -> Answer:
        """Level 2 counts the orders of a price, level 3 names them."""
        level = call.query.get("level", "1")
        if level not in {"1", "2", "3"}:
            raise RefusalError("Invalid level", 400)
        sequence, book = self.exchange.snapshot(market)
        price, amount = _texts(market.instrument)

        def rows(side: list[int]) -> list[list[object]]:
            levels = book.top(side, 1 if level == "1" else len(side))
            return [[price(t), amount(lots), str(UUID(int=t)) if level == "3" else 1 + lots % 3] for t, lots in levels]

        more = {"sequence": sequence, "auction_mode": False, "auction": None, "time": stamp(self.exchange.clock.stamp())}
        return Answer.json({"bids": rows(book.bids), "asks": rows(book.asks), **more})

    def _trades(self, market: Market, call: Call) -> Answer:
        """Newest first. `after` asks for older, `before` for newer ids, both without the one that is named."""
        older, newer = _integer(call, "after", 1 << 62), _integer(call, "before", -1)
        limit = min(_integer(call, "limit", 1000), 1000)
        trades = [trade for trade in market.trades if newer < trade.id < older][-limit:]
        rows = [_trade(market.instrument, trade) for trade in reversed(trades)]
        ends = {"CB-BEFORE": str(trades[-1].id), "CB-AFTER": str(trades[0].id)} if trades else {}
        return Answer.json(rows, headers=ends)

    def _candles(self, market: Market, call: Call) -> Answer:
        """[time, low, high, open, close, volume] as numbers, newest first; minutes without trades are absent."""
        seconds = _integer(call, "granularity", 60)
        if seconds not in SECONDS:
            raise RefusalError("Unsupported granularity", 400)
        price, amount = _texts(market.instrument)
        rows = [
            f"[{c.start // 1_000_000},{price(c.low)},{price(c.high)},{price(c.open)},{price(c.close)},{amount(c.volume)}]"
            for c in self._traded(market, SECONDS[seconds], call)[:300]
        ]
        return Answer(f"[{','.join(rows)}]")

    def _ticker(self, market: Market, call: Call) -> Answer:
        instrument, book = market.instrument, market.book
        last = [_trade(instrument, trade) for trade in market.recent(1)]
        more = {"bid": instrument.price_text(book.bids[-1]), "ask": instrument.price_text(-book.asks[-1])}
        row = {key: value for row in last for key, value in row.items() if key != "side"}
        return Answer.json(row | more | {"volume": rescaled(market.day.volume, instrument.amount_decimals, 8)})

    def _stats(self, market: Market, call: Call) -> Answer:
        day, (price, amount) = market.day, _texts(market.instrument)
        prices = {"open": day.open, "high": day.high, "low": day.low, "last": day.close}
        volume = amount(day.volume)
        return Answer.json({name: price(t) for name, t in prices.items()} | {"volume": volume, "volume_30day": volume})

    # --------------------------------------------------------- Advanced Trade

    def _cached(self, call: Call, now: float) -> Answer:
        """An answer is up to a second old, unless `cache-control: no-cache` asks for a new one."""
        key = (call.path, "&".join(f"{name}={value}" for name, value in sorted(call.query.items())))
        until, answer = self._cache.get(key, (0.0, None))
        if answer is None or now >= until or "no-cache" in call.headers.get("Cache-Control", ""):
            answer = self._advanced(call)
            self._cache = {key: entry for key, entry in self._cache.items() if now < entry[0]}
            self._cache[key] = (now + CACHED / self.exchange.pace, answer)
        return answer

    def _advanced(self, call: Call) -> Answer:
        time = self.exchange.clock.stamp()
        path = call.path.removeprefix(BROKERAGE).strip("/").split("/") if call.path.startswith(BROKERAGE) else []
        match path:
            case ["time"]:
                seconds = {"epochSeconds": str(time // 1_000_000), "epochMillis": str(time // 1000)}
                return Answer.json({"iso": short(time // 1_000_000 * 1_000_000), **seconds})
            case ["market", "products"]:
                return self._advanced_products(call)
            case ["market", "products", name]:
                return Answer.json(self._advanced_product(name, self._market(name, self.names).instrument))
            case ["market", "product_book"]:
                return self._advanced_book(self._market(call.query.get("product_id", ""), self.names), call)
            case ["market", "products", name, "ticker"]:
                return self._advanced_ticker(self._market(name, self.names), call)
            case ["market", "products", name, "candles"]:
                return self._advanced_candles(self._market(name, self.names), call)
        raise RefusalError("NOT_FOUND", 404)

    def _advanced_products(self, call: Call) -> Answer:
        """A book that is sold under two names is listed twice."""
        spot = call.query.get("product_type", "SPOT") == "SPOT"
        rows = [self._advanced_product(name, self.exchange.instruments[symbol]) for name, symbol in self.names.items() if spot]
        pages = {"prev_cursor": "", "next_cursor": "", "has_next": False, "has_prev": False}
        return Answer.json({"products": rows, "num_products": len(rows), "pagination": pages})

    def _advanced_product(self, name: str, instrument: Instrument) -> dict[str, object]:
        """Prices of the day where the market is alive, else none."""
        market = self.exchange.markets.get(instrument.symbol)
        day = market.day if market else None
        price, amount = _texts(instrument)
        alias = native(instrument) if name != native(instrument) else ""
        dollars = f"{native(instrument)}C" if not alias and f"{native(instrument)}C" in self.names else ""
        changes: dict[str, object] = {
            "product_id": name,
            "price": price(day.close if day else instrument.price),
            "price_percentage_change_24h": percent(day) if day else "0",
            "volume_24h": amount(day.volume) if day else "0",
            "base_increment": instrument.lot,
            "quote_increment": instrument.tick,
            "base_min_size": instrument.lot,
            "base_name": instrument.base,
            "quote_name": name.rpartition("-")[2],
            "status": "delisted" if instrument.state == "delisted" else "online",
            "trading_disabled": bool(instrument.state),
            "quote_currency_id": name.rpartition("-")[2],
            "base_currency_id": instrument.base,
            "alias": alias,
            "alias_to": [dollars] if dollars else [],
            "base_display_symbol": instrument.base,
            "quote_display_symbol": instrument.quote,
            "price_increment": instrument.tick,
            "display_name": name,
            "high_24h": price(day.high) if day else "",
            "low_24h": price(day.low) if day else "",
        }
        return {**ADVANCED_PRODUCT, **changes}

    def _advanced_book(self, market: Market, call: Call) -> Answer:
        instrument, limit = market.instrument, _integer(call, "limit", 1 << 30)
        _, book = self.exchange.snapshot(market)
        price, amount = _texts(instrument)
        bids, asks = (
            [{"price": price(ticks), "size": amount(lots)} for ticks, lots in book.top(side, limit)]
            for side in (book.bids, book.asks)
        )
        sides = {"product_id": native(instrument), "bids": bids, "asks": asks, "time": short(self.exchange.clock.stamp())}
        bid, ask = book.bids[-1], -book.asks[-1]
        middle = shortest((bid + ask) * 5, instrument.price_decimals + 1, 16)
        spread = shortest((ask - bid) * 2 * 10**16 // (bid + ask), 12, 12)
        return Answer.json(
            {"pricebook": sides, "last": price(market.day.close), "mid_market": middle, "spread_bps": spread,
             "spread_absolute": price(ask - bid)}
        )  # fmt: skip

    def _advanced_ticker(self, market: Market, call: Call) -> Answer:
        """The last trades, newest first, within `start` and `end` (seconds). There is no cursor."""
        begin, end = _integer(call, "start", 0), _integer(call, "end", 1 << 62)
        limit = min(_integer(call, "limit", 100), 1000)
        price, amount = _texts(market.instrument)
        trades = [trade for trade in market.trades if begin <= trade.time // 1_000_000 <= end][-limit:]
        rows = [
            {"trade_id": str(t.id), "product_id": native(market.instrument), "price": price(t.ticks), "size": amount(t.lots),
             "time": short(t.time), "side": maker(t).upper(), "bid": "", "ask": "", "exchange": "coinbase"}
            for t in reversed(trades)
        ]  # fmt: skip
        book = market.book
        return Answer.json({"trades": rows, "best_bid": price(book.bids[-1]), "best_ask": price(-book.asks[-1])})

    def _advanced_candles(self, market: Market, call: Call) -> Answer:
        minutes = GRANULARITIES.get(call.query.get("granularity", ""))
        if minutes is None:
            raise RefusalError("INVALID_ARGUMENT", 400)
        price, amount = _texts(market.instrument)
        rows = [
            {"start": str(c.start // 1_000_000), "low": price(c.low), "high": price(c.high), "open": price(c.open),
             "close": price(c.close), "volume": amount(c.volume)}
            for c in self._traded(market, minutes, call)[:350]
        ]  # fmt: skip
        return Answer.json({"candles": rows})

    # ------------------------------------------------------------------- both

    def _traded(self, market: Market, minutes: int, call: Call) -> list[Candle]:
        """Candles that have trades between `start` and `end` (seconds), newest first."""
        begin, end = _integer(call, "start", 0), _integer(call, "end", 1 << 62)
        candles = market.candles(minutes, self.exchange.clock.stamp())
        return [c for c in reversed(candles) if c.trades and begin <= c.start // 1_000_000 <= end]

    def _market(self, name: str, names: Mapping[str, str]) -> Market:
        market = self.exchange.market(names.get(name, ""), asked=True)
        if market is None:
            raise RefusalError("NotFound" if names is self.symbols else "NOT_FOUND", 404)
        return market


def _texts(instrument: Instrument) -> tuple[Text, Text]:
    """Price and amount in their shortest form."""
    return trimmed(instrument.price_decimals), trimmed(instrument.amount_decimals)


def _integer(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() and text != str(default):
        raise RefusalError(f"Invalid {name}", 400)
    return int(text)


def _trade(instrument: Instrument, t: Trade) -> dict[str, object]:
    price = rescaled(t.ticks, instrument.price_decimals, 8)
    amount = rescaled(t.lots, instrument.amount_decimals, 8)
    return {"trade_id": t.id, "side": maker(t), "size": amount, "price": price, "time": stamp(t.time)}


def _product(instrument: Instrument) -> dict[str, object]:
    """One row of the Exchange's products."""
    return {
        "id": native(instrument),
        "base_currency": instrument.base,
        "quote_currency": instrument.quote,
        "base_min_size": instrument.lot,
        "base_max_size": "1000000",
        "quote_increment": instrument.tick,
        "base_increment": instrument.lot,
        "display_name": instrument.symbol,
        "min_market_funds": "1",
        "max_market_funds": "100000",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "trading_disabled": bool(instrument.state),
        "status": "delisted" if instrument.state == "delisted" else "online",
        "status_message": "",
        "auction_mode": False,
    }
