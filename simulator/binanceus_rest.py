"""Binance.US: the calls of /api/v3 that differ from Binance's, and their older weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator import binance_rest
from simulator.binance_feeds import native
from simulator.instruments import Instrument, rescaled
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

HOUR = 3_600_000
WEIGHTS = {  # sections 2 and 8
    "ping": 1,
    "time": 1,
    "exchangeInfo": 10,
    "trades": 1,
    "historicalTrades": 5,
    "aggTrades": 1,
    "klines": 1,
    "ticker/24hr": 1,
    "ticker/bookTicker": 1,
    "ticker/price": 1,
}


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self._calls = calls = binance_rest.Rest(exchange, symbols)
        calls.routes["/api/v3/exchangeInfo"] = (10, self._exchange_info)
        for path, weight in WEIGHTS.items():
            calls.routes[f"/api/v3/{path}"] = (weight, calls.routes[f"/api/v3/{path}"][1])
        calls.depth_weights = ((100, 1), (500, 5), (1000, 10), (5000, 50))
        calls.all_weights = {"/api/v3/ticker/24hr": 40, "/api/v3/ticker/bookTicker": 2, "/api/v3/ticker/price": 2}

    def answer(self, call: Call, now: float) -> Answer:
        """Trades by id need a key, and trades by time lie within an hour. Times are always in milliseconds."""
        if call.path == "/api/v3/historicalTrades" and "X-MBX-APIKEY" not in call.headers:
            return Answer.json({"code": -2014, "msg": "API-key format invalid."}, 401)
        if call.path == "/api/v3/aggTrades" and _too_long(call):
            return Answer.json({"code": -1127, "msg": "More than 1 hours between startTime and endTime."}, 400)
        return self._calls.answer(replace(call, headers={}), now)

    def _exchange_info(self, call: Call, unit: int) -> Answer:
        """No filter by status, no permission sets; one symbol where it is asked for."""
        wanted = call.query.get("symbol")
        rows = [
            _symbol(instrument) for instrument in self.exchange.instruments.values() if wanted in {None, native(instrument)}
        ]
        if not rows:
            raise RefusalError("Invalid symbol.", -1121)
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.exchange.facts.rest},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
            {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 6100},
        ]
        time = self.exchange.clock.stamp() // unit
        return Answer.json(
            {"timezone": "UTC", "serverTime": time, "rateLimits": limits, "exchangeFilters": [], "symbols": rows}
        )


def _too_long(call: Call) -> bool:
    begin, end = call.query.get("startTime", ""), call.query.get("endTime", "")
    return begin.isdecimal() and end.isdecimal() and int(end) - int(begin) >= HOUR


def _symbol(instrument: Instrument) -> dict[str, Any]:
    """One entry of exchangeInfo, as recorded."""
    zero, most = rescaled(0, 0, 8), rescaled(9000, 0, 8)
    return {
        "symbol": native(instrument),
        "status": instrument.state or "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": instrument.tick,
                "maxPrice": rescaled(100_000, 0, 8),
                "tickSize": instrument.tick,
            },
            {"filterType": "PERCENT_PRICE", "multiplierUp": "5", "multiplierDown": "0.2", "avgPriceMins": 5},
            {"filterType": "LOT_SIZE", "minQty": instrument.lot, "maxQty": most, "stepSize": instrument.lot},
            {"filterType": "MIN_NOTIONAL", "minNotional": "10.0000", "applyToMarket": True, "avgPriceMins": 5},
            {"filterType": "ICEBERG_PARTS", "limit": 10},
            {"filterType": "MARKET_LOT_SIZE", "minQty": zero, "maxQty": most, "stepSize": zero},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        ],
        "permissions": ["SPOT"],
    }
