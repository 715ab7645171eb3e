"""MEXC spot v3: public REST, /api/v3, weighed per address and call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simulator.instruments import Instrument, rescaled, shortest, signed
from simulator.limits import FixedWindow
from simulator.market import Market, Trade
from simulator.mexc_feeds import native
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

MINUTES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "4h": 240, "1d": 1440}
CLOSED_TO_API = ("LEO", "QNT")
"""Markets that are live, though nobody may trade there by API (section 2)."""
REFUSED_BEFORE_BAN = 10  # calls made into a 429 before it becomes a 418


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[tuple[str, str], FixedWindow] = {}
        self._refused: dict[str, int] = {}
        self._routes: dict[str, tuple[int, Callable[[Call], object]]] = {
            "ping": (1, lambda _call: {}),
            "time": (1, lambda _call: {"serverTime": self._now()}),
            "exchangeInfo": (10, self._exchange_info),
            "defaultSymbols": (1, self._default_symbols),
            "depth": (1, self._depth),
            "trades": (5, self._trades),
            "aggTrades": (1, self._aggregate_trades),
            "klines": (1, self._klines),
            "ticker/24hr": (1, lambda call: self._each(call, self._day)),
            "ticker/bookTicker": (1, lambda call: self._each(call, _best)),
            "ticker/price": (1, lambda call: self._each(call, _price)),
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Weigh the call, then answer it. A 429 that is ignored becomes a 418."""
        path = call.path.removeprefix("/api/v3/")
        route = self._routes.get(path)
        if route is None or call.method != "GET":
            return Answer.json({"code": 404, "msg": "Not Found"}, 404)
        weight, handler = route
        facts = self.exchange.facts
        window = self._windows.setdefault((call.address, path), FixedWindow(facts.rest, facts.rest_window))
        if not window.take(now, weight):
            self.exchange.limited["rest"] += 1
            self._refused[call.address] = self._refused.get(call.address, 0) + 1
            status = 418 if self._refused[call.address] > REFUSED_BEFORE_BAN else 429
            wait = {"Retry-After": str(1 + int(window.resets_in(now)))}
            return Answer.json({"code": status, "msg": "Too Many Requests"}, status, wait)
        self._refused.pop(call.address, None)
        try:
            return Answer.json(handler(call))
        except RefusalError as error:
            return Answer.json({"code": error.code, "msg": error.text}, 400)

    def _now(self) -> int:
        return self.exchange.clock.stamp() // 1000

    def _exchange_info(self, call: Call) -> object:
        rows = [_symbol(instrument) for instrument in self.exchange.instruments.values()]
        return {"timezone": "CST", "serverTime": self._now(), "rateLimits": [], "exchangeFilters": [], "symbols": rows}

    def _default_symbols(self, call: Call) -> object:
        rows = [native(i) for i in self.exchange.instruments.values() if not i.state and i.base not in CLOSED_TO_API]
        return {"code": 0, "data": rows, "msg": None}

    def _depth(self, call: Call) -> object:
        market = self._market(call)
        limit = _integer(call, "limit", 100, 5000)
        sequence, book = self.exchange.snapshot(market)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        bids, asks = (
            [[price(ticks), amount(lots)] for ticks, lots in book.top(side, limit)] for side in (book.bids, book.asks)
        )
        return {"lastUpdateId": sequence, "bids": bids, "asks": asks, "timestamp": self._now()}

    def _trades(self, call: Call) -> object:
        """Newest first, and without ids."""
        market = self._market(call)
        return [_trade(market.instrument, trade) for trade in reversed(market.recent(_integer(call, "limit", 500, 1000)))]

    def _aggregate_trades(self, call: Call) -> object:
        """The newest of a span of time, whose two ends are given together or not at all; ids are null."""
        market = self._market(call)
        if ("startTime" in call.query) != ("endTime" in call.query):
            raise RefusalError("startTime and endTime must be sent together", 700004)
        begin, end = _integer(call, "startTime", 0), _integer(call, "endTime", 1 << 62)
        trades = [trade for trade in market.trades if begin <= trade.time // 1000 <= end]
        chosen = trades[-_integer(call, "limit", 500, 1000) :]
        return [_aggregate(market.instrument, trade) for trade in reversed(chosen)]

    def _klines(self, call: Call) -> object:
        """[open time, open, high, low, close, volume, close time, turnover]."""
        market = self._market(call)
        minutes = MINUTES.get(call.query.get("interval", ""))
        if minutes is None:
            raise RefusalError("Invalid interval.", -1121)
        price, amount, decimals = market.instrument.price_text, market.instrument.amount_text, _decimals(market.instrument)
        begin, end = _integer(call, "startTime", 0), _integer(call, "endTime", 1 << 62)
        candles = [c for c in market.candles(minutes, self.exchange.clock.stamp()) if begin <= c.start // 1000 <= end]
        return [
            [c.start // 1000, *(price(ticks) for ticks in (c.open, c.high, c.low, c.close)), amount(c.volume),
             c.start // 1000 + minutes * 60_000, shortest(c.turnover, decimals)]
            for c in candles[-_integer(call, "limit", 500, 1000) :]
        ]  # fmt: skip

    def _each(self, call: Call, row: Callable[[Market], dict[str, object]]) -> object:
        """One row for the symbol that is asked for; without one, a row for every market that is alive."""
        if "symbol" in call.query:
            market = self._market(call)
            return {"symbol": native(market.instrument)} | row(market)
        return [{"symbol": native(market.instrument)} | row(market) for market in self.exchange.markets.values()]

    def _day(self, market: Market) -> dict[str, object]:
        day, price, now = market.day, market.instrument.price_text, self._now()
        return {
            "priceChange": signed(price, day.close - day.open),
            "priceChangePercent": f"{(day.close - day.open) / day.open:.4f}",
            "prevClosePrice": price(day.open),
            "lastPrice": price(day.close),
            **_best(market),
            "openPrice": price(day.open),
            "highPrice": price(day.high),
            "lowPrice": price(day.low),
            "volume": market.instrument.amount_text(day.volume),
            "quoteVolume": shortest(day.turnover, _decimals(market.instrument)),
            "openTime": now - 86_400_000,
            "closeTime": now,
            "count": None,
        }

    def _market(self, call: Call) -> Market:
        name = call.query.get("symbol", "")
        if not name:
            raise RefusalError("Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.", 700004)
        market = self.exchange.market(self.symbols.get(name, ""), asked=True)
        if market is None:
            raise RefusalError("Invalid symbol.", -1121)
        return market


def _decimals(instrument: Instrument) -> int:
    return instrument.price_decimals + instrument.amount_decimals


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise RefusalError(f"Illegal characters found in parameter '{name}'.", 700004)
    return min(int(text), most)


def _best(market: Market) -> dict[str, object]:
    book, price, amount = market.book, market.instrument.price_text, market.instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    prices = {"bidPrice": price(bid), "bidQty": amount(book.levels[bid])}
    return {**prices, "askPrice": price(-ask), "askQty": amount(book.levels[ask])}


def _price(market: Market) -> dict[str, object]:
    return {"price": market.instrument.price_text(market.day.close)}


def _trade(instrument: Instrument, trade: Trade) -> dict[str, object]:
    return {
        "id": None,
        "price": instrument.price_text(trade.ticks),
        "qty": instrument.amount_text(trade.lots),
        "quoteQty": shortest(trade.ticks * trade.lots, _decimals(instrument)),
        "time": trade.time // 1000,
        "isBuyerMaker": not trade.buyer,
        "isBestMatch": True,
        "tradeType": "BID" if trade.buyer else "ASK",
    }


def _aggregate(instrument: Instrument, trade: Trade) -> dict[str, object]:
    price, amount = instrument.price_text(trade.ticks), instrument.amount_text(trade.lots)
    ids = {"a": None, "f": None, "l": None}
    return {**ids, "p": price, "q": amount, "T": trade.time // 1000, "m": not trade.buyer, "M": True}


def _symbol(instrument: Instrument) -> dict[str, object]:
    """One entry of exchangeInfo. Where the lot is a whole one, `baseSizePrecision` is 0 and the precision counts."""
    return {
        "symbol": native(instrument),
        "status": instrument.state or "1",
        "baseAsset": instrument.base,
        "baseAssetPrecision": instrument.amount_decimals,
        "quoteAsset": instrument.quote,
        "quotePrecision": instrument.price_decimals,
        "quoteAssetPrecision": instrument.price_decimals,
        "baseCommissionPrecision": instrument.amount_decimals,
        "quoteCommissionPrecision": instrument.price_decimals,
        "orderTypes": ["LIMIT", "MARKET", "LIMIT_MAKER"],
        "isSpotTradingAllowed": not instrument.state and instrument.base not in CLOSED_TO_API,
        "isMarginTradingAllowed": False,
        "quoteAmountPrecision": "1",
        "baseSizePrecision": instrument.lot if instrument.amount_decimals else "0",
        "permissions": ["SPOT"],
        "filters": [],
        "maxQuoteAmount": rescaled(2_000_000, 0, 8),
        "makerCommission": "0",
        "takerCommission": "0.0005",
        "quoteAmountPrecisionMarket": "1",
        "maxQuoteAmountMarket": "100000",
        "fullName": instrument.base,
        "tradeSideType": 1,
        "st": False,
    }
